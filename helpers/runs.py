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
import zipfile
from pathlib import Path

from helpers import models, whole

import filelock
import pandas as pd
import safetensors.torch
import torch
import transformers
from transformers import trainer_pt_utils

TRAINED = "trained.safetensors"  # of a checkpoint: the weights that are being trained
STATE = "trainer_state.json"  # written last
CONFIGS = ("config.json", "adapter_config.json")  # which make a folder a model
GO_ON = "free some space and run the same again: it goes on from its last checkpoint"

_held: dict[Path, filelock.FileLock] = {}  # by folders that this process trains into
_written: list[Path] = []  # the checkpoint that is being written


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
        ours = {folder / "run.tmp", folder / "checkpoints"}  # of one killed at once
        ours |= {folder / "checkpoints" / "lock"}
        if folder.exists() and any(path not in ours for path in folder.rglob("*")):
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
    """Note the settings of a run that is about to begin or to go on.

    OSError when another process trains into this folder.
    """
    with whole.told(folder):
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / "checkpoints" / "lock")
        lock = _held.setdefault(folder.resolve(), lock)
    try:
        if not lock.is_locked:
            lock.acquire(timeout=0)
    except filelock.Timeout:
        raise OSError(
            f"{folder}: another process is tuning into it: wait until that has ended "
            "(or restart the kernel that began it), or choose another folder"
        ) from None
    _write(folder / "run.json", json.dumps(settings, indent=1))


def forget(folder: Path) -> None:
    """Leave nothing of a run that came to nothing, so that another may begin there."""
    _let_go(folder)
    (folder / "run.json").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _let_go(folder: Path) -> None:
    """Drop the checkpoints, and let others train into the folder."""
    if lock := _held.pop(folder.resolve(), None):
        lock.release(force=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


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
    with whole.told(Path(folder), GO_ON):
        safetensors.torch.save_file(kept, Path(folder) / TRAINED)
    _written[:] = [Path(folder)]


@contextlib.contextmanager
def unchecked():
    """torch.save without its checksums, half of its time; then the checkpoint's own
    (whole.SUMS), a tenth of that."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        with whole.told(Path(*_written), GO_ON):
            yield
            if _written:  # where this process writes one
                whole.seal(_written.pop())
    finally:
        torch.serialization.set_crc32_options(before)


def load_trained(model, folder: str) -> None:
    """Put weights that `save_trained` wrote back into the model."""
    kept = safetensors.torch.load_file(Path(folder) / TRAINED)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if name not in kept or kept[name].shape != parameter.shape:
                raise OSError(
                    f"{folder} is of another model, by its {name}: delete "
                    f"{Path(folder).parent.parent} and run the same again"
                )
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
            state = transformers.TrainerState.load_from_json(str(path))
            if f"checkpoint-{state.global_step}" != place.name:
                raise ValueError(f"it is of step {state.global_step}")
            if bad := next(whole.damaged(place), None):
                file = bad
                raise ValueError("its SHA-256 differs")
            file = place / TRAINED
            with safetensors.safe_open(file, "pt") as weights:
                trained = [weights.get_slice(n).get_shape() for n in weights.keys()]
            file = place / "optimizer.pt"
            averages, groups = _state(file, "state", "param_groups")
            shapes = [list(average["exp_avg"].shape) for average in averages.values()]
            known = sum(len(group["params"]) for group in groups)
            if known != len(trained) or any(s not in trained for s in shapes):
                raise ValueError("it is of another model")
            _state(file := place / "scheduler.pt", "last_epoch", "lr_lambdas")
            for file in place.glob("rng_state*"):
                _state(file, "python", "numpy", "cpu")
                if zipfile.ZipFile(file).testzip():
                    raise ValueError("its checksum differs")
            return place
        except Exception as error:  # each format has kinds of its own
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            print(f"{short(file)} is damaged ({reason}): going back to before it")
    return None


def _state(file: Path, *names: str) -> list:
    """Parts of what torch.save wrote, read as Trainer reads it; code in it never runs.

    The numbers stay on the disk. Raises ValueError where a part is not there.
    """
    try:
        with trainer_pt_utils.safe_globals():
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":  # it tells how to run the code
            raise
        raise ValueError("it holds more than numbers, or not what it should") from None
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"there is no {missing[0]} in it")
    return [found[name] for name in names]


def load(model, folder: Path, method: str):
    """The model with the weights of a finished run, as `finetune` gives it; its log."""
    try:
        whole.check(folder)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # if killed meanwhile
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
    made = folder / "checkpoints" / "tuned"
    shutil.rmtree(made, ignore_errors=True)
    with whole.told(folder, GO_ON):
        # embeddings are not trained; to look for new ones, peft would ask the hub
        kept = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
        model.save_pretrained(made, **kept)
        tokenizer.save_pretrained(made)
        (made / "README.md").unlink(missing_ok=True)  # peft's empty card
        log.to_csv(made / "training_log.csv", index=False)
        whole.seal(made)
        for name in CONFIGS:  # without it, and until it comes last, nothing loads
            (folder / name).unlink(missing_ok=True)
        for path in sorted(made.iterdir(), key=lambda path: path.name in CONFIGS):
            os.replace(path, folder / path.name)
        _write(folder / "run.json", json.dumps(settings, indent=1))
    _let_go(folder)


def stopped(folder: Path) -> str:
    """What to tell a person who interrupted the run of this folder."""
    last = last_checkpoint(folder)
    if last is None:
        return "stopped before the first epoch ended; the same command begins anew"
    epoch = json.loads((last / STATE).read_text(encoding="utf-8"))["epoch"]
    return f"stopped after epoch {epoch:.0f}; the same command goes on from there"


def _write(path: Path, text: str) -> None:
    with whole.told(path):
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
