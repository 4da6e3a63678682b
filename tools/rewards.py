"""Rewards that a program checks, measured: python -m tools.rewards

From the adapter `instructed`, on kinds of instruction that it gets right only now and
then: GRPO by TRL, whose reward is 1 where an answer passes its row's check, and as
rival SFT on the same prompts with the computed answers, as many prompts. Before and
after, greedy answers to wordings of these kinds that were never tuned on, with fresh
inputs; and to the kinds that stayed out, as the price.
Options: --only TEXT runs the ways whose name holds the text; --write records.
"""

from __future__ import annotations

import json
import time

from helpers import evaluation, inference, models, records
from tools import record
from tools.instructions.__main__ import rows
from tools.jobs import instructed
from tools.preferences import by_sft, by_trl

FOLDER = models.OUTPUTS / "rewards"
KINDS = "sort_words count_words count_items nth_item".split()
NEW = 32
STEPS, PROMPTS, GROUP = 60, 4, 8  # prompts of a step, answers to each
WAYS = [("grpo", 1e-4), ("sft", 5e-4)]


def name(way: tuple) -> str:
    return f"{way[0]}-{way[1]:g}"


def drawn(kind: str, draw: str) -> tuple[list[dict], list[dict]]:
    """(rows to tune on, rows to score): fresh inputs; the first three wordings of a
    kind, which no tuning has seen, are for scoring."""
    found = rows(kind, draw)
    numbers = [int(row["id"].rpartition("-")[2]) for row in found]
    new = [number <= 3 for number in numbers]
    pairs = list(zip(found, new, strict=True))
    return [row for row, is_new in pairs if not is_new], [r for r, n in pairs if n]


def task(row: dict) -> tuple[str, str]:
    return row["instruction"], row["input"]


def tasks() -> tuple[list[dict], list[dict], list[dict]]:
    """Rows (to tune on, STEPS * PROMPTS; to choose by; to test, some thirty of a
    kind, each asked once and none of those to choose by)."""
    learn, choose, test = [], [], []
    for number in range(20):
        for kind in KINDS:
            tune, score = drawn(kind, f" reward {number}")
            learn.append((kind, tune))
            (choose if number < 10 else test).extend(score)
    asked, once = {task(row) for row in choose}, []
    for row in test:
        if task(row) not in asked:
            asked.add(task(row))
            once.append(row)
    of = {kind: [r for k, tune in learn if k == kind for r in tune] for kind in KINDS}
    count = STEPS * PROMPTS // len(KINDS)
    return [of[k][n] for n in range(count) for k in KINDS], choose, once


def first():
    model, tokenizer = models.load("instructed")
    return model.merge_and_unload(), tokenizer


def passed(answers: list[str], found: list[dict]) -> list[bool]:
    pairs = zip(answers, found, strict=True)
    return [evaluation.passes(answer, row["check"]) for answer, row in pairs]


def by_grpo(
    model, tokenizer, learn: list[dict], rate: float, steps: int = STEPS, new: int = NEW
):
    """(model, log) after a step for every PROMPTS of the rows."""

    def passes(completions, check, **rest):
        said = [talk[0]["content"].strip() for talk in completions]
        pairs = zip(said, check, strict=True)
        return [float(evaluation.passes(a, json.loads(c))) for a, c in pairs]

    asked = [
        {"prompt": records.prompt(row), "check": json.dumps(row["check"])}
        for row in learn
    ]
    choices = {
        "learning_rate": rate,
        "lr_scheduler_type": "constant",
        "max_steps": steps,
        "per_device_train_batch_size": PROMPTS * GROUP,
        "num_generations": GROUP,
        "max_completion_length": new,
        "temperature": 1.0,
        "shuffle_dataset": False,
        "logging_steps": 1,
    }
    return by_trl("GRPO", model, tokenizer, asked, choices, reward_funcs=passes)


def run(way: tuple) -> None:
    path = FOLDER / f"{name(way)}.json"
    if path.exists():
        return
    learn, choose, test = tasks()
    model, tokenizer = first()
    started, log = time.perf_counter(), []
    if way[0] == "grpo":
        model, log = by_grpo(model, tokenizer, learn, way[1])
    elif way[0] == "sft":
        model, log = by_sft(model, tokenizer, learn, way[1], 1)
    seconds = round(time.perf_counter() - started)
    others = [r for r in instructed(True).held_out if not r["new"]]
    others = [row for row in others if row["kind"] not in KINDS]
    parts = {"choosing": choose, "test": test, "other kinds": others}
    answers = {
        part: inference.generate([records.prompt(r) for r in of], model, tokenizer, NEW)
        for part, of in parts.items()
    }
    marks = {
        part: record.marks(passed(answers[part], of)) for part, of in parts.items()
    }
    said = {"way": way, "log": log, "seconds": seconds, "answers": answers}
    FOLDER.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said | {"marks": marks}, indent=1), encoding="utf-8")
    shown = {
        p: round(m.count("1") / len(m), 3) for p, m in marks.items() if p != "test"
    }
    print(name(way), shown, seconds, flush=True)


LOGGED = ("step", "loss", "reward", "frac_reward_zero_std", "completions/mean_length")


FILES = ["larkfield/instructions.jsonl"]
FILES += ["models/instructed/adapter_model.safetensors"]


def write() -> None:
    """data/recorded/rewards.json of all ways that were run, now or before."""
    _, _, test = tasks()
    ways = record.kept("rewards", FILES).get("ways", {})
    for way in [("first", 0.0), *WAYS]:
        path = FOLDER / f"{name(way)}.json"
        if path.exists():
            said = json.loads(path.read_text(encoding="utf-8"))
            ways[name(way)] = {
                "loss": way[0],
                "learning_rate": way[1],
                "seconds": said["seconds"],
                "log": [
                    {key: step[key] for key in LOGGED if key in step}
                    for step in said["log"]
                    if "loss" in step
                ],
                "marks": said["marks"],
                "answers": said["answers"]["test"],
            }
    record.keep(
        "rewards",
        "instructed, then tuned by GRPO with checks as rewards, or by SFT on the same "
        "prompts; marks: a 1 where an answer passes its check, by row",
        FILES,
        {
            "kinds": KINDS,
            "steps": {"steps": STEPS, "prompts": PROMPTS, "answers to each": GROUP},
            "test": [
                {key: row[key] for key in ("kind", "instruction", "input", "output")}
                for row in test
            ],
            "ways": ways,
        },
    )


if __name__ == "__main__":
    record.many(__doc__, {name(w): (w,) for w in [("first", 0.0), *WAYS]}, run, write)
