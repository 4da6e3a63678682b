"""Parts of a made row: what is drawn, and the check of an answer.

A maker yields tasks of one kind without end: the input, its answer, the check, and what
stands for names in braces in a wording. Makers register themselves by `maker`.
"""

from __future__ import annotations

import random
import re
import string
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

TEXTS = tomllib.loads(
    Path(__file__).with_name("texts.toml").read_text(encoding="utf-8")
)
POOLS, ITEMS, CARRIERS = TEXTS["pools"], TEXTS["items"], TEXTS["carriers"]
GROUPS = {
    "fruit": "fruits",
    "animal": "animals",
    "tool": "tools",
    "clothing": "clothing",
    "vehicle": "vehicles",
    "instrument": "instruments",
    "furniture": "furniture",
    "drink": "drinks",
    "colour": "colours",
}
LISTS = [*GROUPS.values(), "groceries", "camping", "jobs", "names", "towns"]
ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen
fourteen fifteen sixteen seventeen eighteen nineteen""".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
Task = tuple[str, str, dict, dict]
MAKERS: dict[str, Callable[[Draw], Iterator[Task]]] = {}


class Draw(random.Random):
    """Chance, with what the makers ask of it."""

    def each(self, things: list) -> Iterator:
        """All of them in some order, and again in another, without end."""
        while True:
            yield from self.sample(things, len(things))

    def some(self, pool: str, least: int, most: int) -> list[str]:
        return self.sample(POOLS[pool], self.randint(least, most))

    def lists(self, least: int, most: int) -> Iterator[tuple[list[str], str]]:
        """Items of one pool, and what stands between them where they are listed."""
        for pool in self.each(LISTS):
            between = self.choice([", ", ", ", ", ", " / ", "\n"])
            yield self.some(pool, least, most), between

    def numbers(self, least: int, most: int) -> list[int]:
        top = self.choice([10, 20, 60, 100])
        return self.sample(range(1, top), self.randint(least, most))


def maker(function: Callable[[Draw], Iterator[Task]]):
    MAKERS[function.__name__] = function
    return function


# checks: a right answer may have a lead ("The answer is"), quotes or a full stop

LEAD = (
    r"(?:(?:it|that|this|there|(?:an?|one|another|the|your|my) [\w'\"“” ,-]{1,60}?)"
    r" (?:is|was|are|would be):? )?"
)
LABEL = r"(?:[^\n:]{0,60}:\s*)?"
GAP = r"[\s,;/|<>-]+(?:and )?"


def plain(text: str) -> str:
    """A pattern for a text, its last full stop left open."""
    return re.escape(text.rstrip(".!?")).replace("\\ ", " ").replace("'", "['’]")


def says(*answers: str, pattern: str | None = None, after: str = "") -> dict:
    """Nothing but one of the answers, case ignored; `after` may follow (a pattern)."""
    either = pattern or "|".join(map(plain, answers))
    whole = rf"(?i){LABEL}{LEAD}\W{{0,3}}(?:{either})(?:{after})?\W{{0,3}}"
    return {"type": "regex", "pattern": whole}


def text(answer: str, case: bool = False, pattern: str | None = None) -> dict:
    """The text, quoted or not; `case`: in just these capitals."""
    flag = "" if case else "(?i)"
    whole = rf"{flag}{LABEL}\W{{0,2}}{pattern or plain(answer)}\W{{0,2}}"
    return {"type": "regex", "pattern": whole}


def listed(items: list[str]) -> dict:
    """The items in this order and no others, divided by commas, lines or the like."""
    pattern = rf"(?i){LABEL}{LEAD}\W{{0,3}}{GAP.join(map(plain, items))}\W{{0,3}}"
    return {"type": "regex", "pattern": pattern}


def holds(*answers: str, most: int) -> dict:
    """One of the answers among at most so many words, and no question."""
    parts = [{"type": "contains", "any": list(answers)}]
    parts += [{"type": "words", "min": 1, "max": most}]
    parts += [{"type": "regex", "pattern": "[^?]+"}]
    return {"type": "all", "checks": parts}


def lines(items: list[str], mark: str) -> dict:
    """One item a line, each behind a mark (a pattern), article or none."""
    rows = [rf"\s*{mark}\s+(?:an? )?{plain(item)}[.,;]?\s*" for item in items]
    return {"type": "regex", "pattern": "(?i)(?:[^\n]*:\n+)?" + r"\n".join(rows)}


def yes_or_no(yes: bool) -> dict:
    right, wrong = ("yes", "no") if yes else ("no", "yes")
    pattern = rf"(?i)\W{{0,2}}{right}\b(?!.*\b{wrong}\b)[^?\n]{{0,80}}"
    return {"type": "regex", "pattern": pattern}


def in_words(number: int) -> str:
    if number < 20:
        return ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return TENS[tens - 2] + (f"-{ONES[ones]}" if ones else "")
    hundreds, rest = divmod(number, 100)
    return f"{ONES[hundreds]} hundred" + (f" and {in_words(rest)}" if rest else "")


def figure(number: int, after: str = "") -> dict:
    return says(str(number), in_words(number), after=after)


def bare(word: str) -> str:
    return word.strip(string.punctuation)
