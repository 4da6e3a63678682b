"""Run with `python -m pytest tests/test_bad_inputs.py`: seconds, no network.

One drawn file of each kind of tools/bad_kinds.py; `python -m tools.bad_inputs` makes
more, and looks at them from a process of its own as well.
"""

import sys
import tempfile
from pathlib import Path

from helpers import files, models, records
from tools import bad_inputs, bad_kinds

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="has neither pipes nor alarms"
)
SEED = "tests"
TRAINED = [*bad_kinds.KINDS][::8]


@pytest.fixture(scope="module")
def folder():
    """Not pytest's own, into which nobody else may look."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def tiny():
    return models.load("tiny")


@pytest.fixture(autouse=True)
def little_room(monkeypatch):
    monkeypatch.setattr(files, "MOST", 1 << 24)


@pytest.mark.parametrize("kind", bad_kinds.KINDS)
def test_a_file_of_any_kind_is_read_as_it_stands_or_refused_in_one_message(
    kind, folder
):
    assert bad_inputs.judge(bad_inputs.draw(kind, SEED, folder)) == []


@pytest.mark.parametrize("kind", TRAINED)
def test_training_refuses_what_it_cannot_learn_before_it_computes(kind, folder, tiny):
    case = bad_inputs.draw(kind, SEED, folder)
    assert bad_inputs.train(case, tiny) == []


def test_both_sides_of_the_judgement_are_met(folder):
    cases = [bad_inputs.draw(kind, SEED, folder) for kind in TRAINED]
    assert {case.rows is None for case in cases} == {True, False}
    assert len(bad_kinds.KINDS) > 100


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: rows.pop(), "rows for"),
        (lambda rows: rows[0].update(answer=71), "for {"),
        (lambda rows: rows.reverse(), "for {"),
    ],
    ids=["a row lost", "text made a number", "order lost"],
)
def test_a_reader_that_loses_something_is_found_out(
    change, complaint, folder, monkeypatch
):
    case = bad_inputs.draw("numbers_in_a_table", SEED, folder)
    whole = records.read

    def lossy(path):
        change(rows := whole(path))
        return rows

    monkeypatch.setattr(records, "read", lossy)
    assert complaint in " ".join(bad_inputs.judge(case))


def test_a_reader_that_writes_is_found_out(folder, monkeypatch):
    case = bad_inputs.draw("whole", SEED, folder)
    whole = records.read

    def untidy(path):
        Path(path).with_suffix(".cache").touch()
        return whole(path)

    monkeypatch.setattr(records, "read", untidy)
    assert "changed" in " ".join(bad_inputs.judge(case))
