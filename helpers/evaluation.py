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

from helpers import models, records, whole

import numpy as np
import pandas as pd
from scipy import optimize, stats
from sklearn.feature_extraction.text import TfidfVectorizer

RESAMPLES = 10_000
FEW = 20  # of fewer rows or groups that differ, an exact test decides
METRICS = "key_fact refused confidently_wrong passed exact_match token_f1".split()
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
    Built by hand in lesson 07, "Exercise: key facts by hand".
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


def passes(answer: str, check: dict) -> bool:
    """Whether an answer passes the machine check of its instruction record.

    check["type"], and what stands beside it: exact (value), white space at the ends
    aside; exact_any (values), case ignored; contains (any), contains_all (values), as
    whole words, case ignored; words (min, max); lines (count), of those with text;
    regex (pattern), of the whole answer; json (keys: name -> string, number, boolean,
    array or object), an object of just these; all (checks).
    Raises ValueError that lists the types when it is none of them.
    """
    if check["type"] not in CHECKS:
        raise ValueError(f"no check {check['type']!r}: there are {', '.join(CHECKS)}")
    return CHECKS[check["type"]](answer.strip(), check)


def _is_object(text: str, keys: dict[str, str]) -> bool:
    try:
        found = json.loads(text).items()
    except (ValueError, AttributeError):  # no JSON, or a list, a number...
        return False
    return {name: JSON_NAMES.get(type(value)) for name, value in found} == keys


JSON_NAMES = {str: "string", int: "number", float: "number", bool: "boolean"}
JSON_NAMES |= {list: "array", dict: "object"}
CHECKS = {  # type -> whether an answer, white space at its ends aside, passes it
    "exact": lambda said, by: said == by["value"].strip(),
    "exact_any": lambda said, by: said.casefold() in map(str.casefold, by["values"]),
    "contains": lambda said, by: has_key(said, by["any"]),
    "contains_all": lambda said, by: all(has_key(said, [v]) for v in by["values"]),
    "words": lambda said, by: by["min"] <= len(said.split()) <= by["max"],
    "lines": lambda said, by: (
        len(list(filter(str.strip, said.splitlines()))) == by["count"]
    ),
    "regex": lambda said, by: bool(re.fullmatch(by["pattern"], said, re.DOTALL)),
    "json": lambda said, by: _is_object(said, by["keys"]),
    "all": lambda said, by: all(passes(said, part) for part in by["checks"]),
}


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
    metric, value, n, low, high: the ends of its `interval`.
    Raises ValueError when the lengths differ or a record has no answer.
    """
    if len(answers) != len(rows) or not rows:
        raise ValueError(
            f"{len(answers)} answers for {len(rows)} records: give one each, not none"
        )
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
        for metric in [name for name in METRICS if name in group]:
            if len(values := group[metric].dropna()):
                value, low, high = interval(values)
                lines.append((kind, metric, value, len(values), low, high))
    columns = ["kind", "metric", "value", "n", "low", "high"]
    return Score(frame, pd.DataFrame(lines, columns=columns))


def interval(values, groups=None) -> tuple[float, float, float]:
    """Mean of n values and the ends of its 95 % interval: (mean, low, high).

    Wilson's interval when all values are 0 or 1, else the percentile bootstrap's.
    groups: a label for each value, such as its fact. Whole groups are then drawn again
    (see `verdict`); where all are alike, Wilson's counts each group once.
    """
    sums, sizes = _units(values, groups)
    mean, shares = float(sums.sum() / sizes.sum()), sums / sizes
    alike = groups is None or np.ptp(shares) < 1e-9
    if not alike or not np.isin(values, (0, 1)).all():
        return (mean, *_bootstrap(sums, sizes))
    test = stats.binomtest(round(shares.sum()), len(shares))
    ends = test.proportion_ci(method="wilson")
    return mean, float(ends.low), float(ends.high)


def _units(values, groups) -> np.ndarray:
    """Two rows, sums and sizes of the groups, in an order that no label changes."""
    values = pd.Series(values, dtype=float)
    if groups is None:
        return np.array([values, np.ones(len(values))])
    fits = len(groups) == len(values)
    labels = pd.Series(groups, values.index if fits else None)  # a series: by index
    missing, different = labels.isna().sum(), labels.nunique()
    if not fits or missing or different < 2:
        raise ValueError(
            f"groups: {len(groups)} labels for {len(values)} rows, {missing} missing, "
            f"{different} different: give each row one, or its id if it has no unit, "
            "in the rows' order or by their index, and two different at least"
        )
    units = values.groupby(labels.to_numpy(), sort=False).agg(["sum", "size"])
    return units.sort_values(["sum", "size"]).to_numpy().T


def _bootstrap(sums: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Percentile interval of sum over size, whole units being drawn again."""
    n, tail = len(sums), 0.025
    if (sizes > 1).any():  # wider, as Student's t is, for few groups (Hesterberg 2015)
        tail = stats.norm.sf(stats.t.isf(tail, n - 1) * np.sqrt(n / (n - 1)))
    draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    return tuple(np.quantile(means, [tail, 1 - tail]).tolist())


def _sign_flips(changes: np.ndarray) -> tuple[float, float, float]:
    """Exact two-sided test of the sum of k changes: (p, low, high).

    Each keeps its size and goes up or down as a coin falls. p: how often a fair coin
    takes the sum as far. low, high: the sums to expect of the coins that are not
    rejected at 5 % (Clopper & Pearson 1934, where all have one size).
    """
    k, total, most = len(changes), float(changes.sum()), float(np.abs(changes).sum())
    if abs(total) == most:  # all one way: no other throw goes as far
        ends = total, (2 * 0.025 ** (1 / k) - 1) * total
        return min(1.0, 2 * 0.5**k), min(ends), max(ends)
    sums, heads, n = np.zeros(1), np.zeros(1, dtype=int), np.arange(k + 1)
    for size in np.abs(changes):  # all 2**k throws
        sums = np.concatenate([sums + size, sums - size])
        heads = np.concatenate([heads + 1, heads])

    def tail(coin: float, side: int, less: float = 0.0) -> float:
        far = np.bincount(heads[side * (sums - total) > -1e-9], minlength=k + 1)
        return far @ (coin**n * (1 - coin) ** (k - n)) - less

    low, high = (optimize.brentq(tail, 0, 1, (side, 0.025)) for side in (1, -1))
    p = min(1.0, 2 * tail(0.5, 1), 2 * tail(0.5, -1))
    return p, (2 * low - 1) * most, (2 * high - 1) * most


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
            asking = vectorizer.transform([questions[i] for i in left])
            alike = (asking @ known.T).toarray()
            best[left] = alike.argmax(axis=1)
            left = left[alike.max(axis=1) == 0]
        if not len(left):
            break
    return [records.answer(train[i]) for i in best]


class Verdict(NamedTuple):
    """result: "holds", "does not hold" or "undecided". figures: name, value, n, low and
    high of each score. difference, low, high: of the first minus the second. basis:
    what decided, if not the bootstrap of single rows."""

    claim: str
    result: str
    figures: pd.DataFrame
    difference: float
    low: float
    high: float
    basis: str = ""

    def __str__(self) -> str:
        lines = textwrap.wrap(f"Claim: {self.claim}", 78)
        gap = ("difference, paired", self.difference, "", self.low, self.high)
        for name, value, n, low, high in [*self.figures.itertuples(index=False), gap]:
            line = f"  {name:<28}{value:6.1%}   95 % from {low:6.1%} to {high:6.1%}"
            lines.append(line + (f"   n = {n}" if n else ""))
        lines += [f"  decided by {self.basis}"] if self.basis else []
        return "\n".join([*lines, f"Verdict: {self.result}"])


def verdict(
    claim: str, scores: dict, groups=None, *, alternative="greater", lesson=None
) -> Verdict:
    """Put a claim to the test on paired rows, print the verdict and keep it.

    scores: name -> one value per row, on the same rows in the same order. The claim is
    that the first is greater than the second (alternative="less": smaller); the others,
    among them a trivial baseline, are shown beside.
    groups: a label for each row, of the unit that the claim speaks of (fact, kind of
    instruction, seed), where several rows share one.
    *holds* when the 95 % interval of the difference lies on the claimed side of 0,
    *does not hold* when on the other, else *undecided*. The percentile bootstrap draws
    rows or whole groups (cluster bootstrap of a ratio of sums, Field & Welsh 2007).
    Where fewer than 20 of them differ, or all alike, an exact test of signs decides,
    two-sided at 5 % (on rows of 0 and 1 McNemar's, 1947), and the interval follows it.
    lesson: such as "04": the verdict is kept in outputs/verdicts, for the last table.
    Raises ValueError for fewer than two scores, unpaired rows and incomplete groups.
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
    low, high, basis = _compare(ours - theirs, groups)
    side, claimed = (low > 0) - (high < 0), 1 if alternative == "greater" else -1
    result = {0: "undecided", claimed: "holds"}.get(side, "does not hold")
    lines = [(name, len(v), *interval(v, groups)) for name, v in series.items()]
    figures = pd.DataFrame(lines, columns=["name", "n", "value", "low", "high"])
    figures = figures[["name", "value", "n", "low", "high"]]
    difference = float((ours - theirs).mean())
    found = Verdict(claim, result, figures, difference, low, high, basis)
    print(found)
    if lesson:
        _keep(found, lesson)
    return found


def _compare(paired: pd.Series, groups) -> tuple[float, float, str]:
    """The interval of the mean difference, and what decided (see `Verdict`)."""
    sums, sizes = _units(paired, groups)
    low, high = _bootstrap(sums, sizes)
    changes = sums[np.abs(sums) > 1e-9 * sizes]
    k, units = len(changes), f"{len(sums)} {'rows' if groups is None else 'groups'}"
    if k == 0 or k >= FEW and np.ptp(sums / sizes) > 1e-9:
        return low, high, "" if groups is None else f"a bootstrap of {units}"
    p, least, most = _sign_flips(changes / len(paired))
    low, high = min(low, least), max(high, most)
    if p < 0.05:  # 0 is beyond the test's end, though perhaps not the bootstrap's
        low, high = (least, high) if least > 0 else (low, most)
    yes_no = groups is None and np.isin(np.abs(changes), 1).all()
    test = "McNemar's exact test" if yes_no else "an exact sign-flip test"
    return low, high, f"{test}, {k} of {units} differ, p = {p:.3g}"


def _keep(found: Verdict, lesson: str) -> None:
    folder = models.CACHE.parent / "verdicts"
    name = re.sub(r"\W+", "-", found.claim.lower()).strip("-")[:60]
    name += "-" + hashlib.sha256(found.claim.encode()).hexdigest()[:6]
    content = found._asdict() | {"figures": found.figures.to_dict("records")}
    text = json.dumps({"lesson": lesson, **content}, indent=1)
    whole.write(folder / f"{lesson}-{name}.json", text)
