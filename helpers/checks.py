"""Checks: what would spoil a training set, and when two texts are the same.

In: rows.  Out: a line for each fault, by row. The half of helpers.records that looks at
many rows; it hands these names on.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Iterator

from helpers.files import places

import pandas as pd

MAX_WORDS = 300  # about 400 tokens: what fits a context of 512 with its template
BYTES_OF_A_WORD = 12  # or more: some languages have no spaces between words
# Punctuation that is a sign where it stands: -5 and 3 - 5, 3*5 and 3 / 5, C#
SIGN = {"-": "−", "–": "−", "*": "×", "/": "÷", "#": "♯"}
SIGNS = re.compile(
    r"[-–](?<!\w.)(?=[.,]?\d)|-(?<=\d .)(?= \d)"
    r"|[*/](?:(?<=\d.)|(?<=\d .))(?= ?\d)|#(?<=\w.)"
)
PERSONAL = {
    # not of .example, which is nobody's
    "e-mail address": r"(?<![\w.+-])[\w.+-]{1,64}@(?![\w.-]*\bexample)[\w.-]+\.\w{2,}",
    # with the country's number, or grouped as in Europe (0171 234 5678) or America
    "phone number": r"(?<![\w+.,/-])(?:\+[1-9](?:[ ()./-]{0,2}\d){7,14}"
    r"|0[1-9]\d{1,3}[ /]\d{3,4}(?: ?\d{2,4}){1,2}"
    r"|(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[.-]\d{4})(?![\w-])",
    "card number": r"(?<![\w-])(?:4|5[1-5]|2[2-7]|3[47]|6011|65)(?:[ -]?\d){11,15}\b",
}


def normalise(text: str) -> str:
    """What is compared of a text: words and numbers in lower case, marks and signs.

    Other punctuation and the kind of apostrophe do not matter; but 5 is not -5, and A+
    not A. A text of nothing but punctuation is compared as it stands.
    """
    text = unicodedata.normalize("NFC", text).replace("’", "'").casefold()
    text = " ".join(text.split())
    signed = SIGNS.sub(lambda sign: SIGN[sign[0]], text)
    return " ".join("".join(map(_kept, signed)).split()) or text


@functools.cache
def _kept(letter: str) -> str:
    kind = unicodedata.category(letter)
    if letter.isalnum() or letter in "_'" or kind[0] == "M":
        return letter
    if (kind[0] == "S" and letter != "`") or letter == "%":
        return f" {letter} "  # a sign is a word by itself
    return "" if kind == "Cf" else " "


def check(
    rows: list[dict], others: dict[str, list[dict]] | None = None
) -> pd.DataFrame:
    """Find what would spoil a training set, and what later steps would refuse.

    others: name -> rows of the other splits; a question that stands in one of them
    as well (case and punctuation aside) is a leak.
    Returns a frame with one line per fault: row (its line in the file that it was read
    from, else its number from 1), fault, detail.
    """
    from helpers import records  # which imports this module

    names, elsewhere = places(rows), {}
    for name, other in (others or {}).items():
        for place, row in zip(places(other), other, strict=True):
            key = normalise(records.prompt_text(row))
            elsewhere.setdefault(key, f"{name} row {place}")
    faults: list[tuple[int, str, str]] = []
    seen: dict[str, int] = {}  # what is asked -> index of the row that asks it first
    counts = records.unlearnt(rows)
    for index, row in enumerate(rows):
        own = [(names[index], *fault) for fault in _faults(row, counts)]
        faults += own
        if any(fault == "missing field" for _, fault, _ in own):
            continue
        asked, said = records.prompt_text(row), records.answer(row) or ""
        key = normalise(asked)
        first = seen.setdefault(key, index)
        if key and first != index:
            same = normalise(said) == normalise(records.answer(rows[first]) or "")
            detail = f"asks the same as row {names[first]}"
            detail += "" if same else ", answers not"
            faults.append((names[index], "duplicate" if same else "conflict", detail))
        if key and key in elsewhere:
            faults.append((names[index], "leak", f"also stands in {elsewhere[key]}"))
        asks = records.form(row)[0]  # a text asks nothing
        text = f"{asked if asks else ''} {said}"
        size = len(text.encode("utf-8", "surrogatepass"))
        words = max(len(text.split()), size // BYTES_OF_A_WORD)
        if words > MAX_WORDS:
            detail = f"{words} words: the model will see about {MAX_WORDS}"
            faults.append((names[index], "too long", detail))
    return pd.DataFrame(faults, columns=["row", "fault", "detail"])


def _faults(row: dict, counts: dict[str, int]) -> Iterator[tuple[str, str]]:
    """(fault, detail) of a row by itself; a field of many rows is taken from counts."""
    from helpers import records

    answer = (records.form(row) or (None, None))[1]
    labels = records.LABELS & row.keys() if answer == "text" else set()
    for name in sorted(labels):
        detail = f"{name!r} beside 'text', which alone would be learnt: rename them"
        yield "label not learnt", f"{detail} 'input' and 'output'"
    keys, test = row.get("keys") or [], row.get("check")
    if not isinstance(keys, list):
        yield "not a list", "'keys' must be a list of texts, even of one"
    elif not all(isinstance(key, str) and key.strip() for key in keys):
        yield "not text", "'keys' must hold texts, none of them blank"
    if test and not (isinstance(test, dict) and "type" in test):
        yield "not a check", "'check' must be an object with a type: rename the field"
    for name in sorted({*records.unlearnt([row])} - labels):
        meant = [] if answer else _meant(name)
        if meant and meant != [name]:
            yield "unknown field", f"{name!r}: did you mean {meant[0]!r}?"
        elif not meant and counts.get(name) == 1:
            yield "unknown field", repr(name)
    if answer is None:
        has = ", ".join(sorted(row)) or "nothing"
        yield "missing field", f"has {has}; needs one of {records.FORM_NAMES}"
        return
    try:
        if records.messages(row)[-1]["role"] == "user":
            yield "missing field", f"{answer!r} ends with the user: needs an answer"
    except records.RowError as error:
        fault, detail = error.args
        detail, value, _ = detail.partition(", not text: ")
        yield fault, f"{detail}{value and ', not text: write it as a string'}"


@functools.cache
def _meant(name: str) -> list[str]:
    from helpers import records

    return difflib.get_close_matches(name, records.FIELDS, 1, cutoff=0.7)


def notices(rows: list[dict]) -> pd.DataFrame:
    """What is no fault and wants a person's eye: fields that are not learnt, and
    personal data that would be (e-mail addresses, phone and card numbers).

    Returns a frame with row, as in `check`, notice and detail: a line for each field,
    with the number of rows that have it, at the first of them; and one for each kind of
    personal data in a row, with the beginning of what was found.
    """
    from helpers import records

    found, pairs = [], list(zip(places(rows), rows, strict=True))
    for name, count in records.unlearnt(rows).items():
        first = next(place for place, row in pairs if row.get(name))
        found.append((first, "not learnt", f"{name!r} in {count:,} rows"))
    for place, row in pairs:
        text = f"{records.prompt_text(row)}\n{records.answer(row)}"
        for kind, pattern in PERSONAL.items():
            hits = (match[0] for match in re.finditer(pattern, text))
            if hit := next((h for h in hits if kind[0] != "c" or _luhn(h)), None):
                found.append((place, kind, f"{hit[:4]}..."))
    return pd.DataFrame(found, columns=["row", "notice", "detail"])


def _luhn(number: str) -> bool:
    """Whether the last digit of a card's number fits the others."""
    digits = [int(digit) for digit in number if digit.isdecimal()][::-1]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
