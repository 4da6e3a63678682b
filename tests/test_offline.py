"""The network is cut, loopback is not: `… -m pytest tests/test_offline.py`

192.0.2.1 is an address set aside for documentation (RFC 5737): nothing answers there,
and an attempt to reach it with the network up waits until the timeout.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OFFLINE = Path(__file__).with_name("offline.py")

CONNECT = """
import os, socket, sys, time
start = time.monotonic()
try:
    socket.create_connection(("192.0.2.1", 9), timeout=20).close()
    print("connected")
except OSError as error:
    print("refused:", error)
assert time.monotonic() - start < 5, "the network is up: it waited for an answer"

server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname(), timeout=5)
server.accept()[0].sendall(b"hello")
print(client.recv(5).decode(), os.environ["HF_HUB_OFFLINE"])
"""
CHILD = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"


def offline(*arguments: str, guard: bool) -> subprocess.CompletedProcess:
    environment = dict(os.environ)
    environment.pop("COURSE_NO_NETWORK", None)
    if guard:
        environment["COURSE_NO_NETWORK"] = "1"
    command = [sys.executable, str(OFFLINE), sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("arguments", [["-c", CONNECT], ["-c", CHILD, "-c", CONNECT]])
@pytest.mark.parametrize("guard", [False, True], ids=["namespace", "guard"])
def test_no_process_reaches_past_loopback(arguments, guard):
    result = offline(*arguments, guard=guard)
    by_guard = "by a guard" in result.stderr
    if by_guard and not guard:
        pytest.skip("this system allows no network namespace")
    assert by_guard == guard
    refused, greeting = result.stdout.splitlines()
    assert refused.startswith("refused:")
    assert ("network is cut in tests" in refused) == guard
    assert greeting == "hello 1"


def test_the_exit_code_of_the_command_is_not_lost():
    for guard in (False, True):
        assert offline("-c", "raise SystemExit(7)", guard=guard).returncode == 7


def test_a_call_without_command_says_how_to_call_it():
    result = subprocess.run(
        [sys.executable, str(OFFLINE)], capture_output=True, text=True
    )
    assert result.returncode == 2 and "COMMAND" in result.stderr
