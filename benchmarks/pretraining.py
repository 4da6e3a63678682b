"""How fast `tiny` is pretrained and what it is worth: python benchmarks/pretraining.py

speed     tokens per second of helpers.pretraining beside a plain loop, in turns, and
          the share of what the processor reaches in one large matrix product
bits      bits per byte of the shipped model, a trigram table and xz -9 on the held-out
          documents, the handbook and a page of plain prose
Needs the corpus: python -m helpers.pretraining corpus, then tokenizer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
import transformers

from helpers import models, pretraining, records

CORPUS = Path("outputs/pretraining")


def plain_loop(model, sequences, steps: int, batch: int = 8) -> list[float]:
    """Seconds of each step of a tutorial's loop: autocast and the model's own loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    seconds = []
    for step in range(steps):
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


def ours(model, sequences, steps: int, batch: int = 8) -> list[float]:
    """Seconds of each step of helpers.pretraining.pretrain."""
    marks = [time.perf_counter()]
    pretraining.pretrain(
        model,
        sequences,
        steps * batch * sequences.shape[1],
        batch=batch,
        report=lambda row: marks.append(time.perf_counter()),
    )
    return [b - a for a, b in zip(marks, marks[1:], strict=False)]


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
    texts = pretraining.read_texts(CORPUS / "train.jsonl")[:4000]
    sequences = pretraining.cut_sequences(texts, tokenizer, 512)
    seconds = {"plain loop": [], "pretrain": []}
    for _ in range(rounds):
        for name, loop in (("plain loop", plain_loop), ("pretrain", ours)):
            torch.manual_seed(0)
            model = pretraining.build_model(tokenizer).train()
            seconds[name] += loop(model, sequences, steps)[2:]  # the first two warm up
    peak = peak_flops()
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, second in middle.items():
        rate = 8 * 512 / second
        share = rate * flops_per_token(model, 512) / peak
        print(
            f"{name:<12}{rate:8,.0f} tokens/s (median of {len(seconds[name])} steps), "
            f"{share:.0%} of {peak / 1e9:,.0f} GFLOP/s in bfloat16"
        )
    print(f"ratio {middle['plain loop'] / middle['pretrain']:.2f}")


def bits() -> None:
    model, tokenizer = models.load("tiny")
    texts = pretraining.read_texts(CORPUS / "train.jsonl")
    handbook = sorted((records.DATA / "larkfield" / "handbook").glob("*.md"))
    for name, documents in {
        "held-out documents": pretraining.read_texts(CORPUS / "heldout.jsonl"),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["speed", "bits"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="3 or more (default 8)")
    options = parser.parse_args()
    if options.what == "speed":
        speed(options.rounds, options.steps)
    else:
        bits()


if __name__ == "__main__":
    main()
