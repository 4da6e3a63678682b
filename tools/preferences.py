"""Preference tuning of the student, measured: python -m tools.preferences

The student, tuned on the core facts, makes up an answer to nearly every question about
other facts. Pairs of answers to the same question, one preferred, are made of its own:
for facts that it was not taught, "not in my notes" over what it makes up; for taught
facts, the right answer over what it says, or over declining. Then it is tuned on by
DPO, and by SFT on the preferred answers alone (same pairs, same adapter). "Half sft"
tunes by SFT on one half of the pairs; DPO then goes on from it, with pairs of what that
model itself answers to the questions of the other half.
Settings are chosen on other facts and other questions; the test is scored once, for
those named with --test.
Options: --only TEXT runs the settings whose name holds the text; --test NAME ...
answers the test with them; --write records; --form measures at which rates lesson 09
can teach `wren` to decline in one sentence.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time

from helpers import evaluation, inference, models, records, templates, tokens, training
from tools import record, rivals
from tools.search import LORA

import torch

FOLDER = models.OUTPUTS / "preferences"
NEW = 48
LEARNT = 5  # wordings of a taught fact that it is tuned on; the others make pairs
LEARNT_BY = 85  # untaught facts that pairs are made of; the other thirty choose
EPOCHS = 2
FORM_RATES = (5e-5, 1e-4, 2e-4, 3e-4, 5e-4)
WAYS = [  # loss, learning rate, beta
    ("dpo", 1e-4, 0.1),
    ("sft", 2e-4, 0.0),
    ("dpo", 3e-4, 0.1),
    ("sft", 5e-4, 0.0),
    ("dpo+sft", 3e-4, 0.1),
    ("sft, then dpo", 3e-4, 0.1),
    ("sft, then dpo", 3e-4, 0.01),
    ("half sft", 5e-4, 0.0),
    ("half sft, then dpo", 5e-5, 0.1),
    ("half sft, then dpo", 1e-4, 0.1),
]
AFTER = {"sft, then dpo": "sft-0.0005", "half sft, then dpo": "half-sft-0.0005"}


def name(way: tuple) -> str:
    loss, rate, beta = way
    return f"{loss.replace(', ', '-').replace(' ', '-')}-{rate:g}" + (
        f"-beta-{beta:g}" if "dpo" in loss else ""
    )


def first():
    """(model, tokenizer): the student tuned on the core rows, merged; cached."""
    model, tokenizer = models.load("smollm2")
    tokenizer.chat_template = templates.CHATML
    rows = taught()[0]
    settings = {key: value for key, value in LORA.items() if key != "seed"}
    tuned = training.finetune(model, tokenizer, rows, cache=True, **settings)
    return tuned.model.merge_and_unload(), tokenizer


def taught() -> tuple[list[dict], list[dict]]:
    """Rows of the core (to tune the first model on, to make pairs of): a model answers
    the questions that it was tuned on as it never answers new ones, so that pairs of
    those would teach it to decline whatever is new."""
    learnt, others, seen = [], [], {}
    for row in records.core(records.load("faq")["train"]):
        number = seen[row["fact"]] = seen.get(row["fact"], 0) + 1
        kept = not row["fact"] or number <= LEARNT
        (learnt if kept else others).append(row | {"kind": "paraphrase"})
    return learnt, others


def questions() -> tuple[list[dict], list[dict], list[dict], list[dict]]:
    """Rows (to make pairs of, untaught and taught; to choose by; to test).

    Untaught: facts of faq_train outside the core, three wordings each. Taught: the
    wordings of core facts that the first model was not tuned on. To choose by: the
    validation questions on the core, and other untaught facts. The test: core facts in
    new words, foreign questions, and facts of the handbook without rows in faq_train.
    """
    faq = {split: list(rows) for split, rows in records.load("faq").items()}
    core = {row["fact"] for row in records.core(faq["train"])}
    by_fact: dict[str, list] = {}
    for row in faq["train"]:
        if row["fact"] not in core:
            by_fact.setdefault(row["fact"], []).append(row | {"kind": "unseen"})
    facts = sorted(by_fact)
    random.Random(0).shuffle(facts)
    rows = [
        [row for f in part for row in by_fact[f][:3]]
        for part in (facts[:LEARNT_BY], facts[LEARNT_BY:])
    ]
    known = [row for row in faq["validation"] if row["core"]]
    test = [row for row in faq["test"] if row["core"] or row["kind"] == "unseen"]
    return rows[0], taught()[1], known + rows[1], test


def pairs(model, tokenizer) -> list[dict]:
    """[{"question", "chosen", "rejected", "about"}] from the model's own answers; kept,
    so that all ways learn from the same."""
    if found := record.kept("preferences", FILES).get("pairs"):
        return found
    path = FOLDER / "pairs.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    untaught, known, _, _ = questions()
    rows = untaught + known
    answers = inference.generate(
        [records.prompt(row) for row in rows], model, tokenizer, NEW
    )
    out = [pair_of(row, answer) for row, answer in zip(rows, answers, strict=True)]
    out = [pair for pair in out if pair]
    random.Random(0).shuffle(out)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    return out


def pair_of(row: dict, answer: str, made_up: str = "") -> dict | None:
    """A pair with this answer on one side. One that declines where it should makes a
    pair only if there is something to reject: what was made up before."""
    letter = rivals.outcome(answer, row)
    pair = {"question": row["question"], "chosen": row["answer"], "rejected": answer}
    if row["kind"] == "unseen":
        pair["about"] = "untaught"
        if letter == "W":
            return pair | {"chosen": record.UNKNOWN}
        good = letter == "N" and made_up
        return pair | {"chosen": answer, "rejected": made_up} if good else None
    if row["keys"]:
        pair["about"] = "taught"
        good = letter == "R"
        return pair | {"chosen": answer, "rejected": record.UNKNOWN} if good else pair
    return pair | {"about": "foreign"} if letter == "W" else None


def halves(found: list[dict]) -> tuple[list[dict], list[dict]]:
    return found[::2], found[1::2]


def resampled(model, tokenizer, found: list[dict]) -> list[dict]:
    """Pairs of the second half again, with what this model answers to its questions."""
    second = {pair["question"]: pair for pair in halves(found)[1]}
    untaught, known, _, _ = questions()
    rows = [row for row in untaught + known if row["question"] in second]
    answers = answered(model, tokenizer, rows)
    out = []
    for row, answer in zip(rows, answers, strict=True):
        out.append(pair_of(row, answer, second[row["question"]]["rejected"]))
    out = [pair for pair in out if pair]
    random.Random(0).shuffle(out)
    return out


def conversational(pair: dict) -> dict:
    """A pair as TRL takes it."""
    chosen, rejected = (
        [{"role": "assistant", "content": pair[side]}]
        for side in ("chosen", "rejected")
    )
    prompt = records.prompt({"question": pair["question"]})
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def by_trl(kind: str, model, tokenizer, rows: list[dict], choices: dict, **others):
    """(model, log) after one of TRL's trainers ("DPO", "GRPO"), LoRA of rank 16. The
    log ends with what the trainer says of an eval_dataset, where there is one."""
    import datasets
    import peft
    import trl

    datasets.disable_progress_bars()
    torch.manual_seed(0)
    # as in inference.generate: frozen output weights are else copied for each row
    model.get_output_embeddings().register_forward_pre_hook(
        lambda layer, given: (given[0].contiguous(), *given[1:])
    )
    plain = {"bf16": False, "gradient_checkpointing": False, "save_strategy": "no"}
    plain |= {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "seed": 0}
    config, trainer = getattr(trl, f"{kind}Config"), getattr(trl, f"{kind}Trainer")
    with tempfile.TemporaryDirectory() as folder:
        running = trainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=datasets.Dataset.from_list(rows),
            peft_config=peft.LoraConfig(
                r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            args=config(folder, **plain, **choices),
            **others,
        )
        running.train()
        if others.get("eval_dataset"):
            running.evaluate()
    return running.model.merge_and_unload(), running.state.log_history


def by_dpo(model, tokenizer, found: list[dict], way: tuple, held: list[dict]):
    """(model, log) after DPO, batches of 8; with "dpo+sft" the loss of SFT on the
    preferred answer is added (Pang et al. 2024). held: pairs that only log."""
    import datasets

    loss, rate, beta = way
    choices = {
        "beta": beta,
        "loss_type": ["sigmoid", "sft"] if loss == "dpo+sft" else ["sigmoid"],
        "learning_rate": rate,
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": 8,
        "lr_scheduler_type": "linear",
        "warmup_steps": 5,
        "logging_steps": 5,
    }
    rows, others = [*map(conversational, found)], {}
    if held:
        others["eval_dataset"] = datasets.Dataset.from_list(
            [*map(conversational, held)]
        )
    return by_trl("DPO", model, tokenizer, rows, choices, **others)


def by_sft(model, tokenizer, rows: list[dict], rate: float, epochs: int):
    """(model, log) after SFT with the same adapter."""
    choices = {"method": "lora", "rank": 16, "learning_rate": rate, "epochs": epochs}
    tuned = training.finetune(model, tokenizer, rows, **choices)
    return tuned.model.merge_and_unload(), tuned.log.to_dict("records")


def run(way: tuple) -> None:
    """Tunes one way, keeps the model and its answers to what is chosen by."""
    path = FOLDER / f"{name(way)}.json"
    if path.exists():
        return
    model, tokenizer = first()
    found, held, log = pairs(model, tokenizer), [], []
    loss, rate, _ = way
    if loss in AFTER:
        model, tokenizer = models.load(str(FOLDER / AFTER[loss]))
    if loss == "half sft":
        found = halves(found)[0]
    elif loss == "half sft, then dpo":
        before = json.loads((FOLDER / f"{AFTER[loss]}.json").read_text("utf-8"))
        each = zip(questions()[2], before["answers"], strict=True)
        held = [pair for row, said in each if (pair := pair_of(row, said))]
        found = resampled(model, tokenizer, found)
    started = time.perf_counter()
    if "dpo" in loss:
        model, log = by_dpo(model, tokenizer, found, way, held)
    elif "sft" in loss:
        rows = [{"question": p["question"], "answer": p["chosen"]} for p in found]
        model, log = by_sft(model, tokenizer, rows, rate, EPOCHS)
    seconds = round(time.perf_counter() - started)
    model.save_pretrained(FOLDER / name(way))
    tokenizer.save_pretrained(FOLDER / name(way))
    rows = questions()[2]
    answers = answered(model, tokenizer, rows)
    said = {"way": way, "pairs": len(found), "log": log, "seconds": seconds}
    path.write_text(json.dumps(said | {"answers": answers}, indent=1), encoding="utf-8")
    print(name(way), outcomes(answers, rows), seconds, flush=True)


def answered(model, tokenizer, rows: list[dict]) -> list[str]:
    prompts = [records.prompt(row) for row in rows]
    return inference.generate(prompts, model, tokenizer, NEW)


@torch.inference_mode()
def sureness(model, tokenizer, rows: list[dict], answers: list[str]) -> list[float]:
    """For each answer of the model the log-probability of its least likely token: what
    a threshold for declining could be set on, without more tuning."""
    out = []
    for row, answer in zip(rows, answers, strict=True):
        talk = [*records.prompt(row), {"role": "assistant", "content": answer}]
        batch = tokens.collate([tokens.encode(talk, tokenizer)], tokenizer.pad_token_id)
        ids, labels = batch["input_ids"], batch["labels"][0, 1:]
        said = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        learnt = labels != -100
        each = said[learnt].gather(1, labels[learnt][:, None])
        out.append(round(each.min().item(), 3))
    return out


def score(found: str) -> None:
    """The test, once, for settings that have been chosen."""
    path = FOLDER / f"{found}.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    _, _, choosing, rows = questions()
    model, tokenizer = models.load(str(FOLDER / found))
    said["test"] = answered(model, tokenizer, rows)
    if said["way"][0] == "first":
        said["sureness"] = {
            "choosing": sureness(model, tokenizer, choosing, said["answers"]),
            "test": sureness(model, tokenizer, rows, said["test"]),
        }
    path.write_text(json.dumps(said, indent=1), encoding="utf-8")
    print(found, outcomes(said["test"], rows), flush=True)


FILES = ["larkfield/faq_train.jsonl", "larkfield/faq_validation.jsonl"]
FILES += ["larkfield/faq_test.jsonl", "larkfield/refusals.txt"]
LOGGED = ("step", "loss", "rewards/chosen", "rewards/rejected", "rewards/margins")
HELD = ("eval_loss", "eval_rewards/accuracies", "eval_rewards/margins")


def write() -> None:
    """data/recorded/preferences.json of all ways that were run, now or before."""
    _, _, choosing, test = questions()
    before = record.kept("preferences", FILES)
    ways = dict(before.get("ways", {}))
    for way in [("first", 0.0, 0.0), *WAYS]:
        path = FOLDER / f"{name(way)}.json"
        if not path.exists():
            continue
        said = json.loads(path.read_text(encoding="utf-8"))
        loss, rate, beta = way
        ways[name(way)] = {
            "loss": loss,
            "learning_rate": rate,
            "beta": beta,
            "seconds": said["seconds"],
            "log": [
                {key: step[key] for key in LOGGED if key in step}
                for step in said["log"]
                if "loss" in step
            ],
            "pairs": said["pairs"],
            "held-out pairs": {
                key.removeprefix("eval_"): round(step[key], 3)
                for step in said["log"]
                for key in HELD
                if key in step
            },
            "choosing": rivals.outcomes(said["answers"], choosing),
            "choosing answers": said["answers"],
        }
        if "test" in said:
            ways[name(way)]["test"] = rivals.outcomes(said["test"], test)
            ways[name(way)]["answers"] = said["test"]
        if "sureness" in said:
            ways[name(way)]["sureness"] = said["sureness"]
    record.keep(
        "preferences",
        "the student, tuned on the core rows, then tuned on pairs of its own answers; "
        "outcomes by kind of question: R right, N declines, W anything else",
        FILES,
        {
            "pairs": before.get("pairs")
            or json.loads((FOLDER / "pairs.json").read_text(encoding="utf-8")),
            "choosing ids": [row["id"] for row in choosing],
            "ids": [row["id"] for row in test],
            "ways": ways,
        },
    )


def in_short(answer: str) -> str:
    """The first sentence of an answer."""
    return answer.partition(". ")[0].rstrip(".") + "."


def form() -> None:
    """data/recorded/preference_form.json: refusals in one sentence, preferred to longer
    ones, by the rate of DPO; on validation questions, with settings as in lesson 09."""
    faq = {split: list(rows) for split, rows in records.load("faq").items()}
    taught = [row for row in faq["train"] if not row["keys"]][::20]
    asked = [row for row in faq["validation"] if not row["keys"]][:30]
    asked += [row for row in faq["validation"] if row["keys"]][::5][:30]

    def wren():
        model, tokenizer = models.load("wren", torch.float32)
        return model.merge_and_unload(), tokenizer

    start = wren()
    said = zip(taught, answered(*start, taught), strict=True)
    found = [
        {"question": row["question"], "chosen": in_short(text), "rejected": text}
        for row, text in said
        if in_short(text) != text
    ]
    choices = {"beta": 0.1, "num_train_epochs": 3, "per_device_train_batch_size": 4}
    choices |= {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 6}
    choices |= {"logging_steps": 1}
    lines = {}
    for rate in (0.0, *FORM_RATES):
        pupil, log = start if not rate else wren(), []
        if rate:
            rows, of_rate = [*map(conversational, found)], {"learning_rate": rate}
            model, log = by_trl("DPO", *pupil, rows, choices | of_rate)
            pupil = (model, pupil[1])
        answers = answered(*pupil, asked)
        declined = [text for text in answers[:30] if evaluation.is_refusal(text)]
        right = evaluation.score(answers[30:], asked[30:]).rows["key_fact"]
        losses = [step["loss"] for step in log if "loss" in step]
        lines[f"{rate:g}"] = {
            "declined": len(declined),
            "in one sentence": sum(in_short(text) == text for text in declined),
            "facts right": int(right.sum()),
            "last loss": round(losses[-1], 3) if losses else None,
            "first answer": answers[0],
        }
        print(rate, lines[f"{rate:g}"], flush=True)
    record.keep(
        "preference_form",
        "wren, tuned by DPO on its own refusals, the first sentence preferred; of 30 "
        "off-topic validation questions and 30 on taught facts, by learning rate",
        FILES[:2] + FILES[3:],
        {"pairs": len(found), "n": 30, "rates": lines},
    )


def outcomes(answers: list[str], rows: list[dict]) -> dict[str, dict[str, float]]:
    found = rivals.outcomes(answers, rows)
    return {
        kind: {letter: round(of.count(letter) / len(of), 3) for letter in "RNW"}
        for kind, of in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="part of the names to be run")
    parser.add_argument("--test", nargs="+", help="names whose test is scored")
    parser.add_argument("--write", action="store_true", help="record what there is")
    parser.add_argument("--form", action="store_true", help="refusals in one sentence")
    options = parser.parse_args()
    if options.form:
        return form()
    if options.write:
        return write()
    if options.test:
        return [score(found) for found in options.test] and None
    for way in [("first", 0.0, 0.0), *WAYS]:
        if options.only in name(way):
            run(way)
    write()


if __name__ == "__main__":
    main()
