"""Run with `python -m pytest tests/test_retrieval.py`: seconds, no network, no model.

The handbook is searched as lessons search it; the bars are for validation questions.
"""

import re
import socket
import time

from helpers import records, retrieval

import numpy as np
import pytest

VALIDATION = records.read(records.DATA / "larkfield" / "faq_validation.jsonl")
ASKED = [row for row in VALIDATION if row["fact"]]
SECTIONS = retrieval.handbook()
PAIR = [
    {"id": "rain", "heading": "Cleaning the funnel", "text": "Rinse it every month."},
    {"id": "cat", "heading": "The office cat", "text": "Her name is Drizzle."},
]


@pytest.fixture(scope="module")
def searches():
    return {method: retrieval.Search(SECTIONS, method) for method in retrieval.METHODS}


def recall(search, count=3):
    found = search.find([row["question"] for row in ASKED], count)
    return np.mean([row["fact"] in ids for row, ids in zip(ASKED, found, strict=True)])


def test_no_section_of_the_handbook_is_lost():
    folder = records.DATA / "larkfield" / "handbook"
    text = "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.md")))
    assert [s["id"] for s in SECTIONS] == re.findall(r"\{#([\w-]+)\}", text)
    assert {row["fact"] for row in ASKED} <= {section["id"] for section in SECTIONS}
    for section in SECTIONS:
        assert section["text"] and "{#" not in " ".join(section.values())
        assert f"## {section['heading']} {{#{section['id']}}}" in text
        assert f"# {section['chapter']}\n" in text


def test_the_right_section_is_among_three_as_often_as_recorded(searches):
    recalls = {method: recall(search) for method, search in searches.items()}
    assert recalls["both"] >= 0.8
    assert recalls["both"] >= max(recalls["words"], recalls["vectors"])
    assert min(recalls["words"], recalls["vectors"]) >= 0.5


@pytest.mark.parametrize("method", retrieval.METHODS)
def test_a_sentence_of_a_section_finds_that_section_first(searches, method):
    some = SECTIONS[::9]
    texts = [f"{s['heading']}. {s['text']}" for s in some]
    assert searches[method].find(texts, 1) == [[section["id"]] for section in some]


def test_a_question_that_shares_no_word_finds_its_section():
    """What counting words cannot do; the vectors are there for it."""
    question = ["What do you call your kitten?"]
    assert not retrieval.Search(PAIR, "words").scores(question).any()
    assert retrieval.Search(PAIR).find(question, 1) == [["cat"]]


def test_the_order_of_sections_and_questions_does_not_matter(searches):
    questions = [row["question"] for row in ASKED[:20]]
    found = searches["both"].find(questions)
    assert searches["both"].find(questions[::-1]) == found[::-1]
    assert [searches["both"].find([q])[0] for q in questions[:5]] == found[:5]
    assert retrieval.Search(SECTIONS[::-1]).find(questions) == found


def test_more_results_begin_with_the_fewer(searches):
    questions = [row["question"] for row in ASKED[:20]]
    three = searches["both"].find(questions)
    assert [ids[:3] for ids in searches["both"].find(questions, 10)] == three
    assert all(len(set(ids)) == 3 for ids in three)
    every = searches["both"].find(questions[:1], 1000)[0]
    assert sorted(every) == sorted(section["id"] for section in SECTIONS)


@pytest.mark.parametrize("method", retrieval.METHODS)
def test_small_and_odd_input_is_searched_too(method):
    one = retrieval.Search(PAIR[:1], method)
    assert one.find([]) == [] and one.scores([]).shape == (0, 1)
    assert one.find(["rain?"], 5) == [["rain"]]
    two = retrieval.Search(PAIR, method)
    odd = ["", "the of and", "?!", "東京", "funnel " * 2000]
    found = two.find(odd)
    assert [sorted(ids) for ids in found] == [["cat", "rain"]] * len(odd)
    assert found[-1][0] == "rain"
    assert np.isfinite(two.scores(odd)).all()
    bare = [
        {"id": "a", "heading": "", "text": ""},
        {"id": "b", "heading": "The", "text": "…"},
    ]
    assert sorted(retrieval.Search(bare, method).find(["any"])[0]) == ["a", "b"]


def test_of_equal_sections_the_earlier_comes_first():
    twins = [PAIR[1] | {"id": name} for name in ("b", "a", "c")]
    assert retrieval.Search(twins).find(["the cat", "snow"]) == [["b", "a", "c"]] * 2


def test_the_sections_given_are_left_as_they_are():
    before = [dict(section) for section in PAIR]
    retrieval.Search(PAIR).find(["cat"])
    assert before == PAIR


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: retrieval.Search([]), ValueError, "at least one"),
        (lambda: retrieval.Search(PAIR, "fuzzy"), ValueError, "'fuzzy'.*vectors"),
        (
            lambda: retrieval.Search([PAIR[0], {"id": "x", "title": "T"}]),
            ValueError,
            "section 2 has no heading and no text: .* has id, title",
        ),
        (lambda: retrieval.Search(PAIR * 2), ValueError, "'rain'.*give each an id"),
        (lambda: retrieval.Search(PAIR).find("cat?"), TypeError, "'cat.'.*a list"),
        (lambda: retrieval.Search(PAIR).find(["cat"], 0), ValueError, "count is 0"),
    ],
)
def test_an_error_names_what_was_found_and_what_to_do(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_a_folder_without_sections_is_refused(tmp_path):
    (tmp_path / "notes.md").write_text("# Notes\n\n## No id here\n\nText.\n")
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FileNotFoundError, match="no section in .*#cleaning"):
            retrieval.handbook(folder)


def test_a_manual_of_ones_own_is_read(tmp_path):
    text = "Manual\n\nPreface.\n\n### Keys {#keys}\n\nA | b\n\n## Oil {#oil}\nRarely.\n"
    (tmp_path / "m.md").write_text("# " + text, encoding="utf-8")
    keys, oil = retrieval.handbook(str(tmp_path))
    assert keys == {
        "id": "keys",
        "chapter": "Manual",
        "heading": "Keys",
        "text": "A | b",
    }
    assert oil["text"] == "Rarely."


def test_no_connection_is_opened(monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"it asks the network: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    retrieval._encoder.cache_clear()  # the weights are read anew
    assert retrieval.Search(PAIR).find(["the cat's name"], 1) == [["cat"]]


def test_five_hundred_questions_take_seconds(searches):
    questions = [row["question"] for row in ASKED] * 3
    start = time.process_time()
    assert len(searches["both"].find(questions[:500])) == 500
    assert time.process_time() - start < 10
