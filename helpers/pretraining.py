"""Pretraining: raw text in, a base model out, and what it is worth in bits per byte.

What lesson 02 shows; `python -m tools.tiny` makes the model `tiny` with it. Knows plain
documents only: nothing of records, templates or any finetuning data.
"""

import lzma
import math
import os
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from helpers import whole
from helpers.models import native_bfloat16, quiet

import numpy as np
import torch
import transformers
from tqdm import tqdm

MICRO_BATCH = 2  # sequences per backward pass: with more, logits fall out of the cache


def build_model(tokenizer):
    """GPT-NeoX, the architecture of Pythia, with random weights: 6.8 M parameters."""
    config = transformers.GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,  # of 64: half the time of 8 heads of 32 in attention
        intermediate_size=1024,
        max_position_embeddings=512,
        hidden_act="gelu",
        hidden_dropout=0.0,
        attention_dropout=0.0,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return transformers.GPTNeoXForCausalLM(config)


def cut_sequences(texts: list[str], tokenizer, length: int) -> torch.Tensor:
    """Documents joined by end-of-text, cut to shape (sequences, length), int32."""
    encodings = tokenizer.backend_tokenizer.encode_batch(texts)
    end = [tokenizer.eos_token_id]
    ids = np.concatenate([np.array(e.ids + end, dtype=np.int32) for e in encodings])
    if len(ids) < length:
        raise ValueError(f"{len(ids)} tokens of text do not fill one of {length}")
    return torch.from_numpy(ids[: len(ids) // length * length].reshape(-1, length))


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first 5 % of the steps, then a cosine down to 10 %."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step + 1 - warmup) / (steps - warmup)
    return peak * (0.55 + 0.45 * math.cos(math.pi * done))


def print_progress(row: dict) -> None:
    """A line every 20 steps, and one for the last."""
    if row["step"] % 20 == 0 or row["step"] == row["steps"]:
        line = "step {step}/{steps}  loss {loss:.3f}  {tokens_per_second:,.0f} tokens/s"
        print((line + "  {minutes_left:.1f} minutes left").format(**row), flush=True)


def build_optimizers(model) -> list[torch.optim.Optimizer]:
    """Muon (Jordan 2024) for the matrices of the layers, AdamW for all the rest.

    Muon's updates are scaled to the size of AdamW's, so one learning rate does for
    both. Embeddings, biases and layer norms are not matrices that multiply. AdamW alone
    where the processor does not multiply bfloat16 natively.
    """
    layers = [p for p in model.base_model.layers.parameters() if p.ndim > 1]
    inside = {id(p) for p in layers}
    rest = [p for p in model.parameters() if id(p) not in inside]
    vectors = {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0}
    tables = {"params": [p for p in rest if p.ndim > 1]}
    with_muon = native_bfloat16()  # it multiplies in that: seconds a step if emulated
    if not with_muon:
        tables["params"] += layers
    adamw = torch.optim.AdamW([tables, vectors], betas=(0.9, 0.95), weight_decay=0.1)
    if not with_muon:
        return [adamw]
    muon = torch.optim.Muon(layers, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    return [muon, adamw]


def pretrain(
    model,
    sequences: torch.Tensor,
    tokens: int,
    learning_rate: float = 5e-3,
    batch: int = 8,
    seed: int = 0,
    checkpoint: Path | None = None,
    checkpoint_minutes: float = 3,
    report: Callable[[dict], None] = print_progress,
    compiled: bool = False,
) -> list[dict]:
    """Trains `model` in place on next-token prediction; sequences: (n, length) of ids.

    tokens: how many to see, repeats included. batch: sequences per optimizer step.
    checkpoint: a file written every few minutes. Where it exists, training goes on
    from it, on the same curve: the order of the data hangs on the seed alone.
    compiled: by torch.compile, which needs a C++ compiler and a minute to begin with.
    Returns, and gives to `report`, a row per step: step, tokens so far, loss (nats
    per token), learning_rate, seconds so far and what `print_progress` shows.
    Raises ValueError when the checkpoint belongs to a run with other settings.
    """
    n, length = sequences.shape
    steps = max(1, tokens // (batch * length))
    generator = np.random.default_rng(seed)
    epochs = range(-(-steps * batch // n))
    order = np.concatenate([generator.permutation(n) for _ in epochs])
    optimizers = build_optimizers(model)
    settings = {"steps": steps, "learning_rate": learning_rate, "batch": batch}
    settings |= {"seed": seed, "data": zlib.crc32(sequences.numpy().tobytes())}
    log = []
    if checkpoint and checkpoint.exists():
        try:
            state = torch.load(checkpoint, weights_only=True)
        except Exception as error:  # torch's are of many kinds
            fault = f"{checkpoint} is damaged ({type(error).__name__})"
            raise OSError(f"{fault}: delete it, and the run begins anew") from None
        if state["settings"] != settings:
            raise ValueError(
                f"{checkpoint} is of a run with {state['settings']}, this one has "
                f"{settings}: delete the file, or use the same settings to go on"
            )
        model.load_state_dict(state["model"])
        for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
        log = state["log"]
        print(f"{checkpoint}: going on after step {len(log)}", flush=True)
    loss_of = torch.compile(_loss) if compiled else _loss
    first, saved = len(log), time.monotonic()
    begin = saved - (log[-1]["seconds"] if log else 0)
    model.train()
    for step in range(first, steps):
        rate = learning_rate_at(step, steps, learning_rate)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss = 0.0
        rows = sequences[order[step * batch : (step + 1) * batch]]
        for ids in rows.split(MICRO_BATCH):
            with torch.autocast("cpu", torch.bfloat16, enabled=native_bfloat16()):
                share = loss_of(model, ids.long()) * len(ids) / batch
            share.backward()
            loss += share.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        seconds = time.monotonic() - begin
        row = {"step": step + 1, "steps": steps, "tokens": (step + 1) * batch * length}
        row |= {"loss": loss, "learning_rate": rate, "seconds": seconds}
        row["tokens_per_second"] = row["tokens"] / seconds
        row["minutes_left"] = seconds / 60 * (steps / (step + 1) - 1)
        log.append(row)
        if checkpoint and time.monotonic() - saved >= 60 * checkpoint_minutes:
            states = [optimizer.state_dict() for optimizer in optimizers]
            state = {"model": model.state_dict(), "optimizers": states}
            partial = checkpoint.with_suffix(".partial")  # a kill leaves the old whole
            with whole.told(checkpoint):
                torch.save(state | {"settings": settings, "log": log}, partial)
                os.replace(partial, checkpoint)
            saved = time.monotonic()
        report(row)
    model.eval()
    return log


def _loss(model, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each next token, ids: (sequences, length)."""
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[:, :-1]).float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def watch(
    model, tokenizer, sequences: torch.Tensor, tokens: int, opening: str, **settings
) -> tuple[list[dict], dict[int, str]]:
    """Pretrains as `pretrain` does and lets the model write along the way.

    Returns the log and {step: how it continues `opening`}: before the first step,
    after a third of them, after the last. Each is drawn from the likeliest 90 %, by
    the same lots: greedy writing turns a weak net in circles.
    """

    def sample() -> str:
        training = model.training
        model.eval()
        ids = tokenizer(opening, return_tensors="pt").to(model.device)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            written = model.generate(
                input_ids=ids["input_ids"],
                attention_mask=ids["attention_mask"],
                max_new_tokens=40,
                do_sample=True,
                temperature=0.7,
                top_p=0.9,
            )
        model.train(training)
        new = written[0, ids["input_ids"].shape[1] :]
        return tokenizer.decode(new, skip_special_tokens=True).strip()

    samples = {0: sample()}

    def write(row: dict) -> None:
        bar.total = row["steps"]
        bar.set_postfix_str(f"loss {row['loss']:.1f}", refresh=False)
        bar.update()
        if row["step"] in (row["steps"] // 3, row["steps"]):
            samples[row["step"]] = sample()

    with tqdm(disable=quiet(), file=sys.stdout, leave=False, unit="step") as bar:
        log = pretrain(model, sequences, tokens, report=write, **settings)
    return log, samples


@torch.no_grad()
def bits_per_byte(model, tokenizer, text: str | list[str], length: int = 512) -> float:
    """Bits the model needs per byte of UTF-8: comparable across tokenizers, lower is
    better. text: a document or a list of them, each read after an end-of-text in
    windows of at most `length` tokens that know nothing of the window before."""
    texts = [text] if isinstance(text, str) else text
    # chat tokenizers end a turn with another token than pretraining ended a text with
    begin = tokenizer.get_vocab().get("<|endoftext|>", tokenizer.eos_token_id)
    nats = 0.0
    for document in texts:
        ids = tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
        ids = torch.tensor([[begin, *ids]], device=model.device)
        for start in range(0, ids.shape[1] - 1, length - 1):
            window = ids[:, start : start + length]
            loss = model(input_ids=window, labels=window).loss  # mean over predictions
            nats += loss.item() * (window.shape[1] - 1)
    return nats / math.log(2) / sum(len(document.encode()) for document in texts)


def trigram_bits_per_byte(texts: list[str], tokenizer, held_out: list[str]) -> float:
    """What a table of three-token runs, counted on `texts`, needs per byte of held_out.

    Interpolated with pairs, single tokens and the uniform distribution by absolute
    discounting (Ney, Essen and Kneser 1994); each document begins after end-of-text.
    """
    words, discount, bos = len(tokenizer), 0.75, [tokenizer.eos_token_id] * 2

    def runs(documents):  # int64 codes of a document's runs of 1, 2, 3 tokens
        encodings = tokenizer.backend_tokenizer.encode_batch(documents)
        ids = [np.array(bos + e.ids, dtype=np.int64) for e in encodings]
        found = []
        for order in range(3):
            parts = [
                sum(i[2 - k : len(i) - k] * words**k for k in range(order + 1))
                for i in ids
            ]
            found.append(np.concatenate(parts))
        return found

    counted, asked = runs(texts), runs(held_out)
    likely = np.full(len(asked[0]), 1 / words)
    for order in range(3):
        known, counts = np.unique(counted[order], return_counts=True)
        contexts, first = np.unique(known // words if order else known * 0, True)
        last = np.append(first[1:], len(known))
        totals = np.add.reduceat(counts, first)
        context = asked[order] // words if order else asked[order] * 0
        at = np.searchsorted(contexts, context).clip(max=len(contexts) - 1)
        seen = contexts[at] == context
        place = np.searchsorted(known, asked[order]).clip(max=len(known) - 1)
        count = np.where(known[place] == asked[order], counts[place], 0)
        left = discount * (last - first)[at] * likely  # what discounting sets free
        mixed = (np.maximum(count - discount, 0) + left) / totals[at]
        likely = np.where(seen, mixed, likely)
    return float(-np.log2(likely).sum() / sum(len(text.encode()) for text in held_out))


def xz_bits_per_byte(texts: list[str], held_out: list[str]) -> float:
    """What `xz -9` needs per byte of held_out once it has compressed `texts`."""
    before = "\n".join(texts).encode()
    after = "\n".join(held_out).encode()
    both = len(lzma.compress(before + after, preset=9))
    return 8 * (both - len(lzma.compress(before, preset=9))) / len(after)
