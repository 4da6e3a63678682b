"""A judge of answers, tuned and measured: python -m tools.judging

It reads a question, its right answer and another answer, and says whether both say the
same: A or B, with "yes" at either. Tuned on answers to questions about some facts, it
is chosen on other facts and scored, once, on still others, with answers that real
systems gave to the test questions. What is right there is known from key facts, and for
a hundred of them from two readers too, who did not see the keys.
Options: --choose marks the validation facts only; --write scores the test and records.
"""

from __future__ import annotations

import argparse
import json
import random

from helpers import evaluation, models, records, templates, training
from tools import reading, record

import torch

# as lesson 07 asks it
JUDGE = (
    "Question: {question}\nRight answer: {reference}\nAnswer given: {answer}\n\n"
    "Does the answer given say the same as the right answer?\n"
    "A: {first}\nB: {second}\nReply with one letter, A or B."
)
RECIPE = {"method": "lora", "rank": 8, "learning_rate": 1e-3, "epochs": 1}
ROWS = 1800
CHOSEN_BY, TESTED_BY = 25, 50  # taught facts kept out of tuning
SYSTEMS = ("wren", "nearest question by words", "untuned with notes")
# what two readers said of `hundred`, in its order, without its keys
READERS = [
    "01101111111111110111101111101101111110110111111011"
    "11001011100011100110110001100111011111000110001111",
    "01101111111111110111101111101101111110110111111011"
    "11001011100011100110110001100111011111000110001111",
]
FILES = ["faq_train", "faq_validation", "faq_test"]


def right(answer: str, row: dict) -> bool:
    return evaluation.has_key(answer, row["keys"]) and not evaluation.is_refusal(answer)


def prompt(row: dict, answer: str, yes_first: bool) -> str:
    first, second = ("yes", "no") if yes_first else ("no", "yes")
    asked = {"question": row["question"], "reference": row["answer"]}
    return JUDGE.format(**asked, answer=answer or "-", first=first, second=second)


def split() -> tuple[list[str], list[str], list[str]]:
    """Taught facts to (tune on, choose by, test on)."""
    facts = sorted({r["fact"] for r in records.load("faq")["train"] if r["fact"]})
    random.Random(0).shuffle(facts)
    chosen, tested = facts[:CHOSEN_BY], facts[CHOSEN_BY : CHOSEN_BY + TESTED_BY]
    return facts[CHOSEN_BY + TESTED_BY :], chosen, tested


def cases(facts: list[str], seed: int = 0) -> list[tuple[dict, str]]:
    """(row, answer) on these facts: other wordings of the right answer, answers about
    the facts that are closest, the right answer with another number or name, an answer
    that declines, one that breaks off."""
    rng, by_fact, out = random.Random(seed), {}, []
    rows = [row for row in records.load("faq")["train"] if row["fact"]]
    for row in rows:
        by_fact.setdefault(row["fact"], []).append(row)
    near = neighbours(rows)
    for fact in facts:
        group = by_fact[fact]
        for row in group:
            others = [r["answer"] for r in group if r["answer"] != row["answer"]]
            answers = [rng.choice(others or [row["answer"]])]
            answers.append(rng.choice(by_fact[rng.choice(near[fact])])["answer"])
            other = rng.choice(others or [row["answer"]])
            swapped = reading.changed(other, other, row["keys"], rng)
            if swapped and rng.random() < 0.8:
                answers.append(swapped[0])
            else:
                answers.append(rng.choice([record.UNKNOWN, *others]))
            out += [(row, answer) for answer in answers]
    rng.shuffle(out)
    return out


def neighbours(rows: list[dict], count: int = 4) -> dict[str, list[str]]:
    """For each fact those with the most similar words in their questions."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    facts = sorted({row["fact"] for row in rows})
    texts = {fact: "" for fact in facts}
    for row in rows:
        texts[row["fact"]] += f" {row['question']} {row['answer']}"
    vectors = TfidfVectorizer(sublinear_tf=True).fit_transform(texts.values())
    order = (-(vectors @ vectors.T).toarray()).argsort(axis=1)
    return {
        fact: [facts[n] for n in row if facts[n] != fact][:count]
        for fact, row in zip(facts, order, strict=True)
    }


def tuning_rows(seed: int = 0) -> list[dict]:
    rng, out = random.Random(seed), []
    for row, answer in cases(split()[0], seed)[:ROWS]:
        yes_first = rng.random() < 0.5
        letter = "A" if right(answer, row) == yes_first else "B"
        out.append({"prompt": prompt(row, answer, yes_first), "completion": letter})
    return out


def given(facts: list[str] | None) -> list[tuple[dict, str, str]]:
    """(row, who, answer): what the systems said to the test questions about these
    facts and about all that nobody taught."""
    rows = list(records.load("faq")["test"])
    said = json.loads((record.FOLDER / "rivals_facts.json").read_text("utf-8"))
    asked = [
        (number, row)
        for number, row in enumerate(rows)
        if row["kind"] == "unseen"
        or row["kind"] == "paraphrase"
        and row["fact"] in facts
    ]
    return [(row, who, said["answers"][who][n]) for who in SYSTEMS for n, row in asked]


def hundred() -> list[tuple[dict, str, str]]:
    """Those of `given` that a reader marked too: fifty questions on taught facts, each
    with the answer of wren and of the nearest question."""
    found = [case for case in given(split()[2]) if case[0]["kind"] == "paraphrase"]
    rows = list({row["id"]: row for row, _, _ in found}.values())[:50]
    kept = {row["id"] for row in rows}
    return [case for case in found if case[0]["id"] in kept and case[1] in SYSTEMS[:2]]


@torch.inference_mode()
def leans(prompts: list[str], model, tokenizer, size: int = 16) -> list[float]:
    """For each prompt how much the logit of A is above that of B."""
    a, b = (tokenizer.encode(x, add_special_tokens=False)[0] for x in "AB")
    # as in inference.generate: frozen output weights are else copied for each row
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda layer, given: (given[0].contiguous(), *given[1:])
    )
    chats = [records.prompt({"instruction": text}) for text in prompts]
    texts = [templates.prompt(chat, tokenizer).text for chat in chats]
    out = []
    for start in range(0, len(texts), size):
        batch = tokenizer(
            texts[start : start + size],
            add_special_tokens=False,
            return_tensors="pt",
            padding=True,
            padding_side="left",
        )
        last = model(**batch, logits_to_keep=1).logits[:, -1].float()
        out += (last[:, a] - last[:, b]).tolist()
    hook.remove()
    return out


def verdicts(found: list[tuple[dict, str]], model, tokenizer) -> dict[str, list[float]]:
    """How much each answer is called right, with "yes" at A and at B: logit of "yes"
    less that of "no"."""
    at_a = leans([prompt(row, answer, True) for row, answer in found], model, tokenizer)
    at_b = leans(
        [prompt(row, answer, False) for row, answer in found], model, tokenizer
    )
    return {
        "yes at A": [round(x, 3) for x in at_a],
        "yes at B": [round(-x, 3) for x in at_b],
    }


def kappa(one: list[bool], two: list[bool]) -> float:
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(one, two))


def report(said: dict[str, list[float]], truth: list[bool]) -> str:
    parts = []
    for order, leans in said.items():
        says = [lean > 0 for lean in leans]
        same = sum(a == b for a, b in zip(says, truth, strict=True)) / len(truth)
        parts.append(f"{order}: agrees {same:.1%}, kappa {kappa(says, truth):.3f}")
    return f"n {len(truth)}, right {sum(truth) / len(truth):.1%}; " + "; ".join(parts)


def tuned():
    model, tokenizer = models.load("smollm2")
    tokenizer.chat_template = templates.CHATML
    found = training.finetune(model, tokenizer, tuning_rows(), cache=True, **RECIPE)
    return found.model.merge_and_unload(), tokenizer


def choose(model, tokenizer) -> None:
    """The validation facts: made answers, and those of wren to validation questions."""
    found = cases(split()[1], seed=1)
    truth = [right(answer, row) for row, answer in found]
    print("made:", report(verdicts(found, model, tokenizer), truth), flush=True)


def write(model, tokenizer) -> None:
    found = given(split()[2])
    truth = [right(answer, row) for row, _, answer in found]
    pairs = [(row, answer) for row, _, answer in found]
    said = {"tuned": verdicts(pairs, model, tokenizer)}
    untuned, plain = models.load("smollm2")
    some = [(row, answer) for row, _, answer in hundred()]
    said["untuned, the hundred"] = verdicts(some, untuned, plain)
    print(report(said["tuned"], truth))
    record.keep(
        "judge",
        "a judge tuned on answers about other facts, and the untuned student as one: "
        "how much each calls an answer right (logit of yes less that of no), in both "
        "orders; by readers: a 1 where each marked the answer right, by id and who",
        [f"larkfield/{name}.jsonl" for name in FILES] + ["recorded/rivals_facts.json"],
        {
            "prompt": JUDGE,
            "recipe": RECIPE,
            "tuned on": len(tuning_rows()),
            "ids": [row["id"] for row, _, _ in found],
            "who": [who for _, who, _ in found],
            "right by keys": record.marks(truth),
            "hundred": [[row["id"], who] for row, who, _ in hundred()],
            "right by readers": READERS,
            "says right": said,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    model, tokenizer = tuned()
    if options.choose:
        choose(model, tokenizer)
    if options.write:
        write(model, tokenizer)


if __name__ == "__main__":
    main()
