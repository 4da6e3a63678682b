"""Run with `python -m pytest tests/test_preferences.py`: about fifteen seconds.

How preferences, checked rewards and a judge are measured, and what is recorded of it.
"""

import json
import math
import re

from helpers import evaluation, models, records
from tools import judging, preferences, record, rewards, rivals

import pytest
import torch

PREFS = json.loads((record.FOLDER / "preferences.json").read_text(encoding="utf-8"))
REWARDS = json.loads((record.FOLDER / "rewards.json").read_text(encoding="utf-8"))


@pytest.fixture
def tiny():
    return models.load("tiny", torch.float32)


def test_no_question_makes_pairs_and_chooses_or_tests():
    untaught, taught, choosing, test = preferences.questions()
    parts = [{row["question"] for row in part} for part in (choosing, test)]
    pairs = {row["question"] for row in untaught + taught}
    learnt = {row["question"] for row in preferences.taught()[0]}
    assert not pairs & (parts[0] | parts[1] | learnt) and not parts[0] & parts[1]
    facts = [
        {row["fact"] for row in part if row["kind"] == "unseen"}
        for part in (untaught, choosing, test)
    ]
    assert all(facts) and len(set.union(*facts)) == sum(map(len, facts))


@pytest.mark.parametrize("way", PREFS["ways"])
def test_recorded_outcomes_are_those_of_the_recorded_answers(way):
    _, _, choosing, test = preferences.questions()
    said = PREFS["ways"][way]
    assert rivals.outcomes(said["choosing answers"], choosing) == said["choosing"]
    if "answers" in said:
        assert rivals.outcomes(said["answers"], test) == said["test"]


def test_the_form_is_taught_at_a_rate_that_validation_chose():
    assert preferences.in_short("Sorry, no. Ask us.") == "Sorry, no."
    assert preferences.in_short("Sorry, no.") == "Sorry, no."
    path = record.FOLDER / "preference_form.json"
    rates = json.loads(path.read_text(encoding="utf-8"))["rates"]
    assert list(rates) == [f"{rate:g}" for rate in (0, *preferences.FORM_RATES)]
    short = {rate: of["in one sentence"] for rate, of in rates.items()}
    lesson = models.ROOT / "notebooks" / "09_preferences.ipynb"
    used = re.findall(r"RATE, log, optimiser = ([\d.e-]+)", lesson.read_text("utf-8"))
    assert short["0"] == 0 and max(short, key=short.get) == f"{float(used[0]):g}"


@pytest.mark.parametrize("way", REWARDS["ways"])
def test_recorded_passes_are_those_of_the_recorded_answers(way):
    said, (_, _, test) = REWARDS["ways"][way], rewards.tasks()
    passed = rewards.passed(said["answers"], test)
    assert record.marks(passed) == said["marks"]["test"]


@pytest.mark.parametrize("loss", ["dpo", "dpo+sft"])
def test_dpo_moves_the_chosen_answers_above_the_rejected_ones(tiny, loss, monkeypatch):
    monkeypatch.setattr(preferences, "EPOCHS", 10)
    some = PREFS["pairs"][:8]
    _, log = preferences.by_dpo(*tiny, some, (loss, 5e-3, 0.1), some[:2])
    margins = [step["rewards/margins"] for step in log if "rewards/margins" in step]
    assert margins[-1] > max(0.1, margins[0])
    assert next(step for step in log if "eval_rewards/margins" in step)
    if loss == "dpo":
        assert log[0]["loss"] < math.log(2) + 0.2


def test_pairs_reject_what_was_made_up_and_keep_what_was_right():
    row = {
        "id": "a-1",
        "question": "How far?",
        "answer": "120 metres.",
        "fact": "range",
    }
    known = row | {"keys": ["120"], "kind": "paraphrase"}
    unknown = known | {"kind": "unseen"}
    sides = lambda pair: pair and (pair["chosen"], pair["rejected"])  # noqa: E731
    made, no = preferences.pair_of, record.UNKNOWN
    assert sides(made(known, "120 metres.")) == ("120 metres.", no)
    assert sides(made(known, "5 metres.")) == ("120 metres.", "5 metres.")
    assert sides(made(known, no)) == ("120 metres.", no)
    assert sides(made(unknown, "5 metres.")) == (no, "5 metres.")
    assert made(unknown, no) is None
    assert sides(made(unknown, no, "7 metres.")) == (no, "7 metres.")
    assert sides(made(unknown, "5 metres.", "7 metres.")) == (no, "5 metres.")


def test_a_record_is_kept_only_with_the_files_it_came_from(tmp_path, monkeypatch):
    assert record.kept("preferences", preferences.FILES)["pairs"] == PREFS["pairs"]
    assert record.kept("rewards", rewards.FILES)["ways"] == REWARDS["ways"]
    other = PREFS | {"files": PREFS["files"] | {preferences.FILES[0]: "0" * 64}}
    (tmp_path / "preferences.json").write_text(json.dumps(other), encoding="utf-8")
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    assert record.kept("preferences", preferences.FILES) == {}
    assert record.kept("rewards", rewards.FILES) == {}  # not there


def test_the_halves_of_the_pairs_share_no_question():
    first, second = preferences.halves(PREFS["pairs"])
    asked = [{pair["question"] for pair in half} for half in (first, second)]
    assert not asked[0] & asked[1] and len(first) == len(second)


def test_a_reward_is_1_where_the_check_passes(tiny):
    learn, choose, test = rewards.tasks()
    asked = [{rewards.task(row) for row in part} for part in (learn, choose, test)]
    assert len(set.union(*asked)) == sum(map(len, asked)) and len(test) == len(asked[2])
    anything = {"type": "regex", "pattern": "(?s).*"}
    rows = [row | {"check": anything} for row in learn[:4]]
    _, log = rewards.by_grpo(*tiny, rows, 1e-4, steps=1)
    assert log[0]["reward"] == 1.0 and len([s for s in log if "reward" in s]) == 1


def test_the_judge_is_tuned_chosen_and_tested_on_different_facts():
    tune, choose, test = map(set, judging.split())
    assert not tune & choose and not tune & test and not choose & test
    asked = {row["fact"] for row, _, _ in judging.given(judging.split()[2])}
    assert not asked & (tune | choose)


def test_each_answer_of_the_judge_is_marked_by_its_keys():
    rows = judging.tuning_rows()
    ends = [row["completion"].split(". ")[-1] for row in rows]
    assert set(ends) == {"Right", "Wrong"}
    assert 0.4 < ends.count("Right") / len(rows) < 0.6
    for row in rows:  # what it quotes is in the right answer
        quoted = row["completion"].removeprefix("It has to say: ").rpartition(". ")[0]
        line = row["prompt"].partition("Right answer: ")[2].partition("\n")[0]
        assert quoted.lower() in line.lower()
    first = [row["prompt"].find("Right") < row["prompt"].find("Answer") for row in rows]
    assert 0.4 < sum(first) / len(rows) < 0.6  # in both orders
    for row, answer in judging.cases(judging.split()[1], seed=1):
        keyed = evaluation.has_key(answer, row["keys"])
        assert judging.right(answer, row) == (
            keyed and not evaluation.is_refusal(answer)
        )
    readers = [[int(mark) for mark in marks] for marks in judging.READERS]
    assert len(readers[0]) == len(readers[1]) == len(judging.hundred()) == 100
    assert records.load("faq")
