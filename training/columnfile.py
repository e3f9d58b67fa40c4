"""A column of features as a file: npy, little-endian float32, one dimension; its checksum.

Standard library and blake3 only: the engine maps what a leader has put into the store, and both
must mean the same bytes. Checksums are of the whole file.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

HEADER_BYTES = 128
FOLDER = "features"
"""Below its scratch home: where a training puts the columns that it hands over."""

_PIECE = 4 * 2**20


class NotAColumn(ValueError):
    """The file is not what a column of so many rows looks like."""


def header(rows: int) -> bytes:
    """The first HEADER_BYTES of the npy file (format 1.0) of a column with so many rows."""
    told = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows},), }}"
    return b"\x93NUMPY\x01\x00v\x00" + told.ljust(HEADER_BYTES - 11).encode() + b"\n"


def size(rows: int) -> int:
    """Bytes of the whole file."""
    return HEADER_BYTES + 4 * rows


def checksum(data: bytes | memoryview) -> str:
    """Of a whole file's bytes; 64 hexadecimal digits."""
    return blake3(data).hexdigest()


def place(store: Path, key: str) -> Path:
    """Where the column of this key lies: 256 folders keep each of them short."""
    return store / key[:2] / f"{key}.npy"


def is_as_recorded(path: Path, recorded: str) -> bool:
    """Whether the file is there and has this checksum."""
    try:
        with path.open("rb") as file:
            hashed = blake3()
            while piece := file.read(_PIECE):
                hashed.update(piece)
    except OSError:
        return False
    return hashed.hexdigest() == recorded


def take(name: str, *, source: Path, target: Path, rows: int, part: str) -> str:
    """Copy a training's file to its place in the store, remove it, return the copy's checksum.

    A copy, not a rename: the training may still hold the file open for writing. part: the copy's
    name until it is complete. Raises: NotAColumn; OSError.
    """
    # Somebody untrusted writes in this folder, and may put links in its place and into it.
    folder = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with _opened(name, folder=folder) as file:
            _refuse_other(file, name, rows=rows)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            hashed = _placed(file, target, part=part, count=size(rows))
        os.unlink(name, dir_fd=folder)
    finally:
        os.close(folder)
    return hashed


@contextmanager
def _opened(name: str, *, folder: int) -> Iterator[int]:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        yield file
    finally:
        os.close(file)


def _refuse_other(file: int, name: str, *, rows: int) -> None:
    about = os.fstat(file)
    if not stat.S_ISREG(about.st_mode) or about.st_size != size(rows):
        raise NotAColumn(f"{name} is no file of {size(rows)} bytes")
    if os.pread(file, HEADER_BYTES, 0) != header(rows):
        raise NotAColumn(f"{name} is no column of {rows} rows")


def _placed(file: int, target: Path, *, part: str, count: int) -> str:
    beside = target.with_name(part)
    try:
        hashed = _copied(file, beside, count)
        beside.rename(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return hashed


def _copied(file: int, beside: Path, count: int) -> str:
    """Copies `count` bytes, hashing what it writes: what the file becomes later does not matter."""
    hashed = blake3()
    copy = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        at = 0
        while at < count:
            piece = os.pread(file, min(_PIECE, count - at), at)
            if not piece:
                raise NotAColumn("the file became shorter while it was read")
            hashed.update(piece)
            _write_all(copy, piece)
            at += len(piece)
    finally:
        os.close(copy)
    return hashed.hexdigest()


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
