"""Run with `python -m pytest tests/test_exercises_08.py`: a second, nothing needed.

A check that calls a wrong answer right teaches the mistake; one that calls a right
answer wrong costs an evening.
"""

from exercises import lesson_08 as exercises

import pytest

mends = exercises.mends.__wrapped__
rates = exercises.two_rates.__wrapped__
chooses = exercises.chooses.__wrapped__

ERRORS = ("the new bracket", "a pollen sensor", "the old prices", "a tax return")
CHANGES = ("teach", "own up", "replay", "refusals")


def test_the_fitting_changes_are_called_right():
    assert mends(dict(zip(ERRORS, CHANGES, strict=True))) is None


@pytest.mark.parametrize(
    ("place", "change", "fault"),
    [
        (0, "own up", "the answer is known"),
        (0, "refusals", "the answer is known"),
        (1, "teach", "nobody can give"),
        (1, "refusals", "nobody can give"),
        (2, "teach", "before the last tuning"),
        (3, "own up", "no business"),
        (3, "more steps", "choose"),
    ],
)
def test_a_change_that_does_not_fit_hears_why(place, change, fault):
    changes = list(CHANGES)
    changes[place] = change
    assert fault in mends(dict(zip(ERRORS, changes, strict=True)))


def two(declined, should):
    pairs = list(zip(declined, should, strict=True))
    caught = [no for no, wanted in pairs if wanted]
    wronged = [no for no, wanted in pairs if not wanted]
    return sum(caught) / len(caught), sum(wronged) / len(wronged)


WRONG_RATES = {
    "swapped": lambda no, wanted: two(no, wanted)[::-1],
    "counts": lambda no, wanted: (3, 1),
    "all questions": lambda no, wanted: (3 / len(no), 1 / len(no)),
    "one minus the first": lambda no, wanted: (0.75, 1 - two(no, wanted)[0]),
    "share answered": lambda no, wanted: (0.75, 1 - two(no, wanted)[1]),
    "3 of the 4": lambda no, wanted: (1.0, two(no, wanted)[1]),
    "1 of the 5": lambda no, wanted: (0.75, 0.5),
}


def test_two_right_rates_are_called_right():
    assert rates(two) is None


@pytest.mark.parametrize("fault", WRONG_RATES)
def test_wrong_rates_hear_why(fault):
    assert fault in rates(WRONG_RATES[fault])


def choose(arms, most_lost):
    floor = arms["first"]["old"] - most_lost
    good = [name for name, marks in arms.items() if marks["old"] >= floor]
    return max(good, key=lambda name: arms[name]["new"])


def changed_at_any_price(arms, most_lost):
    return choose(arms, most_lost) if len(arms) > 2 else "fast"


WRONG_CHOICES = {
    "gains most": lambda arms, lost: max(arms, key=lambda a: arms[a]["new"]),
    "not the aim": lambda arms, lost: max(arms, key=lambda a: arms[a]["old"]),
    "a small loss": lambda arms, lost: "first",
    "no arm": lambda arms, lost: arms["slow"],
    "nothing is changed": changed_at_any_price,
    "one limit only": lambda arms, lost: choose(arms, 0.05),
}


def test_a_right_choice_is_called_right():
    assert chooses(choose) is None


@pytest.mark.parametrize("fault", WRONG_CHOICES)
def test_a_wrong_choice_hears_why(fault):
    assert fault in chooses(WRONG_CHOICES[fault])


def test_an_unfilled_exercise_is_called_not_done():
    assert mends(dict.fromkeys(ERRORS, ...)) is ...
    assert rates(lambda declined, should: (..., ...)) is ...
    assert chooses(lambda arms, most_lost: ...) is ...
