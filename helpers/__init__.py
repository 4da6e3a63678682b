"""Helpers of the course: each module is one stop from records to verdicts."""

import os

# Read by torch at its first allocation: large pages make a training step 1.1 to 1.2
# times faster on Linux, where small ones spend that time in page faults.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
