"""Run a command that ends with its parent: `python -m qlibplatform.local.lifeline COMMAND…`.

The kernel sends the command SIGTERM at the moment its parent dies, however it dies: what a
supervisor started would otherwise live on after a `kill -9` of the supervisor. Imports nothing of
ours, so that it costs milliseconds. Elsewhere than on Linux it only runs the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PARENT = "LIFELINE_PARENT"
"""The process id of whoever on a lifeline starts the command; the exec keeps it."""


def main(command: list[str]) -> None:
    """Become the command, keeping the process id. The wish survives the exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if _parent_is_gone():
            return
    os.environ[PARENT] = str(os.getpid())
    os.execvp(command[0], command)  # noqa: S606


def _parent_is_gone() -> bool:
    """Whether it died before the kernel was asked: then no signal will ever come."""
    parent = os.environ.get(PARENT, "")
    if not parent or int(parent) == os.getppid():
        return False
    # Not our parent's id: it has died, or somebody else stands between. A dead one that nobody
    # has waited for is still listed, as a zombie.
    try:
        with open(f"/proc/{parent}/stat") as about:
            return about.read().rpartition(")")[2].split()[0] in {"Z", "X"}
    except OSError:
        return True


if __name__ == "__main__":
    main(sys.argv[1:])
