"""What instruction tuning costs, and what helps, measured: python -m tools.forgetting

The student is tuned on instructions four ways: all layers at a high rate, at a low
rate, LoRA, and all layers at the high rate with old rows mixed in: the student's own
answers to other questions, as it gave them before. After each, new instructions of the
kinds it learnt, and what nobody tuned it on: capitals, functions, plain English.
Options: --only TEXT runs what holds the text in its name; --write records.
"""

from __future__ import annotations

import json

from helpers import (
    evaluation,
    inference,
    models,
    pretraining,
    records,
    templates,
    training,
    whole,
)
from tools import record
from tools.limits import price

FOLDER = models.OUTPUTS / "forgetting"
SEEDS = (0,)
EACH, OLD, EPOCHS = 8, 192, 2
WAYS = {
    "high rate": {"method": "full", "learning_rate": 1e-3},
    "low rate": {"method": "full", "learning_rate": 1e-4},
    "LoRA": {"method": "lora", "rank": 16, "learning_rate": 1e-3},
    "high rate, old rows": {"method": "full", "learning_rate": 1e-3},
}
JOBS = """adds two numbers, reverses a list, counts the words of a text,
squares a number, finds the largest number, says hello"""  # as in lesson 04
FILES = ["larkfield/instructions.jsonl", "larkfield/faq_train.jsonl"]
FILES += ["plain_prose.txt"]


def rows() -> tuple[list[dict], list[dict]]:
    """(to learn, EACH of a kind; to test, the first three of a kind)."""
    kinds: dict[str, list] = {}
    for row in records.load("instructions")["train"]:
        if not row["held_out"]:
            kinds.setdefault(row["kind"], []).append(row)
    learn = [row for of in kinds.values() for row in of[3 : 3 + EACH]]
    return learn, [row for of in kinds.values() for row in of[:3]]


def old_rows(model, tokenizer) -> list[dict]:
    """Questions that have nothing to do with the new rows, with the answers that the
    student gives before tuning: its makers' own rows are not at hand."""
    faq = [row for row in records.load("faq")["train"] if not row["keys"]][:OLD]
    prompts = [records.prompt(row) for row in faq]
    answers = inference.generate(prompts, model, tokenizer, max_new_tokens=64)
    pairs = zip(faq, answers, strict=True)
    return [{"question": row["question"], "answer": text} for row, text in pairs]


def measured(model, tokenizer) -> dict:
    _, test = rows()
    prompts = [records.prompt(row) for row in test]
    answers = inference.generate(prompts, model, tokenizer, max_new_tokens=48)
    pairs = zip(answers, test, strict=True)
    passed = [evaluation.passes(answer, row["check"]) for answer, row in pairs]
    lands = [
        {"question": row["question"].partition("?")[0] + "?", "keys": row["keys"]}
        for row in price()[0]
    ]
    jobs = " ".join(JOBS.split()).split(", ")
    asked = [{"question": f"Write a Python function that {job}."} for job in jobs]
    prompts = [records.prompt(row) for row in lands + asked]
    answers = inference.generate(prompts, model, tokenizer, max_new_tokens=40)
    named = zip(answers, lands, strict=False)
    prose = (records.DATA / "plain_prose.txt").read_text(encoding="utf-8")
    return {
        "instructions": record.marks(passed),
        "capitals": record.marks([evaluation.has_key(a, r["keys"]) for a, r in named]),
        "functions": record.marks(["def " in text for text in answers[len(lands) :]]),
        "bits": round(pretraining.bits_per_byte(model, tokenizer, prose), 4),
    }


def run(way: str, seed: int) -> None:
    path = FOLDER / f"{way}-{seed}.json"
    if path.exists():
        return
    model, tokenizer = models.load("smollm2")
    if way != "not tuned":
        learn, _ = rows()
        if "old rows" in way:
            learn = learn + old_rows(model, tokenizer)
        tokenizer.chat_template = templates.CHATML
        choices = WAYS[way] | {"epochs": EPOCHS, "seed": seed}
        model = training.finetune(model, tokenizer, learn, **choices).model
    found = measured(model, tokenizer)
    FOLDER.mkdir(parents=True, exist_ok=True)
    whole.write(path, json.dumps(found, indent=1))
    shown = {k: v if k == "bits" else v.count("1") for k, v in found.items()}
    print(way, seed, shown, flush=True)


RUNS = {"not tuned-0": ("not tuned", 0)}
RUNS |= {f"{way}-{seed}": (way, seed) for seed in SEEDS for way in WAYS}


def write() -> None:
    learn, test = rows()
    found: dict[str, list] = {}
    for (way, _), left in zip(
        RUNS.values(), record.found_runs(FOLDER, [*RUNS]), strict=True
    ):
        found.setdefault(way, []).append(left)
    record.keep(
        "forgetting",
        "the student tuned on instructions, two epochs; for each seed: which of the "
        "test instructions pass, which capitals it names, which functions it begins, "
        "bits per byte of plain English",
        FILES,
        {"settings": WAYS, "rows": len(learn), "old rows": OLD, "test": len(test)}
        | {"ways": found},
    )


if __name__ == "__main__":
    record.many(__doc__, RUNS, run, write)
