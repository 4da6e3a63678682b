"""Run with `python -m pytest tests/test_trl.py`: half a minute, no network needed.

TRL, which many finetune with, learns the same tokens and computes the same loss. It
brings the makers' templates of many families, each with marks around what is learnt.
"""

import itertools
from pathlib import Path

from helpers import models, records, templates, tokens, training

import families
import pytest
import torch

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.usefixtures("one_thread")

TALK = [
    {"role": "user", "content": "Is it on?"},
    {"role": "assistant", "content": "Yes, it is."},
    {"role": "user", "content": "How high is the base, in metres? 0071?"},
    {"role": "assistant", "content": "Two metres."},
]
ROWS = [
    {"messages": [{"role": "system", "content": "Be short."}, *TALK]},
    {"messages": TALK[:2]},
    {"messages": [TALK[2], {"role": "assistant", "content": "The mast " * 20}]},
]
MARKED = (  # templates.CHATML, with TRL's marks around an answer and its end
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\n' -}}"
    "{%- if message.role == 'assistant' -%}{%- generation -%}"
    "{{- message.content + '<|im_end|>' -}}{%- endgeneration -%}{{- '\n' -}}"
    "{%- else -%}{{- message.content + '<|im_end|>\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return families.build("qwen-2.5", tmp_path_factory.mktemp("trl") / "model")


def load(folder, template):
    model, tokenizer = models.load(str(folder))
    tokenizer.chat_template = template
    return model, tokenizer


@pytest.fixture(scope="module")
def theirs(folder, tmp_path_factory):
    """The loss of one step by SFTTrainer, at a rate that changes nothing."""
    model, tokenizer = load(folder, MARKED)
    datasets.disable_progress_bars()
    rows = [{"messages": records.messages(row)} for row in ROWS]
    with models.silent():
        trainer = trl.SFTTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=datasets.Dataset.from_list(rows),
            args=trl.SFTConfig(
                output_dir=str(tmp_path_factory.mktemp("trl")),
                assistant_only_loss=True,
                per_device_train_batch_size=len(rows),
                max_steps=1,
                learning_rate=1e-12,
                logging_steps=1,
                bf16=False,
                gradient_checkpointing=False,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
            ),
        )
        trainer.train()
    datasets.enable_progress_bars()
    return trainer.state.log_history[0]["loss"]


def test_a_batch_has_the_loss_that_trl_computes(folder, theirs):
    model, tokenizer = load(folder, templates.CHATML)
    rows = tokens.encode_all([records.messages(row) for row in ROWS], tokenizer)
    batch = tokens.answers_only(tokens.collate(rows, tokenizer.pad_token_id))
    with torch.inference_mode():
        ours = model(**batch).loss.item()
    assert ours == pytest.approx(theirs, abs=1e-4)
    every = {"labels": batch["input_ids"], "input_ids": batch["input_ids"]}
    with torch.inference_mode():  # learning all tokens would be another loss
        assert abs(model(**every).loss.item() - theirs) > 1e-3


def test_a_step_of_finetune_has_the_loss_that_trl_computes(folder, theirs):
    model, tokenizer = load(folder, templates.CHATML)
    settings = {"method": "full", "epochs": 1, "learning_rate": 1e-12}
    tuned = training.finetune(model, tokenizer, ROWS, **settings)
    assert tuned.log["loss"].iloc[0] == pytest.approx(theirs, abs=1e-4)


THERE = Path(trl.__file__).parent / "chat_templates"
SPECIAL = {
    "cohere": "<|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|USER_TOKEN|> "
    "<|CHATBOT_TOKEN|> <|SYSTEM_TOKEN|>",
    "gemma": "<start_of_turn> <end_of_turn>",
    "gemma3": "<start_of_turn> <end_of_turn>",
    "lfm2": "<|im_start|> <|im_end|>",
    "llama3": "<|start_header_id|> <|end_header_id|> <|eot_id|>",
    "phi3": "<|system|> <|user|> <|assistant|> <|end|>",
    "qwen2_5": "<|im_start|> <|im_end|>",
    "qwen3": "<|im_start|> <|im_end|>",
    "qwen3_instruct_2507": "<|im_start|> <|im_end|>",
}


@pytest.mark.parametrize("name", SPECIAL)
def test_of_the_makers_templates_the_same_is_learnt_as_by_trl(name):
    tokenizer = families.tokenizer("gpt-2")
    special = SPECIAL[name].split()
    tokenizer.add_special_tokens({"extra_special_tokens": special, "bos_token": "<s>"})
    talks = [TALK[:2], TALK]
    if name == "qwen3":  # TRL's puts thoughts into answers of the past, theirs does not
        talks = talks[:1]
    if name != "gemma":  # which takes no system line
        talks.append([ROWS[0]["messages"][0], *talks[-1]])
    for talk in talks:
        tokenizer.chat_template = (THERE / f"{name}.jinja").read_text("utf-8")
        row = tokens.encode(talk, tokenizer)
        tokenizer.chat_template = (THERE / f"{name}_training.jinja").read_text("utf-8")
        marked = tokenizer.apply_chat_template(
            talk, return_dict=True, return_assistant_tokens_mask=True
        )
        assert marked["input_ids"][: len(row["input_ids"])] == row["input_ids"]
        learnt = stretches(tokenizer, row["input_ids"], row["labels"], tokens.IGNORE)
        theirs = stretches(tokenizer, marked["input_ids"], marked["assistant_masks"], 0)
        if name == "phi3":  # TRL learns the end of the conversation as well
            theirs[-1] = theirs[-1].removesuffix("<|endoftext|>").strip()
        assert learnt == theirs  # but for the newline that may follow a turn


def stretches(tokenizer, ids, marks, none):
    """The texts that are learnt, without the white space around them."""
    pairs = zip(ids, marks, strict=True)
    groups = itertools.groupby(pairs, lambda pair: pair[1] != none)
    parts = [[token for token, _ in group] for learnt, group in groups if learnt]
    return [tokenizer.decode(part).strip() for part in parts]
