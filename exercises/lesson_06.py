"""Checks of the exercises of lesson 06, efficient training."""

from __future__ import annotations

import math
from collections.abc import Callable

from exercises import exercise


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
