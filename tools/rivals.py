"""What else could do a job, each given a fair chance: python -m tools.rivals

Facts: wren, the untuned student, it and the reader with what a search found (wren and
reader as soon as they have been tuned), and the nearest training question, by words and
by meaning, with leave to decline below a likeness that is chosen on validation
questions. Desks: the router, a bag of words, sentence vectors with logistic regression,
and the untuned student under the best of several prompts, chosen on training tickets.
Instructions: the untuned student asked as it stands, under the best of several prompts,
chosen on training rows, and with three training rows of the kind that is asked; tiny.
Every answer is kept in data/recorded/rivals_facts.json, rivals_desks.json and
rivals_instructions.json; those to facts are made again only where a model or its notes
have changed.
Options: facts, desks or instructions (default: all three).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time

from helpers import evaluation, inference, models, records, retrieval, tokens
from tools import jobs, reading, record, tickets

import numpy as np
import scipy.sparse
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import DynamicCache

ROOM = 96  # tokens for a model that was not taught to be brief
MEANING = 0.6  # of shared words beside sentence vectors, chosen on validation questions
# words of declining that an untuned model has, beside those of refusals.txt
DECLINES = re.compile(
    r"\bsorry,? (but|i|that|this|we)\b|\bi('m| am) (not able|unable|not sure)\b"
    r"|\bas an? (ai|chatbot)\b|\bnotes do not\b|\bnot (mentioned|specified|provided)\b"
    r"|\bi (can't|cannot|don't|do not) (help|answer|provide|have|know|find)\b",
    re.IGNORECASE,
)


def says_no(answer: str) -> bool:
    """Whether an answer declines, in anybody's words."""
    plain = answer.replace("’", "'")
    return bool(DECLINES.search(plain)) or evaluation.is_refusal(answer)


def outcome(answer: str, row: dict) -> str:
    """R for right, N for an answer that says no, W for any other.

    A key counts as right even where the answer apologises first.
    """
    if row["keys"] and evaluation.has_key(answer, row["keys"]):
        if not evaluation.is_refusal(answer):
            return "R"
    return "N" if says_no(answer) else "W"


def outcomes(answers: list[str], rows: list[dict]) -> dict[str, str]:
    """By kind of question, a letter for each row, in order."""
    found = {}
    for answer, row in zip(answers, rows, strict=True):
        found[row["kind"]] = found.get(row["kind"], "") + outcome(answer, row)
    return found


def served(found: dict[str, str]) -> float:
    """The share of questions answered, or declined, as they should be."""
    good = found.get("out_of_scope", "").count("N")
    good += sum(s.count("R") for kind, s in found.items())
    return good / sum(map(len, found.values()))


def likeness(questions: list[str], train: list[dict], by_meaning: bool) -> np.ndarray:
    """How alike each question is to each training question: (questions, train)."""
    known = [row["question"] for row in train]
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    there = words.fit_transform(known)
    alike = (words.transform(questions) @ there.T).toarray()
    if by_meaning:
        return (
            retrieval.vectors(questions) @ retrieval.vectors(known).T + MEANING * alike
        )
    return alike


def lookup(rows, train, floor, by_meaning) -> list[str]:
    """The answer under the most similar question; a refusal below the floor."""
    declines = next(row["answer"] for row in train if row["fact"] is None)
    alike = likeness([row["question"] for row in rows], train, by_meaning)
    best, how = alike.argmax(axis=1), alike.max(axis=1)
    pairs = zip(best, how, strict=True)
    return [train[i]["answer"] if h >= floor else declines for i, h in pairs]


def fair_floor(train, validation, by_meaning) -> float:
    """The likeness below which declining serves most validation questions."""
    floors = [step / 50 for step in range(60)]
    return max(
        floors,
        key=lambda floor: served(
            outcomes(lookup(validation, train, floor, by_meaning), validation)
        ),
    )


def notes_prompts(rows: list[dict], count: int) -> tuple[list, str, list[bool]]:
    """Each question with the sections found, 1 or 0 for the right one among them, and
    whether the search is sure of the first."""
    sections = retrieval.handbook()
    by_id = {section["id"]: section for section in sections}
    search = retrieval.Search(sections)
    texts = [row["question"] for row in rows]
    found = search.find(texts, count)
    sure = search.scores(texts).max(axis=1) >= retrieval.FLOOR
    prompts = [
        retrieval.prompt(row["question"], [by_id[i] for i in ids])
        for row, ids in zip(rows, found, strict=True)
    ]
    pairs = zip(rows, found, strict=True)
    had = "".join("01"[row["fact"] in ids] for row, ids in pairs)
    return prompts, had, sure.tolist()


def facts() -> None:
    faq = records.load("faq")
    train, validation, test = (list(faq[s]) for s in records.SPLITS)
    ways, floors, cost, made_by = {}, {}, {}, {}
    files = [f"larkfield/faq_{split}.jsonl" for split in records.SPLITS]
    kept = record.kept("rivals_facts", files)
    used = {
        who: f"models/{who}/adapter_model.safetensors" for who in ("wren", "reader")
    }
    used = {who: file for who, file in used.items() if (records.DATA / file).exists()}
    for way, meaning in (("words", False), ("meaning", True)):
        name = f"nearest question by {way}"
        floor = fair_floor(train, validation, meaning)
        ways[name] = lookup(test, train, -9, meaning)
        ways[f"{name}, may decline"] = lookup(test, train, floor, meaning)
        floors[name] = floor
    prompts, had, _ = notes_prompts(test, reading.SECTIONS)
    first, _, sure = notes_prompts(test, 1)
    bare = [records.prompt(row) for row in test]
    for name, who, asked, room, sections in (
        ("untuned", "smollm2", bare, ROOM, 0),
        ("untuned with notes", "smollm2", prompts, ROOM, reading.SECTIONS),
        ("wren", "wren", bare, 48, 0),
        ("search and reader", "reader", first, 48, 1),
    ):
        if who != "smollm2" and who not in used:
            print(f"{name}: left out, {who} has not been tuned yet", flush=True)
            continue
        made_by[name] = {"sections": sections}
        if who in used:
            made_by[name]["weights"] = record.sha256(records.DATA / used[who])
        model, tokenizer = models.load(who)
        if hasattr(model, "merge_and_unload"):  # as it would be served
            model = model.merge_and_unload()
        started, some = time.perf_counter(), asked[::10]  # all ways in one run
        inference.generate(some, model, tokenizer, room)
        seconds = time.perf_counter() - started
        if kept.get("made by", {}).get(name) == made_by[name]:
            ways[name] = kept["answers"][name]
        else:
            ways[name] = inference.generate(asked, model, tokenizer, room)
        if asked is first:  # of a section that does not fit nothing is asked
            pairs = zip(ways[name], sure, strict=True)
            ways[name] = [text if yes else retrieval.MISSING for text, yes in pairs]
        read = [len(tokens.prompt_ids(prompt, tokenizer)) for prompt in asked]
        wrote = [len(ids) for ids in tokenizer(ways[name]).input_ids]
        cost[name] = {
            "tokens in": round(np.mean(read), 1),
            "tokens out": round(np.mean(wrote), 1),
            "seconds for 1,000": round(1000 * seconds / len(some)),
        }
    scored = {name: outcomes(answers, test) for name, answers in ways.items()}
    for name, found in scored.items():
        shares = {
            kind: " ".join(f"{x} {s.count(x) / len(s):.0%}" for x in "RNW")
            for kind, s in found.items()
        }
        print(f"{name:<40}{shares}", flush=True)
    record.keep(
        "rivals_facts",
        "every test question answered in each way; outcomes: by kind, a letter for "
        "each row: R right, N says no, W wrong; had: 1 where the search in the "
        "handbook put the right section among those shown",
        [*files, *used.values()],
        {"floors": floors, "had": had, "cost": cost, "made by": made_by}
        | {"outcomes": scored, "answers": ways},
    )


PROMPTS = {
    "named": tickets.TASK,
    "short": "Which desk gets this message: "
    + ", ".join(tickets.DESKS)
    + "? Answer with one word.",
    "reasons": "You sort a weather-station company's mail. Desks:\n"
    + "\n".join(f"- {desk}: {what}" for desk, what in tickets.DESKS.items())
    + "\nName the one desk that must act. One word.",
}


def conversation(task: str, row: dict, examples: list[dict]) -> list[dict]:
    turns = []
    for example in examples:
        turns.append({"role": "user", "content": f"Message: {example['input']}\nDesk:"})
        turns.append({"role": "assistant", "content": example["output"]})
    turns.append({"role": "user", "content": f"Message: {row['input']}\nDesk:"})
    turns[0]["content"] = f"{task}\n\n{turns[0]['content']}"
    return turns


def likeliest_desk(model, tokenizer, prompts: list[list[dict]]) -> np.ndarray:
    """The log-probability of each desk's first token as the answer: (prompts, desks).

    No two desks begin alike, and nothing else than a desk can come out, which is
    fairer than reading what it writes.
    """
    first = [
        tokenizer(desk, add_special_tokens=False).input_ids[0] for desk in tickets.DESKS
    ]
    assert len(set(first)) == len(first)
    ids = [tokens.prompt_ids(prompt, tokenizer) for prompt in prompts]
    same = len(os.path.commonprefix(ids))  # task and examples, read once
    cache, out = DynamicCache(config=model.config), []
    with torch.inference_mode():
        if same:
            model(torch.tensor([ids[0][:same]]), past_key_values=cache)
        for row in ids:
            rest = torch.tensor([row[same:]])
            found = model(rest, past_key_values=cache, logits_to_keep=1)
            cache.crop(same - len(row))
            out.append(found.logits[0, -1].float().log_softmax(-1)[first].numpy())
    return np.array(out)


def by_meaning(train: list[dict], test: list[dict]) -> list[str]:
    """Logistic regression over words and sentence vectors: the desk of each ticket.

    Words weigh three times as much as in a bag of words and C is 1: five folds of the
    training tickets have 88 % right so, 83 % by words alone, 87 % by vectors alone.
    """
    texts = [[row["input"] for row in rows] for rows in (train, test)]
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit(texts[0])
    known, asked = (
        scipy.sparse.hstack([3 * words.transform(t), 3 * retrieval.vectors(t)]).tocsr()
        for t in texts
    )
    model = LogisticRegression(C=1, max_iter=3000)
    return list(model.fit(known, [row["output"] for row in train]).predict(asked))


def desks() -> None:
    found = records.load("tickets")
    train, test = list(found["train"]), list(found["test"])
    names = list(tickets.DESKS)
    model, tokenizer = models.load("smollm2")
    probe, tried = train[3::20], {}  # to choose a prompt by: 51 training tickets
    shots = {0: [], 6: tickets.few(train, 1), 12: tickets.few(train, 2)}
    shots = {n: [r for r in rows if r not in probe] for n, rows in shots.items()}
    for name, task in PROMPTS.items():
        for count, examples in shots.items():
            prompts = [conversation(task, row, examples) for row in probe]
            scores = likeliest_desk(model, tokenizer, prompts)
            centred = scores - scores.mean(axis=0)  # desks that it likes in any case
            for how, table in (("plain", scores), ("calibrated", centred)):
                right = [
                    names[i] == row["output"]
                    for i, row in zip(table.argmax(1), probe, strict=True)
                ]
                tried[f"{name}, {count} examples, {how}"] = round(np.mean(right), 4)
                print(
                    f"{name}, {count} examples, {how}: {np.mean(right):.3f}", flush=True
                )
    best = max(tried, key=tried.get)
    task, count, how = best.split(", ")
    examples = shots[int(count.split()[0])]
    scores = likeliest_desk(
        model, tokenizer, [conversation(PROMPTS[task], row, examples) for row in test]
    )
    scores = scores - scores.mean(axis=0) if how == "calibrated" else scores
    sorted_by = {f"student, prompted ({best})": [names[i] for i in scores.argmax(1)]}
    sorted_by["bag of words"] = tickets.bag_of_words(train, test)
    sorted_by["words and sentence vectors"] = by_meaning(train, test)
    routed = json.loads((record.FOLDER / "router.json").read_text())["answers"]
    sorted_by["router"] = [tickets.named_desk(answer) for answer in routed]
    right = {
        way: record.marks([d == row["output"] for d, row in zip(ds, test, strict=True)])
        for way, ds in sorted_by.items()
    }
    for way, hits in right.items():
        print(f"{way:<50}{hits.count('1') / len(hits):.3f}", flush=True)
    record.keep(
        "rivals_desks",
        "test tickets sorted in each way; right: a 1 or 0 for each row of "
        "tickets_test; tried: prompts of the untuned student on 51 training tickets",
        [f"larkfield/tickets_{split}.jsonl" for split in ("train", "test")],
        {"tried": tried, "chosen": best, "desks": sorted_by, "right": right},
    )


RESULT_ONLY = "Answer with the result only."
SHOWN = ("sentiment", "remove_item", "pairs_to_json")  # a row of each, as an example


def shown(row: dict, examples: list[dict], line: bool) -> list[dict]:
    """A row as a chat, after examples as turns, with RESULT_ONLY below or without."""
    turns = []
    for example in examples:
        turns += records.messages(example)
    turns += records.prompt(row)
    if line:
        turns[-1] = turns[-1] | {"content": f"{turns[-1]['content']}\n{RESULT_ONLY}"}
    return turns


def instructions() -> None:
    """Ways are chosen on the fourth training row of each kind, which none shows."""
    job = jobs.JOBS["instructed"](final=True)
    train = {}
    for row in job.train:
        train.setdefault(row["kind"], []).append(row)
    others, own = [train[kind][0] for kind in SHOWN], "three of its kind"
    ways = {
        f"{name}, line" if line else name: (name, line)
        for name in ("no examples", "three of other kinds", own)
        for line in (False, True)
    }
    model, tokenizer = models.load("smollm2")

    def answers(way: str, rows: list[dict], room: int = job.new) -> list[str]:
        name, line = ways[way]
        examples = {"no examples": [], "three of other kinds": others}
        prompts = []
        for row in rows:
            before = train[row["kind"]][:3] if name == own else examples[name]
            prompts.append(shown(row, before, line))
        return inference.generate(prompts, model, tokenizer, room)

    probe, tried = [rows[3] for rows in train.values()], {}
    for way in ways:
        pairs = zip(answers(way, probe, 32), probe, strict=True)
        tried[way] = record.marks([evaluation.passes(a, r["check"]) for a, r in pairs])
        print(f"{way:<36}{tried[way].count('1')} of {len(probe)}", flush=True)
    ranked = sorted(ways, key=lambda way: -tried[way].count("1"))
    general = next(way for way in ranked if ways[way][0] != own)
    chosen = {"prompted": general, own: next(w for w in ranked if ways[w][0] == own)}
    seen = [row for row in job.held_out if not row["new"]]
    said = {"untuned": answers("no examples", job.held_out)}
    said["prompted"] = answers(general, job.held_out)
    said[own] = answers(chosen[own], seen)
    base = models.load("tiny")
    prompts = [records.prompt(row) for row in job.held_out]
    said["tiny"] = inference.generate(prompts, *base, job.new)
    for way, texts in said.items():
        marked = job.mark(texts, seen if way == own else job.held_out)
        print(way, {k: m.count("1") / len(m) for k, m in marked.items()}, flush=True)
    record.keep(
        "rivals_instructions",
        "the test rows of instructed (those of new kinds first; for three of its kind "
        "the others alone) answered by the untuned student in each way, and by tiny; "
        "tried: a 1 for each of 48 training rows that passed",
        [*job.files, "models/tiny/model.safetensors"],
        {"line": RESULT_ONLY, "examples": [row["id"] for row in others]}
        | {"tried": tried, "chosen": chosen, "answers": said},
    )


JOBS = {"facts": facts, "desks": desks, "instructions": instructions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("jobs", nargs="*", default=[*JOBS])
    for job in parser.parse_args().jobs:
        JOBS[job]()


if __name__ == "__main__":
    main()
