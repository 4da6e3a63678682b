"""Tokens: conversations in, ids and labels out, padded into batches.

In: messages and a tokenizer; templates turn them into text. Out: lists of ids, tensors
of a batch. Knows nothing of records or models: token ids and positions only.
"""

from __future__ import annotations

import itertools
import random
import warnings
from array import array

from helpers import templates

import torch

IGNORE = -100  # the label that torch.nn.CrossEntropyLoss leaves out by default
CHUNK = 1000  # texts that are tokenised at once


def prompt_ids(prompt: str | list[dict], tokenizer) -> list[int]:
    """Token ids of what a model is given: a text as it stands, or messages by template.

    Of messages these are the ids that a chat server writes, and training saw; what
    looks like a control token inside a message is text. A text begins with the
    begin-of-text token where the texts of the model's family do.
    """
    if isinstance(prompt, str):
        bos = tokenizer.bos_token if templates.begins_with_bos(tokenizer) else ""
        if prompt.startswith(bos) or not prompt:
            bos = ""
        prompt = templates.Rendered(bos + prompt, [], [len(bos)])
    else:
        prompt = templates.prompt(prompt, tokenizer)
    return _tokenise([prompt], tokenizer)[0][0]


def encode(
    messages: list[dict], tokenizer, max_length: int = 512, learn: str = "all"
) -> dict:
    """Token ids and labels of one conversation, ends of turns included.

    A label is the token's id where it is learnt (the assistant's turns, see
    templates.render), else -100. Masked by position, never by id: the end-of-text
    token is learnt even where padding has the same id.
    What is longer than max_length is cut at its right end: the end of the answer and
    the token that ends it go, the prompt stays whole.
    Returns {"input_ids", "labels"}, lists of the same length, at most max_length, and
    "cut", the number of tokens that did not fit.
    Raises ValueError when no token that is to be learnt fits, or as templates.render.
    Built by hand in lesson 03, "From text to tensors".
    """
    (row,) = _encode([templates.render(messages, tokenizer, learn)], tokenizer)
    return _fit(row, max_length)


def encode_all(
    conversations: list[list[dict]],
    tokenizer,
    max_length: int = 512,
    learn: str = "all",
) -> list[dict]:
    """`encode` for every conversation; warns of the rows that were cut, by number.

    Returns a list of {"input_ids", "labels"}, arrays of integers: a quarter of the
    memory of lists.
    Raises ValueError that names all rows (from 1) of which nothing could be learnt.
    """
    rows, cut, faults = [], [], {}
    for start in range(0, len(conversations), CHUNK):
        rendered = []
        for number, messages in enumerate(conversations[start : start + CHUNK], start):
            try:
                rendered.append(templates.render(messages, tokenizer, learn))
            except ValueError as error:
                faults[number + 1] = error
                rendered.append(templates.Rendered("", [], []))
        for number, row in enumerate(_encode(rendered, tokenizer), start + 1):
            try:
                row = _fit(row, max_length)
            except ValueError as error:
                faults.setdefault(number, error)
                continue
            if row.pop("cut"):
                cut.append(number)
            rows.append({name: array("i", ids) for name, ids in row.items()})
    if faults:
        lines = [f"row {number}: {faults[number]}" for number in sorted(faults)]
        more = [f"and {len(lines) - 20:,} more"] if len(lines) > 20 else []
        raise ValueError("\n".join(lines[:20] + more))
    if cut:
        few = ", ".join(map(str, cut[:5])) + (", ..." if len(cut) > 5 else "")
        warnings.warn(
            f"{len(cut)} of {len(rows)} rows are longer than {max_length} tokens and "
            f"lost the end of their answer (rows {few}): shorten them, or raise "
            "max_length",
            stacklevel=2,
        )
    return rows


def _encode(rendered: list[templates.Rendered], tokenizer) -> list[dict]:
    """Ids and labels of texts: first of all that can be turned into ids as they are,
    then of those where a token spans the seam of prompt and answer: cut there."""
    rows = []
    for part, (ids, offsets) in zip(
        rendered, _tokenise(rendered, tokenizer), strict=True
    ):
        labels = _labels(part, ids, offsets)
        if labels is None:
            seams = {place for learnt in part.learnt for place in learnt}
            cut = part._replace(cuts=sorted(seams.union(part.cuts)))
            ((ids, offsets),) = _tokenise([cut], tokenizer)
            labels = _labels(cut, ids, offsets)
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def _tokenise(rendered: list[templates.Rendered], tokenizer) -> list[tuple[list, list]]:
    """(ids, offsets) of texts, in one call; no token spans a cut.

    offsets: of each token the characters that it covers, as (first, last); where the
    tokenizer does not tell, those of the whole piece between two cuts.
    """
    pieces = []
    for row, (text, _, cuts) in enumerate(rendered):
        bounds = [0, *cuts, len(text)]
        pieces += [(row, a, text[a:b]) for a, b in itertools.pairwise(bounds) if a < b]
    fast, found = tokenizer.is_fast, [([], []) for _ in rendered]
    texts = [text for *_, text in pieces] or [""]  # of none it makes an error
    new = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=fast)
    for place, (row, start, text) in enumerate(pieces):
        ids = new["input_ids"][place]
        spans = new["offset_mapping"][place] if fast else [(0, len(text))] * len(ids)
        found[row][0].extend(ids)
        found[row][1].extend((start + a, start + b) for a, b in spans)
    return found


def _labels(part: templates.Rendered, ids, offsets) -> list[int] | None:
    """Labels by the characters of each token; None where one spans a seam, or may:
    some tokenizers leave the space before a word out of what they tell."""
    labels = [IGNORE] * len(ids)
    for start, end in part.learnt:
        if start not in part.cuts and part.text[start - 1 : start] == " ":
            return None
        for place, (first, last) in enumerate(offsets):
            # Phi-3's end of turn takes the newline with it
            over = first < end < last and not part.text[end:last].isspace()
            if first < start < last or over:
                return None
            if start < last and first < end:
                labels[place] = ids[place]
    return labels


def _fit(row: dict, max_length: int) -> dict:
    """Cut at the right: what stands after the last label, and what is too long."""
    ids, labels = row["input_ids"], row["labels"]
    taught = [place for place, label in enumerate(labels) if label != IGNORE]
    whole = taught[-1] + 1 if taught else 0
    if not taught or taught[0] >= max_length:
        raise ValueError(
            f"the prompt takes {taught[0] if taught else len(ids)} tokens and "
            f"max_length is {max_length}, so nothing is left to learn: raise "
            "max_length or shorten the prompt"
        )
    end = min(whole, max_length)
    return {"input_ids": ids[:end], "labels": labels[:end], "cut": whole - end}


def collate(rows: list[dict], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Pad rows at the right to the longest of them.
    Built by hand in lesson 03, "Final: what is learnt".
    rows: n of {"input_ids", "labels"}.
    Returns int64 tensors of shape (n, longest): input_ids; attention_mask, 1 on real
    tokens; labels, -100 on padding and prompts.
    """
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(name, filler):
        return torch.tensor(
            [[*row[name]] + [filler] * (longest - len(row[name])) for row in rows]
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
    Returns lists of row numbers (from 0), each row once. The order depends on seed and
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
