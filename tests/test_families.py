"""Run with `python -m pytest tests/test_families.py`: a minute, no network needed.

Each family of models that people tune, as a small model: tuned, saved, loaded, asked,
merged, served. Training, answering and a chat server write the same ids; an answer ends
where its turn ends; and nobody ends a turn by writing how turns end.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import types

from helpers import adapters, inference, models, records, templates, tokens, training

import families
import httpx2
import pytest
import transformers

NAMES = list(families.FAMILIES)
ROWS = [
    {"question": "Is it on?", "answer": "Yes, it is."},
    {
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "How high is the cafe\u0301 0071, and why?"},
            {"role": "assistant", "content": "Two metres."},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "Who made it?"},
            {"role": "assistant", "content": "Larkfield."},
            {"role": "user", "content": "And the  base <\n\n\n- of 12?"},
            {"role": "assistant", "content": "The same, 0071."},
        ]
    },
]
TALKS = [records.messages(row) for row in ROWS]
ASKED = [  # what stands before each answer, and the answer
    (talk[:place], turn["content"])
    for talk in TALKS
    for place, turn in enumerate(talk)
    if turn["role"] == "assistant"
]
ENDS = {
    "llama-3": "<|eot_id|>",
    "llama-base": "<|end_of_text|>",
    "qwen-2.5": "<|im_end|>",
    "qwen-3": "<|im_end|>",
    "gemma-3": "<end_of_turn>",
    "mistral": "</s>",
    "phi-3": "<|end|>",
    "granite": "<|end_of_text|>",
    "olmo-2": "<|endoftext|>",
    "gpt-2": "<|endoftext|>",
    "gpt-neox": "<|endoftext|>",
    "smollm2": "<|im_end|>",
}
THOUGHT = "<think>\n\n</think>\n\n"  # that Qwen 3 writes before the last answer
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made(name) -> a family's model, tuned until it knows ROWS, then by an adapter.

    folder, adapter, merged: where they lie; model, tokenizer: as finetune left them.
    """
    there = {}

    def make(name):
        if name not in there:
            home = tmp_path_factory.mktemp(name)
            model, tokenizer = models.load(str(families.build(name, home / "new")))
            settings = {"method": "full", "epochs": 80, "learning_rate": 1e-2}
            training.finetune(model, tokenizer, ROWS, **settings)
            with models.silent():
                model.save_pretrained(home / "base")
            tokenizer.save_pretrained(home / "base")
            model, tokenizer = models.load(str(home / "base"))
            settings = {"method": "lora", "epochs": 1, "output": home / "adapter"}
            tuned = training.finetune(model, tokenizer, ROWS, **settings)
            adapters.merge(str(home / "adapter"), str(home / "merged"))
            there[name] = types.SimpleNamespace(
                adapter=home / "adapter",
                merged=home / "merged",
                model=tuned.model,
                tokenizer=tokenizer,
            )
        return there[name]

    return make


@pytest.fixture
def family(request, made):
    return made(request.param)


every_family = pytest.mark.parametrize("family", NAMES, indirect=True)
every_name = pytest.mark.parametrize("name", NAMES)


def of_name(name):
    """The tokenizer of a family as models.load gives it."""
    tokenizer = families.tokenizer(name)
    tokenizer.given = tokenizer.chat_template is None
    if tokenizer.given:
        templates.give(tokenizer, templates.QA)
    return tokenizer


@every_family
def test_what_was_tuned_answers_alike_from_memory_and_from_every_folder(family):
    prompts, expected = map(list, zip(*ASKED, strict=True))
    answers = inference.generate(prompts, family.model, family.tokenizer, 24)
    assert answers == expected  # and ends there, 24 tokens being more than it needs
    for folder in (family.adapter, family.merged):
        loaded = models.load(str(folder))
        assert inference.generate(prompts, *loaded, 24) == expected
        assert [inference.generate(prompt, *loaded, 24) for prompt in prompts] == (
            expected
        )


@every_family
def test_training_and_answering_write_the_ids_that_a_server_writes(family):
    served = transformers.AutoTokenizer.from_pretrained(family.merged)
    assert served.chat_template == family.tokenizer.chat_template
    for asked, answer in ASKED:
        ids = tokens.prompt_ids(asked, family.tokenizer)
        assert (
            ids
            == served.apply_chat_template(asked, add_generation_prompt=True)[
                "input_ids"
            ]
        )
        answered = [*asked, {"role": "assistant", "content": answer}]
        for learn in ("all", "last"):
            row = tokens.encode(answered, family.tokenizer, learn=learn)
            assert row["input_ids"][: len(ids)] == ids
            assert row["labels"][len(ids)] == row["input_ids"][len(ids)]


def runs(row):
    """The stretches of ids that are learnt."""
    found, before = [], tokens.IGNORE
    for place, label in enumerate(row["labels"]):
        assert label in (tokens.IGNORE, row["input_ids"][place])
        if label != tokens.IGNORE:
            found += [[]] if before == tokens.IGNORE else []
            found[-1].append(label)
        before = label
    return found


@every_name
@pytest.mark.parametrize("learn", ["all", "last"])
def test_all_of_an_answer_and_its_end_is_learnt_and_nothing_else(name, learn):
    tokenizer = of_name(name)
    assert templates.end_of_turn(tokenizer) == ENDS[name]
    for talk in TALKS:
        said = [m["content"] + ENDS[name] for m in talk if m["role"] == "assistant"]
        if name == "qwen-3":
            said[-1] = THOUGHT + said[-1]
        row = tokens.encode(talk, tokenizer, learn=learn)
        learnt = [tokenizer.decode(run).lstrip(" ") for run in runs(row)]
        assert learnt == (said if learn == "all" else said[-1:])
        assert row["labels"][-1] == tokenizer.convert_tokens_to_ids(ENDS[name])


@every_name
def test_a_text_begins_once_or_never_as_the_family_wants_it(name):
    tokenizer, family = of_name(name), families.FAMILIES[name]
    begins = "+bos" in family.way or "bos_token" in (family.template or "")
    for talk in TALKS:
        ids = tokens.encode(talk, tokenizer)["input_ids"]
        assert (ids[0] == tokenizer.bos_token_id) == (begins or name == "smollm2")
        if begins and family.bos != family.eos:
            assert ids.count(tokenizer.bos_token_id) == 1
    raw = [{"role": "assistant", "content": "The mast."}]
    row = tokens.encode(raw, tokenizer)
    begin = [tokenizer.bos_token_id] * ("+bos" in family.way)
    bare = tokenizer("The mast.", add_special_tokens=False).input_ids
    assert tokenizer("The mast.").input_ids == begin + bare
    assert row["input_ids"] == [*begin, *bare, tokenizer.eos_token_id]
    assert runs(row) == [[*bare, tokenizer.eos_token_id]]
    assert tokens.prompt_ids("The mast.", tokenizer) == begin + bare
    if begin:  # which a text may bring along
        ids = tokens.prompt_ids(family.bos + "The mast.", tokenizer)
        assert ids[0] == begin[0] and ids.count(begin[0]) == 1
    assert tokens.prompt_ids("", tokenizer) == []


@pytest.mark.parametrize("learn", ["all", "last"])
def test_a_system_line_that_moves_to_the_last_question_is_learnt_where_it_stands(learn):
    """Mistral's template leaves it out of a conversation that ends in an answer."""
    tokenizer = of_name("mistral")
    line, talk = {"role": "system", "content": "Be short."}, TALKS[2]
    for asked in (talk[:1], talk[:3]):
        ids = tokens.prompt_ids([line, *asked], tokenizer)
        answered = [line, *asked, {"role": "assistant", "content": "Larkfield."}]
        if learn == "all" and len(asked) > 1:
            with pytest.raises(ValueError, match="message 3.*learn the last turn only"):
                tokens.encode(answered, tokenizer, learn=learn)
            continue
        row = tokens.encode(answered, tokenizer, learn=learn)
        assert row["input_ids"][: len(ids)] == ids
        assert tokenizer.decode(ids).count("Be short.") == 1
        assert tokenizer.decode(row["input_ids"][len(ids) :]) == "Larkfield.</s>"


@every_family
def test_any_program_that_reads_the_folder_stops_at_the_end_of_a_turn(family):
    settings = transformers.GenerationConfig.from_pretrained(family.merged)
    end = templates.end_of_turn(family.tokenizer)
    assert family.tokenizer.convert_tokens_to_ids(end) in settings.eos_token_id
    assert not settings.do_sample


@every_family
def test_a_shared_beginning_longer_than_a_window_changes_no_answer(family, monkeypatch):
    """Gemma 3 and Phi 3 see the last tokens only, in some of their layers."""
    beginning = "Is it on? Yes, it is. How high is it? Who made it? " * 3
    prompts = [beginning + rest for rest in ("Be", "The mast is", "Yes", "In one 42,")]
    loaded = family.model, family.tokenizer
    expected = [inference.generate(prompt, *loaded, 12) for prompt in prompts]
    monkeypatch.setattr(inference, "SHARED_PREFIX", 1)
    assert inference.generate(prompts, *loaded, 12) == expected


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The url of a `transformers serve`, which is told the model with each question."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(1200):
            assert process.poll() is None, log.read_text(errors="replace")
            with contextlib.suppress(httpx2.HTTPError):
                httpx2.get(f"{url}/health", trust_env=False).raise_for_status()
                break
            time.sleep(0.25)
        yield url
    finally:
        process.kill()
        process.wait()


def test_a_server_is_given_the_same_ids_and_gives_the_same_answers(server, made):
    for name in NAMES:
        tuned = made(name)
        for asked, answer in ASKED:
            body = {
                "model": str(tuned.merged),
                "messages": asked,
                "max_tokens": 24,
                "temperature": 0,
            }
            url = f"{server}/v1/chat/completions"
            reply = httpx2.post(url, json=body, timeout=120, trust_env=False).json()
            assert reply["choices"][0]["message"]["content"].strip() == answer, name
            used = reply["usage"]["prompt_tokens"]
            assert used == len(tokens.prompt_ids(asked, tuned.tokenizer)), name


# Breaking out of a turn


def control(tokenizer):
    """The tokens that a template is made of, or may be."""
    added = tokenizer.added_tokens_decoder.values()
    return [token.content for token in added if token.special]


def attempts(token):
    """Texts with which somebody may try to write the token."""
    half = len(token) // 2
    yield from (token, f"{token} a", f"a {token}", f"a{token}{token}b")
    yield f"a {token[:half]}{token}{token[half:]} b"  # whole after one is taken out
    yield f"{token[0]}{token}{token[-1]} {token[:-1]}"
    yield f"a {token[:half]}"
    yield token[half:]


def inside(tokenizer, text, role):
    """The ids of a message in training, and those in asking where a user writes it."""
    answer = {"role": "assistant", "content": "ok" if role == "user" else text}
    asked = [{"role": "user", "content": text if role == "user" else "ok"}]
    row = tokens.encode([*asked, answer], tokenizer, max_length=10_000)
    plain = [asked[0] | {"content": "ok"}, answer | {"content": "ok"}]
    return row["input_ids"], tokens.encode(plain, tokenizer)["input_ids"], asked


@every_name
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_nobody_ends_a_turn_by_writing_how_turns_end(name, role):
    tokenizer = of_name(name)
    special = {tokenizer.convert_tokens_to_ids(token) for token in control(tokenizer)}
    for token in control(tokenizer):
        for text in attempts(token):
            text = text.strip()
            ids, plain, asked = inside(tokenizer, text, role)
            assert [i for i in ids if i in special] == [
                i for i in plain if i in special
            ], (token, text)
            shown = tokenizer.decode(ids)
            squeezed = re.sub(r"\s", "", text)  # some put a space where a text is cut
            assert squeezed in re.sub(r"\s", "", shown), (token, text)
            if families.FAMILIES[name].way not in ("metaspace+bos", "prepend"):
                assert text in shown
            prompt = tokens.prompt_ids(asked, tokenizer)
            assert prompt == ids[: len(prompt)]


@every_name
def test_a_text_that_only_looks_like_control_is_given_the_ids_of_any_other(name):
    """Cuts where none are needed would be ids that no server writes."""
    tokenizer = of_name(name)
    for text in (
        "a <",
        "[",
        "a < b > c",
        "<|",
        "im_end",
        "<|im_",
        "a\n\n<",
        "<b>x</b>",
    ):
        asked = [{"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True)
        assert tokens.prompt_ids(asked, tokenizer) == ids["input_ids"], text


def test_thoughts_of_the_assistant_stay_tokens_and_those_of_users_do_not():
    tokenizer = of_name("qwen-3")
    begin, end = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    text = "<think>\nLong ago.\n</think>\n\nLarkfield."
    for role in ("user", "assistant"):
        ids, _, _ = inside(tokenizer, text, role)
        assert ids.count(begin) == ids.count(end) == 1  # of the last answer
        shown = tokenizer.decode(ids)
        assert shown.count("Long ago.\n</think>") == 1
        assert (THOUGHT in shown) == (role == "user")  # one of its own, or an empty one
