"""Helpers of the course: each module is one stop from records to verdicts.

What is set here is read by torch when it is imported, so import helpers before torch.
"""

import os

# Large memory pages make a training step 1.1 to 1.2 times faster on Linux, where small
# ones spend that time in page faults.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# Threads that wait for others spin for a moment only, then sleep. With a browser busy
# on one of two cores a step takes twice its time alone, not three to four times; the
# price is a tenth of the time alone (benchmarks/sharing.py).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
