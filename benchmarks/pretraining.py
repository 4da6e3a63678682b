"""How fast `tiny` is pretrained and what it is worth: python benchmarks/pretraining.py

speed     tokens per second of helpers.pretraining beside a plain loop, in turns, and
          the share of what the processor reaches in one large matrix product
bits      bits per byte of the shipped model, a trigram table and xz -9 on the held-out
          documents, the sample of them in data/, the handbook and a page of prose
samples   what the shipped model writes after twenty openings, uncut
load      seconds to load the shipped model in a warm process, and its size on disk
The first two need the corpus: python -m tools.tiny corpus, then tokenizer
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from pathlib import Path
from unittest import mock

from helpers import models, pretraining, records
from tools.tiny import corpus

import torch
import transformers

CORPUS = Path("outputs/pretraining")


def plain_loop(model, sequences, steps: int, batch: int = 8) -> list[float]:
    """Seconds of each step of a tutorial's loop: autocast and the model's own loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    seconds = []
    for step in range(steps + 2):
        start = time.perf_counter()
        ids = sequences[step * batch : (step + 1) * batch].long()
        with torch.autocast("cpu", torch.bfloat16, enabled=models.native_bfloat16()):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return seconds


def ours(
    model, sequences, steps: int, batch: int = 8, compiled: bool = False
) -> list[float]:
    """Seconds of each step of helpers.pretraining.pretrain."""
    marks = [time.perf_counter()]
    pretraining.pretrain(
        model,
        sequences,
        (steps + 2) * batch * sequences.shape[1],
        batch=batch,
        compiled=compiled,
        report=lambda row: marks.append(time.perf_counter()),
    )
    return [b - a for a, b in zip(marks, marks[1:], strict=False)]


def with_adamw(model, sequences, steps: int) -> list[float]:
    """Compiled, but moved by the plain loop's optimizer: what Muon costs."""

    def adamw(model):
        return [torch.optim.AdamW(model.parameters())]

    with mock.patch.object(pretraining, "build_optimizers", adamw):
        return ours(model, sequences, steps, compiled=True)


def peak_flops(size: int = 2048) -> float:
    """Operations per second of one large bfloat16 matrix product, the best of ten."""
    a, b = (torch.randn(size, size, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def flops_per_token(model, length: int) -> float:
    """Of a training step: 6 per weight that multiplies, and those of attention."""
    config = model.config
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    attention = 12 * config.num_hidden_layers * config.hidden_size * length
    return 6 * weights + attention


def speed(rounds: int, steps: int) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(CORPUS / "tokenizer")
    texts = corpus.read_texts(CORPUS / "train.jsonl")[:4000]
    sequences = pretraining.cut_sequences(texts, tokenizer, 512)
    loops = {
        "plain loop": plain_loop,
        "pretrain": ours,
        "pretrain --compile": functools.partial(ours, compiled=True),
        "the same with AdamW": with_adamw,
    }
    seconds = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            torch.manual_seed(0)
            model = pretraining.build_model(tokenizer).train()
            seconds[name] += loop(model, sequences, steps)[2:]  # the first two warm up
    peak = peak_flops()
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, second in middle.items():
        rate = 8 * 512 / second
        share = rate * flops_per_token(model, 512) / peak
        print(
            f"{name:<20}{rate:8,.0f} tokens/s (median of {len(seconds[name])} steps), "
            f"{share:.0%} of {peak / 1e9:,.0f} GFLOP/s in bfloat16"
        )
        print(f"{'':<20}{middle['plain loop'] / second:.2f} times the plain loop")


def bits() -> None:
    model, tokenizer = models.load("tiny")
    texts = corpus.read_texts(CORPUS / "train.jsonl")
    handbook = sorted((records.DATA / "larkfield" / "handbook").glob("*.md"))
    for name, documents in {
        "held-out documents": corpus.read_texts(CORPUS / "heldout.jsonl"),
        "sample of them": [
            row["text"] for row in records.read(records.DATA / "heldout_sample.jsonl")
        ],
        "handbook": [path.read_text(encoding="utf-8") for path in handbook],
        "plain prose": [(records.DATA / "plain_prose.txt").read_text("utf-8")],
    }.items():
        tiny = pretraining.bits_per_byte(model, tokenizer, documents)
        table = pretraining.trigram_bits_per_byte(texts, tokenizer, documents)
        packed = pretraining.xz_bits_per_byte(texts, documents)
        print(
            f"{name:<20}tiny {tiny:.3f}  trigrams {table:.3f}  xz -9 {packed:.3f}",
            flush=True,
        )


OPENINGS = """The weather
In the morning
She opened the door and
My fellow citizens,
The word "river" means
To install the package,
The function returns
It was a cold night, and
Once upon a time
The President of the United States
The noun storm means
This option
A good teacher
The whale
If you want to
The capital of France is
Question: What is rain? Answer:
Two and two make
In 1945
My name is""".splitlines()


def samples(tokens: int = 60) -> None:
    """Sampled, not greedy: temperature 0.8 among the likeliest 95 %, seed 0."""
    model, tokenizer = models.load("tiny")
    torch.manual_seed(0)
    for opening in OPENINGS:
        ids = tokenizer(opening, return_tensors="pt")
        written = model.generate(
            input_ids=ids["input_ids"],
            attention_mask=ids["attention_mask"],
            max_new_tokens=tokens,
            do_sample=True,
            temperature=0.8,
            top_p=0.95,
        )
        new = written[0, ids["input_ids"].shape[1] :]
        text = tokenizer.decode(new, skip_special_tokens=True)
        end = " *(ended)*" if tokenizer.eos_token_id in new else ""
        print(f"- **{opening}**{' '.join(text.splitlines())}{end}")


def load() -> None:
    models.load("tiny")
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        models.load("tiny")
        seconds.append(time.perf_counter() - start)
    size = sum(path.stat().st_size for path in models.TINY.iterdir())
    weights = (models.TINY / "model.safetensors").stat().st_size
    print(f"loads in {statistics.median(seconds):.2f} s (median of 5, warm)")
    print(f"{size / 2**20:.1f} MB on disk, {weights / 2**20:.1f} of them weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["speed", "bits", "samples", "load"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="of a round (default 6)")
    options = parser.parse_args()
    if options.what == "speed":
        speed(options.rounds, options.steps)
    else:
        {"bits": bits, "samples": samples, "load": load}[options.what]()


if __name__ == "__main__":
    main()
