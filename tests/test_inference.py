"""Run with `python -m pytest tests/test_inference.py`: seconds, no network needed."""

import contextlib
import random
import warnings

import pytest
import torch

from helpers import inference, models, records, templates

TEXT = (
    "The station stands in the garden and sends a reading every minute. "
    "Wind from the west brings rain to the coast, and the barometer falls. "
    "In 1856 the company sold its first instruments to the harbour master. "
)


@pytest.fixture(scope="module")
def tiny():
    torch.set_num_threads(1)
    return models.load("tiny")


@pytest.fixture(scope="module")
def mixed(tiny):
    """Ten prompts of 3 to 200 tokens, no two alike, in no order of length."""
    tokenizer = tiny[1]
    ids = tokenizer(TEXT * 20).input_ids
    lengths = [3, 200, 7, 120, 33, 5, 180, 15, 64, 4]
    return [tokenizer.decode(ids[n : n + length]) for n, length in enumerate(lengths)]


@contextlib.contextmanager
def counted(model):
    """Shapes of all input ids that go through the model."""
    shapes = []

    def note(module, args, kwargs):
        ids = kwargs.get("input_ids", args[0] if args else None)
        shapes.append(tuple(ids.shape))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield shapes
    finally:
        handle.remove()


def counting(model, successor):
    """Make a model that writes token successor[last token], whatever came before."""

    def forward(module, args, kwargs, output):
        output.logits[:] = 0.0
        ids = kwargs["input_ids"][:, -output.logits.shape[1] :]
        for row in range(ids.shape[0]):
            for place in range(ids.shape[1]):
                output.logits[row, place, successor(int(ids[row, place]))] = 1.0
        return output

    model.register_forward_hook(forward, with_kwargs=True)
    return model


def test_a_batch_does_not_change_or_reorder_answers(tiny, mixed):
    one_by_one = [inference.generate(p, *tiny, max_new_tokens=48) for p in mixed]
    assert inference.generate(mixed, *tiny, max_new_tokens=48) == one_by_one
    assert len(set(one_by_one)) > len(mixed) / 2  # else their order says nothing


def test_small_batches_give_the_answers_of_a_large_one(tiny, mixed, monkeypatch):
    expected = inference.generate(mixed, *tiny, max_new_tokens=16)
    monkeypatch.setattr(inference, "BATCH_TOKENS", 300)
    with counted(tiny[0]) as shapes:
        assert inference.generate(mixed, *tiny, max_new_tokens=16) == expected
    prefills = [shape for shape in shapes if shape[1] > 1]
    assert len(prefills) > 3
    assert all(n * (tokens + 16) <= 300 for n, tokens in prefills)


def test_a_text_gives_a_text_and_a_list_a_list(tiny):
    answer = inference.generate(TEXT, *tiny, max_new_tokens=4)
    assert isinstance(answer, str)
    assert inference.generate([TEXT], *tiny, max_new_tokens=4) == [answer]
    assert inference.generate((p for p in [TEXT]), *tiny, max_new_tokens=4) == [answer]
    assert inference.generate([], *tiny) == []


@pytest.mark.parametrize("prompt", ["\n", " a  b ,c ", "a\u00a0b\n\n", "日本 🙂\n"])
def test_no_part_of_the_prompt_is_in_the_answer(prompt, small, tokenizer):
    """Also where decoding does not give back the prompt's own characters."""
    word = tokenizer("zebra", add_special_tokens=False).input_ids[0]
    model = counting(small(), lambda last: word)
    answer = inference.generate(prompt, model, tokenizer, max_new_tokens=3)
    assert answer == tokenizer.decode([word] * 3).strip()


@pytest.mark.parametrize("length", [1, 5, 40])
def test_the_prompt_does_not_use_up_max_new_tokens(length, small, tokenizer):
    prompt = tokenizer.decode([20] * length)
    digit = tokenizer("7", add_special_tokens=False).input_ids[-1]
    model = counting(small(), lambda last: digit)
    answer = inference.generate(prompt, model, tokenizer, max_new_tokens=6)
    assert answer == "777777"


def test_no_answer_runs_on_past_its_end_of_text(small, tokenizer):
    digits = [tokenizer(str(n), add_special_tokens=False).input_ids[-1] for n in "0123"]
    ends = tokenizer.eos_token_id
    after = dict(zip(digits, [*digits[1:], ends], strict=True))
    model = counting(small(), lambda last: after.get(last, digits[1]))
    prompts = ["x0", "x2", "x3", "x1"]
    answers = inference.generate(prompts, model, tokenizer, max_new_tokens=9)
    assert answers == ["123", "3", "", "23"]


@pytest.fixture(scope="module")
def handbook(tiny):
    """Prompts on one long document, and the tokens of it that all of them share."""
    document = TEXT * 5
    prompts = [
        document + rest
        for rest in ("Wind", "The rain in the harbour is\n", "1856 was", "In a year,")
    ]
    return prompts, len(tiny[1](document).input_ids)


def test_a_shared_beginning_is_computed_once_and_changes_no_answer(
    tiny, handbook, monkeypatch
):
    prompts, shared = handbook
    monkeypatch.setattr(inference, "SHARED_PREFIX", 10**6)
    expected = inference.generate(prompts, *tiny, max_new_tokens=24)
    monkeypatch.setattr(inference, "SHARED_PREFIX", 8)
    with counted(tiny[0]) as shapes:
        assert inference.generate(prompts, *tiny, max_new_tokens=24) == expected
    assert len(set(expected)) > 1
    long = [shape for shape in shapes if shape[1] >= 100]
    assert len(long) == 1 and long[0][0] == 1 and abs(long[0][1] - shared) <= 2


@pytest.mark.parametrize("prompts", [[TEXT] * 3, [TEXT, TEXT + "It"], ["a b", "b a"]])
def test_prompts_that_end_inside_the_shared_beginning_are_answered(
    prompts, tiny, monkeypatch
):
    expected = [inference.generate(p, *tiny, max_new_tokens=12) for p in prompts]
    monkeypatch.setattr(inference, "SHARED_PREFIX", 1)
    assert inference.generate(prompts, *tiny, max_new_tokens=12) == expected


def test_random_prompts_share_exactly_what_they_share():
    source = random.Random(0)
    for _ in range(200):
        common = [source.randrange(3) for _ in range(source.randrange(140, 160))]
        rows = [
            common + [source.randrange(3) for _ in range(source.randrange(1, 4))]
            for _ in range(source.randrange(2, 5))
        ]
        shared = inference._shared_prefix(rows)
        assert len({tuple(row[:shared]) for row in rows}) == 1
        assert shared < min(map(len, rows))
        assert (
            shared == min(map(len, rows)) - 1
            or len({tuple(row[: shared + 1]) for row in rows}) > 1
        )


@pytest.mark.parametrize(
    "prompts, complaint",
    [
        (["one", ""], "prompt 2 is empty"),
        (["one", "two", TEXT * 12], "prompt 3 has .* context of 512"),
        (["word " * 490], "prompt 1 has .* max_new_tokens=64 .* context of 512"),
    ],
    ids=["empty", "too long", "no room for the answer"],
)
def test_a_prompt_that_cannot_be_answered_is_named_by_its_number(
    prompts, complaint, tiny
):
    with pytest.raises(ValueError, match=complaint):
        inference.generate(prompts, *tiny)


@pytest.mark.parametrize("tuned_with", [*templates.ALL, None])
@pytest.mark.parametrize("asked_with", templates.ALL)
def test_a_template_other_than_the_tuned_one_is_noticed(
    tuned_with, asked_with, small, tokenizer
):
    model = small()
    model.config.prompt_template = tuned_with
    prompts = [templates.ALL[asked_with].prompt({"question": "Where is it?"})]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inference.generate(prompts, model, tokenizer, max_new_tokens=1)
        inference.generate(prompts[0], model, tokenizer, max_new_tokens=1)
    if tuned_with in (None, asked_with):
        assert caught == []
    else:
        for warning in caught:
            assert f"tuned with the template {tuned_with}" in str(warning.message)
            assert f"show {asked_with}" in str(warning.message)
            assert warning.filename == __file__  # points at the caller, not at torch
        assert len(caught) == 2


@pytest.mark.parametrize("training", [True, False])
def test_asking_in_the_middle_of_training_does_not_end_it(training, small, tokenizer):
    model = small().train(training)
    model.register_forward_hook(lambda module, *_: modes.append(module.training))
    modes = []
    inference.generate(["one", "two"], model, tokenizer, max_new_tokens=2)
    assert modes and not any(modes)
    assert model.training == training
    assert all(p.requires_grad and not p.is_inference() for p in model.parameters())


@pytest.mark.parametrize(
    "count, quiet, shown", [(20, False, False), (21, False, True), (21, True, False)]
)
def test_a_bar_is_shown_only_where_waiting_needs_one(
    count, quiet, shown, small, tokenizer, monkeypatch, capfd
):
    monkeypatch.setattr(models, "quiet", lambda: quiet)
    inference.generate(["a word"] * count, small(), tokenizer, max_new_tokens=1)
    out, err = capfd.readouterr()
    assert (f"/{count}" in out) == shown
    assert err == ""  # notebooks show stderr as an error


# The command line


@pytest.fixture
def folder(small, tokenizer, tmp_path):
    """A model's folder as finetune leaves it: the template is noted in its config."""
    model = small()
    model.config.prompt_template = "QA"
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def command(folder, data, output, *more):
    return inference.main(
        ["--model", str(folder), "--data", str(data), "--output", str(output), *more]
    )


@pytest.fixture
def echo(monkeypatch):
    """generate answers "to PROMPT" here; the calls that it got."""
    calls = []

    def answer(prompts, model, tokenizer, max_new_tokens):
        calls.append((prompts, max_new_tokens))
        return [f"to {prompt}" for prompt in prompts]

    monkeypatch.setattr(inference, "generate", answer)
    return calls


def test_a_file_is_answered_row_by_row_in_order_and_keeps_its_fields(
    folder, echo, tmp_path, capsys
):
    """Answers that changed places would be sent to the wrong customers."""
    rows = [{"id": str(n), "input": f"message {n}"} for n in range(30)]
    rows[7]["output"] = "a reference answer, which must not be lost"
    records.write(tmp_path / "in.jsonl", rows)
    more = ("--max-new-tokens", "5")
    assert command(folder, tmp_path / "in.jsonl", tmp_path / "out.jsonl", *more) == 0
    written = records.read(tmp_path / "out.jsonl")
    said = [row.pop("generated") for row in written]
    assert said == [f"to {templates.QA.prompt(row)}" for row in rows]
    assert written == rows
    assert [limit for _, limit in echo] == [5]
    assert capsys.readouterr().out == f"30 answers in {tmp_path / 'out.jsonl'}\n"


def test_a_tuned_folder_answers_a_file_from_end_to_end(folder, tmp_path):
    records.write(tmp_path / "in.jsonl", [{"question": "Why?"}])
    assert command(folder, tmp_path / "in.jsonl", tmp_path / "out.jsonl") == 0
    (row,) = records.read(tmp_path / "out.jsonl")
    assert row["question"] == "Why?" and isinstance(row["generated"], str)


def test_the_template_is_the_one_the_model_was_tuned_with(
    folder, echo, small, tmp_path
):
    """A prompt in another template gives worse answers, and no error."""
    model = small()
    model.config.prompt_template = "ALPACA"
    model.save_pretrained(folder)
    records.write(tmp_path / "in.jsonl", [{"question": "Why?"}])
    assert command(folder, tmp_path / "in.jsonl", tmp_path / "out.jsonl") == 0
    assert echo == [([templates.ALPACA.prompt({"question": "Why?"})], 64)]


def test_a_model_without_template_is_refused_and_the_remedy_named(
    small, tokenizer, tmp_path, capsys
):
    small().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    records.write(tmp_path / "in.jsonl", [{"question": "Why?"}])
    assert command(tmp_path / "model", tmp_path / "in.jsonl", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "prompt_template" in error and "finetune" in error
    assert not (tmp_path / "out").exists()


def test_rows_that_cannot_be_asked_are_all_named_and_nothing_is_overwritten(
    folder, tmp_path, capsys
):
    output = tmp_path / "out.jsonl"
    output.write_text("kept\n")
    bad = [{"question": "Why?"}, {"anwser": "no"}, {"text": "only text"}]
    records.write(tmp_path / "in.jsonl", bad)
    assert command(folder, tmp_path / "in.jsonl", output) == 1
    error = capsys.readouterr().err
    assert "row 2" in error and "row 3" in error and "row 1" not in error
    assert output.read_text() == "kept\n"


def test_a_missing_file_or_folder_ends_the_command_without_a_trace(
    folder, tmp_path, capsys
):
    assert command(folder, tmp_path / "no.jsonl", tmp_path / "out") == 1
    assert "no.jsonl" in capsys.readouterr().err
    records.write(tmp_path / "in.jsonl", [{"question": "Why?"}])
    assert command(tmp_path / "nowhere", tmp_path / "in.jsonl", tmp_path / "out") == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_batch_holds_no_more_rows_than_it_may():
    sizes = [len(batch) for batch in inference._batches([5] * 300, 10)]
    assert sum(sizes) == 300 and max(sizes) == inference.BATCH_ROWS
    longer = [len(batch) for batch in inference._batches([990] * 20, 10)]
    assert sum(longer) == 20 and max(longer) == inference.BATCH_TOKENS // 1000
