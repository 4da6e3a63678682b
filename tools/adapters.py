"""The tuned adapters that the repository carries: make adapters

    python -m tools.adapters NAME [NAME ...]

tunes the student for a job (tools.jobs) with the recipe below, which was chosen on
validation rows (data/recorded/search.json), into data/models/NAME: weights in
bfloat16, template, log, run.json with the digests of data, settings, code and base.
Then it scores the test set and records every answer in data/recorded/NAME.json. A run
that was interrupted goes on from its last epoch.
Options: --seed N tunes with another seed, not into data/models, and records its marks
beside the first; --score only answers and records anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from helpers import inference, models, records, templates, training
from tools import record
from tools.jobs import JOBS

SHIPPED = records.DATA / "models"
FILES = ("adapter_config.json", "adapter_model.safetensors", "chat_template.jinja")
FILES += ("training_log.csv", "run.json")
RECIPES = {
    "wren": {"rank": 16, "learning_rate": 2e-3, "epochs": 4},
}


def tune(name: str, seed: int) -> Path:
    """The folder of the adapter, tuned now or earlier."""
    model, tokenizer = models.load("smollm2")
    tokenizer.chat_template = templates.CHATML
    job = JOBS[name](final=True)
    tuned = training.finetune(
        model,
        tokenizer,
        job.train,
        method="lora",
        seed=seed,
        cache=True,
        **RECIPES[name],
    )
    if seed:
        return tuned.folder
    folder = SHIPPED / name
    folder.mkdir(exist_ok=True)
    for file in FILES:
        shutil.copy(tuned.folder / file, folder / file)
    return folder


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
        for kind, marks in score(name, options.seed, folder).items():
            share = marks.count("1") / len(marks)
            print(f"{name}  {kind:<14}{share:.3f} (n {len(marks)})", flush=True)


if __name__ == "__main__":
    main()
