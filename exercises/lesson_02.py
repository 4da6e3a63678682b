"""Checks of the exercises of lesson 02, where finetuning fits."""

from __future__ import annotations

import math
from collections.abc import Callable

from exercises import exercise, misplaced

STAGES = (
    "continued pretraining",
    "SFT",
    "distillation",
    "preferences",
    "verifiable rewards",
)


@exercise
def next_tokens(function: Callable):
    """function(ids): (inputs, labels) of a raw text, every next token being learnt."""
    ids = [5, 6, 7, 8, 5, 9]
    made = function(list(ids))
    if made is ... or any(part is ... for part in made):
        return ...
    inputs, labels = (list(part) for part in made)
    if (inputs, labels) == (ids[:-1], ids[1:]):
        return None
    if len(inputs) != len(labels):
        return (
            f"{len(inputs)} inputs and {len(labels)} labels: every token that is given "
            "has one label, the token after it"
        )
    if inputs == labels:
        return (
            "the labels are the inputs: the model would learn to copy the token that "
            "it was just given, and its loss would fall to 0"
        )
    if (inputs, labels) == (ids[1:], ids[:-1]):
        return (
            "your labels come before their inputs: the model would learn to look back"
        )
    if (inputs, labels) == (ids, ids[1:] + ids[:1]):
        return (
            "after the last token you go on with the first one: nothing is known to "
            "follow the last token, so it is no input"
        )
    if len(labels) == 1:
        return (
            "only one token is learnt: of raw text every token after the first is a "
            "label, so one row holds many exercises"
        )
    return f"of {ids} you make inputs {inputs} and labels {labels}: shift by one place"


@exercise
def bits_per_byte(function: Callable):
    """function(losses, text): bits per byte from the nats of each token of a text."""
    losses, text = [2.0, 1.0, 3.0, 0.5], "21 °C – naïve"
    found = function(list(losses), text)
    if found is ...:
        return ...
    total, size = sum(losses), len(text.encode())
    bits = total / math.log(2)
    if math.isclose(found, bits / size):
        return None
    faults = {
        total / size: "these are nats: divide by math.log(2) to have bits",
        total * math.log(2) / size: "a nat is more than a bit: divide by math.log(2), "
        "do not multiply",
        bits / len(text): "you divide by characters: ° and – take two and three bytes, "
        "so count len(text.encode())",
        bits / len(losses): "these are bits per token, which depend on the tokenizer: "
        "divide by the bytes of the text",
        bits / len(losses) / size: "you take the mean of the losses: the bits of all "
        "tokens add up to those of the text",
        bits: "these are the bits of the whole text: divide by its bytes",
    }
    for value, fault in faults.items():
        if math.isclose(found, value):
            return fault
    return f"for losses {losses} and {size} bytes it is {bits / size:.3f}, not {found}"


@exercise
def stage(choices: dict[str, str]):
    """choices: job -> the stage of training that its data allow."""
    right = {  # by a word of the job
        "pages": ("continued pretraining", "raw text has no answers to learn from"),
        "tickets": ("SFT", "there is one right answer to each, written down"),
        "phone": ("distillation", "the good answers are there already: the teacher's"),
        "liked": ("preferences", "nobody wrote the right answer, people compared two"),
        "database": ("verifiable rewards", "a program can mark any answer"),
    }
    says = "{case}: {choice} does not fit what you have: {reason}"
    return misplaced(choices, STAGES, right, says)
