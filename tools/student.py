"""What tuning on the core rows buys, three seeds: python -m tools.student

The student with the settings of lesson 05 (chosen on the validation questions), scored
on the core test questions and the unseen facts beside the untuned student, the nearest
training question, and reference answers shuffled between facts. Tuned models are kept
under outputs/tuned.
With --model tiny: the base model, on the wordings it was taught and on the test.
"""

from __future__ import annotations

import argparse
import random

from helpers import evaluation, inference, models, records, training

import pandas as pd

NEW = 48
SETTINGS = {
    "smollm2": {"method": "top half", "epochs": 3, "learning_rate": 3e-4},
    "tiny": {"epochs": 15, "learning_rate": 2e-3},
}
SHOWN = [("paraphrase", "key_fact"), ("paraphrase", "refused")]
SHOWN += [("out_of_scope", "refused"), ("near_scope", "refused")]
SHOWN += [("near_scope", "key_fact"), ("unseen", "confidently_wrong")]


def tune(name: str, seed: int):
    """(tuned, tokenizer) of a model on the core rows, as lesson 05 tunes it; cached."""
    faq = records.load("faq")
    train, validation = records.core(faq["train"]), records.core(faq["validation"])
    model, tokenizer = models.load(name)
    tuned = training.finetune(
        model,
        tokenizer,
        train,
        validation=[row for row in validation if row["keys"]],
        seed=seed,
        cache=True,
        **SETTINGS[name],
    )
    return tuned, tokenizer


def show(name: str, metrics: pd.DataFrame) -> None:
    lines = metrics.set_index(["kind", "metric"])
    text = "  ".join(
        f"{kind} {metric} {lines.loc[(kind, metric), 'value']:.3f} "
        f"(n {lines.loc[(kind, metric), 'n']})"
        for kind, metric in SHOWN
        if (kind, metric) in lines.index
    )
    print(f"{name:<18}{text}", flush=True)


def shuffled(rows: list[dict]) -> pd.Series:
    """Key-fact of reference answers given to other facts, by shuffle."""
    known = [row for row in rows if row["kind"] == "paraphrase"]
    shares = []
    for seed in range(10):
        order = known.copy()
        random.Random(seed).shuffle(order)
        hits = [
            evaluation.has_key(other["answer"], row["keys"])
            for row, other in zip(known, order, strict=True)
            if other["fact"] != row["fact"]
        ]
        shares.append(sum(hits) / len(hits))
    return pd.Series(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=list(SETTINGS), default="smollm2")
    parser.add_argument("--seeds", type=int, default=3, help="(default 3)")
    options = parser.parse_args()
    name = options.model
    faq = records.load("faq")
    train = records.core(faq["train"])
    test = records.core(faq["test"])
    test += [row for row in faq["test"] if row["kind"] == "unseen" and row not in test]
    prompts = [records.prompt(row) for row in test]

    nearest = evaluation.nearest_question([row["question"] for row in test], train)
    nearest = evaluation.score(nearest, test)
    show("nearest question", nearest.metrics)
    print(f"references shuffled between facts: {shuffled(test).mean():.3f}")
    model, tokenizer = models.load(name)
    untuned = inference.generate(prompts, model, tokenizer, max_new_tokens=NEW)
    show("untuned", evaluation.score(untuned, test).metrics)

    facts, seconds = {}, []
    for seed in range(options.seeds):
        tuned, tokenizer = tune(name, seed)
        seconds.append(tuned.seconds)
        answers = inference.generate(prompts, tuned.model, tokenizer, NEW)
        score = evaluation.score(answers, test)
        show(f"tuned, seed {seed}", score.metrics)
        paraphrases = score.rows["kind"] == "paraphrase"
        facts[seed] = score.rows.loc[paraphrases, "key_fact"].astype(float)
        lengths = [len(tokenizer(answer).input_ids) for answer in answers]
        shorter = sum(length < NEW for length in lengths) / len(lengths)
        print(f"  {tuned.seconds:.0f} s of training, {shorter:.3f} under {NEW} tokens")
        if name == "tiny":
            taught = [row for row in train if row["keys"]]
            asked = [records.prompt(row) for row in taught]
            again = inference.generate(asked, tuned.model, tokenizer, NEW)
            hits = evaluation.score(again, taught).rows["key_fact"].astype(float)
            print(f"  taught wordings: {hits.mean():.3f} (n {len(hits)})", flush=True)
    mean = pd.DataFrame(facts).mean(axis=1)
    print(f"mean of {len(facts)} seeds {mean.mean():.3f}")
    print(f"{max(seconds):.0f} s of training at most")
    known = nearest.rows["kind"] == "paraphrase"
    evaluation.verdict(
        "Tuned, mean of the seeds, answers new wordings better than the nearest "
        "training question",
        {"tuned": mean, "nearest question": nearest.rows.loc[known, "key_fact"]},
    )
    import resource  # not there on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.1f} GB")


if __name__ == "__main__":
    main()
