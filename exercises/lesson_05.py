"""Checks of the exercises of lesson 05, training."""

from __future__ import annotations

import math
from collections.abc import Callable

from exercises import exercise


@exercise
def diagnosis(causes: dict[str, str]) -> str | None:
    """causes: patient -> "rate", "prompt", "end-of-text", "zero_grad" or "template"."""
    right = {  # and what in the symptoms says so
        "A": ("end-of-text", "the answers begin correctly, and what fails is the end"),
        "B": ("rate", "the loss itself goes up, and nothing of the model is left"),
        "C": (
            "zero_grad",
            "it learns less from the same steps, as if most rows were not there",
        ),
        "D": ("template", "its curve is the good run's own: it was asked differently"),
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
            return f"patient {patient} does not have the fault {cause!r}: {symptom}"
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
            "takes rows of its own: together they finish sooner",
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
