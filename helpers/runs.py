"""Runs: what a training run keeps on disk, so that nothing whole is lost.

A folder holds run.json (the settings; `seconds` in it once the run has ended),
checkpoints/ while it lasts, and at its end a model or adapter with tokenizer and log.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from helpers import models

import filelock
import pandas as pd
import safetensors.torch
import torch
import transformers

TRAINED = "trained.safetensors"  # of a checkpoint: the weights that are being trained
STATE = "trainer_state.json"  # written last


def digest(text: str) -> str:
    """The beginning of a text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def code_digest() -> str:
    """Of the code that decides what a run learns, and of its libraries' versions."""
    files = ("templates.py", "tokens.py", "steps.py", "training.py")
    code = "".join((Path(__file__).parent / f).read_text("utf-8") for f in files)
    return digest(code + torch.__version__ + transformers.__version__)


def short(path: Path) -> str:
    """A path as seen from the course's folder, where it lies in it."""
    path = Path(path).resolve()
    inside = models.ROOT in path.parents
    return path.relative_to(models.ROOT).as_posix() if inside else str(path)


@contextlib.contextmanager
def alone(folder: Path):
    """One process at a time; who has to wait is told so, as by a progress bar.

    Processes of one `accelerate launch` belong together and do not wait.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
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


def read(folder: Path) -> dict:
    """The settings of a run. OSError that says what to delete when they are damaged."""
    path = folder / "run.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {**found}
    except (ValueError, TypeError) as error:
        raise OSError(
            f"{path} is damaged ({error}): delete {folder} and run the same again"
        ) from None


def finished(folder: Path, settings: dict) -> bool:
    """Whether folder holds this very run, finished. FileExistsError for another one."""
    if not (folder / "run.json").exists():
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(
                f"{folder} is not empty and holds no run of finetune: "
                "choose another folder, or delete it"
            )
        return False
    stored = read(folder)
    if "seconds" not in stored and not any(folder.glob(f"checkpoints/*/{STATE}")):
        return False  # a run that came to nothing keeps no folder occupied
    differs = [name for name in settings if stored.get(name) != settings[name]]
    if differs:
        raise FileExistsError(
            f"{folder} holds another run, with other {', '.join(differs)}: "
            "choose another folder, or delete it"
        )
    return "seconds" in stored


def begin(folder: Path, settings: dict) -> None:
    """Note the settings of a run that is about to begin or to go on."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "run.json", json.dumps(settings, indent=1))


def forget(folder: Path) -> None:
    """Leave nothing of a run that came to nothing, so that another may begin there."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / "run.json").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def can_hold(folder: Path) -> bool:
    """Whether a folder is there to write to, or can be made."""
    there = _nearest(folder)
    return there.is_dir() and os.access(there, os.W_OK)


def _nearest(folder: Path) -> Path:
    """The folder itself where it is there, else what it would be made in."""
    return next(p for p in (folder, *folder.absolute().parents) if p.exists())


def check_room(folder: Path, model) -> None:
    """OSError when the disk cannot hold the checkpoints, Adam's averages included."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    whole = sum(p.numel() * p.element_size() for p in model.parameters())
    need = 10_000_000 + 3 * 12 * trained + whole  # 10 MB for log and tokenizer
    written = [p.stat().st_size for p in folder.glob("checkpoints/*/*") if p.is_file()]
    free = shutil.disk_usage(_nearest(folder)).free
    if free + sum(written) < need:
        raise OSError(
            f"{folder}: the disk has {free / 1e6:.0f} MB free, this run needs "
            f"{(need - sum(written)) / 1e6:.0f} MB: free some space and call it again, "
            "or choose another folder"
        )


def save_trained(model, folder: str) -> None:
    """Write the weights that are being trained, and those alone."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    kept = {n: p.data for n, p in model.named_parameters() if p.requires_grad}
    safetensors.torch.save_file(kept, Path(folder) / TRAINED)


@contextlib.contextmanager
def unchecked():
    """torch.save without its checksums, which nobody reads: half of its time."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def load_trained(model, folder: str) -> None:
    """Put weights that `save_trained` wrote back into the model."""
    kept = safetensors.torch.load_file(Path(folder) / TRAINED)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(kept[name])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; a printed line names those that are not."""
    found = sorted(
        folder.glob(f"checkpoints/checkpoint-*/{STATE}"),
        key=lambda path: int(path.parent.name.rpartition("-")[2]),
    )
    for path in reversed(found):
        place = path.parent
        file = path
        try:
            json.loads(path.read_text(encoding="utf-8"))
            file = place / TRAINED
            with safetensors.safe_open(file, "pt") as weights:
                weights.keys()
            states = [place / "optimizer.pt", place / "scheduler.pt"]
            for file in [*states, *place.glob("rng_state*")]:
                zipfile.ZipFile(file).close()  # whose end says whether it is whole
            return place
        except Exception as error:  # each format has kinds of its own
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            print(f"{short(file)} is damaged ({reason}): going back to before it")
    return None


def load(model, folder: Path, method: str):
    """The model with the weights of a finished run, as `finetune` gives it; its log."""
    try:
        log = pd.read_csv(folder / "training_log.csv")
        if method == "lora":
            import peft

            # first, so that a damaged one leaves the model as it is
            weights = safetensors.torch.load_file(folder / "adapter_model.safetensors")
            if isinstance(model, peft.PeftModel):
                peft.set_peft_model_state_dict(model, weights)
                return model, log
            return peft.PeftModel.from_pretrained(model, folder), log
        loaded = type(model).from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise OSError(
            f"{folder} does not load ({error}): delete it and run the same again"
        ) from error
    model.load_state_dict(loaded.state_dict())
    return model, log


def save(model, tokenizer, log, folder: Path, settings: dict) -> None:
    """Write a tuned model beside, then move it in; run.json, written last, ends it."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        # embeddings are not trained; to look for new ones, peft would ask the hub
        kept = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
        model.save_pretrained(temporary, **kept)
        tokenizer.save_pretrained(temporary)
        (Path(temporary) / "README.md").unlink(missing_ok=True)  # peft's empty card
        log.to_csv(Path(temporary) / "training_log.csv", index=False)
        for path in Path(temporary).iterdir():
            os.replace(path, folder / path.name)
    _write(folder / "run.json", json.dumps(settings, indent=1))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def stopped(folder: Path) -> str:
    """What to tell a person who interrupted the run of this folder."""
    last = last_checkpoint(folder)
    if last is None:
        return "stopped before the first epoch ended; the same command begins anew"
    epoch = json.loads((last / STATE).read_text(encoding="utf-8"))["epoch"]
    return f"stopped after epoch {epoch:.0f}; the same command goes on from there"


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
