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


# Lesson 04


@exercise
def diagnosis(causes: dict[str, str]) -> str | None:
    """causes: patient -> "rate", "prompt", "end-of-text", "zero_grad" or "template"."""
    right = {  # and what in the symptoms says so
        "A": ("end-of-text", "the answers begin rightly, and what fails is the end"),
        "B": ("rate", "the loss itself goes up, and nothing of the model is left"),
        "C": (
            "zero_grad",
            "it learns, only less from the same steps, as if most rows were not there",
        ),
        "D": ("template", "its curve is the good run's own: it was asked otherwise"),
        "E": ("prompt", "given only the opening, it writes what customers write"),
    }
    if any(cause is ... for cause in causes.values()):
        return ...
    names = {cause for cause, _ in right.values()}
    for patient, (wanted, symptom) in right.items():
        cause = causes[patient]
        if cause not in names:
            return f"{cause!r}: choose one of {', '.join(sorted(names))}"
        if cause != wanted:
            return f"patient {patient} does not suffer from {cause!r}: {symptom}"
    return None


@exercise
def steps_of(function: Callable) -> str | None:
    """function(rows, epochs, piece, accumulation, processes) -> steps of the run."""
    for given in ((1010, 3, 8, 2, 3), (100, 2, 4, 1, 4), (30, 5, 2, 2, 2)):
        rows, epochs, piece, accumulation, processes = given
        found = function(*given)
        if found is ...:
            return ...
        batch = piece * accumulation * processes
        if found == math.ceil(rows / batch) * epochs:
            continue
        faults = {
            math.ceil(rows / (piece * processes)) * epochs: "you count every piece: "
            "with accumulation the weights are moved once in so many pieces",
            math.ceil(rows / (piece * accumulation)) * epochs: "each of the processes "
            "takes rows of its own: together they are through sooner",
            math.ceil(rows / piece) * epochs: "you count pieces: accumulation and "
            "processes both make the batch of one step larger",
            rows // batch * epochs: "the last batch of an epoch is smaller, and "
            "counts: round up",
            math.ceil(rows / batch): "that is one epoch",
            math.ceil(rows * epochs / batch): "each epoch ends with a batch of its "
            "own: round up in each epoch, then multiply",
            rows * epochs / batch: "a step is whole: round up in each epoch",
        }
        said = faults.get(found, "rows of one step: piece x accumulation x processes")
        return f"for {given} the weights are not moved {found} times: {said}"
    return None


@exercise
def stops_at(function: Callable) -> str | None:
    """function(losses, patience) -> (best epoch, last epoch run), counted from 1."""
    for losses, patience, best, last in (
        ([3.0, 2.0, 2.5, 2.6, 2.7], 2, 2, 4),
        ([3.0, 2.0, 2.5, 2.6, 1.0], 2, 2, 4),
        ([3.0, 2.0, 2.5, 2.4, 1.9], 2, 2, 4),
        ([3.0, 2.0, 2.2, 1.9, 2.0, 2.1, 2.2], 2, 4, 6),
        ([3.0, 2.0, 1.0], 2, 3, 3),
        ([2.0, 2.0, 1.5, 1.8], 1, 1, 2),
    ):
        found = tuple(function(list(losses), patience))
        if ... in found:
            return ...
        if found == (best, last):
            continue
        given = f"for losses {losses} and a patience of {patience}"
        if found == (best - 1, last - 1):
            return f"{given}: epochs are counted from 1, not from 0"
        if found == (last, last) != (best, best):
            return (
                f"{given}: that is where it stopped. The best weights are older: the "
                "best epoch is that of the lowest loss so far"
            )
        if found == (losses.index(min(losses)) + 1, last):
            return (
                f"{given}: your best epoch lies in a future that the run never saw: it "
                f"was stopped after epoch {last}"
            )
        if found[0] == best and found[1] in (last + 1, last - 1):
            return (
                f"{given}: the patience is off by one: it stops when so many epochs "
                "in a row have not been better"
            )
        return (
            f"{given} you return {found}: compare each epoch with the best so far, "
            "not with the one before it, and only a lower loss is better"
        )
    return None


@exercise
def needed_gb(function: Callable) -> str | None:
    """function(weights, trained) -> gigabytes before the first row is read."""
    for weights, trained in ((7e9, 40e6), (135e6, 135e6), (8e9, 4e9)):
        found = function(weights, trained)
        if found is ...:
            return ...

        def near(size, found=found):
            return math.isclose(found, size, rel_tol=0.01)

        frozen = weights - trained
        if near((16 * trained + 2 * frozen) / 1e9):
            continue
        shown = f"for {weights:.3g} weights, {trained:.3g} of them trained: "
        if near(16 * trained + 2 * frozen):
            return shown + "these are bytes: a gigabyte is 10^9 of them"
        if near(16 * weights / 1e9):
            return shown + "frozen weights have no gradient and no averages"
        if near((8 * trained + 2 * frozen) / 1e9):
            return shown + "AdamW keeps averages, two for each trained weight"
        if near((12 * trained + 2 * frozen) / 1e9):
            return shown + (
                "one thing is missing: weight, gradient and two averages are four "
                "numbers of four bytes"
            )
        if near(16 * trained / 1e9):
            return shown + "the frozen weights take room too, two bytes each"
        if near((16 * trained + 4 * frozen) / 1e9):
            return shown + "the frozen ones are in bfloat16: two bytes, not four"
        return shown + (
            f"{found:.4g} GB is not right: a trained weight takes four numbers of four "
            "bytes, a frozen one takes two bytes"
        )
    return None


# Lesson 05


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
def chooses_a_mark(marks: dict[str, str]) -> str | None:
    """marks: task -> "exact match", "key fact", "ROUGE-L" or "people"."""
    right = {  # by a word of the task
        "desks": (
            "exact match",
            "six labels are all that can be said, and equal or not",
        ),
        "price": ("key fact", "the sentence may vary, the price in it may not"),
        "condolence": ("people", "tone is in no list of words and in no key"),
        "rough": ("ROUGE-L", "it costs nothing, and was made for summaries"),
    }
    if any(mark is ... for mark in marks.values()):
        return ...
    for task, mark in marks.items():
        if mark not in ("exact match", "key fact", "ROUGE-L", "people"):
            return f'{mark!r}: choose "exact match", "key fact", "ROUGE-L" or "people"'
        for word, (wanted, reason) in right.items():
            if word in task and mark != wanted:
                if mark == "people":
                    return (
                        f"{task}: people are the dearest mark, and not needed: {reason}"
                    )
                return f"{task}: {mark} would miss what matters: {reason}"
    return None


@exercise
def measures_position_bias(bias: Callable) -> str | None:
    """bias(forward, swapped): (share of replies that name A, share of pairs in which
    the same answer was named in both orders); each a list of "A" and "B"."""
    named, same = bias(list("AABAB"), list("ABAAA"))
    if named is ... or same is ...:
        return ...

    def near(a, b):
        return math.isclose(a, b, abs_tol=1e-9)

    if near(named, 0.6) and near(same, 0.7):
        return "the two are swapped: first the share of A, then the share of pairs"
    if near(named, 0.6) or near(named, 0.8):
        return (
            "the first share looks at one order only: count A among all ten replies, "
            "forward and swapped"
        )
    if near(named, 7) or near(same, 3):
        return "these are counts: divide by the number of replies, or of pairs"
    if near(named, 0.3):
        return "that is the share of B: count A"
    if not near(named, 0.7):
        return f"7 of the 10 replies name A: you get {named}"
    if near(same, 0.4):
        return (
            "the same letter in both orders is another answer, as the two have changed "
            "places: the same answer is another letter"
        )
    if near(same, 0.3):
        return "you divide by the replies: there are five pairs, not ten"
    if not near(same, 0.6):
        return f"in 3 of 5 pairs the same answer was named: you get {same}"
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


# Lesson 06


@exercise
def chooses_a_way(choose: Callable) -> str | None:
    """choose({name: {"right", "beaten", "cost"}}): the cheapest that is not beaten."""

    def way(right, beaten, cost):
        return {"right": right, "beaten": beaten, "cost": cost}

    for ways, wanted, why in (
        (
            {
                "large": way(0.83, False, 9.0),
                "small": way(0.81, False, 0.5),
                "rule": way(0.52, True, 0.1),
            },
            "small",
            {
                "large": "it has the highest share, but the small one is not beaten: "
                "on these rows nobody can tell them apart, and it costs less",
                "rule": "it is the cheapest of all, and beaten: the difference is "
                "shown, so drop it before you look at the cost",
            },
        ),
        (
            {
                "words": way(0.78, False, 0.01),
                "net": way(0.62, True, 0.4),
                "prompt": way(0.17, True, 2.0),
            },
            "words",
            {
                "net": "a net is no aim in itself: it is beaten, and costs more",
                "prompt": "it is beaten: `beaten` is True for those to drop",
            },
        ),
        (
            {"a": way(0.90, False, 3.0), "b": way(0.70, True, 0.2)},
            "a",
            {
                "b": "it is cheap and beaten. A ratio of right answers to cost hides "
                "that, and so does the cost alone"
            },
        ),
    ):
        name = choose({key: dict(value) for key, value in ways.items()})
        if name is ...:
            return ...
        if name not in ways:
            return f"{name!r} is no name of a way: return one of {', '.join(ways)}"
        if name != wanted:
            return f"of {', '.join(ways)} you choose {name}: {why[name]}"
    return None


@exercise
def splits_by_customer(split: Callable) -> str | None:
    """split(rows) -> (train, test): all rows, no customer on both sides."""
    rows = [  # as an export often is: sorted by desk, and so by customer
        {"customer": f"c{n // 3:02}", "input": f"message {n}", "output": desk}
        for n, desk in enumerate(["app"] * 45 + ["billing"] * 45 + ["orders"] * 45)
    ]
    found = split([dict(row) for row in rows])
    if found is ...:
        return ...
    train, test = map(list, found)
    everything = sorted(row["input"] for row in train + test)
    if len(set(everything)) < len(everything):
        return "some rows stand twice: each goes to one side only"
    if everything != sorted(row["input"] for row in rows):
        return f"{len(rows)} rows went in and {len(everything)} came out: keep them all"
    both = {row["customer"] for row in train} & {row["customer"] for row in test}
    if both:
        return (
            f"customer {min(both)} is on both sides, with {len(both)} in all: shuffle "
            "and cut the customers, not the rows"
        )
    if len(train) < len(test):
        return "the test is the larger part: return train first, then test"
    if not 0.1 <= len(test) / len(rows) <= 0.35:
        return f"{len(test)} of {len(rows)} rows are in the test: a fifth was asked for"
    if len({row["output"] for row in test}) == 1:
        return (
            f"all test rows are of the desk {test[0]['output']}: the file is sorted, "
            "so shuffle the customers before you cut"
        )
    again = [row["input"] for row in split([dict(row) for row in rows])[1]]
    if sorted(again) != sorted(row["input"] for row in test):
        return (
            "a second call splits otherwise: without a seed, rows that were test "
            "yesterday are trained on today"
        )
    return None


@exercise
def counts_lora_memory(gigabytes: Callable) -> str | None:
    """gigabytes(parameters, trained): of frozen weights and those added by LoRA."""
    billion, million = 1_000_000_000, 1_000_000
    for parameters, trained in ((7 * billion, 50 * million), (billion, 20 * million)):
        found = gigabytes(parameters, trained)
        if found is ...:
            return ...
        faults = {
            2 * parameters + 16 * trained: None,
            16 * parameters: "you train all weights: with LoRA only the added ones "
            "have gradients and averages",
            16 * (parameters + trained): "you train all weights: with LoRA only the "
            "added ones have gradients and averages",
            2 * (parameters + trained): "the trained weights count 2 bytes with you: "
            "they need a gradient, a precise copy and Adam's two averages as well",
            2 * parameters + 4 * trained: "the trained weights count 4 bytes with "
            "you: gradient is there, but Adam's averages and the precise copy are not",
            2 * parameters + 14 * trained: "the added weights are new: their own 2 "
            "bytes belong to the 16",
            16 * trained: "the frozen weights are missing: they get no gradient, but "
            "they must be in memory to compute with",
            4 * parameters + 16 * trained: "the frozen weights count 4 bytes with "
            "you: in 16-bit numbers they take 2",
        }
        for size, fault in faults.items():
            if math.isclose(found, size):
                return "that is in bytes: divide by 1e9 for gigabytes"
            if math.isclose(found, size / 1e9) and fault:
                return fault
        if not math.isclose(found, (2 * parameters + 16 * trained) / 1e9):
            right = (2 * parameters + 16 * trained) / 1e9
            return (
                f"{parameters / 1e9:g} billion frozen and {trained / 1e6:g} million "
                f"trained weights take {right:g} GB, not {found}"
            )
    return None
