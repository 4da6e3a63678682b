"""Run with `python -m pytest tests/test_exercises_06.py`: a second, nothing needed.

A check that calls a wrong answer right teaches the mistake; one that calls a right
answer wrong costs an evening.
"""

from exercises import lesson_06 as exercises

import pytest

needed_gb = exercises.needed_gb.__wrapped__
lora_weights = exercises.lora_weights.__wrapped__
in_pieces = exercises.in_pieces.__wrapped__

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


WRONG_WEIGHTS = {
    "frozen weights": lambda m, r: sum(a * b for a, b in m),
    "not multiplied": lambda m, r: sum(r * a * b for a, b in m),
    "counts once in each": lambda m, r: sum(r * r * (a + b) for a, b in m),
    "not every matrix is square: A": lambda m, r: sum(2 * r * a for a, b in m),
    "not every matrix is square": lambda m, r: sum(2 * r * b for a, b in m),
    "rank 1": lambda m, r: sum(a + b for a, b in m),
    "A alone": lambda m, r: sum(r * b for a, b in m),
    "B alone": lambda m, r: sum(r * a for a, b in m),
    "first matrix alone": lambda m, r: r * sum(m[0]),
    "is not right": lambda m, r: 7,
}


def test_the_weights_of_an_adapter_are_called_right():
    assert lora_weights(lambda m, r: sum(r * (a + b) for a, b in m)) is None


@pytest.mark.parametrize("fault", WRONG_WEIGHTS)
def test_wrong_weights_of_an_adapter_hear_why(fault):
    assert fault in (lora_weights(WRONG_WEIGHTS[fault]) or "")


KEPT = {
    "gradient of a step": "same",
    "steps of an epoch": "same",
    "activations held at a time": "less",
    "memory of gradients and averages": "same",
    "operations of an epoch": "same",
}
WRONG_EFFECTS = {
    "gradients add up": {"gradient of a step": "less"},
    "moved once for 16 rows": {"steps of an epoch": "more"},
    "let go before the next": {"activations held at a time": "same"},
    "one of each for a trained weight": {"memory of gradients and averages": "less"},
    "that is checkpointing": {"operations of an epoch": "more"},
    "write 'same', 'less' or 'more'": {"gradient of a step": "yes"},
}


def test_what_accumulation_keeps_is_called_right():
    assert in_pieces(dict(KEPT)) is None


@pytest.mark.parametrize("fault", WRONG_EFFECTS)
def test_a_wrong_idea_of_accumulation_hears_why(fault):
    assert fault in (in_pieces(KEPT | WRONG_EFFECTS[fault]) or "")


def test_an_exercise_is_not_done_while_it_gives_an_ellipsis():
    assert needed_gb(lambda *given: ...) is ...
    assert lora_weights(lambda *given: ...) is ...
    assert in_pieces(KEPT | {"steps of an epoch": ...}) is ...
