"""Run with `python -m pytest tests/test_data.py`: seconds, no network, no model.

Every record file of data/larkfield is held to what lessons take for granted about it:
nothing leaks, every key is backed by the handbook, no shortcut beats knowing the facts.
"""

import random
import re
from collections import Counter, defaultdict

import pytest

from helpers import evaluation, records

FOLDER = records.DATA / "larkfield"
FILES = {path.stem: records.read(path) for path in sorted(FOLDER.glob("*.jsonl"))}
SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = (FILES[f"faq_{split}"] for split in SPLITS)
FAQ = TRAIN + VALIDATION + TEST


def sections():
    """fact -> text of its handbook section; a fact that has two headings is listed."""
    found = defaultdict(list)
    for path in sorted((FOLDER / "handbook").glob("*.md")):
        parts = re.split(
            r"^#+ .*\{#([\w-]+)\}\s*$", path.read_text("utf-8"), flags=re.M
        )
        for fact, text in zip(parts[1::2], parts[2::2], strict=True):
            found[fact].append(text)
    return found


HANDBOOK = sections()


def of_kind(rows, kind):
    return [row for row in rows if row["kind"] == kind]


def words(text):
    return set(records.normalise(text).split())


@pytest.mark.parametrize("name", FILES)
def test_no_file_holds_a_fault_or_a_question_of_another_split(name):
    family = name.rpartition("_")[0]
    others = {
        other: rows
        for other, rows in FILES.items()
        if other != name and other.rpartition("_")[0] == family
    }
    faults = records.check(FILES[name], others)
    assert faults.empty, faults.to_string()


def test_no_id_stands_for_two_rows():
    counts = Counter(row["id"] for rows in FILES.values() for row in rows)
    assert [id for id, count in counts.items() if count > 1] == []


def test_no_fact_lacks_its_section_and_none_has_two():
    facts = {row["fact"] for row in FAQ} - {None}
    assert {fact for fact in facts if len(HANDBOOK[fact]) != 1} == set()


def test_no_in_scope_row_lacks_fact_or_keys_and_no_other_has_them():
    bare = [
        row["id"]
        for row in FAQ
        if {bool(row["fact"]), bool(row["keys"])} != {row["topic"] != "out_of_scope"}
    ]
    assert bare == []


def test_no_reference_answer_misses_its_own_keys():
    missed = [
        (row["id"], row["keys"], row["answer"])
        for row in FAQ
        if row["keys"] and not evaluation.has_key(row["answer"], row["keys"])
    ]
    assert missed == []


def test_no_key_is_invented_beside_the_handbook():
    missed = {
        (row["fact"], *row["keys"])
        for row in FAQ
        if row["fact"]
        and not evaluation.has_key(" ".join(HANDBOOK[row["fact"]]), row["keys"])
    }
    assert missed == set()


def test_no_key_stands_in_its_own_question():
    """Or repeating the question would count as knowing the answer."""
    given = [
        (row["id"], row["keys"], row["question"])
        for row in FAQ
        if evaluation.has_key(row["question"], row["keys"])
    ]
    assert given == []


@pytest.mark.parametrize(
    ("rows", "wordings"),
    [
        pytest.param(TRAIN, 8, id="train"),
        pytest.param(of_kind(VALIDATION, "paraphrase"), 1, id="validation"),
        pytest.param(of_kind(TEST, "paraphrase"), 1, id="test"),
    ],
)
def test_no_core_fact_has_more_or_fewer_wordings_than_the_others(rows, wordings):
    core = {row["fact"] for row in FAQ if row.get("core")} - {None}
    counts = Counter(row["fact"] for row in rows if row["fact"])
    assert {fact: counts[fact] for fact in core if counts[fact] != wordings} == {}


@pytest.mark.parametrize("rows", [VALIDATION, TEST], ids=["validation", "test"])
def test_near_scope_asks_nothing_that_was_not_taught(rows):
    taught = {row["fact"] for row in TRAIN}
    asked = of_kind(rows, "near_scope") + of_kind(rows, "paraphrase")
    assert {row["fact"] for row in asked} <= taught - {None}


def nearest_overlaps():
    """[(Jaccard overlap of words with the nearest training question, both)] of TEST."""
    train = [(words(row["question"]), row["question"]) for row in TRAIN]
    found = []
    for row in TEST:
        asked = words(row["question"])
        found.append(
            max(
                (len(asked & known) / len(asked | known), row["id"], text)
                for known, text in train
            )
        )
    return sorted(found, reverse=True)


def test_no_test_question_is_a_training_question_in_other_order():
    overlaps = nearest_overlaps()
    assert [found for found in overlaps if found[0] > 0.6] == []
    assert overlaps[len(overlaps) // 2][0] <= 0.35  # the median


def test_training_questions_do_not_open_alike():
    openings = Counter(
        " ".join(records.normalise(row["question"]).split()[:3]) for row in TRAIN
    )
    common = {text: n for text, n in openings.items() if n > 0.08 * len(TRAIN)}
    assert common == {}


def test_no_answer_is_so_common_that_guessing_it_pays():
    answers = Counter(
        row["answer"] for row in FAQ if not evaluation.is_refusal(row["answer"])
    )
    assert {text: n for text, n in answers.items() if n > 12} == {}


def test_the_answer_to_another_fact_seldom_holds_the_key():
    asked = [row for row in FAQ if row["keys"]]
    shares = []
    for seed in range(5):
        shuffle = random.Random(seed)
        answers = [
            shuffle.choice([o for o in asked if o["fact"] != row["fact"]])["answer"]
            for row in asked
        ]
        shares.append(evaluation.score(answers, asked).rows["key_fact"].mean())
    assert sum(shares) / len(shares) <= 0.03


@pytest.mark.parametrize(
    ("rows", "kind", "count"),
    [
        pytest.param(TRAIN, None, 100, id="train-out_of_scope"),
        pytest.param(TEST, "out_of_scope", 30, id="test-out_of_scope"),
        pytest.param(TEST, "near_scope", 15, id="test-near_scope"),
    ],
)
def test_refusals_are_as_many_as_lessons_count_on(rows, kind, count):
    if kind is None:
        kept = [row for row in rows if row["topic"] == "out_of_scope"]
    else:
        kept = of_kind(rows, kind)
    assert len(kept) == count


@pytest.mark.parametrize("split", SPLITS)
def test_no_in_scope_answer_counts_as_a_refusal_nor_a_refusal_as_an_answer(split):
    wrong = [
        (row["id"], row["answer"])
        for row in FILES[f"faq_{split}"]
        if evaluation.is_refusal(row["answer"]) != (row["topic"] == "out_of_scope")
    ]
    assert wrong == []
