"""What the worker's machine has: memory, optional libraries, versions."""

import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from django.conf import settings

EXTRAS = ("xgboost", "catboost", "torch")
TOLD_VERSIONS = ("pyqlib", "lightgbm", "pandas", "numpy", *EXTRAS)


def extras() -> tuple[str, ...]:
    """The optional libraries that a training on this worker can use."""
    found = [name for name in EXTRAS if find_spec(name)]
    if any(Path("/dev").glob("nvidia[0-9]*")):
        found.append("gpu")
    return tuple(found)


def memory_share() -> int:
    """Bytes that one training may use: as set, else 80 % of the machine's by the cores' share."""
    if settings.TRAINING_MEMORY_BYTES:
        return int(settings.TRAINING_MEMORY_BYTES)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(whole * 0.8 * min(settings.TRAINING_THREADS / settings.CORES, 1.0))


def used_bytes() -> int:
    """Memory of this worker with its work-horse, engine host and training; pages that they share
    count once."""
    return sum(_proportional_bytes(pid) for pid in _family(os.getpid()))


def _family(pid: int) -> list[int]:
    """The process and all its descendants. Another thread's children count too."""
    found = [pid]
    for parent in found:
        for listed in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(child) for child in listed.read_text().split()]
    return found


def _proportional_bytes(pid: int) -> int:
    """0 for a process that has ended, or that may not be looked at."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return 0


def versions() -> dict[str, str]:
    """Of this release and of the libraries that a training's figures depend on."""
    told = {"platform": settings.RELEASE} if settings.RELEASE else {}
    for name in TOLD_VERSIONS:
        try:
            told[name] = version(name)
        except PackageNotFoundError:
            continue
    return told
