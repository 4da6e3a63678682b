"""Helpers of the course: each module is one stop from records to verdicts.

What is set here is read by torch when it is imported, so import helpers before torch.
"""

import _thread
import os
import signal
import sys
import threading

# Large memory pages make a training step 1.1 to 1.2 times faster on Linux, where small
# ones spend that time in page faults.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# Threads that wait for others spin for a moment only, then sleep. With a browser busy
# on one of two cores a step takes twice its time alone, not three to four times; the
# price is a tenth of the time alone (benchmarks/sharing.py).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _once_more(lost, show=sys.unraisablehook):
    """Ctrl-C that fell into a destructor, where Python drops it, comes again."""
    if lost.exc_type is not KeyboardInterrupt:
        return show(lost)
    timer = threading.Timer(0.05, _thread.interrupt_main)
    timer.daemon = True
    timer.start()


def _stopped(kind, error, trace, show=sys.excepthook):
    """Ctrl-C ends a command by a line, also while it imports."""
    if not issubclass(kind, KeyboardInterrupt):
        return show(kind, error, trace)
    print("\nstopped; the same command begins anew", file=sys.stderr)
    raise SystemExit(128 + signal.SIGINT)  # as a shell expects


def _insist(number, frame):
    """Ctrl-C that a library swallowed comes again, until the command has ended."""
    timer = threading.Timer(3, _interrupt)
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt


def _interrupt():
    if hasattr(signal, "pthread_kill"):  # wakes a main thread that sleeps, too
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()


sys.unraisablehook = _once_more
if sys.argv[:1] == ["-m"]:  # as it is while `python -m helpers.NAME` looks for NAME
    sys.excepthook = _stopped
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _insist)
