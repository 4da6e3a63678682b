"""Run with `python -m pytest tests/test_readme.py`: seconds, no network.

The README's commands are typed by people who have nothing else to go by. Those that
install or open a browser are checked for what they name, the others are run. With
COURSE_FRESH_CLONE=1, minutes and a network, those that install are run as well.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tools import check

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REQUIREMENTS = (ROOT / "requirements.txt").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def commands(heading):
    """The command lines of the code blocks of a section, comments taken off."""
    section = README.partition(f"# {heading}\n")[2]
    section = re.split(r"\n#+ ", section)[0]
    blocks = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    lines = "\n".join(blocks).splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


PLAIN = commands("Without make")
OWN = commands("Your own file")


def python(line, *more, **options):
    words = line.replace("\\", "/").split()
    assert words[0] in (".venv/Scripts/python", ".venv/bin/python")
    return subprocess.run(
        [sys.executable, *words[1:], *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def test_without_make_the_same_packages_are_installed():
    recipe = MAKEFILE.partition("\n.venv/ready:")[2]
    recipe = recipe.replace("$(LOCKED)", "--no-deps --require-hashes -r")
    made = re.findall(r"-m pip install -q (--no-deps .+?) (?:&&|\|\|)", recipe)
    read = [line.partition(" pip install ")[2] for line in PLAIN]
    torch = [line for line in read if line.startswith("torch==")]
    assert made == [line for line in read if line and line not in torch]
    assert len(torch) == 1 and torch[0] in REQUIREMENTS.splitlines()


@pytest.mark.parametrize("name", ["README.md", "INSTRUCTORS.md"])
def test_a_version_in_the_text_is_the_pinned_one(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.findall(r"[\w-]+==[\w.]*\w", text)
    assert found and set(found) <= {*REQUIREMENTS.splitlines(), check.STUDENT}


def test_without_make_the_same_tests_run():
    for flag in ("--nbval ", "--nbval-sanitize-with tests/sanitize.cfg", "offline.py"):
        assert flag in " ".join(PLAIN).replace("\\", "/") and flag in MAKEFILE


@pytest.mark.parametrize("line", [x for x in PLAIN + OWN if " -m " in x])
def test_no_command_names_a_module_that_is_not_there(line):
    module = re.search(r" -m ([\w.]+)", line)[1]
    found = python(f".venv/bin/python -m {module} --help")
    if module not in ("venv", "tools.check"):
        assert found.returncode == 0, found.stderr
        options = re.findall(r" (--[a-z][\w-]*)", line)
        if module.split(".")[0] in ("helpers", "tools"):
            assert all(option in found.stdout for option in options), line


def test_the_commands_for_a_file_of_ones_own_work_as_written(tmp_path):
    (tmp_path / "mine.csv").write_text(
        "question,answer\n" + "".join(f"Is {n} on?,Yes {n}.\n" for n in range(10)),
        encoding="utf-8",
    )
    (tmp_path / "asks.csv").write_text("question\nIs 3 on?\n", encoding="utf-8")
    for line in OWN:
        line = line.replace("mine.csv", f"{tmp_path}/mine.csv")
        line = line.replace("asks.csv", f"{tmp_path}/asks.csv")
        line = line.replace("answers.jsonl", f"{tmp_path}/answers.jsonl")
        line = line.replace("outputs/", f"{tmp_path}/").replace("smollm2", "tiny")
        if "helpers.training" in line:
            line += " --method lora --epochs 1"
        # tests/test_export.py exports; llama.cpp does not know tiny's kind of model
        if "transformers serve" not in line and " export " not in line:
            done = python(line)
            assert done.returncode == 0, done.stderr
    assert "generated" in (tmp_path / "answers.jsonl").read_text(encoding="utf-8")
    assert (tmp_path / "merged" / "chat_template.jinja").exists()


@pytest.mark.skipif(
    not os.environ.get("COURSE_FRESH_CLONE"), reason="takes minutes and a network"
)
def test_the_set_up_without_make_works_as_written_in_a_fresh_clone(tmp_path):
    folder = tmp_path / "a folder"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    last = next(n for n, line in enumerate(PLAIN) if line.endswith("tools.check"))
    for line in PLAIN[: last + 1]:
        if os.name != "nt":
            line = line.replace("\\", "/").replace("/Scripts/", "/bin/")
            line = line.replace("py -3.12", shlex.quote(sys.executable))
        print(f"$ {line}", flush=True)
        done = subprocess.run(line, shell=True, cwd=folder, stdout=subprocess.PIPE)
        assert done.returncode == 0, line
    assert b"All there." in done.stdout  # by the last of them, tools.check
