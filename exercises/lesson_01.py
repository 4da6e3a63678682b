"""Checks of the exercises of lesson 01, why finetune."""

from __future__ import annotations

import math
from collections.abc import Callable

from exercises import exercise, misplaced


@exercise
def recall_at(function: Callable):
    """function(found, wanted, k): the share of questions whose section was found."""
    found = ["abc", "def", "ghi", "jkl", "mno"]  # best first: ids of one letter
    found, wanted = [list(ids) for ids in found], ["a", "d", "i", "z", "n"]
    three, one = function(found, wanted, 3), function(found, wanted, 1)
    if three is ... or one is ...:
        return ...
    faults = {
        4: "that is a count of hits: divide it by the number of questions",
        4 / 15: "you divide by all sections found, which is precision: recall divides "
        "the hits by the number of questions",
        2 / 5: "you look at the first id only: a hit is any of the first k",
        3 / 5: "you look at k - 1 ids: the first k are ids[:k]",
        1 / 5: "that is the share of misses: count the questions that were hit",
    }
    for value, fault in faults.items():
        if math.isclose(three, value):
            return fault
    if math.isclose(one, three):
        return "k makes no difference in your function: only the first k ids count"
    if not (math.isclose(three, 4 / 5) and math.isclose(one, 2 / 5)):
        return f"5 questions with 4 hits at k=3 and 2 at k=1: you get {three} and {one}"


@exercise
def break_even(function: Callable):
    """function(once, before, after): requests until their savings make up for once."""
    requests = function(6, 0.75, 0.125)
    if requests is ...:
        return ...
    faults = {
        8: "you divide by the cost before: a tuned request is not free, so each saves "
        "only the difference",
        48: "you divide by the cost after: what counts is the difference, which each "
        "request saves",
        9: "you round down: after 9 requests a part is still to be earned back",
        9.6: "a part of a request cannot be made: round up",
    }
    if requests in faults:
        return faults[requests]
    if requests != 10:
        return (
            f"6 to earn back, 0.625 saved by each request: 10 requests, not {requests}"
        )
    for before, after in ((0.125, 0.75), (0.5, 0.5)):
        try:
            never = function(6, before, after) == math.inf
        except ZeroDivisionError:
            never = False
        if not never:
            return (
                "where a tuned request costs as much or more, nothing is saved: it is "
                "never paid for, so return math.inf"
            )


@exercise
def first_try(choices: dict[str, str]):
    """choices: situation -> "prompt", "retrieval" or "finetune"."""
    right = {  # by a word of the situation
        "rules": ("prompt", "they fit in, and few requests save little"),
        "products": ("retrieval", "an index is edited, weights would have to be tuned"),
        "tone": ("finetune", "manner is what examples teach, and they are at hand"),
        "lawyers": ("retrieval", "weights name no source, a fetched passage is one"),
        "million": ("finetune", "a short prompt to a small model saves each time"),
    }
    options = ("prompt", "retrieval", "finetune")
    says = "{case}: {choice} is not what to try first: {reason}"
    return misplaced(choices, options, right, says)


@exercise
def reading(verdicts: dict[tuple[float, float], str]):
    """verdicts: ends of the interval of A minus B -> the verdict on "A is better"."""
    if any(verdict is ... for verdict in verdicts.values()):
        return ...
    for (low, high), verdict in verdicts.items():
        shown = f"from {low:+.2f} to {high:+.2f}"
        if verdict not in ("holds", "does not hold", "undecided"):
            return f'{verdict!r}: write "holds", "does not hold" or "undecided"'
        if low <= 0 <= high and verdict == "holds":
            return f"{shown} includes 0: however far it reaches, A may be no better"
        if low <= 0 <= high and verdict == "does not hold":
            return (
                f"{shown} includes 0: that is undecided. Too few rows to tell is not "
                "the same as B being better"
            )
        if low > 0 and verdict != "holds":
            return f"{shown} lies above 0 as a whole: A is better, the claim holds"
        if high < 0 and verdict != "does not hold":
            return f"{shown} lies below 0 as a whole: B is better, not A"
