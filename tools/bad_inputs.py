"""What comes of bad files, and whether it is right: python -m tools.bad_inputs

In: a seed. Out: files of all kinds of tools/bad_kinds.py, each through records.read,
check and messages, the command line in this process and for a sample in one of its own,
and helpers.training for a sample, which must refuse before anything is computed. No
file may be changed and nothing written beside it. Prints a table of what was right,
and what was not; exit code 1 where anything was not.

    python -m tools.bad_inputs [--count 500] [--seed 0] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from helpers import files, models, records, steps, training
from tools.bad_kinds import KINDS, LARGE, Case, Draw

NOBODY = 65534  # a user without rights, where tests run as root
SECONDS = 60  # in which a file is read or refused
REACHED = 77  # exit code of a training that refused nothing
MOST = 1 << 26  # bytes that are read at most: less than is usual, for speed
SAMPLE = 10  # one in so many is also given to training and to a process of its own


def state(folder: Path) -> dict[str, tuple]:
    """Every entry below a folder with its kind, time and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        content = path.readlink() if path.is_symlink() else b""
        if stat.S_ISREG(about.st_mode) and about.st_size <= 2**28:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path)] = (about.st_mode, about.st_size, about.st_mtime_ns, content)
    return found


@contextlib.contextmanager
def bounded(as_nobody: bool = False):
    """TimeoutError after SECONDS, as what never ends would; without root's rights."""

    def stop(*_):
        raise TimeoutError(f"no end after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    drop = as_nobody and os.geteuid() == 0
    if drop:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if drop:
            os.seteuid(0)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def command(main, arguments: list[str], as_nobody: bool = False):
    """(exit code, output, errors) of a command line, run in this process."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        bounded(as_nobody),
    ):
        try:
            code = main(arguments)
        except SystemExit as stopped:
            code = stopped.code
        except BaseException:
            code = -1
            traceback.print_exc()
    return code, output.getvalue(), errors.getvalue()


def refusals(case: Case, message: str) -> list[str]:
    """What a refusal lacks."""
    found = [] if str(case.path) in message else ["does not name the file"]
    found += [f"lacks {name!r}" for name in case.names if name not in message]
    plain = message.replace(str(case.path), "FILE")
    long = len(plain) > 9000 or len(plain.splitlines()) > 25
    found += ["is long"] * long + ["has a traceback"] * ("Traceback" in message)
    return [f"{problem}: {message[:300]!r}" for problem in found]


def judge(case: Case) -> list[str]:
    """What is wrong with what came of a file; nothing where all is right."""
    before = state(case.path.parent) if case.path.parts[1] != "dev" else {}
    wrong = []
    try:
        with bounded(case.as_nobody):
            rows = records.read(case.path)
    except (OSError, ValueError) as error:
        if isinstance(error, TimeoutError):
            return [f"hangs: {error}"]
        if case.rows is None:
            wrong += refusals(case, str(error))
        else:
            wrong.append(f"refused: {error}"[:400])
    except BaseException as error:
        wrong.append(f"traceback: {error!r}"[:400])
    else:
        wrong += compared(case, rows)
    code, output, errors = command(records.main, [str(case.path)], case.as_nobody)
    right = int(case.rows is None or bool(case.faults))
    if code != right:
        wrong.append(f"exit code {code} for {right}: {(output + errors)[-400:]}")
    if case.rows is None:
        wrong += [f"command {problem}" for problem in refusals(case, errors)]
        wrong += [f"command prints {output!r}"] * bool(output)
    elif errors:
        wrong.append(f"command says {errors[-400:]!r}")
    if before and state(case.path.parent) != before:
        wrong.append("changed: files are not what they were")
    return wrong


def compared(case: Case, rows: records.Rows) -> list[str]:
    """What differs in rows that were read, their faults and their messages."""
    if case.rows is None:
        return [f"read, and should be refused: {list(rows)[:2]!r}"[:300]]
    pairs = zip(rows, case.rows, strict=False)
    wrong = [f"read {a!r:.150} for {b!r:.150}" for a, b in pairs if a != b][:1]
    if len(rows) != len(case.rows):
        wrong.append(f"read {len(rows)} rows for {len(case.rows)}")
    places = list(records.places(rows))
    if places != case.places:
        wrong.append(f"rows are named {places} for {case.places}")
    try:
        found = records.check(rows)[["row", "fault"]].itertuples(index=False, name=None)
        if (found := sorted(found)) != sorted(case.faults):
            wrong.append(f"check finds {found} for {case.faults}")
        records.notices(rows)
        for row, right in zip(rows, case.said, strict=False):
            try:
                talk = records.messages(row)
                said = [(turn["role"], turn["content"]) for turn in talk]
            except records.RowError:
                said = None
            if right is not None and said != right:
                wrong.append(f"says {said!r:.200} for {right!r:.200}")
    except Exception as error:
        wrong.append(f"traceback: {error!r}"[:400])
    return wrong


def reached(*_, **__):
    raise SystemExit(REACHED)


def train(case: Case, tiny) -> list[str]:
    """What is wrong with how training takes a file; the steps themselves are left out.

    tiny: (model, tokenizer), which are not changed.
    """
    if any(fault == "too long" for _, fault in case.faults):
        return []  # an answer is cut, with a warning; a prompt refused
    good = case.rows is not None and None not in case.said
    before = training.models.load, steps.CourseTrainer
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o777)
        output = Path(scratch) / "tuned"
        options = ["--model", "tiny", "--data", str(case.path), "--output", str(output)]
        try:
            training.models.load, steps.CourseTrainer = lambda name: tiny, reached
            code, said, errors = command(
                training.main, [*options, "--max-length", "256"], case.as_nobody
            )
        finally:
            training.models.load, steps.CourseTrainer = before
        if good:
            return [f"training {code}: {errors[-400:]}"] * (code != REACHED)
        wrong = [f"training {code} for 1: {errors[-400:]}"] * (code != 1)
        wrong += [f"training {p}" for p in refusals(case._replace(names=()), errors)]
        bad = [n for n, said in zip(case.places, case.said, strict=False) if not said]
        wrong += [f"training names no row {n}" for n in bad if f"row {n}" not in errors]
        return wrong + ["training left a folder"] * output.exists()


def by_itself(case: Case) -> list[str]:
    """What is wrong with the command in a process of its own, on a plain console."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "helpers.records", str(case.path)],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            cwd=models.ROOT,
            env=os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "80"},
            user=NOBODY if case.as_nobody and os.geteuid() == 0 else None,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return [f"process hangs: no end after {SECONDS} seconds"]
    right = int(case.rows is None or bool(case.faults))
    said = done.stderr if case.rows is None else done.stdout
    wrong = [f"process ends with {done.returncode} for {right}"]
    wrong *= done.returncode != right
    wrong += ["process has a traceback"] * ("Traceback" in done.stdout + done.stderr)
    name = str(case.path).encode("ascii", "backslashreplace").decode()
    return wrong + [f"process names no file: {said[:300]!r}"] * (name not in said)


def draw(name: str, seed: str, folder: Path) -> Case:
    """The file of a kind, in a folder of its own that anybody may read."""
    place = Path(tempfile.mkdtemp(dir=folder))
    place.chmod(0o755)
    return KINDS[name](Draw(name, seed, place))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bad_inputs")
    parser.add_argument("--count", type=int, default=500, help="files (default 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="a folder for files that come out wrong")
    options = parser.parse_args(arguments)
    tiny, found = models.load("tiny"), collections.Counter()
    files.MOST = MOST
    names = list(KINDS)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        Path(scratch).chmod(0o755)
        for number in range(options.count):
            name, seed = names[number % len(names)], f"{options.seed}.{number}"
            folder = Path(options.keep) if options.keep else Path(scratch)
            case = draw(name, seed, folder)
            wrong = judge(case)
            if (number + number // len(names)) % SAMPLE == 0:
                wrong += train(case, tiny)
                # where the limit is as usual
                wrong += by_itself(case) if name not in LARGE else []
                found["through training"] += 1
            kind = "to be refused" if case.rows is None else "to be read"
            found[kind] += 1
            found[f"{kind}: right"] += not wrong
            text = " ".join(wrong)
            for sign in ("traceback", "Traceback", "hangs", "changed"):
                found[sign.lower()] += sign in text
            if wrong:
                found["wrong"] += 1
                print(
                    f"{name} (seed {seed}; {case.how}): {case.path}", *wrong, sep="\n  "
                )
    print(f"{options.count} files of {len(names)} kinds")
    for sign, count in sorted(found.items()):
        print(f"{count:6} {sign}")
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    records.safe_console()
    sys.exit(main())
