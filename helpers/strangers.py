"""Strangers: what a model or a hub of somebody else may not make this computer do.

transformers reads safetensors and runs no code of a model, with exceptions: an index
may name weights of another kind, a config may name code of the hub, and a chat template
is a program, in a sandbox, that can fail in any way. The hub's client believes what a
hub says where a download goes.
"""

from __future__ import annotations

import json
import re

import huggingface_hub
from huggingface_hub.utils import _http
from jinja2 import TemplateError

# What transformers says of a model that the course cannot take, and what that means.
REASONS = {
    "trust_remote_code": "it comes with code of its own, which the course never runs: "
    "give a model that transformers knows",
    "Unrecognized configuration class": "it does not write text from left to right "
    "(no causal language model, such as T5 or BERT): give one that does",
    "deserializ": "its model.safetensors is cut or damaged: get it anew, or where "
    "finetune wrote it, delete the folder and tune again",
    "quantiz": "its weights are quantized by a library that is not here: give the "
    "model that was not quantized",
    "named model.safetensors": "its weights are no safetensors (model.safetensors), "
    "the one form that cannot run code: give a model that has them",
    "names a place outside": "the hub that was asked names places outside of its "
    "folder: do not trust it, check HF_ENDPOINT",
}
INDEX = "model.safetensors.index.json"
KERNEL = r'"(\w*_implementation\w*)": ("[^"]*"|{[^}]*})'
PLACES = ("etag", "x-linked-etag", "x-repo-commit")  # headers that become file names
TEMPLATE = 100_000  # characters that a template may write round one word


class Refused(OSError):
    """What a model may not hold; the message says so."""


def check(folder, options: dict) -> None:
    """Refused where a model names weights that are no safetensors, or code.

    folder: of a model, or a hub id; options: for transformers' cached_file.
    """
    shards = _read(folder, INDEX, options).get("weight_map") or {}
    for name in sorted(map(str, shards.values())):
        if not re.fullmatch(r"[\w-][\w.-]*\.safetensors", name):
            raise Refused(
                f"{INDEX} names {name!r}, which is no safetensors file beside it, the "
                "one form that cannot run code: give a model that has them"
            )
    config = json.dumps(_read(folder, "config.json", options))
    for name, value in re.findall(KERNEL, config):
        if "/" in value:
            raise Refused(
                f"config.json names code of the hub ({name}: {value}), which the "
                f"course never runs: take {name} out of it"
            )


def _read(folder, name: str, options: dict) -> dict:
    """A JSON object of a model; empty where there is none, or it is damaged."""
    from transformers.utils import cached_file  # takes seconds

    file = cached_file(
        folder, name, _raise_exceptions_for_missing_entries=False, **options
    )
    try:
        with open(file or "", encoding="utf-8") as text:
            return {**json.load(text)}
    except (OSError, ValueError, TypeError):
        return {}  # said by transformers, which needs it


def check_template(tokenizer) -> None:
    """Refused where a chat template fails on a word as programs do, or floods it."""
    try:
        word = [{"role": "user", "content": "word"}]
        text = tokenizer.apply_chat_template(word, tokenize=False)
    except (TemplateError, TypeError, ValueError):
        return  # it refuses so short a talk; said where it is filled
    except Exception as error:
        text = None
        fault = f"fails ({type(error).__name__}: {error})"
    else:
        fault = f"writes {len(text):,} characters round one word"
    if text is None or len(text) > TEMPLATE:
        where = tokenizer.name_or_path
        raise Refused(f"{where}: its chat template {fault}: give another model")


def client():
    """The client of huggingface_hub, which lets no hub choose where a file goes."""
    made = _http.default_client_factory()
    made.event_hooks["response"].append(_keep_in)
    return made


def _keep_in(response) -> None:
    for name in PLACES:
        value = response.headers.get(name, "").removeprefix("W/").strip('"')
        if value and not re.fullmatch(r"\w[\w.+=-]*", value):
            raise OSError(
                f"the hub at {response.url.host} names a place outside of its folder "
                f"({name}: {value[:60]!r}): do not trust it, check HF_ENDPOINT"
            )


huggingface_hub.set_client_factory(client)
# its warnings quote addresses, with the password of those that hold one
huggingface_hub.utils.logging.set_verbosity_error()
