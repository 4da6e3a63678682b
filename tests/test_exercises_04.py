"""Run with `python -m pytest tests/test_exercises_04.py`: a second, nothing needed.

A check that calls a wrong answer right teaches the mistake; one that calls a right
answer wrong costs an evening.
"""

from exercises import lesson_04 as exercises
from helpers import models, records, templates

import pytest

hydrates = exercises.hydrates_a_row.__wrapped__
cuts = exercises.cuts_the_prompt_off.__wrapped__
checks = exercises.checks_by_machine.__wrapped__

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides "
    "further context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that "
    "appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


def hydrated(row):
    return (WITH_INPUT if row["input"] else WITHOUT_INPUT).format(**row)


def replaced(row):
    text = WITH_INPUT if row["input"] else WITHOUT_INPUT
    text = text.replace("{instruction}", row["instruction"])
    return text.replace("{input}", row["input"] or "")


WRONG_PROMPTS = {
    "template with an input": lambda row: WITH_INPUT.format(**row),
    "template without one": lambda row: WITHOUT_INPUT.format(**row),
    "input is None": lambda row: (
        WITHOUT_INPUT if row["input"] == "" else WITH_INPUT
    ).format(**row),
    "output stands in": lambda row: hydrated(row) + row["output"],
    "new line": lambda row: hydrated(row).rstrip(),
    "braces": replaced,
    "is text": lambda row: {"prompt": hydrated(row)},
    "differs": lambda row: "Dear model!\n" + hydrated(row),
}


def test_a_right_prompt_is_called_right():
    assert hydrates(hydrated) is None


def test_the_prompt_that_helpers_write_is_called_right():
    def by_helper(row):
        return templates.prompt(records.prompt(row), tokenizer).text

    _, tokenizer = models.load("tiny")
    templates.give(tokenizer, templates.ALPACA)
    assert hydrates(by_helper) is None


@pytest.mark.parametrize("fault", WRONG_PROMPTS)
def test_a_wrong_prompt_hears_why(fault):
    assert fault in hydrates(WRONG_PROMPTS[fault])


def cut(written, lengths):
    return [row[max(lengths) :] for row in written]


WRONG_CUTS = {
    "own length": lambda w, n: [r[k:] for r, k in zip(w, n, strict=True)],
    "nothing is cut": lambda w, n: w,
    "shortest": lambda w, n: [r[min(n) :] for r in w],
    "padding is taken out": lambda w, n: [[i for i in r if i] for r in w],
    "by value": lambda w, n: [[i for i in r if i] for r in cut(w, n)],
    "differs from call to call": lambda w, n: [r[-2:] for r in w],
    "new ids are": lambda w, n: [r[max(n) + 1 :] for r in w],
}


def test_a_right_cut_is_called_right_also_as_tuples():
    assert cuts(cut) is None
    assert cuts(lambda w, n: tuple(tuple(row) for row in cut(w, n))) is None


@pytest.mark.parametrize("fault", WRONG_CUTS)
def test_a_wrong_cut_hears_why(fault):
    assert fault in cuts(WRONG_CUTS[fault])


WORD = {"type": "words", "min": 1, "max": 1}
RIGHT_CHECKS = [
    {"type": "exact_any", "values": ["elephant", "elephant."]},
    {"type": "all", "checks": [WORD, {"type": "contains", "any": ["elephant"]}]},
    {"type": "regex", "pattern": r"(?i)elephant\.?"},
]
WRONG_CHECKS = [
    ("too strict: 'Elephant'", {"type": "exact", "value": "elephant"}),
    ("too strict: 'Elephant.'", {"type": "exact_any", "values": ["elephant"]}),
    ("too strict", {"type": "exact_any", "values": ["mouse"]}),
    ("only mentions", {"type": "contains", "any": ["elephant"]}),
    ("too loose: 'mouse'", WORD),
    ("too loose: ''", {"type": "regex", "pattern": r"(?i)(elephant\.?)?"}),
    ("is a dict", "elephant"),
    ("is a dict", {"value": "elephant"}),
]


@pytest.mark.parametrize("check", RIGHT_CHECKS)
def test_a_check_that_tells_right_from_wrong_is_called_right(check):
    assert checks(check) is None


@pytest.mark.parametrize(("fault", "check"), WRONG_CHECKS)
def test_a_check_that_is_too_strict_or_too_loose_hears_why(fault, check):
    assert fault in checks(check)


def test_what_is_not_filled_in_is_neither_right_nor_wrong(capsys):
    assert hydrates(lambda row: ...) is ...
    assert cuts(lambda written, lengths: ...) is ...
    exercises.checks_by_machine(...)
    assert capsys.readouterr().out == "not done yet\n"
