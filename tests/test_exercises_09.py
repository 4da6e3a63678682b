"""Run with `python -m pytest tests/test_exercises_09.py`: a second, nothing needed.

A check that calls a wrong answer right teaches the mistake; one that calls a right
answer wrong costs an evening.
"""

import math

from exercises import lesson_09 as exercises

import pytest

log_prob = exercises.answer_log_prob.__wrapped__
dpo_loss = exercises.dpo_loss.__wrapped__
advantages = exercises.advantages.__wrapped__
fits = exercises.fits.__wrapped__

CASES = (
    "2,000 good answers, written by hand",
    "two drafts side by side, the editor ticked one",
    "a log of answers, each with a thumb up or down",
    "programming tasks with unit tests",
)
WAYS = ("SFT", "DPO", "KTO", "GRPO")


def answer_only(each, prompt_length):
    return sum(each[prompt_length - 1 :])


WRONG_SUMS = {
    "over the prompt": lambda each, n: sum(each),
    "too few": lambda each, n: sum(each[n:]),
    "too many": lambda each, n: sum(each[n - 2 :]),
    "a mean": lambda each, n: sum(each[n - 1 :]) / len(each[n - 1 :]),
    "not multiplied": lambda each, n: math.prod(each[n - 1 :]),
    "sign is turned": lambda each, n: -sum(each[n - 1 :]),
    "three tokens only": lambda each, n: sum(each[2:]),
    "-1.75": lambda each, n: 0.0,
}


def test_a_sum_over_the_answer_is_called_right():
    assert log_prob(answer_only) is None


@pytest.mark.parametrize("fault", WRONG_SUMS)
def test_a_wrong_sum_hears_why(fault):
    assert fault in log_prob(WRONG_SUMS[fault])


def loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return math.log(1 + math.exp(-margin))


def at(margin):
    return math.log(1 + math.exp(-margin))


WRONG_LOSSES = {
    "turned round": lambda c, r, rc, rr, b: loss(r, c, rr, rc, b),
    "beta is missing": lambda c, r, rc, rr, b: loss(c, r, rc, rr, 1),
    "reference is missing": lambda c, r, rc, rr, b: at(b * (c - r)),
    "this is the margin": lambda c, r, rc, rr, b: b * ((c - rc) - (r - rr)),
    "sign is turned": lambda *given: -loss(*given),
    "log is missing": lambda *given: math.exp(-loss(*given)),
    "0.4741": lambda *given: 0.0,
    "nothing has moved": lambda *given: at(0.5),
}


def test_the_loss_of_a_pair_is_called_right():
    assert dpo_loss(loss) is None


@pytest.mark.parametrize("fault", WRONG_LOSSES)
def test_a_wrong_loss_hears_why(fault):
    assert fault in dpo_loss(WRONG_LOSSES[fault])


def advantage(rewards, less=0):
    mean = sum(rewards) / len(rewards)
    spread = sum((r - mean) ** 2 for r in rewards) / (len(rewards) - less)
    if spread == 0:
        return [0.0] * len(rewards)
    return [(r - mean) / spread**0.5 for r in rewards]


def without_care(rewards):
    mean = sum(rewards) / len(rewards)
    spread = sum((r - mean) ** 2 for r in rewards) / len(rewards)
    return [(r - mean) / spread**0.5 for r in rewards]


def rewards_if_alike(rewards):
    return rewards if len(set(rewards)) == 1 else advantage(rewards)


WRONG_ADVANTAGES = {
    "these are the rewards": lambda rewards: rewards,
    "now divide": lambda rewards: [r - 0.5 for r in rewards],
    "take the mean off": lambda rewards: [r / 0.5 for r in rewards],
    "you get": lambda rewards: [-a for a in advantage(rewards)],
    "one number for each": lambda rewards: advantage(rewards)[:1],
    "give zeros then": without_care,
    "also where all are right": rewards_if_alike,
}


def test_right_advantages_are_called_right():
    assert advantages(advantage) is None
    assert advantages(lambda rewards: advantage(rewards, less=1)) is None  # as TRL


@pytest.mark.parametrize("fault", WRONG_ADVANTAGES)
def test_wrong_advantages_hear_why(fault):
    assert fault in advantages(WRONG_ADVANTAGES[fault])


def test_the_fitting_ways_are_called_right():
    assert fits(dict(zip(CASES, WAYS, strict=True))) is None


@pytest.mark.parametrize(
    ("place", "way", "fault"),
    [
        (0, "DPO", "nothing to compare"),
        (1, "SFT", "pairs as they stand"),
        (1, "KTO", "pairs as they stand"),
        (2, "DPO", "mark of its own"),
        (3, "SFT", "try again"),
        (3, "PPO", "choose"),
    ],
)
def test_a_way_that_does_not_fit_hears_why(place, way, fault):
    ways = list(WAYS)
    ways[place] = way
    assert fault in fits(dict(zip(CASES, ways, strict=True)))


def test_an_unfilled_exercise_is_called_not_done():
    assert log_prob(lambda each, prompt_length: ...) is ...
    assert dpo_loss(lambda *given: ...) is ...
    assert advantages(lambda rewards: ...) is ...
    assert fits(dict.fromkeys(CASES, ...)) is ...
