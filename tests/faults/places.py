"""What a fault's platform stands on: a small disk, a clock that is wrong. Root and Debian only."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.platform_processes import Platform

DISK = "64m"


@contextmanager
def small_disk(platform: Platform) -> Iterator[None]:
    """A file system of its own for artifacts, with little room."""
    folder = platform.state_dir / "artifacts"
    folder.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "artifacts", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"only root mounts a small disk: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        platform.stop()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def empty(_: Platform) -> Iterator[None]:
    """Nothing but a platform of its own, for what leaves too much behind."""
    yield


def clock(offset: str) -> dict[str, str]:
    """The environment of a process whose clock is wrong by the offset (`+1h`)."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("no libfaketime (apt-get install libfaketime)")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME": offset,
        # Only the time of day is wrong: what measures how long something takes is not.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
