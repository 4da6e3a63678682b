"""Whole or not at all: what is made beside and moved in, and whether it stayed so.

In: a path to write to. Out: a new file or folder there, whole, or what was there
before; and SHA256SUMS, by which `sha256sum --check` and `check` find a damaged file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

SUMS = "SHA256SUMS"
# how safetensors and tokenizers, and torch, say that the system refused to write
WRITING = r"\(os error \d+\)|inline_container|iostream error"
REMEDY = "free some space or choose another place; what was there before is untouched"


@contextlib.contextmanager
def told(target: Path, remedy: str = REMEDY):
    """Failures to write, of Python's or a library's kind, as an OSError with a remedy.

    An OSError without a number was worded by us and passes as it is.
    """
    try:
        yield
    except Exception as error:  # tokenizers has no kind of its own
        number = getattr(error, "errno", None)
        if number is None and not re.search(WRITING, str(error)):
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:150]
        raise OSError(f"could not write {target} ({reason}): {remedy}") from error


@contextlib.contextmanager
def beside(target: Path, wait: float = 0):
    """A path next to target to make it at; moved to target when the block ends well.

    target: a file, or a folder that is empty or not there. One process at a time; the
    scratch folder that a killed one left is cleared by the next. wait: seconds to wait
    for another process. Raises OSError that says what to do.
    """
    target = Path(target)
    scratch = target.with_name(f".{target.name}.part")
    with told(target):
        lock = _alone(scratch, time.monotonic() + wait, target)
        try:
            for left in scratch.iterdir():
                if left.name == "lock":
                    continue
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield scratch / target.name
            os.replace(scratch / target.name, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            lock.release()
            if os.name == "nt":  # where a file that is open cannot be removed
                shutil.rmtree(scratch, ignore_errors=True)


def _alone(scratch: Path, deadline: float, target: Path) -> filelock.FileLock:
    while True:
        scratch.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(scratch / "lock")
        with contextlib.suppress(filelock.Timeout, FileNotFoundError):
            lock.acquire(timeout=0)
            return lock
        if time.monotonic() > deadline:
            raise OSError(f"another process is writing {target}: wait until it ends")
        time.sleep(0.02)


def write(path: Path, text: str) -> None:
    """Write a text file; what was there before stays until the new one is whole."""
    with beside(path, wait=30) as made:
        made.write_text(text, encoding="utf-8", newline="\n")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Write the sums of a folder's files into it, but for its card and run.json."""
    files = sorted(path for path in Path(folder).iterdir() if path.is_file())
    left_out = ("README.md", "run.json", SUMS)
    lines = [f"{digest(p)}  {p.name}\n" for p in files if p.name not in left_out]
    (Path(folder) / SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def damaged(folder: Path) -> Iterator[Path]:
    """The files of a folder that are no longer what was sealed, or are gone.

    None in a folder without sums, as other programs write them.
    """
    listed = Path(folder) / SUMS
    text = listed.read_text("utf-8", "replace") if listed.is_file() else ""
    for line in text.splitlines():
        expected, _, name = line.partition("  ")
        path = Path(folder) / Path(name).name
        if name and not (path.is_file() and digest(path) == expected):
            yield path


def check(folder: Path) -> None:
    """OSError that names a file of a folder that is damaged, and says what to do."""
    for path in damaged(folder):
        raise OSError(
            f"{path} is {'damaged' if path.is_file() else 'gone'}: its SHA-256 is not "
            f"that in {SUMS}. Get the folder again, or where finetune wrote it, delete "
            f"it and tune again; if you changed the file yourself, delete {SUMS}"
        )
