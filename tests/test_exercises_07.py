"""Run with `python -m pytest tests/test_exercises_07.py`: a second, nothing needed.

A check that calls a wrong answer right teaches the mistake; one that calls a right
answer wrong costs an evening.
"""

import math
import re

from exercises import lesson_07 as exercises
from helpers import evaluation

import pytest

finds = exercises.finds_the_key.__wrapped__
measures = exercises.measures_position_bias.__wrapped__
counts = exercises.counts_the_questions.__wrapped__


def plain(text):
    return text.casefold().replace("’", "'")


def holds(answer, keys):
    return any(
        re.search(rf"(?<!\w){re.escape(plain(key))}(?!\w)", plain(answer))
        for key in keys
    )


def word(pattern, text):
    return re.search(rf"(?<!\w){pattern}(?!\w)", text)


WRONG_KEYS = {
    "substring": lambda answer, keys: any(plain(k) in plain(answer) for k in keys),
    "all": lambda answer, keys: all(holds(answer, [key]) for key in keys),
    "first only": lambda answer, keys: holds(answer, keys[:1]),
    "very beginning": lambda answer, keys: any(
        f" {plain(k)} " in plain(answer).replace(".", " ") for k in keys
    ),
    "capital": lambda answer, keys: any(
        word(re.escape(plain(k)), answer.replace("’", "'")) for k in keys
    ),
    "apostrophe": lambda answer, keys: any(
        word(re.escape(k.lower()), answer.lower()) for k in keys
    ),
    "re.escape": lambda answer, keys: any(word(plain(k), plain(answer)) for k in keys),
    "single word": lambda answer, keys: any(
        holds(answer, [part]) for key in keys for part in key.split()
    ),
    "is not found": lambda answer, keys: answer in keys,
    "comma": lambda answer, keys: any(
        re.search(rf"(?<!\S){re.escape(plain(k))}\.?(?!\S)", plain(answer))
        for k in keys
    ),
}


@pytest.mark.parametrize("right", [holds, evaluation.has_key])
def test_a_right_search_for_keys_is_called_right(right):
    assert finds(right) is None


@pytest.mark.parametrize("fault", WRONG_KEYS)
def test_a_wrong_search_for_keys_hears_why(fault):
    assert fault in finds(WRONG_KEYS[fault])


def bias(forward, swapped):
    same = [a != b for a, b in zip(forward, swapped, strict=True)]
    return (forward + swapped).count("A") / len(same) / 2, sum(same) / len(same)


WRONG_BIAS = {
    "swapped": lambda f, s: bias(f, s)[::-1],
    "one order only": lambda f, s: (f.count("A") / len(f), bias(f, s)[1]),
    "counts": lambda f, s: ((f + s).count("A"), 3),
    "share of B": lambda f, s: (1 - bias(f, s)[0], bias(f, s)[1]),
    "another letter": lambda f, s: (bias(f, s)[0], 1 - bias(f, s)[1]),
    "five answers": lambda f, s: (bias(f, s)[0], bias(f, s)[1] / 2),
    "name A": lambda f, s: (0.5, bias(f, s)[1]),
    "on 3 of 5": lambda f, s: (bias(f, s)[0], 1.0),
}


def test_a_right_measure_of_position_bias_is_called_right():
    assert measures(bias) is None


@pytest.mark.parametrize("fault", WRONG_BIAS)
def test_a_wrong_measure_of_position_bias_hears_why(fault):
    assert fault in measures(WRONG_BIAS[fault])


def needed(differ, gap):
    return math.ceil(1.96**2 * differ / gap**2)


WRONG_COUNTS = {
    "1.96 is missing": lambda d, gap: math.ceil(d / gap**2),
    "1.96 has to be squared": lambda d, gap: 1.96 * d / gap**2,
    "gap is not squared": lambda d, gap: 1.96**2 * d / gap,
    "variance": lambda d, gap: 1.96**2 * d * (1 - d) / gap**2,
    "root": lambda d, gap: 1.96 * math.sqrt(d) / gap,
    "round up": lambda d, gap: int(1.96**2 * d / gap**2),
    "one case": lambda d, gap: 615,
    "615": lambda d, gap: 100,
}


def test_a_right_number_of_questions_is_called_right():
    assert counts(needed) is None


@pytest.mark.parametrize("fault", WRONG_COUNTS)
def test_a_wrong_number_of_questions_hears_why(fault):
    assert fault in counts(WRONG_COUNTS[fault])


def test_an_unfilled_exercise_is_called_not_done():
    assert finds(lambda answer, keys: ...) is ...
    assert measures(lambda forward, swapped: (..., ...)) is ...
    assert counts(lambda differ, gap: ...) is ...
