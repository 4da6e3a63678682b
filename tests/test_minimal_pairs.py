"""Run with `python -m pytest tests/test_minimal_pairs.py`: 15 seconds, no network.

Data by themselves; the harness with models of the test's own, and with tiny.
"""

import collections
import copy
import math

from helpers import evaluation, harness, models, records

import pandas as pd
import pytest
import torch

FOLDER = records.DATA / "minimal_pairs"
PAIRS = records.read(FOLDER / "minimal_pairs.jsonl")
GOOD = {row["sentence_good"] for row in PAIRS}


def words(sentence):
    return sentence.rstrip(".?!").replace(",", "").split()


def test_no_phenomenon_is_missing_or_outweighs_the_others():
    counts = collections.Counter(row["phenomenon"] for row in PAIRS)
    assert len(PAIRS) == 200
    assert len(counts) == 13
    assert all(15 <= count <= 18 for count in counts.values()), counts


def test_no_sentence_and_no_id_counts_twice():
    sentences = [
        " ".join(words(row[side])).casefold()
        for row in PAIRS
        for side in ("sentence_good", "sentence_bad")
    ]
    assert len(set(sentences)) == 2 * len(PAIRS)
    assert len({row["id"] for row in PAIRS}) == len(PAIRS)


def test_no_pair_differs_in_more_than_a_word_or_the_order_of_words():
    faults = []
    for row in PAIRS:
        good, bad = words(row["sentence_good"]), words(row["sentence_bad"])
        changed = sum(a != b for a, b in zip(good, bad, strict=False))
        moved = sorted(map(str.lower, good)) == sorted(map(str.lower, bad))
        if len(good) != len(bad) or changed > (4 if moved else 1):
            faults.append(row["id"])
    assert not faults


def test_no_sentence_is_a_fragment_or_gives_itself_away_by_its_typing():
    for row in PAIRS:
        for side in ("sentence_good", "sentence_bad"):
            sentence = row[side]
            assert 5 <= len(words(sentence)) <= 16, row["id"]
            assert sentence[0].isupper() and sentence[-1] in ".?!", row["id"]
            assert sentence.isascii() and sentence == " ".join(sentence.split())


def test_no_sentence_is_of_the_world_that_the_course_teaches():
    text = " ".join(f"{r['sentence_good']} {r['sentence_bad']}" for r in PAIRS).lower()
    for name in ("larkfield", "kestrel", "wren", "weather station", "sensor"):
        assert name not in text


def test_sentences_do_not_begin_all_alike():
    first = collections.Counter(words(row["sentence_good"])[0] for row in PAIRS)
    assert first.most_common(1)[0][1] <= 0.1 * len(PAIRS)
    assert len(first) >= 70


def test_length_does_not_give_the_good_sentence_away(tokenizer):
    """A model that likes the shorter text must not look as if it knew grammar."""

    def count(sentence):
        return len(tokenizer(sentence, add_special_tokens=False)["input_ids"])

    longer = [count(r["sentence_bad"]) - count(r["sentence_good"]) for r in PAIRS]
    right = sum(0.5 if d == 0 else d > 0 for d in longer) / len(longer)
    assert 0.4 < right < 0.6
    assert sum(abs(d) > 2 for d in longer) <= 10


class Scorer:
    """A language model of the harness that scores a sentence by a rule of the test."""

    rank, world_size = 0, 1

    def __init__(self, model, **settings):
        self.rule = model
        Scorer.settings = settings

    def loglikelihood(self, requests):
        for request in requests:
            assert request.args[0] == ""  # nothing before the sentence
        return [(self.rule(request.args[1]), False) for request in requests]


@pytest.fixture
def scorer(monkeypatch):
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    monkeypatch.setattr(huggingface, "HFLM", Scorer)


@pytest.mark.parametrize(("liking", "expected"), [(1.0, 1.0), (-1.0, 0.0)])
def test_the_good_and_the_bad_sentence_are_not_taken_for_each_other(
    scorer, tokenizer, liking, expected
):
    frame = harness.minimal_pairs(lambda text: liking * (text in GOOD), tokenizer)
    assert len(frame) == 200
    assert frame["correct"].mean() == expected
    assert ((frame["good"] - frame["bad"]) == liking).all()
    assert set(frame["sentence_good"]) == GOOD


def test_a_plain_text_does_not_begin_as_a_message_of_a_chat(scorer, tokenizer):
    other = copy.deepcopy(tokenizer)
    other.bos_token = "<|pad|>"
    harness.run(lambda text: 0.0, other, FOLDER / "minimal_pairs.yaml", limit=1)
    assert Scorer.settings["prefix_token_id"] == tokenizer.eos_token_id


def test_limit_takes_the_first_items_alone(scorer, tokenizer):
    task = FOLDER / "minimal_pairs.yaml"
    frame = harness.run(lambda text: 0.0, tokenizer, task, limit=3)
    assert list(frame["id"]) == [row["id"] for row in PAIRS[:3]]


def test_a_task_that_is_not_there_is_named(scorer, tmp_path):
    with pytest.raises(KeyError, match="no_such_task.yaml"):
        harness.run(None, None, tmp_path / "no_such_task.yaml")


def log_probability(model, tokenizer, sentence):
    ids = tokenizer(sentence, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[tokenizer.bos_token_id, *ids]])
    with torch.no_grad():
        likely = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    return likely.gather(1, ids[0, 1:, None]).sum().item()


@pytest.fixture(scope="module")
def of_tiny():
    pytest.importorskip("lm_eval")
    model, tokenizer = models.load("tiny")
    return model, tokenizer, harness.minimal_pairs(model, tokenizer)


def test_batches_and_padding_of_the_harness_do_not_change_a_score(of_tiny):
    model, tokenizer, frame = of_tiny
    chosen = frame.iloc[::20]
    assert len(chosen) == 10
    for row in chosen.itertuples():
        good = log_probability(model, tokenizer, row.sentence_good)
        bad = log_probability(model, tokenizer, row.sentence_bad)
        assert math.isclose(row.good, good, rel_tol=1e-4)
        assert math.isclose(row.bad, bad, rel_tol=1e-4)
        assert row.correct == (good > bad)


def test_a_model_that_has_read_english_beats_guessing(of_tiny):
    _, low, _ = evaluation.interval(of_tiny[2]["correct"])
    assert low > 0.5


def test_measuring_leaves_no_bars_and_returns_plain_columns(of_tiny, capfd):
    model, tokenizer, frame = of_tiny
    again = harness.minimal_pairs(model, tokenizer)
    assert capfd.readouterr() == ("", "")
    pd.testing.assert_frame_equal(again, frame)
    assert frame["correct"].dtype == bool
    assert frame["good"].dtype == frame["bad"].dtype == float
