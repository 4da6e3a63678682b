"""Records: JSONL files in, lists of dicts out, and every fault named by its row.

In: a path, or the name of a set in data/ or on the Hugging Face hub.  Out: rows as they
stand there. Knows nothing of prompts, tokens or models.

    python -m helpers.records FILE [OTHER ...]     check FILE, and for leaks into OTHERs
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import os
import re
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import jsonlines
import pandas as pd

DATA = Path(__file__).resolve().parent.parent / "data"

# The forms of record that the course understands: (prompt fields, answer field).
# The first that fits a record is used, the longer before the shorter ones; the input
# beside an instruction may be empty.
FORMS = (
    (("question",), "answer"),
    (("instruction", "input"), "output"),
    (("instruction", "input"), "response"),
    (("instruction",), "output"),
    (("instruction",), "response"),
    (("input",), "output"),
    ((), "text"),
)
FORM_NAMES = (
    "question/answer, instruction/response, instruction/input/output, "
    "input/output, text"
)
# Fields that may stand beside a form and are carried along, not trained on.
EXTRAS = {"id", "fact", "topic", "keys", "core", "kind", "check"}
EXTRAS |= {"source", "held_out", "hard"}
SPLITS = ("train", "validation", "test")
# Sets of the hub that lessons name, and what is read instead where it does not answer.
STAND_INS = {"tatsu-lab/alpaca": "instructions", "lamini/lamini_docs": "faq"}
HUB_SECONDS = 5  # to wait for the hub's first answer
# Names under which tables of texts keep what is to be learnt; not learnt beside "text".
LABELS = {"label", "labels", "category", "class", "intent", "target"}
LABELS |= {answer for fields, answer in FORMS if fields}
MAX_WORDS = 300  # about 400 tokens: what fits a context of 512 with its template


class RecordsError(ValueError):
    """A file that cannot be used; the message lists every fault, one per line."""


def form(record: dict) -> tuple[tuple[str, ...], str | None] | None:
    """The form of a record: (prompt fields, answer field), or None.

    The answer field is None for a record that only asks (a question to answer).
    """
    for prompt_fields, answer in FORMS:
        if answer in record and all(name in record for name in prompt_fields):
            return prompt_fields, answer
    for prompt_fields, _ in FORMS:
        if prompt_fields and all(name in record for name in prompt_fields):
            return prompt_fields, None
    return None


def read(path: str | os.PathLike) -> list[dict]:
    """Read a JSONL file: one JSON object per line, UTF-8; empty lines hold no record.

    Returns the rows in order. Raises RecordsError that names every bad line as
    `file:line: what is wrong`; FileNotFoundError, IsADirectoryError say what to give.
    """
    path = Path(path)
    if path.is_dir():
        files = ", ".join(sorted(p.name for p in path.glob("*.jsonl"))) or "none"
        raise IsADirectoryError(
            f"{path} is a folder: give one JSONL file (in it: {files})"
        )
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file (looked from {Path.cwd()}): check the path"
        )
    rows, faults = [], []
    with path.open("rb") as file:  # bytes, so that a bad line does not hide the next
        # "utf-8-sig" takes off the mark that some editors put first
        lines = (
            (line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).rstrip(
                b"\r\n"
            )
            for number, line in enumerate(file)
        )
        with jsonlines.Reader(lines) as reader:
            while True:
                try:
                    rows.append(reader.read(type=dict, skip_empty=True))
                except EOFError:
                    break
                except jsonlines.InvalidLineError as error:
                    reason = _reason(error)
                    faults.append(f"{path}:{error.lineno}: {reason}")
    if faults and not rows and (separator := _csv_separator(path)):
        how = "" if separator == "," else f", sep={separator!r}"
        raise RecordsError(
            f"{path}: this looks like a table (CSV), not JSONL. Turn it into "
            "JSONL with\n"
            f"  pandas.read_csv({str(path)!r}{how}).to_json("
            f"{str(path.with_suffix('.jsonl'))!r}, orient='records', lines=True)"
        )
    if faults:
        good = f"{len(rows)} other lines are good"
        raise RecordsError("\n".join([*faults, f"{len(faults)} bad lines, {good}"]))
    if not rows:
        raise RecordsError(
            f"{path}: the file is empty: it needs one JSON object per line"
        )
    return rows


def _reason(error: jsonlines.InvalidLineError) -> str:
    """Say in plain words what is wrong with a line."""
    cause = error.__cause__
    if isinstance(cause, UnicodeDecodeError):
        found = cause.object[cause.start : cause.start + 1].hex()
        return f"not UTF-8 (byte 0x{found} at {cause.start}): save the file as UTF-8"
    if cause is not None and hasattr(cause, "colno"):
        return f"not JSON ({cause.msg} at column {cause.colno}): mend this line"
    kind = "a JSON value" if "object" not in str(error) else "not an object"
    return f"not a JSON object but {kind}: each line must be like {{...}}"


def _csv_separator(path: Path) -> str | None:
    """What separates the columns of a file that looks like a table, else None."""
    with path.open("rb") as file:
        first = file.readline()
    separator = max(",;\t", key=lambda c: first.count(c.encode()))
    looks = separator.encode() in first and not first.lstrip().startswith((b"{", b"["))
    return separator if looks or path.suffix.lower() in {".csv", ".tsv"} else None


def write(path: str | os.PathLike, rows: list[dict]) -> None:
    """Write rows as JSONL; a file that is there stays until the new one is whole.

    Raises OSError when there is no room or no permission, TypeError that names the row
    that JSON cannot hold.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with jsonlines.open(temporary, "w") as writer:
            for number, row in enumerate(rows, 1):
                try:
                    writer.write(row)
                except TypeError as error:
                    raise TypeError(
                        f"row {number} cannot be written: {error}"
                    ) from None
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {path} ({error.strerror}): free some space or choose "
            "another place; what was there before is untouched",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def normalise(text: str) -> str:
    """Lower case, straight apostrophes, words and digits only: for comparing texts."""
    text = text.casefold().replace("’", "'")
    return " ".join(re.findall(r"[\w']+", text))


def prompt_text(record: dict) -> str:
    """What a record asks: its prompt fields, or its text, joined by newlines."""
    found = form(record)
    if found is None:
        return ""
    names = found[0] or ("text",)
    return "\n".join(str(record[name] or "") for name in names)


def check(
    rows: list[dict], others: dict[str, list[dict]] | None = None
) -> pd.DataFrame:
    """Find what would spoil a training set: one line per fault.

    others: name -> rows of the other splits; a question that stands in one of them
    as well (case and punctuation aside) is a leak.
    Returns a frame with columns row (from 1, as the lines of the file), fault, detail.
    """
    faults: list[tuple[int, str, str]] = []
    seen: dict[str, int] = {}
    elsewhere: dict[str, str] = {}
    for name, other in (others or {}).items():
        for number, record in enumerate(other, 1):
            key = normalise(prompt_text(record))
            elsewhere.setdefault(key, f"{name} row {number}")
    known = {name for fields, answer in FORMS for name in (*fields, answer)} | EXTRAS
    for number, record in enumerate(rows, 1):
        found = form(record)
        labels = LABELS if found == ((), "text") else set()
        for name in sorted(set(record) & labels):
            detail = f"{name!r} beside 'text', which alone would be learnt: rename them"
            detail += " 'input' and 'output'"
            faults.append((number, "label not learnt", detail))
        if not isinstance(record.get("keys", []), list):
            detail = "'keys' must be a list of texts, even of one"
            faults.append((number, "not a list", detail))
        for name in sorted(set(record) - known - labels):
            close = difflib.get_close_matches(name, known, 1, cutoff=0.7)
            hint = f": did you mean {close[0]!r}?" if close else ""
            faults.append((number, "unknown field", f"{name!r}{hint}"))
        if found is None or found[1] is None:
            has = ", ".join(sorted(record)) or "nothing"
            detail = f"has {has}; needs one of {FORM_NAMES}"
            faults.append((number, "missing field", detail))
            continue
        fields, answer = found
        for name in (*fields, answer):
            value = record[name]
            if name == "input" and "instruction" in fields:
                value = value or "-"  # Alpaca's rows may have no input
            if not isinstance(value, str):
                kind = type(value).__name__
                detail = f"{name!r} is {kind}, not text: write it as a string"
                faults.append((number, "not text", detail))
            elif not value.strip():
                faults.append((number, "blank", f"{name!r} has no text"))
        key = normalise(prompt_text(record))
        if key and key in seen:
            same = normalise(str(record[answer])) == normalise(
                str(rows[seen[key] - 1].get(answer))
            )
            kind = "duplicate" if same else "conflict"
            detail = f"asks the same as row {seen[key]}"
            faults.append((number, kind, detail + ("" if same else ", answers not")))
        elif key:
            seen[key] = number
        if key and key in elsewhere:
            faults.append((number, "leak", f"also stands in {elsewhere[key]}"))
        words = sum(len(str(record[name]).split()) for name in (*fields, answer))
        if words > MAX_WORDS:
            detail = f"{words} words: the model will see about {MAX_WORDS}"
            faults.append((number, "too long", detail))
    return pd.DataFrame(faults, columns=["row", "fault", "detail"])


def load(name: str, streaming: bool = False):
    """A data set by name: one of data/larkfield, or one of the Hugging Face hub.

    name: "faq", "tickets", "instructions", ... are the files NAME_SPLIT.jsonl of
    data/larkfield; a set of one file, NAME.jsonl, has one split, "train". A name of the
    form owner/name is looked for on the hub. Where the hub does not answer, a copy that
    was downloaded earlier is used, else STAND_INS; a printed line says so.
    streaming: rows are read as they are asked for, and a set of the hub is not kept.
    Returns a datasets.DatasetDict, or with streaming an IterableDatasetDict.
    Raises ValueError for a set that is not there or cannot be read, ConnectionError
    when the hub does not answer and nothing can take the set's place.
    """
    from datasets import Dataset, DatasetDict, IterableDatasetDict

    sets: dict[str, dict[str, Path]] = {}
    for path in sorted((DATA / "larkfield").glob("*.jsonl")):
        family, _, split = path.stem.rpartition("_")
        if split not in SPLITS:
            family, split = path.stem, "train"
        sets.setdefault(family, {})[split] = path
    if name not in sets:
        if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) and not Path(name).exists():
            return _load_from_hub(name, streaming)
        raise ValueError(
            f"no data set {name!r}: there are {', '.join(sorted(sets))}; one of the "
            "hub has the form owner/name, and a file of your own is for records.read"
        )
    loaded = DatasetDict(
        {
            # checks differ in their fields from row to row: kept as they are
            split: Dataset.from_list(read(path), on_mixed_types="use_json")
            for split, path in sets[name].items()
        }
    )
    if not streaming:
        return loaded
    return IterableDatasetDict(
        {split: rows.to_iterable_dataset() for split, rows in loaded.items()}
    )


def _load_from_hub(name: str, streaming: bool):
    import datasets
    import huggingface_hub
    from datasets.packaged_modules.cache.cache import Cache

    datasets.utils.logging.set_verbosity_error()  # its notices hold times and paths
    if os.environ.get("COURSE_QUIET"):
        datasets.disable_progress_bars()
        huggingface_hub.utils.disable_progress_bars()
    if hub_answers():
        try:
            return datasets.load_dataset(name, streaming=streaming)
        except Exception as error:  # many kinds, each under a page of HTTP
            reason = " ".join(str(error).split())[:300].rstrip(".")
            raise ValueError(
                f"could not load {name!r} from the hub: {reason}. Look for it on "
                "huggingface.co/datasets: it must be public and hold data files such "
                "as Parquet or JSONL, not a script"
            ) from None
    try:  # load_dataset would find the same copy, after 20 seconds of retries
        cached = Cache(
            repo_id=name,
            dataset_name=name.split("/")[1],
            version="auto",
            hash="auto",
        )
    except ValueError:
        if name in STAND_INS:
            print(f"The hub does not answer: {STAND_INS[name]} stands in for {name}.")
            return load(STAND_INS[name], streaming)
        raise ConnectionError(
            f"could not load {name!r}: the hub does not answer, and no copy was "
            "downloaded earlier. Check the network (and HF_HUB_OFFLINE, HF_ENDPOINT), "
            "then start Python again; a file of your own is for records.read"
        ) from None
    return cached.as_streaming_dataset() if streaming else cached.as_dataset()


@functools.cache
def hub_answers() -> bool:
    """Whether the Hugging Face hub can be reached; asked once in a process, briefly.

    Without it every download would first retry for 20 seconds or more. At most
    HUB_SECONDS, also where looking up the hub's address hangs, which no timeout of the
    client covers. HF_HUB_OFFLINE=1 means no at once.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    answers = []

    def ask():
        # no route, no name, a broken proxy, offline mode: all mean no
        with contextlib.suppress(Exception):
            reply = get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
            answers.append(reply.status_code < 500)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return answers == [True]


def core(rows: Iterable[dict]) -> list[dict]:
    """The rows that lessons use when they run live: those marked `core`.

    All of them when the environment says COURSE_ROWS=all; ValueError for other values.
    """
    asked = os.environ.get("COURSE_ROWS") or "core"
    if asked not in ("core", "all"):
        raise ValueError(f"COURSE_ROWS is {asked!r}: give 'all', or leave it unset")
    return [row for row in rows if asked == "all" or row["core"]]


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when the file is clean, 1 when faults were found."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.records",
        description="Check a JSONL file before training on it.",
    )
    parser.add_argument("file", help="the file to check")
    parser.add_argument(
        "others", nargs="*", help="other splits, to find leaks into them"
    )
    options = parser.parse_args(arguments)
    try:
        rows = read(options.file)
        faults = check(rows, {name: read(name) for name in options.others})
    except (OSError, RecordsError) as error:
        print(error, file=sys.stderr)
        return 1
    for row, fault, detail in faults.itertuples(index=False):
        print(f"{options.file}: row {row}: {fault}: {detail}")
    print(f"{options.file}: {len(rows)} rows, {len(faults)} faults")
    return 1 if len(faults) else 0


if __name__ == "__main__":
    sys.exit(main())
