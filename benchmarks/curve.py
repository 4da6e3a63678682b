"""Measurements too long for a lesson, recorded under data/recorded: make curve

Each is one file: what was measured, with which settings and model, the SHA-256 of the
data it hangs on, and the scores. A test fails when that data has changed since.
Options: the names of those to measure (default: all); tuning is not repeated while the
tuned models are under outputs/tuned.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from pathlib import Path

import pandas as pd
import torch
from student import NEW, SETTINGS

from helpers import (
    evaluation,
    inference,
    models,
    pretraining,
    records,
    templates,
    training,
)

FOLDER = records.DATA / "recorded"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def keep(name: str, measured: str, files: list[str], result: dict) -> None:
    """Write data/recorded/NAME.json; files: paths under data/."""
    FOLDER.mkdir(exist_ok=True)
    found = {
        "measured": measured,
        "files": {f: sha256(records.DATA / f) for f in files},
    }
    path = FOLDER / f"{name}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found | result, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    print(f"{path.relative_to(records.DATA.parent)} written", flush=True)


def metrics(answers: list[str], rows: list[dict]) -> list[dict]:
    return evaluation.score(answers, rows).metrics.round(4).to_dict("records")


def full_faq() -> None:
    """The student on all of faq_train, beside the nearest training question."""
    faq = {name: list(rows) for name, rows in records.load("faq").items()}
    example, prompt = templates.CHAT.example, templates.CHAT.prompt
    model, tokenizer = models.load("smollm2")
    run = training.finetune(
        model,
        tokenizer,
        [example(row) for row in faq["train"]],
        validation=[example(row) for row in faq["validation"] if row["keys"]],
        cache=True,
        **SETTINGS["smollm2"],
    )
    test = faq["test"]
    answers = inference.generate(
        [prompt(row) for row in test], run.model, tokenizer, max_new_tokens=NEW
    )
    nearest = evaluation.nearest_question(
        [row["question"] for row in test], faq["train"]
    )
    result = {
        "settings": json.loads((run.folder / "run.json").read_text()),
        "minutes": round(run.seconds / 60, 1),
        "student": metrics(answers, test),
        "nearest question": metrics(nearest, test),
    }
    keep(
        "full_faq",
        "the student tuned on all rows of faq_train, one seed, scored on faq_test",
        [
            *(f"larkfield/faq_{split}.jsonl" for split in records.SPLITS),
            "larkfield/refusals.txt",
        ],
        result,
    )
    for who in ("student", "nearest question"):
        print(who)
        print(pd.DataFrame(result[who]).to_string(index=False))


EPOCHS = 10  # of the two measurements below; both sides take the same steps
FAQ_FILES = [f"larkfield/faq_{split}.jsonl" for split in ("train", "test")]
FAQ_FILES += ["larkfield/refusals.txt", "models/tiny/model.safetensors"]


def answered(model, tokenizer, rows: list[dict], test: list[dict]) -> pd.Series:
    """Tunes a base model on rows; 1 for each test question then answered rightly."""
    qa, settings = templates.QA, SETTINGS["tiny"] | {"epochs": EPOCHS}
    examples = [qa.example(row) for row in rows]
    training.finetune(model, tokenizer, examples, **settings)
    prompts = [qa.prompt(row) for row in test]
    answers = inference.generate(prompts, model, tokenizer, max_new_tokens=NEW)
    return evaluation.score(answers, test).rows["key_fact"].astype(float)


def core_rows() -> tuple[list[dict], list[dict]]:
    """(training rows, test questions on taught facts) of the core, shuffled once."""
    faq = records.load("faq")
    train = records.core(faq["train"])
    random.Random(0).shuffle(train)
    test = records.core(faq["test"])
    return train, [row for row in test if row["kind"] == "paraphrase"]


def random_weights(tokenizer):
    """A net of tiny's shape that has read nothing."""
    torch.manual_seed(0)
    return pretraining.build_model(tokenizer).eval()


def compare(claim: str, scores: dict[str, pd.Series]) -> dict:
    found = evaluation.verdict(claim, scores)
    return {
        "claim": claim,
        "verdict": found.result,
        "figures": found.figures.round(4).to_dict("records"),
        "difference": [round(x, 4) for x in (found.difference, found.low, found.high)],
    }


def worth_of_pretraining() -> None:
    """Tuned from tiny, and from random weights, on more and more of the core rows."""
    train, test = core_rows()
    sizes = (100, 200, 400, len(train))
    scores = {"from tiny": {}, "from random weights": {}}
    for size in sizes:
        for name, by_size in scores.items():
            model, tokenizer = models.load("tiny")
            if name == "from random weights":
                model = random_weights(tokenizer)
            by_size[size] = answered(model, tokenizer, train[:size], test)
            print(f"{size:4} rows, {name:<20}{by_size[size].mean():.3f}", flush=True)
    mean = {name: pd.DataFrame(s).mean(axis=1) for name, s in scores.items()}
    result = compare("Tuning from tiny answers more than tuning from random", mean)
    result["curve"] = {
        name: {size: round(values.mean(), 4) for size, values in by_size.items()}
        for name, by_size in scores.items()
    }
    keep(
        "worth_of_pretraining",
        f"tiny and a net of random weights, tuned for {EPOCHS} epochs on the first "
        "rows of the core, share of the core test questions answered rightly",
        FAQ_FILES,
        result,
    )


def handbook_first() -> None:
    """The raw handbook, then pairs, against pairs alone."""
    train, test = core_rows()
    paths = sorted((records.DATA / "larkfield" / "handbook").glob("*.md"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    model, tokenizer = models.load("tiny")
    alone = answered(model, tokenizer, train, test)
    model, _ = models.load("tiny")
    sequences = pretraining.cut_sequences(texts, tokenizer, 256)
    before = pretraining.bits_per_byte(model, tokenizer, texts)
    passes = 8
    log = pretraining.pretrain(
        model, sequences, passes * sequences.numel(), learning_rate=1e-3, batch=16
    )
    after = pretraining.bits_per_byte(model, tokenizer, texts)
    prompts = [templates.QA.prompt(row) for row in test]
    read = inference.generate(prompts, model, tokenizer, max_new_tokens=NEW)
    read = evaluation.score(read, test).rows["key_fact"].astype(float)
    both = answered(model, tokenizer, train, test)
    result = compare(
        "Reading the handbook before tuning on pairs answers more than pairs alone",
        {"handbook, then pairs": both, "pairs alone": alone, "handbook alone": read},
    )
    result |= {
        "passes": passes,
        "tokens": log[-1]["tokens"],
        "bits per byte of the handbook": [round(before, 3), round(after, 3)],
    }
    keep(
        "handbook_first",
        f"tiny, {passes} passes over the handbook, then {EPOCHS} epochs on the core "
        "pairs, against the pairs alone; share of core test questions answered",
        [*FAQ_FILES, *(f"larkfield/handbook/{path.name}" for path in paths)],
        result,
    )


MEASUREMENTS = {
    "full_faq": full_faq,
    "worth_of_pretraining": worth_of_pretraining,
    "handbook_first": handbook_first,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)} (all)"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASUREMENTS):
        parser.error(f"no {min(unknown)!r}: there are {', '.join(MEASUREMENTS)}")
    for name in options.names or MEASUREMENTS:
        MEASUREMENTS[name]()


if __name__ == "__main__":
    main()
