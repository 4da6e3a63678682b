"""Run with `python -m pytest tests/test_exercises_10.py`: a second, nothing needed.

A check that calls a wrong answer right teaches the mistake; one that calls a right
answer wrong costs an evening.
"""

import random

from exercises import lesson_10 as exercises

import pytest

chooses = exercises.chooses_a_way.__wrapped__
splits = exercises.splits_by_customer.__wrapped__
counts = exercises.counts_lora_memory.__wrapped__


def chosen(ways):
    unbeaten = [name for name, way in ways.items() if not way["beaten"]]
    return min(unbeaten, key=lambda name: ways[name]["cost"])


def most(ways, value):
    return max(ways, key=lambda name: value(ways[name]))


WRONG_CHOICES = {
    "lead exceeds the margin is not shown": lambda ways: most(
        ways, lambda way: way["right"]
    ),
    "cheapest of all": lambda ways: most(ways, lambda way: -way["cost"]),
    "ratio": lambda ways: (
        "small" if "small" in ways else most(ways, lambda w: w["right"] / w["cost"])
    ),
    "not an end in itself": lambda ways: "small" if "small" in ways else "net",
    "is no name": lambda ways: "the cheapest",
}


def test_the_cheapest_way_that_is_not_beaten_is_called_right():
    assert chooses(chosen) is None


@pytest.mark.parametrize("fault", WRONG_CHOICES)
def test_a_wrong_choice_hears_why(fault):
    assert fault in chooses(WRONG_CHOICES[fault])


def by_customer(rows, seed=0, share=0.2, shuffle=True):
    customers = sorted({row["customer"] for row in rows})
    if shuffle:
        random.Random(seed).shuffle(customers)
    held_out = set(customers[: round(share * len(customers))])
    return (
        [row for row in rows if row["customer"] not in held_out],
        [row for row in rows if row["customer"] in held_out],
    )


def by_row(rows):
    rows = random.Random(0).sample(rows, len(rows))
    return rows[27:], rows[:27]


WRONG_SPLITS = {
    "both sides": by_row,
    "shuffle the customers": lambda rows: by_customer(rows, shuffle=False),
    "second call": lambda rows: by_customer(rows, seed=random.random()),
    "train first": lambda rows: by_customer(rows)[::-1],
    "a fifth": lambda rows: by_customer(rows, share=0.03),
    "keep them all": lambda rows: by_customer(rows[:-5]),
    "twice": lambda rows: (rows, by_customer(rows)[1]),
}


@pytest.mark.parametrize("seed", range(10))
def test_a_split_by_customer_is_called_right_whatever_its_seed(seed):
    assert splits(lambda rows: by_customer(rows, seed)) is None


@pytest.mark.parametrize("fault", WRONG_SPLITS)
def test_a_wrong_split_hears_why(fault):
    assert fault in splits(WRONG_SPLITS[fault])


WRONG_SIZES = {
    "you train all weights": lambda frozen, trained: 16 * (frozen + trained) / 1e9,
    "a gradient, a precise copy": lambda frozen, trained: 2 * (frozen + trained) / 1e9,
    "frozen weights are missing": lambda frozen, trained: 16 * trained / 1e9,
    "in 16-bit numbers": lambda frozen, trained: (4 * frozen + 16 * trained) / 1e9,
    "in bytes": lambda frozen, trained: 2 * frozen + 16 * trained,
    "belong to the 16": lambda frozen, trained: (2 * frozen + 14 * trained) / 1e9,
    "not 3": lambda frozen, trained: 3,
}


def test_the_memory_of_lora_counted_right_is_called_right():
    assert counts(lambda frozen, trained: frozen * 2e-9 + trained * 16e-9) is None


@pytest.mark.parametrize("fault", WRONG_SIZES)
def test_memory_counted_wrong_hears_why(fault):
    assert fault in counts(WRONG_SIZES[fault])


@pytest.mark.parametrize("check", [chooses, splits, counts])
def test_an_exercise_that_is_not_filled_in_is_not_judged(check):
    assert check(lambda *arguments: ...) is ...
