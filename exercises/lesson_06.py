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


@exercise
def lora_weights(function: Callable) -> str | None:
    """function([(out, in), ...], rank) -> weights that LoRA trains beside them."""
    layer = [(576, 576), (192, 576), (1536, 576), (576, 1536)]
    for matrices, rank in ((layer, 16), ([(4096, 11008)], 8), (layer[:2], 4)):
        found = function(list(matrices), rank)
        if found is ...:
            return ...
        if found == sum(rank * (out + into) for out, into in matrices):
            continue
        shown = f"for {len(matrices)} matrices at rank {rank}: "
        faults = {
            sum(out * into for out, into in matrices): "those are the frozen weights: "
            "LoRA trains two narrow matrices beside each",
            sum(rank * out * into for out, into in matrices): "A and B lie one behind "
            "the other: their sizes are added, not multiplied",
            sum(rank * rank * (out + into) for out, into in matrices): "the rank is "
            "one side of A and one side of B, so it counts once in each",
            sum(2 * rank * out for out, _ in matrices): "not every matrix is square: A "
            "is rank x in, B is out x rank",
            sum(2 * rank * into for _, into in matrices): "not every matrix is square: "
            "A is rank x in, B is out x rank",
            sum(out + into for out, into in matrices): "that is rank 1",
            sum(rank * into for _, into in matrices): "that is A alone: B is trained "
            "as well",
            sum(rank * out for out, _ in matrices): "that is B alone: A is trained as "
            "well",
            rank * sum(matrices[0]): "that is the first matrix alone: each of them has "
            "an adapter",
        }
        return shown + faults.get(
            found, f"{found!r} is not right: A is rank x in, B is out x rank"
        )
    return None


@exercise
def in_pieces(effects: dict[str, str]) -> str | None:
    """effects: what -> "same", "less" or "more" when a batch goes in four pieces."""
    right = {  # and what to think of
        "gradient of a step": (
            "same",
            "gradients add up, each piece weighted by its answer tokens: the sum is "
            "that of the whole batch",
        ),
        "steps of an epoch": (
            "same",
            "the weights are moved once for 16 rows, in one piece or in four",
        ),
        "activations held at a time": (
            "less",
            "those of a piece are let go before the next piece comes",
        ),
        "memory of gradients and averages": (
            "same",
            "there is one of each for a trained weight, however many rows are read",
        ),
        "operations of an epoch": (
            "same",
            "every token goes through once, in one piece or in four; nothing is "
            "computed twice (that is checkpointing)",
        ),
    }
    if any(effect is ... for effect in effects.values()):
        return ...
    for what, (wanted, reason) in right.items():
        effect = effects[what]
        if effect not in ("same", "less", "more"):
            return f"{effect!r}: write 'same', 'less' or 'more'"
        if effect != wanted:
            return f"{what}: not {effect!r}: {reason}"
    return None
