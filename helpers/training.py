"""Training: a model and examples in, a tuned model out, with its log and its folder.

In: {"prompt", "completion"} examples.  Out: the same model, tuned, and what happened.
Knows nothing of right answers; transformers.Trainer does the steps.

    python -m helpers.training --model tiny --data FILE --output FOLDER

On several processes the same command goes behind a launcher, such as two on one CPU:
    accelerate launch --multi_gpu --num_processes 2 -m helpers.training --model ...
(without --multi_gpu accelerate starts one process where it sees no GPU)
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import inspect
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import filelock
import pandas as pd
import torch
import transformers
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments

from helpers import models, records, templates, tokens

CACHE = models.CACHE.parent / "tuned"


class Tuned(NamedTuple):
    """What `finetune` gives.

    model: tuned, in evaluation mode. log: a frame with step, epoch, loss,
    learning_rate, grad_norm of every step, and validation_loss at the end of each epoch
    where there are validation examples. seconds: of training, the first time. folder:
    where it is kept, or None.
    """

    model: torch.nn.Module
    log: pd.DataFrame
    seconds: float
    folder: Path | None


@models.silent()
def finetune(
    model,
    tokenizer,
    examples: list[dict],
    *,
    validation: list[dict] | None = None,
    epochs: int = 4,
    batch_size: int = 8,
    learning_rate: float = 3e-4,
    train_layers: str = "all",
    max_length: int = 512,
    seed: int = 0,
    output: str | os.PathLike | None = None,
    cache: bool = False,
) -> Tuned:
    """Tune a causal language model, in place, on prompt/completion examples.

    examples: dicts with "prompt" and "completion", as a template's `example` gives.
    validation: examples whose loss is logged at the end of each epoch.
    batch_size: examples per step over all processes. learning_rate: the highest; it
    warms up over the first tenth of the steps and falls linearly to 0.
    train_layers: "all", or "top half" or "top N": those layers and the final norm;
    embeddings and the layers below stay as they are.
    max_length: tokens per example; longer ones are cut and a warning names them.
    output: folder for the tuned model, one that models.load takes. A run that was
    killed goes on from its last epoch when it is called again with the same arguments;
    a finished one is not trained again.
    cache: keep it under outputs/tuned, keyed by data, settings, code and model.

    Weights being trained are held in float32; the arithmetic is bfloat16 where the
    model was loaded in it (torch.autocast), else float32.
    Raises ValueError for a row that cannot be learnt, FileExistsError when output holds
    another run, OSError when the disk has no room for the checkpoints.
    """
    if not examples:
        raise ValueError("no examples: there is nothing to learn")
    world = int(os.environ.get("WORLD_SIZE", 1))
    if batch_size % world:
        raise ValueError(
            f"batch_size {batch_size} cannot be shared by {world} processes: "
            f"make it a multiple of {world}"
        )
    choices = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "train_layers": train_layers,
        "max_length": max_length,
        "seed": seed,
    }
    settings = choices | {
        "dtype": str(model.dtype),
        "data": _digest(json.dumps([examples, validation])),
        "model": _model_digest(model),
        "code": _code_digest(),
    }
    if cache:
        output = CACHE / _digest(json.dumps(settings))
        CACHE.mkdir(parents=True, exist_ok=True)
        # lessons that run side by side tune a model once: the second waits and takes it
        with _alone(output) if world == 1 else contextlib.nullcontext():
            return finetune(
                model,
                tokenizer,
                examples,
                validation=validation,
                output=output,
                **choices,
            )
    rows = tokens.encode_all(examples, tokenizer, max_length)
    folder = Path(output) if output else None
    if folder and _finished(folder, settings):
        _load_weights(model, folder)
        _remember(model, examples)
        log = pd.read_csv(folder / "training_log.csv")
        seconds = json.loads((folder / "run.json").read_text())["seconds"]
        print(f"taken from {_short(folder)}, trained earlier in {seconds:.0f} s")
        return Tuned(model.eval(), log, seconds, folder)

    bfloat16 = model.dtype == torch.bfloat16
    with _chosen_layers(model, train_layers), tempfile.TemporaryDirectory() as scratch:
        # made first: under accelerate launch it brings the processes together
        arguments = TrainingArguments(
            output_dir=str(folder / "checkpoints" if folder else scratch),
            num_train_epochs=epochs,
            per_device_train_batch_size=batch_size // world,
            per_device_eval_batch_size=32,
            learning_rate=learning_rate,
            # of a single step the warm-up would be all, at rate 0
            warmup_steps=0.1 if epochs * len(rows) > batch_size else 0,
            lr_scheduler_type="linear",
            weight_decay=0.0,
            max_grad_norm=1.0,
            bf16=bfloat16,
            use_cpu=model.device.type == "cpu",
            seed=seed,
            save_strategy="epoch" if folder else "no",
            save_total_limit=1,
            eval_strategy="epoch" if validation else "no",
            prediction_loss_only=True,
            logging_steps=1,
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            report_to="none",
        )
        if folder:
            _check_room(folder, model)
        if folder and arguments.process_index == 0:
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / "run.json", json.dumps(settings, indent=1))
        trainer = _Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            eval_dataset=tokens.encode_all(validation, tokenizer, max_length)
            if validation
            else None,
            data_collator=functools.partial(_collate, model, tokenizer.pad_token_id),
            callbacks=[_Progress()],
        )
        trainer.batch_size = batch_size
        trainer.remove_callback(transformers.PrinterCallback)
        last = _last_checkpoint(folder) if folder else None
        trainer.accelerator.wait_for_everyone()
        if last and trainer.is_world_process_zero():
            print(f"going on from {_short(last)}")
        started = time.perf_counter()
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except Exception:
            if folder:  # a full disk fails in as many ways as there are writers
                _check_room(folder, model)
            raise
        seconds = time.perf_counter() - started
        log = _frame(trainer.state.log_history)

    _remember(model, examples)
    if folder and trainer.is_world_process_zero():
        _save(model, tokenizer, log, folder, settings | {"seconds": seconds})
    trainer.accelerator.wait_for_everyone()
    return Tuned(model, log, seconds, folder)


@contextlib.contextmanager
def _alone(folder: Path):
    """One process at a time; who has to wait is told so, as by a progress bar."""
    lock = filelock.FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if not models.quiet():
            print("another lesson is tuning this very model: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _Trainer(Trainer):
    """Trainer with batches of like length, and a resume that restores every weight."""

    batch_size: int

    def _get_train_sampler(self, train_dataset=None):
        lengths = [len(row["input_ids"]) for row in self.train_dataset]
        return _ByLength(lengths, self.batch_size, self.args.seed)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        # Trainer's own loading leaves an untied GPT-NeoX head as it was, silently
        _load_weights(self.model, resume_from_checkpoint)


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


class _Progress(TrainerCallback):
    """One bar on stdout: steps done and the loss; nothing when progress is off."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            disable=models.quiet() or not state.is_world_process_zero,
            file=sys.stdout,
            leave=False,
            unit="step",
        )

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in (logs or {}):
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.3f}", refresh=False)
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


def _collate(model, pad_token_id, rows):
    batch = tokens.collate(rows, pad_token_id)
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        return tokens.answers_only(batch)
    return batch


@contextlib.contextmanager
def _chosen_layers(model, train_layers: str):
    """`_choose_layers` and back again, also when the run fails or is interrupted."""
    dtype = model.dtype
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    try:
        _choose_layers(model, train_layers)
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])
            parameter.grad = None
            # not model.to: it would round the buffers, the rotary angles among them
            parameter.data = parameter.data.to(dtype)
        model.eval()


def _choose_layers(model, train_layers: str) -> None:
    """Gradients on for the layers to be trained; those weights held in float32."""
    count = model.config.num_hidden_layers
    if train_layers == "all":
        top = count
    elif train_layers == "top half":
        top = (count + 1) // 2
    elif match := re.fullmatch(r"top (\d+)", train_layers):
        top = int(match[1])
    else:
        raise ValueError(
            f"train_layers is {train_layers!r}: give 'all', 'top half' or 'top N'"
        )
    if not 1 <= top <= count:
        raise ValueError(f"train_layers {train_layers!r}: the model has {count} layers")
    body = model.base_model
    layers = next(
        module
        for module in body.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    )
    if top < count:
        model.requires_grad_(False)
        layers[count - top :].requires_grad_(True)
        for name, child in body.named_children():
            if "norm" in name:
                child.requires_grad_(True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _remember(model, examples) -> None:
    """Note in the model's config which template it was tuned with, for inference."""
    model.config.prompt_template = templates.recognise([e["prompt"] for e in examples])


def _load_weights(model, folder) -> None:
    loaded = type(model).from_pretrained(folder, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole: its trainer_state.json is written last."""
    found = sorted(
        folder.glob("checkpoints/checkpoint-*/trainer_state.json"),
        key=lambda path: int(path.parent.name.rpartition("-")[2]),
    )
    return found[-1].parent if found else None


def _check_room(folder: Path, model) -> None:
    """OSError when the disk cannot hold two checkpoints, Adam's averages included."""
    need = 10_000_000 + 2 * sum(  # 10 MB for the log, the tokenizer and the like
        p.numel() * (p.element_size() + 8 * p.requires_grad) for p in model.parameters()
    )
    written = [p.stat().st_size for p in folder.glob("checkpoints/*/*") if p.is_file()]
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free + sum(written) < need:
        raise OSError(
            f"{folder}: the disk has {free / 1e6:.0f} MB free, this run needs "
            f"{(need - sum(written)) / 1e6:.0f} MB: free some space and call it again, "
            "or choose another folder"
        )


def _finished(folder: Path, settings: dict) -> bool:
    """Whether folder holds this very run, finished. FileExistsError for another one."""
    path = folder / "run.json"
    if folder.is_file():
        raise FileExistsError(f"{folder} is a file: give a folder")
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(
                f"{folder} is not empty and holds no run of finetune: "
                "choose another folder, or delete it"
            )
        return False
    stored = json.loads(path.read_text())
    differs = [name for name in settings if stored.get(name) != settings[name]]
    if differs:
        raise FileExistsError(
            f"{folder} holds another run, with other {', '.join(differs)}: "
            "choose another folder, or delete it"
        )
    return "seconds" in stored


def _save(model, tokenizer, log, folder: Path, settings: dict) -> None:
    """Write a tuned model beside, then move it in; run.json, written last, ends it."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        log.to_csv(Path(temporary) / "training_log.csv", index=False)
        for path in Path(temporary).iterdir():
            os.replace(path, folder / path.name)
    _write(folder / "run.json", json.dumps(settings, indent=1))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _frame(history: list[dict]) -> pd.DataFrame:
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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _model_digest(model) -> str:
    digest = hashlib.sha256()
    for name, weights in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weights.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _code_digest() -> str:
    folder = Path(__file__).parent
    code = "".join((folder / f).read_text() for f in ("tokens.py", "training.py"))
    return _digest(code + torch.__version__ + transformers.__version__)


def _short(path: Path) -> str:
    """A path as seen from the course's folder, where it lies in it."""
    path = Path(path).resolve()
    return str(path.relative_to(models.ROOT) if models.ROOT in path.parents else path)


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when the model was tuned and saved."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.training",
        description="Tune a language model on a JSONL file of your own.",
        epilog="example: python -m helpers.training --model smollm2 --data mine.jsonl "
        "--output outputs/mine --train-layers 'top half'",
    )
    add = parser.add_argument
    add("--model", required=True, help="tiny, smollm2, a folder, or a hub id")
    add("--data", required=True, help=f"JSONL with the fields {records.FORM_NAMES}")
    add("--output", required=True, help="folder for the tuned model")
    add("--validation", help="JSONL whose loss is logged after each epoch")
    add(
        "--template",
        choices=list(templates.ALL),
        help="how a record becomes a prompt (CHAT for smollm2, else QA)",
    )
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(finetune).parameters.items()
    }
    settings = {
        "epochs": "times through the data",
        "batch_size": "examples per step",
        "learning_rate": "the highest, after warm-up",
        "train_layers": "'all', 'top half' or 'top N'",
        "max_length": "tokens per example",
        "seed": "of the order of the rows",
    }
    for name, text in settings.items():
        value = defaults[name]
        flag = f"--{name.replace('_', '-')}"
        add(flag, type=type(value), default=value, help=f"{text} (default {value})")
    options = parser.parse_args(arguments)
    main_process = os.environ.get("RANK", "0") == "0"
    try:
        model, tokenizer = models.load(options.model)
        name = options.template or ("CHAT" if options.model == "smollm2" else "QA")
        template = templates.ALL[name]
        examples = _examples(options.data, template)
        tuned = finetune(
            model,
            tokenizer,
            examples,
            validation=options.validation and _examples(options.validation, template),
            output=options.output,
            **{name: getattr(options, name) for name in settings},
        )
    except (OSError, ValueError, ModuleNotFoundError) as error:
        if main_process:
            print(error, file=sys.stderr)
        return 1
    if main_process:
        print(
            f"{len(examples)} examples, {len(tuned.log)} steps, {tuned.seconds:.0f} s, "
            f"loss {tuned.log['loss'].iloc[0]:.3f} to {tuned.log['loss'].iloc[-1]:.3f}"
            f"\ntemplate {name}; the tuned model is in {options.output}"
        )
    return 0


def _examples(path: str, template: templates.Template) -> list[dict]:
    examples, faults = [], []
    for number, record in enumerate(records.read(path), 1):
        try:
            examples.append(template.example(record))
        except ValueError as error:
            faults.append(f"{path}: row {number}: {error}")
    if faults:
        raise ValueError("\n".join(faults))
    return examples


if __name__ == "__main__":
    sys.exit(main())
