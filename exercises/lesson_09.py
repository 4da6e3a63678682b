"""Checks of the exercises of lesson 09, preferences."""

from __future__ import annotations

import math
from collections.abc import Callable

from exercises import exercise, misplaced

WAYS = ("SFT", "DPO", "KTO", "GRPO")


def near(a: float, b: float) -> bool:
    return math.isclose(a, b, abs_tol=1e-6)


@exercise
def answer_log_prob(log_prob: Callable) -> str | None:
    """log_prob(each, prompt_length): the log-probability of the answer.

    each[i] is that of token i + 1, given the tokens up to i: the first token of all is
    predicted by nothing. The prompt is the first prompt_length tokens.
    """
    each, prompt_length = [-9.0, -5.0, -1.0, -0.5, -0.25], 3  # answer: tokens 3, 4, 5
    found = log_prob(list(each), prompt_length)
    if found is ...:
        return ...
    if near(found, -15.75):
        return (
            "you sum over the prompt as well: the model did not choose the question, "
            "so only the tokens of the answer count"
        )
    if near(found, -0.75):
        return (
            "one token too few: token 3 is the first of the answer, and each[2] is its "
            "log-probability, because each[i] belongs to token i + 1"
        )
    if near(found, -6.75):
        return "one token too many: each[1] belongs to token 2, the last of the prompt"
    if near(found, -1.75 / 3) or near(found, -1.75 / 5):
        return (
            "this is a mean: DPO takes the sum over the answer, the log-probability of "
            "the answer as a whole"
        )
    if near(found, -0.125):
        return "log-probabilities are added, not multiplied"
    if near(found, 1.75):
        return "the sign is turned: this is the loss of SFT, not the log-probability"
    if not near(found, -1.75):
        return f"the answer has -1 - 0.5 - 0.25 = -1.75: you get {found}"
    if not near(log_prob([-2.0, -3.0], 1), -5.0):
        return "right for a prompt of three tokens only: use prompt_length"
    return None


def _loss(margin: float) -> float:
    return math.log1p(math.exp(-margin))


@exercise
def dpo_loss(loss: Callable) -> str | None:
    """loss(chosen, rejected, ref_chosen, ref_rejected, beta): DPO's loss of one pair,
    from the log-probabilities of both answers by the model and by its reference."""
    given = (-20.0, -26.0, -18.0, -23.0, 0.5)  # changes -2 and -3, margin 0.5 * 1
    found = loss(*given)
    if found is ...:
        return ...
    if near(found, _loss(-0.5)):
        return (
            "the margin is turned round: it is the change of the chosen answer minus "
            "the change of the rejected one"
        )
    if near(found, _loss(1.0)):
        return "beta is missing: the margin is beta times the difference of the changes"
    if near(found, _loss(0.5 * 6)) or near(found, _loss(6)):
        return (
            "the reference is missing: not the log-probabilities are compared, but how "
            "far each has moved from the reference's"
        )
    if near(found, -0.5) or near(found, 0.5):
        return "this is the margin: the loss is minus the log of its sigmoid"
    if near(found, -_loss(0.5)):
        return "the sign is turned: a loss is minus the log of the sigmoid"
    if near(found, 1 / (1 + math.exp(-0.5))) or near(found, 1 / (1 + math.exp(0.5))):
        return "the log is missing: the loss is minus the log of the sigmoid"
    if not near(found, _loss(0.5)):
        return f"with a margin of 0.5 the loss is {_loss(0.5):.4f}: you get {found}"
    if not near(loss(-5.0, -9.0, -5.0, -9.0, 0.1), math.log(2)):
        return "where nothing has moved, the loss is ln 2, whatever beta is"
    return None


@exercise
def advantages(advantage: Callable) -> str | None:
    """advantage(rewards): for each answer of a group, how far its reward is above the
    mean of the group, in standard deviations; zeros where all rewards are alike."""
    found = advantage([1.0, 0.0, 0.0, 1.0])
    if found is ...:
        return ...
    found = [float(x) for x in found]
    if len(found) != 4:
        return f"one number for each answer, so 4: you give {len(found)}"
    if found == [1.0, 0.0, 0.0, 1.0]:
        return (
            "these are the rewards: an answer counts by how much better it is than the "
            "others to the same prompt"
        )
    if all(near(x, s * 0.5) for x, s in zip(found, (1, -1, -1, 1), strict=True)):
        return "the mean is taken off; now divide by the standard deviation"
    if min(found) >= 0:
        return (
            "no answer is below the mean here: take the mean off before you divide, "
            "so that bad answers become less likely"
        )
    sizes = {round(abs(x), 2) for x in found}
    # the standard deviation over n, or as TRL has it over n - 1
    if sizes not in ({1.0}, {0.87}) or [x > 0 for x in found] != [1, 0, 0, 1]:
        return f"of rewards 1, 0, 0, 1 these are 1, -1, -1, 1: you get {found}"
    for alike in ([0.0] * 4, [1.0] * 4):
        try:
            none = [float(x) for x in advantage(list(alike))]
        except ZeroDivisionError:
            return "rewards that are all alike have the deviation 0: give zeros then"
        if any(math.isnan(x) for x in none) or none != [0.0] * 4:
            return (
                "where all rewards are alike no answer is better than another: every "
                f"advantage is 0, also where all are right; of {alike} you give {none}"
            )
    return None


@exercise
def fits(choices: dict[str, str]) -> str | None:
    """choices: what you have -> "SFT", "DPO", "KTO" or "GRPO"."""
    right = {  # by a word of the case
        "good answers": (
            "SFT",
            "there is one good answer to each question and nothing to compare it with",
        ),
        "side by side": (
            "DPO",
            "two answers to one question, one preferred, are pairs as they stand",
        ),
        "thumb": (
            "KTO",
            "each answer has a mark of its own, and no second answer to the same "
            "question stands beside it",
        ),
        "tests": (
            "GRPO",
            "a program can mark whatever the model writes, so the model may try again "
            "and again",
        ),
    }
    return misplaced(choices, WAYS, right, "{case}: not {choice!r}: {reason}")
