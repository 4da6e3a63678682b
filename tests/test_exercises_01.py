"""Run with `python -m pytest tests/test_exercises_01.py`: a second, nothing needed.

A check that calls a wrong answer right teaches the mistake; one that calls a right
answer wrong costs an evening.
"""

import math

from exercises import lesson_01 as exercises

import pytest


def right_recall(found, wanted, k):
    return sum(w in ids[:k] for ids, w in zip(found, wanted, strict=True)) / len(found)


WRONG_RECALLS = {
    "count": lambda f, w, k: right_recall(f, w, k) * len(f),
    "precision": lambda f, w, k: right_recall(f, w, k) / k,
    "first id only": lambda f, w, k: right_recall(f, w, 1),
    "k - 1": lambda f, w, k: right_recall(f, w, k - 1),
    "misses": lambda f, w, k: 1 - right_recall(f, w, k),
    "k makes no difference": lambda f, w, k: right_recall(f, w, 3),
    "you get": lambda f, w, k: 0.9 * right_recall(f, w, k),
}


def right_break_even(once, before, after):
    return math.ceil(once / (before - after)) if before > after else math.inf


def signed_break_even(once, before, after):
    return math.ceil(once / (before - after))


WRONG_BREAK_EVENS = {
    "cost before": lambda once, before, after: math.ceil(once / before),
    "cost after": lambda once, before, after: math.ceil(once / after),
    "round down": lambda once, before, after: int(once / (before - after)),
    "round up": lambda once, before, after: once / (before - after),
    "math.inf": signed_break_even,
    "not 3": lambda once, before, after: 3,
}

SITUATIONS = {
    "a page of house rules, thirty questions a month": "prompt",
    "ten thousand products, new prices every morning": "retrieval",
    "replies in the firm's tone, a thousand good ones at hand": "finetune",
    "lawyers, who want the page that an answer comes from": "retrieval",
    "one short job, a million times a day, on small machines": "finetune",
}
WRONG_CHOICES = {
    "few requests": ("a page of house rules, thirty questions a month", "finetune"),
    "is edited": ("ten thousand products, new prices every morning", "finetune"),
    "manner": ("replies in the firm's tone, a thousand good ones at hand", "retrieval"),
    "no source": (
        "lawyers, who want the page that an answer comes from",
        "finetune",
    ),
    "each time": (
        "one short job, a million times a day, on small machines",
        "prompt",
    ),
    "choose": ("one short job, a million times a day, on small machines", "tuning"),
}

READINGS = {
    (0.04, 0.19): "holds",
    (-0.06, 0.12): "undecided",
    (-0.21, -0.03): "does not hold",
    (-0.01, 0.30): "undecided",
}
WRONG_READINGS = {
    "may be no better": ((-0.01, 0.30), "holds"),
    "Too few rows": ((-0.06, 0.12), "does not hold"),
    "A is better": ((0.04, 0.19), "undecided"),
    "B is better": ((-0.21, -0.03), "undecided"),
    "write": ((0.04, 0.19), "true"),
}


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.recall_at, right_recall),
        (exercises.break_even, right_break_even),
        (exercises.first_try, SITUATIONS),
        (exercises.reading, READINGS),
    ],
    ids=["recall_at", "break_even", "first_try", "reading"],
)
def test_a_right_answer_is_not_called_wrong(check, answer, capsys):
    assert check.__wrapped__(answer) is None
    check(answer)
    assert capsys.readouterr().out == "right\n"


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.recall_at, lambda found, wanted, k: ...),
        (exercises.break_even, lambda once, before, after: ...),
        (exercises.first_try, SITUATIONS | {next(iter(SITUATIONS)): ...}),
        (exercises.reading, dict.fromkeys(READINGS, ...)),
    ],
    ids=["recall_at", "break_even", "first_try", "reading"],
)
def test_what_is_not_filled_in_is_not_called_wrong(check, answer, capsys):
    assert check.__wrapped__(answer) is ...
    check(answer)
    assert capsys.readouterr().out == "not done yet\n"


@pytest.mark.parametrize("word", WRONG_RECALLS)
def test_a_recall_of_something_else_is_told_what_it_is(word):
    assert word in exercises.recall_at.__wrapped__(WRONG_RECALLS[word])


@pytest.mark.parametrize("word", WRONG_BREAK_EVENS)
def test_a_break_even_that_misleads_a_buyer_is_named(word):
    assert word in exercises.break_even.__wrapped__(WRONG_BREAK_EVENS[word])


def test_a_break_even_that_divides_by_no_saving_is_told_that_it_never_comes():
    def divides(once, before, after):
        return math.ceil(once / (before - after)) if before >= after else math.inf

    assert "math.inf" in exercises.break_even.__wrapped__(divides)


@pytest.mark.parametrize("word", WRONG_CHOICES)
def test_a_wrong_first_try_is_told_why(word):
    situation, choice = WRONG_CHOICES[word]
    fault = exercises.first_try.__wrapped__(SITUATIONS | {situation: choice})
    assert word in fault


@pytest.mark.parametrize("word", WRONG_READINGS)
def test_an_interval_read_wrongly_is_told_what_it_says(word):
    ends, verdict = WRONG_READINGS[word]
    assert word in exercises.reading.__wrapped__(READINGS | {ends: verdict})
