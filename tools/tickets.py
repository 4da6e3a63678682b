"""Which desk a ticket goes to, four ways: python -m tools.tickets

Counting words (bag of words, logistic regression), the student asked without and with
examples, and the base model tuned on all training tickets. Scored on tickets_test with
95 % intervals (--validation: on a fifth of the training tickets, tuned on the others).
The first desk that an answer names counts; none named is wrong.
"""

from __future__ import annotations

import argparse
import re
import time

from helpers import evaluation, inference, models, records, training

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

DESKS = {
    "account": "signing in, passwords, e-mail address, guests, deleting, privacy",
    "app": "the Perch app, its screens, alerts, history, exports, the API",
    "billing": "charges, invoices, changing or cancelling a plan, trials",
    "feedback": "praise, ideas, complaints that ask for nothing",
    "hardware": "outdoor unit, base, sensors, batteries, error codes, repairs",
    "orders": "buying, delivery, parcels, returning a station, refunds of it",
}
TASK = (
    "Sort the customer's message to one of six desks.\n"
    + "\n".join(f"{desk}: {what}" for desk, what in DESKS.items())
    + "\nAnswer with the name of the desk only."
)


def named_desk(answer: str) -> str:
    """The first desk that an answer names, or "none"."""
    found = re.search(r"\b(" + "|".join(DESKS) + r")\b", answer.lower())
    return found[1] if found else "none"


def counting(train: list[dict]):
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)),
        LogisticRegression(C=10, max_iter=1000),
    )
    return model.fit([row["input"] for row in train], [row["output"] for row in train])


def bag_of_words(train: list[dict], test: list[dict]) -> list[str]:
    return list(counting(train).predict([row["input"] for row in test]))


def prompted(test: list[dict], examples: list[dict]) -> list[str]:
    """The student, asked; `examples` are earlier turns of the chat, with their desk."""
    model, tokenizer = models.load("smollm2")

    def conversation(row):
        turns = []
        for example in examples:
            turns.append({"role": "user", "content": example["input"]})
            turns.append({"role": "assistant", "content": example["output"]})
        turns.append({"role": "user", "content": row["input"]})
        turns[0]["content"] = f"{TASK}\n\nMessage: {turns[0]['content']}"
        return turns

    prompts = [conversation(row) for row in test]
    answers = inference.generate(prompts, model, tokenizer, max_new_tokens=12)
    return [named_desk(answer) for answer in answers]


def tuned(train: list[dict], test: list[dict], seed: int, epochs: int) -> list[str]:
    model, tokenizer = models.load("tiny")
    run = training.finetune(
        model,
        tokenizer,
        train,
        epochs=epochs,
        batch_size=16,
        learning_rate=1e-3,
        seed=seed,
        cache=True,
    )
    prompts = [records.prompt(row) for row in test]
    answers = inference.generate(prompts, run.model, tokenizer, max_new_tokens=4)
    return [named_desk(answer) for answer in answers]


def few(train: list[dict], each: int = 2) -> list[dict]:
    """The first `each` training tickets of every desk, desks in turn."""
    by_desk = {
        desk: [row for row in train if row["output"] == desk][:each] for desk in DESKS
    }
    return [by_desk[desk][i] for i in range(each) for desk in DESKS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=4, help="of tiny (default 4)")
    parser.add_argument("--seeds", type=int, default=1, help="of tiny (default 1)")
    parser.add_argument(
        "--validation",
        action="store_true",
        help="score on every fifth training ticket instead, to choose settings",
    )
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds must be 1 or more")
    tickets = records.load("tickets")
    train, test = list(tickets["train"]), list(tickets["test"])
    if options.validation:
        test = train[::5]
        train = [row for n, row in enumerate(train) if n % 5]
    ways = {
        "bag of words": lambda: bag_of_words(train, test),
        "smollm2, asked": lambda: prompted(test, []),
        "smollm2, 12 examples": lambda: prompted(test, few(train)),
    }
    for seed in range(options.seeds):
        ways[f"tiny, tuned, seed {seed}"] = lambda seed=seed: tuned(
            train, test, seed, options.epochs
        )
    right = {}
    for way, run in ways.items():
        start = time.monotonic()
        answers = run()
        seconds = time.monotonic() - start
        right[way] = pd.Series(
            [a == row["output"] for a, row in zip(answers, test, strict=True)],
            dtype=float,
        )
        value, low, high = evaluation.interval(right[way])
        hard = right[way][[row["hard"] for row in test]].mean()
        print(
            f"{way:<24}{value:6.1%}  95 % from {low:6.1%} to {high:6.1%}  "
            f"n {len(test)}  hard {hard:.1%}  {seconds:.0f} s",
            flush=True,
        )
    evaluation.verdict(
        "Tiny, tuned, sorts tickets better than a bag of words",
        {
            "tiny, tuned, seed 0": right["tiny, tuned, seed 0"],
            "bag of words": right["bag of words"],
        },
    )


if __name__ == "__main__":
    main()
