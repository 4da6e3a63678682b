"""Run with `python -m pytest tests/test_house.py`: instant, reads files only.

The house: who may import whom, how large the helpers may grow, and that what a lesson
builds by hand stands where the helper says.
"""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HELPERS = sorted((ROOT / "helpers").glob("*.py"))
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
LINES_OF_A_MODULE = 350
BUILT = re.compile(r'(?:Built by hand|that of Alpaca) in lesson (\d\d), "([^"]+)"')


def code(path):
    """The Python of a module, or of all code cells of a lesson."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def imported(path):
    """What a module or lesson imports of our own packages, as "package.module"."""
    found = set()
    for node in ast.walk(ast.parse(code(path))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in OURS}


OURS = ("helpers", "exercises", "tools", "benchmarks", "tests")


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_needs_nothing_that_only_maintainers_run(lesson):
    found = imported(lesson)
    assert any(name.startswith("helpers.") for name in found)
    assert all(name.startswith(("helpers.", "exercises.")) for name in found), found


@pytest.mark.parametrize("module", HELPERS, ids=lambda path: path.stem)
def test_a_helper_stands_on_helpers_alone(module):
    found = imported(module)
    assert all(name.startswith("helpers.") for name in found), found


# each stop of the line imports from stops before it, never from those after
LINE = "records templates tokens training inference evaluation".split()


@pytest.mark.parametrize("stop", LINE)
def test_data_flows_one_way(stop):
    later = {f"helpers.{name}" for name in LINE[LINE.index(stop) + 1 :]}
    assert not imported(ROOT / "helpers" / f"{stop}.py") & later


@pytest.mark.parametrize("module", HELPERS, ids=lambda path: path.stem)
def test_a_helper_can_be_read_in_one_sitting(module):
    assert len(code(module).splitlines()) <= LINES_OF_A_MODULE


def headings(number):
    (path,) = (path for path in LESSONS if path.stem.startswith(number))
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join(
        "".join(c["source"]) for c in cells if c["cell_type"] == "markdown"
    )
    return re.findall(r"^#+ (.+)$", text, re.M)


def test_what_is_built_by_hand_stands_where_the_helper_says():
    claims = [
        (path.name, *found)
        for path in HELPERS
        for found in BUILT.findall(" ".join(code(path).split()))
    ]
    assert len(claims) >= 8
    for name, lesson, heading in claims:
        assert heading in headings(lesson), (name, lesson, heading)


def test_torch_is_not_imported_before_the_settings_that_it_reads():
    for lesson in LESSONS:
        names = re.findall(r"^(?:from|import) (\w+)", code(lesson), re.M)
        if "torch" in names:
            assert names.index("helpers") < names.index("torch"), lesson.name
