"""How fast `finetune` is beside the usual ways: python benchmarks/training.py

Six ways tune the same layers of the student on the same rows, one after the other, each
in a process of its own: finetune; finetune with what an epoch's end costs, checkpoint
and validation loss; a bare loop over the same batches; Trainer with bf16, random order
and full logits; batch 1 in float32; TRL's SFTTrainer with its defaults. Large memory
pages, which importing helpers asks for, are left to the first three. Prints seconds per
epoch, the ratio to finetune, and peak memory. --method lora: the first three only.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial

from helpers import models, records, templates, tokens, training

import peft
import torch
import transformers
from transformers import Trainer, TrainingArguments


def ours(model, tokenizer, rows, **more):
    return training.finetune(
        model, tokenizer, rows, epochs=1, method=METHOD, **more
    ).seconds


def with_epoch_end(model, tokenizer, rows):
    held_out = records.core(records.load("faq")["validation"])
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "tuned")
        return ours(model, tokenizer, rows, validation=held_out, output=output)


def bare_loop(model, tokenizer, rows):
    encoded = tokens.encode_all([records.messages(row) for row in rows], tokenizer)
    lengths = [len(row["input_ids"]) for row in encoded]
    if METHOD == "lora":
        shape = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
        model = peft.get_peft_model(model, shape)
    else:
        choose_top_half(model)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)
    started = time.perf_counter()
    for chosen in tokens.batch_order(lengths, 8, seed=0, epoch=0):
        batch = tokens.collate([encoded[i] for i in chosen], tokenizer.pad_token_id)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**tokens.answers_only(batch)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
    return time.perf_counter() - started


def choose_top_half(model) -> None:
    """Gradients in the student's upper layers, those weights in float32."""
    body = model.base_model
    model.requires_grad_(False)
    for part in (*body.layers[len(body.layers) // 2 :], body.norm):
        part.requires_grad_(True)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def plain_trainer(model, tokenizer, rows, batch_size=8, bf16=True):
    rows = tokens.encode_all([records.messages(row) for row in rows], tokenizer)
    choose_top_half(model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=_arguments(TrainingArguments, folder, batch_size, bf16=bf16),
            train_dataset=rows,
            data_collator=partial(tokens.collate, pad_token_id=tokenizer.pad_token_id),
        )
        return _timed(trainer)


def batch_of_one(model, tokenizer, rows):
    return plain_trainer(model.float(), tokenizer, rows, batch_size=1, bf16=False)


def trl(model, tokenizer, rows):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    prompts = [templates.prompt(records.prompt(row), tokenizer).text for row in rows]
    answers = [records.answer(row) for row in rows]
    examples = Dataset.from_dict({"prompt": prompts, "completion": answers})
    choose_top_half(model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=_arguments(SFTConfig, folder, 8),  # bf16 and checkpointing by default
            train_dataset=examples,
            processing_class=tokenizer,
        )
        return _timed(trainer)


def _arguments(kind, folder, batch_size, **more):
    return kind(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=batch_size,
        learning_rate=3e-4,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=kind is not TrainingArguments,
        use_cpu=True,
        **more,
    )


def _timed(trainer):
    trainer.remove_callback(transformers.PrinterCallback)
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started


METHOD = os.environ.get("BENCHMARK_METHOD", "top half")
WAYS = {
    "finetune": ours,
    "finetune, with an epoch's end": with_epoch_end,
    "a bare loop": bare_loop,
    "Trainer, bf16, random order, full logits": plain_trainer,
    "Trainer, batch 1, float32": batch_of_one,
    "TRL SFTTrainer, defaults": trl,
}


def measure(way: str, count: int) -> str:
    """Seconds and peak memory of one way, in a process of its own: "seconds GB"."""
    rows = records.read(records.DATA / "larkfield" / "faq_train.jsonl")
    rows = rows[:: len(rows) // count][:count]
    model, tokenizer = models.load("smollm2")
    seconds = WAYS[way](model, tokenizer, rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"{seconds:.2f} {peak:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=96, help="(default 96)")
    parser.add_argument("--method", default=METHOD, choices=["top half", "lora"])
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print("result", measure(options.way, options.rows))
        return
    print(f"{torch.get_num_threads()} threads, {options.rows} rows, one epoch")
    first = None
    for way in [*WAYS][: 3 if options.method == "lora" else None]:
        command = [sys.executable, __file__, "--way", way, "--rows", str(options.rows)]
        pages = {"THP_MEM_ALLOC_ENABLE": "0"} if way.startswith("T") else {}
        settings = {"COURSE_QUIET": "1", "BENCHMARK_METHOD": options.method}
        environment = {**os.environ, **pages, **settings}
        run = subprocess.run(command, capture_output=True, text=True, env=environment)
        result = [x for x in run.stdout.splitlines() if x.startswith("result ")]
        if not result:
            print(f"{way:<42} failed: {run.stderr.strip().splitlines()[-1]}")
            continue
        seconds, peak = map(float, result[-1].split()[1:])
        first = first or seconds
        print(
            f"{way:<42}{seconds:7.1f} s {seconds / first:5.2f} times {peak:5.1f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
