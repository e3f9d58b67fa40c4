"""Waiting for something to come true, with a deadline."""

import time
from collections.abc import Callable
from typing import Any


def until(
    look: Callable[[], Any], *, what: str, within_s: float = 30.0, every_s: float = 0.02
) -> Any:
    """What `look` gives once it gives something. Raises: AssertionError after `within_s`."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(every_s)
    raise AssertionError(f"{what} did not come within {within_s:g} s")
