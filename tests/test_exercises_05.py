"""Run with `python -m pytest tests/test_exercises_05.py`: a second, nothing needed.

A check that calls a wrong answer right teaches the mistake; one that calls a right
answer wrong costs an evening.
"""

import math

from exercises import lesson_05 as exercises

import pytest

diagnosis = exercises.diagnosis.__wrapped__
steps_of = exercises.steps_of.__wrapped__
stops_at = exercises.stops_at.__wrapped__

RIGHT = dict(
    zip(
        "ABCDE",
        ("end-of-text", "rate", "zero_grad", "template", "prompt"),
        strict=True,
    )
)


def test_the_right_diagnosis_is_called_right():
    assert diagnosis(RIGHT) is None


@pytest.mark.parametrize(
    ("patient", "cause", "word"),
    [
        ("A", "prompt", "begin correctly"),
        ("B", "template", "goes up"),
        ("C", "rate", "less from the same steps"),
        ("D", "end-of-text", "asked differently"),
        ("E", "zero_grad", "customers"),
        ("E", "mask", "choose one of"),
    ],
)
def test_a_wrong_diagnosis_hears_of_the_symptom(patient, cause, word):
    assert word in diagnosis(RIGHT | {patient: cause})


def test_a_diagnosis_is_not_done_while_a_patient_waits():
    assert diagnosis(RIGHT | {"C": ...}) is ...


def ceiling(rows, batch):
    return -(-rows // batch)


WRONG_STEPS = {
    "every piece": lambda n, e, p, a, w: ceiling(n, p * w) * e,
    "processes": lambda n, e, p, a, w: ceiling(n, p * a) * e,
    "count pieces": lambda n, e, p, a, w: ceiling(n, p) * e,
    "last batch": lambda n, e, p, a, w: n // (p * a * w) * e,
    "one epoch": lambda n, e, p, a, w: ceiling(n, p * a * w),
    "each epoch": lambda n, e, p, a, w: ceiling(n * e, p * a * w),
    "is whole": lambda n, e, p, a, w: n * e / (p * a * w),
    "rows of one step": lambda n, e, p, a, w: n,
}


def test_the_right_number_of_steps_is_called_right():
    assert steps_of(lambda n, e, p, a, w: math.ceil(n / (p * a * w)) * e) is None


@pytest.mark.parametrize("fault", WRONG_STEPS)
def test_a_wrong_number_of_steps_hears_why(fault):
    assert fault in (steps_of(WRONG_STEPS[fault]) or "")


def stopped(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best == patience:
            break
    return best + 1, epoch + 1


def beside_the_one_before(losses, patience):
    worse = 0
    for epoch in range(1, len(losses)):
        worse = worse + 1 if losses[epoch] >= losses[epoch - 1] else 0
        if worse == patience:
            break
    seen = losses[: epoch + 1]
    return seen.index(min(seen)) + 1, epoch + 1


WRONG_STOPS = {
    "from 1": lambda losses, n: tuple(e - 1 for e in stopped(losses, n)),
    "lowest loss so far": lambda losses, n: (stopped(losses, n)[1],) * 2,
    "future": lambda losses, n: (losses.index(min(losses)) + 1, stopped(losses, n)[1]),
    "off by one": lambda losses, n: stopped(losses, n + 1),
    "the one before": beside_the_one_before,
}


def test_the_right_stop_is_called_right():
    assert stops_at(stopped) is None


@pytest.mark.parametrize("fault", WRONG_STOPS)
def test_a_wrong_stop_hears_why(fault):
    assert fault in (stops_at(WRONG_STOPS[fault]) or "")


@pytest.mark.parametrize(
    "check", [steps_of, lambda f: stops_at(lambda *given: (..., ...))]
)
def test_an_exercise_is_not_done_while_it_gives_an_ellipsis(check):
    assert check(lambda *given: ...) is ...
