"""Run with `python -m pytest tests/test_exercises_10.py`: a second, nothing needed.

A check that calls a wrong answer right teaches the mistake; one that calls a right
answer wrong costs an evening.
"""

import random

from exercises import lesson_10 as exercises

import pytest

chooses = exercises.chooses_a_way.__wrapped__
splits = exercises.splits_by_customer.__wrapped__
reads = exercises.reads_an_export.__wrapped__


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


def row_of(line, asks="{subject}\n{body}"):
    return {"input": asks.format(**line), "output": line["desk"].strip().lower()}


def rows_of(export, asks="{subject}\n{body}"):
    return [row_of(line, asks) for line in export if line["desk"].strip()]


def as_typed(export, tidy):
    rows = [row_of(line) | {"output": tidy(line["desk"])} for line in export]
    return [row for row in rows if row["output"].strip()]


WRONG_ROWS = {
    "without a desk": lambda export: [row_of(line) for line in export if line["desk"]],
    "rows came out": lambda export: rows_of(export)[1:],
    "spaces around": lambda export: as_typed(export, str.lower),
    "a capital": lambda export: as_typed(export, str.strip),
    "in their order": lambda export: rows_of(export)[::-1],
    "subject is lost": lambda export: rows_of(export, "{body}"),
    "body is lost": lambda export: rows_of(export, "{subject}"),
    "should be": lambda export: rows_of(export, "{subject} {body}"),
    "and no more": lambda export: [
        {**line, **row_of(line)} for line in export if line["desk"].strip()
    ],
}


def test_rows_of_an_export_are_called_right():
    assert reads(rows_of) is None


@pytest.mark.parametrize("fault", WRONG_ROWS)
def test_a_fault_in_reading_an_export_is_named(fault):
    assert fault in (reads(WRONG_ROWS[fault]) or "")


@pytest.mark.parametrize("check", [chooses, splits, reads])
def test_an_exercise_that_is_not_filled_in_is_not_judged(check):
    assert check(lambda *arguments: ...) is ...
