"""Run a command with the network cut and loopback up: tests cannot need a network.

    python tests/offline.py COMMAND [ARGUMENT ...]

On Linux the command gets a network namespace of its own, nothing in it but loopback.
Where that is not allowed, tests/guard makes Python's sockets refuse other addresses;
COURSE_NO_NETWORK=1 in the environment asks for the guard at once.
"""

import ctypes
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h


def cut() -> None:
    """Move this process into an empty network namespace; OSError where not allowed."""
    import fcntl

    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET) != 0:
        # not root: a user namespace gives the right, mapped so that files stay ours
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket() as any_socket:  # a new namespace has loopback, but down
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def can_cut() -> bool:
    """Tried in a child: a namespace half entered cannot be left again."""
    if not sys.platform.startswith("linux"):
        return False
    child = os.fork()
    if child == 0:
        try:
            cut()
        except Exception:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def main(command: list[str]) -> int:
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    os.environ["HF_HUB_OFFLINE"] = "1"
    if os.environ.get("COURSE_NO_NETWORK") != "1" and can_cut():
        cut()
    else:
        print("offline: by a guard in Python's sockets", file=sys.stderr, flush=True)
        guard = str(Path(__file__).resolve().parent / "guard")
        path = [guard, *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
        os.environ["COURSE_NO_NETWORK"] = "1"
    if os.name == "nt":  # exec returns to the shell at once there
        return subprocess.call(command)
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
