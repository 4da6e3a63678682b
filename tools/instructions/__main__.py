"""The made rows of data/larkfield/instructions.jsonl: python -m tools.instructions

Tasks such as sorting a list have inputs that a program can draw and answers that it can
compute. Here it does both. The wordings, and the words and sentences it draws from,
were written; they stand in texts.toml. Rows that are not made here stay as they are.
"""

from __future__ import annotations

import argparse

from helpers import records
from tools.instructions import lists, sentences  # noqa: F401, they register makers
from tools.instructions.parts import MAKERS, TEXTS, Draw

FILE = records.DATA / "larkfield" / "instructions.jsonl"
WORDINGS = {kind: lines.splitlines() for kind, lines in TEXTS["wordings"].items()}
# Never tuned on. Of some a relative is taught (first_word, sort_numbers, opposite),
# of others only the habit of doing what is asked.
HELD_OUT = """second_word sort_descending extract_colour previous_letter_or_day
numbered_list country_of_capital synonym sentence_with_words""".split()
# Kinds with rows that were written, numbered to 20; those made follow them.
GROWN = """copy uppercase first_word count_to_n reverse_list longer_word sort_numbers
extract_number extract_name arithmetic next_letter_or_day plural opposite
capital_city""".split()


def wordings(kind: str) -> list[str]:
    """One for each row, in order.

    Lesson 04 tests on the first three rows of a kind and tunes on the others, so the
    first three wordings of a new kind stand in no other row.
    """
    lines = WORDINGS[kind]
    if kind in GROWN or kind in HELD_OUT:
        return lines * 2
    return lines[:3] + lines[3:] * 3


def rows(kind: str, chance: str = "", asked: set | None = None) -> list[dict]:
    """The made rows of a kind; the same on every run. Another `chance` draws other
    inputs for the same wordings, none of those in `asked`."""
    tasks, made = MAKERS[kind](Draw(kind + chance)), []
    asked = set() if asked is None else asked
    for number, wording in enumerate(wordings(kind), 21 if kind in GROWN else 1):
        inline = "{input}" in wording
        for _ in range(300):  # of a small pool all may have been asked
            given, output, check, names = next(tasks)
            instruction = wording
            for name, value in {**names, "input": given}.items():
                instruction = instruction.replace(f"{{{name}}}", value)
            task = instruction, "" if inline else given
            if task not in asked and not (inline and "\n" in given):
                break
        else:
            continue
        asked.add(task)
        made.append(
            {
                "id": f"{kind}-{number:02}",
                "kind": kind,
                "instruction": task[0],
                "input": task[1],
                "output": output,
                "check": check,
                "held_out": kind in HELD_OUT,
            }
        )
    return made


def fresh(given: list[dict], passes: int, seed: int = 0) -> list[dict]:
    """Rows as they are, then `passes` - 1 times with other inputs and answers under the
    same instructions, where these are made; none that stands in the file."""
    asked = {(row["instruction"], row["input"]) for row in records.read(FILE)}
    out = list(given)
    for number in range(1, passes):
        other = {}
        for kind in WORDINGS:
            for row in rows(kind, f" {seed} {number}", asked):
                other[row["id"]] = row
        out += [other.get(row["id"], row) for row in given]
    return out


def all_rows() -> list[dict]:
    """Those of all kinds, mixed; the rows of a kind stay in order."""
    stock = {kind: rows(kind) for kind in WORDINGS}
    turns = [kind for kind in stock for _ in stock[kind]]
    Draw("order").shuffle(turns)
    return [stock[kind].pop(0) for kind in turns]


def main() -> None:
    about = __doc__.partition(":")[0]
    argparse.ArgumentParser(
        "python -m tools.instructions", description=about
    ).parse_args()
    made = all_rows()
    ids = {row["id"] for row in made}
    written = [row for row in records.read(FILE) if row["id"] not in ids]
    records.write(FILE, written + made)
    print(f"{len(written)} rows written by hand, {len(made)} made")


if __name__ == "__main__":
    main()
