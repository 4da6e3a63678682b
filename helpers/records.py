"""Records: rows in, each as it stands in its file or as a conversation out.

In: a path, or the name of a set in data/ or on the Hugging Face hub.  Out: lists of
dicts, and messages. Knows nothing of templates, tokens or models.

    python -m helpers.records FILE [OTHER ...]     check FILE, and for leaks into OTHERs
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from helpers.checks import check, normalise, notices
from helpers.files import RecordsError, capped, places, read, safe_console, write

__all__ = ["check", "normalise", "notices", "places", "write"]  # handed on

DATA = Path(__file__).resolve().parent.parent / "data"
SPLITS = ("train", "validation", "test")
# Sets of the hub that lessons name, and what is read instead where it does not answer.
STAND_INS = {"tatsu-lab/alpaca": "instructions", "lamini/lamini_docs": "faq"}
HUB_SECONDS = 5  # to wait for the hub's first answer
FORM_NAMES = (
    "question/answer, question/context/answer, instruction/response, "
    "instruction/input/output, instruction/context/response, input/output, "
    "prompt/completion, messages, conversations, text"
)
# What asks, and what may answer it: the first pair that a row has is its form.
ASKS = {"question": ["answer"], "instruction": ["output", "response"]}
ASKS |= {"input": ["output"], "prompt": ["completion"]}
BESIDE = ("context", "input")  # of a question or an instruction; may be empty
BEFORE = ("system", "history")  # a line, and pairs of [asked, answered]
TALKS = ("messages", "conversations")  # OpenAI's and ShareGPT's
LISTS = (*TALKS, "prompt", "completion")  # which may be lists of turns
FIELDS = {*ASKS, *sum(ASKS.values(), []), *BESIDE, *BEFORE, *TALKS, "text"}
ROLES = {role: role for role in ("system", "user", "assistant")}
ROLES |= {"developer": "system", "human": "user", "gpt": "assistant"}
TOOLS = ("tool", "function", "function_call", "observation")
# Fields of ours that may stand beside a form: carried along, known not to be learnt.
EXTRAS = {"id", "fact", "topic", "keys", "core", "kind", "check"}
EXTRAS |= {"source", "held_out", "hard"}
# Names under which tables of texts keep what is to be learnt; not learnt beside "text".
LABELS = {"label", "labels", "category", "class", "intent", "target"}
LABELS |= {"answer", "output", "response", "completion"}


class RowError(ValueError):
    """A row that cannot be used: RowError(fault, as `check` names it; detail)."""

    def __str__(self) -> str:
        return self.args[1]


def form(row: dict) -> tuple[tuple[str, ...], str | None] | None:
    """The form of a row: (fields that ask, the field that answers), or None.

    The second is None for a row that only asks; a conversation is both in one field.
    """
    asks = None
    for name in TALKS:
        if row.get(name) is not None:
            return (name,), name
    for ask, answers in ASKS.items():
        if ask in row:
            beside = BESIDE if ask in ("question", "instruction") else ()
            fields = (ask, *(name for name in beside if name in row))
            for answer in answers:
                if answer in row:
                    return fields, answer
            asks = asks or (fields, None)
    return ((), "text") if "text" in row else asks


def messages(row: dict) -> list[dict]:
    """A row as a conversation: the list of {"role", "content"} that templates take.

    A system line if there is one, then user and assistant in turn. What stands beside a
    question or an instruction follows it after a blank line; a row that only asks ends
    with the user. A `text` is one turn of the assistant, without any user: raw text.
    Raises RowError, a ValueError, that names the field and what was found.
    """
    if (found := form(row)) is None:
        has = f"record has the fields {', '.join(map(repr, row)) or 'none'}"
        raise RowError("missing field", f"{has}: needs one of {FORM_NAMES}")
    fields, answer = found
    if answer == "text":
        return [{"role": "assistant", "content": _text("'text'", row["text"])}]
    turns = [("'system'", "system", row.get("system"))]  # (where, role, content)
    history = row.get("history") or []
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowError("turns", f"'history' holds {pair!r:.40}, no pair of texts")
        turns += [("'history'", "user", pair[0]), ("'history'", "assistant", pair[1])]
    for name, role in {fields[0]: "user", answer: "assistant"}.items():
        value = row.get(name)
        if isinstance(value, list) and name in LISTS:
            turns += [_turn(f"turn {n} of {name!r}", t) for n, t in enumerate(value, 1)]
        elif name in TALKS:
            raise RowError("not a list", f"{name!r} is no list of turns: {value!r:.40}")
        elif role == "user":
            texts = [_text(repr(field), row[field], field != name) for field in fields]
            turns.append((repr(name), role, "\n\n".join(filter(None, texts))))
        elif name:
            turns.append((repr(name), role, value))
    said = [(role, _text(where, text, role == "system")) for where, role, text in turns]
    said = [{"role": role, "content": text} for role, text in said if text]
    roles = [turn["role"] for turn in said]
    talk = roles[1:] if roles[:1] == ["system"] else roles
    if not talk or talk != (["user", "assistant"] * len(talk))[: len(talk)]:
        fault = f"{fields[0]!r} is by {', '.join(roles) or 'nobody':.60}"
        raise RowError("turns", f"{fault}: needs user, then assistant, and so on")
    return said


def _turn(where: str, turn: object) -> tuple[str, str, object]:
    """(where, role, content) of a turn in OpenAI's or ShareGPT's names."""
    if not isinstance(turn, dict):
        raise RowError("turns", f"{where} is no role with content: {turn!r:.40}")
    by = turn.get("role", turn.get("from"))
    content = turn.get("content", turn.get("value"))
    if by in TOOLS or turn.get("tool_calls") or turn.get("function_call"):
        raise RowError(
            "not supported", f"{where} calls a tool or is one's: take it out"
        )
    if not isinstance(by, str) or by not in ROLES:
        raise RowError("turns", f"{where} is by {by!r:.40}: needs user or assistant")
    if isinstance(content, list):
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else part
            if kind != "text":
                raise RowError("not supported", f"{where} holds {kind!r:.40}, not text")
        content = "\n".join(_text(where, part.get("text")) for part in content)
    return where, ROLES[by], content


def _text(where: str, value: object, may_be_empty: bool = False) -> str:
    if value is None and may_be_empty:
        return ""
    if not isinstance(value, str):
        kind = type(value).__name__
        raise RowError("not text", f"{where} is {kind}, not text: {value!r:.40}")
    if not value.strip() and not may_be_empty:
        raise RowError("blank", f"{where} has no text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"{where} holds half of a character ({ascii(value[error.start])[1:-1]})"
        raise RowError("half a character", f"{half}: write it anew") from None
    return value.strip()


def prompt(row: dict) -> list[dict]:
    """What a model is asked: the messages up to the last answer; none before a text."""
    said = messages(row)
    return said[:-1] if said[-1]["role"] == "assistant" else said


def answer(row: dict) -> str | None:
    """The last answer of a row, or its text; None where there is none to be used."""
    name = (form(row) or (None, None))[1]
    if name and isinstance(row[name], str) and name not in TALKS:
        return row[name].strip()
    with contextlib.suppress(RowError):
        last = messages(row)[-1]
        return last["content"] if last["role"] == "assistant" else None
    return None


def prompt_text(row: dict) -> str:
    """What a row asks, or its text, as one string, to compare and to show.

    Fields, or turns, joined by newlines; empty for a row that cannot be used.
    """
    fields, _ = form(row) or ((), None)
    talk = fields and any(row.get(name) for name in BEFORE)
    if talk or any(isinstance(row[name], list) for name in fields):
        with contextlib.suppress(RowError):
            return "\n".join(turn["content"] for turn in prompt(row))
        return ""
    return "\n".join(str(row.get(name) or "") for name in fields or ("text",))


def unlearnt(rows: Iterable[dict]) -> dict[str, int]:
    """The fields that training leaves out, each with the number of rows that have it.

    They are no part of the row's form and none of EXTRAS; empty ones do not count.
    """
    counts: dict[str, int] = {}
    for row in rows:
        fields, answer = form(row) or ((), None)
        learnt = EXTRAS.union(fields, [answer], BEFORE if fields else ())
        for name, value in row.items():
            if name not in learnt and value not in (None, "", []):
                counts[name] = counts.get(name, 0) + 1
    return counts


def load(name: str, streaming: bool = False):
    """A data set by name: one of data/larkfield, or one of the Hugging Face hub.

    name: "faq", "tickets", "instructions", ... are the files NAME_SPLIT.jsonl of
    data/larkfield, or NAME.jsonl, which is all "train"; owner/name is a set of the hub.
    Where the hub does not answer, a copy that was downloaded earlier is used, else
    STAND_INS; a printed line says so.
    streaming: rows are read as they are asked for, and a set of the hub is not kept.
    Returns a datasets.DatasetDict, or with streaming an IterableDatasetDict. Raises
    ValueError for a set that is not there or cannot be read, ConnectionError when the
    hub does not answer and nothing can take the set's place.
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
    # checks differ in their fields from row to row: kept as they are
    loaded = {
        split: Dataset.from_list(read(path), on_mixed_types="use_json")
        for split, path in sets[name].items()
    }
    if not streaming:
        return DatasetDict(loaded)
    return IterableDatasetDict({s: r.to_iterable_dataset() for s, r in loaded.items()})


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
            reason = re.sub(r"//[^/@ ]*@", "//***@", reason)  # a password
            raise ValueError(
                f"could not load {name!r} from the hub: {reason}. Look for it on "
                "huggingface.co/datasets: it must be public and hold data files such "
                "as Parquet or JSONL, not a script"
            ) from None
    _, short = name.split("/")
    try:  # load_dataset would find the same copy, after 20 seconds of retries
        cached = Cache(repo_id=name, dataset_name=short, version="auto", hash="auto")
        return cached.as_streaming_dataset() if streaming else cached.as_dataset()
    except ValueError:
        if name not in STAND_INS:
            raise ConnectionError(
                f"could not load {name!r}: the hub does not answer, and no copy was "
                "downloaded earlier. Check the network (and HF_HUB_OFFLINE, "
                "HF_ENDPOINT), then start Python again; a file of your own is for "
                "records.read"
            ) from None
    print(f"The hub does not answer: {STAND_INS[name]} stands in for {name}.")
    return load(STAND_INS[name], streaming)


@functools.cache
def hub_answers() -> bool:
    """Whether the Hugging Face hub can be reached; asked once in a process, briefly.

    Without it every download would first retry for 20 seconds or more. At most
    HUB_SECONDS, also where looking up the hub's address hangs, which no timeout of the
    client covers. HF_HUB_OFFLINE=1 means no at once.
    """
    from helpers import strangers  # noqa: F401 from here on hubs are not believed

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
    safe_console()
    parser = argparse.ArgumentParser(
        prog="python -m helpers.records",
        description="Check a file of rows (JSONL, JSON, CSV, Parquet) before training.",
    )
    parser.add_argument("file", help="the file to check")
    parser.add_argument("others", nargs="*", help="other splits, to find leaks into")
    options = parser.parse_args(arguments)
    try:
        rows = read(options.file)
        faults = check(rows, {name: read(name) for name in options.others})
    except (OSError, RecordsError) as error:
        print(error, file=sys.stderr)
        return 1
    listed = faults.itertuples(index=False)
    lines = capped([f"row {row}: {fault}: {text}" for row, fault, text in listed])
    left = [f"{name!r} in {n:,} of {len(rows):,}" for name, n in unlearnt(rows).items()]
    if left:
        lines.append(f"not learnt: {', '.join(capped(left))}")
    found = notices(rows)
    kinds = found[found["notice"] != "not learnt"].groupby("notice", sort=False)["row"]
    if found := [f"{kind} in {len(at):,} rows, as {at.iloc[0]}" for kind, at in kinds]:
        lines.append(f"personal data: {'; '.join(found)}")
    for line in lines:
        print(f"{options.file}: {line}")
    print(f"{options.file}: {len(rows)} rows, {len(faults)} faults")
    return 1 if len(faults) else 0


if __name__ == "__main__":
    sys.exit(main())
