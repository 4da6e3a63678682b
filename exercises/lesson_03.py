"""Checks of the exercises of lesson 03, data preparation."""

from __future__ import annotations

from collections.abc import Callable

from exercises import exercise
from helpers import records, templates

from jinja2 import Template


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
        "What does E21 mean?",
        "Can I go from Flock to Wing?",
        "Is the base not waterproof?",
    ]
    test = [
        "What does Wing cost?",
        "When does the phone line open?",
        "Can the neighbour's lad see my readings?",
        "What is the cost of Flock?",
        "What does E12 mean?",
        "Can I go from Wing to Flock?",
        "Is the base waterproof?",
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
        return "row 1 appears in the test word for word, and you did not name it"
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
    whys = {
        6: "one other digit is another error code, though most words are alike",
        7: "the same words in another order ask the opposite",
        8: "one small word, such as not, turns a question round",
    }
    row = min(found & whys.keys() or found - {1, 3, 5})
    why = whys.get(row, "a leak is the same question")
    return f"row {row} is named, which merely shares words with a test question: {why}"


@exercise
def three_fields(prompt_of: Callable) -> str | None:
    """prompt_of({"instruction", "input", "output"}) -> the prompt of templates.QA."""
    template = Template(templates.QA)
    for row in (
        {"instruction": "Which day?", "input": "We met on Monday.", "output": "day 1"},
        {"instruction": "Name a month.", "input": "", "output": "May, for one"},
    ):
        prompt = prompt_of(dict(row))
        if prompt is ...:
            return ...
        right = template.render(
            messages=records.prompt(row), add_generation_prompt=True
        )
        if prompt == right:
            continue
        if not isinstance(prompt, str):
            return f"a prompt is text, and yours is {type(prompt).__name__}"
        if row["output"] in prompt:
            return (
                "the output appears in your prompt: the model would be given the "
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
            return "instruction and input must both appear in the prompt"
        return (
            f"your prompt differs from the template's: {prompt!r}. Instruction and "
            "input are set apart by an empty line, between the two headings"
        )
    return None
