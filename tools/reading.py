"""Rows for the reader: a question and a section of the handbook, to an answer.

Of each taught fact some questions, each with the section that holds the answer; and
some questions that are none of the company's business, each with the first section that
the search finds and "missing" as the answer. In most rows a number or a name is changed
in section and answer alike: a model that knows the fact by heart is then wrong, so that
it pays to read. And in half of the rows some things of the handbook change places.

Whether a section fits a question is left to the search: the reader gets the first one,
and none when its score is below retrieval.FLOOR. A student of this size that was tuned
to tell fitting sections from neighbouring ones did not learn it.
"""

from __future__ import annotations

import random
import re

from helpers import records, retrieval

CHANGED_SHARE = 0.8
RENAMED_SHARE = 0.5
SECTIONS = 3  # that the untuned student is asked with
SMALL = "two three four five six seven eight nine ten eleven twelve".split()
TEENS = "thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER = re.compile(rf"\b(\d+|{'|'.join(SMALL + TEENS + TENS)})\b", re.IGNORECASE)
# what a name is changed into: invented, or of no meaning at a weather station
NAMES = """Alder Amble Barley Basalt Beacon Bracken Bramble Brook Cinder Clover Cobble
Coppice Cricket Daffodil Dapple Ember Fallow Fennel Ferry Fiddle Flint Foxglove Gable
Garnet Gorse Hazel Heather Juniper Kettle Lantern Larch Linnet Marrow Meadow Mistral
Nettle Nutmeg Otter Parsnip Pepper Plover Quarry Quill Rafter Rowan Saffron Sorrel
Spindle Tansy Teasel Thicket Thimble Tinder Umber Vesper Walnut Willow Yarrow""".split()


# things that the handbook speaks of often: in a row some of them change places
THINGS = """account address alarm allotment barn base battery birthday bracket breeze
calendar ceiling chart clock cloud compass copy curlew customer depot device diary dome
door earth evening fault fence ferry figure file finger form garden greenhouse ground
height hole holder hour house index invoice kettle kitchen ladder lawn limit link mast
memory model month moment name office orchard order parcel phone photograph picture pole
pond price receipt record reply roof router sale salt screw shed shop slip socket
station table tablet telephone terrace thermometer thunderstorm tomato tree tube update
wall warranty webhook weekend widget window winter yard""".split()


def renamed(texts: list[str], rng: random.Random) -> list[str]:
    """Texts of one row in which some of THINGS have changed places, the same in all."""
    text = " ".join(texts).lower()
    there = {word for word in THINGS if re.search(rf"\b{word}s?\b", text)}
    moved = [word for word in sorted(there) if rng.random() < 0.6]
    others = rng.sample([word for word in THINGS if word not in there], len(moved))
    swaps = dict(zip(moved, others, strict=True))
    if not swaps:
        return texts
    words = re.compile(rf"\b({'|'.join(moved)})(s?)\b", re.IGNORECASE)

    def swap(found):
        new = swaps[found[1].lower()] + found[2]
        return new[:1].upper() + new[1:] if found[0][0].isupper() else new

    return [words.sub(swap, text) for text in texts]


def other_number(word: str, rng: random.Random) -> str:
    """Another number of the same form: as many digits, or a word like it."""
    for kind in (SMALL, TEENS, TENS):
        if word.lower() in kind:
            new = rng.choice([w for w in kind if w != word.lower()])
            return new.capitalize() if word[0].isupper() else new
    low = 10 ** (len(word) - 1)
    return str(rng.choice([n for n in range(low, 10 * low) if n != int(word)][:5000]))


def changed(answer: str, text: str, keys: list[str], rng: random.Random):
    """(answer, text) with the numbers of both, or a name in both, changed; or None."""
    swaps = {}
    for word in dict.fromkeys(found[0] for found in NUMBER.finditer(answer)):
        if re.search(rf"\b{word}\b", text, re.IGNORECASE):
            swaps.setdefault(word.lower(), other_number(word, rng))
    if not swaps:
        for key in keys:
            if re.fullmatch(r"[A-Z][a-z]{3,}", key) and key in answer and key in text:
                swaps[key.lower()] = rng.choice(NAMES)
                break
    if not swaps:
        return None

    def swap(found):
        new = swaps[found[0].lower()]
        return new[:1].upper() + new[1:] if found[0][0].isupper() else new

    words = re.compile(rf"\b({'|'.join(map(re.escape, swaps))})\b", re.IGNORECASE)
    return words.sub(swap, answer), words.sub(swap, text)


def rows(
    questions: list[dict], sections: list[dict], each: int, seed: int = 0
) -> list[dict]:
    """Training rows from `each` questions of every fact, and some that are foreign.

    sections: those that may be seen, the facts of `questions` among them.
    """
    rng, out = random.Random(seed), []
    search = retrieval.Search(sections)
    by_id = {section["id"]: section for section in sections}
    by_fact = {}
    for row in questions:
        by_fact.setdefault(row["fact"], []).append(row)
    foreign = by_fact.pop(None, [])
    chosen = rng.sample(foreign, min(len(foreign), len(by_fact) // 2))
    for asked in by_fact.values():
        chosen += [asked[n % len(asked)] for n in range(each)]
    found = search.find([row["question"] for row in chosen], 1)
    for row, (first,) in zip(chosen, found, strict=True):
        answer, question = row["answer"], row["question"]
        section = by_id[row["fact"] or first]
        heading, text = section["heading"], section["text"]
        if not row["fact"]:
            answer = retrieval.MISSING
        elif rng.random() < CHANGED_SHARE:
            if swapped := changed(answer, text, row["keys"], rng):
                answer, text = swapped
        if rng.random() < RENAMED_SHARE:
            texts = [question, answer, heading, text]
            question, answer, heading, text = renamed(texts, rng)
        prompt = retrieval.prompt(question, [{"heading": heading, "text": text}])
        out.append({"messages": [*prompt, {"role": "assistant", "content": answer}]})
    rng.shuffle(out)
    return out


def asked(questions: list[dict], sections: list[dict]) -> list[dict]:
    """Questions as the reader gets them: each with the first section that is found.

    Each row has "messages" (the answer last), "keys", "fact", "id", whether the search
    is "sure" of the section, and as "kind" whether it "found" the right one or it is
    "missing".
    """
    search = retrieval.Search(sections)
    by_id = {section["id"]: section for section in sections}
    texts, out = [row["question"] for row in questions], []
    best = search.scores(texts).max(axis=1)
    found = search.find(texts, 1)
    for row, (first,), score in zip(questions, found, best, strict=True):
        prompt = retrieval.prompt(row["question"], [by_id[first]])
        kept = {name: row[name] for name in ("id", "fact", "keys")}
        kept["kind"] = "found" if row["fact"] == first else "missing"
        kept["sure"] = bool(score >= retrieval.FLOOR)
        answer = {"role": "assistant", "content": row["answer"]}
        out.append(kept | {"messages": [*prompt, answer]})
    return out


def kept_out(questions: list[dict], count: int = 30) -> set[str]:
    """Facts of which nothing is shown in training, to choose search and recipe by."""
    facts = sorted({row["fact"] for row in questions if row["fact"]})
    return set(random.Random(0).sample(facts, count))


def split(final: bool) -> tuple[list[dict], list[dict], list[dict], list[dict]]:
    """(questions to train on, sections for it, questions to score, all sections).

    The sections that the scored questions are about are not among the training ones.
    """
    faq = records.load("faq")
    sections = retrieval.handbook()
    train = list(faq["train"])
    if final:
        scored = [row for row in faq["test"] if row["kind"] == "unseen"]
    else:
        out = kept_out(train)
        scored = [row for row in train if row["fact"] in out]
        train = [row for row in train if row["fact"] not in out]
    seen = {row["fact"] for row in train}
    return train, [s for s in sections if s["id"] in seen], scored, sections
