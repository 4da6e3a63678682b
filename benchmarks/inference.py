"""`generate` beside one prompt at a time: python benchmarks/inference.py

Speed: 64 test questions to the student, in batches, in batches without the cache of the
beginning that they share, and one by one, in the same run.
Sameness: greedy answers in batches equal those one by one, for models tuned on the core
rows and held in float32, prompts of 3 to 200 tokens, 48 new tokens; it tunes both
models first where outputs/ does not hold them (some minutes).
"""

from __future__ import annotations

import time
from unittest import mock

from helpers import inference, models, records
from tools.student import tune

import torch

COUNT, NEW = 64, 48


def batched(prompts, model, tokenizer):
    return inference.generate(prompts, model, tokenizer, max_new_tokens=NEW)


def nothing_shared(prompts, model, tokenizer):
    with mock.patch.object(inference, "SHARED_PREFIX", 10**6):
        return batched(prompts, model, tokenizer)


def one_by_one(prompts, model, tokenizer):
    return [
        inference.generate(p, model, tokenizer, max_new_tokens=NEW) for p in prompts
    ]


def speed(rows) -> None:
    model, tokenizer = models.load("smollm2")
    prompts = [records.prompt(row) for row in rows[:COUNT]]
    inference.generate(prompts[:2], model, tokenizer, max_new_tokens=4)  # warm up
    seconds = {}
    for ask in (batched, nothing_shared, one_by_one):
        started = time.perf_counter()
        ask(prompts, model, tokenizer)
        seconds[ask] = time.perf_counter() - started
        ratio = seconds[ask] / seconds[batched]
        print(f"{COUNT} prompts, {ask.__name__}: {seconds[ask]:.1f} s, {ratio:.2f}")


def sameness(name: str) -> None:
    tuned, tokenizer = tune(name, seed=0)
    model = tuned.model.float()
    # from 3 to 200 tokens: the text of the handbook, cut at growing lengths
    text = (records.DATA / "larkfield" / "handbook").glob("*.md")
    ids = tokenizer("\n".join(p.read_text(encoding="utf-8") for p in sorted(text)))
    ids = ids.input_ids
    prompts = []
    for i in range(COUNT):
        length = 3 + round(i * 197 / (COUNT - 1))
        prompts.append(tokenizer.decode(ids[i * 90 : i * 90 + length]))
    together = batched(prompts, model, tokenizer)
    alone = one_by_one(prompts, model, tokenizer)
    same = sum(a == b for a, b in zip(together, alone, strict=True))
    print(f"{name}, float32: {same} of {COUNT} answers the same", flush=True)


if __name__ == "__main__":
    test = records.read(records.DATA / "larkfield" / "faq_test.jsonl")
    print(f"{torch.get_num_threads()} threads")
    speed(test)
    sameness("tiny")
    sameness("smollm2")
