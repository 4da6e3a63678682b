"""Nothing lost: the course's own commands, killed, cut, filled up and lied to.

    python -m tools.faults [--seed N] [--share 0.5] [KIND ...]

about a quarter of an hour, on Linux. Each run has a seed, does one fault to one piece
of work in a scratch folder, and then asks: is what was whole before still whole, does
nothing half look whole, and does the next call work, or say in one line what to do? A
line a run, a table at the end; exit code 1 when something was lost.

Faults: `kill` (SIGKILL before the n-th write, or after some seconds), `disk` (a small
disk that fills up at the n-th write, with some bytes left), `two` (two processes at
once), `clock` (set back or ahead at the n-th write, and files from the future), `byte`
(one damaged byte, by kind of file), `hub`, `endpoint`, `kernel` (a new one after half
of a lesson, or cells in any order), `ctrl-c`. A disk needs root; what cannot be done
here is skipped, with its reason.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import json
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
from collections import Counter
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
    whole,
)
from tools import course, record

import nbformat
import torch
import transformers

RUNS = {  # of each fault, what it is done to and how often
    "kill": "full 3, lora 8, cached 4, merge 5, unpack 5, export 4, lesson 5, "
    "verdict 3, record 3, rows 4, pretrain 4",
    "disk": "full 2, lora 8, cached 3, merge 5, unpack 5, export 4, lesson 3, "
    "verdict 3, record 3, rows 3, pretrain 3",
    "two": "full 1, lora 4, cached 3, merge 3, unpack 3, export 2, lesson 2, "
    "verdict 2, rows 2",
    "clock": "lora 2, cached 2, unpack 2, verdict 1, pretrain 1",
    "byte": "tiny model.safetensors 4, tiny config.json 6, tiny tokenizer.json 3, "
    "tiny tokenizer_config.json 3, full safetensors 2, full config.json 4, "
    "full chat_template 2, lora adapter_model 3, lora adapter_config 6, "
    "lora chat_template 2, lora tokenizer 3, again run.json 4, "
    "again training_log.csv 3, again adapter_model.safetensors 2, "
    "checkpoint trained 3, checkpoint optimizer 3, checkpoint scheduler 2, "
    "checkpoint rng_state 2, checkpoint trainer_state 4, rows faq_train 4",
    "hub": "model.safetensors 2, tokenizer.json 1",
    "endpoint": "silent 1, trickle 1, cut 1, html 1, json_of_another 1, empty 1, "
    "nothing 1, busy 1, broken 1, gone 1, endless 1",
    "ctrl-c": "importing 4, training 4",
    "kernel": "half short 1, shuffled short 2",
}
# with the student, its converters and whole lessons: minutes, so only when named
LONG = {
    "kill": "student 2, gguf 2",
    "disk": "student 2, gguf 2",
    "kernel": "half 07_evaluation 1, shuffled 07_evaluation 1",
}
ROWS = [
    {"question": f"What does code {n} mean?", "answer": f"Battery {n} is low."}
    for n in range(6)
]
WRITES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}
MB, YEAR = 1_000_000, 3e7
# What a line that says what to do has a word of.
REMEDY = re.compile(
    r"free some|choose|delete|again|get it|get that|give |copy|save it|wait|mend|"
    r"goes on|begins anew|Check|Start|Set |remove",
    re.IGNORECASE,
)


class Lost(Exception):
    """Something whole was lost, or the next call neither works nor says what to do."""


class Skipped(Exception):
    """This fault cannot be done on this computer."""


class Work(NamedTuple):
    """A piece of work in a folder.

    call: does it, and returns an exit code. whole: what is wrong with what it made, or
    None; "no ..." where it made nothing that could be taken for whole. before: puts
    there what it starts from.
    """

    call: Callable[[Path], int]
    whole: Callable[[Path], str | None]
    before: Callable[[Path], None] = lambda place: None
    room: int = 300 * MB  # of a disk that holds it


class KNOWN:
    """What was measured once, before any fault; by name of the work."""

    folder: Path  # NAME/ in it holds what the work made
    writes: dict[str, int] = {}
    seconds: dict[str, float] = {}
    names: dict[str, set[str]] = {}


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


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refusal(said: str) -> None:
    """Lost unless a line at the end says what to do, and nothing is a traceback."""
    lines = said.strip().splitlines() or [""]
    line = lines[-1]
    if "Traceback" in said:
        raise Lost(f"a traceback: {line[:150]}")
    if not REMEDY.search(" ".join(lines[-9:])):
        raise Lost(f"no remedy: {line[:150]!r}")


def consider(name: str, place: Path) -> None:
    """Lost when what a fault left looks whole and is not."""
    fault = WORKS[name].whole(place)
    if fault and not fault.startswith("no "):
        raise Lost(f"left {fault}")


def again(name: str, place: Path) -> None:
    """The next call works; where all was done already, it may say so."""
    work = WORKS[name]
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
    if strange := names(place) - KNOWN.names.get(name, set()):
        raise Lost(f"left behind: {', '.join(sorted(strange)[:3])}")


def names(place: Path) -> set[str]:
    """Files and folders in it, but for locks and scratch folders with nothing else."""
    return {
        path.relative_to(place).as_posix()
        for path in place.rglob("*")
        if path.suffix != ".lock"
        and path.name not in ("filler", "lock")
        and not (path.suffix == ".part" and not {*os.listdir(path)} - {"lock"})
    }


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


@functools.cache
def known_marks(name: str) -> torch.Tensor:
    (folder,) = [p for p in (KNOWN.folder / name).glob(MADE[name]) if p.is_dir()]
    return marks(str(folder))


def is_model(folder: Path, like: str, atol: float = 1e-3) -> str | None:
    """What is wrong with a model of a folder, which should be the known one."""
    try:
        found = marks(str(folder))
    except OSError as error:
        return f"no model: {error}"
    known = known_marks(like)
    if found.shape != known.shape:
        return "another model"
    same = torch.allclose(found, known, atol=atol, rtol=1e-3)
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
        room=600 * MB if method == "full" else 120 * MB,
    )


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
    return api(models.smollm2_folder)


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


def as_known(name: str, file: str, old: str = "") -> Callable[[Path], str | None]:
    """What is wrong with a file, which should be that of the known work."""

    def wrong(place: Path) -> str | None:
        path, known = place / file, KNOWN.folder / name / file
        if not path.exists() or path.read_bytes() == old.encode():
            return "no new file"
        same = path.read_bytes() == known.read_bytes()
        return None if same else f"{file}, neither old nor new"

    return wrong


def on_file(name: str, call, file: str, old: str, room: int = MB) -> Work:
    """A work that replaces a file: it may be the old one or the new, never a part."""

    def before(place: Path) -> None:
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(old)

    return Work(call, as_known(name, file, old), before, room)


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
    sums = sum(float(p.double().abs().sum()) for p in model.parameters())
    return code or api(whole.write, place / "sum", f"{sums:.4f}")


OLD = nbformat.writes(notebook("old\n")) + "\n"
VERDICT = "verdicts/01-a-is-better-" + hashlib.sha256(b"a is better").hexdigest()[:6]
VERDICT += ".json"
MADE = {"full": "out", "lora": "out", "cached": "tuned/*"}  # models, in their folders
WORKS = {
    "full": tune("full"),
    "lora": tune("lora"),
    "cached": Work(tune_cached, cached, room=120 * MB),
    "merge": Work(
        merged, lambda place: is_model(place / "merged", "lora", 1e-2), room=80 * MB
    ),
    "unpack": Work(unpacked, is_unpacked, room=80 * MB),
    "student": Work(functools.partial(unpacked, real=True), is_unpacked, room=800 * MB),
    "export": Work(exported, as_known("export", "model.gguf"), room=120 * MB),
    "gguf": Work(
        functools.partial(exported, real=True),
        as_known("gguf", "model.gguf"),
        room=1200 * MB,
    ),
    "lesson": on_file("lesson", lesson, "01_a.ipynb", OLD, 3 * MB),
    "verdict": on_file("verdict", verdict, VERDICT, "{}"),
    "record": on_file("record", keep, "x.json", "{}"),
    "rows": on_file("rows", write_rows, "rows.jsonl", '{"text": "old"}\n' * 2000),
    "pretrain": Work(pretrain, as_known("pretrain", "sum"), room=4 * MB),
}


def learn(name: str) -> None:
    """Do a work once without a fault; note how long it takes and what it makes."""
    work, place = WORKS[name], KNOWN.folder / name
    place.mkdir(parents=True)
    work.before(place)
    counts, said = (KNOWN.folder / f"{name}.{end}" for end in ("writes", "txt"))
    hook = at_write(-1, place, lambda: None)

    def call():
        code = work.call(place)
        counts.write_text(str(hook.seen[0]))
        return code

    started = time.perf_counter()
    if end(start(call, said, hook)):
        raise RuntimeError(f"{name} does not work: {said.read_text()[-500:]}")
    KNOWN.seconds[name] = time.perf_counter() - started
    KNOWN.writes[name] = int(counts.read_text())
    KNOWN.names[name] = names(place)
    if fault := work.whole(place):
        raise RuntimeError(f"{name} makes {fault}")


# Faults done to a work


def kill(name: str, rng: random.Random, place: Path) -> str:
    work, said = WORKS[name], place.parent / "said.txt"
    work.before(place)
    number = rng.randint(1, KNOWN.writes[name])
    seconds = rng.uniform(0, KNOWN.seconds[name])
    if by_write := rng.random() < 0.7:
        hook = at_write(number, place, die)
        end(start(lambda: work.call(place), said, hook))
    else:
        pid = start(lambda: work.call(place), said)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)  # which waits to be reaped, so it is there
        end(pid)
    consider(name, place)
    again(name, place)
    return f"at write {number}" if by_write else f"after {seconds:.2f} s"


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


def full(name: str, rng: random.Random, place: Path) -> str:
    work, said = WORKS[name], place.parent / "said.txt"
    with disk(place, work.room):
        work.before(place)
        number, left = rng.randint(1, KNOWN.writes[name]), rng.randrange(work.room // 9)
        left = rng.choice([0, left, left // 10, left // 100])
        hook = at_write(number, place, lambda: fill(place, left))
        code = end(start(lambda: work.call(place), said, hook))
        if code:
            refusal(said.read_text())
        consider(name, place)
        if code == 0 and (fault := work.whole(place)):
            raise Lost(f"success was reported of {fault}")
        (place / "filler").unlink(missing_ok=True)
        again(name, place)
    return f"{left:,} bytes left at write {number}"


def two(name: str, rng: random.Random, place: Path) -> str:
    work = WORKS[name]
    work.before(place)
    said = [place.parent / f"{n}.txt" for n in range(2)]
    later = rng.choice([0, rng.uniform(0, KNOWN.seconds[name])])
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
    again(name, place)
    return f"the second {later:.2f} s later, codes {codes}"


def clock(name: str, rng: random.Random, place: Path) -> str:
    """Set back or ahead at a write; what was made is then dated otherwise once more."""
    work, now = WORKS[name], time.time
    work.before(place)
    number = rng.randint(1, KNOWN.writes[name])
    jump = rng.choice([-YEAR, YEAR])

    def set_clock():
        time.time = lambda: now() + jump

    hook = at_write(number, place, set_clock)
    if end(start(lambda: work.call(place), place.parent / "said.txt", hook)):
        raise Lost("it does not work")
    consider(name, place)
    stamp = rng.choice([0, now() + YEAR])
    for path in place.rglob("*"):
        os.utime(path, (stamp, stamp))
    again(name, place)
    way = "back" if jump < 0 else "ahead"
    return f"{way} at write {number}, then files of {time.gmtime(stamp).tm_year}"


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


def byte_again(kind: str, rng: random.Random, place: Path) -> str:
    """A file of a finished run, and the same call again."""
    work, said = WORKS["lora"], place.parent / "said.txt"
    work.before(place)
    shutil.copytree(KNOWN.folder / "lora" / "out", place / "out")
    where = damage(place / "out" / kind, rng)
    if end(start(lambda: work.call(place), said)):
        refusal(said.read_text())
        return f"{where}: refused"
    if (fault := is_model(place / "out", "lora")) and kind != "run.json":
        raise Lost(f"{where}: {fault}")
    return f"{where}: not looked at"


def byte_checkpoint(kind: str, rng: random.Random, place: Path) -> str:
    """A file of the last checkpoint of a killed run, which then goes on."""
    work, said = WORKS["lora"], place.parent / "said.txt"
    work.before(place)
    hook = at_write(KNOWN.writes["lora"] - 12, place, die)
    end(start(lambda: work.call(place), said, hook))
    points = sorted(place.glob(f"out/checkpoints/checkpoint-*/{runs.STATE}"))
    if not points:
        raise Lost("no checkpoint was written")
    (file,) = points[-1].parent.glob(f"{kind}*")
    where = damage(file, rng)
    code, text = end(start(lambda: work.call(place), said)), said.read_text()
    if code:
        refusal(text)
        return f"{where}: refused"
    if fault := is_model(place / "out", "lora", atol=1e-5):
        raise Lost(f"{where}: {fault}")
    return f"{where}: {'gone back' if 'damaged' in text else 'harmless'}"


def byte_rows(kind: str, rng: random.Random, place: Path) -> str:
    """A file of rows: told by its line, or another text, which git would tell."""
    file = Path(shutil.copy(records.DATA / "larkfield" / f"{kind}.jsonl", place))
    where = damage(file, rng)
    try:
        records.read(file)
    except ValueError as error:
        return f"{where}: refused ({str(error).splitlines()[0][-60:]})"
    return f"{where}: another text"


def byte(what: str, rng: random.Random, place: Path) -> str:
    source, kind = what.split()
    ways = {"again": byte_again, "checkpoint": byte_checkpoint, "rows": byte_rows}
    if source in ways:
        return ways[source](kind, rng, place)
    folder = models.TINY if source == "tiny" else KNOWN.folder / source / "out"
    return byte_model(folder, kind, rng, place)


# Servers


class Liar(http.server.BaseHTTPRequestHandler):
    """A chat server that answers three prompts and then does as it is told."""

    protocol_version = "HTTP/1.1"
    bodies = {
        "html": (200, b"<html><title>Sign in</title>" + b"<p>x</p>\n" * 900),
        "json_of_another": (200, b'{"choices": "none", "answer": [1, 2]}'),
        "empty": (200, b'{"choices": []}'),
        "nothing": (200, b""),
        "busy": (429, b"slow down"),
        "broken": (500, b"<html>oops</html>"),
        "cut": (200, b'{"choices": [{"mess', 300),
    }

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        way = self.server.way
        if self.server.asked <= 3:
            answer = {"message": {"role": "assistant", "content": "yes"}, "index": 0}
            self.send(200, json.dumps({"choices": [answer]}).encode())
        elif way in self.bodies:
            self.send(*self.bodies[way])
        else:
            with contextlib.suppress(OSError):
                getattr(self, way)()

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

    def trickle(self, part=b" "):
        self.send(200, b"{", 10**12)
        for _ in range(60):
            self.wfile.write(part)
            time.sleep(0.5)

    def endless(self):
        self.trickle(b" " * MB)

    def gone(self):
        self.server.socket.close()
        self.connection.shutdown(socket.SHUT_RDWR)


def lie(way: str, rng: random.Random, place: Path) -> str:
    """Answers before the lie are kept, the error is one line, and it comes in time."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    server.asked, server.way, server.daemon_threads = 0, way, True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url, started = f"http://127.0.0.1:{server.server_port}/v1", time.monotonic()
    asked = endpoint.Endpoint(url, "liar", timeout=1)
    try:
        asked.generate(["one"] * 6, max_new_tokens=8)
    except endpoint.EndpointError as error:
        answers, said = list(error.answers), str(error)
    else:
        raise Lost("a lie was taken for an answer")
    finally:
        server.shutdown()
    took = time.monotonic() - started
    if answers != ["yes"] * 3:
        raise Lost(f"answers lost: {answers}")
    if "\n" in said or len(said) > 700:
        raise Lost(f"no line: {said[:99]}")
    refusal(said)
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
    print(error)
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
        env = {k: v for k, v in os.environ.items() if not k.endswith("_OFFLINE")}
        env |= {"HF_ENDPOINT": server.url, "HF_HOME": str(home)}
        env |= {"NO_PROXY": "127.0.0.1"}
        said = []
        for server.up in (True, False, True):
            done = subprocess.run(
                [sys.executable, "-c", CUT],
                cwd=models.ROOT,
                env=env,
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
    command = f"-m helpers.training --model tiny --method lora --output {place}/out "
    command += f"--data {place}/rows.jsonl --epochs {60 if when == 'training' else 1}"
    process = subprocess.Popen(
        [sys.executable, *command.split()],
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


# What lessons write, and how
SHORT = """
from helpers import evaluation, models, records, training
--
rows = [{"question": f"What does {n} mean?", "answer": f"It is {n}."} for n in range(6)]
--
records.write(models.OUTPUTS / "mine.jsonl", rows)
--
rows = records.read(models.OUTPUTS / "mine.jsonl")[:4]
--
model, tokenizer = models.load("tiny")
--
tuned = training.finetune(model, tokenizer, rows, epochs=2, method="lora", cache=True)
--
evaluation.verdict("a wins", {"a": [1.0] * 27, "b": [0.0] * 27}, lesson="01")
"""


def cells_of(lesson: str) -> list[str]:
    if lesson == "short":
        return SHORT.split("--")
    nb = nbformat.read(models.ROOT / "notebooks" / f"{lesson}.ipynb", as_version=4)
    return [cell.source for cell in nb.cells if cell.cell_type == "code"]


def execute(cells: list[str], outputs: Path, way: str = "all") -> Counter:
    """Run cells in a new kernel; the errors that a reader sees, when shuffled."""
    from nbclient import NotebookClient

    outputs.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # the student is unpacked: not part of this
        (outputs / "models").symlink_to(models.CACHE)
    nb = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)])
    place = {"metadata": {"path": str(models.ROOT / "notebooks")}}
    client = NotebookClient(nb, timeout=900, resources=place)
    client.allow_errors = way == "shuffled"
    client.execute(env=os.environ | {"COURSE_OUTPUTS": str(outputs)})
    shown = [output for cell in nb.cells for output in cell.outputs]
    return Counter(o.ename for o in shown if o.output_type == "error")


@functools.cache
def clean(lesson: str) -> Path:
    """The folder of what a lesson writes when nothing goes wrong."""
    outputs = KNOWN.folder / lesson
    execute(cells_of(lesson), outputs)
    return outputs


def kernel(what: str, rng: random.Random, place: Path) -> str:
    """Half of a lesson, or its cells in any order; then all of it, in a new kernel."""
    way, lesson = what.split()
    cells = cells_of(lesson)
    number = rng.randint(1, len(cells) - 1) if way == "half" else len(cells)
    first = cells[:number] if way == "half" else rng.sample(cells, number)
    errors = execute(first, place, way)
    execute(cells, place)
    known = [path for path in clean(lesson).rglob("*") if path.is_file()]
    for path in known:
        made = place / path.relative_to(clean(lesson))
        if not made.exists():
            raise Lost(f"{made.name} is not there")
        data = path.suffix == ".jsonl" or path.parent.name == "verdicts"
        if data and made.read_bytes() != path.read_bytes():
            raise Lost(f"{made.name} is not that of a clean run")
    for sums in place.rglob(f"tuned/*/{whole.SUMS}"):
        whole.check(sums.parent)
    seen = ", ".join(f"{count} {name}" for name, count in errors.items()) or "no error"
    return f"{number} cells, {seen}; then {len(known)} files as after a clean run"


# All of them

FAULTS = {"kill": kill, "disk": full, "two": two, "clock": clock, "byte": byte}
FAULTS |= {"hub": hub, "endpoint": lie, "ctrl-c": ctrl_c, "kernel": kernel}


def plan(chosen: list[str], share: float) -> list[str]:
    """The names of runs, as often as they are to be done."""
    found, starts = [], tuple(f"{kind} " for kind in chosen) or ("",)
    for table in (RUNS, LONG):
        for fault, listed in table.items():
            for entry in listed.split(", "):
                what, count = entry.rsplit(" ", 1)
                name = f"{fault} {what}"
                asked = table is RUNS and f"{name} ".startswith(starts)
                if asked or name in chosen:
                    found += [name] * max(1, round(int(count) * share))
    return found


def one(name: str, number: int, seed: int) -> tuple[str, str]:
    """("ok", "LOST" or "skipped", detail) of the number-th run of this name."""
    rng = random.Random(f"{seed} {number} {name}")
    fault, what = name.split(" ", 1)
    folder = Path(tempfile.mkdtemp(dir=KNOWN.folder.parent))
    try:
        (folder / "place").mkdir()
        result, detail = "ok", FAULTS[fault](what, rng, folder / "place")
    except Lost as lost:
        result, detail = "LOST", str(lost)
    except Skipped as reason:
        result, detail = "skipped", str(reason)
    except Exception:
        result, detail = "LOST", traceback.format_exc().strip()[-300:]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result, " ".join(detail.split())


def prepare(names: list[str]) -> list[str]:
    """Learn the works that runs need; the works that cannot be done here."""
    KNOWN.folder.mkdir()
    needed = {name.split()[1] for name in names}
    if needed & {"merge", "export", "again", "checkpoint"}:
        needed.add("lora")
    needed &= {*WORKS}
    missing = set() if smollm2.installed() else needed & {"unpack", "student", "gguf"}
    for name in sorted(needed - missing, key=[*WORKS].index):
        learn(name)
    return sorted(missing)


def main(arguments: list[str] | None = None) -> int:
    """0 when nothing was lost, 1 when something was."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="kill, disk lora, ...")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")
    parser.add_argument(
        "--share", type=float, default=1, help="of the runs (default 1)"
    )
    options = parser.parse_args(arguments)
    names = plan(options.kinds, options.share)
    for kind in options.kinds:
        if not any(f"{name} ".startswith(f"{kind} ") for name in names):
            parser.error(f"no such kind: {kind!r}: give {', '.join(FAULTS)}")
    torch.set_num_threads(1)
    # a shell may have it ignored in the background, and so would what is started here
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began, seen, table = time.perf_counter(), Counter(), Counter()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        KNOWN.folder = Path(folder) / "known"
        missing = prepare(names)
        for name in names:
            if name.split()[1] in missing:
                continue
            started = time.perf_counter()
            seen[name] += 1
            result, detail = one(name, seen[name], options.seed)
            seconds = time.perf_counter() - started
            table[name, result] += 1
            print(f"{result:7} {name:34} {seconds:5.1f} s  {detail}", flush=True)
    print(f"\n{'fault':36}  runs  lost  skipped")
    for name, count in seen.items():
        print(f"{name:36} {count:5} {table[name, 'LOST']:5} {table[name, 'skipped']:8}")
    lost = sum(count for (_, result), count in table.items() if result == "LOST")
    seconds = time.perf_counter() - began
    print(f"{seen.total()} runs, {lost} lost, {seconds:.0f} s, seed {options.seed}")
    for name in missing:
        print(f"{name}: not tried, SmolLM2 is not installed: {smollm2.COMMAND}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
