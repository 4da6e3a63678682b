"""Tokens: a prompt and its completion in, ids and labels out, padded into batches.

In: {"prompt", "completion"} and a tokenizer.  Out: lists of ids, tensors of a batch.
Knows nothing of records, templates or models: token ids and positions only.
"""

from __future__ import annotations

import random
import warnings

import torch

IGNORE = -100  # the label that torch.nn.CrossEntropyLoss leaves out by default


def prompt_mask(prompt_length: int, input_ids: list[int]) -> list[int]:
    """Labels for causal-LM finetuning: of prompt and answer only the answer is learnt.

    input_ids: token ids of prompt + completion + end-of-text, length n.
    Returns labels, length n: -100 on the first `prompt_length` places, else the id.
    Masked by position, never by id: the end-of-text token is learnt even where padding
    has the same id.
    Raises ValueError when nothing is left to learn.
    """
    if prompt_length >= len(input_ids):
        raise ValueError(
            f"prompt takes {prompt_length} of {len(input_ids)} tokens, nothing is left "
            "to learn: raise max_length or shorten the prompt"
        )
    return [IGNORE] * prompt_length + input_ids[prompt_length:]


def encode(example: dict[str, str], tokenizer, max_length: int = 512) -> dict:
    """Token ids and labels of one example, end-of-text included.

    A row longer than max_length is cut at its right end: the end of the answer and the
    end-of-text token go, the prompt stays whole.
    Returns {"input_ids", "labels"}, lists of the same length, at most max_length, and
    "cut", the number of tokens that did not fit.
    Raises ValueError when no token of the answer fits.
    """
    prompt = tokenizer(example["prompt"], add_special_tokens=False).input_ids
    completion = tokenizer(example["completion"], add_special_tokens=False).input_ids
    whole = prompt + completion + [tokenizer.eos_token_id]
    input_ids = whole[:max_length]
    return {
        "input_ids": input_ids,
        "labels": prompt_mask(len(prompt), input_ids),
        "cut": len(whole) - len(input_ids),
    }


def encode_all(examples: list[dict], tokenizer, max_length: int = 512) -> list[dict]:
    """`encode` for every example; warns of the rows that were cut, by number.

    Returns a list of {"input_ids", "labels"}.
    Raises ValueError that names the row (from 1) of which nothing could be learnt.
    """
    rows, cut = [], []
    for number, example in enumerate(examples, 1):
        try:
            row = encode(example, tokenizer, max_length)
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error
        if row.pop("cut"):
            cut.append(number)
        rows.append(row)
    if cut:
        few = ", ".join(map(str, cut[:5])) + (", ..." if len(cut) > 5 else "")
        warnings.warn(
            f"{len(cut)} of {len(rows)} rows are longer than {max_length} tokens and "
            f"lost the end of their answer (rows {few}): shorten them, or raise "
            "max_length",
            stacklevel=2,
        )
    return rows


def collate(rows: list[dict], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Pad rows at the right to the longest of them.

    rows: n of {"input_ids", "labels"}.
    Returns int64 tensors of shape (n, longest): input_ids; attention_mask, 1 on real
    tokens; labels, -100 on padding and prompts.
    """
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(name, filler):
        return torch.tensor(
            [row[name] + [filler] * (longest - len(row[name])) for row in rows]
        )

    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    return {
        "input_ids": padded("input_ids", pad_token_id),
        "attention_mask": (torch.arange(longest) < lengths[:, None]).long(),
        "labels": padded("labels", IGNORE),
    }


def answers_only(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch whose output head runs on answer positions only: same loss, less work.

    The head turns each position into scores over the whole vocabulary, the largest
    single product in a small model; on prompt and padding the loss ignores them.
    Position t predicts token t + 1, so it is kept when the label at t + 1 is learnt.
    Returns the batch with logits_to_keep, bool (n, longest), and shift_labels, int64
    (kept positions,), added: the models of transformers take both beside labels.
    """
    following = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORE)
    keep = following != IGNORE
    return batch | {"logits_to_keep": keep, "shift_labels": following[keep]}


def batch_order(
    lengths: list[int], batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """Which rows go into which batch: alike in length, so that little is padded.

    Rows are shuffled, sorted by length within pools of eight batches, cut into batches,
    and the batches shuffled; the one that is not full comes last.
    Returns lists of row numbers (from 0), each row once. The order hangs on seed and
    epoch alone, so that a resumed run sees what an unbroken one would have seen.
    """
    shuffle = random.Random(f"{seed}-{epoch}")
    order = list(range(len(lengths)))
    shuffle.shuffle(order)
    batches = []
    for start in range(0, len(order), 8 * batch_size):
        pool = sorted(order[start : start + 8 * batch_size], key=lengths.__getitem__)
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    last = [batches.pop()] if len(batches[-1]) < batch_size else []
    shuffle.shuffle(batches)
    return batches + last
