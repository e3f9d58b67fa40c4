"""How far a stage is, told by Qlib's own loops: instruments while loading, days in a backtest.

Nothing of Qlib is changed on disk: for the time of a `with` block an attribute of a module is
swapped for one that also counts. How far a fit is: `progress_boosters.py`, `progress_torch.py`.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import qlib.backtest.backtest  # looked up in sys.modules below
import qlib.data.data
import qlib.workflow.record_temp
from qlib.log import TimeInspector

from training.engine.curves import Curves
from training.engine.reporter import Reporter


class FitEnough(Exception):
    """Ends a fit early between two sub-models; what is finished is kept."""


class FitWatch:
    """What a fit's callbacks talk to: progress and curves out, the wish to finish early in."""

    def __init__(self, reporter: Reporter, curves: Curves) -> None:
        self._reporter = reporter
        self.curves = curves
        self.finishing = False

    def begin(self, message: str) -> None:
        """Tell that the fit begins. There is nothing to keep yet, so no wish is looked for."""
        self._reporter.progress(0, None, unit="step", message=message)

    def tick(self, done: int, total: int | None, *, unit: str, message: str = "") -> bool:
        """Tell how far the fit is; True if it shall end now and keep the best so far.

        A wish from the data stage was accepted too: it ends the fit after its first step.
        Raises: Cancelled, from the reporter, if the training shall stop.
        """
        self._reporter.progress(done, total, unit=unit, message=message)
        if self._reporter.order() == "finish":
            self.finishing = True
        return self.finishing


@contextmanager
def swapped(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """`owner.name` is `replacement` inside the block."""
    original = vars(owner)[name]
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def watched_loading(reporter: Reporter) -> Iterator[Callable[[int, int], None]]:
    """Reports each instrument that Qlib loads, and each processor by its name.

    Gives what other loaders may call with the number of instruments done, and of all.
    """
    loading = _Loading(reporter)
    with ExitStack() as hooks:
        hooks.enter_context(_counted_instruments(loading.show_instrument))
        hooks.enter_context(_named_steps(loading.show_step))
        yield loading.show_instrument


@contextmanager
def watched_backtest(reporter: Reporter, *, passes: int = 1) -> Iterator[None]:
    """Reports each simulated day of each pass, and before that the loading of prices."""
    days = _Days(reporter, passes=passes)
    module = sys.modules["qlib.backtest.backtest"]  # the package's attribute is a function
    with ExitStack() as hooks:
        hooks.enter_context(_counted_instruments(days.show_instrument))
        hooks.enter_context(swapped(module, "tqdm", days.bar))
        # Qlib's own bar of the passes would fill the log.
        hooks.enter_context(swapped(qlib.workflow.record_temp, "trange", range))
        yield


class _Loading:
    """The data stage: features first, then labels (counted again from 1), then processors."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._done = 0
        self._total: int | None = None

    def show_instrument(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._reporter.progress(done, total, unit="instrument", message="Loading data")

    def show_step(self, name: str) -> None:
        self._reporter.progress(self._done, self._total, unit="instrument", message=name)


class _Days:
    """The backtest stage; passes follow each other and count on."""

    def __init__(self, reporter: Reporter, *, passes: int) -> None:
        self._reporter = reporter
        self._passes = passes
        self._days_before = 0

    def show_instrument(self, done: int, total: int) -> None:
        message = f"Loading prices: {done} of {total} instruments"
        self._reporter.progress(0, None, unit="day", message=message)

    @contextmanager
    def bar(self, *, total: int, desc: str = "") -> Iterator["_DayBar"]:
        """Stands in for tqdm around one simulation."""
        yield _DayBar(lambda done: self._show(done, total))
        self._days_before += total

    def _show(self, done: int, total: int) -> None:
        message = "Simulating days"
        if self._passes > 1:
            message = f"Simulating days, pass {self._days_before // total + 1} of {self._passes}"
        done += self._days_before
        self._reporter.progress(done, total * self._passes, unit="day", message=message)


class _DayBar:
    def __init__(self, show: Callable[[int], None]) -> None:
        self._show = show
        self._done = 0

    def update(self, count: int) -> None:
        self._done += count
        self._show(self._done)


def _counted_instruments(show: Callable[[int, int], None]) -> AbstractContextManager[None]:
    base: Any = qlib.data.data.ParallelExt

    class CountedParallel(base):  # type: ignore[misc]
        """joblib calls `print_progress` after each finished instrument, in this thread."""

        def __call__(self, tasks: Any) -> Any:
            tasks = list(tasks)
            self.task_count = len(tasks)
            return super().__call__(tasks)

        def print_progress(self) -> None:
            show(self.n_completed_tasks, self.task_count)

    return swapped(qlib.data.data, "ParallelExt", CountedParallel)


def _named_steps(show: Callable[[str], None]) -> AbstractContextManager[None]:
    """Qlib brackets loading and every processor by `TimeInspector.logt(name)`."""
    original = TimeInspector.logt

    def logt(cls: type, name: str = "", show_start: bool = False) -> AbstractContextManager[None]:
        show(name)
        timed: AbstractContextManager[None] = original(name, show_start)
        return timed

    return swapped(TimeInspector, "logt", classmethod(logt))
