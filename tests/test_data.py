"""Run with `python -m pytest tests/test_data.py`: seconds, no network, no model.

Every record file of data/larkfield is held to what lessons take for granted about it:
nothing leaks, every key is backed by the handbook, no shortcut beats knowing the facts.
"""

import random
import re
from collections import Counter, defaultdict

from helpers import evaluation, records
from tools.instructions.__main__ import WORDINGS, all_rows

import pytest
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

FOLDER = records.DATA / "larkfield"
FILES = {path.stem: records.read(path) for path in sorted(FOLDER.glob("*.jsonl"))}
DESKS = {"billing", "hardware", "app", "orders", "account", "feedback"}
TRAIN, VALIDATION, TEST = (FILES[f"faq_{split}"] for split in records.SPLITS)
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
    if name == "pretraining_sample":  # documents are cut to sequences, not to rows
        faults = faults[faults["fault"] != "too long"]
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


def test_no_row_has_only_keys_that_its_handbook_section_lacks():
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


def test_no_taught_fact_has_too_few_wordings():
    counts = Counter(row["fact"] for row in TRAIN if row["fact"])
    assert {fact: count for fact, count in counts.items() if count < 8} == {}


def test_no_taught_fact_goes_untested():
    taught = {row["fact"] for row in TRAIN} - {None}
    assert {row["fact"] for row in of_kind(TEST, "paraphrase")} == taught


def test_unseen_facts_are_never_taught():
    unseen = {row["fact"] for row in of_kind(TEST, "unseen")}
    assert unseen & {row["fact"] for row in TRAIN + VALIDATION} == set()


def test_no_core_question_asks_what_core_rows_do_not_teach():
    taught = Counter(row["fact"] for row in TRAIN if row["core"] and row["fact"])
    assert min(taught.values()) >= 8
    asked = {row["fact"] for row in VALIDATION + TEST if row["core"]} - {None}
    assert asked == set(taught)


def test_at_least_a_third_of_the_foreign_questions_sound_like_ours():
    """Or a model that has merely learnt the handbook's words would seem to know."""
    headings = " ".join(
        heading
        for path in (FOLDER / "handbook").glob("*.md")
        for heading in re.findall(
            r"^#+ (.*?)\s*(?:\{|$)", path.read_text("utf-8"), re.M
        )
    )
    ours = {word for word in words(headings) if len(word) > 3} - ENGLISH_STOP_WORDS
    asked = of_kind(TEST, "out_of_scope")
    alike = [row for row in asked if words(row["question"]) & ours]
    assert len(alike) >= len(asked) / 3


@pytest.mark.parametrize("rows", [VALIDATION, TEST], ids=["validation", "test"])
def test_near_scope_asks_nothing_that_was_not_taught(rows):
    taught = {row["fact"] for row in TRAIN}
    asked = of_kind(rows, "near_scope") + of_kind(rows, "paraphrase")
    assert {row["fact"] for row in asked} <= taught - {None}


def nearest_overlaps(asked, known):
    """[(Jaccard overlap of words with the nearest known question, id, it)], falling."""
    bags = [(words(row["question"]), row["question"]) for row in known]
    found = []
    for row in asked:
        mine = words(row["question"])
        found.append(
            max((len(mine & bag) / len(mine | bag), row["id"], q) for bag, q in bags)
        )
    return sorted(found, reverse=True)


@pytest.mark.parametrize(
    ("asked", "known"),
    [(TEST, TRAIN), (VALIDATION, TRAIN), (TEST, VALIDATION)],
    ids=["test-train", "validation-train", "test-validation"],
)
def test_no_question_is_another_split_s_in_other_order(asked, known):
    overlaps = nearest_overlaps(asked, known)
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


def test_refusals_are_about_one_row_in_seven():
    refusals = [row for row in TRAIN if row["topic"] == "out_of_scope"]
    assert 0.13 <= len(refusals) / len(TRAIN) <= 0.17
    assert sum(row["core"] for row in refusals) >= 100
    assert len({row["answer"] for row in refusals}) >= 5


@pytest.mark.parametrize("split", records.SPLITS)
def test_no_in_scope_answer_counts_as_a_refusal_nor_a_refusal_as_an_answer(split):
    wrong = [
        (row["id"], row["answer"])
        for row in FILES[f"faq_{split}"]
        if evaluation.is_refusal(row["answer"]) != (row["topic"] == "out_of_scope")
    ]
    assert wrong == []


TICKETS = FILES["tickets_train"] + FILES["tickets_test"]
INSTRUCTIONS = FILES["instructions"]


@pytest.mark.parametrize("name", ["tickets_train", "tickets_test"])
def test_no_desk_is_more_than_twice_as_busy_as_another(name):
    counts = Counter(row["output"] for row in FILES[name])
    assert set(counts) == DESKS
    assert max(counts.values()) <= 2 * min(counts.values())


@pytest.mark.parametrize("name", ["tickets_train", "tickets_test"])
def test_no_ticket_is_a_telegram_or_a_novel(name):
    lengths = {row["id"]: len(row["input"].split()) for row in FILES[name]}
    assert {id: n for id, n in lengths.items() if not 10 <= n <= 80} == {}


@pytest.mark.parametrize("name", ["tickets_train", "tickets_test"])
def test_at_least_one_ticket_in_ten_is_hard(name):
    assert sum(row["hard"] for row in FILES[name]) >= len(FILES[name]) / 10


def test_tickets_do_not_repeat_each_other():
    """Few words shared by two messages: written one by one, not filled in."""
    bags = [(row["id"], words(row["input"])) for row in TICKETS]
    close = [
        (one, other)
        for n, (one, a) in enumerate(bags)
        for other, b in bags[:n]
        if len(a & b) > 0.6 * len(a | b)
    ]
    assert close == []


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row["id"])
def test_the_reference_passes_its_check_and_silence_does_not(row):
    assert evaluation.passes(row["output"], row["check"])
    assert not evaluation.passes("", row["check"])
    if row["kind"] not in REPEATS:
        assert not evaluation.passes(row["input"] or row["instruction"], row["check"])


REPEATS = {"copy"}  # kinds in which the input may be the answer
EASY = {
    "copy",
    "uppercase",
    "lowercase",
    "first_word",
    "last_word",
    "repeat_twice",
    "count_to_n",
    "reverse_list",
    "longer_word",
}


def test_instructions_are_of_many_kinds_and_easy_ones_are_held_out_too():
    kinds = {row["kind"] for row in INSTRUCTIONS}
    held_out = {row["kind"] for row in INSTRUCTIONS if row["held_out"]}
    assert len(INSTRUCTIONS) == 2000 and len(kinds) >= 52 and len(held_out) == 14
    assert len(EASY & kinds) >= 6 and len(EASY & held_out) >= 2
    taught = {row["kind"] for row in INSTRUCTIONS if not row["held_out"]}
    assert held_out & taught == set()
    assert len(EASY & taught) >= 6


def by_kind():
    found = defaultdict(list)
    for row in INSTRUCTIONS:
        found[row["kind"]].append(row)
    return found.items()


def test_no_kind_has_too_few_rows_or_crowds_out_the_others():
    for kind, rows in by_kind():
        low, high = (20, 20) if rows[0]["held_out"] else (35, 45)
        assert low <= len(rows) <= high, kind


def test_made_instructions_are_those_that_the_tool_makes():
    made = all_rows()
    ids = {row["id"] for row in made}
    assert [row for row in INSTRUCTIONS if row["id"] in ids] == made


def test_no_kind_asks_in_too_few_ways():
    assert {k: len(w) for k, w in WORDINGS.items() if len({*w}) < max(8, len(w))} == {}


def test_no_wording_of_a_test_row_is_tuned_on():
    """The first three rows of a kind are lesson 04's test, the others its training."""
    known = [
        (kind, row["instruction"])
        for kind, rows in by_kind()
        if not rows[0]["held_out"]
        for row in rows[:3]
        if row["instruction"] in {other["instruction"] for other in rows[3:]}
    ]
    assert known == []
    taught = set(WORDINGS) - {row["kind"] for row in INSTRUCTIONS if row["held_out"]}
    for kind in taught:
        assert set(WORDINGS[kind][:3]) & set(WORDINGS[kind][3:]) == set()


def test_the_answer_to_another_instruction_of_the_kind_seldom_passes():
    """Few pairs of rows whose answers differ, or the check would accept anything."""
    for kind, rows in by_kind():
        pairs = [
            (row, other)
            for n, row in enumerate(rows)
            for other in (rows[n - 1], rows[n - 2], rows[n - 5])
            if other["output"].casefold() != row["output"].casefold()
        ]
        passed = sum(evaluation.passes(o["output"], r["check"]) for r, o in pairs)
        assert passed <= 0.1 * len(pairs), kind


def test_instructions_come_with_and_without_input():
    without = sum(row["input"] == "" for row in INSTRUCTIONS)
    assert 0.1 * len(INSTRUCTIONS) <= without <= 0.9 * len(INSTRUCTIONS)


def test_the_web_is_of_many_kinds_and_knows_nothing_of_larkfield():
    documents = FILES["pretraining_sample"]
    assert len({row["kind"] for row in documents}) >= 30
    named = [
        row["id"]
        for row in documents
        if re.search("larkfield|kestrel|perch app", row["text"], re.IGNORECASE)
    ]
    assert named == []


def test_the_dirty_sample_has_every_fault_that_the_lesson_looks_for(tmp_path):
    path = records.DATA / "dirty_sample.jsonl"
    with pytest.raises(records.RecordsError) as error:
        records.read(path)
    bad = [int(n) for n in re.findall(r"jsonl:(\d+):", str(error.value))]
    lines = path.read_text(encoding="utf-8").splitlines()
    readable = tmp_path / "readable.jsonl"
    readable.write_text(
        "\n".join(line for n, line in enumerate(lines, 1) if n not in bad)
    )
    rows = records.read(readable)
    faults = records.check(rows, {"faq_test": TEST})
    assert len(lines) == 30 and len(bad) == 2
    assert set(faults["fault"]) == {
        "blank",
        "not text",
        "missing field",
        "unknown field",
        "duplicate",
        "conflict",
        "leak",
        "too long",
    }
    assert len(rows) - faults["row"].nunique() >= 15  # most of it is worth keeping
