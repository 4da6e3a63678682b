"""Run with `python -m pytest tests/test_evaluation.py`: seconds, no network, no model.

Answers are written by hand; verdicts are kept in a temporary folder.
"""

import json
import math

from helpers import evaluation, models, records
from tools import course

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, permutation_test

REFUSAL = "Sorry, I can only help with the Kestrel."
FAQ = [
    row
    for split in ("train", "validation", "test")
    for row in records.read(records.DATA / "larkfield" / f"faq_{split}.jsonl")
]


def record(answer, keys=None, **extras):
    row = {"question": "How long?", "answer": answer}
    return row | ({} if keys is None else {"keys": keys}) | extras


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder that verdicts are kept in."""
    monkeypatch.setattr(models, "CACHE", tmp_path / "models")
    return tmp_path / "verdicts"


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        ("140 metres", "40"),
        ("40.5 metres", "40"),
        ("40,000 metres", "40"),
        ("2.40 metres", "40"),
        ("1,040", "040"),
        ("in 2040", "40"),
        ("40s", "40"),
        ("a40", "40"),
        ("114 days", "14 days"),
        ("14 daystar", "14 days"),
        ("a drawing", "Wing"),
        ("a wingspan", "Wing"),
        ("Éwing", "wing"),
        ("E12", "E1"),
        ("fourteen", "14"),
        ("below minus 2 degrees", "2 degrees"),
        ("at -2 °C", "2 °C"),
        ("−2 °C", "2 °C"),
        ("(–2 °C)", "2 °C"),
        ("", "40"),
    ],
)
def test_a_key_is_not_found_inside_another_word_or_number(answer, key):
    assert not evaluation.has_key(answer, [key])


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        ("40", "40"),
        ("It is 40.", "40"),
        ("40, not 50", "40"),
        ("(40)", "40"),
        ("between 140 and 40 metres", "40"),
        ("40-metre range", "40"),
        ("within 14 days.", "14 days"),
        ("14 Days!", "14 days"),
        ("TWO WEEKS", "two weeks"),
        ("use the wing", "Wing"),
        ("£4.50 a month", "£4.50"),
        ("at 2.4 GHz.", "2.4 GHz"),
        ("plus or minus 3 percent", "3 percent"),
        ("plus/minus 3 percent", "3 percent"),
        ("Nest minus Wing", "Wing"),
        ("from minus 40 to 60", "minus 40"),
        ("from -40 to 60", "-40"),
        ("8:00-18:00", "18:00"),
        ("press C++ (or .*)", "C++"),
        ("press C++ (or .*)", ".*"),
        ("die Straße", "straße"),
        ("the hunter’s moon", "hunter's moon"),
        ("the hunter's moon", "hunter’s moon"),
        ("the hunter’s moon", "hunter’s moon"),
    ],
)
def test_a_key_is_not_missed_in_other_case_or_punctuation(answer, key):
    assert evaluation.has_key(answer, [key])


def test_one_of_several_keys_is_enough_and_none_of_none():
    assert evaluation.has_key("It takes two weeks.", ["14 days", "two weeks"])
    assert not evaluation.has_key("It takes a month.", ["14 days", "two weeks"])
    assert not evaluation.has_key("It takes two weeks.", [])


def test_a_key_is_text_and_no_pattern():
    assert not evaluation.has_key("245 GHz", ["2.5"])
    assert not evaluation.has_key("anything", [".*"])


@pytest.mark.parametrize(
    "answer",
    [
        REFUSAL,
        REFUSAL.upper(),
        "I can only\n  help with questions on weather stations.",
        "That isn’t my field, and it’s not something I can look up.",
        "THIS IS OUTSIDE WHAT I know.",
        "Well, I only know about the Kestrel, I'm afraid.",
    ],
)
def test_no_refusal_is_missed_in_other_case_or_spacing(answer):
    assert evaluation.is_refusal(answer)


@pytest.mark.parametrize(
    "written",
    ["can't say", "can’t say", "CAN’T SAY"],
    ids=["straight", "curly", "caps"],
)
def test_the_kind_of_apostrophe_does_not_hide_a_refusal(monkeypatch, written):
    monkeypatch.setattr(evaluation, "refusal_phrases", lambda: ("can't say",))
    assert evaluation.is_refusal(f"I {written} that.")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Sorry to hear that: hold the button for six seconds.",
        "I can help with that: it is two metres.",
        "Such a cold night is outside what it can measure.",
        "Rain is not something it can count without the cups.",
    ],
)
def test_an_answer_is_not_taken_for_a_refusal(answer):
    assert not evaluation.is_refusal(answer)


def test_no_refusal_phrase_is_written_so_that_it_never_matches():
    phrases = evaluation.refusal_phrases()
    assert phrases
    assert [phrase for phrase in phrases if not evaluation.is_refusal(phrase)] == []


@pytest.mark.parametrize("in_scope", [True, False])
def test_no_reference_answer_is_on_the_wrong_side_of_refusing(in_scope):
    rows = [row for row in FAQ if (row["topic"] != "out_of_scope") == in_scope]
    assert rows
    wrong = [
        row["answer"]
        for row in rows
        if evaluation.is_refusal(row["answer"]) == in_scope
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [
        ("Two metres.", "two metres", 1),
        ("metres two", "two metres", 1),
        ("two", "two metres", 2 / 3),  # precision 1, recall 1/2
        ("two two two", "two metres", 2 / 5),  # a word counts as often as it is wanted
        ("about two metres above", "two metres", 2 / 3),
        ("it’s on", "it's on", 1),
        ("three feet", "two metres", 0),
        ("", "two metres", 0),
        ("?!", "two metres", 0),
    ],
)
def test_token_f1_is_not_gamed_by_repeating_or_padding(answer, reference, f1):
    assert evaluation.token_f1(answer, reference) == pytest.approx(f1)
    assert evaluation.token_f1(reference, answer) == pytest.approx(f1)


def metric(found, name, kind="all"):
    frame = found.metrics.set_index(["kind", "metric"])
    return frame.loc[(kind, name)]


def test_scores_stay_with_their_row_and_kind():
    rows = [
        record("Two weeks.", ["two weeks"], id="a", kind="paraphrase"),
        record(REFUSAL, [], id="b", kind="out_of_scope"),
        record("In Leeds.", ["Leeds"], id="c", kind="paraphrase"),
    ]
    found = evaluation.score(["TWO WEEKS", "Rome.", "In Paris."], rows)
    assert list(found.rows.index) == ["a", "b", "c"]
    assert list(found.rows["exact_match"]) == [True, False, False]
    assert list(found.rows["answer"]) == ["TWO WEEKS", "Rome.", "In Paris."]
    assert list(found.rows["reference"]) == [row["answer"] for row in rows]
    columns = ["kind", "metric", "value", "n", "low", "high"]
    assert list(found.metrics.columns) == columns
    assert metric(found, "key_fact", "paraphrase")[["value", "n"]].tolist() == [0.5, 2]
    assert metric(found, "confidently_wrong", "paraphrase")["value"] == 0.5
    assert metric(found, "confidently_wrong", "out_of_scope")["value"] == 1
    assert metric(found, "refused", "out_of_scope")[["value", "n"]].tolist() == [0, 1]
    assert ("out_of_scope", "key_fact") not in found.metrics.set_index(
        ["kind", "metric"]
    ).index


@pytest.mark.parametrize(
    ("answer", "keys", "key_fact", "wrong"),
    [
        ("It takes two weeks.", ["two weeks"], True, False),
        ("It takes a month.", ["two weeks"], False, True),
        (REFUSAL, ["two weeks"], False, False),
        (f"{REFUSAL} Was it two weeks?", ["two weeks"], False, False),
        ("", ["two weeks"], False, True),
        (REFUSAL, [], None, False),
        ("It takes a month.", [], None, True),
    ],
)
def test_neither_refusing_nor_guessing_passes_for_knowing(
    answer, keys, key_fact, wrong
):
    found = evaluation.score([answer], [record("x", keys)])
    row = found.rows.iloc[0]
    assert row["key_fact"] == key_fact if keys else row["key_fact"] is None
    assert row["confidently_wrong"] == wrong
    assert row["refused"] == (REFUSAL in answer)
    assert ("key_fact" in set(found.metrics["metric"])) == bool(keys)


def test_without_keys_nothing_is_said_of_facts():
    found = evaluation.score(["a", "b"], [record("a"), record("b")])
    assert list(found.rows.index) == [1, 2]
    assert set(found.metrics["metric"]) == {"refused", "exact_match", "token_f1"}
    assert (found.metrics["n"] == 2).all() and (found.metrics["kind"] == "all").all()


def test_rows_without_keys_do_not_water_down_those_with():
    rows = [record("a", ["a"]), record("b"), record("c", None), record("d", ["d"])]
    found = evaluation.score(["a", "b", "c", "?"], rows)
    assert metric(found, "key_fact")[["value", "n"]].tolist() == [0.5, 2]
    assert metric(found, "confidently_wrong")[["value", "n"]].tolist() == [0.5, 2]


def test_no_row_is_left_out_of_the_metrics_for_lack_of_a_kind():
    """Splits joined by `datasets` have None where a split has no such field."""
    rows = [record("a", kind=None), record("b", kind="paraphrase"), record("c")]
    found = evaluation.score(["a", "b", "c"], rows)
    counts = found.metrics.loc[found.metrics["metric"] == "exact_match", "n"]
    assert counts.sum() == 3


@pytest.mark.parametrize("form", ["output", "response", "text"])
def test_the_reference_is_the_answer_field_of_any_form(form):
    row = {form: "Blue."} | ({} if form == "text" else {"instruction": "A colour?"})
    assert evaluation.score(["blue"], [row]).rows["exact_match"].all()


@pytest.mark.parametrize(
    ("answers", "rows", "message"),
    [
        (["a"], [record("a"), record("b")], "1 answers for 2 records"),
        (["a", "b"], [record("a")], "2 answers for 1 records"),
        (["a", "b"], [record("a"), {"question": "b"}], "row 2 has no reference"),
        (["a"], [{"other": "b"}], "row 1 has no reference.*other"),
        ([], [], "0 answers for 0 records"),
    ],
    ids=["too-few", "too-many", "only-asked", "unknown", "nothing"],
)
def test_answers_that_cannot_be_scored_are_refused_by_row(answers, rows, message):
    with pytest.raises(ValueError, match=message):
        evaluation.score(answers, rows)


@pytest.mark.parametrize(("right", "n"), [(7, 10), (0, 5), (5, 5), (1, 1), (90, 300)])
def test_the_interval_of_a_share_is_wilsons(right, n):
    z = 1.959964  # 97.5th percentile of the normal distribution
    share = right / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    root = math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    half = z * root / (1 + z**2 / n)
    found = evaluation.interval([1] * right + [0] * (n - right))
    assert found == pytest.approx((share, middle - half, middle + half), abs=1e-6)


def test_seven_of_ten_has_the_interval_worked_out_by_hand():
    found = evaluation.interval([True] * 7 + [False] * 3)
    assert found == pytest.approx((0.7, 0.3968, 0.8922), abs=1e-4)


@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng: rng.integers(0, 2, 100) - rng.integers(0, 2, 100), 0),
        (lambda rng: rng.beta(2, 5, 100), 2 / 7),
    ],
    ids=["differences", "f1-like"],
)
def test_the_bootstrap_interval_is_neither_too_narrow_nor_too_wide(
    monkeypatch, draw, mean
):
    monkeypatch.setattr(evaluation, "RESAMPLES", 1000)
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(800):
        _, low, high = evaluation.interval(draw(rng).astype(float))
        covered.append(low <= mean <= high)
    assert 0.91 <= np.mean(covered) <= 0.98  # 90 and 99.5 % intervals fall outside


def test_the_same_scores_do_not_get_another_interval_next_time():
    values = np.random.default_rng(0).random(50)
    assert evaluation.interval(values) == evaluation.interval(values)


def test_the_baseline_answers_from_the_question_most_alike():
    train = [
        record("Two metres.") | {"question": "How high is the mast?"},
        {"instruction": "Name the app.", "response": "Perch."},
        record("In Leeds.") | {"question": "Where are the servers?"},
    ]
    asked = ["the app, name it", "how HIGH must a mast be", "servers are where"]
    answers = evaluation.nearest_question(asked, train)
    assert answers == ["Perch.", "Two metres.", "In Leeds."]


def test_the_baseline_does_not_miss_a_question_that_it_was_given():
    rows = [row for row in FAQ if row["id"].endswith("-1")]
    answers = evaluation.nearest_question([row["question"] for row in rows], rows)
    assert answers == [row["answer"] for row in rows]


@pytest.mark.parametrize(
    ("known", "asked", "nearest"),
    [
        (["0 + 1", "2 + 3", "3 + 2"], ["2 + 3", "3 + 2"], [1, 2]),
        (["दिन क्या है?", "दीन क्या है?"], ["दीन क्या है?", "दिन क्या है?"], [1, 0]),
        (
            ["Is it on?", "Where is the barometer?", "How high is the mast?"],
            ["barometers", "How HIGH must it be"],
            [1, 2],
        ),
    ],
    ids=["no-words", "marks", "no-word-shared"],
)
def test_the_baseline_does_not_fall_back_on_the_first_question(known, asked, nearest):
    train = [record(f"A{n}") | {"question": text} for n, text in enumerate(known)]
    assert evaluation.nearest_question(asked, train) == [f"A{n}" for n in nearest]


def test_rows_of_any_form_are_scored_and_looked_up():
    said = [("user", "Is it on?"), ("assistant", " Yes. ")]
    talk = {"messages": [{"role": who, "content": text} for who, text in said]}
    rows = [talk, {"question": "Is it on?", "context": "C", "answer": "Yes."}]
    found = evaluation.score(["yes", "no"], rows).rows
    assert list(found["exact_match"]) == [True, False]
    assert list(found["question"]) == ["Is it on?", "Is it on?\nC"]
    assert evaluation.nearest_question(["on?"], rows[:1]) == ["Yes."]


def noise(n=100, seed=0):
    return np.random.default_rng(seed).random(n)


BETTER = {"ours": noise() + 0.1 * noise(seed=3), "theirs": noise()}
WORSE = {"ours": noise() - 0.1 * noise(seed=3), "theirs": noise()}
OTHER = {"ours": noise(seed=1), "theirs": noise(seed=2)}
SAME = {"ours": noise(), "theirs": noise()}


@pytest.mark.parametrize(
    ("scores", "alternative", "result"),
    [
        pytest.param(BETTER, "greater", "holds", id="better"),
        pytest.param(WORSE, "greater", "does not hold", id="worse"),
        pytest.param(OTHER, "greater", "undecided", id="noise"),
        pytest.param(SAME, "greater", "undecided", id="same"),
        pytest.param(BETTER, "less", "does not hold", id="better-but-less-claimed"),
        pytest.param(WORSE, "less", "holds", id="less-as-claimed"),
        pytest.param(OTHER, "less", "undecided", id="noise-less-claimed"),
    ],
)
def test_no_claim_is_judged_beyond_what_its_interval_shows(
    capsys, scores, alternative, result
):
    found = evaluation.verdict("It is so", scores, alternative=alternative)
    assert found.result == result
    assert found.low <= found.difference <= found.high
    assert found.difference == pytest.approx(
        (scores["ours"] - scores["theirs"]).mean(), abs=1e-12
    )
    assert capsys.readouterr().out.splitlines()[-1] == f"Verdict: {result}"


@pytest.mark.parametrize("gap", [1, -1, 0.1])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 120])
def test_a_handful_of_rows_that_agree_proves_nothing(n, gap):
    scores = {"ours": pd.Series([gap] * n), "theirs": pd.Series([0] * n)}
    found = evaluation.verdict("It is so", scores)
    proved = "holds" if gap > 0 else "does not hold"
    assert found.result == ("undecided" if n <= 5 else proved)  # 2 x 0.5^5 > 0.05
    assert found.low < found.high and found.low <= found.difference <= found.high


def test_a_difference_that_pairing_shows_is_not_lost_in_the_spread():
    found = evaluation.verdict("A small gain counts", BETTER)
    (_, _, _, low, _), (_, _, _, _, high) = found.figures.itertuples(index=False)
    assert low < high  # unpaired, the two intervals overlap
    assert found.result == "holds"


def test_a_verdict_shows_every_figure_with_its_n_and_the_baseline(capsys):
    scores = {
        "tuned": pd.Series([True] * 8 + [False] * 2),
        "untuned": pd.Series([False] * 10),
        "nearest question": pd.Series([True] * 4 + [False] * 6),
    }
    found = evaluation.verdict("Tuning teaches facts", scores)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Claim: Tuning teaches facts"
    assert list(found.figures["name"]) == list(scores)
    assert list(found.figures["n"]) == [10, 10, 10]
    assert list(found.figures["value"]) == pytest.approx([0.8, 0, 0.4])
    for line, name, share in zip(
        lines[1:4], scores, ("80.0%", "0.0%", "40.0%"), strict=True
    ):
        assert name in line and share in line and "n = 10" in line
    assert found.difference == pytest.approx(0.8)  # to the second, not to the last


@pytest.mark.parametrize("wide", [True, False])
def test_the_shown_baseline_does_not_decide_the_claim(wide):
    baseline = noise() + (5 if wide else -5)
    found = evaluation.verdict("Ours is better", BETTER | {"baseline": baseline})
    assert found.result == "holds"


ROWS = pd.Series([1.0, 0.0, 1.0], index=["a", "b", "c"])


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(ROWS[:2], id="fewer-rows"),
        pytest.param(ROWS.rename({"c": "d"}), id="other-rows"),
        pytest.param(ROWS[::-1], id="other-order"),
        pytest.param(ROWS.replace(0.0, np.nan), id="a-value-missing"),
        pytest.param([1, 0, 1], id="rows-not-named"),
    ],
)
@pytest.mark.parametrize("place", ["second", "shown beside"])
def test_scores_of_other_rows_are_not_compared(other, place):
    scores = {"first": ROWS, "second": ROWS, place: other}
    with pytest.raises(ValueError, match=f"'{place}' is not on the same rows.*score"):
        evaluation.verdict("It is so", scores)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ({"ours": ROWS}, {}, "two scores or more"),
        ({}, {}, "two scores or more"),
        ({"ours": ROWS, "theirs": ROWS}, {"alternative": "two-sided"}, "'two-sided'"),
    ],
)
def test_half_a_claim_is_refused(scores, options, message):
    with pytest.raises(ValueError, match=message):
        evaluation.verdict("It is so", scores, **options)


@pytest.fixture
def fewer_resamples(monkeypatch):
    monkeypatch.setattr(evaluation, "RESAMPLES", 500)


def no_effect(rng, count):
    """Scores without a difference, and groups of 1 to 9 rows that go together."""
    groups = np.repeat(np.arange(count), rng.integers(1, 10, count))
    ours = rng.normal(0, 1, count)[groups] + 0.3 * rng.normal(size=len(groups))
    return {"ours": pd.Series(ours), "theirs": pd.Series(0 * ours)}, groups


@pytest.mark.parametrize(
    ("count", "times"), [(12, 100), (40, 300)], ids=["exact-test", "bootstrap"]
)
def test_rows_that_stand_and_fall_together_do_not_prove_what_is_not_there(
    fewer_resamples, count, times
):
    rng = np.random.default_rng(1)
    drawn = [no_effect(rng, count) for _ in range(times)]
    grouped = [evaluation.verdict("It is so", *one).result for one in drawn]
    single = [evaluation.verdict("It is so", scores).result for scores, _ in drawn[:50]]
    assert np.mean(np.array(grouped) != "undecided") <= 0.07
    assert np.mean(np.array(single) != "undecided") >= 0.2  # what groups are for


def test_groups_do_not_hide_a_difference_that_is_there():
    rng = np.random.default_rng(2)
    scores, groups = no_effect(rng, 40)
    found = evaluation.verdict(
        "It is so", scores | {"ours": scores["ours"] + 1}, groups
    )
    assert found.result == "holds" and "40 groups" in found.basis


@pytest.mark.parametrize("count", [5, 6, 30])
def test_many_rows_of_a_handful_of_groups_prove_no_more_than_the_groups(count):
    ours = pd.Series([1.0] * 40 * count)
    groups = np.arange(len(ours)) % count
    found = evaluation.verdict("It is so", {"a": ours, "b": 1 - ours}, groups)
    assert found.result == ("undecided" if count == 5 else "holds")
    assert f"sign-flip test, {count} of {count} groups differ" in found.basis
    alone = evaluation.verdict("It is so", {"a": ours[:count], "b": 1 - ours[:count]})
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))


def flipped(up, down, same):
    """0/1 rows: the first right alone, the second right alone, both right."""
    ours = pd.Series([1.0] * up + [0.0] * down + [1.0] * same)
    return {"ours": ours, "theirs": pd.Series([0.0] * up + [1.0] * (down + same))}


@pytest.mark.parametrize(
    ("ours", "groups", "units"),
    [
        pytest.param([0.5] * 6, None, "rows", id="halves"),
        pytest.param([1.0, 0.0] * 6, np.arange(12) // 2, "groups", id="one a group"),
    ],
)
def test_mcnemar_is_named_on_single_rows_of_0_and_1_alone(ours, groups, units):
    scores = {"ours": pd.Series(ours), "theirs": pd.Series([0.0] * len(ours))}
    found = evaluation.verdict("It is so", scores, groups)
    assert found.basis.startswith(f"an exact sign-flip test, 6 of 6 {units} differ")


@pytest.mark.parametrize("same", [0, 7, 100])
@pytest.mark.parametrize("k", [1, 5, 6, 9, 12, 15])
def test_few_rows_that_differ_are_judged_by_mcnemar(fewer_resamples, k, same):
    for up in range(k + 1):
        found = evaluation.verdict("It is so", flipped(up, k - up, same))
        p = binomtest(up, k).pvalue
        assert found.basis.startswith(f"McNemar's exact test, {k} of {k + same} rows")
        assert float(found.basis.partition("p = ")[2]) == pytest.approx(p, rel=0.01)
        proved = "holds" if up > k / 2 else "does not hold"
        assert found.result == (proved if p < 0.05 else "undecided")
        assert found.low < found.high and found.low <= found.difference <= found.high
        if p < 0.05 and up > k / 2:
            least = binomtest(up, k).proportion_ci(method="exact").low
            assert found.low == pytest.approx((2 * least - 1) * k / (k + same))


def test_a_bootstrap_that_says_more_than_the_exact_test_is_not_believed():
    scores = flipped(7, 1, 52)
    paired = scores["ours"] - scores["theirs"]
    assert evaluation.interval(paired)[1] > 0  # by the bootstrap it would hold
    found = evaluation.verdict("It is so", scores)
    assert found.result == "undecided" and found.low < 0  # p = 0.07


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_an_interval_that_ends_at_0_decides_nothing(alternative):
    found = evaluation.verdict("It is so", flipped(14, 6, 0), alternative=alternative)
    assert found.low == 0 and found.result == "undecided"


def test_many_rows_that_differ_are_left_to_the_bootstrap():
    found = evaluation.verdict("It is so", flipped(15, 5, 20))
    assert found.basis == "" and "decided by" not in str(found)
    assert evaluation.verdict("It is so", flipped(14, 5, 20)).basis


def test_few_groups_are_judged_by_the_permutation_test_of_scipy(fewer_resamples):
    rng = np.random.default_rng(3)
    results = set()
    for _ in range(40):
        count = int(rng.integers(2, 13))
        groups = np.concatenate([np.arange(count), rng.integers(0, count, 40)])
        ours = pd.Series(rng.normal(rng.random(), 1, count)[groups])
        found = evaluation.verdict("It is so", {"a": ours, "b": 0 * ours}, groups)
        test = permutation_test(
            (ours.groupby(groups).sum().to_numpy(),),
            lambda x, axis: x.sum(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=2**13,
        )
        p = float(found.basis.partition("p = ")[2])
        assert p == pytest.approx(test.pvalue, rel=0.01)
        assert (found.result != "undecided") == (test.pvalue < 0.05)
        assert found.low <= found.difference <= found.high
        assert (found.result == "holds") == (found.low > 0)
        assert (found.result == "does not hold") == (found.high < 0)
        results.add(found.result)
    assert {"holds", "undecided"} <= results


@pytest.mark.parametrize("count", [12, 40])
def test_the_order_of_rows_and_the_names_of_groups_do_not_matter(count):
    scores, groups = no_effect(np.random.default_rng(4), count)
    groups = pd.Series(groups)
    found = evaluation.verdict("It is so", scores, groups)
    order = np.random.default_rng(5).permutation(len(groups))
    moved = {name: values.iloc[order] for name, values in scores.items()}
    for labels in (
        groups.iloc[order].map(lambda label: f"fact {-label}"),
        [(int(label), "a") for label in groups.iloc[order]],
        groups,  # a series is matched by the rows' index
    ):
        again = evaluation.verdict("It is so", moved, labels)
        assert (again.result, again.basis) == (found.result, found.basis)
        assert again[3:6] == pytest.approx(found[3:6])


def test_rows_with_a_label_of_their_own_are_judged_as_without_groups():
    found = evaluation.verdict("It is so", OTHER)
    again = evaluation.verdict("It is so", OTHER, range(100))
    assert again.result == found.result
    assert (again.low, again.high) == pytest.approx((found.low, found.high), abs=0.01)


@pytest.mark.parametrize("count", [3, 50])
def test_equal_scores_are_undecided_in_groups_too(count):
    found = evaluation.verdict("It is so", SAME, np.arange(100) % count)
    assert found.result == "undecided"
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_a_large_group_does_not_count_as_much_as_a_small_one_in_the_difference():
    ours = pd.Series([1.0] * 30 + [0.0] * 25)
    groups = [0] * 30 + list(range(1, 26))
    found = evaluation.verdict("It is so", {"a": ours, "b": 0 * ours}, groups)
    assert found.difference == pytest.approx(30 / 55)  # of rows, as the figures say
    assert found.result == "undecided"  # but one group says so


def test_the_interval_of_groups_lies_about_the_mean_of_rows():
    sizes = [1, 9] * 20  # the larger groups are right, the smaller are not
    groups = np.repeat(np.arange(40), sizes)
    mean, low, high = evaluation.interval(groups % 2, groups)
    assert mean == pytest.approx(0.9) and 0.7 < low < 0.9 < high < 1


def test_the_interval_of_few_groups_is_wider_as_students_t_is():
    means = np.random.default_rng(7).random(20)
    _, low, high = evaluation.interval(means)
    _, lowest, highest = evaluation.interval(means.repeat(2), np.arange(40) // 2)
    wider = (highest - lowest) / (high - low)
    assert wider == pytest.approx(2.093 * math.sqrt(20 / 19) / 1.96, abs=0.05)


def test_the_interval_of_a_figure_counts_groups_where_they_agree_throughout():
    facts = [f"fact {n // 4}" for n in range(80)]
    assert evaluation.interval([1] * 80, facts) == evaluation.interval([1] * 20)
    share = [n // 4 % 2 for n in range(80)]
    _, low, high = evaluation.interval(share, facts)
    _, lowest, highest = evaluation.interval(share)
    assert low < lowest < highest < high
    scores = {"a": pd.Series(share), "b": pd.Series([0] * 80)}
    found = evaluation.verdict("It is so", scores, facts)
    ends = found.figures[["low", "high"]].to_numpy()
    assert ends[0] == pytest.approx((low, high))
    assert ends[1] == pytest.approx(evaluation.interval([0] * 20)[1:])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["x", "y"], "2 labels for 3 rows.*give each row one"),
        (["x", "y", "y", "y"], "4 labels for 3 rows"),
        ("fact", "4 labels for 3 rows"),
        (["x", None, "y"], "1 missing.*or its id"),
        ([1, 2, np.nan], "1 missing"),
        (pd.Series(["x", "y", "y"]), "3 missing.*by their index"),
        (["x", "x", "x"], "1 different.*two different at least"),
    ],
    ids=["few", "many", "a-name", "none", "nan", "other-index", "one-group"],
)
def test_groups_that_leave_rows_out_are_refused(groups, message):
    with pytest.raises(ValueError, match=f"groups: .*{message}"):
        evaluation.verdict("It is so", {"a": ROWS, "b": 1 - ROWS}, groups)


def test_what_decided_is_shown_and_kept(capsys, kept):
    scores, groups = no_effect(np.random.default_rng(6), 40)
    evaluation.verdict("It is so", scores, groups, lesson="04")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["  decided by a bootstrap of 40 groups", "Verdict: undecided"]
    (path,) = kept.iterdir()
    assert json.loads(path.read_text())["basis"] == "a bootstrap of 40 groups"
    evaluation.verdict("It is so", flipped(5, 0, 61))
    basis = "McNemar's exact test, 5 of 66 rows differ, p = 0.0625"
    assert f"  decided by {basis}" in capsys.readouterr().out.splitlines()


def test_a_kept_verdict_reaches_the_table_of_the_course(kept):
    found = evaluation.verdict("Tuning teaches facts", BETTER, lesson="04")
    (stored,) = course.verdicts(kept, before=set())
    assert stored["lesson"] == "04"
    assert (stored["claim"], stored["result"]) == (found.claim, found.result)
    assert (stored["low"], stored["high"]) == (found.low, found.high)
    assert [figure["name"] for figure in stored["figures"]] == ["ours", "theirs"]
    assert "holds: Tuning teaches facts" in course.table([("04_x", 1, "")], [stored])


RECORDED = {
    path.stem: found
    for path in sorted((records.DATA / "recorded").glob("*.json"))
    if {"verdict", "right"} <= (found := json.loads(path.read_text("utf-8"))).keys()
}
FACT_OF = {row["id"]: row["fact"] for row in FAQ}


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_verdict_is_the_one_that_its_rows_give(name):
    found = RECORDED[name]
    scores = {}
    for line in found["figures"]:
        right = found["right"][line["name"]]  # a 1 or 0 for each row, or one per run
        runs = [right] if isinstance(right, str) else right.values()
        scores[line["name"]] = pd.DataFrame([map(int, run) for run in runs]).mean()
    groups = [FACT_OF[row] for row in found["ids"]] if "ids" in found else None
    again = evaluation.verdict(found["claim"], scores, groups)
    assert (again.result, again.basis) == (found["verdict"], found.get("basis", ""))
    assert found["difference"] == pytest.approx(again[3:6], abs=1e-4)


def test_a_rerun_replaces_its_verdict_and_no_other(kept):
    for scores, lesson in ((WORSE, "04"), (BETTER, "04"), (OTHER, "05")):
        evaluation.verdict("Is it so?", scores, lesson=lesson)
    stored = {v["lesson"]: v["result"] for v in course.verdicts(kept, before=set())}
    assert len(list(kept.iterdir())) == 2
    assert stored == {"04": "holds", "05": "undecided"}


def test_claims_that_begin_alike_do_not_replace_each_other(kept):
    start = "Tuning on the core facts beats looking up the nearest training question"
    for end in ("on paraphrases", "on questions near the scope"):
        evaluation.verdict(f"{start} {end}", BETTER, lesson="04")
    claims = [verdict["claim"] for verdict in course.verdicts(kept, before=set())]
    assert len(claims) == 2


def test_without_a_lesson_nothing_is_kept(kept):
    evaluation.verdict("It is so", BETTER)
    assert not kept.exists()


def test_a_kept_verdict_is_plain_json(kept):
    scores = {"a": pd.Series([True, False]), "b": pd.Series([0, 1])}
    evaluation.verdict("“Ω” is so / it is?", scores, lesson="04")
    (path,) = kept.iterdir()
    content = path.read_text(encoding="ascii")
    assert "NaN" not in content and json.loads(content)["claim"].startswith("“Ω”")


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        ({"type": "exact", "value": "A b"}, " A b\n", "a b"),
        ({"type": "exact_any", "values": ["Rome", "rome."]}, "ROME", "Rome, Italy"),
        ({"type": "contains", "any": ["hen", "egg"]}, "An egg!", "eggs, then"),
        ({"type": "contains_all", "values": ["hen", "egg"]}, "Egg of a hen", "a hen"),
        ({"type": "words", "min": 2, "max": 3}, "two words", "just these four words"),
        ({"type": "words", "min": 2, "max": 3}, "one two three", "one"),
        ({"type": "lines", "count": 2}, "a\n\nb", "a\nb\nc"),
        ({"type": "regex", "pattern": r"a.+c"}, "a\nc", "a b c d"),
        ({"type": "json", "keys": {"n": "number"}}, '{"n": 1.5}', '{"n": "1"}'),
        ({"type": "json", "keys": {"n": "number"}}, '{"n": 1}', '{"n": true}'),
        ({"type": "json", "keys": {"n": "number"}}, '{"n": 1}', '{"n": 1, "m": 2}'),
        ({"type": "json", "keys": {"b": "boolean"}}, '{"b": false}', '{"b": 0}'),
        ({"type": "json", "keys": {"l": "array"}}, '{"l": []}', "[]"),
        ({"type": "json", "keys": {"s": "string"}}, '{"s": ""}', "{'s': ''}"),
        (
            {
                "type": "all",
                "checks": [
                    {"type": "words", "min": 1, "max": 2},
                    {"type": "contains", "any": ["hen"]},
                ],
            },
            "a hen",
            "here is a hen",
        ),
    ],
)
def test_a_check_takes_the_right_answer_and_no_other(check, right, wrong):
    assert evaluation.passes(right, check)
    assert not evaluation.passes(wrong, check)


def test_an_unknown_check_is_refused_with_the_types_there_are():
    with pytest.raises(ValueError, match="'exactly': there are exact, exact_any"):
        evaluation.passes("x", {"type": "exactly"})


def test_instructions_are_scored_by_their_checks():
    row = {
        "instruction": "Count.",
        "input": "2",
        "output": "1 2",
        "check": {"type": "exact", "value": "1 2"},
    }
    metrics = evaluation.score(["1 2", "1 2 3"], [row, row]).metrics
    passed = metrics.set_index("metric").loc["passed"]
    assert (passed["value"], passed["n"]) == (0.5, 2)
