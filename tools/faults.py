"""Nothing lost: the course's own commands, killed, cut, filled up and lied to.

    python -m tools.faults [--seed N] [--share 0.5] [KIND ...]

about ten minutes on two cores, on Linux. Each run has a seed, does one fault to one
piece of work in a scratch folder, and then asks: is what was whole before still whole,
does nothing half look whole, and does the next call work, or say in one line what to
do? A line a run, a table at the end; exit code 1 when something was lost.

Faults: `kill` (SIGKILL before the n-th write, or after some seconds), `disk` (a small
disk that fills up at the n-th write, with some bytes left), `two` (two processes at
once), `clock` (files from the future), `byte` (one damaged byte, by kind of file),
`hub`, `endpoint`, `kernel`, `ctrl-c`. A disk needs root, `hub` and `ctrl-c` take
seconds for each process; what cannot be done here is skipped, with its reason.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.server
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "COURSE_QUIET": "1"}
# weights are read by the main thread: one begun after a fork may find no pool of torch
os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
from helpers import (
    adapters,
    endpoint,
    evaluation,
    models,
    pretraining,
    records,
    runs,
    smollm2,
    training,
)
from tools import course, record

import nbformat
import torch
import transformers

ROWS = [
    {"question": f"What does code {n} mean?", "answer": f"Battery {n} is low."}
    for n in range(6)
]
WRITES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}
MB = 1_000_000
# What a line that says what to do has a word of.
REMEDY = re.compile(
    r"free some|choose|delete|again|get it|get that|give |copy|save it|wait|mend|"
    r"goes on|begins anew|Check|Start|Set |remove|is ready",
    re.IGNORECASE,
)


class Lost(Exception):
    """Something whole was lost, or the next call neither works nor says what to do."""


class Skipped(Exception):
    """This fault cannot be done on this computer."""


class Work(NamedTuple):
    """A piece of work in a folder.

    call: does it, and returns an exit code. whole: what is wrong with what it made, or
    None. before: puts there what it starts from. half: complains of something half that
    looks whole; by default there must be nothing, or all.
    """

    call: Callable[[Path], int]
    whole: Callable[[Path], str | None]
    before: Callable[[Path], None] = lambda place: None
    half: Callable[[Path], str | None] | None = None
    room: int = 300 * MB  # of a disk that holds it


# Processes: forked from this one, which has imported everything


def start(call: Callable[[], int], said: Path, hook=None) -> int:
    """The process id of a call; what it prints goes to `said`."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1), os.dup2(file, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
        sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
        if hook:
            sys.addaudithook(hook)
        code = call() or 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def end(pid: int, seconds: float = 240) -> int:
    """The exit code of a process, -9 for a killed one. Lost when it hangs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise Lost(f"hangs: not done after {seconds:.0f} s")


def at_write(number: int, folder: Path, then: Callable[[], None]):
    """An audit hook that does something before the number-th write in a folder."""
    seen, place = [0], str(folder)

    def hook(event, arguments):
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        else:
            writes = event in WRITES
        if writes and any(place in str(a) for a in arguments[:2]):
            seen[0] += 1
            if seen[0] == number:
                then()

    hook.seen = seen
    return hook


def refusal(said: str) -> None:
    """Lost unless a line at the end says what to do, and nothing is a traceback."""
    lines = said.strip().splitlines() or [""]
    line = lines[-1]
    if "Traceback" in said:
        raise Lost(f"a traceback: {line[:150]}")
    if not REMEDY.search(" ".join(lines[-9:])):
        raise Lost(f"no remedy: {line[:150]!r}")


def again(work: Work, place: Path) -> None:
    """The next call works; where all was done already, it may say so."""
    done = work.whole(place) is None
    said = place.parent / "again.txt"
    code = end(start(lambda: work.call(place), said))
    text = said.read_text()
    if code and not done:
        raise Lost(f"the next call does not work: {(text.strip() or '?')[-150:]!r}")
    if code:
        refusal(text)
    if fault := work.whole(place):
        raise Lost(f"the next call leaves {fault}")
    strange = {*names(place)} - KNOWN.names.get(work, set())
    if strange:
        raise Lost(f"left behind: {', '.join(sorted(strange)[:3])}")


def names(place: Path) -> list[str]:
    """Files and folders in it, but for locks and scratch folders with nothing else."""
    return [
        path.relative_to(place).as_posix()
        for path in place.rglob("*")
        if path.suffix != ".lock"
        and path.name not in ("filler", "lock")
        and not (path.suffix == ".part" and not {*os.listdir(path)} - {"lock"})
    ]


class KNOWN:
    """What was measured once, before any fault."""

    folder: Path
    writes: dict[Work, int] = {}
    seconds: dict[Work, float] = {}
    names: dict[Work, set[str]] = {}
    marks: dict[str, torch.Tensor] = {}


# Pieces of work


def api(call, *arguments, **options) -> int:
    """A call of Python: its error, as it would be read, and 1."""
    try:
        call(*arguments, **options)
    except (OSError, ValueError) as error:
        print(error)
        return 1
    return 0


def marks(folder: str) -> torch.Tensor:
    """What a model says and how it is asked, as numbers: two that differ are two."""
    model, tokenizer = models.load(folder)
    ids = tokenizer(records.prompt_text(ROWS[0])).input_ids
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    asked = f"{tokenizer.chat_template}{ids}{model.generation_config.eos_token_id}"
    number = int(hashlib.sha256(asked.encode()).hexdigest()[:5], 16)
    return torch.cat([logits.float(), torch.tensor([float(number)])])


def is_model(folder: Path, like: str, atol: float = 1e-3) -> str | None:
    """What is wrong with a model of a folder, which should be the known one."""
    try:
        found = marks(str(folder))
    except OSError as error:
        return f"no model: {error}"
    if found.shape != KNOWN.marks[like].shape:
        return "another model"
    same = torch.allclose(found, KNOWN.marks[like], atol=atol, rtol=1e-3)
    return None if same else "a model that is not the one that was to be tuned"


def tune(method: str) -> Work:
    def call(place: Path) -> int:
        command = f"--model tiny --method {method} --rank 4 --epochs 3 --batch-size 2"
        command += f" --learning-rate 1e-4 --data {place.parent}/rows.jsonl"
        return training.main([*command.split(), "--output", str(place / "out")])

    return Work(
        call,
        lambda place: is_model(place / "out", method),
        lambda place: records.write(place.parent / "rows.jsonl", ROWS),
        lambda place: half_model(place / "out", method),
        room=600 * MB if method == "full" else 120 * MB,
    )


def half_model(folder: Path, like: str) -> str | None:
    fault = is_model(folder, like)
    return None if (fault or "").startswith("no model") else fault


def tune_cached(place: Path) -> int:
    training.CACHE = place / "tuned"
    model, tokenizer = models.load("tiny")
    call = {"method": "lora", "rank": 4, "epochs": 2, "batch_size": 3, "cache": True}
    return api(training.finetune, model, tokenizer, ROWS, **call)


def cached(place: Path) -> str | None:
    found = [path for path in place.glob("tuned/*") if path.is_dir()]
    if len(found) != 1:
        return f"no model: {len(found)} folders in the cache"
    fault = is_model(found[0], "cached")
    return fault or (None if "seconds" in runs.read(found[0]) else "no model: no end")


def merged(place: Path) -> int:
    adapter = str(KNOWN.folder / "lora" / "out")
    return models.main(["merge", adapter, str(place / "merged")])


def exported(place: Path, real: bool = False) -> int:
    """Around a stand-in for llama.cpp's converter, which does not know tiny."""

    def convert(folder, output, kind):
        shutil.copy(folder / "model.safetensors", output)

    if not real:
        adapters._convert = convert
    name = "router" if real else str(KNOWN.folder / "lora" / "out")
    return models.main(["export", name, str(place / "model.gguf")])


def is_export(place: Path) -> str | None:
    path = place / "model.gguf"
    if not path.exists():
        return "no file"
    size = f"size of {path.stat().st_size // MB} MB"
    known = KNOWN.folder / f"{'gguf' if path.stat().st_size > 99 * MB else 'export'}"
    expected = (known / "model.gguf").stat().st_size // MB
    return None if size == f"size of {expected} MB" else f"a half file, {size}"


def unpacked(place: Path, real: bool = False) -> int:
    """Around a stand-in for the conversion, which writes tiny; or the real one."""

    def convert(gguf, folder):
        model, tokenizer = models.load("tiny")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "checksum").write_text(smollm2._checksum(folder))

    models.CACHE = place
    if not real:
        smollm2._convert = convert
    return command(smollm2, place)


def command(module, place: Path) -> int:
    """`python -m MODULE` by its last lines, in this process."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    code = source[source.index('if __name__ == "__main__":') :]
    code = code.replace("from helpers import models", "")
    exec(code, vars(module) | {"__name__": "__main__", "models": models})
    return 0


def is_unpacked(place: Path) -> str | None:
    folder = place / "smollm2"
    whole = folder.is_dir() and smollm2._stored(folder) == smollm2._checksum(folder)
    return None if whole else "no model: the checksum is not that of its files"


def notebook(text: str) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_code_cell("6 * 7", id="cell0")]
    cells[0].outputs = [nbformat.v4.new_output("stream", text=text * 1000)]
    return nbformat.v4.new_notebook(cells=cells)


def lesson(place: Path) -> int:
    def execute(nb, folder):
        nb.cells[0].outputs[0].text = "new\n" * 1000

    course.execute = execute
    return course.run([place / "01_a.ipynb"], place / "outputs", in_place=True)


def on_file(call, name: str, old: str, new: Callable[[str], bool], room=MB) -> Work:
    """A work that replaces a file: it may be the old one or the new, never a part."""

    def sure(text: str) -> bool:
        with contextlib.suppress(ValueError, LookupError):
            return bool(new(text))
        return False

    def before(place: Path) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(old)

    def whole(place: Path) -> str | None:
        return None if sure((place / name).read_text()) else "the old file"

    def half(place: Path) -> str | None:
        text = (place / name).read_text()
        return None if text == old or sure(text) else f"{name}, neither old nor new"

    return Work(call, whole, before, half, room)


def verdict(place: Path) -> int:
    models.CACHE = place / "models"
    scores = {"a": [1.0, 0.0, 1.0] * 9, "b": [0.0] * 27}
    return api(evaluation.verdict, "a is better", scores, lesson="01")


def keep(place: Path) -> int:
    record.FOLDER, record.ROOT = place, place
    record.CODE = ()
    return api(record.keep, "x", "marks", [], {"marks": "1" * 9000})


def write_rows(place: Path) -> int:
    return api(records.write, place / "rows.jsonl", [{"text": "new"}] * 2000)


def pretrain(place: Path) -> int:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.GPTNeoXConfig(vocab_size=99, intermediate_size=64, **shape)
    model = transformers.GPTNeoXForCausalLM(config)
    ids = torch.arange(8 * 16).reshape(8, 16) % 99
    point = place / "point.pt"
    given = {"checkpoint": point, "checkpoint_minutes": 0, "batch": 2}
    code = api(pretraining.pretrain, model, ids, 8 * 32, report=lambda row: 0, **given)
    if not code:
        sums = sum(float(p.double().abs().sum()) for p in model.parameters())
        (place / "sum").write_text(f"{sums:.4f}")
    return code


def pretrained(place: Path) -> str | None:
    if not (place / "sum").exists():
        return "no sum"
    found = KNOWN.marks.setdefault("sum", (place / "sum").read_text())
    return None if found == (place / "sum").read_text() else "another model"


def is_rows(word: str) -> Callable[[str], bool]:
    return lambda text: text == f'{{"text": "{word}"}}\n' * 2000


OLD = nbformat.writes(notebook("old\n")) + "\n"
VERDICT = "verdicts/01-a-is-better-" + hashlib.sha256(b"a is better").hexdigest()[:6]
VERDICT += ".json"
WORKS = {
    "full": tune("full"),
    "lora": tune("lora"),
    "cached": Work(tune_cached, cached, half=lambda p: None, room=120 * MB),
    "merge": Work(
        merged,
        lambda place: is_model(place / "merged", "lora", 1e-2),
        half=lambda place: (
            half_model(place / "merged", "lora")
            if (place / "merged").exists()
            else None
        ),
        room=80 * MB,
    ),
    "unpack": Work(unpacked, is_unpacked, half=lambda place: None, room=80 * MB),
    "export": Work(exported, is_export, room=120 * MB),
    "gguf": Work(lambda place: exported(place, real=True), is_export, room=1200 * MB),
    "student": Work(
        lambda place: unpacked(place, real=True),
        is_unpacked,
        half=lambda place: None,
        room=800 * MB,
    ),
    "lesson": on_file(
        lesson,
        "01_a.ipynb",
        OLD,
        lambda text: '"new\\n' in text and bool(json.loads(text)),
        room=3 * MB,
    ),
    "verdict": on_file(verdict, VERDICT, "{}", lambda text: json.loads(text)["claim"]),
    "record": on_file(keep, "x.json", "{}", lambda text: json.loads(text)["measured"]),
    "rows": on_file(
        write_rows, "rows.jsonl", '{"text": "old"}\n' * 2000, is_rows("new")
    ),
    "pretrain": Work(pretrain, pretrained, half=lambda place: None, room=4 * MB),
}


def learn(name: str) -> None:
    """Do a work once without a fault; note how long it takes and what it makes."""
    work, place = WORKS[name], KNOWN.folder / name
    place.mkdir(parents=True)
    work.before(place)
    counts = KNOWN.folder / f"{name}.writes"
    hook = at_write(-1, place, lambda: None)

    def call():
        code = work.call(place)
        counts.write_text(str(hook.seen[0]))
        return code

    started = time.perf_counter()
    said = KNOWN.folder / f"{name}.txt"
    if end(start(call, said, hook)):
        raise RuntimeError(f"{name} does not work: {said.read_text()[-500:]}")
    KNOWN.seconds[work] = time.perf_counter() - started
    KNOWN.writes[work] = int(counts.read_text())
    KNOWN.names[work] = {*names(place)}
    if name in ("full", "lora"):
        KNOWN.marks[name] = marks(str(place / "out"))
    if name == "cached":
        (folder,) = (path for path in place.glob("tuned/*") if path.is_dir())
        KNOWN.marks[name] = marks(str(folder))
        KNOWN.folder.joinpath("cache").write_text(folder.name)
    if fault := work.whole(place):
        raise RuntimeError(f"{name} makes {fault}")


# Faults done to a work


def kill(work: Work, rng: random.Random, place: Path) -> str:
    work.before(place)
    number = rng.randint(1, KNOWN.writes[work])
    seconds = rng.uniform(0, KNOWN.seconds[work])
    if by_write := rng.random() < 0.7:
        stop = at_write(number, place, lambda: os.kill(os.getpid(), signal.SIGKILL))
        end(start(lambda: work.call(place), place.parent / "said.txt", stop))
    else:
        pid = start(lambda: work.call(place), place.parent / "said.txt")
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        end(pid)
    consider(work, place)
    again(work, place)
    return f"at write {number}" if by_write else f"after {seconds:.2f} s"


def consider(work: Work, place: Path) -> None:
    """Lost when what a fault left looks whole and is not."""
    fault = work.half(place) if work.half else work.whole(place)
    if fault and not (work.half is None and fault.startswith("no ")):
        raise Lost(f"left {fault}")


@contextlib.contextmanager
def disk(place: Path, size: int):
    """A disk of so many bytes."""
    place.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        raise Skipped("only root may make a small disk, on Linux")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, left: int) -> None:
    """Take all of a disk but `left` bytes."""
    free = shutil.disk_usage(place).free
    with (place / "filler").open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - left))


def full(work: Work, rng: random.Random, place: Path) -> str:
    with disk(place, work.room):
        work.before(place)
        number, left = rng.randint(1, KNOWN.writes[work]), rng.randrange(work.room // 9)
        left = rng.choice([0, left, left // 10, left // 100])
        hook = at_write(number, place, lambda: fill(place, left))
        said = place.parent / "said.txt"
        code = end(start(lambda: work.call(place), said, hook))
        if code:
            refusal(said.read_text())
        consider(work, place)
        if code == 0 and (fault := work.whole(place)):
            raise Lost(f"success was reported of {fault}")
        (place / "filler").unlink(missing_ok=True)
        again(work, place)
    return f"{left:,} bytes left at write {number}"


def two(work: Work, rng: random.Random, place: Path) -> str:
    work.before(place)
    said = [place.parent / f"{n}.txt" for n in range(2)]
    later = rng.choice([0, rng.uniform(0, KNOWN.seconds[work])])
    pids = [start(lambda: work.call(place), said[0])]
    time.sleep(later)
    pids.append(start(lambda: work.call(place), said[1]))
    codes = [end(pid) for pid in pids]
    for code, text in zip(codes, said, strict=True):
        if code:
            refusal(text.read_text())
    if all(codes):
        raise Lost("neither of the two did it")
    if fault := work.whole(place):
        raise Lost(f"two made {fault}")
    again(work, place)
    return f"the second {later:.2f} s later, codes {codes}"


def clock(work: Work, rng: random.Random, place: Path) -> str:
    """The work done, its files then dated a year ahead, or 1970."""
    work.before(place)
    if end(start(lambda: work.call(place), place.parent / "said.txt")):
        raise Lost("it does not work")
    stamp = rng.choice([0, time.time() + 3e7])
    contents = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    for path in contents:
        os.utime(path, (stamp, stamp))
    again(work, place)
    return f"files of {time.gmtime(stamp).tm_year}"


WAYS = {"kill": kill, "disk": full, "two": two, "clock": clock}
PLAN = {  # runs of a fault of a work
    "kill full": 3,
    "kill lora": 8,
    "kill cached": 4,
    "kill merge": 5,
    "kill unpack": 5,
    "kill export": 4,
    "kill lesson": 5,
    "kill verdict": 3,
    "kill record": 3,
    "kill rows": 4,
    "kill pretrain": 4,
    "disk full": 2,
    "disk lora": 8,
    "disk cached": 3,
    "disk merge": 5,
    "disk unpack": 5,
    "disk export": 4,
    "disk lesson": 3,
    "disk verdict": 3,
    "disk record": 3,
    "disk rows": 3,
    "disk pretrain": 3,
    "two full": 1,
    "two lora": 4,
    "two cached": 3,
    "two merge": 3,
    "two unpack": 3,
    "two export": 2,
    "two lesson": 2,
    "two verdict": 2,
    "two rows": 2,
    "clock lora": 1,
    "clock cached": 1,
    "clock unpack": 2,
}
# with the real student and the real converters: minutes, so only when they are named
LONG = {"kill student": 2, "disk student": 2, "kill gguf": 2, "disk gguf": 2}


# One damaged byte


def damage(path: Path, rng: random.Random) -> str:
    """Flip a bit of a file."""
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return f"{path.name} at {place:,}"


def whole_mark(folder: Path) -> list:
    """All that a model folder decides: weights, tokens, template, ends."""
    model, tokenizer = models.load(str(folder))
    weights = models.digest(model) + models.digest(model, adapter=True)
    words = tokenizer.backend_tokenizer.to_str()
    settings = {k: v for k, v in model.config.to_dict().items() if k != "_name_or_path"}
    ends = model.generation_config.to_dict()
    scaling = [
        module.scaling for module in model.modules() if hasattr(module, "lora_A")
    ]
    return [weights, words, settings, ends, tokenizer.chat_template, scaling]


def byte_model(source: Path, kind: str, rng: random.Random, place: Path) -> str:
    """A file of a model folder: refused, harmless, or Lost."""
    folder = Path(shutil.copytree(source, place / "copy"))
    files = sorted(f for f in folder.iterdir() if f.is_file() and kind in f.name)
    expected = whole_mark(folder)
    where = damage(rng.choice(files), rng)
    try:
        found = whole_mark(folder)
    except OSError as error:
        refusal(str(error))
        return f"{where}: refused by {'hash' if 'SHA-256' in str(error) else 'parse'}"
    except Exception as error:
        raise Lost(f"{where}: a traceback: {error!r:.120}") from error
    if found != expected:
        raise Lost(f"{where}: another model, silently")
    return f"{where}: harmless"


def byte_again(source: Path, kind: str, rng: random.Random, place: Path) -> str:
    """A file of a finished run, and the same call again."""
    place.mkdir(parents=True)
    shutil.copytree(source, place / "out")
    (place.parent / "rows.jsonl").write_bytes(
        (KNOWN.folder / "rows.jsonl").read_bytes()
    )
    where = damage(place / "out" / kind, rng)
    said, method = place.parent / "said.txt", source.parent.name
    code = end(start(lambda: WORKS[method].call(place), said))
    if code:
        refusal(said.read_text())
        return f"{where}: refused"
    if (fault := is_model(place / "out", method)) and kind != "run.json":
        raise Lost(f"{where}: {fault}")
    return f"{where}: not looked at"


def byte_checkpoint(kind: str, rng: random.Random, place: Path) -> str:
    """A file of the last checkpoint of a killed run, which then goes on."""
    work = WORKS["lora"]
    work.before(place)

    def stop():
        os.kill(os.getpid(), signal.SIGKILL)

    hook = at_write(KNOWN.writes[work] - 12, place, stop)
    end(start(lambda: work.call(place), place.parent / "said.txt", hook))
    points = sorted(place.glob(f"out/checkpoints/checkpoint-*/{runs.STATE}"))
    if not points:
        raise Lost("no checkpoint was written")
    (file,) = points[-1].parent.glob(f"{kind}*")
    where = damage(file, rng)
    said = place.parent / "said.txt"
    code, text = end(start(lambda: work.call(place), said)), said.read_text()
    if code:
        refusal(text)
        return f"{where}: refused"
    if fault := is_model(place / "out", "lora", atol=1e-5):
        raise Lost(f"{where}: {fault}")
    return f"{where}: {'gone back' if 'damaged' in text else 'harmless'}"


def byte_rows(path: Path, rng: random.Random, place: Path) -> str:
    place.mkdir(parents=True)
    file = Path(shutil.copy(path, place / path.name))
    where = damage(file, rng)
    try:
        if path.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        else:
            records.read(file)
    except ValueError as error:
        return f"{where}: refused ({str(error).splitlines()[0][-60:]})"
    return f"{where}: unseen (text is text; git tells)"


# Servers


class Liar(http.server.BaseHTTPRequestHandler):
    """A chat server that answers three prompts and then does as it is told."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        if self.server.asked <= 3:
            answer = {"message": {"role": "assistant", "content": "yes"}, "index": 0}
            return self.send(200, json.dumps({"choices": [answer]}).encode())
        with contextlib.suppress(OSError):
            getattr(self, self.server.way)()

    def send(self, status, body, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass

    def silent(self):
        time.sleep(30)

    def trickle(self):
        self.send(200, b"{", 1000)
        for _ in range(60):
            time.sleep(0.5)
            self.wfile.write(b" ")

    def cut(self):
        self.send(200, b'{"choices": [{"mess', 300)

    def html(self):
        self.send(200, b"<html><title>Sign in</title>" + b"<p>x</p>\n" * 900)

    def json_of_another(self):
        self.send(200, b'{"choices": "none", "answer": [1, 2]}')

    def empty(self):
        self.send(200, b'{"choices": []}')

    def nothing(self):
        self.send(200, b"")

    def busy(self):
        self.send(429, b"slow down")

    def broken(self):
        self.send(500, b"<html>oops</html>")

    def gone(self):
        self.server.socket.close()
        self.connection.shutdown(socket.SHUT_RDWR)

    def endless(self):
        self.send(200, b"", 10**12)
        for _ in range(60):
            self.wfile.write(b" " * MB)
            time.sleep(0.5)


LIES = "silent trickle cut html json_of_another empty nothing busy broken gone endless"


def lie(way: str, rng: random.Random, place: Path) -> str:
    """Answers before the lie are kept, the error is one line, and it comes in time."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    server.asked, server.way, server.daemon_threads = 0, way, True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url, started = f"http://127.0.0.1:{server.server_port}/v1", time.monotonic()
    asked = endpoint.Endpoint(url, "liar", timeout=1)
    try:
        asked.generate(["one"] * 6, max_new_tokens=8)
        raise Lost("a lie was taken for an answer")
    except endpoint.EndpointError as error:
        took = time.monotonic() - started
        if list(error.answers) != ["yes"] * 3:
            raise Lost(f"answers lost: {error.answers}") from None
        if "\n" in str(error) or len(str(error)) > 700:
            raise Lost(f"no line: {str(error)[:99]}") from None
        refusal(str(error))
    except Lost:
        raise
    except Exception as error:
        raise Lost(f"a traceback: {error!r:.120}") from error
    finally:
        server.shutdown()
    if took > 12:
        raise Lost(f"{took:.0f} s with a time-out of 1 s")
    return f"told after {took:.1f} s"


CUT = """
import sys
from helpers import models, records
records.HUB_SECONDS = 60
try:
    model, tokenizer = models.load("someone/tiny")
    print("loaded", models.digest(model))
except OSError as error:
    print(f"{error} again")
"""


def hub(file: str, rng: random.Random, place: Path) -> str:
    """The hub cuts a file short and is gone; then it is there, and the load goes on."""
    sys.path.insert(0, str(models.ROOT / "tests"))
    import hub as tests_hub

    class Cutting(tests_hub._Handler):
        def send(self, status, body, **headers):
            ours = self.path.endswith(file) and self.command == "GET"
            if not (ours and self.server.cut) or status >= 300:
                return super().send(status, body, **headers)
            self.server.up = False
            self.send_response(status)
            for key, value in {"Content_Length": len(body), **headers}.items():
                self.send_header(key.replace("_", "-"), str(value))
            self.end_headers()
            self.wfile.write(body[: int(len(body) * self.server.cut)])
            self.close_connection = True

    shutil.copytree(models.TINY, place / "hub" / "models" / "someone" / "tiny")
    home = place / "home"
    with tests_hub.Hub(place / "hub") as server:
        cut_at = server.cut = rng.uniform(0.1, 0.9)
        server.RequestHandlerClass = Cutting
        clean = {k: v for k, v in os.environ.items() if not k.endswith("_OFFLINE")}
        clean |= {"HF_ENDPOINT": server.url, "HF_HOME": str(home)}
        clean |= {"NO_PROXY": "127.0.0.1"}
        said = []
        for server.up in (True, False, True):
            done = subprocess.run(
                [sys.executable, "-c", CUT],
                cwd=models.ROOT,
                env=clean,
                capture_output=True,
                text=True,
                timeout=600,  # the client's own retries take half a minute a file
            )
            if "Traceback" in done.stderr:
                raise Lost(f"a traceback: {done.stderr.splitlines()[-1]}")
            said.append(done.stdout.strip())
            server.cut = 0
        sizes = [int(p.stat().st_size) for p in home.rglob("*.incomplete")]
    if any("loaded" in text for text in said[:2]):
        raise Lost("loaded, though the hub was gone")
    for text in said[:2]:
        refusal(text)
    expected = f"loaded {models.digest(models.load('tiny')[0])}"
    if said[2] != expected:
        raise Lost(f"the next call: {said[2][-150:]}")
    return f"cut at {cut_at:.0%}; {len(sizes)} parts left over"


# A person, and a kernel


def ctrl_c(when: str, rng: random.Random, place: Path) -> str:
    """Ctrl-C in `python -m helpers.training`, while it imports or while it trains."""
    records.write(place / "rows.jsonl", ROWS)
    command = [sys.executable, "-m", "helpers.training", "--model", "tiny"]
    command += ["--data", place / "rows.jsonl", "--output", place / "out"]
    command += ["--epochs", "60" if when == "training" else "1", "--method", "lora"]
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=models.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if when == "training":
        while not list(place.glob(f"out/checkpoints/*/{runs.STATE}")):
            if process.poll() is not None:
                raise Lost(process.stderr.read()[-200:])
            time.sleep(0.02)
    seconds = rng.uniform(0.3, 4) if when == "importing" else rng.uniform(0, 2)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Lost("the signal was lost") from None
    if process.returncode not in (0, 130, -signal.SIGINT):
        raise Lost(f"code {process.returncode}: {said.strip()[-150:]!r}")
    ours = f"{os.sep}helpers{os.sep}" in said  # before its first line it is Python's
    if "Traceback" in said and ours and "Exception ignored" not in said:
        raise Lost(f"a traceback: {said.strip().splitlines()[-1][:99]}")
    return f"after {seconds:.2f} s, code {process.returncode}"


def kernel(name: str, rng: random.Random, place: Path) -> str:
    """Half of a lesson, a new kernel, and all of it: what it writes is right."""
    from nbclient import NotebookClient

    path = models.ROOT / "notebooks" / f"{name}.ipynb"
    folder = place / "outputs"
    folder.mkdir(parents=True)
    with contextlib.suppress(OSError):  # the student is unpacked: not part of this
        (folder / "models").symlink_to(models.CACHE)
    made = []
    for half in (True, False, False):
        nb = nbformat.read(path, as_version=4)
        if half:
            nb.cells = nb.cells[: rng.randint(len(nb.cells) // 4, len(nb.cells) - 2)]
        client = NotebookClient(
            nb, timeout=900, resources={"metadata": {"path": str(path.parent)}}
        )
        given = os.environ | {"COURSE_OUTPUTS": str(folder), "COURSE_QUIET": "1"}
        try:
            client.execute(env=given)
        except Exception as error:
            raise Lost(f"{name}: {str(error).strip().splitlines()[-1]}") from None
        files = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"]
        made.append({str(p): p.read_bytes() for p in files if p.suffix == ".jsonl"})
    if made[1] != made[2]:
        raise Lost(f"{name}: its files differ from run to run")
    return f"{name}: {len(made[1])} files alike"


# All of them


def plan(chosen: list[str], share: float) -> list[str]:
    """The names of runs, as often as they are to be done."""
    counts = PLAN | {f"endpoint {way}": 1 for way in LIES.split()}
    counts |= {f"byte {kind}": count for kind, count in BYTES.items()}
    counts |= {"hub model.safetensors": 2, "hub tokenizer.json": 1}
    counts |= {"ctrl-c importing": 4, "ctrl-c training": 4}
    counts |= {"kernel 03_data_preparation": 1}
    found = []
    for name, count in (counts | LONG if chosen else counts).items():
        if name in LONG and name not in chosen:
            continue
        if not chosen or any(word in (name, name.split()[0]) for word in chosen):
            found += [name] * max(1, round(count * share))
    return found


BYTES = {
    "tiny model.safetensors": 4,
    "tiny config.json": 6,
    "tiny tokenizer.json": 3,
    "tiny tokenizer_config.json": 3,
    "full safetensors": 2,
    "full config.json": 4,
    "full chat_template": 2,
    "lora adapter_model": 3,
    "lora adapter_config": 6,
    "lora chat_template": 2,
    "lora tokenizer": 3,
    "again run.json": 4,
    "again training_log.csv": 3,
    "again adapter_model.safetensors": 2,
    "checkpoint trained": 3,
    "checkpoint optimizer": 3,
    "checkpoint scheduler": 2,
    "checkpoint rng_state": 2,
    "checkpoint trainer_state": 4,
    "rows jsonl": 4,
    "rows recorded": 3,
}


def byte(what: str, rng: random.Random, place: Path) -> str:
    source, kind = what.split()
    if source == "checkpoint":
        return byte_checkpoint(kind, rng, place)
    if source == "rows":
        larkfield = records.DATA / "larkfield" / "faq_train.jsonl"
        recorded = records.DATA / "recorded" / "wren.json"
        return byte_rows(larkfield if kind == "jsonl" else recorded, rng, place)
    if source == "again":
        return byte_again(KNOWN.folder / "lora" / "out", kind, rng, place)
    folder = models.TINY if source == "tiny" else KNOWN.folder / source / "out"
    return byte_model(folder, kind, rng, place)


def one(task: tuple[int, int, str]) -> tuple[str, str, str, float]:
    """(name, "ok", "LOST" or "skipped", detail, seconds) of a run."""
    number, seed, name = task
    rng = random.Random(f"{seed} {number} {name}")
    fault, _, what = name.partition(" ")
    place = Path(tempfile.mkdtemp(dir=KNOWN.folder.parent)) / "place"
    place.mkdir()
    started = time.perf_counter()
    others = {"byte": byte, "endpoint": lie, "hub": hub, "ctrl-c": ctrl_c}
    try:
        if fault in WAYS:
            result, detail = "ok", WAYS[fault](WORKS[what], rng, place)
        else:
            if fault == "byte":
                place.rmdir()
            result, detail = (
                "ok",
                (others | {"kernel": kernel})[fault](what, rng, place),
            )
    except Lost as lost:
        result, detail = "LOST", str(lost)
    except Skipped as reason:
        result, detail = "skipped", str(reason)
    except subprocess.TimeoutExpired as late:
        result, detail = "LOST", f"hangs: not done after {late.timeout:.0f} s"
    except Exception:
        result, detail = "LOST", traceback.format_exc().strip()[-300:]
    shutil.rmtree(place.parent, ignore_errors=True)
    return name, result, " ".join(detail.split()), time.perf_counter() - started


def prepare(folder: Path, names: list[str]) -> list[str]:
    """Learn the works that runs need; the works that cannot be done here."""
    KNOWN.folder = folder / "known"
    KNOWN.folder.mkdir()
    needed = {name.split()[1] for name in names if name.split()[0] in WAYS}
    if any(name.startswith("byte") for name in names):
        needed |= {"full", "lora"}
    if needed & {"merge", "export"}:
        needed.add("lora")
    missing = []
    for name in sorted(needed, key=[*WORKS].index):
        if name in ("student", "gguf") and not smollm2.installed():
            missing.append(name)
        else:
            learn(name)
    return missing


def main(arguments: list[str] | None = None) -> int:
    """0 when nothing was lost, 1 when something was."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="kill, disk lora, ...")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")
    parser.add_argument(
        "--share", type=float, default=1, help="of the runs (default 1)"
    )
    parser.add_argument("--at-once", type=int, default=2, help="runs (default 2)")
    options = parser.parse_args(arguments)
    names = plan(options.kinds, options.share)
    if not names:
        parser.error(f"no such kind: give {', '.join([*WAYS, 'byte', 'hub'])}, ...")
    torch.set_num_threads(1)
    # a shell may have it ignored in the background, and so would what is started here
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started, table = time.perf_counter(), {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        missing = prepare(Path(folder), names)
        tasks = [
            (number, options.seed, name)
            for number, name in enumerate(names)
            if name.split()[1] not in missing
        ]
        with multiprocessing.get_context("fork").Pool(options.at_once) as pool:
            found = pool.imap_unordered(one, tasks)
            for name, result, detail, seconds in found:
                print(f"{result:7} {name:34} {seconds:5.1f} s  {detail}", flush=True)
                counts = table.setdefault(name, {"ok": 0, "LOST": 0, "skipped": 0})
                counts[result] += 1
    print(f"\n{'fault':36}  runs  lost  skipped")
    for name in sorted(table):
        counts = table[name]
        runs_of = sum(counts.values())
        print(f"{name:36} {runs_of:5} {counts['LOST']:5} {counts['skipped']:8}")
    lost = sum(counts["LOST"] for counts in table.values())
    seconds = time.perf_counter() - started
    print(f"{len(tasks)} runs, {lost} lost, {seconds:.0f} s, seed {options.seed}")
    for name in missing:
        print(f"{name}: not tried, SmolLM2 is not installed: {smollm2.COMMAND}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
