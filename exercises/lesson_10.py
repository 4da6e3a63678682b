"""Checks of the exercises of lesson 10, your first finetune."""

from __future__ import annotations

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
def reads_an_export(rows_of: Callable) -> str | None:
    """rows_of([{"subject", "body", "desk"}]) -> rows of input and output."""
    export = [
        {"subject": "Bill", "body": "Charged twice.", "desk": " Billing"},
        {"subject": "Dark", "body": "No light at all.", "desk": "hardware"},
        {"subject": "Hello", "body": "Nobody sorted this one.", "desk": ""},
        {"subject": "Sign in", "body": "It asks again.", "desk": "ACCOUNT "},
        {"subject": "Hm", "body": "Nor this one.", "desk": "  "},
    ]
    found = rows_of([dict(line) for line in export])
    if found is ...:
        return ...
    found = list(found)
    for row in found:
        if not isinstance(row, dict) or set(row) != {"input", "output"}:
            return f"{row!r}: a row is a dict of input and output, and no more"
    desks = [row["output"] for row in found]
    if any(not desk.strip() for desk in desks):
        return "a row without a desk is left: spaces alone are no desk either"
    if len(found) != 3:
        return f"3 of 5 lines have a desk, and {len(found)} rows came out"
    if any(desk != desk.strip() for desk in desks):
        return f"{desks!r}: with spaces around it a desk counts as another label"
    if any(desk != desk.lower() for desk in desks):
        return f"{desks!r}: with a capital a desk counts as another label"
    if desks != ["billing", "hardware", "account"]:
        return f"{desks!r} are not the desks of the three lines, in their order"
    asked = [row["input"] for row in found]
    if "Bill" not in asked[0]:
        return "the subject is lost: customers often say there what it is about"
    if "Charged twice." not in asked[0]:
        return "the body is lost"
    wanted = f"{export[0]['subject']}\n{export[0]['body']}"
    if asked[0] != wanted:
        return f"the input is {asked[0]!r}, and should be {wanted!r}"
    return None
