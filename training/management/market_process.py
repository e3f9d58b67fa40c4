"""Runs the engine's import of market data as a process of its own and shows what it tells."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from training import datasets
from training.models import Dataset

# The engine gets these and no secret.
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


def import_and_register(arguments: Sequence[str], *, out: OutputWrapper) -> Dataset:
    """Run the import, show progress and faults, then make the new version the current one.

    arguments: of `training.engine.market`, without `--out`. Raises: CommandError; the dataset's
    pointer is then where it was.
    """
    done = _run([*arguments, f"--out={settings.DATASETS_DIR}"], out=out)
    with Path(done["manifest_path"]).open(encoding="utf-8") as source:
        manifest = json.load(source)
    dataset = datasets.register(manifest, version=done["version"])
    _show_end(done, dataset, out=out)
    return dataset


def _run(arguments: Sequence[str], *, out: OutputWrapper) -> dict[str, Any]:
    """Returns: the import's last message."""
    last: dict[str, Any] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as trouble:
        process = subprocess.Popen(  # noqa: S603 - our own program; its arguments are no shell's
            [sys.executable, "-m", "training.engine.market", *arguments],
            cwd=settings.BASE_DIR,
            env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=trouble,
            text=True,
        )
        with process, _Bars() as bars:
            try:
                for line in process.stdout or ():
                    last = json.loads(line)
                    _show(last, bars, out=out)
            except BaseException:
                process.kill()
                raise
        if process.returncode == 0 and last.get("type") == "done":
            return last
        trouble.seek(0)
        raise CommandError(_reason(last, trouble.read(), process.returncode))


def _reason(last: dict[str, Any], trouble: str, code: int) -> str:
    if last.get("type") == "failed":
        return str(last["error"])
    end = trouble.strip().splitlines()[-1:] or [f"it ended with {code}"]
    if "No module named" in end[0]:
        return f"This environment lacks the worker's packages (requirements/worker.txt): {end[0]}"
    return f"The import broke off, nothing was imported: {end[0]}"


class _Bars:
    """A progress bar for each step of the import; plain lines of steps where nobody looks."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._steps: dict[str, TaskID] = {}

    def __enter__(self) -> "_Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, step: str, *, done: int, total: int) -> None:
        if step not in self._steps:
            self._steps[step] = self._progress.add_task(step)
        self._progress.update(self._steps[step], completed=done, total=total)


def _show(message: dict[str, Any], bars: _Bars, *, out: OutputWrapper) -> None:
    if message["type"] == "progress":
        bars.show(message["message"], done=message["done"], total=message["total"])
    if message["type"] == "fault":
        out.write(_fault_line(message))


def _fault_line(fault: dict[str, Any]) -> str:
    column = f", {fault['column']} {fault['value']!r}" if fault["column"] else ""
    return f"{fault['file']}, row {fault['row']}{column}: {fault['message']}; {fault['cure']}."


def _show_end(done: dict[str, Any], dataset: Dataset, *, out: OutputWrapper) -> None:
    for warning in done["warnings"]:
        out.write(f"Note: {warning}")
    if done.get("dropped_count"):
        out.write(
            f"{done['dropped_count']:,} bad rows were left out; dropped_rows.csv beside the "
            "manifest lists them."
        )
    what = "synthetic market" if dataset.synthetic else "market"
    out.write(
        f"The {what} {dataset.name} is ready: {dataset.instrument_count} instruments, "
        f"{dataset.rows:,} bars, {dataset.first_day} to {dataset.last_day}, "
        f"version {dataset.version}."
    )
