"""Inference: prompts in, answers out, in the same order.

In: prompts as text, made by a template.  Out: what the model wrote after each, as text.
Knows nothing of right answers. Decoding is greedy: the same prompts give the same
answers. `generate` asks a model in memory, `Endpoint` one on a chat server.

    python -m helpers.inference --model FOLDER --data FILE --output ANSWERS

answers every row of a JSONL file with a tuned model, in the template it was tuned with.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
import warnings

import httpx2
import torch
from huggingface_hub import InferenceClient
from tqdm import tqdm
from transformers import DynamicCache

from helpers import models, records, templates

BATCH_TOKENS = 8192  # of prompts and answers in one batch: bounds the memory
SHARED_PREFIX = 16  # tokens that all prompts begin with, from which a cache pays
BATCH_ROWS = 128  # at most in one batch
RETRIES = 3  # of a request that a busy server turned away
LONGEST_WAIT = 60  # seconds before a retry; a server that wants longer is left alone


def generate(
    prompts: str | list[str], model, tokenizer, max_new_tokens: int = 64
) -> str | list[str]:
    """Continue each prompt until end-of-text or max_new_tokens, prompt not included.

    prompts: n texts, or a single one. Those of like length run together, padded at the
    left; a long beginning that all share (a document before many questions) is computed
    once.
    max_new_tokens: length limit of each answer, the prompt not counted.
    Returns n answers in the order of the prompts; for a single text, a single answer.
    Raises ValueError for an empty prompt and for one that leaves the answer no room.
    Warns when the model was tuned with another template than the one the prompts show.
    """
    single = isinstance(prompts, str)
    prompts = [prompts] if single else list(prompts)
    if not prompts:
        return []
    _check_template(prompts, model)
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in prompts]
    context = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    for number, row in enumerate(ids, 1):
        if not row:
            raise ValueError(
                f"prompt {number} is empty: give the model something to read"
            )
        if len(row) + max_new_tokens > context:
            raise ValueError(
                f"prompt {number} has {len(row)} tokens, which with max_new_tokens="
                f"{max_new_tokens} is over the model's context of {context}: shorten "
                "the prompt or lower max_new_tokens"
            )
    training = model.training
    model.eval()
    shared = _shared_prefix(ids)
    cache = _prefix_cache(model, ids[0][:shared]) if shared else None
    answers = [""] * len(ids)
    show = len(ids) > 20 and not models.quiet()
    with tqdm(total=len(ids), disable=not show, file=sys.stdout, leave=False) as bar:
        for batch in _batches([len(row) for row in ids], max_new_tokens):
            rows = [ids[i] for i in batch]
            for i, new in zip(
                batch,
                _generate(rows, model, tokenizer, max_new_tokens, shared, cache),
                strict=True,
            ):
                answers[i] = tokenizer.decode(new, skip_special_tokens=True).strip()
            bar.update(len(batch))
    model.train(training)
    return answers[0] if single else answers


def _check_template(prompts: list[str], model) -> None:
    tuned_with = getattr(model.config, "prompt_template", None)
    template = templates.ALL.get(tuned_with)
    wrong = [p for p in prompts if template and not template.fits(p)]
    if wrong:
        used = templates.recognise(wrong) or "no template known here"
        warnings.warn(
            f"this model was tuned with the template {tuned_with}, but the prompts "
            f"show {used}: its answers will be worse than it can do",
            stacklevel=3,
        )


def _batches(lengths: list[int], max_new_tokens: int) -> list[list[int]]:
    """Row numbers in groups of like length, within BATCH_TOKENS and BATCH_ROWS."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    batches, start = [], 0
    while start < len(order):
        longest = lengths[order[start]] + max_new_tokens  # the first is the longest
        size = max(1, min(BATCH_ROWS, BATCH_TOKENS // longest))
        batches.append(order[start : start + size])
        start += size
    return batches


@torch.inference_mode()
def _generate(rows, model, tokenizer, max_new_tokens, shared, cache) -> list[list[int]]:
    """New token ids of a batch. Padding stands between shared prefix and the rest."""
    longest = max(map(len, rows))
    pad = [longest - len(row) for row in rows]
    filler = tokenizer.pad_token_id
    input_ids = torch.tensor(
        [r[:shared] + [filler] * p + r[shared:] for r, p in zip(rows, pad, strict=True)]
    )
    mask = torch.tensor(
        [
            [1] * shared + [0] * p + [1] * (len(r) - shared)
            for r, p in zip(rows, pad, strict=True)
        ]
    )
    past = None
    if cache is not None:
        past = DynamicCache(config=model.config)
        for layer, (keys, values) in enumerate(cache):
            shape = (len(rows), -1, -1, -1)
            past.update(keys.expand(shape), values.expand(shape), layer)
    written = model.generate(
        input_ids=input_ids.to(model.device),
        attention_mask=mask.to(model.device),
        past_key_values=past,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
    )
    # cut by token count: decoded text need not give back the prompt's characters
    return written[:, longest:].tolist()


def _shared_prefix(ids: list[list[int]]) -> int:
    """How many tokens all prompts begin with, when a cache of them pays, else 0."""
    if len(ids) < 2:
        return 0
    shortest = min(map(len, ids)) - 1  # at least one token is left to each prompt
    first, last = min(ids), max(ids)  # in sorted order these two differ the soonest
    shared = 0
    while shared < shortest and first[shared] == last[shared]:
        shared += 1
    return shared if shared >= SHARED_PREFIX else 0


@torch.inference_mode()
def _prefix_cache(model, prefix: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of a prefix, per layer, each (1, heads, tokens, size)."""
    ids = torch.tensor([prefix], device=model.device)
    past = model(ids, use_cache=True, logits_to_keep=1).past_key_values
    return [(layer.keys, layer.values) for layer in past.layers]


class EndpointError(OSError):
    """A chat server gave no answer; `answers` are those that came before, in order."""

    def __init__(self, message: str, answers: list[str] | None = None):
        super().__init__(message)
        self.answers = answers or []


class Endpoint:
    """A model on a server that speaks OpenAI's chat protocol, asked like a local one.

    Such are vLLM, llama.cpp, Ollama, `transformers serve` and most hosted models.

    url: of the server, such as "http://localhost:8000/v1".
    model: the name by which the server knows the model.
    timeout: seconds to wait for one answer.
    A key, where the server wants one, is read from the environment variable
    COURSE_ENDPOINT_KEY; it goes to this server only, and into no message.
    Raises EndpointError for a url or a key that cannot be one.
    """

    def __init__(self, url: str, model: str, timeout: float = 120):
        self.url, self.model, self.timeout = url.strip(), model, timeout
        self._key = os.environ.get("COURSE_ENDPOINT_KEY", "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise EndpointError(
                "COURSE_ENDPOINT_KEY holds a character that no key has, such as a "
                "curly quote or a line break: copy the key again"
            )
        self._client = _Client(_checked(self.url), self._key, timeout)

    @classmethod
    def from_environment(cls) -> Endpoint | None:
        """The model COURSE_ENDPOINT_MODEL on the server whose url is COURSE_ENDPOINT.

        Where COURSE_ENDPOINT is not set, prints how to set it and gives None.
        """
        url, model = map(os.environ.get, ("COURSE_ENDPOINT", "COURSE_ENDPOINT_MODEL"))
        if not url:
            print(
                "No chat server is asked: to ask one, set COURSE_ENDPOINT to its url, "
                "COURSE_ENDPOINT_MODEL to its model, COURSE_ENDPOINT_KEY to its key."
            )
            return None
        if not model:
            raise EndpointError(
                "COURSE_ENDPOINT is set but COURSE_ENDPOINT_MODEL is not: set it to "
                "the name by which the server knows its model"
            )
        return cls(url, model)

    def generate(
        self, prompts: str | list[str], max_new_tokens: int = 64
    ) -> str | list[str]:
        """Answer each prompt, greedily (temperature 0), one request after another.

        prompts: n texts, or a single one, each what a user says: the question without
        a template, since the server puts its own around it.
        max_new_tokens: length limit of each answer, the prompt not counted.
        Returns n answers in the order of the prompts; for a single text, a single one.
        A busy server (429, 503) is asked again, after the wait that it wants.
        Raises EndpointError, with the answers so far, when there is no answer.
        """
        single = isinstance(prompts, str)
        prompts = [prompts] if single else list(prompts)
        answers: list[str] = []
        show = len(prompts) > 20 and not models.quiet()
        bar = tqdm(prompts, disable=not show, file=sys.stdout, leave=False)
        for number, prompt in enumerate(bar, 1):
            try:
                answers.append(self._ask(prompt, max_new_tokens))
            except httpx2.HTTPError as error:
                got, remedy = _explain(error, self.timeout)
                if self._key:  # servers may repeat it, and so may the libraries
                    got = got.replace(self._key, "***")
                got = " ".join(got.split())[:300].rstrip(".: ")
                raise EndpointError(
                    f"{self.url}, prompt {number} of {len(prompts)}: {got}. {remedy}. "
                    f"Answers before it: {len(answers)}, in this error's `answers`.",
                    answers,
                ) from None
        return answers[0] if single else answers

    def _ask(self, prompt: str, max_new_tokens: int) -> str:
        for attempt in range(RETRIES + 1):
            try:
                reply = self._client.chat_completion(
                    [{"role": "user", "content": prompt}],
                    model=self.model,
                    max_tokens=max_new_tokens,
                    temperature=0,
                )
                return reply.choices[0].message.content.strip()
            except httpx2.HTTPStatusError as error:
                wait = _wait(error.response, attempt)
                if wait > LONGEST_WAIT or attempt == RETRIES:
                    raise
            tqdm.write(f"{self.url} is busy: next try in {wait:g} s")
            time.sleep(wait)


class _Client(InferenceClient):
    """Sends by an HTTP client of its own.

    The one that it would share with the hub refuses every address under
    HF_HUB_OFFLINE, and goes through a proxy even to this computer.
    """

    def __init__(self, url: httpx2.URL, key: str, timeout: float):
        # given no key, InferenceClient would send the one that is saved for the hub
        super().__init__(base_url=str(url), api_key=key or "none")
        here = url.host in {"localhost", "::1", "0.0.0.0"}
        self.http = httpx2.Client(
            timeout=httpx2.Timeout(timeout, connect=min(timeout, 10)),
            trust_env=not (here or url.host.startswith("127.")),
            follow_redirects=True,
        )

    def _inner_post(self, request_parameters, *, stream: bool = False) -> bytes:
        sent = request_parameters
        reply = self.http.post(sent.url, json=sent.json, headers=sent.headers)
        reply.raise_for_status()
        try:
            text = reply.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            text = None
        if not isinstance(text, str):
            raise httpx2.DecodingError(f"a body without an answer: {reply.text}")
        return reply.content


def _checked(url: str) -> httpx2.URL:
    try:
        parts = httpx2.URL(url)
        good = parts.scheme in {"http", "https"} and parts.host and not parts.userinfo
    except httpx2.InvalidURL:
        good = False
    if not good:
        shown = url.rpartition("@")[2]  # what stands before it may be a password
        raise EndpointError(
            f"{shown!r} is not the url of a server: write it like "
            "http://localhost:8000/v1, with http:// or https://, without user name"
        )
    return parts


def _wait(response: httpx2.Response, attempt: int) -> float:
    """Seconds after which another try may help; infinity where none will."""
    if response.status_code not in {429, 503}:
        return float("inf")
    told = response.headers.get("Retry-After", "")  # seconds; a date is not read
    return float(told) if re.fullmatch(r"\d+(\.\d+)?", told) else 2.0**attempt


def _explain(error: httpx2.HTTPError, timeout: float) -> tuple[str, str]:
    """What was got instead of an answer, and what to do."""
    left, anew = "then ask for the prompts that are left", "then make Endpoint anew"
    if isinstance(error, httpx2.HTTPStatusError):
        status, told = error.response.status_code, error.response.headers
        after = f", Retry-After {told['Retry-After']}" if "Retry-After" in told else ""
        remedies = {
            401: f"Set COURSE_ENDPOINT_KEY to the server's key, {anew}",
            403: f"Set COURSE_ENDPOINT_KEY to a key that may use this model, {anew}",
            404: "Check the model's name, and the url (like http://localhost:8000/v1)",
            429: f"Wait, {left}",
            503: f"Wait, {left}",
        }
        remedy = remedies.get(status, "The cause stands here or in the server's log")
        return f"status {status}{after}: {error.response.text}", remedy
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return f"no server there: {error}", "Start the server, or correct the url"
    if isinstance(error, httpx2.TimeoutException):
        remedy = "Lower max_new_tokens, or give Endpoint a longer timeout"
        return f"no answer within {timeout:g} s", remedy
    if isinstance(error, httpx2.DecodingError):
        remedy = "Check that url and model are a chat's, or raise max_new_tokens"
        return str(error), remedy
    return f"the connection broke: {error}", f"See why the server stopped, {left}"


def answer_file(
    model_name: str, data: str, output: str, max_new_tokens: int = 64
) -> int:
    """Write the rows of a JSONL file, each with its answer under `generated`.

    The prompts are made by the template that `finetune` noted in the model's config.
    Returns the number of answers. Raises ValueError when the model names no template or
    rows cannot be asked (each named as `file: row N`), else what records.read,
    models.load and generate raise; output is written only when all is answered.
    """
    rows = records.read(data)
    model, tokenizer = models.load(model_name)
    name = getattr(model.config, "prompt_template", None)
    if name not in templates.ALL:
        raise ValueError(
            f"{model_name}: its config.json names no prompt_template of "
            f"{', '.join(templates.ALL)} (it says {name!r}): give a folder that "
            "finetune wrote, tuned on rows with a question or an input"
        )
    prompts, faults = [], []
    for number, record in enumerate(rows, 1):
        try:
            prompt = templates.ALL[name].prompt(record)
            if not prompt:
                raise ValueError("only text, which asks nothing")
            prompts.append(prompt)
        except ValueError as error:
            faults.append(f"{data}: row {number}: {error}")
    if faults:
        raise ValueError("\n".join(faults))
    answers = generate(prompts, model, tokenizer, max_new_tokens)
    pairs = zip(rows, answers, strict=True)
    records.write(output, [{**row, "generated": answer} for row, answer in pairs])
    return len(answers)


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when every row was answered."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.inference",
        description="Answer every row of a JSONL file with a tuned model.",
        epilog="example: python -m helpers.inference --model outputs/mine "
        "--data questions.jsonl --output answers.jsonl",
    )
    add = parser.add_argument
    add("--model", required=True, help="a folder that finetune wrote")
    add("--data", required=True, help="JSONL with a question or an input in each row")
    add("--output", required=True, help="JSONL: the same rows with `generated` added")
    add(
        "--max-new-tokens",
        type=int,
        default=64,
        help="length limit of each answer, in tokens (default 64)",
    )
    options = parser.parse_args(arguments)
    try:
        count = answer_file(
            options.model, options.data, options.output, options.max_new_tokens
        )
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{count} answers in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
