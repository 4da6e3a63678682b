"""Run with `python -m pytest tests/test_exercises_06.py`: a second, nothing needed.

A check that calls a wrong answer right teaches the mistake; one that calls a right
answer wrong costs an evening.
"""

from exercises import lesson_06 as exercises

import pytest

needed_gb = exercises.needed_gb.__wrapped__

WRONG_SIZES = {
    "these are bytes": lambda n, t: 16 * t + 2 * (n - t),
    "no gradient": lambda n, t: 16 * n / 1e9,
    "AdamW": lambda n, t: (8 * t + 2 * (n - t)) / 1e9,
    "missing": lambda n, t: (12 * t + 2 * (n - t)) / 1e9,
    "take room": lambda n, t: 16 * t / 1e9,
    "bfloat16": lambda n, t: (16 * t + 4 * (n - t)) / 1e9,
    "is not right": lambda n, t: 1.0,
}


def test_the_right_size_is_called_right():
    assert needed_gb(lambda n, t: (16 * t + 2 * (n - t)) / 1e9) is None


@pytest.mark.parametrize("fault", WRONG_SIZES)
def test_a_wrong_size_hears_why(fault):
    assert fault in (needed_gb(WRONG_SIZES[fault]) or "")


def test_an_exercise_is_not_done_while_it_gives_an_ellipsis():
    assert needed_gb(lambda *given: ...) is ...
