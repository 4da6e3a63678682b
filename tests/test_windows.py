"""Run with `python -m pytest tests/test_windows.py`: some seconds, no network needed.

Windows, as far as another system can imitate it: a console of Western Europe, files
that are not UTF-8 unless somebody says so, and no calls that only Unix has.
"""

import ast
import json
import os
import subprocess
import sys

from helpers import records

import pytest
from test_house import ROOT, code

# what people run and read; what runs on a maintainer's computer alone is not in it
OURS = [
    *(ROOT / "helpers").glob("*.py"),
    *(ROOT / "exercises").glob("*.py"),
    *(ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"),
    *(ROOT / "tools" / f"{n}.py" for n in "check course durations slides".split()),
]
UNIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios"}
UNIX_NAMES = """O_DIRECTORY fchmod fork geteuid getloadavg getuid killpg mkfifo
sched_getaffinity setsid sync SIGALRM SIGHUP SIGKILL SIGUSR1""".split()


def unix_only(text):
    """Lines that end in an error on Windows, unless an `except` expects it."""
    found, tree = [], ast.parse(text)
    for tried in ast.walk(tree):  # what is tried may fail
        if isinstance(tried, ast.Try):
            tried.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [n.name for n in node.names if n.name in UNIX_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in UNIX_MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Attribute) and node.attr in UNIX_NAMES:
            if getattr(node.value, "id", "") in ("os", "signal"):
                found.append(node.attr)
    return found


def in_the_console_s_code(text):
    """Calls that read or write text in whatever code this computer prefers."""
    found = []
    for call in ast.walk(ast.parse(text)):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {word.arg: word.value for word in call.keywords}
        first = {"read_text": 0, "write_text": 1}.get(name)
        if first is not None and len(call.args) <= first and "encoding" not in given:
            found.append(ast.unparse(call))
        # Path.open(mode), open(file, mode); os.open and tarfile.open are other things
        owner = getattr(getattr(call.func, "value", None), "id", "")
        if name == "open" and owner not in ("os", "tarfile", "jsonlines", "gzip"):
            mode = call.args[0 if isinstance(call.func, ast.Attribute) else 1 :]
            mode = ast.unparse(given.get("mode", mode[0] if mode else ast.Constant("")))
            if "b" not in mode and "encoding" not in given:
                found.append(ast.unparse(call))
    return found


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_no_text_is_read_or_written_in_the_console_s_code(path):
    assert not in_the_console_s_code(code(path))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_nothing_is_called_that_only_unix_has(path):
    assert not unix_only(code(path))


def test_the_modules_that_tests_import_need_nothing_of_unix():
    """At their top; inside a function it is for those who record on Linux."""
    for path in [*(ROOT / "tools").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        top = ast.parse(code(path)).body
        imports = [
            node for node in top if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert not unix_only(ast.unparse(imports)), path


BAD = [
    "import resource",
    "from fcntl import flock",
    "os.sched_getaffinity(0)",
    "os.kill(pid, signal.SIGKILL)",
    "path.read_text()",
    "path.write_text(text)",
    "open(path)",
    "path.open('w')",
    "open(path, mode='a')",
]
GOOD = [
    "try:\n    os.sched_getaffinity(0)\nexcept AttributeError:\n    pass",
    "path.read_text(encoding='utf-8')",
    "path.read_text('utf-8')",
    "path.write_text(text, 'utf-8')",
    "open(path, 'rb')",
    "path.open('w', encoding='utf-8')",
    "os.open(path, os.O_RDONLY)",
]


@pytest.mark.parametrize("line", BAD + GOOD)
def test_both_checks_find_what_they_look_for(line):
    assert bool(unix_only(line) or in_the_console_s_code(line)) == (line in BAD)


# Runs each command of a list in this one process, as `python -m` does; torch is
# imported once. What they print goes to the console, their exit codes to a file.
RUNS = """
import json, runpy, sys, traceback
ended = []
for module, *words in json.loads(sys.argv[1]):
    sys.argv = [module, *words]
    print(f"$ {module} {ascii(words)}", flush=True)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        ended.append(0)
    except SystemExit as stop:
        ended.append(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        ended.append("a traceback")
    print(f"ended {ended[-1]}", flush=True)
"""
HELP = """helpers.records helpers.training helpers.inference helpers.models
tools.course tools.durations tools.slides""".split()


def test_every_command_works_on_a_console_of_western_europe(tmp_path):
    """Files read without an encoding are ASCII here, which is stricter than cp1252."""
    rows = [{"question": f"Wo ist → {n}?", "answer": f"там, 日本 {n}"} for n in "abcd"]
    data, out = tmp_path / "rows.jsonl", tmp_path / "tuned"
    records.write(data, rows)
    tiny = ["--model", "tiny", "--data", str(data), "--epochs", "1"]
    ask = ["--model", str(out), "--data", str(data), "--max-new-tokens", "2"]
    calls = [[module, "--help"] for module in HELP] + [
        ["helpers.records", str(data)],
        ["helpers.training", *tiny, "--method", "lora", "--output", str(out)],
        ["helpers.inference", *ask, "--output", str(tmp_path / "answers.jsonl")],
        ["helpers.models", "merge", str(out), str(tmp_path / "merged")],
        ["tools.check"],
    ]
    western = {
        "PYTHONIOENCODING": "cp1252",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "LC_ALL": "C",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUNS, json.dumps(calls)],
        cwd=ROOT,
        env=os.environ | western,
        capture_output=True,
        timeout=300,
    )
    said = done.stdout.decode("cp1252") + done.stderr.decode("cp1252")
    assert "Traceback" not in said and "UnicodeEncodeError" not in said, said
    assert said.count("\nended 0") == len(calls), said
    written = records.read(tmp_path / "answers.jsonl")
    assert [row["answer"] for row in written] == [row["answer"] for row in rows]


def test_a_path_with_backslashes_is_looked_up_as_a_folder_not_as_a_hub_id():
    """pathlib of Windows takes both slashes; what the commands ask of it is this."""
    from helpers import models

    with pytest.raises(OSError, match="no model 'outputs.*mine'"):
        models.folder_of("outputs\\mine")
    with pytest.raises(OSError, match="no model"):
        models.folder_of("C:\\Users\\me\\mine")
