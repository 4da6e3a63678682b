"""A model on a chat server: prompts in, answers out, by the `openai` library."""

import contextlib
import os
import re
import time

from helpers import models

import httpx2
import openai
from tqdm import tqdm

URL = r"https?://(\[[\da-f:]+\]|[\w-]+(?:\.[\w-]+)*)(?::\d{1,5})?(/[!$->@-~]*)?"
KEY = "Set COURSE_ENDPOINT_KEY to a key that may use the model, then make Endpoint anew"
BUSY = "Wait, then ask for the prompts that are left"
GONE = "Start the server, correct the url, or give Endpoint a longer timeout"
REMEDIES = {None: GONE, 401: KEY, 403: KEY, 429: BUSY, 503: BUSY}  # by status
CHECK = "Check url, model and max_new_tokens, or see the server's log"  # else


class EndpointError(OSError):
    """A chat server gave no answer; `answers` are those that came before, in order."""

    answers: list[str] | tuple = ()


class _Timed(httpx2.SyncByteStream):
    """The rest of an answer, given up where it has not ended after so many seconds: the
    client's own limit is for each piece, and a server may send one now and then."""

    def __init__(self, parts: httpx2.SyncByteStream, seconds: float):
        self.parts, self.seconds, self.close = parts, seconds, parts.close

    def __iter__(self):
        ends = time.monotonic() + self.seconds
        for part in self.parts:
            yield part
            if time.monotonic() > ends:
                raise httpx2.ReadTimeout(f"no end of it in {self.seconds} s")


class _Client(openai.OpenAI):
    default_headers = {"Content-Type": "application/json"}  # none of the environment


class Endpoint:
    """A model on a server that speaks OpenAI's chat protocol, asked like a local one.

    url: such as "http://localhost:8000/v1"; model: its name there; timeout: seconds to
    wait for an answer, and as long again for its end, in each of three tries. The key
    is read from COURSE_ENDPOINT_KEY and sent to no other server. Raises EndpointError
    if url or key cannot be one.
    """

    def __init__(self, url: str, model: str, timeout: float = 120):
        self.url, self.model = url.strip().rstrip("/"), model
        key = os.environ.get("COURSE_ENDPOINT_KEY", "").strip()
        if not (key.isascii() and key.isprintable()):
            raise EndpointError(
                "COURSE_ENDPOINT_KEY holds a curly quote or the like: copy it again"
            )
        parts = re.fullmatch(URL, self.url, re.A | re.I)  # host, path
        if not parts:  # what stands before @ or after ? may be secret
            raise EndpointError(
                f"{re.sub('.*@|[?].*', '***', url)!r} is no url like http://localhost:8000/v1"
            )
        base = self.url.removesuffix("/chat/completions") + "/v1" * (not parts[2])
        here = re.fullmatch(r"localhost|127\..*|0\.0\.0\.0|\[::1\]", parts[1].lower())
        limits = openai.Timeout(timeout, connect=10)
        http = openai.DefaultHttpxClient(timeout=limits, trust_env=not here)  # no proxy
        http.event_hooks["response"] = [self._in_time]
        self._seconds = timeout
        # given no key, the library would send OPENAI_API_KEY
        self._client = _Client(base_url=base, api_key=key or "no-key", http_client=http)
        self._way = "max_tokens", {"temperature": 0}  # until the server wants another

    @classmethod
    def from_environment(cls) -> "Endpoint | None":
        """The server COURSE_ENDPOINT; where it is not set, None and a printed hint."""
        url, model = map(os.environ.get, ("COURSE_ENDPOINT", "COURSE_ENDPOINT_MODEL"))
        if url and model:
            return cls(url, model)
        print(
            "No chat server is asked: to ask one, set COURSE_ENDPOINT to its url, "
            "COURSE_ENDPOINT_MODEL to its model, COURSE_ENDPOINT_KEY to its key."
        )

    def generate(self, prompts: str | list, max_new_tokens: int = 64) -> str | list:
        """Answer each prompt greedily, in order; a single prompt by a single answer.

        prompts: each a text, which is what a user says, or a list of messages.
        A server that is busy or broken is asked again, after the wait that it wants.
        Raises EndpointError, with the answers so far, when there is no answer.
        """
        prompts = prompts if isinstance(prompts, str) else list(prompts)
        single = isinstance(prompts, str) or isinstance((prompts or [""])[0], dict)
        prompts, answers = [prompts] if single else prompts, []
        for prompt in tqdm(prompts, delay=2, disable=models.quiet(), leave=False):
            try:
                answers.append(self._ask(prompt, max_new_tokens, *self._way))
            except openai.APIError as error:
                why = "" if " - " in str(error) else error.body or error.__cause__ or ""
                got = f"{error} {why}".replace(self._client.api_key, "***")
                got = " ".join(got.split())[:300].rstrip(".: ")
                remedy = REMEDIES.get(getattr(error, "status_code", None), CHECK)
                failure = EndpointError(
                    f"{self.url}, prompt {len(answers) + 1} of {len(prompts)}: {got}. "
                    f"{remedy}. Answers before it: {len(answers)}, in `answers`."
                )
                failure.answers = answers
                raise failure from None
        return answers[0] if single else answers

    def _in_time(self, reply: httpx2.Response) -> None:
        reply.stream = _Timed(reply.stream, self._seconds)

    def _ask(self, prompt, room: int, limit: str, greedy: dict) -> str:
        if isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        settings = {"model": self.model, "messages": prompt, limit: room, **greedy}
        try:
            reply = self._client.chat.completions.with_raw_response.create(**settings)
        except openai.BadRequestError as error:
            if limit == "max_tokens" and "max_completion_tokens" in error.response.text:
                return self._ask(prompt, room, "max_completion_tokens", greedy)
            if greedy and "temperature" in error.response.text:
                return self._ask(prompt, room, limit, {})
            raise
        self._way = limit, greedy
        with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError):
            return reply.parse().choices[0].message.content.strip()
        raise openai.APIResponseValidationError(reply.http_response, reply.text)
