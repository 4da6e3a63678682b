"""Inference: prompts in, answers out, in the same order.

In: prompts as text, made by a template.  Out: what the model wrote after each, as text.
Knows nothing of records or right answers. Decoding is greedy: the same prompts give the
same answers.
"""

from __future__ import annotations

import sys
import warnings

import torch
from tqdm import tqdm
from transformers import DynamicCache

from helpers import models, templates

BATCH_TOKENS = 8192  # of prompts and answers in one batch: bounds the memory
SHARED_PREFIX = 128  # tokens that all prompts begin with, from which a cache pays


def generate(
    prompts: str | list[str], model, tokenizer, max_new_tokens: int = 64
) -> str | list[str]:
    """Continue each prompt until end-of-text or max_new_tokens, prompt not included.

    prompts: n texts, or a single one. Those of like length run together, padded at the
    left; a long beginning that all share (a document before many questions) is computed
    once.
    max_new_tokens: length limit of each answer, the prompt not counted.
    Returns n answers in the order of the prompts; for a single text, a single answer.
    Raises ValueError for an empty prompt and for one that leaves the answer no room.
    Warns when the model was tuned with another template than the one the prompts show.
    """
    single = isinstance(prompts, str)
    prompts = [prompts] if single else list(prompts)
    if not prompts:
        return []
    _check_template(prompts, model)
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in prompts]
    context = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    for number, row in enumerate(ids, 1):
        if not row:
            raise ValueError(
                f"prompt {number} is empty: give the model something to read"
            )
        if len(row) + max_new_tokens > context:
            raise ValueError(
                f"prompt {number} has {len(row)} tokens, which with max_new_tokens="
                f"{max_new_tokens} is over the model's context of {context}: shorten "
                "the prompt or lower max_new_tokens"
            )
    training = model.training
    model.eval()
    shared = _shared_prefix(ids)
    cache = _prefix_cache(model, ids[0][:shared]) if shared else None
    answers = [""] * len(ids)
    show = len(ids) > 20 and not models.quiet()
    with tqdm(total=len(ids), disable=not show, file=sys.stdout, leave=False) as bar:
        for batch in _batches([len(row) for row in ids], max_new_tokens):
            rows = [ids[i] for i in batch]
            for i, new in zip(
                batch,
                _generate(rows, model, tokenizer, max_new_tokens, shared, cache),
                strict=True,
            ):
                answers[i] = tokenizer.decode(new, skip_special_tokens=True).strip()
            bar.update(len(batch))
    model.train(training)
    return answers[0] if single else answers


def _check_template(prompts: list[str], model) -> None:
    tuned_with = getattr(model.config, "prompt_template", None)
    template = templates.ALL.get(tuned_with)
    wrong = [p for p in prompts if template and not template.fits(p)]
    if wrong:
        used = templates.recognise(wrong) or "no template known here"
        warnings.warn(
            f"this model was tuned with the template {tuned_with}, but the prompts "
            f"show {used}: its answers will be worse than it can do",
            stacklevel=3,
        )


def _batches(lengths: list[int], max_new_tokens: int) -> list[list[int]]:
    """Row numbers in groups of like length, each within BATCH_TOKENS, at most 64."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    batches, start = [], 0
    while start < len(order):
        longest = lengths[order[start]] + max_new_tokens  # the first is the longest
        size = max(1, min(64, BATCH_TOKENS // longest))
        batches.append(order[start : start + size])
        start += size
    return batches


@torch.inference_mode()
def _generate(rows, model, tokenizer, max_new_tokens, shared, cache) -> list[list[int]]:
    """New token ids of a batch. Padding stands between shared prefix and the rest."""
    longest = max(map(len, rows))
    pad = [longest - len(row) for row in rows]
    filler = tokenizer.pad_token_id
    input_ids = torch.tensor(
        [r[:shared] + [filler] * p + r[shared:] for r, p in zip(rows, pad, strict=True)]
    )
    mask = torch.tensor(
        [
            [1] * shared + [0] * p + [1] * (len(r) - shared)
            for r, p in zip(rows, pad, strict=True)
        ]
    )
    past = None
    if cache is not None:
        past = DynamicCache(config=model.config)
        for layer, (keys, values) in enumerate(cache):
            shape = (len(rows), -1, -1, -1)
            past.update(keys.expand(shape), values.expand(shape), layer)
    written = model.generate(
        input_ids=input_ids.to(model.device),
        attention_mask=mask.to(model.device),
        past_key_values=past,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
    )
    # cut by token count: decoded text need not give back the prompt's characters
    return written[:, longest:].tolist()


def _shared_prefix(ids: list[list[int]]) -> int:
    """How many tokens all prompts begin with, when a cache of them pays, else 0."""
    if len(ids) < 2:
        return 0
    shortest = min(map(len, ids)) - 1  # at least one token is left to each prompt
    first, last = min(ids), max(ids)  # in sorted order these two differ the soonest
    shared = 0
    while shared < shortest and first[shared] == last[shared]:
        shared += 1
    return shared if shared >= SHARED_PREFIX else 0


@torch.inference_mode()
def _prefix_cache(model, prefix: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of a prefix, per layer, each (1, heads, tokens, size)."""
    ids = torch.tensor([prefix], device=model.device)
    past = model(ids, use_cache=True, logits_to_keep=1).past_key_values
    return [(layer.keys, layer.values) for layer in past.layers]
