"""Evaluation: answers and records in, scores with intervals and verdicts out.

In: answers as text, records with their reference answer and keys.  Out: frames.
Knows nothing of tokens or training.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import textwrap
from collections import Counter
from typing import NamedTuple

from helpers import models, records

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.feature_extraction.text import TfidfVectorizer

RESAMPLES = 10_000
# Before a key: no letter or digit, no "1." of a decimal. Before one that begins with a
# digit: no minus, as sign or word, unless it is "plus or minus" or "plus/minus".
KEY_BEGINS = r"(?<!\w)(?<!\d[.,])"
NO_MINUS = r"(?<![\s(][-−–])(?<!\A[-−–])(?<!(?<!or )(?<!or-)(?<!/)minus )"


class Score(NamedTuple):
    """rows: a frame, one row per answer. metrics: one row per kind and metric."""

    rows: pd.DataFrame
    metrics: pd.DataFrame


def has_key(answer: str, keys: list[str]) -> bool:
    """Whether an answer contains one of the keys as whole words, case ignored.

    "40" is not found in "140", "40.5", "2040" or "minus 40", nor "Wing" in "drawing".
    Built by hand in lesson 05, "Exercise: key facts by hand".
    """
    answer = answer.replace("’", "'")
    for key in keys:
        begins = KEY_BEGINS + (NO_MINUS if key[:1].isdigit() else "")
        word = re.escape(key.replace("’", "'"))
        if re.search(rf"{begins}{word}(?!\w|[.,]\d)", answer, re.IGNORECASE):
            return True
    return False


@functools.cache
def refusal_phrases() -> tuple[str, ...]:
    """The phrases of data/larkfield/refusals.txt, by which a refusal is known."""
    text = (records.DATA / "larkfield" / "refusals.txt").read_text(encoding="utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def is_refusal(answer: str) -> bool:
    """Whether an answer declines; case and the kind of apostrophe do not matter."""
    answer = " ".join(answer.casefold().replace("’", "'").split())
    phrases = "|".join(map(re.escape, refusal_phrases()))
    return re.search(rf"(?<!\w)(?:{phrases})(?!\w)", answer) is not None


JSON_TYPES = {
    "string": str,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def passes(answer: str, check: dict) -> bool:
    """Whether an answer passes the machine check of its instruction record.

    check["type"], and what stands beside it:
    exact (value): equals it, white space at the ends aside; exact_any (values): equals
    one of them, case ignored; contains (any), contains_all (values): holds one, or all,
    as whole words, case ignored; words (min, max), lines (count): as many words, as
    many lines with text; regex (pattern): the whole answer matches; json (keys: name ->
    string, number, boolean, array or object): an object of just these; all (checks).
    Raises ValueError that lists the types when it is none of them.
    """
    answer = answer.strip()
    match check["type"]:
        case "exact":
            return answer == check["value"].strip()
        case "exact_any":
            return answer.casefold() in {text.casefold() for text in check["values"]}
        case "contains":
            return has_key(answer, check["any"])
        case "contains_all":
            return all(has_key(answer, [text]) for text in check["values"])
        case "words":
            return check["min"] <= len(answer.split()) <= check["max"]
        case "lines":
            lines = [line for line in answer.splitlines() if line.strip()]
            return len(lines) == check["count"]
        case "regex":
            return re.fullmatch(check["pattern"], answer, re.DOTALL) is not None
        case "json":
            return _is_object(answer, check["keys"])
        case "all":
            return all(passes(answer, part) for part in check["checks"])
    raise ValueError(
        f"no check {check['type']!r}: there are exact, exact_any, contains, "
        "contains_all, words, lines, regex, json, all"
    )


def _is_object(text: str, keys: dict[str, str]) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(found, dict)
        and set(found) == set(keys)
        and all(
            isinstance(found[name], JSON_TYPES[kind])
            and isinstance(found[name], bool) == (kind == "boolean")
            for name, kind in keys.items()
        )
    )


def token_f1(answer: str, reference: str) -> float:
    """Overlap of words, from 0 to 1, as SQuAD scores it (Rajpurkar et al. 2016)."""
    said, wanted = (records.normalise(text).split() for text in (answer, reference))
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def score(answers: list[str], rows: list[dict]) -> Score:
    """Score answers against their records, in the same order.

    rows: records with an answer field; `keys`, `check` and `kind` where there are any.
    Metrics, each a share from 0 to 1: exact_match and token_f1 against the reference
    answer; refused; where rows have a check, passed; where rows have keys, key_fact
    (contains a key and is no refusal) and confidently_wrong (neither key nor refusal;
    on a row without keys, any answer that is no refusal).
    Returns the rows' frame (indexed by id, or from 1) and the metrics' frame with kind,
    metric, value, n, low, high: the ends of a 95 % interval, Wilson's for shares of
    yes and no, bootstrap's for token_f1.
    Raises ValueError when the lengths differ or a record has no answer.
    """
    if len(answers) != len(rows):
        raise ValueError(
            f"{len(answers)} answers for {len(rows)} records: give one each"
        )
    if not rows:
        raise ValueError("no answers and no records: there is nothing to score")
    out = []
    for number, (answer, record) in enumerate(zip(answers, rows, strict=True), 1):
        if (reference := records.answer(record)) is None:
            raise ValueError(f"row {number} has no reference answer: {sorted(record)}")
        row = {
            "id": record.get("id", number),
            "kind": record.get("kind") or "all",
            "question": records.prompt_text(record),
            "answer": answer,
            "reference": reference,
            "exact_match": records.normalise(answer) == records.normalise(reference),
            "token_f1": token_f1(answer, reference),
            "refused": is_refusal(answer),
        }
        if "keys" in record:
            keyed = has_key(answer, record["keys"] or [])
            row["key_fact"] = (keyed and not row["refused"]) if record["keys"] else None
            row["confidently_wrong"] = not keyed and not row["refused"]
        if record.get("check"):
            row["passed"] = passes(answer, record["check"])
        out.append(row)
    frame = pd.DataFrame(out).set_index("id")
    lines = []
    for kind, group in frame.groupby("kind", sort=False):
        for metric in (
            "key_fact",
            "refused",
            "confidently_wrong",
            "passed",
            "exact_match",
            "token_f1",
        ):
            values = group[metric].dropna() if metric in group else []
            if len(values):
                value, low, high = interval(values)
                lines.append((kind, metric, value, len(values), low, high))
    columns = ["kind", "metric", "value", "n", "low", "high"]
    return Score(frame, pd.DataFrame(lines, columns=columns))


def interval(values) -> tuple[float, float, float]:
    """Mean of n values and the ends of its 95 % interval: (mean, low, high).

    Wilson's interval when all values are 0 or 1, else the percentile bootstrap's.
    """
    values = np.asarray(values, dtype=float)
    if np.isin(values, (0, 1)).all():
        ends = binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
        return float(values.mean()), float(ends.low), float(ends.high)
    return (float(values.mean()), *_bootstrap(values))


def _bootstrap(values: np.ndarray) -> tuple[float, float]:
    """2.5th and 97.5th percentile of the mean over resamples of the values."""
    draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def nearest_question(questions: list[str], train: list[dict]) -> list[str]:
    """The trivial baseline: the answer that stands under the most similar question.

    Similar by TF-IDF over words and pairs of words (scikit-learn), cosine; a question
    that shares no word with any of them is compared by its characters.
    train: records with an answer. Returns one of their answers per question.
    """
    asked = [records.prompt_text(record) for record in train]
    by_words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    by_letters = TfidfVectorizer(analyzer="char", ngram_range=(1, 3))
    best = np.zeros(len(questions), dtype=int)
    left = np.arange(len(questions))  # those without an answer so far
    for vectorizer in (by_words, by_letters):
        with contextlib.suppress(ValueError):  # nothing to count in any question
            known = vectorizer.fit_transform(asked)
            texts = [questions[i] for i in left]
            alike = (vectorizer.transform(texts) @ known.T).toarray()
            best[left] = alike.argmax(axis=1)
            left = left[alike.max(axis=1) == 0]
        if not len(left):
            break
    return [records.answer(train[i]) for i in best]


class Verdict(NamedTuple):
    """claim; result: "holds", "does not hold" or "undecided"; figures: a frame with
    name, value, n, low, high; difference, low, high: of the first minus the second."""

    claim: str
    result: str
    figures: pd.DataFrame
    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        lines = textwrap.wrap(f"Claim: {self.claim}", 78)
        for name, value, n, low, high in self.figures.itertuples(index=False):
            lines.append(f"  {name:<28}{_figure(value, low, high)}   n = {n}")
        lines.append(
            f"  {'difference, paired':<28}"
            + _figure(self.difference, self.low, self.high)
        )
        return "\n".join([*lines, f"Verdict: {self.result}"])


def _figure(value, low, high) -> str:
    return f"{value:6.1%}   95 % from {low:6.1%} to {high:6.1%}"


def verdict(
    claim: str,
    scores: dict[str, pd.Series],
    *,
    alternative: str = "greater",
    lesson: str | None = None,
) -> Verdict:
    """Put a claim to the test on paired rows, print the verdict and keep it.

    scores: name -> one value per row, on the same rows in the same order. The claim is
    that the first is greater than the second (alternative="less": smaller); the others,
    among them a trivial baseline, are shown beside.
    *holds* when the 95 % bootstrap interval of the difference lies on the claimed side
    of 0, *does not hold* when on the other, else *undecided*. Where all rows agree, and
    so all resamples, the interval is that of a sign test: up to five are undecided.
    lesson: where the claim is made, such as "04"; the verdict is then kept in
    outputs/verdicts, for the table that gathers them all.
    Raises ValueError when rows are not paired or fewer than two scores are given.
    """
    if alternative not in ("greater", "less"):
        raise ValueError(f"alternative is {alternative!r}: give 'greater' or 'less'")
    if len(scores) < 2:
        raise ValueError("a claim compares two scores or more: give name -> values")
    series = {name: pd.Series(values, dtype=float) for name, values in scores.items()}
    (first, ours), (second, theirs), *_ = series.items()
    for name, values in series.items():
        if not values.index.equals(ours.index) or values.isna().any():
            raise ValueError(
                f"{name!r} is not on the same rows as {first!r}: "
                f"{len(values)} and {len(ours)} values; score both on the same records"
            )
    paired = (ours - theirs).to_numpy()
    low, high = _bootstrap(paired)
    if paired.any() and np.ptp(paired) < 1e-9:  # at least this share agrees, else it is
        agree = 0.025 ** (1 / len(paired))  # chance; the rest may differ as far
        low, high = sorted((high, low * (2 * agree - 1)))
    side = 1 if alternative == "greater" else -1
    result = "undecided"
    if min(side * low, side * high) > 0:
        result = "holds"
    elif max(side * low, side * high) < 0:
        result = "does not hold"
    figures = pd.DataFrame(
        [
            (name, mean, len(values), *ends)
            for name, values in series.items()
            for mean, *ends in [interval(values)]
        ],
        columns=["name", "value", "n", "low", "high"],
    )
    found = Verdict(claim, result, figures, float(paired.mean()), low, high)
    print(found)
    if lesson:
        _keep(found, lesson)
    return found


def _keep(found: Verdict, lesson: str) -> None:
    folder = models.CACHE.parent / "verdicts"
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", found.claim.lower()).strip("-")[:60]
    name += "-" + hashlib.sha256(found.claim.encode()).hexdigest()[:6]
    content = found._asdict() | {"figures": found.figures.to_dict("records")}
    path = folder / f"{lesson}-{name}.json"
    path.write_text(json.dumps({"lesson": lesson, **content}, indent=1))
