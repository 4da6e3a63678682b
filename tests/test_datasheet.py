"""Run with `python -m pytest tests/test_datasheet.py`: instant.

Counts and checksums of data/README.md are computed from the files and must stand there.
"""

import hashlib
import re
from collections import Counter

from helpers import records

import pytest

SHEET = (records.DATA / "README.md").read_text(encoding="utf-8")
LARKFIELD = records.DATA / "larkfield"
SPLITS = {
    name: records.read(LARKFIELD / f"faq_{name}.jsonl") for name in records.SPLITS
}
KINDS = ("paraphrase", "unseen", "out_of_scope", "near_scope")


def table(heading: str) -> dict[str, list[str]]:
    """First cell -> the others, of the first table under a heading (or line)."""
    part = SHEET[SHEET.index(heading) :]
    rows = re.search(r"(?:^\|.*\n)+", part, re.M)[0].splitlines()
    cells = [[c.strip() for c in row.strip("|").split("|")] for row in rows]
    return {first.split(":")[0].strip("`"): rest for first, *rest in cells[2:]}


def kind_of(row):
    default = "paraphrase" if row["fact"] else "out_of_scope"
    return row.get("kind", default)


@pytest.mark.parametrize(
    "path", sorted(records.DATA.glob("**/*.jsonl")), ids=lambda path: path.stem
)
def test_no_file_has_other_rows_than_the_sheet_says(path):
    name = path.relative_to(records.DATA).as_posix()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert table("## What is in it")[name][0] == f"{len(lines):,}"


def test_the_handbook_is_as_long_as_the_sheet_says():
    chapters = [p.read_text("utf-8") for p in (LARKFIELD / "handbook").glob("*.md")]
    words = sum(len(text.split()) for text in chapters)
    sections = sum(len(re.findall(r"\{#[\w-]+\}", text)) for text in chapters)
    page = (records.DATA / "plain_prose.txt").read_text(encoding="utf-8").split()
    assert f"a page of everyday English, {len(page)} words" in SHEET
    figures = f"{len(chapters)} chapters, {sections} sections, {words:,} words"
    assert figures in SHEET
    assert sections >= 250 and words >= 12_000


@pytest.mark.parametrize("kind", KINDS)
def test_questions_of_a_kind_are_as_many_as_the_sheet_says(kind):
    counts = [Counter(map(kind_of, rows))[kind] for rows in SPLITS.values()]
    assert table("### Questions")[kind] == [f"{count:,}" for count in counts]


def test_facts_and_core_rows_are_as_many_as_the_sheet_says():
    found = table("### Questions")
    facts = [len({row["fact"] for row in rows} - {None}) for rows in SPLITS.values()]
    core = [sum(row["core"] for row in rows) for rows in SPLITS.values()]
    assert found["facts asked"] == [str(count) for count in facts]
    assert found["rows marked `core"] == [str(count) for count in core]
    train = SPLITS["train"]
    wordings = Counter(row["fact"] for row in train if row["fact"])
    ninth = [row for row in train if row["id"].endswith("-9")]
    assert set(wordings.values()) == {8, 9}
    text = " ".join(SHEET.split())
    assert (
        f"Each of the {len(wordings)} facts taught stands in 8 wordings, {len(ninth)} "
        "of them in a ninth that begins off the subject."
    ) in text
    live = [row for row in train if row["core"]]
    assert (
        f"the core: {len({row['fact'] for row in live} - {None})} facts, with "
        f"{sum(row['core'] for row in ninth)} of the ninth wordings and "
        f"{sum(not row['fact'] for row in live)} of the refusals."
    ) in text


def test_the_sets_are_as_large_as_the_course_needs():
    counts = Counter(map(kind_of, SPLITS["test"]))
    assert len(SPLITS["train"]) >= 1200 and len(SPLITS["validation"]) >= 120
    assert all(
        counts[kind] >= n for kind, n in zip(KINDS, (250, 60, 60, 40), strict=True)
    )
    assert len(records.read(LARKFIELD / "tickets_train.jsonl")) >= 1000
    assert len(records.read(LARKFIELD / "tickets_test.jsonl")) >= 200
    assert len(records.read(LARKFIELD / "instructions.jsonl")) >= 2000
    assert len(records.read(LARKFIELD / "pretraining_sample.jsonl")) >= 40


def test_desks_are_as_busy_as_the_sheet_says():
    splits = [
        records.read(LARKFIELD / f"tickets_{name}.jsonl") for name in ("train", "test")
    ]
    found = table("### Tickets")
    for desk in {row["output"] for rows in splits for row in rows}:
        counts = [sum(row["output"] == desk for row in rows) for rows in splits]
        assert found[desk] == [str(count) for count in counts]
    hard = [sum(row["hard"] for row in rows) for rows in splits]
    assert found["marked `hard"] == [str(count) for count in hard]


def test_instructions_are_as_the_sheet_says():
    rows = records.read(LARKFIELD / "instructions.jsonl")
    kinds = Counter(row["kind"] for row in rows)
    held_out = {row["kind"] for row in rows if row["held_out"]}
    bare = sum(row["input"] == "" for row in rows)
    text = " ".join(SHEET.split())
    taught = kinds.keys() - held_out
    sizes = sorted({kinds[kind] for kind in taught})
    assert (
        f"{len(kinds)} kinds, {bare} rows without an input. {len(taught)} kinds have "
        f"{sizes[0]} or {sizes[-1]} rows each"
    ) in text
    count = sum(row["held_out"] for row in rows)
    assert f"{count} rows of {len(held_out)} kinds are marked `held_out`" in text
    assert all(f"`{kind}`" in text for kind in held_out)


def test_every_checksum_is_the_file_s_and_no_file_is_without_one():
    block = SHEET.rpartition("```\n")[0].rpartition("```\n")[2]
    given = {
        name: digest for digest, name in (x.split("  ") for x in block.splitlines())
    }
    names = {p.relative_to(records.DATA).as_posix() for p in records.DATA.rglob("*.*")}
    names -= {name for name in names if name.startswith(("README", "models", "record"))}
    found = {
        name: hashlib.sha256((records.DATA / name).read_bytes()).hexdigest()
        for name in names
    }
    assert given == found
