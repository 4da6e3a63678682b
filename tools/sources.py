"""What pairs from different sources teach, measured: python -m tools.sources

Lesson 04 makes pairs on the 74 core facts of the handbook in several ways. Here the
student learns from each of them, by LoRA in as many steps, with three seeds, and
answers the test questions on these facts. The pairs come out of the lesson's own cells.
Options: --only TEXT runs what holds the text in its name; --write records.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from helpers import evaluation, inference, models, records, templates, training, whole
from tools import record

import nbclient
import nbformat

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "04_instruction_tuning.ipynb"
CELLS = """instruct-002 instruct-018 instruct-031 instruct-040 instruct-042 instruct-044
instruct-053 instruct-056""".split()
BEFORE = """import json, textwrap
from helpers import evaluation
import pandas as pd
rows = list(records.load("instructions")["train"])
row_of = {row["id"]: row for row in rows}
"""
AFTER = """made = {"questions": dict(zip(pairs["fact"], pairs["question"]))}
made["by template"] = {fact: by_template(fact) for fact in core}
made["kept"] = list(kept["fact"])
print(json.dumps(made))
"""
FOLDER = models.OUTPUTS / "sources"
SEEDS = (0, 1, 2)
STEPS, BATCH = 80, 8
RECIPE = {"method": "lora", "rank": 16, "learning_rate": 2e-3, "batch_size": BATCH}
SOURCES = ("by template", "by the student", "kept by filters", "written, one each")
SOURCES += ("written, all",)
FILES = ["larkfield/faq_train.jsonl", "larkfield/faq_test.jsonl"]
FILES.append("larkfield/refusals.txt")


def pairs() -> dict[str, list[dict]]:
    """{source: question/answer rows}; kept, so that all seeds learn from the same."""
    path = FOLDER / "pairs.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    book = nbformat.read(NOTEBOOK, as_version=4)
    of = {cell["id"]: cell for cell in book["cells"]}
    first, *rest = (of[name] for name in CELLS)
    before, after = map(nbformat.v4.new_code_cell, (BEFORE, AFTER))
    short = nbformat.v4.new_notebook(cells=[first, before, *rest, after])
    nbclient.NotebookClient(short, timeout=3600).execute()
    found = json.loads(after["outputs"][0]["text"])
    asked, template = found["questions"], found["by template"]
    written = [r for r in records.core(records.load("faq")["train"]) if r["fact"]]
    one_each = {row["fact"]: row for row in reversed(written)}

    def by_student(fact: str) -> dict:
        return {"question": asked[fact], "answer": template[fact]["answer"]}

    made = {
        "by template": list(template.values()),
        "by the student": [by_student(fact) for fact in asked],
        "kept by filters": [by_student(fact) for fact in found["kept"]],
        "written, one each": [one_each[fact] for fact in asked],
        "written, all": written,
    }
    for source, rows in made.items():
        fields = ("question", "answer")
        made[source] = [{name: row[name] for name in fields} for row in rows]
    FOLDER.mkdir(parents=True, exist_ok=True)
    whole.write(path, json.dumps(made, indent=1))
    return made


def test() -> list[dict]:
    faq = records.load("faq")
    return [row for row in records.core(faq["test"]) if row["keys"]]


def run(source: str, seed: int) -> None:
    path = FOLDER / f"{source}-{seed}.json"
    if path.exists():
        return
    rows, rng, drawn = pairs()[source], random.Random(seed), []
    while len(drawn) < STEPS * BATCH:  # whole passes, in another order each
        drawn += rng.sample(rows, len(rows))
    model, tokenizer = models.load("smollm2")
    tokenizer.chat_template = templates.CHATML
    tuned = training.finetune(
        model, tokenizer, drawn[: STEPS * BATCH], epochs=1, seed=seed, **RECIPE
    )
    asked = test()
    prompts = [records.prompt(row) for row in asked]
    answers = inference.generate(prompts, tuned.model, tokenizer, max_new_tokens=48)
    hits = evaluation.score(answers, asked).rows["key_fact"]
    found = {"marks": record.marks(hits), "first": answers[:12]}
    whole.write(path, json.dumps(found, indent=1))
    print(f"{source}, seed {seed}: {hits.mean():.3f} (n {len(hits)})", flush=True)


RUNS = {f"{source}-{seed}": (source, seed) for seed in SEEDS for source in SOURCES}


def write() -> None:
    marks: dict[str, list] = {source: [] for source in SOURCES}
    for (source, _), left in zip(
        RUNS.values(), record.found_runs(FOLDER, [*RUNS]), strict=True
    ):
        marks[source].append(left["marks"])
    record.keep(
        "sources",
        "the student tuned on pairs from each source, as many steps each; marks: for "
        "each seed a 1 or 0 for each core test question on a taught fact",
        FILES,
        {
            "settings": RECIPE | {"steps": STEPS},
            "rows": {source: len(rows) for source, rows in pairs().items()},
            "pairs": {s: rows for s, rows in pairs().items() if "written" not in s},
            "ids": [row["id"] for row in test()],
            "marks": marks,
        },
    )


if __name__ == "__main__":
    record.many(__doc__, RUNS, run, write)
