"""Adapters: a few MB in peft's form, on top of the model that they were tuned on."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from pathlib import Path

from helpers import models, runs

import peft
import safetensors.torch
from safetensors import SafetensorError


def load(folder: Path, dtype):
    """An adapter on top of its base, which must be the one that it was tuned on."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        base = str(config["base_model_name_or_path"])
        weights = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise OSError(
            f"{folder} does not load as an adapter: {error!r}. It needs a whole "
            "adapter_config.json and adapter_model.safetensors: copy it again"
        ) from error
    try:
        if (models.folder_of(base) / "adapter_config.json").exists():
            raise OSError(f"{base} is an adapter too: merge that first")
        model, tokenizer = models.load(base, dtype)
    except OSError as error:
        raise OSError(f"{folder} is an adapter without its base: {error}") from error
    tuned_on = runs.read(folder) if (folder / "run.json").exists() else {}
    if tuned_on.get("model") not in (None, models.digest(model)):
        raise OSError(
            f"{folder} was tuned on another model than {base!r} is here: get that "
            "model, or tune again"
        )
    with models.silent(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing tensors, which are named below
        try:
            tuned = peft.PeftModel.from_pretrained(model, folder)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = models.reason(error)[:200]
            raise OSError(f"{folder} does not fit {base!r}: {reason}") from error
    # with the embeddings, peft would ask the hub for those of the base
    names = peft.get_peft_model_state_dict(tuned, save_embedding_layers=False).keys()
    models.complain(
        folder, missing=names - weights.keys(), unexpected=weights.keys() - names
    )
    if (folder / "tokenizer.json").exists():
        of_base = tokenizer
        safe = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer = models.tokenizer_of(folder, safe)
        except (OSError, ValueError) as error:
            reason = models.reason(error)
            raise OSError(f"{folder}: its tokenizer does not load: {reason}") from error
        tokenizer.pad_token = tokenizer.pad_token or of_base.pad_token
        tokenizer.given = of_base.given and tokenizer.chat_template is None
        tokenizer.chat_template = tokenizer.chat_template or of_base.chat_template
    elif (folder / "chat_template.jinja").exists():  # of the course: its base's tokens
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        tokenizer.chat_template, tokenizer.given = template, False
    models.set_ends(model, tokenizer)
    return tuned.eval(), tokenizer


def merge(folder: str, output: str) -> None:
    """Write an adapter and its base as one plain model, with tokenizer and template.
    Built by hand in lesson 06, "Merging".
    Raises OSError when folder holds no adapter or output is not an empty folder.
    """
    target = Path(output)
    if not (Path(folder) / "adapter_config.json").is_file():
        raise OSError(f"{folder} holds no adapter (no adapter_config.json)")
    if not (output and runs.can_hold(target)) or (
        target.exists() and any(target.iterdir())
    ):
        raise OSError(f"{output!r} is no empty folder of yours: choose another one")
    model, tokenizer = models.load(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with models.silent(), tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        made = Path(temporary) / "merged"
        merged = model.float().merge_and_unload()
        merged.to(model.base_model.model.config.dtype).save_pretrained(made)
        tokenizer.save_pretrained(made)
        os.replace(made, target)
