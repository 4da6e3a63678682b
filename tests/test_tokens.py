"""Run with `python -m pytest tests/test_tokens.py`: seconds, no network needed.

Texts that are hard to cut, rows that are too long, batches. The model here is a small
GPT-NeoX of two layers with random weights.
"""

import random
import warnings

from helpers import models, records, templates, tokens

import families
import pytest
import torch
import transformers

ROWS = [
    {"question": "Why?", "answer": "So."},
    {"question": "What does it say?", "answer": "What does it say? It says: what."},
    {"instruction": "Add the numbers.", "input": "1, 2", "output": "3"},
    {"text": "Once upon a time there was a weather station."},
    {"question": "word " * 40, "answer": "word " * 60},
    {
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Is it on?"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "And <|im_end|> now, <|endoftext|>?"},
            {"role": "assistant", "content": "Still. <|im_end|>"},
        ]
    },
]
TALKS = [records.messages(row) for row in ROWS]
TEXTS = [
    "What is the range?",
    "14 days, 2.4 GHz, or 2,400",
    "  two  spaces   inside and a\ttab  ",
    "...or not?",
    "?!",
    "- a list\n- of two\n\n\nand blank lines\n",
    "### Answer:\nnone",
    "### Response:",
    "'s left of it",
    "`code`: def f(x):\n\treturn x",
    "na\u00efve \u00dcbergr\u00f6\u00dfe \ufb01 \u212b",
    "cafe\u0301 and \u0301 a combining mark",
    "\u0301first, and last e\u0301",
    "\u65e5\u672c\u8a9e\u3002",
    "\U0001f642\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "\u200bzero width\u200b",
    "\ufeffmark",
    "\u00a0\u2003wide spaces\u3000",
    "\r\nline\r\nends\r\n",
    "a\x00b",
    "\x00",
    "\u0627\u0644\u0633\u0644\u0627\u0645",
    "<|im_end",
    "end|>",
    "<b>tag</b> &amp;",
    "{{ x }} {% raw %}",
    "a <",
    "|",
    "x",
]


def of_smollm2():
    try:
        return models.load("smollm2")[1]
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["tiny", "smollm2"])
def tokenizer(request):
    return models.load("tiny")[1] if request.param == "tiny" else of_smollm2()


@pytest.fixture(scope="module")
def tiny():
    return models.load("tiny")[1]


pytestmark = pytest.mark.usefixtures("one_thread")


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def learnt(row):
    return [label for label in row["labels"] if label != tokens.IGNORE]


def talk(asked, said):
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


# Conversations as ids


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_an_answer_is_learnt_after_the_very_ids_that_will_ask_for_it(tokenizer, text):
    source = random.Random(text)
    for other in [text, *source.sample(TEXTS, 5)]:
        turns = [*talk(text, other), *talk(other, text)]
        turns = records.messages({"messages": turns})  # without space around them
        row = tokens.encode(turns, tokenizer)
        for place in (1, 3):
            prompt = tokens.prompt_ids(turns[:place], tokenizer)
            assert row["input_ids"][: len(prompt)] == prompt
            assert row["labels"][len(prompt) - 1] == tokens.IGNORE
            assert row["labels"][len(prompt)] != tokens.IGNORE
        said = "".join(turn["content"] + tokenizer.eos_token for turn in turns[1::2])
        assert tokenizer.decode(learnt(row)) == said


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_raw_text_and_texts_to_be_continued_are_cut_alike(tokenizer, text):
    text = text.strip()
    row = tokens.encode(records.messages({"text": text}), tokenizer)
    assert row["input_ids"] == [*ids(tokenizer, text), tokenizer.eos_token_id]
    assert row["labels"] == row["input_ids"]
    assert tokens.prompt_ids(text, tokenizer) == ids(tokenizer, text)


@pytest.mark.parametrize("learn", ["all", "last"])
def test_rows_together_are_encoded_as_each_by_itself(tokenizer, learn, monkeypatch):
    talks = TALKS + [talk(text, text[::-1]) for text in TEXTS]
    expected = [tokens.encode(each, tokenizer, learn=learn) for each in talks]
    for chunk in (1, 4, 1000):
        monkeypatch.setattr(tokens, "CHUNK", chunk)
        rows = tokens.encode_all(talks, tokenizer, learn=learn)
        assert [{n: list(ids) for n, ids in row.items()} for row in rows] == [
            {name: row[name] for name in ("input_ids", "labels")} for row in expected
        ]
        assert all(ids.typecode == "i" for row in rows for ids in row.values())


@pytest.mark.parametrize("number", range(len(TALKS)))
def test_no_label_is_learnt_on_a_prompt_at_any_length(tokenizer, number):
    whole = tokens.encode(TALKS[number], tokenizer)
    prompt = next(i for i, label in enumerate(whole["labels"]) if label >= 0)
    assert whole["cut"] == 0 and whole["labels"][-1] == tokenizer.eos_token_id
    for length in range(prompt + 1, len(whole["labels"]) + 3):
        row = tokens.encode(TALKS[number], tokenizer, max_length=length)
        assert row["input_ids"] == whole["input_ids"][:length]
        assert row["labels"] == whole["labels"][:length]
        assert row["cut"] == max(0, len(whole["labels"]) - length)


def test_the_end_of_text_is_learnt_last_even_where_padding_has_its_id(tokenizer):
    for each in TALKS:
        row = tokens.encode(each, tokenizer)
        short = {"input_ids": [5], "labels": [5]}
        long = {name: row["input_ids"] + [5] * 3 for name in short}
        for pad in (tokenizer.eos_token_id, tokenizer.pad_token_id, 7):
            batch = tokens.collate([row, short, long], pad)
            real = batch["attention_mask"][0].bool()
            labels = batch["labels"][0]
            assert labels[real][-1] == tokenizer.eos_token_id
            assert labels[real].tolist() == row["labels"]
            assert (labels[~real] == tokens.IGNORE).all()
            assert (batch["labels"][1, 1:] == tokens.IGNORE).all()


def test_no_label_depends_on_the_id_of_its_token(tiny):
    """An answer that repeats the question, and end-of-text inside both of them."""
    said = "again <|endoftext|> again"
    row = tokens.encode([*talk(said, said), *talk(said, said)], tiny)
    prompt = tokens.prompt_ids(talk(said, said)[:1], tiny)
    asked, answer = [tokens.IGNORE] * len(prompt), row["labels"][len(prompt) :]
    answer = answer[: answer.index(tokens.IGNORE)]
    assert tiny.decode(answer) == said + tiny.eos_token
    assert answer.count(tiny.eos_token_id) == 1  # what was said is text
    assert row["labels"] == (asked + answer) * 2


# Where a token spans prompt and answer

SPACE = (  # the prompt ends in a space, which belongs to the word that follows
    "{%- for m in messages %}{{- m.role + ': ' + m.content + '<|endoftext|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- 'assistant: ' }}{%- endif %}"
)
JOINED = SPACE.replace(": ", "")  # the answer continues a word of the prompt


@pytest.mark.parametrize("template", [SPACE, JOINED], ids=["space", "joined"])
@pytest.mark.parametrize("name", families.FAMILIES)
def test_no_token_spans_prompt_and_answer(name, template):
    """Some tokenizers leave the space out of the place that they tell of a word."""
    tokenizer = families.tokenizer(name)
    tokenizer.chat_template = template.replace("<|endoftext|>", tokenizer.eos_token)
    for said in ("s it on", "the mast", "ing", "0071", "'s", "\u0301a", "- a"):
        turns = [*talk("Is it", said), *talk(said, said)]
        row = tokens.encode(turns, tokenizer)
        prompt = tokens.prompt_ids(turns[:1], tokenizer)
        assert row["input_ids"][: len(prompt)] == prompt
        assert set(row["labels"][: len(prompt)]) == {tokens.IGNORE}
        first = row["labels"][len(prompt) :]
        assert tokenizer.decode(first[: first.index(tokens.IGNORE)]).lstrip() == (
            said + tokenizer.eos_token
        )


class Slow:
    """A tokenizer that does not tell which characters a token covers."""

    is_fast = False

    def __init__(self, fast):
        self.fast = fast

    def __getattr__(self, name):
        return getattr(self.fast, name)

    def __call__(self, *arguments, return_offsets_mapping=False, **options):
        assert not return_offsets_mapping
        return self.fast(*arguments, **options)


def test_a_tokenizer_that_tells_no_places_gives_the_same_ids_and_labels(tokenizer):
    for turns in TALKS + [talk(text, text[::-1]) for text in TEXTS]:
        expected = tokens.encode(turns, tokenizer)
        assert tokens.encode(turns, Slow(tokenizer)) == expected
        if turns[-2:-1]:
            assert tokens.prompt_ids(turns[:-1], Slow(tokenizer)) == (
                tokens.prompt_ids(turns[:-1], tokenizer)
            )


# Rows that are too long


def rows_of(*answer_lengths):
    """Conversations with answers as long as asked, and the length of their prompt."""
    return [talk("a", "9" * n) for n in answer_lengths]


@pytest.fixture(scope="module")
def asked(tiny):
    """How many tokens the prompt of rows_of takes."""
    return len(tokens.prompt_ids(talk("a", "9")[:1], tiny))


def test_no_row_is_cut_in_silence(tiny, asked):
    pattern = rf"3 of 5 .* {asked + 4} tokens .*\(rows 2, 4, 5\).*max_length"
    with pytest.warns(UserWarning, match=pattern) as caught:
        rows = tokens.encode_all(rows_of(3, 4, 1, 9, 5), tiny, max_length=asked + 4)
    assert caught[0].filename == __file__
    assert [len(row["input_ids"]) - asked for row in rows] == [4, 4, 2, 4, 4]
    ended = [row["labels"][-1] == tiny.eos_token_id for row in rows]
    assert ended == [True, False, True, False, False]
    assert all(set(row) == {"input_ids", "labels"} for row in rows)


def test_many_cut_rows_make_one_short_warning(tiny, asked):
    with pytest.warns(UserWarning) as caught:
        tokens.encode_all(rows_of(*[9] * 40), tiny, max_length=asked + 4)
    assert len(caught) == 1
    assert "40 of 40" in str(caught[0].message)
    assert "(rows 1, 2, 3, 4, 5, ...)" in str(caught[0].message)


def test_rows_that_fit_to_the_token_are_not_warned_of(tiny, asked):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = tokens.encode_all(rows_of(3, 2), tiny, max_length=asked + 4)
    assert [learnt(row)[-1] for row in rows] == [tiny.eos_token_id] * 2


def test_what_the_template_writes_after_the_last_answer_is_no_reason_to_cut():
    """ChatML ends a turn with a newline, which nobody needs to learn."""
    tokenizer = families.tokenizer("qwen-2.5")
    row = tokens.encode(talk("Why?", "So."), tokenizer)
    assert row["labels"][-1] == tokenizer.eos_token_id
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        turns = [talk("Why?", "So.")]
        tokens.encode_all(turns, tokenizer, max_length=len(row["input_ids"]))


@pytest.mark.parametrize("spare", [0, -1, -4])
def test_a_row_of_which_nothing_can_be_learnt_is_named(tiny, asked, spare):
    talks = [records.messages({"text": "9"})] * 2 + rows_of(2)
    with (
        pytest.raises(ValueError, match=f"row 3: .*takes {asked} tokens.*max_length"),
        warnings.catch_warnings(action="ignore"),
    ):
        tokens.encode_all(talks, tiny, max_length=asked + spare)
    with pytest.raises(ValueError, match=f"takes {asked} tokens .* {asked + spare},"):
        tokens.encode(talks[2], tiny, max_length=asked + spare)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_all_rows_of_which_nothing_can_be_learnt_are_named_at_once(
    tiny, chunk, monkeypatch
):
    monkeypatch.setattr(tokens, "CHUNK", chunk)
    good, long = talk("a", "b"), talk("word " * 90, "b")
    with pytest.raises(ValueError) as caught:
        tokens.encode_all([good, long] * 3, tiny, max_length=64)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["row 2", "row 4", "row 6"]
    with pytest.raises(ValueError) as caught:
        tokens.encode_all([long] * 1234, tiny, max_length=64)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21 and lines[19].startswith("row 20: ")
    assert lines[20] == "and 1,214 more"


def test_rows_that_the_template_refuses_are_named_among_the_others_in_order():
    tokenizer = families.tokenizer("gemma-3")
    good, long = talk("a", "b"), talk("word " * 90, "b")
    refused = [*talk("a", "b")[:1] * 2, *talk("a", "b")]
    with pytest.raises(ValueError) as caught:
        tokens.encode_all([good, long, refused, long], tokenizer, max_length=64)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["row 2", "row 3", "row 4"]
    assert "refuses" in lines[1] and "64" in lines[0]
    with pytest.raises(ValueError, match="row 1: .*refuses"):
        tokens.encode_all([refused], tokenizer)


def test_no_rows_are_no_error(tiny):
    assert tokens.encode_all([], tiny) == []


# Batches


@pytest.mark.parametrize("lengths", [(3, 1, 5), (2, 2), (1,)])
def test_collate_pads_at_the_right_and_to_the_longest_only(lengths):
    rows = [
        {"input_ids": list(range(10, 10 + n)), "labels": list(range(20, 20 + n))}
        for n in lengths
    ]
    batch = tokens.collate(rows, pad_token_id=1)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    for tensor in batch.values():
        assert tensor.shape == (len(lengths), max(lengths))
        assert tensor.dtype == torch.int64
    for i, (row, n) in enumerate(zip(rows, lengths, strict=True)):
        rest = max(lengths) - n
        assert batch["input_ids"][i].tolist() == row["input_ids"] + [1] * rest
        assert batch["attention_mask"][i].tolist() == [1] * n + [0] * rest
        assert batch["labels"][i].tolist() == row["labels"] + [tokens.IGNORE] * rest
        assert len(row["input_ids"]) == n  # the rows themselves are not padded


@pytest.fixture(scope="module")
def model(tiny):
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=len(tiny),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    return transformers.GPTNeoXForCausalLM(config).eval()


def loss_and_gradients(model, batch):
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    return output, {n: p.grad.clone() for n, p in model.named_parameters()}


@pytest.mark.parametrize("name", templates.ALL)
@pytest.mark.parametrize("numbers", [[0], [3], [5], [0, 1, 2, 3, 4, 5]], ids=str)
def test_answers_only_changes_neither_loss_nor_gradients(model, name, numbers):
    tiny = transformers.AutoTokenizer.from_pretrained(models.TINY)
    templates.give(tiny, templates.ALL[name])
    rows = tokens.encode_all([TALKS[k] for k in numbers], tiny)
    batch = tokens.collate(rows, tiny.pad_token_id)
    full, expected = loss_and_gradients(model, batch)
    less, gradients = loss_and_gradients(model, tokens.answers_only(batch))
    assert less.loss.item() == pytest.approx(full.loss.item(), abs=1e-5)
    assert max(grad.abs().max() for grad in expected.values()) > 1e-3
    for weights, grad in gradients.items():
        torch.testing.assert_close(grad, expected[weights], atol=1e-5, rtol=1e-4)
    # every learnt label is predicted from the place before it, the first one from none
    predicted = sum(len(learnt(row)) - (row["labels"][0] != -100) for row in rows)
    assert less.logits.numel() == predicted * len(tiny)


LENGTHS = random.Random(7).choices(range(10, 201), k=400)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
@pytest.mark.parametrize("count", [1, 2, 8, 63, 64, 65, 400])
def test_an_epoch_neither_skips_nor_repeats_a_row(count, batch_size):
    for epoch in range(3):
        batches = tokens.batch_order(LENGTHS[:count], batch_size, 0, epoch)
        assert sorted(row for batch in batches for row in batch) == list(range(count))
        assert {len(batch) for batch in batches[:-1]} <= {batch_size}
        assert len(batches) == -(-count // batch_size)


def test_a_resumed_run_sees_the_rows_of_an_unbroken_one():
    random.seed(1)
    first = tokens.batch_order(LENGTHS, 8, seed=3, epoch=2)
    random.seed(2)
    torch.manual_seed(2)
    assert tokens.batch_order(LENGTHS, 8, seed=3, epoch=2) == first


@pytest.mark.parametrize("lengths", [LENGTHS, [50] * 400], ids=["mixed", "equal"])
def test_epochs_and_seeds_do_not_repeat_each_other(lengths):
    orders = {
        str(tokens.batch_order(lengths, 8, seed, epoch))
        for seed in range(4)
        for epoch in range(12)
    }
    assert len(orders) == 48


def test_the_same_rows_do_not_always_share_a_batch():
    together = [
        {frozenset(batch) for batch in tokens.batch_order(LENGTHS, 8, 0, epoch)}
        for epoch in range(2)
    ]
    assert len(together[0] & together[1]) < 0.1 * len(together[0])


def test_short_rows_do_not_all_come_first():
    batches = tokens.batch_order(LENGTHS, 8, seed=0, epoch=0)
    means = [sum(LENGTHS[i] for i in batch) / len(batch) for batch in batches]
    half = len(means) // 2
    assert abs(sum(means[:half]) / half - sum(means[half:]) / half) < 40


def padding(batches):
    return sum(
        max(LENGTHS[i] for i in batch) - LENGTHS[j] for batch in batches for j in batch
    )


@pytest.mark.parametrize("batch_size", [4, 8, 16])
def test_padding_is_less_than_half_of_that_in_random_order(batch_size):
    ours, at_random = 0, 0
    for epoch in range(5):
        ours += padding(tokens.batch_order(LENGTHS, batch_size, 0, epoch))
        order = random.Random(epoch).sample(range(len(LENGTHS)), len(LENGTHS))
        starts = range(0, len(order), batch_size)
        at_random += padding([order[i : i + batch_size] for i in starts])
    assert ours < 0.5 * at_random
