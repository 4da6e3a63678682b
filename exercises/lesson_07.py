"""Checks of the exercises of lesson 07, evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable

from exercises import exercise


@exercise
def finds_the_key(right: Callable) -> str | None:
    """right(answer, keys): whether an answer holds one of the keys as whole words."""
    cases = (
        ("It costs 40 euros.", ["40"], True, "a key inside the answer is not found"),
        (
            "After two weeks at most.",
            ["14 days", "two weeks"],
            True,
            "one of the keys is enough: you ask for all, or look at the first only",
        ),
        (
            "40",
            ["40"],
            True,
            "a key at the very beginning or end of the answer is missed: do not ask "
            "for a space on either side",
        ),
        (
            "It costs 140 euros.",
            ["40"],
            False,
            "40 was found in 140: a substring is not a whole word",
        ),
        (
            "It hangs over the drawing.",
            ["Wing"],
            False,
            "Wing was found in drawing: a substring is not a whole word",
        ),
        (
            "That is the WING plan.",
            ["Wing"],
            True,
            "capital letters made a right answer wrong: compare in one case",
        ),
        (
            "At six o’clock.",
            ["six o'clock"],
            True,
            "the apostrophe in the answer is a curly one: make both kinds alike first",
        ),
        (
            "It costs 6x50 euros.",
            ["6.50"],
            False,
            "the full stop of a key stands for any sign in a pattern: use re.escape",
        ),
        (
            "Three metres.",
            ["two metres"],
            False,
            "a single word of the key was enough for you: the whole key must be there",
        ),
        (
            "Wing, or Flock.",
            ["Wing"],
            True,
            "a comma after a key made it another word: punctuation may follow",
        ),
    )
    for answer, keys, wanted, fault in cases:
        found = right(answer, list(keys))
        if found is ...:
            return ...
        if bool(found) != wanted:
            return f"{answer!r} with the keys {keys}: {fault}"
    return None


@exercise
def measures_position_bias(bias: Callable) -> str | None:
    """bias(forward, swapped): (share of replies that name A, share of answers on which
    the verdict was the same in both orders); each a list of "A" and "B"."""
    named, same = bias(list("AABAB"), list("ABAAA"))
    if named is ... or same is ...:
        return ...

    def near(a, b):
        return math.isclose(a, b, abs_tol=1e-9)

    if near(named, 0.6) and near(same, 0.7):
        return "the two are swapped: first the share of A, then the share of answers"
    if near(named, 0.6) or near(named, 0.8):
        return (
            "the first share looks at one order only: count A among all ten replies, "
            "forward and swapped"
        )
    if near(named, 7) or near(same, 3):
        return "these are counts: divide by the number of replies, or of answers"
    if near(named, 0.3):
        return "that is the share of B: count A"
    if not near(named, 0.7):
        return f"7 of the 10 replies name A: you get {named}"
    if near(same, 0.4):
        return (
            "the same letter in both orders is another verdict, as yes and no have "
            "changed places: the same verdict is another letter"
        )
    if near(same, 0.3):
        return "you divide by the replies: there are five answers, not ten"
    if not near(same, 0.6):
        return f"on 3 of 5 answers the verdict was the same: you get {same}"
    return None


@exercise
def counts_the_questions(needed: Callable) -> str | None:
    """needed(differ, gap): questions from which 1.96 standard errors of a paired
    difference are at most gap; differ: share of rows on which the two models differ."""
    found = needed(0.4, 0.05)
    if found is ...:
        return ...

    def near(value):
        return math.isclose(found, value, rel_tol=1e-3)

    exact = 1.96**2 * 0.4 / 0.05**2
    if found == math.ceil(exact):
        if needed(0.1, 0.05) != 154 or needed(0.4, 0.1) != 154:
            return (
                "right for one case only: use both arguments, and round up once at the "
                "end"
            )
        return None
    if near(0.4 / 0.05**2):
        return (
            "1.96 is missing: with one standard error to either side the interval "
            "would be one of 68 %"
        )
    if near(1.96 * 0.4 / 0.05**2):
        return "1.96 has to be squared too: it stands outside the root"
    if near(1.96**2 * 0.4 / 0.05):
        return (
            "the gap is not squared: half the gap takes four times the questions, not "
            "twice"
        )
    if near(1.96**2 * 0.4 * 0.6 / 0.05**2):
        return (
            "d (1 - d) is the variance of a share: the difference per row is -1, 0 "
            "or 1, and its variance is about d"
        )
    if near(1.96 * math.sqrt(0.4) / 0.05) or near(math.sqrt(0.4) / 0.05):
        return "that is the root of n: square it"
    if 614 <= found < 615:
        return "a part of a question cannot be asked: round up"
    return f"a share of 0.4 differs and the gap is 0.05: 615 questions, not {found}"
