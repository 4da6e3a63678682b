"""Run with `python -m pytest tests/test_tokens.py`: seconds, no network.

The model here is a GPT-NeoX of two small layers with random weights.
"""

import random
import warnings

import pytest
import torch
import transformers

from helpers import models, templates, tokens

RECORDS = [
    {"question": "Why?", "answer": "So."},
    {"question": "What does it say?", "answer": "What does it say? It says: what."},
    {"instruction": "Add the numbers.", "input": "1, 2", "output": "3"},
    {"text": "Once upon a time there was a weather station."},
    {"question": "word " * 40, "answer": "word " * 60},
]
EXAMPLES = {
    (name, number): template.example(record)
    for name, template in templates.ALL.items()
    for number, record in enumerate(RECORDS)
}


@pytest.fixture(scope="module", params=["tiny", "smollm2"])
def tokenizer(request):
    if request.param == "tiny":
        return transformers.AutoTokenizer.from_pretrained(models.TINY)
    try:
        folder = models.smollm2_folder()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def tiny():
    return transformers.AutoTokenizer.from_pretrained(models.TINY)


pytestmark = pytest.mark.usefixtures("one_thread")


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def learnt(row):
    return [label for label in row["labels"] if label != tokens.IGNORE]


@pytest.mark.parametrize("key", EXAMPLES, ids=lambda key: f"{key[0]}-{key[1]}")
def test_no_label_is_learnt_on_a_prompt_at_any_length(tokenizer, key):
    example = EXAMPLES[key]
    prompt = ids(tokenizer, example["prompt"])
    answer = [*ids(tokenizer, example["completion"]), tokenizer.eos_token_id]
    for length in range(len(prompt) + 1, len(prompt) + len(answer) + 3):
        row = tokens.encode(example, tokenizer, max_length=length)
        kept = answer[: length - len(prompt)]
        assert row["input_ids"] == prompt + kept
        assert row["labels"] == [tokens.IGNORE] * len(prompt) + kept
        assert row["cut"] == len(answer) - len(kept)


@pytest.mark.parametrize("key", EXAMPLES, ids=lambda key: f"{key[0]}-{key[1]}")
def test_the_end_of_text_is_learnt_last_even_where_padding_has_its_id(tokenizer, key):
    row = tokens.encode(EXAMPLES[key], tokenizer)
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


def test_no_label_hangs_on_the_id_of_its_token(tiny):
    """An answer that repeats the prompt, and end-of-text inside both of them."""
    end = tiny.eos_token
    example = {"prompt": f"again{end}again\n", "completion": f"again{end}again\n"}
    row = tokens.encode(example, tiny)
    repeated = ids(tiny, example["prompt"])
    assert tiny.eos_token_id in repeated
    hidden = [tokens.IGNORE] * len(repeated)
    assert row["labels"] == hidden + repeated + [tiny.eos_token_id]


def test_a_prompt_that_was_cut_leaves_no_row_without_anything_to_learn():
    assert tokens.prompt_mask(0, [4, 5]) == [4, 5]
    assert tokens.prompt_mask(1, [4, 5]) == [tokens.IGNORE, 5]
    for prompt_length in (2, 3):
        with pytest.raises(ValueError, match=f"prompt takes {prompt_length} of 2 "):
            tokens.prompt_mask(prompt_length, [4, 5])


def rows_of(*answer_lengths):
    """Examples of one-letter words: a prompt of 4 tokens, answers as long as asked."""
    return [{"prompt": "a\nb\n", "completion": "9" * n} for n in answer_lengths]


def test_no_row_is_cut_in_silence(tiny):
    with pytest.warns(UserWarning, match=r"3 of 5 .* 8 tokens .*\(rows 2, 4, 5\)"):
        rows = tokens.encode_all(rows_of(3, 4, 1, 9, 5), tiny, max_length=8)
    assert [len(row["input_ids"]) for row in rows] == [8, 8, 6, 8, 8]
    ended = [row["labels"][-1] == tiny.eos_token_id for row in rows]
    assert ended == [True, False, True, False, False]
    assert all(set(row) == {"input_ids", "labels"} for row in rows)


def test_many_cut_rows_make_one_short_warning(tiny):
    with pytest.warns(UserWarning) as caught:
        tokens.encode_all(rows_of(*[9] * 40), tiny, max_length=8)
    assert len(caught) == 1
    assert "40 of 40" in str(caught[0].message)
    assert "(rows 1, 2, 3, 4, 5, ...)" in str(caught[0].message)


def test_rows_that_fit_to_the_token_are_not_warned_of(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = tokens.encode_all(rows_of(3, 2), tiny, max_length=8)
    assert [learnt(row)[-1] for row in rows] == [tiny.eos_token_id] * 2


@pytest.mark.parametrize("max_length", [4, 3, 1])
def test_a_row_of_which_nothing_can_be_learnt_is_named(tiny, max_length):
    examples = [{"prompt": "", "completion": "9"}] * 2 + rows_of(2)
    with (
        pytest.raises(ValueError, match="row 3: prompt takes 4 of .*max_length"),
        warnings.catch_warnings(action="ignore"),
    ):
        tokens.encode_all(examples, tiny, max_length=max_length)


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
@pytest.mark.parametrize("numbers", [[0], [3], [0, 1, 2, 3, 4]], ids=str)
def test_answers_only_changes_neither_loss_nor_gradients(model, tiny, name, numbers):
    rows = tokens.encode_all([EXAMPLES[name, k] for k in numbers], tiny)
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
