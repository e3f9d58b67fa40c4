"""Makes `libgomp.so.1` findable for LightGBM on machines that lack the system's copy."""

import ctypes
import os
import site
import sys
from pathlib import Path

NAME = "libgomp.so.1"
COPIES = ("scikit_learn.libs/libgomp-*.so*", "xgboost.libs/libgomp-*.so*", "torch/lib/libgomp*.so*")


class NoOpenMP(SystemExit):
    """LightGBM can't be imported here."""


def ensure_findable(runtime_dir: Path) -> None:
    """If the loader finds no libgomp, links a wheel's copy under its right name and starts over.

    The loader matches a needed library by the name it was loaded with, and reads LD_LIBRARY_PATH
    only when a process starts: so loading the copy by its path does not help, and the link and a
    second exec of this process do. Raises: NoOpenMP.
    """
    if _is_loadable():
        return
    library_dir = runtime_dir / "lib"
    if os.environ.get("LD_LIBRARY_PATH") == str(library_dir):
        raise NoOpenMP(_advice(f"the copy linked in {library_dir} can't be loaded"))
    copy = find_copy()
    if copy is None:
        raise NoOpenMP(_advice("no installed package brings a copy"))
    link(library_dir, copy)
    os.environ["LD_LIBRARY_PATH"] = str(library_dir)
    # This very command line again: nothing in it comes from a user.
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606


def find_copy() -> Path | None:
    """A libgomp that some wheel ships, scikit-learn's first."""
    found = (
        copy
        for folder in site.getsitepackages()
        for pattern in COPIES
        for copy in sorted(Path(folder).glob(pattern))
    )
    return next(found, None)


def link(library_dir: Path, copy: Path) -> None:
    """Makes library_dir/libgomp.so.1 point at the copy, whatever it pointed at before."""
    library_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = library_dir / f"{NAME}.{os.getpid()}"
    fresh.symlink_to(copy)
    fresh.replace(library_dir / NAME)


def _is_loadable() -> bool:
    try:
        ctypes.CDLL(NAME)
    except OSError:
        return False
    return True


def _advice(reason: str) -> str:
    return (
        f"LightGBM needs {NAME}, which this machine lacks ({reason}): "
        "install the package libgomp1 (Debian, Ubuntu) or libgomp (Fedora, Alpine)."
    )
