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


def main(command: list[str]) -> None:
    """Become the command, keeping the process id. The wish survives the exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
