"""A limit on words as a reward, measured: python -m tools.limits

From the untuned student, asked questions with a limit such as "Answer in at most 12
words.", which it keeps now and then: GRPO by TRL, whose reward is 1 where an answer
keeps its limit ("grpo half": and uses at least half of it), and as rival SFT on the
student's own tries that kept it, drawn from as many samples. Scored on other questions,
with limits and in a wording that no tuning has seen; as the price, capitals that it
could name, and how long its answers are where no limit is asked for. One rate for each
way, so validation questions choose nothing; their marks are recorded for a search to
come.
Options: --only TEXT runs the ways whose name holds the text; --write records.
"""

from __future__ import annotations

import json
import random
import time

from helpers import evaluation, inference, models, records, templates, whole
from tools import record
from tools.preferences import by_sft
from tools.rewards import GROUP, LOGGED, PROMPTS, by_grpo

import torch

FOLDER = models.OUTPUTS / "limits"
NEW = 40
STEPS = 40  # each of PROMPTS prompts, GROUP answers to each
# one rate each: no search
WAYS = [("grpo", 3e-4), ("sft", 5e-4), ("grpo half", 3e-4)]
LEARNT = (
    (8, 12, 16, 20),
    [
        "Answer in at most {n} words.",
        "Use no more than {n} words.",
        "Keep it to {n} words or fewer.",
    ],
)
ASKED = (10, 14), ["{n} words at the most, please."]
CAPITALS = """Peru Lima, Norway Oslo, Portugal Lisbon, Greece Athens, Cuba Havana,
Hungary Budapest, Finland Helsinki, Canada Ottawa, Poland Warsaw, France Paris,
Italy Rome, Germany Berlin, Japan Tokyo, Egypt Cairo, Russia Moscow, China Beijing,
Ireland Dublin, Austria Vienna, Kenya Nairobi, Turkey Ankara, Sweden Stockholm,
Denmark Copenhagen, Belgium Brussels, Iran Tehran"""  # as in lesson 04
FILES = [f"larkfield/faq_{split}.jsonl" for split in records.SPLITS]


def name(way: tuple) -> str:
    return f"{way[0].replace(' ', '-')}-{way[1]:g}"


def first():
    """The untuned student, in the template without its makers' line."""
    model, tokenizer = models.load("smollm2")
    tokenizer.chat_template = templates.CHATML
    return model, tokenizer


def at_least_half(row: dict) -> dict:
    """The row, its check asking for at least half of the words that it allows."""
    check = row["check"]
    return row | {"check": check | {"min": check["max"] // 2}}


def limited(question: str, n: int, wording: str) -> dict:
    check = {"type": "words", "min": 1, "max": n}
    return {"question": f"{question} {wording.format(n=n)}", "check": check}


def tasks() -> tuple[list[dict], list[dict], list[dict]]:
    """Rows (to tune on, STEPS * PROMPTS; to choose by; to test): questions that are
    none of the company's business, each with a limit."""
    faq = {
        split: [row["question"] for row in rows if not row["keys"]]
        for split, rows in records.load("faq").items()
    }
    rng = random.Random(0)
    rng.shuffle(faq["train"])
    numbers, wordings = LEARNT
    learn = [
        limited(question, rng.choice(numbers), rng.choice(wordings))
        for question in faq["train"][: STEPS * PROMPTS]
    ]
    numbers, wordings = ASKED
    choose, test = (
        [limited(q, n, wordings[0]) for q in faq[split] for n in numbers]
        for split in ("validation", "test")
    )
    return learn, choose, test


def price() -> tuple[list[dict], list[dict]]:
    """Rows (capitals, asked with a limit; test questions, asked without one)."""
    pairs = [pair.split() for pair in " ".join(CAPITALS.split()).split(", ")]
    lands = [
        {"question": f"What is the capital of {land}? Answer in at most 12 words."}
        | {"keys": [capital]}
        for land, capital in pairs
    ]
    free = [row for row in records.load("faq")["test"] if not row["keys"]]
    return lands, [{"question": row["question"]} for row in free]


def kept(answers: list[str], rows: list[dict]) -> list[bool]:
    pairs = zip(answers, rows, strict=True)
    return [evaluation.passes(answer, row["check"]) for answer, row in pairs]


def answered(model, tokenizer, rows: list[dict], new: int = NEW) -> list[str]:
    prompts = [records.prompt(row) for row in rows]
    return inference.generate(prompts, model, tokenizer, new)


@torch.inference_mode()
def tries(model, tokenizer, rows: list[dict]) -> list[dict]:
    """For each row that GROUP samples hold an answer within its limit to, the row with
    the longest such answer: as few as one word would do, and would teach just that."""
    torch.manual_seed(0)
    found = []
    for row in rows:
        batch = tokenizer.apply_chat_template(
            records.prompt(row), add_generation_prompt=True, return_tensors="pt"
        )
        out = model.generate(
            **batch,
            do_sample=True,
            top_k=0,
            num_return_sequences=GROUP,
            max_new_tokens=NEW,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = out[:, batch["input_ids"].shape[1] :]
        said = tokenizer.batch_decode(new, skip_special_tokens=True)
        good = [text.strip() for text in said if evaluation.passes(text, row["check"])]
        if good:
            answer = max(good, key=lambda text: len(text.split()))
            found.append({"question": row["question"], "answer": answer})
    return found


def run(way: tuple) -> None:
    """Tunes one way, answers validation and test questions, and measures the price."""
    path = FOLDER / f"{name(way)}.json"
    if path.exists():
        return
    learn, choose, test = tasks()
    lands, free = price()
    model, tokenizer = first()
    started, log, rows = time.perf_counter(), [], 0
    if way[0].startswith("grpo"):
        asked = [at_least_half(row) for row in learn] if "half" in way[0] else learn
        model, log = by_grpo(model, tokenizer, asked, way[1], STEPS, NEW)
    elif way[0] == "sft":
        own = tries(model, tokenizer, learn)
        rows = len(own)
        model, log = by_sft(model, tokenizer, own, way[1], 2)
    said = {"way": way, "log": log, "rows": rows}
    said["seconds"] = round(time.perf_counter() - started)
    said["choosing"] = record.marks(kept(answered(model, tokenizer, choose), choose))
    said["test"] = answered(model, tokenizer, test)
    pairs = zip(answered(model, tokenizer, lands), lands, strict=True)
    said["capitals"] = record.marks(
        [evaluation.has_key(text, row["keys"]) for text, row in pairs]
    )
    said["free"] = answered(model, tokenizer, free, 96)
    FOLDER.mkdir(parents=True, exist_ok=True)
    whole.write(path, json.dumps(said, indent=1))
    share = said["choosing"].count("1") / len(choose)
    print(name(way), round(share, 3), rows, said["seconds"], flush=True)


RUNS = {name(way): (way,) for way in [("first", 0.0), *WAYS]}


def write() -> None:
    """data/recorded/limits.json of all ways."""
    _, choose, test = tasks()
    ways = {}
    for way, said in zip(RUNS, record.found_runs(FOLDER, [*RUNS]), strict=True):
        method, rate = said["way"]
        log = [
            {key: step[key] for key in LOGGED if key in step}
            for step in said["log"]
            if method.startswith("grpo") and "loss" in step
        ]
        parts = ("rows", "seconds", "choosing", "capitals", "free")
        ways[way] = {"method": method, "learning_rate": rate, "log": log}
        ways[way] |= {part: said[part] for part in parts}
        ways[way]["test"] = record.marks(kept(said["test"], test))
        ways[way]["answers"] = said["test"]
    record.keep(
        "limits",
        "the student, then tuned by GRPO with a limit on words as reward, or by SFT on "
        "its own tries that kept it; choosing, test: a 1 where an answer keeps its "
        "limit; capitals: where it names the capital; free: answers without a limit",
        FILES,
        {
            "steps": {"steps": STEPS, "prompts": PROMPTS, "answers to each": GROUP},
            "choosing": len(choose),
            "test": [row["question"] for row in test],
            "ways": ways,
        },
    )


if __name__ == "__main__":
    record.many(__doc__, RUNS, run, write)
