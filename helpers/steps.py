"""Steps: what transformers.Trainer is told, for helpers.training to run.

Which weights are trained, in which order rows come, what a checkpoint holds, and when a
run has gone wrong.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import re
import sys
import warnings
from pathlib import Path

from helpers import models, runs, tokens

import pandas as pd
import torch
from tqdm import tqdm
from transformers import Trainer, TrainerCallback

METHODS = "'lora', 'full', 'top half' or 'top N'"


class Diverged(ValueError):
    """A loss or gradient is no number any more, or the training loss is well above what
    it was and what guessing any token of the vocabulary costs: no step helps then."""


def default_rate(method: str, model) -> float:
    """The learning rate where none is given: smaller, the wider the model.

    2e-3 for an adapter and 3e-4 for the weights themselves at the width of SmolLM2-135M
    (576), where they were searched; 3e-4 and 4e-5 at that of an 8 B model (4,096). That
    adapters want about ten times the rate: Schulman et al. 2025, "LoRA Without Regret".
    """
    width = model.get_input_embeddings().embedding_dim
    return (
        2e-3 * min(1, 576 / width) if method == "lora" else 3e-4 * min(1, 576 / width)
    )


def check_settings(choices: dict, output) -> None:
    """ValueError that names the first setting that cannot be, and what can."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    for name in ("epochs", "batch_size", "accumulation", "max_length", "rank", "seed"):
        value, least = choices[name], 0 if name == "seed" else 1
        if type(value) is not int or not least <= value < 2**32:
            raise ValueError(f"{name} is {value!r}: give a whole number from {least}")
    rate = choices["learning_rate"]
    if type(rate) not in (int, float) or not 0 < rate < math.inf:
        raise ValueError(f"learning_rate is {rate!r}: give a number above 0, as 3e-4")
    parts = world * choices["accumulation"]
    if choices["batch_size"] % parts:
        raise ValueError(
            f"batch_size {choices['batch_size']} cannot be shared by {world} processes "
            f"in {choices['accumulation']} parts: make it a multiple of {parts}"
        )
    if not re.fullmatch(r"lora|full|top (half|[1-9]\d*)", str(choices["method"])):
        raise ValueError(f"method is {choices['method']!r}: give {METHODS}")
    if choices["learn"] not in ("all", "last"):
        raise ValueError(f"learn is {choices['learn']!r}: give 'all' or 'last'")
    if output is not None and not (str(output) and runs.can_hold(Path(output))):
        raise ValueError(f"output is {str(output)!r}: give a folder of yours")


def sample(rows: list[dict], trained: int) -> list[dict]:
    """Validation rows evenly over their lengths, one for 20 that are trained on and at
    least 32: their loss then takes a sixtieth of an epoch's time, not a tenth."""
    rows = sorted(rows, key=lambda row: len(row["input_ids"]))  # little padding
    count = min(len(rows), max(32, trained // 20))
    return [rows[(2 * k + 1) * len(rows) // (2 * count)] for k in range(count)]


class CourseTrainer(Trainer):
    """Trainer with batches of like length; checkpoints hold what is trained, and so a
    resume restores every weight."""

    batch_size: int

    def _get_train_sampler(self, train_dataset=None):
        lengths = [len(row["input_ids"]) for row in self.train_dataset]
        return _ByLength(lengths, self.batch_size, self.args.seed)

    def save_model(self, output_dir=None, _internal_call=False):
        if self.args.should_save:
            runs.save_trained(self.model, output_dir)

    def _save_optimizer_and_scheduler(self, output_dir):
        with runs.unchecked():
            super()._save_optimizer_and_scheduler(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        runs.load_trained(self.model, resume_from_checkpoint)


class _ByLength(torch.utils.data.Sampler):
    """The order of `tokens.batch_order`; set_epoch makes a resumed run see the same."""

    def __init__(self, lengths, batch_size, seed):
        self.arguments, self.epoch = (lengths, batch_size, seed), 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return len(self.arguments[0])

    def __iter__(self):
        for batch in tokens.batch_order(*self.arguments, self.epoch):
            yield from batch


class Progress(TrainerCallback):
    """One bar on stdout, steps done and the loss; ends a run that has diverged."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            disable=models.quiet() or not state.is_world_process_zero,
            file=sys.stdout,
            leave=False,
            unit="step",
        )

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        seen = ("loss", "grad_norm", "eval_loss")
        found = {name: float(logs[name]) for name in seen if name in logs}
        begun = next((row["loss"] for row in state.log_history if "loss" in row), 0)
        guessing = math.log(model.config.get_text_config().vocab_size)
        worse = found.get("loss", 0) > 1.25 * max(begun, guessing)
        # the first step's rate is 0, and short answers may begin far worse than a guess
        worse &= state.global_step > max(2, args.get_warmup_steps(state.max_steps))
        if worse or not all(map(math.isfinite, found.values())):
            self.bar.close()
            listed = ", ".join(f"{name} {value}" for name, value in found.items())
            raise Diverged(
                f"step {state.global_step}: {listed}: nothing more can be learnt. "
                f"Lower learning_rate to a tenth of {args.learning_rate:g} or less, or "
                "leave it out: the default suits most models"
            )
        if "loss" in found:
            self.bar.set_postfix_str(f"loss {found['loss']:.3f}", refresh=False)
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


def collate(model, pad_token_id, rows):
    batch = tokens.collate(rows, pad_token_id)
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        return tokens.answers_only(batch)
    return batch


@contextlib.contextmanager
def trainable(model, method: str, rank: int, seed: int, largest: int):
    """The model with gradients where they are wanted, those weights in float32; back to
    what it was when the run fails, and to its own dtype when it ends.

    largest: rows at once, times the square of the longest one's tokens. On a CPU,
    attention written out is faster than torch's own where that is small: eight rows of
    64 tokens take SmolLM2 0.80 times as long on two cores, for 0.05 GB more; of 250
    tokens they take as long, for 0.7 GB more.
    """
    import peft  # a second to import

    dtype, use_cache = model.dtype, getattr(model.config, "use_cache", True)
    attention = model.config._attn_implementation
    if attention == "sdpa" and model.device.type == "cpu" and largest <= 8 * 128**2:
        model.set_attn_implementation("eager")
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    trainee, done = model, False
    try:
        if method != "lora":
            _choose_layers(model, method)
        elif isinstance(model, peft.PeftModel):  # goes on with the adapter it has
            for name, parameter in model.named_parameters():
                parameter.requires_grad_("lora_" in name)
        else:
            shape = peft.LoraConfig(
                r=rank,
                lora_alpha=2 * rank,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            )
            torch.manual_seed(seed)  # half of an adapter begins at random
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # GPT-2's layers are transposed
                trainee = peft.get_peft_model(model, shape)
        for parameter in trainee.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        yield trainee
        done = True
    finally:
        if trainee is not model and not done:
            trainee = trainee.unload()  # the model, its weights named as before
        for name, parameter in trainee.named_parameters():
            parameter.requires_grad_(wanted.get(name, False))
            parameter.grad = None
            # not model.to: it would round the buffers, the rotary angles among them
            parameter.data = parameter.data.to(dtype)
        model.set_attn_implementation(attention)
        model.activation_checkpointing_disable()
        model.config.use_cache = use_cache  # Trainer has turned it off
        model.eval()


def _choose_layers(model, method: str) -> None:
    """Gradients on for the layers that `method` names, off elsewhere."""
    count = model.config.num_hidden_layers
    top = method.removeprefix("top ")
    top = {"full": count, "half": (count + 1) // 2}.get(top) or int(top)
    if top > count:
        raise ValueError(f"method is {method!r}: the model has {count} layers")
    if hasattr(model, "peft_config"):
        raise ValueError(
            f"method is {method!r}, and the model carries an adapter: merge it first "
            "(python -m helpers.models merge), or go on with method='lora'"
        )
    if method == "full":
        model.requires_grad_(True)
        return
    body = model.base_model
    layers = next(
        module
        for module in body.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    )
    model.requires_grad_(False)
    layers[count - top :].requires_grad_(True)
    for name, child in body.named_children():
        if "norm" in name:
            child.requires_grad_(True)


def frame(history: list[dict]) -> pd.DataFrame:
    """Trainer's log as one row per step."""
    steps = {}
    for entry in history:
        if "loss" in entry or "eval_loss" in entry:
            steps.setdefault(entry["step"], {}).update(entry)
    frame = pd.DataFrame(steps.values()).rename(
        columns={"eval_loss": "validation_loss"}
    )
    names = ["step", "epoch", "loss", "learning_rate", "grad_norm", "validation_loss"]
    return frame[[name for name in names if name in frame]]
