"""Run with `python -m pytest tests/test_examples.py`: half a minute, no network needed.

examples/one_card.py is for a model of 7 billion weights and a rented card. That it runs
at all must be known before the card is paid for.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from helpers import inference, models, records, training

import pytest
import torch

trl = pytest.importorskip("trl")
ROOT = Path(__file__).resolve().parent.parent
SCRIPT = "examples/one_card.py"
ROWS = [
    {"question": "How high is the mast?", "answer": "Two metres."},
    {"question": "Which band of Wi-Fi does the base join?", "answer": "2.4 GHz only."},
    {"question": "What does E12 mean?", "answer": "The rain funnel is blocked."},
    {"question": "May it hang indoors?", "answer": "No, it belongs outdoors."},
]


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """The folder of an adapter after three steps on tiny, and what was printed."""
    folder = tmp_path_factory.mktemp("card")
    data = folder / "mine.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    options = "--model tiny --steps 3 --at-once 2 --pieces 2 --learning-rate 0.002"
    done = subprocess.run(
        [sys.executable, SCRIPT, *options.split()]
        + ["--data", data, "--output", folder / "adapter"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "adapter", done.stdout


def losses(printed):
    lines = [line for line in printed.splitlines() if "'loss'" in line]
    return [float(line.split("'loss': ")[1].strip("'").split("'")[0]) for line in lines]


def test_what_one_card_leaves_is_an_adapter_that_the_course_loads(trial):
    model, tokenizer = models.load(str(trial[0]))
    assert hasattr(model, "peft_config")
    moved = [w for name, w in model.named_parameters() if "lora_B" in name]
    assert moved and all(w.abs().max() > 0 for w in moved)
    prompt = records.prompt(ROWS[0])
    assert isinstance(inference.generate(prompt, model, tokenizer, 4), str)


def test_one_card_learns_from_its_first_step_on(trial):
    found = losses(trial[1])
    assert len(found) == 3 and found[-1] < found[0]


def test_the_first_loss_of_one_card_is_that_of_finetune(trial):
    """The same answers are learnt, their end included, and nothing of the prompts."""
    model, tokenizer = models.load("tiny")
    settings = {"method": "lora", "batch_size": 4, "epochs": 1}
    tuned = training.finetune(model, tokenizer, ROWS, **settings)
    assert losses(trial[1])[0] == pytest.approx(tuned.log["loss"].iloc[0], abs=0.02)


def test_the_adapter_of_a_four_bit_model_is_trained_in_float32(tmp_path, monkeypatch):
    """TRL takes a model for quantized by one mark on it; no 4 bits are needed here."""
    found = importlib.util.spec_from_file_location("one_card", ROOT / SCRIPT)
    one_card = importlib.util.module_from_spec(found)
    found.loader.exec_module(one_card)
    records.write(tmp_path / "mine.jsonl", ROWS)
    files = ["--data", tmp_path / "mine.jsonl", "--output", tmp_path / "adapter"]
    options = one_card.options_of(["--model", "tiny", *map(str, files)])
    made, plain = [], trl.SFTTrainer

    def as_trl_makes_it(**given):
        made.append(plain(**given))
        made.append({w.dtype for w in trained_by(made[0])})
        return made[0]

    monkeypatch.setattr(one_card.trl, "SFTTrainer", as_trl_makes_it)
    model, tokenizer = models.load("tiny")
    model.is_loaded_in_4bit = True
    trainer = one_card.trainer_of(model, tokenizer, options)
    assert made[1] == {torch.bfloat16}  # else the cast in one_card.py can go
    assert {weight.dtype for weight in trained_by(trainer)} == {torch.float32}
    trainer.create_optimizer()
    known = [w for group in trainer.optimizer.param_groups for w in group["params"]]
    assert {weight.dtype for weight in known} == {torch.float32}


def trained_by(trainer):
    return [weight for weight in trainer.model.parameters() if weight.requires_grad]
