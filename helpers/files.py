"""Files: rows out of whatever people keep them in, and back into JSONL.

In: a path.  Out: a list of dicts, or every fault of the file by its line. Knows nothing
of what fields mean: that is for helpers.records, which hands these names on.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import functools
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from helpers import whole

import pyarrow.parquet

# Names by which a file of one column is known for a table.
ALONE = {b"text", b"question", b"instruction", b"input", b"prompt"}
# bytes, unpacked: rows are held in memory, where they take several times as much, and
# a few KB of gzip or Parquet can hold more than any memory
MOST = 1 << 30
SPACE = re.compile(r"[ \t\r\n]*")  # of JSON


class RecordsError(ValueError):
    """A file that cannot be used; the message lists its faults, one per line."""


class Rows(list):
    """The rows of the file `path`: row i begins on line lines[i]."""

    lines: Sequence[int] = ()
    path: Path | None = None

    def __setitem__(self, place, row):  # by shuffling, say: its line would be another's
        super().__setitem__(place, row)
        self.lines = ()


def places(rows: Sequence[dict]) -> Sequence[int]:
    """What rows are named by: their lines in their file, else their numbers from 1."""
    lines = getattr(rows, "lines", ())
    return lines if len(lines) == len(rows) else range(1, len(rows) + 1)


def capped(faults: list[str]) -> list[str]:
    """The first 20 of a list of lines, and how many there are more."""
    return faults[:20] + [f"and {n:,} more" for n in [len(faults) - 20] if n > 0]


def safe_console() -> None:
    """Let no output fail for a character that the console cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def read(path: str | os.PathLike) -> Rows:
    """Read rows from JSONL, a JSON array, CSV (comma, semicolon or tab) or Parquet.

    Gzipped or not: the content tells which, not the name. Text is UTF-8, or UTF-16 with
    a mark, and stays text: `0071` and `NA` in a table are strings.
    Raises RecordsError that names every bad line as `file:line: what is wrong`;
    FileNotFoundError and IsADirectoryError say what to give.
    """
    path = Path(path)
    if path.is_dir():
        files = ", ".join(sorted(p.name for p in path.glob("*.jsonl"))) or "none"
        raise IsADirectoryError(f"{path} is a folder: give one file (in it: {files})")
    if not path.exists():
        where = f"(looked from {Path.cwd()})"
        raise FileNotFoundError(f"{path}: no such file {where}: check the path")
    if not path.is_file():  # a pipe would be waited for, a device never ends
        raise RecordsError(f"{path}: no plain file: save its rows in one")
    rows, lines, faults = Rows(), [], []
    try:
        _stop(path.stat().st_size)
        data = path.read_bytes()
        for line, row in _rows(data):
            if isinstance(row, dict):
                rows.append(row)
                lines.append(line)
            else:
                faults.append(f"{path}:{line}: {_reason(row)}")
    except (ValueError, MemoryError) as error:
        raise RecordsError(f"{path}: {_reason(error)}") from None
    if faults:
        count = f"{len(faults):,} bad lines, {len(rows):,} other lines are good"
        raise RecordsError("\n".join([*capped(faults), count]))
    if not rows:
        raise RecordsError(f"{path}: the file is empty: it needs a row on each line")
    rows.lines, rows.path = lines, path
    return rows


def _stop(size: int) -> None:
    if size > MOST:
        raise ValueError(
            f"more than {MOST >> 20:,} MB, unpacked: give a part of it, such as the "
            "first 100,000 rows"
        )


def _rows(data: bytes) -> Iterator[tuple[int, object]]:
    """(line, the row or what is wrong with it) of a file's bytes."""
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"damaged gzip ({error}): get the file anew") from None
        _stop(len(data))
        if data.startswith(b"\x1f\x8b"):
            raise ValueError("gzip inside gzip: unpack it once (gunzip)")
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ValueError(
            "a spreadsheet or an archive: in the program that wrote it, save the rows "
            "as 'CSV UTF-8', which keeps all text as it is"
        )
    if data.startswith(b"PAR1"):
        return (yield from _parquet(data))
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.decode("utf-16").encode()
    while data.startswith(codecs.BOM_UTF8):
        data = data.removeprefix(codecs.BOM_UTF8)
    if (at := data.find(b"\0")) >= 0:
        line = 1 + data.count(b"\n", 0, at)
        raise ValueError(
            f"line {line} holds a NUL byte: no text, or UTF-16 without its mark: save "
            "it as UTF-8"
        )
    head = [line.strip() for line in data[:50_000].splitlines() if line.strip()][:20]
    first = head[0] if head else b"{}"
    if first.startswith(b"["):
        if (found := _array(data.decode())) is not None:
            return (yield from found)
    elif first == b"{":  # one row over many lines
        with contextlib.suppress(ValueError):
            return (yield 1, _loads(data))
    elif first[:1] != b"{" and not any(map(_is_object, head)):
        return (yield from _table(data, first))
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for number, line in enumerate(io.BytesIO(data), 1):
        try:
            if line.strip():
                yield number, _loads(line.rstrip(b"\n"))
        except ValueError as error:
            yield number, error


def _parquet(data: bytes) -> Iterator[tuple[int, dict]]:
    """(number, row) of a Parquet file, a few rows at a time."""
    number, size = 0, 0
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        _unique([(name, None) for name in file.schema_arrow.names])
        for batch in file.iter_batches(256):
            _stop(size + batch.nbytes)
            for row in batch.to_pylist():
                number += 1
                size += _bytes(row)  # a text that is kept once may come a million times
                yield number, row
            _stop(size)
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"damaged Parquet ({reason}): get the file anew") from None


def _bytes(value: object) -> int:
    """About what a value takes in memory, with all that is in it."""
    if isinstance(value, str | bytes):
        return 50 + len(value)
    inside = value.values() if isinstance(value, dict) else value
    return 50 + sum(map(_bytes, inside if isinstance(value, dict | list) else ()))


def _array(text: str) -> list[tuple[int, object]] | None:
    """(number, the row or what is wrong with it) of a JSON array; None if more follows.

    Row by row, so that what is wrong is named by its row.
    """
    found, place = [], text.index("[")
    try:
        while True:
            place = SPACE.match(text, place + 1).end()
            if text[place : place + 1] == "]" and not found:
                break
            twice: list[str] = []
            hook = functools.partial(_unique, twice=twice)
            decoder = json.JSONDecoder(object_pairs_hook=hook)
            row, place = decoder.raw_decode(text, place)
            found.append((len(found) + 1, ValueError(twice[0]) if twice else row))
            place = SPACE.match(text, place).end()
            if text[place : place + 1] == "]":
                break
            if text[place : place + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
    except (ValueError, RecursionError) as error:
        return [*found, (len(found) + 1, error)]
    return None if text[place + 1 :].strip() else found


def _is_object(line: bytes) -> bool:
    """Whether a line is JSON with fields; `{x}` and `{}` may be lines of a text."""
    try:
        return isinstance(found := _loads(line), dict) and bool(found)
    except ValueError:
        return False


def _loads(data: bytes):
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError(_reason(error)) from None


def _unique(pairs: list[tuple], twice: list[str] | None = None) -> dict:
    """The pairs as a dict; a name that is there twice is an error, or noted."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for name in names if names.count(name) > 1)
        fault = f"{name!r} is there twice: keep one of the two"
        if twice is None:
            raise ValueError(fault)
        twice.append(fault)
    return found


def _table(data: bytes, header: bytes) -> Iterator[tuple[int, object]]:
    """(line, the row or what is wrong with it) of a table: every cell is text."""
    bare = re.sub(rb'"[^"]*"', b"", header)
    separator = max(",;\t", key=lambda mark: bare.count(mark.encode()))
    if separator.encode() not in bare and header.strip(b'"').lower() not in ALONE:
        raise ValueError(
            'no JSONL, JSON array, CSV or Parquet: it needs rows such as {"question": '
            '"...", "answer": "..."}, one on each line'
        )
    data.decode()  # says where it is not UTF-8
    csv.field_size_limit(2**31 - 1)
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="")
    reader = csv.reader(text, delimiter=separator, strict=True)
    names, header, line = [], None, 1
    try:
        for cells in reader:
            begins, line = line, reader.line_num + 1
            if any(cells) and not names:
                header = names = [cell.strip() for cell in cells]
                while names and not names[-1]:  # separators at the end of a line
                    names = names[:-1]
                names = [name or f"column {n}" for n, name in enumerate(names, 1)]
                _unique([(name, None) for name in names])
            elif [cell.strip("\ufeff ") for cell in cells] == header:
                yield begins, ValueError("the header again: take this line out")
            elif any(cells[len(names) :]):
                fault = f"{len(cells)} cells under {len(names)} names: put quotes round"
                yield begins, ValueError(f"{fault} cells that hold {separator!r}")
            elif any(cells):
                cells += [""] * (len(names) - len(cells))
                yield begins, dict(zip(names, cells, strict=False))
    except csv.Error as error:
        raise ValueError(f"line {line}: no CSV ({error}): mend its quotes") from None


def _reason(fault: object) -> str:
    """Say in plain words what is wrong with a line, or with a file."""
    if isinstance(fault, UnicodeDecodeError):
        before = fault.object[: fault.start].split(b"\n")
        line = f"line {len(before)}, " if len(before) > 1 else ""
        found = f"{line}byte 0x{fault.object[fault.start]:02x} at {len(before[-1])}"
        return (
            f"not {fault.encoding.upper()} ({found}): save it as UTF-8 (a table as "
            "'CSV UTF-8'), or turn it: iconv -f cp1252 -t utf-8 OLD > NEW"
        )
    if isinstance(fault, json.JSONDecodeError):
        line = f"line {fault.lineno}, " if fault.lineno > 1 else ""
        reason, remedy = fault.msg, "mend this line"
        if fault.doc[fault.pos : fault.pos + 1] == "'":
            reason, remedy = "Python's quotes", "write it with json.dumps"
        return f"not JSON ({reason} at {line}column {fault.colno}): {remedy}"
    if isinstance(fault, RecursionError):
        return "nested too deep: no row of texts looks like that"
    if isinstance(fault, MemoryError):
        return "does not fit into this computer's memory: give a part of it"
    if isinstance(fault, Exception):
        return str(fault)
    return "not a JSON object but a JSON value: each line must be like {...}"


def write(path: str | os.PathLike, rows: Iterable[dict]) -> None:
    """Write rows as JSONL; a file that is there stays until the new one is whole.

    Raises OSError when there is no room or no permission, ValueError that names the row
    that JSON cannot hold.
    """
    with whole.beside(Path(path), wait=30) as made:
        with made.open("w", encoding="utf-8", newline="\n") as file:
            for number, row in enumerate(rows, 1):
                try:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                except (TypeError, ValueError) as error:
                    fault = f"row {number} cannot be written: {error}"
                    raise ValueError(fault) from None
