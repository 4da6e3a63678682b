"""Reading, checking and encoding a file of many short rows: seconds and peak memory.

    python benchmarks/records.py [ROWS ...]

The memory is that of the process, of which Python, pandas and torch take their part
before the first row. Time and memory must grow no faster than the rows.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers import models, records, tokens

ROWS = (100_000, 300_000, 1_000_000)


def generate(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            question = f"How high is mast number {n} above the pond at the old mill?"
            answer = f"Mast {n} is {n % 97} metres and {n % 89} centimetres high."
            file.write(json.dumps({"question": question, "answer": answer}) + "\n")


def peak() -> float:
    """The most memory that this process has held so far, in GB."""
    unit = 1e9 if sys.platform == "darwin" else 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        generate(path, count)
        started = time.perf_counter()
        rows = records.read(path)
        read = time.perf_counter()
        read_peak = peak()
        faults = records.check(rows)
        checked, check_peak = time.perf_counter(), peak()
    _, tokenizer = models.load("tiny")
    begun = time.perf_counter()
    encoded = tokens.encode_all([records.messages(row) for row in rows], tokenizer)
    ended = time.perf_counter()
    assert faults.empty and len(rows) == len(encoded) == count
    print(
        f"{count:>9,} rows   read {read - started:5.1f} s, {read_peak:.2f} GB   "
        f"check {checked - read:5.1f} s, {check_peak:.2f} GB   "
        f"encode {ended - begun:5.1f} s, {peak():.2f} GB",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        measure(int(sys.argv[2]))
        sys.exit()
    for count in map(int, sys.argv[1:] or ROWS):  # a process each, for its own peak
        subprocess.run([sys.executable, __file__, "one", str(count)], check=True)
