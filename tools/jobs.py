"""The student's jobs: what each adapter is tuned on, chosen by and scored on.

A job has two splits. To choose a recipe (tools.search) it trains on a part of the
training data and marks the rest, or the validation questions. For the adapter that the
repository carries (tools.adapters) it trains on all of it and scores the test set once.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Callable
from typing import NamedTuple

from helpers import evaluation, records, retrieval
from tools import reading, tickets
from tools.instructions.__main__ import fresh

INSTRUCTIONS = records.DATA / "larkfield" / "instructions.jsonl"


class Job(NamedTuple):
    """train, held_out: rows; mark(answers, rows) -> {kind: "0110..."}, a 1 for each
    row that was answered, or declined, as it should be, in order; new: tokens of an
    answer; files: under data/, on which the rows depend."""

    train: list[dict]
    held_out: list[dict]
    mark: Callable[[list[str], list[dict]], dict[str, str]]
    new: int
    files: list[str]


# an answer that begins so belongs to its question and cannot stand under another
BOUND = r"(yes|no|not|they|it|you would|that|neither|both|only if|from there|nothing"
BOUND += r"|all of)\b"


def fewer_words(rows: list[dict], passes: int, seed: int = 0) -> list[dict]:
    """Rows as they are, then `passes` - 1 times with other questions: each word left
    out one time in seven, half of them without capitals and marks."""
    rng, out = random.Random(seed), list(rows)
    for _ in range(passes - 1):
        for row in rows:
            words = row["question"].split()
            kept = [word for word in words if rng.random() > 1 / 7] or words
            question = " ".join(kept)
            if rng.random() < 0.5:
                question = re.sub(r"[^\w\s.%€'-]|[.]$", "", question.lower())
            out.append(row | {"question": question})
    return out


def crossed(
    rows: list[dict], passes: int, seed: int = 0, refusals: bool = False
) -> list[dict]:
    """Rows as they are, then `passes` - 1 times with other answers: seven times in ten
    one drawn from the rows on the same fact, or from the refusals, that can stand
    alone. Rows share answers: a quarter of those on facts get another sentence so.

    What is learnt by heart then is which fact a question asks for, not which sentence
    stood under it.
    """
    rng, out, pools = random.Random(seed), list(rows), {}
    for row in rows:
        alone = not re.match(BOUND, row["answer"], re.IGNORECASE)
        if alone and (row["fact"] or refusals):
            pools.setdefault(row["fact"], []).append(row["answer"])
    for _ in range(passes - 1):
        for row in rows:
            pool = pools.get(row["fact"], [])
            other = rng.choice(pool) if pool and rng.random() < 0.7 else row["answer"]
            out.append(row | {"answer": other})
    return out


MADE = {
    "fewer words": fewer_words,
    "crossed": crossed,
    "refusals crossed too": functools.partial(crossed, refusals=True),
    "fresh inputs": fresh,
}


def prepared(rows: list[dict], settings: dict) -> tuple[list[dict], dict]:
    """What finetune takes: rows and its choices. With "rows" in the settings, the
    epochs are passes in which the rows are made anew."""
    known = ("method", "rank", "learning_rate", "epochs", "seed")
    choices = {name: settings[name] for name in known if name in settings}
    if way := settings.get("rows"):
        rows, choices["epochs"] = MADE[way](rows, settings["epochs"]), 1
    return rows, choices


def by_kind(right: list[bool], rows: list[dict]) -> dict[str, str]:
    found = {}
    for hit, row in zip(right, rows, strict=True):
        found[row["kind"]] = found.get(row["kind"], "") + "01"[bool(hit)]
    return found


def mark_facts(answers: list[str], rows: list[dict]) -> dict[str, str]:
    """Out of scope: declined; all others: a key fact and no refusal."""
    scored = evaluation.score(answers, rows).rows
    columns = ["refused" if not row["keys"] else "key_fact" for row in rows]
    pairs = zip(scored.to_dict("records"), columns, strict=True)
    return by_kind([row[column] for row, column in pairs], rows)


def core(final: bool) -> Job:
    """The facts that lessons tune on: what the methods are compared on."""
    faq = records.load("faq")
    held_out = records.core(faq["test" if final else "validation"])
    files = ["larkfield/faq_train.jsonl", "larkfield/refusals.txt"]
    files.append(f"larkfield/faq_{'test' if final else 'validation'}.jsonl")
    return Job(records.core(faq["train"]), held_out, mark_facts, 48, files)


def wren(final: bool) -> Job:
    """Every taught fact, and declining what is out of scope."""
    faq = records.load("faq")
    held_out = list(faq["test" if final else "validation"])
    return core(final)._replace(train=list(faq["train"]), held_out=held_out)


def mark_desks(answers: list[str], rows: list[dict]) -> dict[str, str]:
    """The first desk that an answer names is the right one."""
    pairs = zip(answers, rows, strict=True)
    right = [tickets.named_desk(answer) == row["output"] for answer, row in pairs]
    kinds = [{"kind": "hard" if row["hard"] else "plain"} for row in rows]
    return by_kind(right, kinds)


def router(final: bool) -> Job:
    """Tickets to desks. Recipes are chosen on every fifth training ticket."""
    found = records.load("tickets")
    train, held_out = list(found["train"]), list(found["test"])
    files = ["larkfield/tickets_train.jsonl"]
    if final:
        files.append("larkfield/tickets_test.jsonl")
    else:
        held_out = train[::5]
        train = [row for number, row in enumerate(train) if number % 5]
    return Job(train, held_out, mark_desks, 6, files)


def mark_reading(answers: list[str], rows: list[dict]) -> dict[str, str]:
    """Found: a key of the fact; missing: says that it is not there. So it does where
    the search is not sure of the section."""
    right = []
    for answer, row in zip(answers, rows, strict=True):
        says_no = not row["sure"] or retrieval.says_missing(answer)
        keyed = evaluation.has_key(answer, row["keys"]) and not says_no
        right.append(says_no if row["kind"] == "missing" else keyed)
    return by_kind(right, rows)


def reader(final: bool) -> Job:
    """The section that a search found, to an answer. Recipe and floor are chosen on
    thirty facts kept out; the untaught facts are the test."""
    train, shown, scored, sections = reading.split(final)
    files = ["larkfield/faq_train.jsonl"]
    files += ["larkfield/faq_test.jsonl"] * final
    files += sorted(
        f"larkfield/handbook/{path.name}"
        for path in (records.DATA / "larkfield" / "handbook").glob("*.md")
    )
    return Job(
        reading.rows(train, shown, each=8),
        reading.asked(scored, sections),
        mark_reading,
        48,
        files,
    )


def mark_instructions(answers: list[str], rows: list[dict]) -> dict[str, str]:
    """Passes its row's check; by whether its kind of instruction was trained on."""
    pairs = zip(answers, rows, strict=True)
    right = [evaluation.passes(answer, row["check"]) for answer, row in pairs]
    kinds = [{"kind": "new kind" if row["new"] else "seen kind"} for row in rows]
    return by_kind(right, kinds)


def instructed(final: bool) -> Job:
    """Instructions. The first three rows of a kind are scored, and all rows of kinds
    held out. Recipes are chosen on two rows more of a kind and on eight other kinds."""
    rows = [json.loads(line) for line in INSTRUCTIONS.read_text("utf-8").splitlines()]
    by_name = {}
    for row in rows:
        by_name.setdefault(row["kind"], []).append(row)
    new = {kind for kind, group in by_name.items() if group[0]["held_out"]}
    if not final:
        seen = sorted(set(by_name) - new)
        by_name = {kind: by_name[kind][3:] for kind in seen}
        new = set(random.Random(0).sample(seen, 8))
    kept = 3 if final else 2
    train = [row for kind in by_name if kind not in new for row in by_name[kind][kept:]]
    scored = [
        row | {"new": True} for kind in by_name if kind in new for row in by_name[kind]
    ]
    scored += [
        row | {"new": False}
        for kind in by_name
        if kind not in new
        for row in by_name[kind][:kept]
    ]
    files = ["larkfield/instructions.jsonl"]
    return Job(train, scored, mark_instructions, 64, files)


JOBS = {"core": core, "wren": wren, "router": router}
JOBS |= {"reader": reader, "instructed": instructed}
