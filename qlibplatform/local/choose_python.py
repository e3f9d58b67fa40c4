"""Go on with a Python that fits: `python3 choose_python.py SCRIPT ARGUMENT…`.

Whatever Python a machine calls `python3` runs this file: it keeps to the syntax and the library of
Python 3.6, imports nothing of ours, and does nothing but find a better one.
"""

import os
import subprocess
import sys
from typing import List, Optional, Tuple

OLDEST = (3, 11)
TOO_NEW = (3, 13)
NAMES = ("python3.11", "python3.12", "python3")


def fits(version: Tuple[int, ...]) -> bool:
    """Whether the locked packages have builds for this (major, minor)."""
    return OLDEST <= version < TOO_NEW


def version_of(python: str) -> Tuple[int, ...]:
    """(major, minor) of an interpreter; (0, 0) of a file that does not run as one."""
    ask = "import sys; print(sys.version_info[0], sys.version_info[1])"
    try:
        answer = subprocess.check_output([python, "-c", ask], stderr=subprocess.DEVNULL)
        return tuple(int(part) for part in answer.split())
    except (OSError, ValueError, subprocess.CalledProcessError):
        return (0, 0)


def find() -> Optional[str]:
    """This interpreter if it fits, else the first on the PATH that does, else None."""
    if fits(sys.version_info[:2]):
        return sys.executable
    # Every folder, not the first hit alone: a version manager's stand-in may exist and not run.
    for name in NAMES:
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            candidate = os.path.join(folder, name)
            if os.access(candidate, os.X_OK) and fits(version_of(candidate)):
                return candidate
    return None


def main(arguments: List[str]) -> None:
    """Become the found Python, running the script; or say in two lines what is missing."""
    python = find()
    if python is None:
        have = "%d.%d" % sys.version_info[:2]
        sys.exit(
            "The platform needs Python 3.11 or 3.12; %s is Python %s and no other was found.\n"
            "Install one, such as by `apt install python3.11`, or name it: "
            "`make run PYTHON=/path/to/python3.11`." % (sys.executable, have)
        )
    os.execv(python, [python] + arguments)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
