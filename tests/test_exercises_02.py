"""Run with `python -m pytest tests/test_exercises_02.py`: a second, nothing needed.

A check must pass the right answer and name the misconception of a wrong one.
"""

import math

from exercises import lesson_02 as exercises

import pytest


def next_tokens(ids):
    return ids[:-1], ids[1:]


def bits(losses, text):
    return sum(losses) / math.log(2) / len(text.encode())


STAGES = {
    "40,000 pages of shipping law, and nobody to write questions": (
        "continued pretraining"
    ),
    "2,000 tickets, each with the desk it went to": "SFT",
    "a large model does the job well, but must fit on a phone": "distillation",
    "two drafts for each letter, and which one clients liked": "preferences",
    "SQL queries, and a database that shows whether the result is right": (
        "verifiable rewards"
    ),
}
PAGES, TICKETS, PHONE, LIKED, DATABASE = STAGES

RIGHT = {
    "next_tokens": next_tokens,
    "bits_per_byte": bits,
    "stage": STAGES,
}
UNFILLED = {
    "next_tokens": lambda ids: (ids, ...),
    "bits_per_byte": lambda losses, text: ...,
    "stage": STAGES | {PHONE: ...},
}
# check, wrong answer, key word of the misconception
WRONG = [
    ("next_tokens", lambda ids: (ids, ids), "copy"),
    ("next_tokens", lambda ids: (ids[:-1], ids[:-1]), "copy"),
    ("next_tokens", lambda ids: (ids[1:], ids[:-1]), "look back"),
    ("next_tokens", lambda ids: (ids, ids[1:] + ids[:1]), "after the last token"),
    ("next_tokens", lambda ids: (ids, ids[1:]), "one label"),
    ("next_tokens", lambda ids: (ids[:1], ids[-1:]), "only one token"),
    ("next_tokens", lambda ids: (ids[:-2], ids[2:]), "one place"),
    ("bits_per_byte", lambda n, t: sum(n) / len(t.encode()), "nats"),
    (
        "bits_per_byte",
        lambda n, t: bits(n, t) * math.log(2) ** 2,
        "do not multiply",
    ),
    ("bits_per_byte", lambda n, t: sum(n) / math.log(2) / len(t), "characters"),
    ("bits_per_byte", lambda n, t: sum(n) / math.log(2) / len(n), "tokenizer"),
    ("bits_per_byte", lambda n, t: bits(n, t) / len(n), "mean"),
    ("bits_per_byte", lambda n, t: sum(n) / math.log(2), "whole text"),
    ("bits_per_byte", lambda n, t: 8.0, "not 8.0"),
    ("stage", STAGES | {PAGES: "SFT"}, "no answers"),
    ("stage", STAGES | {TICKETS: "preferences"}, "one right answer"),
    ("stage", STAGES | {PHONE: "SFT"}, "teacher"),
    ("stage", STAGES | {LIKED: "verifiable rewards"}, "compared two"),
    ("stage", STAGES | {DATABASE: "SFT"}, "mark any answer"),
    ("stage", STAGES | {DATABASE: "RLHF"}, "choose one"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_is_not_called_wrong(name, capsys):
    check = getattr(exercises, name)
    assert check.__wrapped__(RIGHT[name]) is None
    check(RIGHT[name])
    assert capsys.readouterr().out == "right\n"


@pytest.mark.parametrize("name", UNFILLED)
def test_what_is_not_filled_in_is_not_called_wrong(name, capsys):
    check = getattr(exercises, name)
    assert check.__wrapped__(UNFILLED[name]) is ...
    check(UNFILLED[name])
    assert capsys.readouterr().out == "not done yet\n"


@pytest.mark.parametrize(("name", "answer", "key"), WRONG)
def test_a_wrong_answer_hears_which_idea_went_astray(name, answer, key):
    said = getattr(exercises, name).__wrapped__(answer)
    assert said and said is not ... and key in said, said


def test_every_check_has_two_wrong_answers_at_least():
    for name in RIGHT:
        assert sum(name == other for other, *_ in WRONG) >= 2
