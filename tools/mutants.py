"""Do the tests notice? Small faults put into the helpers, one at a time.

    python -m tools.mutants [--seed N] [--count 60] [--only 3,17] [--tests NODE ...]

Draws mutants of helpers/*.py (in proportion to the lines of a module, all kinds of a
change alike), puts each into a copy of the course and runs the tests that reach its
line, fastest first, until one fails or their time is up. One that hangs is killed, too.
Which test reaches which line is measured first, a quarter of an hour, and kept until a
helper changes; a mutant takes about half a minute. Prints each and the share that is
killed; exit code 1 under 85 %. Linux and macOS. --tests runs these files in place of
those that reach the line; a test that is new since the measurement needs it.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import hashlib
import json
import math
import os
import random
import re
import runpy
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import coverage
import pandas  # noqa: F401  # this and below: for the tests, once for all
import peft  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import torch  # noqa: F401
import transformers.models.gpt_neox.modeling_gpt_neox
import transformers.models.llama.modeling_llama  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(tempfile.gettempdir()) / "mutants"
CLEAN, WORK, LOG = FOLDER / "clean", FOLDER / "work", FOLDER / "log.txt"
ENOUGH = 0.85
# seconds of a processor for the tests of one mutant, and after which the last of them
# is said to hang; for one that waits for ever, seconds of a clock
BUDGET, LIMIT, WAIT = 45, 180, 900
LATE = "(slower tests were left out)"
KEPT_OUT = (".venv", ".git", "outputs", "__pycache__", ".*_cache", ".ipynb_checkpoints")
SWAPS = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult},
    **{ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr},
}
# what is said to people, or to them alone: a changed word is no fault
SAID = {"print", "warn", "debug", "info", "warning", "error", "ArgumentParser"}
SAID_AS = {"help", "description", "metavar", "prog", "title", "label"}


class Mutant(NamedTuple):
    module: str
    line: int
    kind: str
    before: str
    after: str
    source: str  # of the whole module


def left_alone(tree: ast.AST) -> set[ast.AST]:
    """Annotations, docstrings, messages, and what has no place of its own."""
    skipped: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.Raise):
            skipped.append(node)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.append(node)
        called = getattr(node, "func", None)
        if getattr(called, "attr", getattr(called, "id", "")) in SAID:
            skipped.append(node)
        if isinstance(node, ast.keyword) and node.arg in SAID_AS:
            skipped.append(node)
        for name in ("annotation", "returns"):
            skipped += filter(None, [getattr(node, name, None)])
    return {inner for node in skipped for inner in ast.walk(node)}


def of_numbers(node: ast.expr) -> bool:
    """Not of strings, paths and lists: there, any test sees the TypeError."""
    if isinstance(node, ast.BinOp):
        return of_numbers(node.left) and of_numbers(node.right)
    text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    made = (ast.JoinedStr, ast.List, ast.ListComp, ast.Tuple, ast.Dict, ast.Set)
    return not (text or isinstance(node, made))


def changes(node: ast.AST):
    """(kind, part of the code, what stands there instead) for one node."""
    swapped = None
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        swapped = "comparison", {"ops": [SWAPS[type(node.ops[0])](), *node.ops[1:]]}
    elif isinstance(node, ast.BoolOp):
        swapped = "and/or", {"op": SWAPS[type(node.op)]()}
    elif isinstance(node, ast.BinOp) and type(node.op) in SWAPS and of_numbers(node):
        swapped = "arithmetic", {"op": SWAPS[type(node.op)]()}
    if swapped:
        kind, fields = swapped
        other = type(node)(**{**dict(ast.iter_fields(node)), **fields})
        yield kind, node, f"({ast.unparse(other)})"
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield "boolean", node, str(not value)
        elif isinstance(value, int | float):
            yield "number", node, repr(value + 1)
        elif isinstance(value, str) and value and len(value.split()) < 4:
            yield "string", node, '""'
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition", node.test, f"(not ({ast.unparse(node.test)}))"
    if isinstance(node, ast.Return) and node.value is not None:
        yield "return", node.value, "None"


def mutants(path: Path) -> list[Mutant]:
    """All of one module, in the order of its lines."""
    source = path.read_bytes()
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def end(node):
        return starts[node.end_lineno - 1] + node.end_col_offset

    found = []
    skipped = left_alone(tree)

    def add(kind, line, start, stop, instead):
        changed = source[:start] + instead.encode() + source[stop:]
        with contextlib.suppress(SyntaxError):
            compile(changed, path.name, "exec")
            before = " ".join(source[start:stop].decode().split())
            found.append(
                Mutant(path.stem, line, kind, before, instead, changed.decode())
            )

    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            last = [*node.posonlyargs, *node.args][-len(node.defaults) or None :]
            pairs = [*zip(last, node.defaults, strict=False)]
            pairs += zip(node.kwonlyargs, node.kw_defaults, strict=True)
            for argument, value in pairs:
                if value is not None:
                    add("default", value.lineno, end(argument), end(value), "")
        if node not in skipped:
            for kind, part, instead in changes(node):
                start = starts[part.lineno - 1] + part.col_offset
                add(kind, part.lineno, start, end(part), instead)
    return sorted(found, key=lambda mutant: mutant.line)


def drawn(seed: int, count: int) -> list[Mutant]:
    """Modules by their lines, within a module every kind of change alike."""
    chance = random.Random(seed)
    paths = sorted((ROOT / "helpers").glob("*.py"))
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in paths}
    shares = {path: count * n / sum(lines.values()) for path, n in lines.items()}
    rests = sorted(paths, key=lambda path: int(shares[path]) - shares[path])
    more = rests[: count - sum(map(int, shares.values()))]
    chosen = []
    for path in paths:
        kinds = collections.defaultdict(list)
        for mutant in mutants(path):
            kinds[mutant.kind].append(mutant)
        for _ in range(int(shares[path]) + (path in more)):
            if kinds:
                kind = kinds[chance.choice(sorted(kinds))]
                chosen.append(kind.pop(chance.randrange(len(kind))))
                kinds = {name: rest for name, rest in kinds.items() if rest}
    return chosen


def copies() -> str:
    """The course, with its untrained models, in CLEAN; returns a sum of the helpers."""
    shutil.rmtree(CLEAN, ignore_errors=True)
    shutil.copytree(ROOT, CLEAN, ignore=shutil.ignore_patterns(*KEPT_OUT))
    cached = ROOT / "outputs" / "models" / "smollm2"
    (CLEAN / "outputs").mkdir()
    if cached.is_dir():
        shutil.copytree(cached, CLEAN / "outputs" / "models" / "smollm2")
    paths = sorted((CLEAN / "helpers").glob("*.py"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in paths)).hexdigest()[:12]


def offline(files: list[str], environment: dict[str, str]) -> int:
    """pytest in WORK, the network cut; in a child, which has no use afterwards."""
    os.environ.update(environment)
    os.chdir(WORK)
    sys.path.insert(0, str(WORK))
    sys.modules.pop("tools", None)
    cutting = runpy.run_path("tests/offline.py")
    if cutting["can_cut"]():
        cutting["cut"]()
    arguments = ["-q", "-p", "no:cacheprovider", *files]
    if "MUTANTS_SECONDS" not in environment:
        return pytest.main(["-x", *arguments], [sys.modules[__name__]])
    place = environment["MUTANTS_SECONDS"].replace(".json", ".coverage")
    measure = coverage.Coverage(place, source_pkgs=["helpers"])
    with measure.collect():
        code = pytest.main(arguments, [sys.modules[__name__]])
    measure.save()
    return code


def tested(files: list[str], limit: int | None = None, **environment) -> int | None:
    """pytest's exit code; None where it was still running at the limit."""
    environment |= {
        "PYTHONPATH": str(WORK),
        "COURSE_OUTPUTS": str(WORK / "outputs"),
        "COURSE_QUIET": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COVERAGE_CORE": "ctrace",  # tells tests apart, in every Python
    }
    child = os.fork()  # what takes its time to import is there already
    if child == 0:
        os.setsid()
        if limit:
            import resource  # there is none on Windows

            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 3
        try:
            code = offline(files, environment)
        finally:
            sys.stdout.flush()
            os._exit(code)
    ends = time.monotonic() + (WAIT if limit else math.inf)
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not done:
        os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status) if done else None
    return None if code == -signal.SIGXCPU else code


def fresh() -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.copytree(CLEAN, WORK, ignore=shutil.ignore_patterns("outputs"))
    # linked: helpers put new files in the place of old ones, and write into none
    shutil.copytree(CLEAN / "outputs", WORK / "outputs", copy_function=os.link)


def measured(name: str) -> tuple[coverage.CoverageData, dict[str, float]]:
    """Which tests reach which line, and the seconds of each test that passes."""
    lines, seconds = FOLDER / f"{name}.coverage", FOLDER / f"{name}.json"
    if not seconds.exists():
        fresh()
        ours = re.compile(r"^(?:from|import) (?:helpers|exercises|tools)\b", re.M)
        files = [
            f"tests/{path.name}"
            for path in sorted((WORK / "tests").glob("test_*.py"))
            if ours.search(path.read_text("utf-8"))
        ]
        tested(files, MUTANTS_SECONDS=str(seconds))
    data = coverage.CoverageData(str(lines))
    data.read()
    return data, json.loads(seconds.read_text("utf-8"))


def reaching(mutant: Mutant, data: coverage.CoverageData, seconds: dict) -> list[str]:
    """The tests for it: of its line, or of its module for what runs at its import."""
    (file,) = (f for f in data.measured_files() if Path(f).stem == mutant.module)
    tests = data.contexts_by_lineno(file)
    found = {test for test in tests.get(mutant.line, ()) if test in seconds}
    if not found:
        found = {test for of in tests.values() for test in of if test in seconds}
    of_file = collections.Counter()
    for test in found:
        of_file[test.split("::")[0]] += seconds[test]

    def order(test):
        file = test.split("::")[0]
        own = file == f"tests/test_{mutant.module}.py"
        return not own, of_file[file], file, seconds[test]

    return sorted(found, key=order)


def verdict(mutant: Mutant, tests: list[str], files: list[str]) -> str:
    fresh()
    (WORK / "helpers" / f"{mutant.module}.py").write_text(mutant.source, "utf-8")
    chosen = FOLDER / "chosen.json"
    chosen.write_text(json.dumps(tests), "utf-8")
    given = {} if files else {"MUTANTS_TESTS": str(chosen)}
    files = files or list(dict.fromkeys(test.split("::")[0] for test in tests))
    if not files:
        return "survives: no test reaches it"
    code = tested(files, LIMIT, **given)
    if code is None:
        return "killed: hangs"
    log = LOG.read_text("utf-8")
    if code == 0 or LATE in log:
        return f"SURVIVES {LATE if code else ''}"
    if code == 5 or code not in (1, 2, 4) and "SystemExit" not in log:  # no verdict
        raise RuntimeError(f"pytest ended with {code}: {log[-2000:]}")
    said = re.findall(r"^(?:FAILED|ERROR) (.+)", log, re.M)
    return f"killed: {said[0][:120] if said else f'exit code {code}'}"


# what pytest asks of this module, as its plugin
durations: dict[str, float] = collections.defaultdict(float)
red: set[str] = set()
began = math.inf


def pytest_collection_modifyitems(items):
    global began
    began = time.process_time()
    if "MUTANTS_TESTS" in os.environ:
        chosen = json.loads(Path(os.environ["MUTANTS_TESTS"]).read_text("utf-8"))
        by_name = {item.nodeid: item for item in items}
        items[:] = [by_name[name] for name in chosen if name in by_name]


def pytest_runtest_logstart(nodeid):
    if current := coverage.Coverage.current():
        current.switch_context(nodeid)


def pytest_runtest_teardown(item):
    if "MUTANTS_TESTS" in os.environ and time.process_time() - began > BUDGET:
        item.session.shouldstop = LATE


def pytest_runtest_logreport(report):
    durations[report.nodeid] += report.duration
    if not report.passed:
        red.add(report.nodeid)


def pytest_sessionfinish():
    if "MUTANTS_SECONDS" in os.environ:
        passed = {name: n for name, n in durations.items() if name not in red}
        Path(os.environ["MUTANTS_SECONDS"]).write_text(json.dumps(passed), "utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--only", help="numbers of mutants, as 3,17")
    parser.add_argument("--tests", nargs="+", default=[], help="these, not the fastest")
    options = parser.parse_args(argv)
    sample = dict(enumerate(drawn(options.seed, options.count), 1))
    if options.only:
        sample = {int(n): sample[int(n)] for n in options.only.split(",")}
    data, seconds = measured(copies())
    killed = 0
    for number, mutant in sample.items():
        found = verdict(mutant, reaching(mutant, data, seconds), options.tests)
        killed += found.startswith("killed")
        where = f"helpers/{mutant.module}.py:{mutant.line}"
        print(f"{number:3} {where} {mutant.kind}: {mutant.before} -> {mutant.after}")
        print(f"    {found}", flush=True)
    print(f"{killed} of {len(sample)} killed")
    return killed < ENOUGH * len(sample)


if __name__ == "__main__":
    sys.exit(main())
