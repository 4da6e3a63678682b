"""Run with `python -m pytest tests/test_lock.py`: a second, no network needed.

requirements.lock is installed without asking for dependencies, so a package that it
lacks is missed at its first import. `make lock` writes it.
"""

import importlib.metadata
import re
from pathlib import Path

from tools import check

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# its builds for NVIDIA cards bring these themselves
NOT_LOCKED = "torch", "cuda-", "nvidia-", "triton"


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def entries(lock):
    """The requirements of a lock with their hashes: [(Requirement, [sha256, ...])]."""
    found = []
    for line in lock.replace("\\\n", " ").splitlines():
        line = line.partition("#")[0].strip()
        if line:
            pinned, *options = re.split(r" +--hash=", line)
            found.append((Requirement(pinned), options))
    return found


def faults(lock, asked=""):
    """What is wrong with a lock for these requirements: a list of sentences."""
    locked, wrong = {}, []
    for entry, hashes in entries(lock):
        versions = locked.setdefault(canonicalize_name(entry.name), set())
        versions.add(str(entry.specifier).removeprefix("=="))
        if not re.fullmatch(r"==[^=*,]+", str(entry.specifier)) or entry.url:
            wrong.append(f"{entry} is not pinned")
        if not hashes or not all(
            re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes
        ):
            wrong.append(f"{entry} has no hash")
        if canonicalize_name(entry.name).startswith(NOT_LOCKED):
            wrong.append(f"{entry} comes with torch")
    for line in asked.splitlines():
        line = line.partition("#")[0].strip()
        if line and not line.startswith(("-", "torch==")):
            entry = Requirement(line)
            version = str(entry.specifier).removeprefix("==")
            if locked.get(canonicalize_name(entry.name)) != {version}:
                wrong.append(f"{line} is not what the lock says: run `make lock`")
    return wrong


def test_the_locks_are_in_step_with_the_requirements():
    assert not faults(read("requirements.lock"), read("requirements.txt"))
    assert not faults(read("student.lock"), check.STUDENT)
    assert len(entries(read("requirements.lock"))) > 100


@pytest.mark.parametrize("name", ["requirements.lock", "student.lock"])
def test_a_lock_names_no_place_where_packages_come_from(name):
    assert not re.search(r"://|^\s*-(?!-hash)", read(name), re.MULTILINE)


HASH = f"--hash=sha256:{'0' * 64}"
BAD = {
    "another version": (f"a==1 {HASH}", "a==2", "not what the lock says"),
    "missing": (f"a==1 {HASH}", "a==1\nb==1", "b==1 is not what the lock says"),
    "no hash": (f"a==1 {HASH}\nb==1", "a==1", "b==1 has no hash"),
    "short hash": ("a==1 \\\n    --hash=sha256:00", "", "a==1 has no hash"),
    "open": (f"a>=1 {HASH}", "", "a>=1 is not pinned"),
    "gigabytes": (f"nvidia-nccl-cu13==2 {HASH}", "", "comes with torch"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_lock_out_of_step_is_found(kind):
    lock, asked, fault = BAD[kind]
    (found,) = faults(lock, asked)
    assert fault in found


def test_nothing_that_a_locked_package_needs_is_missing():
    """By what the packages installed here say of themselves, on this system."""
    locked = {
        canonicalize_name(entry.name): str(entry.specifier).removeprefix("==")
        for entry, _ in entries(read("requirements.lock"))
        if entry.marker is None or entry.marker.evaluate()
    }
    todo, seen = [(name, "") for name in locked], set()
    while todo:
        package, extra = place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        for line in importlib.metadata.requires(package) or []:
            need = Requirement(line)
            name = canonicalize_name(need.name)
            if (
                name == "torch"
                or need.marker
                and not need.marker.evaluate({"extra": extra})
            ):
                continue
            assert name in locked, f"{package} needs {line}"
            assert need.specifier.contains(locked[name], prereleases=True), line
            todo += [(name, more) for more in need.extras]
    assert len(seen) > len(locked) > 100
