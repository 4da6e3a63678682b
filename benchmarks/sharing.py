"""Two trainings on the same cores, as in a class that shares a computer.

    python benchmarks/sharing.py

The same short tuning of `tiny` alone and twice at once, with OpenMP's default, under
which threads wait busily for a while, and as importing helpers sets it, with threads
that soon sleep.
"""

import os
import subprocess
import sys

from helpers import models, records, training

ROWS = 200
VARIABLE = "GOMP_SPINCOUNT"  # what helpers/__init__.py sets
DEFAULT = "300000"  # of GCC's OpenMP, where nothing is set


def one() -> float:
    """Seconds of tuning `tiny` on the first rows, once."""
    model, tokenizer = models.load("tiny")
    rows = records.core(records.load("faq")["train"])[:ROWS]
    training.finetune(model, tokenizer, rows[:16], epochs=1)  # to warm up
    return training.finetune(model, tokenizer, rows, epochs=1).seconds


def at_once(count: int, policy: str) -> list[float]:
    environment = os.environ | {"COURSE_QUIET": "1"}
    environment.pop("OMP_WAIT_POLICY", None)  # in its presence helpers set nothing
    environment.pop(VARIABLE, None)
    if policy == "default":
        environment[VARIABLE] = DEFAULT
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "one"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    return [float(process.communicate()[0]) for process in started]


if __name__ == "__main__":
    if sys.argv[1:] == ["one"]:
        print(one())
        sys.exit()
    for policy in ("default", "helpers"):
        for count in (1, 2):
            seconds = ", ".join(f"{s:.1f} s" for s in at_once(count, policy))
            print(f"{policy:<8} {count} at once: {seconds}", flush=True)
