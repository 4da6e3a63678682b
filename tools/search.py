"""How the student's recipes were chosen, on validation questions: make search

Each run tunes the student for one job (tools.jobs) with one method, rate, rank and
number of epochs, and marks its answers to the job's validation rows. For the job "core"
these are taught facts in new words, questions that are none of the company's business
(to be declined), and questions that only sound so. No choice reads a test question.
Runs are kept one by one under outputs/search; at the end, or with --write, they stand
together in data/recorded/search.json, from which a later search goes on.
Options: --workers N runs N at a time, a thread each (default 1, all threads);
--only TEXT runs those whose name holds the text; --test scores the test questions with
each method at its best and with all its seeds, once.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

from helpers import inference, models, records, runs, templates, training, whole
from tools import record
from tools.jobs import JOBS, prepared

import torch

FOLDER = models.OUTPUTS / "search"
TESTED = FOLDER / "test"
RECORDED = record.FOLDER / "search.json"
LORA = {"method": "lora", "rank": 16, "learning_rate": 2e-3, "epochs": 4}
FULL = {"method": "full", "learning_rate": 3e-4, "epochs": 4}
HALF = {"method": "top half", "learning_rate": 3e-4, "epochs": 4}


def grid() -> list[dict]:
    """The settings of every run, in the order in which they are taken."""
    reader = {"job": "reader", "rank": 8}
    found = [LORA | reader | {"epochs": epochs} for epochs in (1, 2)]
    found += [LORA | {"learning_rate": rate} for rate in (5e-4, 1e-3, 2e-3, 4e-3)]
    wren = LORA | {"job": "wren"}
    found += [wren, wren | {"learning_rate": 4e-3, "rows": "fewer words"}]
    found.append(wren | {"rows": "crossed"})
    found.append(wren | {"rows": "refusals crossed too", "epochs": 5})
    found += [
        LORA | {"job": "router", "rank": 8, "learning_rate": rate, "epochs": epochs}
        for epochs, rate in itertools.product((2, 4), (5e-4, 1e-3, 2e-3))
    ]
    found += [
        LORA | {"job": "instructed", "rank": 8, "learning_rate": rate, "epochs": epochs}
        for epochs, rate in ((2, 1e-3), (2, 2e-3), (4, 1e-3), (4, 2e-3))
    ]
    made_anew = {"job": "instructed", "rank": 8, "epochs": 5, "rows": "fresh inputs"}
    found.append(LORA | made_anew)
    found += [FULL | {"learning_rate": rate} for rate in (1e-4, 3e-4, 6e-4)]
    found += [HALF | {"learning_rate": rate} for rate in (1e-4, 3e-4, 6e-4, 1e-3, 2e-3)]
    found += [
        LORA | {"learning_rate": rate, "rank": rank}
        for rank, rate in itertools.product((8, 32, 4), (2e-3, 1e-3, 4e-3))
    ]
    found += [
        LORA | {"learning_rate": rate, "epochs": epochs}
        for epochs, rate in itertools.product((2, 6), (5e-4, 1e-3, 2e-3, 4e-3))
    ]
    return found


def again(grid: list[dict]) -> list[dict]:
    """Each method at its best rate, with two more seeds and with the system line that
    the makers' template writes; needs what `grid` has found. Other ranks and epochs
    were tried after this choice, to see whether they matter."""
    more = []
    for method in (LORA, FULL, HALF):
        rates = [method | {"learning_rate": run["learning_rate"]} for run in grid]
        found = [run for run in rates if run in grid and kept(run)]
        if found:
            best = max(found, key=lambda run: total(kept(run)))
            more += [best | {"seed": seed} for seed in (1, 2)]
            more.append(best | {"system": True})
    return more


def compared(grid: list[dict]) -> list[dict]:
    """What the test is scored on, once: each method at its best, with as many seeds as
    were run."""
    more = [run for run in again(grid) if "seed" in run]
    firsts = [{k: v for k, v in run.items() if k != "seed"} for run in more[::2]]
    return [run for run in firsts + more if kept(run)]


def score(settings: dict) -> None:
    """The test questions, once, by the student that a run has left in the cache."""
    if name(settings) in tested():
        return
    job = JOBS["core"](final=True)
    rows, choices = prepared(job.train, settings)
    model, tokenizer = models.load("smollm2")
    tokenizer.chat_template = templates.CHATML
    tuned = training.finetune(model, tokenizer, rows, cache=True, **choices)
    prompts = [records.prompt(row) for row in job.held_out]
    answers = inference.generate(prompts, tuned.model, tokenizer, job.new)
    marks = job.mark(answers, job.held_out)
    found = {"settings": settings, "rows": rows_of("core", final=True), "marks": marks}
    whole.write(TESTED / f"{name(settings)}.json", json.dumps(found, indent=1))
    print(name(settings), f"{total({'marks': marks}):.3f}", flush=True)


def name(settings: dict) -> str:
    """A run's file name: core-lora-rank16-0.002-4-epochs, -seed1 and -system behind."""
    parts = [settings.get("job", "core"), settings["method"].replace(" ", "-")]
    if "rank" in settings:
        parts.append(f"rank{settings['rank']}")
    parts += [f"{settings['learning_rate']:g}", f"{settings['epochs']}-epochs"]
    if settings.get("seed"):
        parts.append(f"seed{settings['seed']}")
    if settings.get("system"):
        parts.append("system")
    if settings.get("rows"):
        parts.append(settings["rows"].replace(" ", "-"))
    return "-".join(parts)


@functools.cache
def record_of_before() -> dict:
    """data/recorded/search.json, or no runs."""
    if not RECORDED.exists():
        return {"runs": []}
    return json.loads(RECORDED.read_text(encoding="utf-8"))


def recorded() -> dict[str, dict]:
    """The runs of data/recorded/search.json, by name."""
    return {name(run["settings"]): run for run in record_of_before()["runs"]}


def tested() -> dict[str, dict]:
    """The runs whose test has been scored, on the rows of today, by name."""
    paths = sorted(TESTED.glob("*.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    found = record_of_before().get("test", []) + found
    today = rows_of("core", final=True)
    return {name(run["settings"]): run for run in found if run.get("rows") == today}


@functools.cache
def rows_of(job: str, final: bool = False) -> str:
    """The digest of what a job trains on and is marked by, when a recipe is chosen, or
    in the end."""
    found = JOBS[job](final=final)
    talks = [records.messages(row) for row in found.train + found.held_out]
    return runs.digest(json.dumps(talks))


def kept(settings: dict) -> dict | None:
    """The run of these settings on the rows of today, if there is one."""
    path = FOLDER / f"{name(settings)}.json"
    found = [recorded().get(name(settings))]
    if path.exists():
        found.insert(0, json.loads(path.read_text(encoding="utf-8")))
    today = rows_of(settings.get("job", "core"))
    return next((run for run in found if run and run.get("rows") == today), None)


def total(run: dict) -> float:
    """The share of all validation questions that were answered, or declined, as they
    should be: what a recipe is chosen by."""
    marks = "".join(run["marks"].values())
    return marks.count("1") / len(marks)


def run(settings: dict, threads: int | None = None) -> None:
    """One run, unless it has been done."""
    if kept(settings):
        return
    if threads:
        torch.set_num_threads(threads)
        os.environ["COURSE_QUIET"] = "1"
    job = JOBS[settings.get("job", "core")](final=False)
    # an adapter that trains on the same rows in the end is then taken from the cache
    cache = job.train == JOBS[settings.get("job", "core")](final=True).train
    rows, choices = prepared(job.train, settings)
    model, tokenizer = models.load("smollm2")
    if not settings.get("system"):
        tokenizer.chat_template = templates.CHATML
    started = time.perf_counter()
    tuned = training.finetune(model, tokenizer, rows, cache=cache, **choices)
    prompts = [records.prompt(row) for row in job.held_out]
    answers = inference.generate(prompts, tuned.model, tokenizer, job.new)
    found = {
        "settings": settings,
        "rows": rows_of(settings.get("job", "core")),
        "marks": job.mark(answers, job.held_out),
        **({"answers": answers} if settings.get("job") == "reader" else {}),
        "last_loss": round(float(tuned.log["loss"].tail(50).mean()), 4),
        "seconds": round(time.perf_counter() - started),
    }
    text = json.dumps(found, indent=1) + "\n"
    whole.write(FOLDER / f"{name(settings)}.json", text)
    shares = {k: f"{v.count('1') / len(v):.3f}" for k, v in found["marks"].items()}
    print(name(settings), f"{total(found):.3f}", shares, flush=True)


def run_all(wanted: list[dict], workers: int) -> None:
    if workers == 1:
        for settings in wanted:
            run(settings)
        return
    with ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        for done in [pool.submit(run, settings, 1) for settings in wanted]:
            done.result()


def write() -> None:
    """data/recorded/search.json of all runs that are kept."""
    found = dict(recorded())
    for path in FOLDER.glob("*.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        if kept(run["settings"]) == run:
            found[name(run["settings"])] = run
    test = tested()
    jobs = {run["settings"].get("job", "core") for run in found.values()}
    files = {file for job in jobs for file in JOBS[job](final=False).files}
    files |= {file for file in JOBS["core"](final=True).files if test}
    record.keep(
        "search",
        "the student tuned with many settings, scored on validation rows; marks: a 1 "
        "where a row was answered, or declined, as it should be, in their order",
        sorted(files),
        {
            "runs": [found[key] for key in sorted(found)],
            "test": [test[key] for key in sorted(test)],
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=1, help="(default 1)")
    parser.add_argument("--only", default="", help="part of the names to be run")
    parser.add_argument("--write", action="store_true", help="record what there is")
    parser.add_argument("--test", action="store_true", help="score the test, once")
    options = parser.parse_args()
    if options.write:
        return write()
    wanted = grid()
    if options.test:
        for settings in compared(wanted):
            score(settings)
        return write()
    run_all([r for r in wanted if options.only in name(r)], options.workers)
    run_all([r for r in again(wanted) if options.only in name(r)], options.workers)
    write()


if __name__ == "__main__":
    main()
