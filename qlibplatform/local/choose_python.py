"""Go on with a Python that fits: `python3 choose_python.py SCRIPT ARGUMENT…`.

Whatever Python a machine calls `python3` runs this file, so it keeps to the syntax and the library of
Python 3.6, imports nothing of ours, and does nothing but find a better one.
"""

import os
import subprocess
import sys

OLDEST = (3, 11)
TOO_NEW = (3, 13)
NAMES = ("python3.11", "python3.12", "python3")


def fits(version):  # type: ignore[no-untyped-def]
    return OLDEST <= tuple(version) < TOO_NEW


def version_of(python):  # type: ignore[no-untyped-def]
    """(major, minor) of an interpreter; (0, 0) of a file that does not run as one."""
    ask = "import sys; print(sys.version_info[0], sys.version_info[1])"
    try:
        answer = subprocess.check_output([python, "-c", ask], stderr=subprocess.DEVNULL)
        return tuple(int(part) for part in answer.split())
    except (OSError, ValueError, subprocess.CalledProcessError):
        return (0, 0)


def find():  # type: ignore[no-untyped-def]
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


def main(arguments):  # type: ignore[no-untyped-def]
    python = find()
    if python is None:
        have = "%d.%d" % sys.version_info[:2]
        sys.exit(
            "The platform needs Python 3.11 or 3.12; %s is Python %s and no other was found.\n"
            "Install one, such as by `apt install python3.11`, or name it: "
            "`make run PYTHON=/path/to/python3.11`." % (sys.executable, have)
        )
    os.execv(python, [python] + arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
