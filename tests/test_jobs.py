"""Run with `python -m pytest tests/test_jobs.py`: seconds, no network.

What adapters are tuned on and chosen by: that no recipe is chosen on test rows, and
that the reader cannot know by heart what it is to read.
"""

import collections
import json
import os
import random
import subprocess
import sys

from helpers import records, retrieval
from tools import reading, rivals, search
from tools.jobs import INSTRUCTIONS, JOBS, MADE, crossed, mark_facts, mark_reading

import numpy as np
import pytest

ROOT = records.DATA.parent


def texts(rows):
    return {json.dumps(records.messages(row)) for row in rows}


@pytest.mark.parametrize("name", ["core", "wren", "router", "instructed"])
def test_a_recipe_is_not_chosen_on_rows_it_trains_on_or_on_test_rows(name):
    trial, final = JOBS[name](final=False), JOBS[name](final=True)
    assert not texts(trial.train) & texts(trial.held_out)
    assert not texts(final.train) & texts(final.held_out)
    assert not texts(final.held_out) & (texts(trial.train) | texts(trial.held_out))


@pytest.fixture(scope="module", params=[False, True], ids=["trial", "final"])
def parts(request):
    return reading.split(request.param)


def test_the_reader_sees_no_section_of_a_fact_that_it_is_scored_on(parts):
    train, shown, scored, sections = parts
    facts = {row["fact"] for row in scored}
    assert facts and not facts & {row["fact"] for row in train}
    assert not facts & {section["id"] for section in shown}
    assert facts <= {section["id"] for section in sections}


@pytest.fixture
def small(monkeypatch):
    """Twelve facts and a search that finds sections in their order: no encoder."""
    train, shown, _, _ = reading.split(final=True)
    some = shown[:12]
    names = [section["id"] for section in some]

    class FindsTheFirst:
        def __init__(self, sections):
            self.ids = [section["id"] for section in sections]

        def find(self, questions, count=3):
            return [self.ids[:count] for _ in questions]

        def scores(self, questions):
            """Sure of every second question."""
            sure = retrieval.FLOOR - np.arange(len(questions)) % 2
            return np.stack([sure, sure - 9], axis=1)

    monkeypatch.setattr(retrieval, "Search", FindsTheFirst)
    return [row for row in train if row["fact"] in (*names, None)], some


def test_an_answer_of_the_reader_stands_in_its_section_or_the_question_is_foreign(
    small,
):
    asked, some = small
    rows = reading.rows(asked, some, each=8)
    answers = [row["messages"][-1]["content"] for row in rows]
    missing = [answer == retrieval.MISSING for answer in answers]
    assert sum(missing) == len(some) // 2 and len(rows) == 8 * len(some) + 6
    known = {row["answer"] for row in asked}
    new = [a for a, m in zip(answers, missing, strict=True) if not m and a not in known]
    assert len(new) > len(rows) / 10  # changed facts
    for row, says_no in zip(rows, missing, strict=True):
        question, answer = (turn["content"] for turn in row["messages"])
        found = reading.NUMBER.findall(answer)
        assert says_no or all(number in question for number in found[:1]), answer


def test_the_reader_is_asked_with_the_first_section_and_told_how_sure_the_search_is(
    small,
):
    asked, some = small
    rows = [row for row in asked if row["fact"]][:20]
    found = reading.asked(rows, some)
    first = some[0]
    for row, given in zip(found, rows, strict=True):
        text = row["messages"][0]["content"]
        assert first["text"] in text and some[1]["text"] not in text
        assert (row["kind"] == "found") == (given["fact"] == first["id"])
    assert [row["sure"] for row in found] == [True, False] * 10
    marks = mark_reading([row["answer"] for row in rows], found)
    kinds = {"found": "", "missing": ""}
    for row in found:  # unsure is to say no, whatever the answer
        kinds[row["kind"]] += "01"[row["sure"] == (row["kind"] == "found")]
    assert marks == {kind: text for kind, text in kinds.items() if text}


def test_a_thing_that_changes_its_name_does_so_in_question_section_and_answer():
    texts = ["Which pole?", "The pole stands on the lawn.", "Poles: a lawn's pole."]
    question, section, answer = reading.renamed(texts, random.Random(3))
    new = question.removeprefix("Which ").removesuffix("?")
    assert new != "pole" and "pole" not in (section + answer).lower()
    assert section.count(new) == 1 and answer.startswith(new.capitalize() + "s:")
    assert reading.renamed(["It rains."], random.Random(0)) == ["It rains."]


def test_a_number_is_changed_in_section_and_answer_alike():
    rng = random.Random(0)
    answer, text = reading.changed(
        "It takes four days.", "Four days, or 12 hours. Four days.", ["four days"], rng
    )
    number = answer.split()[2]
    assert number != "four" and text.lower().count(number) == 2 and "12" in text
    name, text = reading.changed("Ask Pebble.", "Pebble knows.", ["Pebble"], rng)
    assert name.split()[1].rstrip(".") == text.split()[0] != "Pebble"
    assert reading.changed("It is blue.", "It is blue.", ["blue"], rng) is None


def test_declining_counts_only_where_it_is_wanted():
    rows = [
        {"kind": "paraphrase", "question": "q", "answer": "a b", "keys": ["b"]},
        {"kind": "out_of_scope", "question": "q", "answer": "no", "keys": None},
    ]
    sorry = "Sorry, I only know about the Kestrel."
    assert mark_facts([sorry, sorry], rows) == {"paraphrase": "0", "out_of_scope": "1"}
    assert mark_facts(["b", "b"], rows) == {"paraphrase": "1", "out_of_scope": "0"}
    said = ["I'm sorry, but I don't have that.", "It is a."]
    assert rivals.outcomes(said, rows) == {"paraphrase": "N", "out_of_scope": "W"}


def test_runs_of_the_search_have_names_of_their_own_and_are_found_again():
    names = [search.name(settings) for settings in search.grid()]
    assert len(set(names)) == len(names)
    assert search.recorded()
    for name, run in search.recorded().items():
        assert search.name(run["settings"]) == name
        assert search.kept(run["settings"])["marks"] == run["marks"]
        assert 0 < search.total(run) < 1


def test_the_test_was_asked_with_the_best_of_each_method_and_as_many_seeds():
    tested = json.loads(search.RECORDED.read_text(encoding="utf-8"))["test"]
    names = [search.name(run["settings"]) for run in tested]
    assert names == sorted(search.tested())  # so none is asked again, or is lost
    assert sorted(names) == sorted(map(search.name, search.compared(search.grid())))
    methods = collections.Counter(run["settings"]["method"] for run in tested)
    assert methods == {"lora": 3, "full": 3, "top half": 3}
    asked = JOBS["core"](final=True).held_out
    kinds = collections.Counter(row["kind"] for row in asked)
    for run in tested:
        assert {kind: len(marks) for kind, marks in run["marks"].items()} == kinds


def test_a_crossed_row_keeps_its_question_and_its_fact():
    rows = JOBS["wren"](final=True).train
    own = {}
    for row in rows:
        own.setdefault(row["fact"], set()).add(row["answer"])
    made = crossed(rows, passes=2)
    assert made[: len(rows)] == rows and len(made) == 2 * len(rows)
    again = list(zip(rows, made[len(rows) :], strict=True))
    assert all(new["question"] == row["question"] for row, new in again)
    assert all(new["answer"] in own[row["fact"]] for row, new in again)
    other = [row["fact"] for row, new in again if new["answer"] != row["answer"]]
    assert len(other) > len(rows) / 5 and None not in other  # refusals stay
    swapped = [new["answer"] for row, new in again if new["answer"] != row["answer"]]
    assert not any(answer.startswith(("Yes", "No,")) for answer in swapped)


def test_in_a_later_pass_a_made_instruction_has_an_input_that_no_file_holds():
    stored = records.read(INSTRUCTIONS)
    made = next(row for row in stored if row["kind"] == "sort_words")
    written = next(row for row in stored if row["kind"] == "rewrite_politely")
    out = MADE["fresh inputs"]([made, written], 2)
    assert out[:2] == [made, written] and out[3] == written
    assert out[2]["id"] == made["id"] and out[2]["output"] != made["output"]
    tasks = {(row["instruction"], row["input"]) for row in stored}
    assert (out[2]["instruction"], out[2]["input"]) not in tasks


def test_rows_are_the_same_whatever_the_hash_seed():
    code = "from tools import judging; print(judging.tuning_rows()[::9])"
    said = []
    for seed in "12":
        env = os.environ | {"PYTHONHASHSEED": seed}
        run = [sys.executable, "-c", code]
        done = subprocess.run(run, env=env, capture_output=True, check=True, cwd=ROOT)
        said.append(done.stdout)
    assert said[0] == said[1] and len(said[0]) > 10_000
