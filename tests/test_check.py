"""Each need has its message: `.venv/bin/python -m pytest tests/test_check.py`"""

import shutil
import subprocess
import sys
from collections import namedtuple

from tools import check

import pytest

Usage = namedtuple("Usage", "total used free")


def test_a_missing_package_is_named_with_its_remedy(monkeypatch, tmp_path):
    pins = "torch==2.13.0\n\n# a comment\nno-such-package==1.0\npytest==0.1\n-e .\n"
    pins += 'elsewhere==1.0; platform_machine == "s390x"\n'
    (tmp_path / "requirements.txt").write_text(pins)
    monkeypatch.setattr(check, "ROOT", tmp_path)
    message = check.packages()
    assert "not installed: no-such-package:" in message and "elsewhere" not in message
    assert f"pytest is {pytest.__version__}, not 0.1" in message
    assert "torch" not in message, "a local build such as 2.13.0+cpu is the pinned one"
    assert "make lab" in message and "pip install" in message


def test_a_short_disk_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9e9, 8e9, 2**30))
    assert check.disk().startswith("1.0 GB free") and "larger disk" in check.disk()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9e9, 0, 2**40))
    assert check.disk() is None


def test_an_old_and_a_too_new_python_are_named(monkeypatch):
    for version in [(3, 10, 13), (3, 15, 0)]:
        monkeypatch.setattr(sys, "version_info", version)
        assert "needs 3.11 to 3.14" in check.python()
    monkeypatch.setattr(sys, "version_info", (3, 14, 2))
    assert check.python() is None


def test_little_memory_is_said_but_unknown_memory_is_not(monkeypatch):
    monkeypatch.setattr(check, "memory_gb", lambda: 3.9)
    assert check.memory().startswith("3.9 GB")
    monkeypatch.setattr(check, "memory_gb", lambda: None)
    assert check.memory() is None


def test_a_model_without_weights_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(check, "ROOT", tmp_path)
    folder = tmp_path / "data" / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert "git checkout" in check.tiny()
    (folder / "model.safetensors").write_bytes(b"weights")
    assert check.tiny() is None


@pytest.mark.parametrize("required, code", [(True, 1), (False, 0)])
def test_only_what_the_course_needs_decides_the_exit_code(
    monkeypatch, capsys, required, code
):
    checks = [("left", lambda: None, True), ("right", lambda: "gone: mend", required)]
    monkeypatch.setattr(check, "CHECKS", checks)
    assert check.main() == code
    printed = capsys.readouterr().out
    assert "ok       left" in printed and "MISSING  right: gone: mend" in printed


def test_it_runs_without_any_package():
    """-S leaves site-packages out, as before set-up."""
    result = subprocess.run(
        [sys.executable, "-S", "-m", "tools.check"],
        cwd=check.ROOT,
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert result.returncode == 1 and "not installed: torch" in result.stdout
    assert "Traceback" not in result.stderr
