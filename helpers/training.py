"""Training: a model and rows in, a tuned model or adapter out, with log and folder.

In: rows in any form of helpers.records.  Out: the model, tuned, and what happened.
Knows nothing of right answers; transformers.Trainer does the steps.

    python -m helpers.training --model smollm2 --data FILE --output FOLDER

On several processes the same command goes behind a launcher, such as two on one CPU:
    accelerate launch --multi_gpu --num_processes 2 -m helpers.training --model ...
(without --multi_gpu accelerate starts one process where it sees no GPU)
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import math
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from helpers import models, records, runs, steps, templates, tokens

import pandas as pd
import torch
import transformers
from transformers import TrainingArguments

CACHE = models.OUTPUTS / "tuned"


class Tuned(NamedTuple):
    """What `finetune` gives.

    model: tuned, in evaluation mode; a peft.PeftModel after method "lora". log: a frame
    with step, epoch, loss, learning_rate, grad_norm of every step, and validation_loss
    at the end of each epoch where there are validation rows. seconds: of training, the
    first time. folder: where it is kept, or None.
    """

    model: torch.nn.Module
    log: pd.DataFrame
    seconds: float
    folder: Path | None


@models.silent()
def finetune(
    model,
    tokenizer,
    rows: list[dict],
    *,
    validation: list[dict] | None = None,
    method: str | None = None,
    rank: int = 16,
    epochs: int = 4,
    batch_size: int = 8,
    accumulation: int = 1,
    learning_rate: float | None = None,
    max_length: int = 512,
    learn: str = "all",
    gradient_checkpointing: bool = False,
    seed: int = 0,
    output: str | os.PathLike | None = None,
    cache: bool = False,
) -> Tuned:
    """Tune a causal language model, in place, on rows of questions and answers.

    Built by hand in lesson 05, "The loop by hand".
    rows: in any form of helpers.records, written by the tokenizer's chat template.
    validation: rows of which a sample's loss is logged at the end of each epoch, at
    least 32, or one for 20 rows that are trained on.
    method: "lora", an adapter on all linear layers (Hu et al. 2021; peft); "full", all
    weights; "top half" or "top N", those layers and the final norm. By default "lora"
    for models of more than 50 M parameters or with an adapter, else "full".
    rank: of an adapter's matrices; its alpha is twice that.
    batch_size: rows per step over all processes, taken in `accumulation` parts.
    learning_rate: the highest; it warms up over the first tenth of the steps and falls
    linearly to 0. By default see steps.default_rate.
    max_length: tokens per row; longer ones are cut and a warning names them.
    learn: "all" turns of the assistant, or the "last".
    gradient_checkpointing: less memory, a third more time.
    output: folder for the tuned model, one that models.load takes. A run that was
    killed goes on from its last epoch when it is called again with the same arguments;
    a finished one is not trained again.
    cache: keep it under outputs/tuned, keyed by data, settings, code and model.

    Weights being trained are held in float32; the arithmetic is bfloat16 where the
    model was loaded in it (torch.autocast), else float32.
    Raises ValueError for a setting or row that cannot be and a loss that is no number,
    FileExistsError when output holds another run, OSError when the disk has no room.
    """
    large = model.num_parameters() > 50_000_000
    method = method or ("lora" if large or hasattr(model, "peft_config") else "full")
    if learning_rate is None:
        learning_rate = steps.default_rate(method, model)
    choices = {
        "method": method,
        "rank": rank,
        "epochs": epochs,
        "batch_size": batch_size,
        "accumulation": accumulation,
        "learning_rate": learning_rate,
        "max_length": max_length,
        "learn": learn,
        "gradient_checkpointing": gradient_checkpointing,
        "seed": seed,
    }
    steps.check_settings(choices, output)
    lists = (r if isinstance(r, list) else [*(r or ())] for r in (rows, validation))
    rows, validation = lists  # a list may know the lines of its rows
    train = _conversations(rows, "data")
    held_out = _conversations(validation, "validation") if validation else None
    settings = choices | {
        "dtype": str(model.dtype),
        "template": runs.digest(tokenizer.chat_template),
        "data": runs.digest(json.dumps([train, held_out])),
        "model": models.digest(model),
        "adapter": models.digest(model, adapter=True),
        "code": runs.code_digest(),
    }
    if cache:
        output = CACHE / runs.digest(json.dumps(settings))
        # lessons that run side by side tune a model once: the second waits and takes it
        with runs.alone(output):
            return finetune(
                model,
                tokenizer,
                rows,
                validation=validation,
                output=output,
                **choices,
            )
    if os.environ.get("RANK", "0") == "0":
        for name, count in records.unlearnt(rows).items():
            print(f"not learnt: {name!r}, in {count:,} of {len(rows):,} rows")
    into_ids = functools.partial(_encode, model, tokenizer, max_length, learn)
    encoded = into_ids(train, rows, "data")
    if held_out:
        held_out = into_ids(held_out, validation, "validation")
        held_out = steps.sample(held_out, len(encoded))
    folder = Path(output) if output else None
    if folder and runs.finished(folder, settings):
        tuned, log = runs.load(model, folder, method)
        seconds = runs.read(folder)["seconds"]
        print(f"taken from {runs.short(folder)}, trained earlier in {seconds:.0f} s")
        return Tuned(tuned.eval(), log, seconds, folder)

    at_once = batch_size // int(os.environ.get("WORLD_SIZE", 1)) // accumulation
    longest = max(len(row["input_ids"]) for row in encoded)
    with (
        steps.trainable(model, method, rank, seed, at_once * longest**2) as trainee,
        tempfile.TemporaryDirectory() as scratch,
    ):
        # made first: under accelerate launch it brings the processes together
        arguments = TrainingArguments(
            output_dir=str(folder / "checkpoints" if folder else scratch),
            num_train_epochs=epochs,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=accumulation,
            per_device_eval_batch_size=32,
            learning_rate=learning_rate,
            # of a single step the warm-up would be all, at rate 0
            warmup_steps=0.1 if epochs * len(encoded) > batch_size else 0,
            lr_scheduler_type="linear",
            weight_decay=0.0,
            max_grad_norm=1.0,
            bf16=model.dtype == torch.bfloat16,
            activation_checkpointing=gradient_checkpointing,
            activation_checkpointing_kwargs={"use_reentrant": False},
            use_cpu=model.device.type == "cpu",
            seed=seed,
            save_strategy="epoch" if folder else "no",
            save_total_limit=2,
            eval_strategy="epoch" if validation else "no",
            prediction_loss_only=True,
            logging_steps=1,
            logging_nan_inf_filter=False,
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            report_to="none",
        )
        if folder:
            runs.check_room(folder, trainee)
        if folder and arguments.process_index == 0:
            runs.begin(folder, settings)
        trainer = steps.CourseTrainer(
            model=trainee,
            args=arguments,
            train_dataset=encoded,
            eval_dataset=held_out,
            data_collator=functools.partial(
                steps.collate, model, tokenizer.pad_token_id
            ),
            callbacks=[steps.Progress()],
        )
        trainer.batch_size = batch_size
        trainer.remove_callback(transformers.PrinterCallback)
        last = runs.last_checkpoint(folder) if folder else None
        trainer.accelerator.wait_for_everyone()
        if last and trainer.is_world_process_zero():
            print(f"going on from {runs.short(last)}")
        started = time.perf_counter()
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except steps.Diverged:
            if folder:
                runs.forget(folder)
            raise
        except Exception:
            if folder:  # a full disk fails in as many ways as there are writers
                runs.check_room(folder, trainee)
            raise
        seconds = time.perf_counter() - started
        log = steps.frame(trainer.state.log_history)

    if folder and trainer.is_world_process_zero():
        runs.save(trainee, tokenizer, log, folder, settings | {"seconds": seconds})
    trainer.accelerator.wait_for_everyone()
    return Tuned(trainee.eval(), log, seconds, folder)


def _where(rows, which: str) -> str:
    """ "data" or "validation", with the file that its rows were read from."""
    return f"{which} {getattr(rows, 'path', None) or ''}".strip()


def _conversations(rows, which: str) -> list[list[dict]]:
    """Rows as messages that end in an answer; all faults at once."""
    talks, faults = [], []
    for number, row in zip(records.places(rows), rows, strict=True):
        try:
            talk = records.messages(row)
            if talk[-1]["role"] != "assistant":
                raise ValueError(
                    f"there is no answer, only {', '.join(map(repr, row))}: "
                    f"needs one of {records.FORM_NAMES}"
                )
            talks.append(talk)
        except ValueError as error:
            faults.append(f"{_where(rows, which)}: row {number}: {error}")
    if faults:
        raise ValueError("\n".join(records.capped(faults)))
    if not talks:
        raise ValueError(f"no {which}: there is nothing to learn")
    return talks


def _encode(model, tokenizer, max_length, learn, talks, rows, which) -> list[dict]:
    """Ids and labels; ValueError names the rows for which there is no room."""
    where, names = _where(rows, which), records.places(rows)
    try:
        encoded = tokens.encode_all(talks, tokenizer, max_length, learn)
    except ValueError as error:
        named = re.sub(
            r"(?m)^row (\d+)",
            lambda found: f"{where}: row {names[int(found[1]) - 1]}",
            str(error),
        )
        raise ValueError(named) from None
    room = getattr(model.config, "max_position_embeddings", None) or math.inf
    lengths = [len(row["input_ids"]) for row in encoded]
    if max(lengths) > room:
        longest = names[lengths.index(max(lengths))]
        raise ValueError(
            f"{where}: {sum(n > room for n in lengths)} rows have more tokens than the "
            f"model has positions, {room} (row {longest}: {max(lengths)}): shorten "
            f"them, or set max_length to {room}, which cuts their answers"
        )
    return encoded


HELP = {
    "method": f"{steps.METHODS} (default: lora over 50 M parameters, else full)",
    "rank": "of the adapter's matrices",
    "epochs": "times through the data",
    "batch_size": "rows per step",
    "accumulation": "parts in which a batch is taken, for less memory",
    "learning_rate": "the highest, after warm-up (default by method and model)",
    "max_length": "tokens per row",
    "learn": "'all' turns of the assistant, or the 'last'",
    "gradient_checkpointing": "less memory, a third more time",
    "seed": "of the order of the rows",
}


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when the model was tuned and saved."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.training",
        description="Tune a language model on a file of your own.",
        epilog="example: --model smollm2 --data mine.jsonl --output outputs/mine",
    )
    add = parser.add_argument
    add("--model", required=True, help="tiny, smollm2, a folder, or a hub id")
    add("--data", required=True, help=f"a file of rows: {records.FORM_NAMES}")
    add("--output", required=True, help="folder for the tuned model")
    add("--validation", help="a file whose loss is logged after each epoch")
    add("--template", choices=[*templates.ALL], help="in place of the model's own")
    defaults = inspect.signature(finetune).parameters
    for name, text in HELP.items():
        value, flag = defaults[name].default, f"--{name.replace('_', '-')}"
        if value is False:
            add(flag, action="store_true", help=text)
            continue
        kind = {"method": str, "learning_rate": float}.get(name) or type(value)
        shown = f"{text} (default {value})" if value is not None else text
        add(flag, type=kind, default=value, help=shown)
    options = parser.parse_args(arguments)
    choices = {name: getattr(options, name) for name in HELP}
    records.safe_console()
    try:
        given = {name: value for name, value in choices.items() if value is not None}
        usual = {"method": "lora", "learning_rate": 3e-4}
        steps.check_settings(usual | given, options.output)  # before anything is loaded
        rows = records.read(options.data)
        validation = options.validation and records.read(options.validation)
        model, tokenizer = models.load(options.model)
        if options.template:
            templates.give(tokenizer, templates.ALL[options.template])
        tuned = finetune(
            model,
            tokenizer,
            rows,
            validation=validation or None,
            output=options.output,
            **choices,
        )
        loss = tuned.log["loss"]
        said = f"{len(rows)} rows, {len(loss)} steps, {tuned.seconds:.0f} s, "
        said += f"loss {loss.iloc[0]:.3f} to {loss.iloc[-1]:.3f}\n"
        code, said = 0, f"{said}the tuned model is in {options.output}"
    except (OSError, ValueError, ModuleNotFoundError) as error:
        code, said = 1, str(error)
    except KeyboardInterrupt:
        code, said = 130, "\n" + runs.stopped(Path(options.output))
    if os.environ.get("RANK", "0") == "0":  # of processes that work together
        print(said, file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
