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
from pathlib import Path

import pandas as pd
from student import NEW, SETTINGS

from helpers import evaluation, inference, models, records, templates, training

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


MEASUREMENTS = {"full_faq": full_faq}


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
