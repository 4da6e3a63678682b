"""Harness: a model in, its marks on tasks of EleutherAI's lm-eval out."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from pathlib import Path

from helpers import models, records

import pandas as pd


def run(
    model, tokenizer, task: str | os.PathLike, limit: int | None = None
) -> pd.DataFrame:
    """Run a multiple-choice task of EleutherAI's lm-eval on a model.

    task: one of its names, such as "arc_easy" (the data then come from the hub), or a
    YAML file that describes a task; paths in it count from the course's folder.
    limit: only so many of its items, the first ones.
    Each choice is scored by its log-probability after the prompt, with no examples
    before it and no chat template. Returns a frame with one row per item: the item's
    own fields, log_probabilities (in nats, one per choice) and correct (whether the
    right choice has the highest, which the harness calls acc).
    Raises KeyError when there is no such task.
    """
    # several seconds to import, so only where it is asked for
    import datasets
    from lm_eval import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    own = Path(task).suffix == ".yaml"
    hide = contextlib.nullcontext()
    if models.quiet():
        datasets.disable_progress_bars()
        hide = contextlib.redirect_stderr(io.StringIO())  # where its own bars go
    with hide, contextlib.chdir(models.ROOT):
        # its own tasks are thousands of files: not read where they are not needed
        manager = TaskManager(include_defaults=not own)
        tasks = manager.load(str(Path(task).absolute()) if own else task)
        # float32: rounded to bfloat16, the sums of two sentences can tie.
        # A text without a prompt begins as in pretraining, after end-of-text; by itself
        # the harness takes the tokenizer's bos, which in a chat model begins a message.
        lm = HFLM(
            model,
            tokenizer=tokenizer,
            batch_size=32,
            softmax_dtype="float32",
            prefix_token_id=tokenizer.get_vocab().get("<|endoftext|>"),
        )
        results = evaluate(lm=lm, task_dict=tasks, limit=limit, bootstrap_iters=0)
    (items,) = results["samples"].values()
    return pd.DataFrame(
        item["doc"]
        | {
            "log_probabilities": [float(value) for value, _ in item["filtered_resps"]],
            "correct": bool(item["acc"]),
        }
        for item in items
    )


def minimal_pairs(model, tokenizer) -> pd.DataFrame:
    """Which of two sentences the model finds likelier: the grammatical or the other.

    The 200 pairs of data/minimal_pairs, each two sentences that differ in a word or in
    the order of two, asked as BLiMP asks (Warstadt et al. 2020), through `run`.
    Returns a frame with one row per pair, indexed by id: phenomenon, sentence_good,
    sentence_bad, good and bad (log-probabilities of the sentences, in nats), correct
    (good is the higher). Guessing gets half of them.
    Built by hand in lesson 07, "Public benchmarks, and what tuning costs elsewhere".
    """
    task = records.DATA / "minimal_pairs" / "minimal_pairs.yaml"
    frame = run(model, tokenizer, task).set_index("id")
    frame[["good", "bad"]] = frame.pop("log_probabilities").tolist()
    columns = ["phenomenon", "sentence_good", "sentence_bad", "good", "bad", "correct"]
    return frame[columns]
