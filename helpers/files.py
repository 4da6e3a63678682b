"""Files: rows out of whatever people keep them in, and back into JSONL.

In: a path.  Out: a list of dicts, or every fault of the file by its line. Knows nothing
of what fields mean: that is for helpers.records, which hands these names on.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow.parquet

# Names by which a file of one column is known for a table.
ALONE = {b"text", b"question", b"instruction", b"input", b"prompt"}


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
    data = path.read_bytes()
    rows, lines, faults = Rows(), [], []
    try:
        for line, row in _rows(data):
            if isinstance(row, dict):
                rows.append(row)
                lines.append(line)
            else:
                faults.append(f"{path}:{line}: {_reason(row)}")
    except (ValueError, OSError, EOFError, RecursionError, zlib.error) as error:
        raise RecordsError(f"{path}: {_reason(error)}") from None
    if faults:
        count = f"{len(faults):,} bad lines, {len(rows):,} other lines are good"
        raise RecordsError("\n".join([*capped(faults), count]))
    if not rows:
        raise RecordsError(f"{path}: the file is empty: it needs a row on each line")
    rows.lines, rows.path = lines, path
    return rows


def _rows(data: bytes) -> Iterator[tuple[int, object]]:
    """(line, the row or what is wrong with it) of a file's bytes."""
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ValueError(
            "a spreadsheet or an archive: in the program that wrote it, save the rows "
            "as 'CSV UTF-8', which keeps all text as it is"
        )
    if data.startswith(b"PAR1"):
        table = pyarrow.parquet.read_table(io.BytesIO(data))
        return (yield from enumerate(table.to_pylist(), 1))
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.decode("utf-16").encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data[:1000]:
        raise ValueError("no text, or UTF-16 without its mark: save it as UTF-8")
    head = [line.strip() for line in io.BytesIO(data[:50_000]) if line.strip()][:20]
    first = head[0] if head else b"{}"
    if first.startswith(b"[") or first == b"{":  # an array, or one row over many lines
        try:
            found = _loads(data)
            found = found if isinstance(found, list) else [found]
            return (yield from enumerate(found, 1))
        except ValueError as error:
            if first != b"{" and getattr(error, "msg", None) != "Extra data":
                raise
    elif first[:1] != b"{" and not any(re.match(rb'{(?!"").*}$', x) for x in head):
        return (yield from _table(data, first))
    for number, line in enumerate(io.BytesIO(data), 1):
        try:
            if line.strip():
                yield number, _loads(line.rstrip(b"\r\n"))
        except ValueError as error:
            yield number, error


def _loads(data: bytes):
    return json.loads(data.decode(), object_pairs_hook=_unique)


def _unique(pairs: list[tuple]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{name!r} is there twice: keep one of the two")
    return found


def _table(data: bytes, header: bytes) -> Iterator[tuple[int, object]]:
    """(line, the row or what is wrong with it) of a table: every cell is text."""
    separator = max(",;\t", key=lambda mark: header.count(mark.encode()))
    if separator.encode() not in header and header.strip(b'"').lower() not in ALONE:
        raise ValueError(
            'no JSONL, JSON array, CSV or Parquet: it needs rows such as {"question": '
            '"...", "answer": "..."}, one on each line'
        )
    data.decode()  # says where it is not UTF-8
    csv.field_size_limit(2**31 - 1)
    text = (line.decode() for line in io.BytesIO(data))
    reader = csv.reader(text, delimiter=separator, strict=True)
    names, line = [], 1
    try:
        for cells in reader:
            begins, line = line, reader.line_num + 1
            if any(cells) and not names:
                names = [cell.strip() for cell in cells]
                _unique([(name, None) for name in names if name])
                while names and not names[-1]:  # separators at the end of a line
                    names.pop()
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
    if isinstance(fault, Exception):
        return str(fault)
    return "not a JSON object but a JSON value: each line must be like {...}"


def write(path: str | os.PathLike, rows: Iterable[dict]) -> None:
    """Write rows as JSONL; a file that is there stays until the new one is whole.

    Raises OSError when there is no room or no permission, ValueError that names the row
    that JSON cannot hold.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for number, row in enumerate(rows, 1):
                try:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                except (TypeError, ValueError) as error:
                    fault = f"row {number} cannot be written: {error}"
                    raise ValueError(fault) from None
        os.replace(temporary, path)
    except OSError as error:
        reason = f"could not write {path} ({error.strerror}): free some space or choose"
        left = "another place; what was there before is untouched"
        raise OSError(error.errno, f"{reason} {left}") from error
    finally:
        temporary.unlink(missing_ok=True)
