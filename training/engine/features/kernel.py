"""How a kernel is compiled: once, by the installation, into a folder beside the environment.

Every kernel names its types, so that it is loaded (or compiled) when its module is imported, which
the engine host does before it forks. A training process never compiles. No kernel starts a thread.
`python -m training.engine.features` compiles all of them.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = Path(sys.prefix) / "kernels"
# numba reads both when it is imported.
os.environ.setdefault("NUMBA_CACHE_DIR", str(FOLDER))
os.environ.setdefault("NUMBA_CACHE_LOCATOR_CLASSES", f"{__name__}.InstalledKernels")

from numba import njit  # noqa: E402
from numba.core.caching import UserProvidedCacheLocator  # noqa: E402

# "numpy": a division by zero gives inf or NaN instead of an exception. No fastmath: the order of
# floating operations is what makes results equal to Qlib's.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


class InstalledKernels(UserProvidedCacheLocator):
    """The folder of compiled kernels, which a worker may read only: numba would then pass it by."""

    def ensure_cache_path(self) -> None:
        with suppress(OSError):
            Path(self._cache_path).mkdir(parents=True, exist_ok=True)


def kernel(*signatures: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compiles a function for the given types, or loads it where it was compiled before."""

    def compile_now(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            compiled: Callable[..., Any] = njit(list(signatures), cache=True, **_OPTIONS)(function)
        except OSError:
            # It can't be kept: slower at each start of an engine host, never wrong.
            compiled = njit(list(signatures), **_OPTIONS)(function)
        return compiled

    return compile_now


inlined = njit(inline="always", **_OPTIONS)
"""A helper of kernels: becomes part of each kernel that calls it."""
