"""Run with `python -m pytest tests/test_templates.py`: seconds, no network needed.

Templates of our own word for word, and what render makes of any template. How it deals
with those of the families that people tune: tests/test_families.py.
"""

import itertools
import time
import warnings

from helpers import models, records, templates, tokens

import families
import pytest

OURS = list(templates.ALL)
SYSTEM = {"role": "system", "content": "Be short."}
USER = {"role": "user", "content": "Is it on?"}
SAID = {"role": "assistant", "content": "Yes."}
AGAIN = {"role": "user", "content": "And now?"}
STILL = {"role": "assistant", "content": "Still."}
TALK = [SYSTEM, USER, SAID, AGAIN, STILL]


@pytest.fixture
def tokenizer():
    """Of a base model, without template of its own."""
    return families.tokenizer("gpt-2")


def with_template(template, *special, eos=None):
    """A tokenizer with a template, and tokens that it is made of."""
    tokenizer = families.tokenizer("gpt-2")
    tokenizer.add_special_tokens({"extra_special_tokens": list(special)})
    if eos:
        tokenizer.eos_token = eos
    tokenizer.chat_template = template
    return tokenizer


def learnt(rendered):
    return [rendered.text[start:end] for start, end in rendered.learnt]


# Ours, word for word


def test_qa_is_a_question_and_an_answer_under_headings(tokenizer):
    templates.give(tokenizer, templates.QA)
    assert templates.render([USER, SAID], tokenizer).text == (
        "### Question:\nIs it on?\n\n### Answer:\nYes.<|endoftext|>"
    )
    assert templates.prompt(TALK[:4], tokenizer).text == (
        "Be short.\n\n### Question:\nIs it on?\n\n### Answer:\nYes.<|endoftext|>"
        "### Question:\nAnd now?\n\n### Answer:\n"
    )


def test_alpaca_is_word_for_word_that_of_its_makers(tokenizer):
    # prompt_input and prompt_no_input of stanford_alpaca/train.py, and a newline
    with_input = (
        "Below is an instruction that describes a task, paired with an input that "
        "provides further context. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n"
        "### Response:\n"
    )
    without = (
        "Below is an instruction that describes a task. Write a response that "
        "appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n"
        "### Response:\n"
    )
    templates.give(tokenizer, templates.ALPACA)
    given = {"instruction": "Add.", "input": "1, 2\n\n3", "output": "6"}
    for row, words in ((given, with_input), (given | {"input": ""}, without)):
        talk = records.messages(row)
        assert templates.prompt(talk[:-1], tokenizer).text == words.format(**row)
        whole = templates.render(talk, tokenizer)
        assert whole.text == words.format(**row) + "6<|endoftext|>"
        assert learnt(whole) == ["6<|endoftext|>"]


def test_chatml_names_each_speaker(tokenizer):
    tokenizer = with_template(templates.CHATML, "<|im_start|>", "<|im_end|>")
    assert templates.render([SYSTEM, USER, SAID], tokenizer).text == (
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nIs it on?<|im_end|>"
        "\n<|im_start|>assistant\nYes.<|im_end|>\n"
    )
    assert templates.prompt([USER], tokenizer).text == (
        "<|im_start|>user\nIs it on?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("name", OURS)
def test_each_of_ours_learns_all_answers_or_the_last_and_their_ends(name):
    tokenizer = with_template(templates.ALL[name], "<|im_start|>", "<|im_end|>")
    end = templates.end_of_turn(tokenizer)
    assert end == ("<|im_end|>" if name == "CHATML" else "<|endoftext|>")
    rendered = templates.render(TALK, tokenizer)
    assert learnt(rendered) == [f"Yes.{end}", f"Still.{end}"] and rendered.cuts == []
    assert learnt(templates.render(TALK, tokenizer, "last")) == [f"Still.{end}"]
    for talk, (start, _) in zip((TALK[:2], TALK[:4]), rendered.learnt, strict=True):
        assert rendered.text[:start] == templates.prompt(talk, tokenizer).text


def test_smollm2_is_asked_as_its_makers_taught_it():
    try:
        _, tokenizer = models.load("smollm2")
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    assert templates.prompt([USER], tokenizer).text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
        "Hugging Face<|im_end|>\n<|im_start|>user\nIs it on?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert templates.end_of_turn(tokenizer) == "<|im_end|>"


# give


def quietly(tokenizer, template):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        templates.give(tokenizer, template)


def test_a_default_may_be_replaced_in_silence_and_a_models_own_template_not():
    base, chat = families.tokenizer("gpt-2"), families.tokenizer("qwen-2.5")
    for template in (templates.QA, templates.ALPACA, templates.QA):
        quietly(base, template)
        assert base.chat_template == template
    quietly(chat, chat.chat_template)  # is no change
    with pytest.warns(UserWarning, match="its answers will be worse") as caught:
        templates.give(chat, templates.QA)
    assert caught[0].filename == __file__
    assert chat.chat_template == templates.QA


@pytest.mark.parametrize("name", OURS)
def test_a_template_of_ours_begins_as_the_texts_of_the_family_do(name):
    tokenizer = families.tokenizer("llama-base")
    for _ in range(2):  # and once, however often it is given
        quietly(tokenizer, templates.ALL[name])
        prompt = templates.prompt([USER], tokenizer).text
        assert prompt.count("<|begin_of_text|>") == 1
        assert prompt.startswith("<|begin_of_text|>")
    theirs = "{{- bos_token + messages[0].content }}"
    quietly(tokenizer, theirs)
    assert tokenizer.chat_template == theirs


# render, of any template


def test_raw_text_stands_without_template_and_is_learnt_to_its_end():
    for name, begin in (("gpt-2", ""), ("llama-base", "<|begin_of_text|>")):
        tokenizer = families.tokenizer(name)
        for template in (None, templates.QA):
            tokenizer.chat_template = template
            talk = records.messages({"text": "Once upon a time."})
            rendered = templates.render(talk, tokenizer)
            assert rendered.text == f"{begin}Once upon a time.{tokenizer.eos_token}"
            assert learnt(rendered) == [f"Once upon a time.{tokenizer.eos_token}"]


def test_a_template_that_refuses_is_quoted():
    tokenizer = families.tokenizer("gemma-3")
    for call in (templates.render, templates.prompt):
        with pytest.raises(ValueError, match="refuses this .*roles must alternate"):
            call([USER, AGAIN, SAID], tokenizer)
    # Gemma 2 takes no system line; others want a list of parts, not a text
    for template in ("{{ raise_exception('no system') }}", "{{ messages[0].x.y }}"):
        tokenizer = with_template(template)
        with pytest.raises(ValueError, match="the model's template refuses"):
            templates.render(TALK, tokenizer)


def test_a_tokenizer_without_template_is_an_error_and_no_crash(tokenizer):
    for call in (templates.render, templates.prompt):
        with pytest.raises(ValueError, match="chat_template"):
            call([USER, SAID], tokenizer)


@pytest.mark.parametrize("learn", ["", "first", None, True])
def test_what_to_learn_is_all_or_the_last(tokenizer, learn):
    with pytest.raises(ValueError, match="'all'.*'last'"):
        templates.render([USER, SAID], tokenizer, learn)


REWRITES = (  # as DeepSeek's: each answer of the past without its thought
    "{%- for m in messages %}{{- '<|' + m.role + '|>' + m.content.split('.')[-1 if not"
    " loop.last else 0] }}{{- '<|end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)
ANNOUNCES = (  # a thought that it opens when it asks, and does not when it tells
    "{%- for m in messages %}{{- m.role + ': ' + m.content + '<|end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- 'assistant: <think>' }}{%- endif %}"
)


def test_a_turn_that_the_template_rewrites_is_refused_and_the_last_one_is_learnt():
    tokenizer = with_template(REWRITES, "<|end|>")
    said = "Long ago. Yes", "Still"
    long, still = ({"role": "assistant", "content": text} for text in said)
    talk = [USER, long, AGAIN, still]
    with pytest.raises(ValueError, match="message 2: .*learn the last turn only, or"):
        templates.render(talk, tokenizer)
    assert learnt(templates.render(talk, tokenizer, "last")) == ["Still<|end|>"]


def test_an_answer_that_the_template_opens_otherwise_is_refused_with_a_remedy():
    tokenizer = with_template(ANNOUNCES, "<|end|>")
    for learn in ("all", "last"):
        with pytest.raises(ValueError, match="message 2: .*give another template") as e:
            templates.render([USER, SAID], tokenizer, learn)
        assert "last turn only" not in str(e.value)  # it would not help


WRAPS = (  # as gpt-oss and Qwen 3: words and tokens of its own before an answer
    "{%- for m in messages %}{{- '<|start|>' + m.role }}{%- if m.role == 'assistant' %}"
    "{{- '<|channel|>final<|message|>' }}{%- endif %}{{- m.content + '<|end|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}"
)


@pytest.mark.parametrize("word", ["final", "message", "f", "|", ">", "<", "channel"])
def test_an_answer_is_not_taken_for_a_word_of_the_template_before_it(word):
    special = "<|start|>", "<|channel|>", "<|message|>", "<|end|>"
    tokenizer = with_template(WRAPS, *special)
    said = {"role": "assistant", "content": word}
    whole = f"<|channel|>final<|message|>{word}<|end|>"
    rendered = templates.render([USER, said, AGAIN, said], tokenizer)
    assert learnt(rendered) == [whole, whole]
    assert templates.end_of_turn(tokenizer) == "<|end|>"


def test_a_template_that_ends_no_turn_is_given_an_end_of_text():
    plain = (
        "{%- for m in messages %}{{- m.role + ': ' + m.content + '\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- 'assistant: ' }}{%- endif %}"
    )
    tokenizer = with_template(plain)
    rendered = templates.render([USER, SAID, AGAIN, STILL], tokenizer)
    assert rendered.text == (
        "user: Is it on?\nassistant: Yes.\nuser: And now?\n"
        "assistant: Still.<|endoftext|>"
    )
    assert learnt(rendered) == ["Yes.", "Still.<|endoftext|>"]
    assert templates.end_of_turn(tokenizer) == "<|endoftext|>"


def test_what_a_template_writes_between_an_answer_and_its_end_is_learnt():
    bracketed = (
        "{%- for m in messages %}{{- '[' + m.role + ']' + m.content + '[/' + m.role + "
        "']\n' + eos_token }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '[assistant]' }}{%- endif %}"
    )
    rendered = templates.render([USER, SAID], with_template(bracketed))
    assert learnt(rendered) == ["Yes.[/assistant]\n<|endoftext|>"]
    assert rendered.text.count("<|endoftext|>") == 2


def test_the_space_that_some_put_before_the_end_of_a_turn_is_learnt_with_it():
    llama_2 = (
        "{%- for m in messages %}{%- if m.role == 'user' %}"
        "{{- '[INST] ' + m.content + ' [/INST]' }}{%- else %}"
        "{{- ' ' + m.content + ' ' + eos_token }}{%- endif %}{%- endfor %}"
    )
    rendered = templates.render([USER, SAID, AGAIN, STILL], with_template(llama_2))
    assert learnt(rendered) == [" Yes. <|endoftext|>", " Still. <|endoftext|>"]


def test_a_model_with_several_templates_is_asked_by_its_default():
    tokenizer = with_template({"default": templates.QA, "tools": "{{ 1 / 0 }}"})
    rendered = templates.render([USER, SAID], tokenizer)
    assert learnt(rendered) == ["Yes.<|endoftext|>"]
    assert templates.end_of_turn(tokenizer) == "<|endoftext|>"


@pytest.mark.parametrize("name", ["llama-3", "qwen-2.5", "gemma-3", "mistral"])
def test_space_around_what_was_said_is_as_the_template_wants_it(name):
    tokenizer = families.tokenizer(name)
    padded = [m | {"content": f" \n{m['content']} \n"} for m in (USER, SAID)]
    rendered = templates.render(padded, tokenizer)
    plain = tokenizer.apply_chat_template(padded, tokenize=False)
    assert rendered.text == plain
    assert "Yes." in learnt(rendered)[0]
    assert learnt(rendered)[0].endswith(templates.end_of_turn(tokenizer))


@pytest.mark.parametrize("mark", [templates.MARK, templates.END])
def test_a_message_may_hold_the_marks_that_are_used_inside(tokenizer, mark):
    """Noncharacters: no text has them, but a broken file may."""
    templates.give(tokenizer, templates.QA)
    odd = [m | {"content": mark + m["content"] + mark * 2} for m in (USER, SAID)]
    expected = templates.render([USER, SAID], tokenizer)
    assert templates.render(odd, tokenizer) == expected


# What looks like a control token

ODD = [  # ends like it begins; is part of another; regular expressions; two of a kind
    ["|end|", "|end|end|", "|"],
    ["<<", "<<<", ">>x<<"],
    ["[INST]", "[/INST]", "^a$", "(b|c)*", "\\d"],
    ["<a>", "a>b", ">b<a"],
]


@pytest.mark.parametrize("special", ODD, ids=lambda tokens: tokens[0])
def test_odd_control_tokens_cannot_be_written_either(special):
    """Nor begun by a message that its template happens to end."""
    for end in special[:-1]:
        template = (
            "{%- for m in messages %}{{- m.role + ': ' + m.content }}"
            f"{{{{- {end!r} + '\\n' }}}}{{%- endfor %}}"
            "{%- if add_generation_prompt %}{{- 'assistant: ' }}{%- endif %}"
        )
        tokenizer = with_template(template, *special)
        controls = {tokenizer.convert_tokens_to_ids(t) for t in special if len(t) > 1}
        texts = {"x" + end[:n] for n in range(1, len(end))} | {*special}
        texts |= {a + b for a, b in itertools.product(special, repeat=2)}
        for text in texts:
            talk = [{"role": "user", "content": text}, {**SAID, "content": text}]
            row = tokens.encode(talk, tokenizer)
            found = [i for i in row["input_ids"] if i in controls]
            ends = tokenizer.convert_tokens_to_ids(end)
            assert found == [ends, ends], (end, text)
            assert row["labels"][-1] == ends
            assert tokenizer.decode(row["input_ids"]).count(text) >= 2, (end, text)


def test_cuts_lie_inside_of_what_looks_like_a_control_token(tokenizer):
    templates.give(tokenizer, templates.QA)
    talk = [
        USER | {"content": "a <|endoftext|> b"},
        SAID | {"content": "<|endoftext|>"},
    ]
    text, parts, cuts = templates.render(talk, tokenizer)
    assert [text[cut - 1 : cut + 4] for cut in cuts] == ["<|end"] * 2
    assert [text[start:end] for start, end in parts] == ["<|endoftext|>" * 2]


def test_thousands_of_control_tokens_do_not_make_texts_slow():
    """Gemma has 6,000 of them: looked for one by one, a file would take minutes."""
    special = [f"<unused{n}>" for n in range(6000)]
    tokenizer = with_template(templates.QA, *special)
    talk = [USER | {"content": "word < word " * 400 + "<unused5999>"}, SAID]
    templates.render(talk, tokenizer)  # the patterns are made
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        rendered = templates.render(talk, tokenizer)
        seconds.append(time.perf_counter() - started)
    assert len(rendered.cuts) == 1
    assert min(seconds) < 0.1
