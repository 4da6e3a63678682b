"""Run with `python -m pytest tests/test_lab.py`: some seconds, no network needed.

JupyterLab runs any code that reaches it, so `make lab` must leave its token on.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {
    "Makefile": re.search(r"-m jupyterlab (.*) \$\(LAB\)", MAKEFILE)[1],
    "README": re.search(r"-m jupyterlab (.*) notebooks", README)[1],
}


def status(address: str) -> int:
    """What the server answers; it may note its address before it answers there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.fixture
def server(tmp_path):
    """What JupyterLab, started as `make lab` starts it, says of itself."""
    started = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *COMMANDS["Makefile"].split()]
        + ["--no-browser", "--allow-root", "--port=0"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "JUPYTER_TOKEN"}
        | {"JUPYTER_RUNTIME_DIR": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        written = ""
        while not written.endswith("}"):  # whole
            assert started.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
            for file in tmp_path.glob("jpserver-*.json"):
                written = file.read_text(encoding="utf-8")
        yield json.loads(written)
    finally:
        started.terminate()
        started.wait(timeout=60)


def test_nobody_runs_code_in_jupyterlab_without_its_token(server):
    assert len(server["token"]) >= 32 and server["hostname"] in (
        "localhost",
        "127.0.0.1",
    )
    kernels = f"http://127.0.0.1:{server['port']}/api/kernels"
    assert status(kernels) == 403
    assert status(f"{kernels}?token={'0' * 48}") == 403
    assert status(f"{kernels}?token={server['token']}") == 200


@pytest.mark.parametrize("page", COMMANDS)
def test_no_command_opens_jupyterlab_to_others(page):
    assert not re.search(r"token|password|\bip\b|allow_", COMMANDS[page])
    assert COMMANDS["README"] == COMMANDS["Makefile"]
