"""Kinds of file that people bring, good and bad, each with what is right.

In: a kind, a seed and a folder. Out: a file in forms of rows, containers, encodings and
line ends drawn at random, and what must come of it, which is known from how it was
made: the very rows, with the faults that `check` must name by row; or one message that
names the file and the place. `python -m tools.bad_inputs` judges what does come of it.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import random
import re
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from helpers import files

import pyarrow
import pyarrow.parquet

ASCII = ["0071", "NA", "None", "null", "true", "1e5", "-5", "3,5", "a; b", 'is "on"']
ASCII += ["tab\there", "two\nlines", "=1+2", "{name}", "[1]", "C:\\new", "<|im_end|>"]
ASCII += ["<b>x</b>", "it's", "# x", "100 %", "a\r\nb", "a\x0cb", '"', '""', "', '"]
LATIN = ["café", "Größe", "naïve", "£5", "à côté"]
WIDE = ["日本語", "Привет", "דרך", "🙂", "👩‍👩‍👧", "e\u0301", "a\u2028b", "a\x85b"]
WIDE += ["दिन", "a\u200bb", "𝒳", "“so”", "a\u00a0b", "№ 5"]
TALKS = {"messages": ("role", "content"), "sharegpt": ("from", "value")}
ANSWERS = {"question": "answer", "alpaca": "output", "dolly": "response"}
ANSWERS |= {"prompt": "completion", "text": "text"}
FLAT = [*ANSWERS]
FORMS = [*FLAT, *TALKS]
TEXTS, TABLES = ["jsonl", "array"], ["csv", "semicolon", "tsv"]
CONTAINERS = [*TEXTS, *TABLES, "parquet"]
SEPARATORS = dict(zip(TABLES, ",;\t", strict=True))
LARGE = ["gzip_bomb", "parquet_bomb", "too_large"]  # more than files.MOST
UNICODE = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]
LINE_ENDS = ["\n", "\r\n", "mixed"]
ARRAYS = [("[", ", ", "]"), ("[\n", ",\n", "\n]\n"), ("[", "\n,\r\n", "\r\n]")]
ENDS = {"jsonl": ".jsonl", "array": ".json", "tsv": ".tsv", "parquet": ".parquet"}


class Case(NamedTuple):
    """A file and what is right.

    rows: what read gives, None where it refuses; places: what its rows are named by;
    faults: what check finds, (place, fault); said: each row as (role, text) pairs, None
    where the row is refused; names: what the refusal says beside the path.
    """

    kind: str
    how: str
    path: Path
    rows: list[dict] | None = None
    places: list[int] = []
    faults: list[tuple[int, str]] = []
    said: list[list[tuple[str, str]] | None] = []
    names: tuple[str, ...] = ()
    as_nobody: bool = False


KINDS: dict[str, Callable[[Draw], Case]] = {}


def kind(made: Callable[[Draw], Case]) -> Callable[[Draw], Case]:
    KINDS[made.__name__] = made
    return made


# How a good file is written


class Draw:
    """One file under way: what was drawn for it, and where it goes."""

    def __init__(self, name: str, seed: str, folder: Path):
        self.kind, self.folder = name, folder
        self.rng = random.Random(f"{seed} {name}")
        self.drawn: list[str] = []
        self.numbers = iter(range(1000, 9999))
        self.rows: list[dict] = []
        self.said: list[list[tuple[str, str]] | None] = []
        self.faults: list[tuple[int, str]] = []  # of rows by their index

    def pick(self, options):
        chosen = self.rng.choice(list(options))
        self.drawn.append(repr(chosen).strip("'"))
        return chosen

    def texts(self, encoding: str) -> Callable[[], str]:
        """A maker of texts that no other is equal to."""
        pieces = ASCII + (LATIN if encoding != "ascii" else [])
        pieces += WIDE if encoding in UNICODE else []

        def text() -> str:
            found = self.rng.choices(pieces, k=self.rng.randint(1, 4))
            return f"{' '.join(found)} {next(self.numbers)}"

        return text

    def fill(self, forms=FORMS, encoding="utf-8", count=None) -> None:
        """Add rows of a form, and what is said in each."""
        self.form, text = self.pick(forms), self.texts(encoding)
        for number in range(count or self.rng.randint(4, 9)):
            asked, answer = text(), self.rng.choice([text(), self.rng.choice(ASCII)])
            beside = text() if self.form in ("alpaca", "dolly") and number % 2 else ""
            self.rows.append(row_of(self.form, asked, beside, answer))
            if self.form == "text":
                self.said.append([("assistant", f"{asked} {answer}".strip())])
            else:
                asked = "\n\n".join(filter(None, [asked.strip(), beside.strip()]))
                self.said.append([("user", asked), ("assistant", answer.strip())])

    def spoil(self, fault: str | None, change: Callable[[dict], object]) -> int:
        """Change a row that is not the first; its index, where `check` finds fault."""
        index = self.rng.randrange(1, len(self.rows))
        change(self.rows[index])
        if fault:
            self.said[index] = None
            self.faults.append((index, fault))
        return index

    def text(self, container: str, edit=lambda lines: None, ends=LINE_ENDS) -> str:
        """The rows as text; self.places is set to what each is named by.

        edit: changes the list of lines; each is a text, in a table a list of cells.
        """
        ends = self.pick(ends)
        self.lines = ["\n", "\r\n", "\r"] if ends == "mixed" else [ends]
        if container == "array":
            self.places = list(range(1, len(self.rows) + 1))
            indent = self.pick([None, 4])
            lines = [self.json(row, indent) for row in self.rows]
            edit(lines)
            begin, between, end = self.pick(ARRAYS)
            return begin + between.join(lines) + end
        if container == "jsonl":
            lines = [self.json(row) for row in self.rows]
            edit(lines)
            return self.join(lines)
        table = [list(self.rows[0]), *(list(row.values()) for row in self.rows)]
        # of a single column no program can tell another separator
        self.separator = SEPARATORS[container] if len(table[0]) > 1 else ","
        edit(table)
        text = self.join(map(self.cells, table))
        self.places = self.places[1:]
        return text

    def json(self, row, indent=None) -> str:
        # half of a character has no other form
        plain = "\\ud8" in (text := json.dumps(row, indent=indent))
        own = plain or self.rng.random() < 0.5
        return text if own else json.dumps(row, indent=indent, ensure_ascii=False)

    def cells(self, values) -> str:
        """A line of a table; quotes round what needs them and some that do not."""

        def cell(value: str) -> str:
            special = {self.separator, '"', "\n", "\r"} & set(value)
            if special or self.rng.random() < 0.3:
                return '"' + value.replace('"', '""') + '"'
            return value

        return self.separator.join(map(cell, values))

    def join(self, lines) -> str:
        """Lines with their ends and, at times, blank ones between; sets places."""
        text, self.places = "", []
        for line in lines:
            while self.places and self.rng.random() < 0.1:
                text += self.rng.choice(self.lines)
            self.places.append(1 + breaks(text))
            text += line + self.rng.choice(self.lines)
        return text

    def encode(self, text: str, encoding: str | None = None) -> bytes:
        encoding = encoding or self.pick(UNICODE)
        mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
        return mark + text.encode(encoding)

    def parquet(self, table=None, **settings) -> bytes:
        """The rows as Parquet, texts in one of Arrow's ways."""
        table = pyarrow.Table.from_pylist(self.rows) if table is None else table
        if self.pick(["string", "large", "dictionary"]) != "string":
            for at, field in enumerate(table.schema):
                if field.type == pyarrow.string():
                    column = table.column(at)
                    column = (
                        column.cast(pyarrow.large_string())
                        if self.drawn[-1] == "large"
                        else column.dictionary_encode()
                    )
                    table = table.set_column(at, field.name, column)
        buffer = io.BytesIO()
        compression = self.pick(["none", "snappy", "gzip", "zstd"])
        pyarrow.parquet.write_table(table, buffer, compression=compression, **settings)
        self.places = list(range(1, table.num_rows + 1))
        return buffer.getvalue()

    def save(self, data: bytes, ends: str = ".jsonl", packed: bool | None = None):
        """Write the file, gzipped at times; its path."""
        if packed if packed is not None else self.rng.random() < 0.3:
            data, ends = gzip.compress(data), f"{ends}.gz"
            self.drawn.append("gzip")
        self.path = self.folder / f"rows{ends}"
        self.path.write_bytes(data)
        return self.path

    def write(self, containers=CONTAINERS, *edit, encoding=None, ends=LINE_ENDS):
        """Write the rows in one of the containers."""
        if self.form in TALKS and containers is CONTAINERS:
            containers = [*TEXTS, "parquet"]  # a cell holds no list
        container = self.pick(containers)
        if container == "parquet":
            return self.save(self.parquet(), ".parquet")
        data = self.encode(self.text(container, *edit, ends=ends), encoding)
        return self.save(data, ENDS.get(container, ".csv"))

    def good(self, containers=CONTAINERS, *edit, **settings) -> Case:
        """The case of a file that is read, whatever `check` finds in it."""
        self.write(containers, *edit, **settings)
        return self.read()

    def read(self) -> Case:
        found = sorted((self.places[index], fault) for index, fault in self.faults)
        how, places = ", ".join(self.drawn), self.places
        return Case(self.kind, how, self.path, self.rows, places, found, self.said, ())

    def refused(self, *names: object, **settings) -> Case:
        names = tuple(map(str, names))
        how = ", ".join(self.drawn)
        return Case(self.kind, how, self.path, names=names, **settings)


def row_of(form: str, asked: str, beside: str, answer: str) -> dict:
    if form in TALKS:
        by, said = TALKS[form]
        own = form == "messages"
        roles = ("user", "assistant") if own else ("human", "gpt")
        turns = zip(roles, (asked, answer), strict=True)
        turns = [{by: role, said: text} for role, text in turns]
        return {"messages" if own else "conversations": turns}
    return {
        "question": {"question": asked, "answer": answer},
        "alpaca": {"instruction": asked, "input": beside, "output": answer},
        "dolly": {"instruction": asked, "context": beside, "response": answer}
        | {"category": "open_qa"},
        "prompt": {"prompt": asked, "completion": answer},
        "text": {"text": f"{asked} {answer}"},
    }[form]


def breaks(text: str) -> int:
    return len(re.findall("\r\n|\r|\n", text))


def answer_of(row: dict, form: str, *value):
    """The answer of a row, or the same set to a value."""
    if form in TALKS:
        place, name = turns_of(row)[-1], TALKS[form][1]
    else:
        place, name = row, ANSWERS[form]
    if value:
        place[name] = value[0]
    return place[name]


def turns_of(row: dict) -> list[dict]:
    return row.get("messages") or row["conversations"]


# Kinds: rows that are read, and what check finds in them


@kind
def whole(draw):
    draw.fill()
    return draw.good(CONTAINERS if draw.form in FLAT else [*TEXTS, "parquet"])


@kind
def in_a_table(draw):
    draw.fill(FLAT)
    return draw.good(TABLES)


@kind
def in_parquet(draw):
    draw.fill()
    return draw.good(["parquet"])


@kind
def wrongly_named(draw):
    draw.fill(FLAT)
    case = draw.good()
    path = case.path.rename(draw.folder / draw.pick(["rows.txt", "rows.xlsx", "rows"]))
    return case._replace(path=path)


@kind
def oddly_named(draw):
    draw.fill(FLAT)
    case = draw.good()
    names = ["a\nb.csv", "日本.jsonl", "a b'\".csv", "{x}%s.jsonl"]
    names.append(os.fsdecode(b"\xff.csv"))
    return case._replace(path=case.path.rename(draw.folder / draw.pick(names)))


@kind
def numbers_in_a_table(draw):
    draw.fill(FLAT[:4])
    for row, said in zip(draw.rows, draw.said, strict=True):
        number = draw.rng.choice(["0071", "4", "3.50", "1e5", "-0", "007,5", "∞"])
        said[-1] = ("assistant", answer_of(row, draw.form, number))
    return draw.good(TABLES)


@kind
def braces_in_a_table(draw):
    """Not to be taken for JSONL, by lines that look like an object."""
    draw.fill(FLAT)
    for row, said in zip(draw.rows, draw.said, strict=True):
        text = f"{{x}}\n{{{draw.rng.random()}}}"
        said[-1] = ("assistant", answer_of(row, draw.form, text))
    return draw.good(TABLES)


@kind
def talks_in_a_table(draw):
    draw.fill(TALKS)
    for index, row in enumerate(draw.rows):
        for name, turns in row.items():
            row[name] = json.dumps(turns)
        row["id"], draw.said[index] = str(index), None
        draw.faults.append((index, "not a list"))
    return draw.good(TABLES)


@kind
def columns_without_a_name(draw):
    draw.fill(FLAT[:4])
    draw.rows = [{"": f"{n}", " ": "x", **row} for n, row in enumerate(draw.rows)]
    case = draw.good(TABLES)
    given = {"": "column 1", " ": "column 2"}
    named = [{given.get(k, k): text for k, text in row.items()} for row in draw.rows]
    return case._replace(rows=named)


@kind
def separators_in_a_name(draw):
    draw.fill(FLAT[:4])
    draw.rows = [{**row, "a;b,c\td;;,,\t\t;": "x"} for row in draw.rows]
    return draw.good(TABLES)


def spoilt(name, fault, value, forms=FORMS, containers=TEXTS):
    """A kind in which one answer is set to a value."""

    def made(draw):
        draw.fill(forms)
        found = fault(draw.form) if callable(fault) else fault
        draw.spoil(found, lambda row: answer_of(row, draw.form, value))
        return draw.good(containers)

    KINDS[name] = made


def of_talks(others, talks):
    return lambda form: talks if form in TALKS else others


spoilt("null", "not text", None)
spoilt("null_in_parquet", "not text", None, containers=["parquet"])
spoilt("number", "not text", 40)
spoilt("not_a_number", "not text", float("inf"))
spoilt("true", "not text", True)
spoilt("object", "not text", {"a": 1})
spoilt("nested_list", "not text", [["a"]], ["question", "alpaca", "dolly", "text"])
spoilt("list_for_turns", "turns", [["a"]], ["prompt"])
spoilt("list_for_parts", "not supported", [["a"]], TALKS)
spoilt("empty", "blank", "")
spoilt("empty_in_a_table", "blank", "", FLAT[:4], TABLES)
spoilt("only_space", "blank", " \u00a0\n\t", FORMS, TEXTS)
spoilt("half_a_character", "half a character", "a\ud83d", FORMS, TEXTS)
spoilt("many_words", "too long", "word " * 900, FORMS, [*TEXTS, "parquet"])
spoilt("huge", "too long", "x" * 300_000, FORMS, [*TEXTS, "parquet"])
spoilt("huge_in_a_table", "too long", 'a\n"b",' * 50_000, FLAT, TABLES)
spoilt("no_spaces", "too long", "日本語の文" * 2000, FORMS, [*TEXTS, "parquet"])


@kind
def field_missing(draw):
    draw.fill()

    def change(row):
        if draw.form in TALKS:
            turns_of(row).pop()
        else:
            del row[ANSWERS[draw.form]]

    draw.spoil("missing field", change)
    return draw.good(TEXTS)


@kind
def cells_missing(draw):
    draw.fill(["question", "alpaca", "prompt"])
    index = draw.spoil("blank", lambda row: answer_of(row, draw.form, ""))
    return draw.good(TABLES, lambda table: table[index + 1].pop())


@kind
def another_form(draw):
    draw.fill()
    draw.fill()
    draw.fill(FORMS)
    return draw.good(TEXTS)


@kind
def mistyped_field(draw):
    draw.fill(["question"])
    wrong = lambda row: row.update(anwser=row.pop("answer"))  # noqa: E731
    index = draw.spoil("missing field", wrong)
    draw.faults.insert(0, (index, "unknown field"))
    return draw.good(TEXTS)


@kind
def field_of_one_row(draw):
    draw.fill()
    value = draw.pick(["x", [[1]], {"a": 1}])
    index = draw.spoil(None, lambda row: row.update(zzz=value))
    draw.faults.append((index, "unknown field"))
    return draw.good(TEXTS)


@kind
def other_case(draw):
    draw.fill(["question"])
    draw.rows = [{k.upper(): text for k, text in row.items()} for row in draw.rows]
    draw.said = [None] * len(draw.rows)
    draw.faults = [(index, "missing field") for index in range(len(draw.rows))]
    return draw.good([*TEXTS, *TABLES, "parquet"])


@kind
def roles_swapped(draw):
    draw.fill(TALKS)
    draw.spoil("turns", lambda row: turns_of(row).reverse())
    return draw.good([*TEXTS, "parquet"])


@kind
def role_unknown(draw):
    draw.fill(TALKS)
    role = {TALKS[draw.form][0]: draw.pick(["bot", ""])}
    draw.spoil("turns", lambda row: turns_of(row)[0].update(role))
    return draw.good([*TEXTS, "parquet"])


@kind
def role_missing(draw):
    draw.fill(TALKS)
    draw.spoil("turns", lambda row: turns_of(row)[0].pop(TALKS[draw.form][0]))
    return draw.good(TEXTS)


@kind
def turns_no_list(draw):
    draw.fill(TALKS)
    value = {[*draw.rows[0]][0]: draw.pick(["Hi", 5, {"a": 1}])}
    draw.spoil("not a list", lambda row: row.update(value))
    return draw.good(TEXTS)


@kind
def turn_no_object(draw):
    draw.fill(TALKS)
    value = draw.pick(["Hi", 5, None, []])
    draw.spoil("turns", lambda row: turns_of(row).insert(1, value))
    return draw.good(TEXTS)


@kind
def no_turns(draw):
    draw.fill(TALKS)
    draw.spoil("turns", lambda row: turns_of(row).clear())
    return draw.good([*TEXTS, "parquet"])


@kind
def asked_twice(draw):
    draw.fill(FORMS[:4])
    same = draw.pick([True, False])
    draw.rows.append(json.loads(json.dumps(draw.rows[0])))
    draw.said.append(draw.said[0])
    if not same:
        answer = answer_of(draw.rows[-1], draw.form, "Quite another.")
        draw.said[-1] = [draw.said[0][0], ("assistant", answer)]
    draw.faults.append((len(draw.rows) - 1, "duplicate" if same else "conflict"))
    return draw.good()


@kind
def quotes_inside(draw):
    """Quotes in the middle of a cell that stands without: text."""
    draw.fill(["question"])
    rows = [f'A {n} inch 5" mast,about 5" or "so' for n in range(4)]
    pairs = [row.split(",") for row in rows]
    draw.rows = [dict(zip(("question", "answer"), pair, strict=True)) for pair in pairs]
    draw.said = [[("user", a), ("assistant", b)] for a, b in pairs]
    draw.lines = ["\n"]
    text = draw.join(["question,answer", *rows])
    draw.places = draw.places[1:]
    draw.save(draw.encode(text), ".csv")
    return draw.read()


@kind
def parquet_numbers(draw):
    draw.fill(["question"])
    values = draw.pick([[40], [2.5], [True], [b"x"], [[1, 2]], [{"a": "b"}]])
    draw.rows = [{**row, "answer": values[0]} for row in draw.rows]
    draw.said = [None] * len(draw.rows)
    draw.faults = [(index, "not text") for index in range(len(draw.rows))]
    return draw.good(["parquet"])


@kind
def parquet_of_a_lake(draw):
    """Many row groups, and a column of what is not learnt."""
    draw.fill()
    draw.rows = [{**row, "id": n} for n, row in enumerate(draw.rows)]
    draw.save(draw.parquet(row_group_size=2), ".parquet")
    return draw.read()


@kind
def gzip_in_parts(draw):
    draw.fill(FLAT)
    data = draw.encode(draw.text(draw.pick([*TEXTS, *TABLES])))
    half = len(data) // 2
    draw.save(gzip.compress(data[:half]) + gzip.compress(data[half:]), "", packed=False)
    return draw.read()


@kind
def a_link(draw):
    draw.fill(FLAT)
    case = draw.good()
    link = draw.folder / "link.jsonl"
    link.symlink_to(case.path.name)
    return case._replace(path=link)


@kind
def second_mark(draw):
    """A file that an editor gave a mark which it had already."""
    draw.fill()
    text = "\ufeff" + draw.text("jsonl")
    draw.save(draw.encode(text, draw.pick(["utf-8-sig", "utf-16"])))
    return draw.read()


# Kinds: files that are refused


@kind
def line_cut(draw):
    draw.fill()
    index = draw.rng.randrange(1, len(draw.rows))
    draw.write(["jsonl"], lambda lines: lines.append(lines.pop(index)[:-3]))
    return draw.refused(f":{draw.places[-1]}: not JSON", "mend this line")


@kind
def python_s_quotes(draw):
    draw.fill()

    def edit(lines):
        lines[1:] = map(str, draw.rows[1:])

    draw.write(["jsonl"], edit)
    return draw.refused(f":{draw.places[1]}: not JSON", "json.dumps")


def bad_line(name, line, *said, where=1):
    """A kind in which a line, or an element, is something else."""

    def made(draw):
        draw.fill(FLAT if "twice" in name else FORMS)
        draw.write(["jsonl"], lambda lines: lines.insert(where, line))
        return draw.refused(f":{draw.places[where]}: ", *said)

    def in_array(draw):
        draw.fill(FORMS)
        draw.write(["array"], lambda lines: lines.insert(where, line))
        return draw.refused(f":{where + 1}: ", *said)

    KINDS[name] = made
    if name != "prose":
        KINDS[f"{name}_in_an_array"] = in_array


NO_OBJECT = "not a JSON object"
bad_line("prose", "Is it on? Yes.", "not JSON")
bad_line("number_for_a_row", "40", NO_OBJECT)
bad_line("list_for_a_row", '["a", {"b": "c"}]', NO_OBJECT)
bad_line("null_for_a_row", "null", NO_OBJECT)
bad_line("key_twice", '{"question": "a", "answer": "b", "answer": "c"}', "'answer' is")
bad_line(
    "key_twice_inside",
    '{"messages": [{"role": "user", "content": "a", "content": "b"}]}',
    "'content' is there twice",
)
bad_line("too_deep", '{"text": ' + "[" * 200_000 + "]" * 200_000 + "}", "too deep")
bad_line("too_many_digits", '{"text": ' + "1" * 5000 + "}", "digits")
bad_line("raw_control", '{"text": "a\x01b"}', "not JSON")


@kind
def array_cut(draw):
    draw.fill()
    text = draw.text("array").rstrip()
    text = text[: draw.rng.randrange(len(text) // 2, len(text))]
    draw.save(draw.encode(text), ".json")
    return draw.refused("not JSON")


@kind
def array_and_a_comma(draw):
    draw.fill()
    text = draw.text("array").rstrip().removesuffix("]") + ",]"
    draw.save(draw.encode(text), ".json")
    return draw.refused("not JSON")


@kind
def two_arrays(draw):
    draw.fill()
    draw.save(draw.encode(draw.text("array") * 2), ".json")
    return draw.refused()


@kind
def marks_between(draw):
    """Files with marks, one after the other."""
    draw.fill()
    draw.write(["jsonl"], lambda lines: lines.insert(1, "\ufeff" + lines.pop()))
    return draw.refused(f":{draw.places[1]}: ")


@kind
def cells_left_over(draw):
    draw.fill(FLAT)
    index = draw.rng.randrange(1, len(draw.rows))
    draw.write(TABLES, lambda table: table[index + 1].append("more"))
    return draw.refused(f":{draw.places[index]}: ", "cells under", "put quotes round")


@kind
def header_again(draw):
    draw.fill(FLAT)
    index = draw.rng.randrange(1, len(draw.rows))
    mark = draw.pick(["", "\ufeff"])

    def again(table):
        table.insert(index + 1, [mark + table[0][0], *table[0][1:]])

    draw.write(TABLES, again)
    return draw.refused(f":{draw.places[index]}: ", "header")


@kind
def only_a_header(draw):
    draw.fill(FLAT)
    draw.rows = draw.rows[:1]
    draw.write(TABLES, list.pop)
    return draw.refused("empty")


@kind
def column_twice(draw):
    draw.fill(FLAT[:4])
    draw.write(TABLES, lambda table: [line.append(line[0]) for line in table])
    return draw.refused("is there twice", repr([*draw.rows[0]][0]))


@kind
def odd_quote(draw):
    draw.fill(["question"], "ascii")
    draw.rows = [{"question": f"Is {n} on?", "answer": "Yes."} for n in range(9)]
    index = draw.rng.randrange(1, 9)
    lines = [f"{row['question']},{row['answer']}" for row in draw.rows]
    lines[index] = draw.pick(['"', '"a"']) + lines[index]
    draw.lines = draw.pick([["\n"], ["\r\n"]])
    text = draw.join(["question,answer", *lines])
    draw.save(draw.encode(text), ".csv")
    return draw.refused(f"line {draw.places[index + 1]}: no CSV", "quotes")


@kind
def bars_for_separators(draw):
    draw.save(draw.encode("question|answer\nIs it on?|Yes.\n"), ".csv")
    return draw.refused("no JSONL, JSON array, CSV")


@kind
def prose_file(draw):
    pages = ["Hello there\nthis is prose.\n", "<!DOCTYPE html>\n<p>Hi</p>\n"]
    pages.append("---\na: b\n")
    draw.save(draw.encode(draw.pick(pages)), draw.pick([".txt", ".jsonl", ".csv"]))
    return draw.refused("no JSONL, JSON array, CSV")


@kind
def one_value(draw):
    values = ["null", "40", '"text"', "[1, 2]", '[["a"]]', "[null]"]
    draw.save(draw.encode(draw.pick(values)))
    return draw.refused()


@kind
def nothing(draw):
    empty = ["", " \n\t\n", "[]", "[ ]\n", "\r\n", "\ufeff"]
    draw.save(draw.encode(draw.pick(empty), draw.pick(["utf-8", "utf-16"])))
    return draw.refused("empty")


@kind
def parquet_without_rows(draw):
    draw.fill()
    table = pyarrow.Table.from_pylist(draw.rows).slice(0, 0)
    draw.save(draw.parquet(table), ".parquet")
    return draw.refused("empty")


@kind
def parquet_column_twice(draw):
    columns = [["Is it on?"], ["Yes."], ["No."]]
    names = ["question", "answer", "answer"]
    draw.save(draw.parquet(pyarrow.table(columns, names)), ".parquet")
    return draw.refused("'answer' is there twice")


@kind
def parquet_cut(draw):
    draw.fill()
    data = draw.parquet()
    draw.save(data[: draw.rng.randrange(5, len(data))], ".parquet", packed=False)
    return draw.refused("Parquet")


@kind
def parquet_spoilt(draw):
    """Its last bytes say where everything is."""
    draw.fill()
    data = bytearray(draw.parquet())
    for at in range(len(data) - 40, len(data) - 8):
        data[at] = draw.rng.randrange(256)
    draw.save(bytes(data), ".parquet")
    return draw.refused("Parquet")


@kind
def gzip_cut(draw):
    draw.fill()
    data = gzip.compress(draw.encode(draw.text(draw.pick(TEXTS))))
    draw.save(data[: draw.rng.randrange(3, len(data))], ".jsonl.gz", packed=False)
    return draw.refused("gzip")


@kind
def gzip_spoilt(draw):
    draw.fill()
    data = bytearray(gzip.compress(draw.encode(draw.text(draw.pick(TEXTS)))))
    data[draw.rng.randrange(12, len(data))] ^= 0xFF
    draw.save(bytes(data), ".jsonl.gz", packed=False)
    return draw.refused("gzip")


@kind
def gzip_twice(draw):
    draw.fill()
    data = gzip.compress(draw.encode(draw.text(draw.pick(TEXTS))))
    draw.save(data, ".jsonl.gz", packed=True)
    return draw.refused("gzip")


@kind
def gzip_and_more(draw):
    draw.fill()
    data = gzip.compress(draw.encode(draw.text(draw.pick(TEXTS))))
    draw.save(data + b"more", ".jsonl.gz", packed=False)
    return draw.refused("gzip")


@kind
def gzip_bomb(draw):
    part = b'{"text": "' + b" " * 2**23 + b'"}\n'
    parts = 1 + files.MOST // len(part)
    draw.save(gzip.compress(part) * parts, ".jsonl.gz", packed=False)
    return draw.refused("MB", "give a part of it")


@kind
def parquet_bomb(draw):
    """One text, as often as it takes: a few KB."""
    text = pyarrow.array(["x" * 2**20])
    count = 2 + files.MOST // 2**20
    indices = pyarrow.array([0] * count, pyarrow.int32())
    column = pyarrow.DictionaryArray.from_arrays(indices, text)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), buffer)
    draw.save(buffer.getvalue(), ".parquet", packed=False)
    return draw.refused("MB", "give a part of it")


@kind
def too_large(draw):
    draw.save(b"", packed=False)
    os.truncate(draw.path, files.MOST + 1)  # takes no room on the disk
    return draw.refused("MB", "give a part of it")


def archive(draw, how):
    draw.fill()
    data, buffer = draw.encode(draw.text("jsonl"), "utf-8"), io.BytesIO()
    if how == "tar.gz":
        with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
            info = tarfile.TarInfo("rows.jsonl")
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    else:
        with zipfile.ZipFile(buffer, "w") as packed:
            packed.writestr("rows.jsonl", data)
    return buffer.getvalue()


@kind
def no_text(draw):
    """Archives and other programs' files."""
    how = draw.pick(["tar.gz", "zip", "bz2", "pickle", "xls", "png"])
    if how in ("tar.gz", "zip"):
        data = archive(draw, how)
    else:
        data = {
            "bz2": bz2.compress(b"x" * 5000),
            "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01e.",
            "xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512),
            "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        }[how]
    draw.save(data, draw.pick([".jsonl", ".csv"]), packed=False)
    return draw.refused()


@kind
def random_bytes(draw):
    draw.save(draw.rng.randbytes(draw.rng.randrange(20, 3000)))
    return draw.refused()


@kind
def another_encoding(draw):
    draw.fill(FLAT, "latin-1")
    draw.spoil(None, lambda row: answer_of(row, draw.form, "café à côté"))
    encoding = draw.pick(["cp1252", "latin-1"])
    draw.write([*TEXTS, *TABLES], encoding=encoding, ends=["\n"])
    return draw.refused("not UTF-8", "CSV UTF-8", "iconv")


@kind
def one_line_of_another_encoding(draw):
    draw.fill(FLAT, "ascii")
    draw.spoil(None, lambda row: answer_of(row, draw.form, "@@"))
    text = draw.text(draw.pick(["jsonl", *TABLES]), ends=["\n"])
    at = 1 + breaks(text[: text.index("@@")])
    draw.save(draw.encode(text, "utf-8").replace(b"@@", b"caf\xe9"))
    return draw.refused("not UTF-8", at)


@kind
def half_a_character_in_bytes(draw):
    draw.fill(FLAT, "ascii")
    draw.spoil(None, lambda row: answer_of(row, draw.form, "@@"))
    text = draw.text(draw.pick(["jsonl", *TABLES]))
    draw.save(draw.encode(text, "utf-8").replace(b"@@", b"\xed\xa0\xbd"))
    return draw.refused("not UTF-8")


@kind
def utf16_without_a_mark(draw):
    draw.fill(FLAT)
    text = draw.text(draw.pick([*TEXTS, *TABLES]))
    data = text.encode(draw.pick(["utf-16-le", "utf-16-be", "utf-32"]))
    draw.save(data)
    return draw.refused("UTF-16")


@kind
def utf16_cut(draw):
    draw.fill()
    draw.save(draw.encode(draw.text(draw.pick(TEXTS)), "utf-16")[:-1])
    return draw.refused("not UTF-16")


@kind
def a_nul(draw):
    draw.fill(FLAT)
    draw.spoil(None, lambda row: answer_of(row, draw.form, "@@"))
    if draw.pick(["early", "late"]) == "late":
        draw.fill([draw.form], count=60)
        draw.rows.append(draw.rows.pop(0))
        draw.spoil(None, lambda row: answer_of(row, draw.form, "@@"))
    text = draw.text(draw.pick([*TEXTS, *TABLES]))
    draw.save(draw.encode(text, "utf-8").replace(b"@@", b"a\0b"))
    return draw.refused()


# Kinds: what is no file


@kind
def a_folder(draw):
    draw.path = draw.folder / "rows.jsonl"
    draw.path.mkdir()
    (draw.path / "inside.jsonl").touch()
    return draw.refused("is a folder", "inside.jsonl")


@kind
def a_pipe(draw):
    draw.path = draw.folder / "rows.jsonl"
    os.mkfifo(draw.path)
    return draw.refused("no plain file")


@kind
def a_device(draw):
    draw.path = Path(draw.pick(["/dev/null", "/dev/zero", "/dev/tty"]))
    return draw.refused("no plain file")


@kind
def a_socket(draw):
    draw.path = draw.folder / "s"
    place = os.open(draw.folder, os.O_RDONLY)  # its name has room for 100 characters
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{place}/s")
    finally:
        os.close(place)
    return draw.refused("no plain file")


@kind
def a_circle_of_links(draw):
    draw.path = draw.folder / "rows.jsonl"
    draw.path.symlink_to(draw.pick(["rows.jsonl", "nowhere.jsonl"]))
    return draw.refused("no such file")


@kind
def not_there(draw):
    names = ["missing.jsonl", "a/b/c.jsonl", "é\udcff.csv", "x" * 300]
    draw.path = draw.folder / draw.pick(names)
    return draw.refused()


@kind
def below_a_file(draw):
    draw.fill()
    draw.path = draw.write() / "rows.jsonl"
    return draw.refused("no such file")


@kind
def not_allowed(draw):
    draw.fill()
    draw.write().chmod(0)
    return draw.refused("ermi", as_nobody=True)


@kind
def not_allowed_in(draw):
    draw.fill()
    inside = draw.folder / "closed"
    inside.mkdir()
    draw.path = draw.write().rename(inside / "rows.jsonl")
    inside.chmod(0)
    return draw.refused(as_nobody=True)
