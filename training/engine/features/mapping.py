"""Many column files seen as one array: a range of memory into which each file is mapped.

So a frame of hundreds of columns is one block without a copy, and each column can still come from
a file of its own: from the shared store, or fresh in the scratch folder. Pages are read when they
are touched; what is written to a finished column stays in this process.
"""

import ctypes
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from training.columnfile import HEADER_BYTES, header, size

MAP_FIXED, MAP_NORESERVE, MAP_POPULATE = 0x10, 0x4000, 0x8000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_FAILED = ctypes.c_void_p(-1).value


class Columns:
    """Place for `count` columns of `rows` float32 each; given back when no array uses it.

    A column must be opened, made or filled before `array` is read there: until then an access ends
    the process.
    """

    def __init__(self, count: int, rows: int) -> None:
        self.count, self.rows = count, rows
        self._stride = -(-size(rows) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._length = max(count, 1) * self._stride
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self._address = _map(None, self._length, 0, flags, -1)

    def __del__(self) -> None:
        # Absent where the first mapping failed.
        if address := getattr(self, "_address", None):
            _libc.munmap(address, self._length)

    @property
    def array(self) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Shape (count, rows); each row lies in one piece."""
        return np.asarray(self)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "typestr": "<f4",
            "shape": (self.count, self.rows),
            "strides": (self._stride, 4),
            "data": (self._address + HEADER_BYTES, False),
        }

    def open(self, number: int, path: Path) -> memoryview:
        """Map a finished file, all of it read already; its bytes, for a checksum.

        Call `release` when it is what it should be. Raises: OSError; ValueError, if its size is not
        that of a column of so many rows.
        """
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(file).st_size != size(self.rows):
                raise ValueError(f"{path.name} is no column of {self.rows} rows")
            # Read-only at first: with MAP_POPULATE a writable private page would be copied.
            self._map(number, mmap.PROT_READ, mmap.MAP_PRIVATE | MAP_POPULATE, file)
        finally:
            os.close(file)
        whole = (ctypes.c_ubyte * size(self.rows)).from_address(self._at(number))
        return memoryview(whole).cast("B")

    def release(self, number: int) -> None:
        """Let an opened column be written, by copies of the pages that stay in this process."""
        if _libc.mprotect(self._at(number), self._stride, mmap.PROT_READ | mmap.PROT_WRITE):
            raise MemoryError(f"mprotect: {os.strerror(ctypes.get_errno())}")

    def make(self, number: int, path: Path) -> None:
        """A new file, with all its space reserved: what is written to the column goes into it.

        Raises: OSError, also if the disk has no room for it.
        """
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # Without the space, writing to the mapping would kill the process.
            os.posix_fallocate(file, 0, size(self.rows))
            os.pwrite(file, header(self.rows), 0)
            self._map(number, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, file)
        finally:
            os.close(file)

    def finish(self, number: int, path: Path) -> None:
        """A made column is complete: from here on writing to it leaves its file as it is."""
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map(number, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, file)
        finally:
            os.close(file)

    def fill(self, number: int, folder: Path) -> None:
        """A place for a column of this process alone: a file without a name in `folder`.

        So the system may write a large load to disk instead of running out of memory. Where the
        disk has no room, plain memory.
        """
        both = mmap.PROT_READ | mmap.PROT_WRITE
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(file.fileno(), 0, size(self.rows))
                self._map(number, both, mmap.MAP_SHARED, file.fileno())
        except OSError:
            self._map(number, both, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)

    def _at(self, number: int) -> int:
        if not 0 <= number < self.count:
            raise IndexError(number)
        return self._address + number * self._stride

    def _map(self, number: int, protection: int, flags: int, file: int) -> None:
        _map(self._at(number), self._stride, protection, flags | MAP_FIXED, file)


def _map(address: int | None, length: int, protection: int, flags: int, file: int) -> int:
    found: int = _libc.mmap(address, length, protection, flags, file, 0)
    if found == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap of {length} bytes: {os.strerror(number)}")
    return found
