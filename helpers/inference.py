"""Inference: prompts in, answers out, in the same order.

In: prompts, as text or as messages.  Out: what the model wrote after each, as text.
Knows nothing of right answers. Decoding is greedy: the same prompts give the same
answers. `generate` asks a model in memory, `Endpoint` one on a chat server.

    python -m helpers.inference --model FOLDER --data FILE --output ANSWERS

answers every row of a file with a tuned model, in the template it was tuned with.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from helpers import models, records, runs, tokens
from helpers.endpoint import Endpoint, EndpointError

import torch
from tqdm import tqdm
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

__all__ = ["Endpoint", "EndpointError", "answer_file", "generate"]
Prompt = str | list[dict]
BATCH_TOKENS = 8192  # of prompts and answers in one batch: bounds the memory
SHARED_PREFIX = 16  # tokens that all prompts begin with, from which a cache pays
BATCH_ROWS = 128  # at most in one batch
# what Qwen 3 and the like write before an answer when they do not think
EMPTY_THOUGHT = re.compile(r"^\s*<think>\s*</think>")


def generate(
    prompts: Prompt | list[Prompt], model, tokenizer, max_new_tokens: int = 64
) -> str | list[str]:
    """Continue each prompt until end-of-text or max_new_tokens, prompt not included.

    prompts: n of them, or a single one; each a text that the model continues as it
    stands, or a list of messages, written by the tokenizer's template as in training.
    Those of like length run together, padded at the left; a long beginning that all
    share (a document before many questions) is computed once.
    max_new_tokens: length limit of each answer, the prompt not counted.
    Built by hand in lesson 04, "Asking a small model, by hand".
    Returns n answers in the order of the prompts; for a single one, a single answer;
    without an empty thought at the beginning, as a chat server gives them.
    Raises ValueError for an empty prompt and for one that leaves the answer no room.
    """
    prompts = prompts if isinstance(prompts, str) else list(prompts)
    if prompts == []:
        return []
    single = isinstance(prompts, str) or isinstance(prompts[0], dict)
    prompts = [prompts] if single else prompts
    ids = [tokens.prompt_ids(prompt, tokenizer) for prompt in prompts]
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
    # sliding windows and states of other kinds cannot be handed on to other prompts
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    shared = _shared_prefix(ids) if kinds <= {DynamicLayer} else 0
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
                answer = tokenizer.decode(new, skip_special_tokens=True)
                answers[i] = EMPTY_THOUGHT.sub("", answer).strip()
            bar.update(len(batch))
    model.train(training)
    return answers[0] if single else answers


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
    # frozen weights, as under an adapter, torch copies for each row of a batch that
    # does not lie in one piece, and the last states of the rows do not
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda layer, given: (given[0].contiguous(), *given[1:])
    )
    try:
        written = model.generate(
            input_ids=input_ids.to(model.device),
            attention_mask=mask.to(model.device),
            past_key_values=past,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
        )
    finally:
        hook.remove()
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


def answer_file(
    model_name: str, data: str, output: str, max_new_tokens: int = 64
) -> int:
    """Write the rows of a file as JSONL, each with its answer under `generated`.

    The prompts are made by the template that the model's tokenizer carries.
    Returns the number of answers. Raises ValueError when rows cannot be asked (each
    named as `file: row N`) or output cannot be written, else what records.read,
    models.load and generate raise; output is written only when all is answered.
    """
    target = Path(output)
    if not output or target.is_dir() or not runs.can_hold(target.absolute().parent):
        raise ValueError(f"output is {output!r}: give a file in a folder of yours")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}: give 1 or more")
    rows = records.read(data)
    prompts, faults = [], []
    for number, row in zip(records.places(rows), rows, strict=True):
        _, answer = records.form(row) or ((), None)  # empty in a table to be filled in
        try:
            asked = {n: value for n, value in row.items() if value or n != answer}
            prompts.append(records.prompt(asked))
            if not prompts[-1]:
                raise ValueError("only text, which asks nothing")
        except ValueError as error:
            faults.append(f"{data}: row {number}: {error}")
    if faults:
        raise ValueError("\n".join(records.capped(faults)))
    model, tokenizer = models.load(model_name)
    answers = generate(prompts, model, tokenizer, max_new_tokens)
    pairs = zip(rows, answers, strict=True)
    records.write(output, [{**row, "generated": answer} for row, answer in pairs])
    return len(answers)


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when every row was answered."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.inference",
        description="Answer every row of a file with a tuned model.",
        epilog="example: python -m helpers.inference --model outputs/mine "
        "--data questions.jsonl --output answers.jsonl",
    )
    add = parser.add_argument
    add(
        "--model",
        required=True,
        help="a folder that finetune wrote, tiny, smollm2, a hub id",
    )
    add("--data", required=True, help=f"a file of rows: {records.FORM_NAMES}")
    add("--output", required=True, help="JSONL: the same rows with `generated` added")
    add(
        "--max-new-tokens",
        type=int,
        default=64,
        help="length limit of each answer, in tokens (default 64)",
    )
    options = parser.parse_args(arguments)
    records.safe_console()
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
