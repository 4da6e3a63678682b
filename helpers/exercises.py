"""Exercises: a learner's answer in, and what it says about her understanding out.

Each check is called in a lesson with what the learner made. It prints "not done yet"
while `...` stands there, "right", or "not yet" and the misconception that explains the
answer. Nothing else of the course depends on this module.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from helpers import evaluation, templates


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


# Lesson 01


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
    if any(choice is ... for choice in choices.values()):
        return ...
    for situation, choice in choices.items():
        if choice not in ("prompt", "retrieval", "finetune"):
            return f'{choice!r}: choose "prompt", "retrieval" or "finetune"'
        for word, (wanted, reason) in right.items():
            if word in situation and choice != wanted:
                return f"{situation}: {choice} is not what to try first: {reason}"


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


# Lesson 02


@exercise
def label_mask(labels_of: Callable) -> str | None:
    """labels_of(ids, prompt_length, length) -> one label per id of a padded row.

    Padding has the id of end-of-text here, as with many tokenizers.
    """
    for ids, prompt, length in (
        ([5, 6, 7, 8, 9, 0, 0, 0], 3, 6),
        ([4, 4, 4, 4, 0, 0], 2, 5),
        ([5, 6, 7, 0], 2, 4),
    ):
        labels = labels_of(list(ids), prompt, length)
        if labels is ...:
            return ...
        labels = [int(label) for label in labels]
        right = [-100] * prompt + ids[prompt:length] + [-100] * (len(ids) - length)
        if labels == right:
            continue
        if len(labels) != len(ids):
            return (
                f"{len(labels)} labels for {len(ids)} tokens: every token has one, "
                "and -100 stands where nothing is learnt"
            )
        if any(label != -100 for label in labels[:prompt]):
            return (
                "the prompt is left to be learnt: the model would be taught to write "
                "questions; its labels are -100"
            )
        if labels[length - 1] == -100:
            return (
                "your mask also hides the end-of-text token: the model would never "
                "learn to stop. Mask by place, not by id"
            )
        if any(label != -100 for label in labels[length:]):
            return (
                "the padding is left to be learnt: the model would be taught to go on "
                "padding; its labels are -100"
            )
        return (
            "the answer's labels are not the answer's own ids: they are not shifted "
            "here either, the model does that itself"
        )
    return None


@exercise
def find_leaks(leaks: Callable) -> str | None:
    """leaks(train questions, test questions) -> numbers of the train rows, from 1."""
    train = [
        "When does the phone line open?",
        "Does light rain count as rain?",
        "what does WING cost",
        "What does Flock cost?",
        "Can the neighbour’s lad see my readings?",
        "When are you in the office?",
    ]
    test = [
        "What does Wing cost?",
        "When does the phone line open?",
        "Can the neighbour's lad see my readings?",
        "What is the cost of Flock?",
    ]
    found = leaks(list(train), list(test))
    if found is ...:
        return ...
    found = set(found)
    if found == {1, 3, 5}:
        return None
    if found == {0, 2, 4}:
        return "rows are counted from 1, as the lines of a file are"
    if 1 not in found:
        return "row 1 stands in the test word for word, and you did not name it"
    if 3 not in found:
        return (
            "you compare letter by letter: row 3 is a test question without its "
            "capitals and its question mark"
        )
    if 5 not in found:
        return (
            "row 5 differs from a test question only in its apostrophe, a curly one: "
            "records.normalise makes them alike"
        )
    row = min(found - {1, 3, 5})
    return (
        f"row {row} is named, which merely shares words with a test question: "
        "a leak is the same question"
    )


@exercise
def three_fields(prompt_of: Callable) -> str | None:
    """prompt_of({"instruction", "input", "output"}) -> the prompt of templates.QA."""
    for row in (
        {"instruction": "Which day?", "input": "We met on Monday.", "output": "day 1"},
        {"instruction": "Name a month.", "input": "", "output": "May, for one"},
    ):
        prompt = prompt_of(dict(row))
        if prompt is ...:
            return ...
        right = templates.QA.prompt(row)
        if prompt == right:
            continue
        if not isinstance(prompt, str):
            return f"a prompt is text, and yours is {type(prompt).__name__}"
        if row["output"] in prompt:
            return (
                "the output stands in your prompt: the model would be given the "
                "answer that it is to learn"
            )
        if prompt == right.rstrip("\n"):
            return (
                "the new line at the end is missing: without it the first word of "
                "the answer has other tokens than in training"
            )
        if not row["input"]:
            return (
                "a row without input has something in its place, perhaps an empty "
                f"line too many: {prompt!r}"
            )
        if row["input"] not in prompt or row["instruction"] not in prompt:
            return "instruction and input must both stand in the prompt"
        return (
            f"your prompt differs from the template's: {prompt!r}. Instruction and "
            "input are set apart by an empty line, between the two headings"
        )
    return None


@exercise
def same_question(same: Callable) -> str | None:
    """same(a, b) -> whether one of two questions could be dropped as a duplicate."""
    for a, b, truth, why in (
        (
            "does WING cost anything",
            "Does Wing cost anything?",
            True,
            "capitals and a question mark make no other question",
        ),
        (
            "Is it the base’s ring?",
            "Is it  the base's ring?",
            True,
            "a curly apostrophe or a second space makes no other question",
        ),
        (
            "What does E12 mean?",
            "What does E21 mean?",
            False,
            "most words alike is not enough: one other digit is another error code",
        ),
        (
            "Can I go from Wing to Flock?",
            "Can I go from Flock to Wing?",
            False,
            "the same words in another order can ask the opposite",
        ),
        (
            "Is the base waterproof?",
            "Is the base not waterproof?",
            False,
            "one small word, such as not, turns a question round",
        ),
    ):
        found = same(a, b)
        if found is ...:
            return ...
        if bool(found) != truth:
            said = "the same" if found else "different"
            return f"you call {a!r} and {b!r} {said}: {why}"
    return None


# Lesson 03


@exercise
def hydrates_a_row(hydrate: Callable) -> str | None:
    """hydrate({"instruction", "input", "output"}) -> the prompt of templates.ALPACA."""
    for row in (
        {"instruction": "Name a month.", "input": "", "output": "May will do"},
        {"instruction": "Name a day.", "input": None, "output": "Monday will do"},
        {"instruction": "Which day?", "input": "We met last Monday.", "output": "it"},
        {"instruction": "What is {input}?", "input": 'f"{x}"', "output": "a field"},
    ):
        prompt = hydrate(dict(row))
        if prompt is ...:
            return ...
        right = templates.ALPACA.prompt(row)
        if prompt == right:
            continue
        if not isinstance(prompt, str):
            return f"a prompt is text, and yours is {type(prompt).__name__}"
        if not row["input"] and "### Input:" in prompt:
            return (
                f"a row whose input is {row['input']!r} got the template with an "
                "input: the model would learn that the box may be empty"
            )
        if row["input"] and "### Input:" not in prompt:
            return (
                "a row with an input got the template without one: the model would "
                "be asked about a text that it does not see"
            )
        if prompt == right + row["output"]:
            return (
                "the output stands in your prompt: the model would be given the "
                "answer that it is to write"
            )
        if prompt == right.rstrip("\n"):
            return (
                "the new line at the end is missing: without it the first word of "
                "the answer has other tokens than in training"
            )
        if "{" in row["instruction"]:
            return (
                "braces inside a row's own text were taken for a place to fill: fill "
                "both fields at once, as str.format does"
            )
        return f"your prompt differs from the template's: {prompt!r}"
    return None


@exercise
def cuts_the_prompt_off(cut: Callable) -> str | None:
    """cut(written, lengths) -> the new ids of each row of a batch padded at the left.

    written: lists of ids, padding (0) and prompt included; lengths: of the prompts.
    """
    for written, lengths, right in (
        ([[0, 0, 5, 6, 7, 21, 22], [8, 9, 10, 11, 12, 31, 32]], [3, 5], "21 22, 31 32"),
        ([[8, 9, 31, 32, 33], [0, 5, 0, 21, 0]], [2, 1], "31 32 33, 0 21 0"),
    ):
        found = cut([list(row) for row in written], list(lengths))
        if found is ...:
            return ...
        found = [[int(i) for i in row] for row in found]
        wanted = [[int(i) for i in row.split()] for row in right.split(", ")]
        if found == wanted:
            continue
        pairs = list(zip(written, lengths, strict=True))
        if found == [row[length:] for row, length in pairs]:
            return (
                "each row is cut at its own length, but the short ones are padded at "
                "the left: their prompt ends where the longest prompt ends"
            )
        if found == written:
            return "nothing is cut off: the prompt stands in the answer"
        if found == [row[min(lengths) :] for row in written]:
            return (
                "all rows are cut at the shortest prompt: the others keep a piece of "
                "their prompt. Cut at the longest"
            )
        if found == [[i for i in row if i] for row in written]:
            return "the padding is taken out, and the prompt stays"
        if [[i for i in row if i] for row in wanted] == found:
            return (
                "ids are taken out by value: an id of 0 that the model wrote itself "
                "is part of the answer. Cut by place"
            )
        if found == [row[-2:] for row in written]:
            return "how many ids are new differs from call to call: count the prompt"
        return f"of {written} with prompts of {lengths} the new ids are {wanted}"
    return None


@exercise
def checks_by_machine(check: dict) -> str | None:
    """check: for "Which is heavier, an elephant or a mouse? Answer in one word."."""
    if not isinstance(check, dict) or "type" not in check:
        return "a check is a dict with a type, such as {'type': 'exact', 'value': ...}"
    for answer in ("elephant", "Elephant", "Elephant.", " elephant\n"):
        if not evaluation.passes(answer, check):
            return (
                f"too strict: {answer!r} fails, which is right. A capital letter or "
                "a full stop is no mistake"
            )
    for answer, why in (
        ("mouse", "which is wrong"),
        ("", "which says nothing"),
        ("The mouse is heavier than the elephant.", "which only mentions the word"),
        ("Elephant or mouse, who can say?", "which only mentions the word"),
        ("The elephant is the heavier of the two.", "though one word was asked for"),
        ("Whale.", "which is wrong"),
    ):
        if evaluation.passes(answer, check):
            return f"too loose: {answer!r} passes, {why}"
    return None


@exercise
def judges_a_filter(answer: dict[str, float]) -> str | None:
    """answer: precision and recall; of 40, 24 are good; 20 kept, 18 of them good."""
    precision, recall = answer["precision"], answer["recall"]
    if precision is ... or recall is ...:
        return ...

    def near(a, b):
        return math.isclose(a, b, abs_tol=0.005)

    if near(precision, 18 / 24) and near(recall, 18 / 20):
        return (
            "the two are swapped: precision looks at what was kept, recall at what "
            "is good"
        )
    if precision > 1 or recall > 1:
        return "these are counts or per cent: give shares from 0 to 1"
    if near(precision, 18 / 40) or near(recall, 18 / 40):
        return (
            "you divide by all 40 pairs: divide by those kept for precision, by those "
            "that are good for recall"
        )
    if near(recall, 20 / 24) or near(recall, 20 / 40):
        return "you count all that was kept: recall counts the good ones among them"
    if not near(precision, 18 / 20):
        return f"precision is {precision}: of 20 kept pairs 18 are good"
    if not near(recall, 18 / 24):
        return f"recall is {recall}: of 24 good pairs 18 were kept"
    return None
