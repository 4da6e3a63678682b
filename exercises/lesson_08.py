"""Checks of the exercises of lesson 08, the second turn."""

from __future__ import annotations

import math
from collections.abc import Callable

from exercises import exercise, misplaced

CHANGES = ("teach", "own up", "replay", "refusals")


@exercise
def mends(changes: dict[str, str]) -> str | None:
    """changes: kind of error -> "teach", "own up", "replay" or "refusals"."""
    right = {  # by a word of the error
        "bracket": (
            "teach",
            "customers ask it and the answer is known, so write rows that give it",
        ),
        "pollen": (
            "own up",
            "nobody can give the answer, so the rows must show how to say so",
        ),
        "old prices": (
            "replay",
            "it knew them before the last tuning, so mix rows that taught them with "
            "the new ones",
        ),
        "tax return": (
            "refusals",
            "this is no business of the company's: show it more questions to decline",
        ),
    }
    return misplaced(changes, CHANGES, right, "{case}: not {choice!r}: {reason}")


@exercise
def two_rates(rates: Callable) -> str | None:
    """rates(declined, should): the share declined of the questions that should be, and
    the share declined of the others; both arguments are lists of True and False."""
    declined = [True, True, True, False, True, False, False, False, False]
    should = [True, True, True, True, False, False, False, False, False]
    caught, wronged = rates(list(declined), list(should))
    if caught is ... or wronged is ...:
        return ...

    def near(a, b):
        return math.isclose(a, b, abs_tol=1e-9)

    if near(caught, 0.2) and near(wronged, 0.75):
        return "the two are swapped: first those that should be declined"
    if near(caught, 3) or near(wronged, 1):
        return "these are counts: divide each by the number of its own questions"
    if near(caught, 3 / 9) or near(wronged, 1 / 9):
        return (
            "you divide by all questions: each rate has its own denominator, the "
            "questions that should be declined, and the others"
        )
    if near(wronged, 0.25):
        return (
            "the second is not one minus the first: it counts other questions, those "
            "that should be answered"
        )
    if near(wronged, 0.8):
        return "the second is the share answered: count those that were declined"
    if not near(caught, 0.75):
        return f"3 of the 4 that should be declined were: you get {caught}"
    if not near(wronged, 0.2):
        return f"1 of the 5 others was declined: you get {wronged}"
    return None


@exercise
def chooses(choose: Callable) -> str | None:
    """choose(arms, most_lost): the arm with the highest "new" among those whose "old"
    lies at most `most_lost` below that of the arm "first"; arms: name -> marks."""
    arms = {
        "first": {"old": 0.70, "new": 0.05},
        "fast": {"old": 0.45, "new": 0.90},
        "careful": {"old": 0.75, "new": 0.20},
        "slow": {"old": 0.68, "new": 0.60},
    }
    found = choose({name: dict(marks) for name, marks in arms.items()}, 0.05)
    if found is ...:
        return ...
    if found not in list(arms):
        return f"{found!r} is no arm: return the name of one of {', '.join(arms)}"
    if found == "fast":
        return (
            "'fast' gains most and loses 25 points of what was known: leave out the "
            "arms that lose too much, then take the best of the rest"
        )
    if found == "careful":
        return (
            "'careful' keeps most of what was known, and that is the limit, not the "
            "aim: among the arms within the limit the highest 'new' wins"
        )
    if found == "first":
        return (
            "'slow' lies 2 points below 'first', within the limit of 5: a small loss "
            "is allowed"
        )
    if choose({name: dict(arms[name]) for name in ("first", "fast")}, 0.05) != "first":
        return (
            "where every change loses too much, nothing is changed: 'first' itself is "
            "one of the arms"
        )
    if choose({name: dict(marks) for name, marks in arms.items()}, 0.4) != "fast":
        return "right for one limit only: use most_lost"
    return None
