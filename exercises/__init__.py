"""Exercises: a learner's answer in, and what it says about her understanding out.

One module per lesson. Each check is called in the lesson with what the learner made. It
prints "not done yet" while `...` stands there, "right", or "not yet" and the
misconception that explains the answer. Nothing else of the course depends on them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable


def exercise(check: Callable) -> Callable:
    """Makes a check of a function of the learner's answers.

    check: returns None for a right answer, a sentence that names the misconception for
    a wrong one, and `...` where a learner's function still returns that.
    An error inside the learner's code is told as what it is, and never raised: the
    rest of the lesson runs on. The bare function is kept as `.__wrapped__`.
    """

    @functools.wraps(check)
    def checked(*answers) -> None:
        fault = ...
        if not any(answer is ... for answer in answers):
            try:
                fault = check(*answers)
            except Exception as error:
                fault = f"your code raised {type(error).__name__}: {error}"
        if fault is ...:
            print("not done yet")
        else:
            print("right" if fault is None else f"not yet: {fault}")

    return checked


def misplaced(choices: dict[str, str], options: tuple, right: dict, says: str):
    """What is wrong with the first of the learner's choices that does not fit.

    choices: case -> one of the options. right: a word of the case -> (the option that
    fits, the reason). says: the sentence for one that does not, with {case}, {choice}
    and {reason}. Returns `...` while a choice is open, None when all fit.
    """
    if any(choice is ... for choice in choices.values()):
        return ...
    for case, choice in choices.items():
        if choice not in options:
            return f"{choice!r}: choose one of {', '.join(map(repr, options))}"
        for word, (wanted, reason) in right.items():
            if word in case and choice != wanted:
                return says.format(case=case, choice=choice, reason=reason)
    return None
