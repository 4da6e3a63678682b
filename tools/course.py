"""Run the lessons top to bottom, each in a fresh kernel, and gather their verdicts.

    python -m tools.course [--in-place] [NOTEBOOK ...]

In: notebooks. Out: executed notebooks, HTML and durations.json in outputs/course/, a
table at the end.
It knows nothing about what lessons do; it reads the verdicts that they leave behind.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
import time
from pathlib import Path

from helpers.whole import write

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = ROOT / (os.environ.get("COURSE_OUTPUTS") or "outputs")  # as in models.py
CELL_SECONDS = 7200  # leaves room for all rows in float32 on a slow processor
NO_TIME = 0.1  # seconds; the start of a kernel alone takes longer
WIDGET = "application/vnd.jupyter.widget-view+json"


def lessons(folder: Path = ROOT / "notebooks") -> list[Path]:
    """The notebooks named like 04_training.ipynb, in order."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def execute(nb: nbformat.NotebookNode, folder: Path) -> str | None:
    """Run all cells of `nb`, in place, with `folder` as the kernel's working folder.

    Prints a line per code cell. Returns None when all ran, else the source of the cell
    that failed and its error. Raises KeyboardInterrupt on Ctrl-C.
    """
    cells = code_cells(nb)
    begun = time.perf_counter()
    done: list[float] = []
    started = time.perf_counter()

    def before(cell, cell_index):
        nonlocal started
        started = time.perf_counter()
        print(f"  cell {len(done) + 1}/{len(cells)} ", end="", flush=True)

    def after(cell, cell_index, execute_reply):
        done.append(time.perf_counter() - started)
        print(f"{done[-1]:6.1f} s", flush=True)

    client = NotebookClient(
        nb,
        kernel_name="python3",
        extra_arguments=["--log-level=50"],  # the kernel's own log stays quiet
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        on_cell_execute=before,
        on_cell_executed=after,
    )
    try:
        client.execute(env={"COURSE_QUIET": "1", **os.environ})
    except CellExecutionError as error:
        source = cells[len(done) - 1].source
        return f"{source}\n----\n{error.ename}: {error.evalue}"
    except Exception as error:  # the kernel died or took too long
        # nbclient answers Ctrl-C by stopping the kernel; this is the trace it leaves
        if getattr(client, "_async_cleanup_kernel_future", None):
            raise KeyboardInterrupt from None
        print()
        source = cells[len(done)].source if len(done) < len(cells) else ""
        return f"{source}\n----\n{type(error).__name__}: {error}"
    return left_out(len(done), len(cells), time.perf_counter() - begun)


def code_cells(nb: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [c for c in nb.cells if c.cell_type == "code" and c.source.strip()]


def left_out(ran: int, cells: int, seconds: float) -> str | None:
    """Why a run without an error was none all the same; None when it was one.

    ran: code cells that were executed, of `cells`; seconds: the kernel included.
    """
    if ran < cells or not cells:
        return f"{ran} of {cells} code cells ran: a lesson that leaves some out fails"
    if seconds < NO_TIME:
        return f"{cells} code cells in {seconds:.3f} s: they cannot have run"
    return None


def clean(nb: nbformat.NotebookNode) -> None:
    """Drop what changes from run to run and means nothing without a kernel."""
    nb.metadata.pop("widgets", None)
    for cell in nb.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)


def run_lesson(notebook: Path, output: Path, in_place: bool) -> str | None:
    """Run a notebook, write it and its HTML to `output`; its error, None if whole."""
    nb = nbformat.read(notebook, as_version=4)
    error = execute(nb, notebook.parent)
    clean(nb)
    text = nbformat.writes(nb) + "\n"
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(
        nb, {"metadata": {"name": notebook.stem, "path": str(notebook.parent)}}
    )
    write(output / notebook.name, text)
    write(output / f"{notebook.stem}.html", page)
    if in_place and error is None:
        write(notebook, text)
    return error


def kept(folder: Path) -> set[tuple[Path, int]]:
    """The verdicts in a folder, each with when it was written, by whatever clock."""
    return {
        (path, path.stat().st_mtime_ns)
        for path in folder.rglob("*.json")
        if path.parent.suffix != ".part"  # half, of a lesson that was killed
    }


def verdicts(folder: Path, before: set[tuple[Path, int]]) -> list[dict]:
    """Verdicts (lesson, claim, result) below `folder` that were not there before."""
    found = []
    for path, _ in sorted(kept(folder) - before):
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            print(f"{path} is damaged ({error}): delete it and run its lesson again")
    return found


def table(rows: list[tuple[str, float, str]], found: list[dict]) -> str:
    """rows: (lesson, minutes, "" or what went wrong); found: see `verdicts`."""
    width = max([len("lesson"), *(len(lesson) for lesson, _, _ in rows)])
    lines = [f"{'lesson':{width}}  minutes  verdicts"]
    for lesson, minutes, trouble in rows:
        names = lesson, lesson.split("_")[0]  # a verdict may say "04" for 04_training
        own = [v for v in found if v["lesson"] in names]
        said = [trouble] * bool(trouble) + [f"{v['result']}: {v['claim']}" for v in own]
        said = said or ["no verdict"]
        lines.append(f"{lesson:{width}}  {minutes:7.1f}  {said[0]}")
        lines += [" " * (width + 11) + line for line in said[1:]]
    return "\n".join(lines)


def keep_duration(file: Path, notebook: Path, minutes: float) -> None:
    """Note in `file` how long a lesson took; what others took stays there."""
    cells = len(code_cells(nbformat.read(notebook, as_version=4)))
    on = f"{platform.system()}, {os.cpu_count()} cores, {platform.python_version()}"
    known = {}
    if file.exists():
        with contextlib.suppress(ValueError, TypeError):  # a damaged one begins anew
            known = {**json.loads(file.read_text(encoding="utf-8"))}
    known[notebook.stem] = {"minutes": round(minutes, 2), "cells": cells, "on": on}
    write(file, json.dumps(known, indent=1, sort_keys=True) + "\n")


def run(notebooks: list[Path], outputs: Path, in_place: bool = False) -> int:
    """Run `notebooks` one after the other; 0 when all ran, 1 not all, 130 on Ctrl-C."""
    before = kept(outputs / "verdicts")
    rows: list[tuple[str, float, str]] = []
    code = 0
    try:
        for k, notebook in enumerate(notebooks, 1):
            print(f"{notebook.stem}, lesson {k} of {len(notebooks)}", flush=True)
            started = time.perf_counter()
            try:
                error = run_lesson(notebook, outputs / "course", in_place)
                minutes = (time.perf_counter() - started) / 60
                if not error:
                    file = outputs / "course" / "durations.json"
                    keep_duration(file, notebook, minutes)
            except Exception as trouble:  # not a notebook, no space on the disk
                minutes = (time.perf_counter() - started) / 60
                error = f"{notebook}\n----\n{type(trouble).__name__}: {trouble}"
            rows.append((notebook.stem, minutes, "FAILED, see above" if error else ""))
            if error:
                code = 1
                print(f"---- {notebook.stem} failed at\n{error}\n----", flush=True)
    except KeyboardInterrupt:
        print("\nStopped; the lessons in the table are finished and kept.")
        code = 130
    print("\n" + table(rows, verdicts(outputs / "verdicts", before)))
    print(f"Notebooks and HTML are in {outputs / 'course'}")
    return code


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.course",
        description="Run lessons top to bottom and write them to outputs/course/.",
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="also store what each whole lesson prints in the notebook itself",
    )
    options = parser.parse_args(argv)
    chosen = [path.resolve() for path in options.notebooks] or lessons()
    if not chosen:
        parser.error("there are no lessons in notebooks/")
    return run(chosen, OUTPUTS, options.in_place)


if __name__ == "__main__":
    sys.exit(main())
