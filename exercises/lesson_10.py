"""Checks of the exercises of lesson 10, your first finetune."""

from __future__ import annotations

import math
from collections.abc import Callable

from exercises import exercise


@exercise
def chooses_a_way(choose: Callable) -> str | None:
    """choose({name: {"right", "beaten", "cost"}}): the cheapest that is not beaten.

    beaten: whether the best way is shown to be ahead of it by more than the margin.
    """

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
                "that its lead exceeds the margin is not shown, and it costs more",
                "rule": "it is the cheapest of all, and beaten by more than the "
                "margin: drop it before you look at the cost",
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
                "net": "a net is not an end in itself: it is beaten, and costs more",
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
