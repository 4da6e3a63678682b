"""Run with `python -m pytest tests/test_mutations.py`: ten minutes, no network needed.

A gate that cannot fail is none. Each test here breaks something in a scratch copy of
the course and demands that the tests, or a lesson, turn red.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_of(path: Path) -> str:
    """What a notebook executes, without its prose."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


# what is broken, in which file, the code there, what stands there instead, who must see
BROKEN = {
    "mask dropped": (
        "tokens.py",
        "    labels = [IGNORE] * len(ids)\n",
        "    labels = list(ids)\n",
        "test_tokens.py",
    ),
    "labels shifted": (
        "tokens.py",
        "labels[place] = ids[place]",
        "labels[place] = ids[place - 1]",
        "test_tokens.py",
    ),
    "end of turn lost": (
        "tokens.py",
        "whole = taught[-1] + 1 if taught else 0",
        "whole = taught[-1] if taught else 0",
        "test_tokens.py",
    ),
    "control tokens let through": (
        "templates.py",
        r'begin.sub(rf"\g<0>{MARK}", content.rstrip())',
        "content.rstrip()",
        "test_families.py",
    ),
    "optimiser step skipped": (
        "training.py",
        "        started = time.perf_counter()\n",
        "        torch.optim.AdamW.step = lambda self, closure=None: None\n"
        "        started = time.perf_counter()\n",
        "test_training.py",
    ),
    "same token for the next": (
        "pretraining.py",
        "ids[:, 1:].flatten()",
        "ids[:, :-1].flatten()",
        "test_pretraining.py",
    ),
    "left padding turned right": (
        "inference.py",
        "[r[:shared] + [filler] * p + r[shared:] for r, p",
        "[r + [filler] * p for r, p",
        "test_inference.py",
    ),
    "refusals miscounted": (
        "evaluation.py",
        '.replace("’", "\'")',
        "",
        "test_evaluation.py",
    ),
}


@pytest.fixture
def copy(tmp_path):
    """A scratch copy of the course, data and models linked, with its own outputs."""
    for name in ("helpers", "exercises", "tools", "tests", "notebooks"):
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data", target_is_directory=True)
    # the converted student is no result of training: it may be shared
    (tmp_path / "outputs").mkdir()
    models = Path(os.environ.get("COURSE_OUTPUTS", ROOT / "outputs")) / "models"
    models.mkdir(parents=True, exist_ok=True)
    (tmp_path / "outputs" / "models").symlink_to(models, target_is_directory=True)
    return tmp_path


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess:
    """pytest in the copy, whose helpers come before the installed ones."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(copy), os.environ.get("PYTHONPATH", "")]),
        "COURSE_OUTPUTS": str(copy / "outputs"),
        "COURSE_QUIET": "1",
    }
    environment.pop("PYTEST_CURRENT_TEST", None)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
    )


def nbval(copy: Path, name: str) -> subprocess.CompletedProcess:
    sanitize = ("--nbval-sanitize-with", "tests/sanitize.cfg")
    return run(
        copy, "--nbval", "--nbval-cell-timeout", "900", *sanitize, f"notebooks/{name}"
    )


def assert_red(result: subprocess.CompletedProcess, where: str) -> None:
    """Tests failed (1), which is not the same as pytest not running (2 and above)."""
    assert result.returncode == 1, result.stdout[-3000:] + result.stderr[-2000:]
    assert re.search(rf"FAILED .*{where}", result.stdout), result.stdout[-3000:]


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_helper_turns_a_test_red(copy, fault):
    file, code, instead, tests = BROKEN[fault]
    path = copy / "helpers" / file
    source = path.read_text(encoding="utf-8")
    assert code in source, f"{file} no longer holds the code that this mutation breaks"
    path.write_text(source.replace(code, instead), encoding="utf-8")
    assert_red(run(copy, f"tests/{tests}"), re.escape(tests))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_changed_figure_turns_a_lesson_red(copy, notebook):
    path = copy / "notebooks" / notebook.name
    content = nbformat.read(path, as_version=4)
    cell, output = first_compared_figure(content)
    changed = re.sub(
        r"\d", lambda m: str((int(m[0]) + 1) % 10), output["text"], count=1
    )
    assert changed != output["text"]
    output["text"] = changed
    nbformat.write(content, path)
    result = nbval(copy, notebook.name)
    assert_red(result, re.escape(notebook.name))
    assert "1 failed" in result.stdout
    assert cell.source.splitlines()[0] in result.stdout, "another cell turned red"


def first_compared_figure(content):
    """The first cell whose compared text output holds a figure, and that output."""
    for cell in content.cells:
        if "nbval-ignore-output" not in cell.metadata.get("tags", []):
            for output in cell.get("outputs", []):
                if re.search(r"\d", output.get("text", "")):
                    return cell, output
    pytest.fail("no cell prints a figure that is compared")


@pytest.mark.parametrize(
    "notebook",
    [path for path in NOTEBOOKS if "finetune(" in code_of(path)],
    ids=lambda path: path.stem,
)
def test_a_lesson_turns_red_when_finetune_trains_nothing(copy, notebook):
    path = copy / "helpers" / "training.py"
    source = path.read_text(encoding="utf-8")
    nothing = source
    for real, instead in (
        ("            learning_rate=learning_rate,\n", "learning_rate=0.0,\n"),
        # and of few rows: nobody waits for nothing
        (
            "            train_dataset=encoded,\n",
            "train_dataset=encoded[:batch_size],\n",
        ),
    ):
        assert source.count(real) == 1
        nothing = nothing.replace(real, instead)
    path.write_text(nothing, encoding="utf-8")
    assert_red(nbval(copy, notebook.name), re.escape(notebook.name))
