"""A judge of answers, tuned and measured: python -m tools.judging

It reads a question, its right answer and another answer, quotes what has to be said,
and ends with Right or Wrong. Tuned on answers to questions about some facts, it is
chosen on other facts and scored, once, on still others, with answers that real systems
gave to the test questions. What is right there is known from key facts, and for a
hundred of them from two readers too, who did not see the keys. The untuned student, as
the warning, names a letter, with "yes" at A and at B.
Options: --choose marks the validation facts only; --write scores the test and records.
"""

from __future__ import annotations

import argparse
import json
import random
import re

from helpers import evaluation, inference, models, records, templates, training
from tools import reading, record

import torch

# as the tuned judge is asked, with the right answer above the one given and below it
ASKED = (
    "Question: {question}\n{first}\n{second}\n\n"
    "Does the answer given say the same as the right answer?"
)
# as lesson 07 asks the untuned student
LETTERS = (
    "Question: {question}\nRight answer: {reference}\nAnswer given: {answer}\n\n"
    "Does the answer given say the same as the right answer?\n"
    "A: {first}\nB: {second}\nReply with one letter, A or B."
)
RECIPE = {"method": "lora", "rank": 8, "learning_rate": 2e-3, "epochs": 2}
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


def prompt(row: dict, answer: str, right_first: bool) -> str:
    lines = [f"Right answer: {row['answer']}", f"Answer given: {answer or '-'}"]
    first, second = lines if right_first else lines[::-1]
    return ASKED.format(question=row["question"], first=first, second=second)


def reply(row: dict, answer: str) -> str:
    """What the judge is tuned to say: the key, as the right answer has it, and Right or
    Wrong."""
    text = row["answer"].lower()
    key = next((k for k in row["keys"] if k.lower() in text), row["keys"][0])
    return f"It has to say: {key}. {('Wrong', 'Right')[right(answer, row)]}"


def letters(row: dict, answer: str, yes_first: bool) -> str:
    first, second = ("yes", "no") if yes_first else ("no", "yes")
    asked = {"question": row["question"], "reference": row["answer"]}
    return LETTERS.format(**asked, answer=answer or "-", first=first, second=second)


def split() -> tuple[list[str], list[str], list[str]]:
    """Taught facts to (tune on, choose by, test on)."""
    facts = sorted({r["fact"] for r in records.load("faq")["train"] if r["fact"]})
    random.Random(0).shuffle(facts)
    chosen, tested = facts[:CHOSEN_BY], facts[CHOSEN_BY : CHOSEN_BY + TESTED_BY]
    return facts[CHOSEN_BY + TESTED_BY :], chosen, tested


def cases(facts: list[str], seed: int = 0) -> list[tuple[dict, str]]:
    """(row, answer) on these facts: other wordings of the right answer, answers about
    the facts that are closest, the right answer with another number or name, an answer
    that declines; one in five behind another sentence, as in a long answer."""
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
            for answer in answers:
                if rng.random() < 0.2:
                    before = rng.choice(by_fact[rng.choice(near[fact])])["answer"]
                    answer = f"{before} {answer}"
                out.append((row, answer))
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
        asked = prompt(row, answer, rng.random() < 0.5)
        out.append({"prompt": asked, "completion": reply(row, answer)})
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
def leans(texts: list[str], words: tuple[str, str], model, tokenizer) -> list[float]:
    """For each text how much the logit of words[0] as the next token is above that of
    words[1]."""
    one, two = (tokenizer.encode(w, add_special_tokens=False)[0] for w in words)
    # as in inference.generate: frozen output weights are else copied for each row
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda layer, given: (given[0].contiguous(), *given[1:])
    )
    out = []
    for start in range(0, len(texts), 16):
        batch = tokenizer(
            texts[start : start + 16],
            add_special_tokens=False,
            return_tensors="pt",
            padding=True,
            padding_side="left",
        )
        last = model(**batch, logits_to_keep=1).logits[:, -1].float()
        out += (last[:, one] - last[:, two]).tolist()
    hook.remove()
    return [round(x, 3) for x in out]


def chats(prompts: list[str], tokenizer) -> list[str]:
    found = [records.prompt({"instruction": text}) for text in prompts]
    return [templates.prompt(chat, tokenizer).text for chat in found]


def verdicts(found: list[tuple[dict, str]], model, tokenizer) -> dict[str, list[float]]:
    """How much each answer is called right, with the right answer above the one given
    and below it: the logit of Right less that of Wrong, behind the judge's own words.
    """
    out = {}
    for order, right_first in (("right one above", True), ("right one below", False)):
        asked = [prompt(row, answer, right_first) for row, answer in found]
        chat = [records.prompt({"instruction": text}) for text in asked]
        said = inference.generate(chat, model, tokenizer, 32)
        quoted = [re.sub(r" ?(Right|Wrong)\W*$", "", text) for text in said]
        texts = [a + b for a, b in zip(chats(asked, tokenizer), quoted, strict=True)]
        out[order] = leans(texts, (" Right", " Wrong"), model, tokenizer)
    return out


def named(found: list[tuple[dict, str]], model, tokenizer) -> dict[str, list[float]]:
    """How much the untuned student calls each answer right, by letters: the logit of
    that for yes less that for no, with yes at A and at B."""
    out = {}
    for order, yes_first in (("yes at A", True), ("yes at B", False)):
        asked = [letters(row, answer, yes_first) for row, answer in found]
        lean = leans(chats(asked, tokenizer), ("A", "B"), model, tokenizer)
        out[order] = lean if yes_first else [-x for x in lean]
    return out


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
    said["untuned, the hundred"] = named(some, untuned, plain)
    print(report(said["tuned"], truth))
    record.keep(
        "judge",
        "a judge tuned on answers about other facts, and the untuned student as one: "
        "how much each calls an answer right (a logit less the other), in both orders; "
        "by readers: a 1 where each marked the answer right, by id and who",
        [f"larkfield/{name}.jsonl" for name in FILES] + ["recorded/rivals_facts.json"],
        {
            "prompt": ASKED,
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
