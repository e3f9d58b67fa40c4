"""How a kernel is compiled: once, by the installation, into a folder beside the environment.

Every kernel names its types, so that it is loaded (or compiled) when its module is imported, which
the engine host does before it forks. A training process never compiles. No kernel starts a thread.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CACHE = Path(sys.prefix) / "kernels"
# numba reads it when it is imported.
os.environ.setdefault("NUMBA_CACHE_DIR", str(CACHE))

from numba import njit  # noqa: E402

# "numpy": a division by zero gives inf or NaN instead of an exception. No fastmath: the order of
# floating operations is what makes results equal to Qlib's.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def kernel(*signatures: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compiles a function for the given types; from the cache, where there is one."""

    def compile_now(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            compiled: Callable[..., Any] = njit(list(signatures), cache=True, **_OPTIONS)(function)
        except (OSError, RuntimeError):
            # The cache's folder can't be written: slower at each start, never wrong.
            compiled = njit(list(signatures), **_OPTIONS)(function)
        return compiled

    return compile_now


inlined = njit(inline="always", **_OPTIONS)
"""A helper of kernels: becomes part of each kernel that calls it."""
