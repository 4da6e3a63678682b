"""What lessons 04 and 09 show as recorded: sources, forgetting, limits."""

import json
import re

from helpers import evaluation, records
from tools import forgetting, limits, record, sources

import pytest


def recorded(name):
    path = record.FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_pairs_come_out_of_cells_that_are_there():
    book = json.loads(sources.NOTEBOOK.read_text(encoding="utf-8"))
    assert set(sources.CELLS) <= {cell["id"] for cell in book["cells"]}


def test_the_lists_of_the_tools_are_those_of_the_lesson():
    book = json.loads(sources.NOTEBOOK.read_text(encoding="utf-8"))
    of = {cell["id"]: "".join(cell["source"]) for cell in book["cells"]}
    said = re.sub(r'"\s+(?:jobs \+= )?"', "", of["instruct-107"] + of["instruct-109"])
    for listed in (limits.CAPITALS, forgetting.JOBS):
        assert " ".join(listed.split()) in said


def test_a_record_of_which_a_run_is_missing_is_not_written(tmp_path):
    (tmp_path / "one.json").write_text("{}")
    assert record.found_runs(tmp_path, ["one"]) == [{}]
    with pytest.raises(FileNotFoundError, match="two"):
        record.found_runs(tmp_path, ["one", "two"])


def test_every_source_has_as_many_runs_and_a_mark_for_each_question():
    found, asked = recorded("sources"), sources.test()
    assert found["ids"] == [row["id"] for row in asked]
    assert tuple(found["marks"]) == sources.SOURCES
    for runs in found["marks"].values():
        assert [len(run) for run in runs] == [len(asked)] * len(sources.SEEDS)


def test_no_source_holds_a_test_question():
    asked = {records.normalise(row["question"]) for row in sources.test()}
    for rows in recorded("sources")["pairs"].values():
        assert not asked & {records.normalise(row["question"]) for row in rows}


def test_what_forgetting_learns_from_is_not_what_it_is_tested_on():
    learn, test = forgetting.rows()
    tasks = [
        {(row["instruction"], row["input"]) for row in part} for part in (learn, test)
    ]
    assert not tasks[0] & tasks[1]
    found = recorded("forgetting")
    assert set(found["ways"]) == {"not tuned", *forgetting.WAYS}
    for runs in found["ways"].values():
        assert {len(run["instructions"]) for run in runs} == {len(test)}


def test_questions_limits_and_wording_of_the_test_were_never_tuned_on():
    learn, choose, test = limits.tasks()
    questions = [
        {row["question"].partition("?")[0] for row in part}
        for part in (learn, choose, test)
    ]
    assert not questions[0] & questions[2] and not questions[1] & questions[2]
    assert not set(limits.LEARNT[0]) & set(limits.ASKED[0])
    assert not set(limits.LEARNT[1]) & set(limits.ASKED[1])


@pytest.mark.parametrize("way", recorded("limits")["ways"])
def test_the_marks_of_a_limit_are_those_of_its_answers(way):
    found, (_, _, test) = recorded("limits")["ways"][way], limits.tasks()
    assert found["test"] == record.marks(limits.kept(found["answers"], test))
    lands, free = limits.price()
    assert len(found["capitals"]) == len(lands) and len(found["free"]) == len(free)


def test_a_limit_is_kept_by_words_and_not_by_silence():
    row = limits.limited("Why?", 3, "At most {n} words.")
    assert row["question"] == "Why? At most 3 words."
    for answer, good in (("One two three.", True), ("", False), ("a b c d", False)):
        assert evaluation.passes(answer, row["check"]) == good


def test_lesson_09_names_the_ways_in_the_order_of_the_record():
    assert [*recorded("limits")["ways"]] == [
        "first-0",  # before, GRPO, SFT, GRPO with half of the words
        "grpo-0.0003",
        "sft-0.0005",
        "grpo-half-0.0003",
    ]


def test_the_mended_reward_asks_for_half_of_the_words():
    row = limits.at_least_half(limits.limited("Why do cats purr?", 8, "{n} words."))
    for words, good in ((1, False), (3, False), (4, True), (8, True), (9, False)):
        assert evaluation.passes("word " * words, row["check"]) is good
