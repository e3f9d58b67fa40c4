"""Columns of features from the shared store, or made here and handed over to the leader.

The leader decides (see `training/desk.py`); this side maps what is ready after checking it, makes
what it is told to make, and waits for what another task is making. Whatever fails, the columns are
computed here for this training alone: only time is lost.
"""

import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from training import columnfile
from training.engine.failures import TrainingFailed
from training.engine.features.mapping import Columns
from training.engine.reporter import Reporter

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 30.0
ASK_AGAIN_S = 0.3
WAIT_LIMIT_S = 600.0
"""Longer than any loading takes: a maker that is stuck must not hold up the others for ever."""

TRUST = 2
"""So many times a column may be found damaged; then this training makes it for itself."""

LIBRARIES = ("numpy", "pandas", "numba", "pyqlib")

Make = Callable[[Sequence[int], Sequence["np.ndarray[Any, Any]"]], None]
"""make(numbers, out): compute the expressions with these numbers, each into its array of `out`."""


@dataclass(frozen=True)
class _Seen:
    """A file as it was when it was checked."""

    path: Path
    about: os.stat_result

    def has_changed(self) -> bool:
        """Written to since. Removed or replaced: what is mapped stays as it was."""
        try:
            now = self.path.stat()
        except FileNotFoundError:
            return False
        same_file = (now.st_dev, now.st_ino) == (self.about.st_dev, self.about.st_ino)
        return same_file and (now.st_mtime_ns, now.st_size) != (
            self.about.st_mtime_ns,
            self.about.st_size,
        )


@dataclass
class _Request:
    """One loading: its columns, and which of them are still to be had."""

    expressions: Sequence[str]
    load: Mapping[str, Any]
    columns: Columns
    make: Make
    missing: list[int] = field(default_factory=list)
    made_count: int = 0
    begun: float = field(default_factory=time.monotonic)


class SharedColumns:
    """What a loader gets its columns from."""

    def __init__(self, reporter: Reporter, *, threads: int) -> None:
        self._reporter = reporter
        self._threads = threads
        self._folder = Path(columnfile.FOLDER)
        self._is_off = False
        self._is_waiting = False
        self._distrust: dict[str, int] = {}
        self._seen: list[_Seen] = []

    def get(
        self, expressions: Sequence[str], *, load: Mapping[str, Any], rows: int, make: Make
    ) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """The columns of the expressions as an array (expression, row), float32.

        expressions: canonical texts, each once. load: what else the values depend on beside the
        dataset and the libraries, as JSON can hold it: instruments, range, evaluator. rows: of the
        result. The array may be written; nobody else sees that.
        Raises: Cancelled; what `make` raises.
        """
        if len(set(expressions)) != len(expressions):
            raise ValueError("an expression was asked for twice")
        request = _Request(
            expressions=expressions,
            load={**load, "made_with": made_with()},
            columns=Columns(len(expressions), rows),
            make=make,
            missing=list(range(len(expressions))),
        )
        while request.missing:
            self._go_on(request)
        self._say_not_waiting()
        took_s = time.monotonic() - request.begun
        log.info(
            "%s columns of features in %.2f s, %s of them made here",
            len(expressions),
            took_s,
            request.made_count,
        )
        return request.columns.array

    def check_unchanged(self) -> None:
        """Raises: TrainingFailed, if a column was written to after it was checked."""
        for seen in self._seen:
            if seen.has_changed():
                raise TrainingFailed(
                    "features_changed",
                    f"The shared features ({seen.path.name}) were changed on disk while this "
                    "training used them, so its numbers would be wrong: retry the task.",
                )

    # ── one step: ask, then map, make or wait ───────────────────────────────────────────

    def _go_on(self, request: _Request) -> None:
        answer = self._ask(request)
        if answer is None or time.monotonic() - request.begun > WAIT_LIMIT_S:
            self._compute_alone(request, request.missing)
            return
        numbered = list(zip(request.missing, answer["columns"], strict=True))
        ready = {number: one for number, one in numbered if one["state"] == "ready"}
        to_make = {number: one["key"] for number, one in numbered if one["state"] == "make"}
        self._open(request, ready, store=Path(answer["store"]))
        if to_make:
            self._make(request, to_make)
        elif not ready:
            self._wait(answer["waiting_for"])

    def _ask(self, request: _Request) -> Mapping[str, Any] | None:
        """None where nothing is shared: then never asked again."""
        if self._is_off:
            return None
        question = {
            "op": "claim",
            "load": request.load,
            "expressions": [request.expressions[number] for number in request.missing],
            "rows": request.columns.rows,
        }
        message = {"type": "columns", **question}
        answer = self._reporter.ask(message, timeout_s=ANSWER_TIMEOUT_S)
        if answer is None or "off" in answer:
            why = "no answer" if answer is None else answer["off"]
            log.warning("Features are computed for this training alone: %s", why)
            self._is_off = True
            return None
        return answer

    def _open(
        self, request: _Request, ready: Mapping[int, Mapping[str, str]], *, store: Path
    ) -> None:
        """Map each column that is what was recorded; tell the leader of the others."""

        def is_good(item: tuple[int, Mapping[str, str]]) -> bool:
            number, one = item
            path = columnfile.place(store, one["key"])
            return self._open_one(request.columns, number, path, recorded=one["checksum"])

        with ThreadPoolExecutor(self._threads) as pool:
            found = list(zip(ready, pool.map(is_good, ready.items()), strict=True))
        for number, good in found:
            if good:
                request.missing.remove(number)
        damaged = {ready[number]["key"]: number for number, good in found if not good}
        if damaged:
            self._tell("damaged", damaged)
        for key, number in damaged.items():
            self._distrust[key] = self._distrust.get(key, 0) + 1
            if self._distrust[key] >= TRUST:
                self._compute_alone(request, [number])

    def _open_one(self, columns: Columns, number: int, path: Path, *, recorded: str) -> bool:
        try:
            # Before it is read: a change in between is found at the end.
            seen = _Seen(path, path.stat())
            whole = columns.open(number, path)
        except (OSError, ValueError) as error:
            log.warning("A shared column can't be read: %s", error)
            return False
        if columnfile.checksum(whole) != recorded:
            log.warning("A shared column is damaged: %s", path)
            return False
        columns.release(number)
        self._seen.append(seen)
        return True

    def _make(self, request: _Request, keys: Mapping[int, str]) -> None:
        """Compute into files of the scratch folder and hand them over."""
        paths = {number: self._folder / f"{key}.npy" for number, key in keys.items()}
        try:
            self._folder.mkdir(exist_ok=True)
            for number, path in paths.items():
                request.columns.make(number, path)
        except OSError as error:
            log.warning("Features can't be kept for others: %s", error)
            for path in paths.values():
                path.unlink(missing_ok=True)
            self._tell("given_up", keys.values())
            self._compute_alone(request, list(keys))
            return
        self._compute(request, list(keys))
        for number, path in paths.items():
            request.columns.finish(number, path)
        self._tell("made", keys.values())

    def _compute_alone(self, request: _Request, numbers: list[int]) -> None:
        numbers = list(numbers)
        for number in numbers:
            request.columns.fill(number, self._folder.parent)
        self._compute(request, numbers)

    def _compute(self, request: _Request, numbers: list[int]) -> None:
        self._say_not_waiting()
        array = request.columns.array
        request.make(
            list(numbers),
            [array[number] for number in numbers],
        )
        request.made_count += len(numbers)
        request.missing = [number for number in request.missing if number not in set(numbers)]

    def _wait(self, makers: Sequence[str]) -> None:
        if makers and not self._is_waiting:
            self._is_waiting = True
            self._reporter.say(f"Waiting for the same features of {', '.join(makers)}")
        self._reporter.pause(ASK_AGAIN_S)

    def _say_not_waiting(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._reporter.say("Loading data")

    def _tell(self, op: str, keys: Any) -> None:
        self._reporter.tell({"type": "columns", "op": op, "keys": list(keys)})


@cache
def made_with() -> dict[str, Any]:
    """What the last bit of a value may depend on: libraries, and what this CPU has them do.

    numpy takes other instructions for a float32 logarithm on another CPU, and the C library's for
    some other functions.
    """
    extensions: Any = np.show_config(mode="dicts")
    simd = extensions["SIMD Extensions"]
    return {
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "simd": sorted({*simd.get("baseline", []), *simd.get("found", [])}),
        **{name: _version(name) for name in LIBRARIES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
