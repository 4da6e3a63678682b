"""Run with `python -m pytest tests/test_exercises_03.py`: seconds, nothing needed.

A check must pass the right answer and name the misconception of a wrong one.
"""

from exercises import lesson_03 as exercises
from helpers import models, records, templates

import pytest


def by_place(ids, prompt, length):
    return [-100] * prompt + ids[prompt:length] + [-100] * (len(ids) - length)


def by_id(ids, prompt, length):
    return [-100] * prompt + [-100 if i == 0 else i for i in ids[prompt:]]


def shifted(ids, prompt, length):
    labels = by_place(ids, prompt, length)
    return labels[:prompt] + [*ids[prompt + 1 : length], 0] + labels[length:]


def leaks(train, test, same=records.normalise, first=1):
    known = {same(text) for text in test}
    return [n for n, text in enumerate(train, first) if same(text) in known]


def three_fields(row, between="\n\n", closing="\n\n### Answer:\n"):
    asked = row["instruction"] + (between + row["input"] if row["input"] else "")
    return "### Question:\n" + asked + closing


def bare(text):
    return text.lower().rstrip("?")


def words(text):
    return set(records.normalise(text).split())


def overlapping(train, test, least):
    """The numbers of train questions that share that much of their words with one."""
    found = []
    for number, text in enumerate(train, 1):
        shares = [
            len(words(text) & words(t)) / len(words(text) | words(t)) for t in test
        ]
        if max(shares) >= least:
            found.append(number)
    return found


def as_bags(train, test):
    return leaks(train, test, same=lambda text: " ".join(sorted(words(text))))


def without_not(train, test):
    return leaks(train, test, same=lambda t: records.normalise(t).replace(" not ", " "))


RIGHT = {
    "label_mask": by_place,
    "find_leaks": leaks,
    "three_fields": three_fields,
}

# check, wrong answer, key word of the misconception
WRONG = [
    ("label_mask", by_id, "never learn to stop"),
    ("label_mask", lambda ids, prompt, length: list(ids), "write questions"),
    (
        "label_mask",
        lambda ids, prompt, length: [-100] * prompt + ids[prompt:],
        "padding",
    ),
    ("label_mask", shifted, "shifted"),
    ("label_mask", lambda ids, prompt, length: ids[prompt:length], "every token"),
    ("find_leaks", lambda a, b: leaks(a, b, same=str), "letter by letter"),
    ("find_leaks", lambda a, b: leaks(a, b, first=0), "from 1"),
    ("find_leaks", lambda a, b: [], "word for word"),
    (
        "find_leaks",
        lambda a, b: leaks(a, b, same=bare),
        "apostrophe",
    ),
    ("find_leaks", lambda a, b: [1, 3, 4, 5], "shares words"),
    ("find_leaks", lambda a, b: overlapping(a, b, 0.6), "digit"),
    ("find_leaks", as_bags, "order"),
    ("find_leaks", without_not, "small word"),
    ("three_fields", lambda r: three_fields(r) + r["output"], "answer that it is"),
    (
        "three_fields",
        lambda r: three_fields(r, closing="\n\n### Answer:"),
        "new line",
    ),
    (
        "three_fields",
        lambda r: three_fields(r | {"input": r["input"] or " "}),
        "without input",
    ),
    ("three_fields", lambda r: three_fields(r | {"input": ""}), "both"),
    ("three_fields", lambda r: three_fields(r, between=" "), "empty line"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_passes(name):
    assert getattr(exercises, name).__wrapped__(RIGHT[name]) is None


def test_the_prompt_that_helpers_write_passes():
    def by_helper(row):
        return templates.prompt(records.prompt(row), tokenizer).text

    _, tokenizer = models.load("tiny")
    assert exercises.three_fields.__wrapped__(by_helper) is None


@pytest.mark.parametrize("name", RIGHT)
def test_an_unfilled_exercise_is_not_called_wrong(name):
    assert getattr(exercises, name).__wrapped__(lambda *given: ...) is ...


@pytest.mark.parametrize(("name", "answer", "key"), WRONG)
def test_a_wrong_answer_hears_which_idea_went_astray(name, answer, key):
    said = getattr(exercises, name).__wrapped__(answer)
    assert said and said is not ... and key in said, said


def test_every_check_has_two_wrong_answers_at_least():
    for name in RIGHT:
        assert sum(name == other for other, *_ in WRONG) >= 2
