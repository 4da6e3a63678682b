"""How long each lesson computes: measured by tools.course, told in INSTRUCTORS.md.

    python -m tools.durations [--write] outputs/course/durations.json [...]

In: files durations.json, as `python -m tools.course` writes them. Out: a table in
Markdown; with --write also the column "computing" of the plan in INSTRUCTORS.md.
Standard library only: a job that gathers tables of others needs no set-up.
"""

import argparse
import json
import re
import sys
from pathlib import Path

INSTRUCTORS = Path(__file__).resolve().parents[1] / "INSTRUCTORS.md"
# | 01 Why finetune | 60 min | 1.5 min | 15 min |
ROW = re.compile(r"^(\| (\d\d) [^|]+\|[^|]+\| )([\d.]+)( min \|)", re.MULTILINE)


def read(files: list[Path]) -> list[tuple[str, dict]]:
    """(lesson, what is known of its run) of all files, in the order of the lessons."""
    found = [
        entry
        for file in files
        for entry in json.loads(file.read_text(encoding="utf-8")).items()
    ]
    return sorted(found, key=lambda entry: (entry[0], entry[1]["on"]))


def table(found: list[tuple[str, dict]]) -> str:
    lines = ["| lesson | code cells | minutes | on |", "|---|---|---|---|"]
    for lesson, run in found:
        lines.append(
            f"| {lesson} | {run['cells']} | {run['minutes']:.1f} | {run['on']} |"
        )
    return "\n".join(lines)


def refreshed(text: str, found: list[tuple[str, dict]]) -> str:
    """The plan with these minutes in it; rows of lessons not measured stay.

    Raises ValueError for a lesson that has no row, or that was measured twice.
    """
    minutes = {lesson[:2]: f"{run['minutes']:.1f}" for lesson, run in found}
    rows = {row[2] for row in ROW.finditer(text)}
    if len(minutes) < len(found):
        raise ValueError("a lesson was measured twice: name files of one computer")
    if absent := sorted(minutes.keys() - rows):
        raise ValueError(
            f"{INSTRUCTORS.name}: the plan has no row for lesson {', '.join(absent)}: "
            'add "| NN Title | 65 min | 0.0 min | 10 min |"'
        )
    return ROW.sub(lambda row: row[1] + minutes.get(row[2], row[3]) + row[4], text)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.durations")
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="durations.json of a run, or of several on different computers",
    )
    parser.add_argument(
        "--write", action="store_true", help="into INSTRUCTORS.md as well"
    )
    options = parser.parse_args(argv)
    try:
        found = read(options.files)
        print(table(found))
        if options.write:
            text = INSTRUCTORS.read_text(encoding="utf-8")
            INSTRUCTORS.write_text(
                refreshed(text, found), encoding="utf-8", newline="\n"
            )
    except FileNotFoundError as error:
        print(f"{error.filename}: not there; `make course` makes it", file=sys.stderr)
        return 1
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
