"""Checks of the exercises of lesson 04, instruction tuning."""

from __future__ import annotations

from collections.abc import Callable

from exercises import exercise
from helpers import evaluation, records, templates

from jinja2 import Template


@exercise
def hydrates_a_row(hydrate: Callable) -> str | None:
    """hydrate({"instruction", "input", "output"}) -> the prompt of templates.ALPACA."""
    template = Template(templates.ALPACA)
    for row in (
        {"instruction": "Name a month.", "input": "", "output": "May will do"},
        {"instruction": "Name a day.", "input": None, "output": "Monday will do"},
        {"instruction": "Which day?", "input": "We met last Monday.", "output": "it"},
        {"instruction": "What is {input}?", "input": 'f"{x}"', "output": "a field"},
    ):
        prompt = hydrate(dict(row))
        if prompt is ...:
            return ...
        right = template.render(
            messages=records.prompt(row), add_generation_prompt=True
        )
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
