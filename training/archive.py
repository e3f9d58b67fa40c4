"""Where the files of an attempt end up: checked, renamed into place, never half there.

`ARTIFACTS_DIR/<task>/<attempt>/` holds what the training saved, its log (`log.txt`) and its
curves (`curves.json`). While it runs, log and curves are rows; at the end the rows go. Where hosts
share no folder, a copy of it all lies in the far store (`depot.py`).
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings

from . import depot
from .errors import TrainingError
from .models import LogChunk, MetricPoint, TrainingTask
from .sanitise import clean
from .states import Status

LOG = "log.txt"
CURVES = "curves.json"
HOME = "home"
"""Where in the scratch directory the training lives and writes; the rest is its leader's."""


class NotKept(TrainingError):
    """The files of an attempt could not be kept, or are not what the training said."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def folder(task: TrainingTask, attempt: int | None = None) -> Path:
    """Where the files of an attempt lie; by default of the newest. Fetched, where they are far.

    Raises: OSError, if the far store does not give them.
    """
    number = task.attempt if attempt is None else attempt
    if task.status == Status.RUNNING and number == task.attempt:
        return _place(task.id, number)
    return brought(task.id, number)


def brought(task_id: str, attempt: int) -> Path:
    """The folder of an attempt that is over; absent, if nothing was kept. Raises: OSError."""
    place = _place(task_id, attempt)
    if depot.is_used() and not place.is_dir():
        depot.fetch(f"{task_id}/{attempt}", place, last=CURVES)
    return place


def is_pruned(task: TrainingTask) -> bool:
    """Whether nothing is kept of a finished task, as retention may have it. Raises: OSError.

    Only what was removed before retention emptied the result's list needs the settings.
    """
    may_go = not task.pinned and (settings.KEEP_ARTIFACTS_DAYS or settings.KEEP_ARTIFACTS_BYTES)
    return bool(may_go) and not folder(task).parent.exists()


def remove(task_id: str) -> bool:
    """Remove a task's files, wherever they are; whether there were any. Raises: OSError."""
    place: Path = settings.ARTIFACTS_DIR / task_id
    # Out of sight first: nobody may read a half.
    hidden = place.with_name(f".{place.name}.gone")
    try:
        place.rename(hidden)
        was_here = True
    except FileNotFoundError:
        was_here = False
    shutil.rmtree(hidden, ignore_errors=True)
    return (depot.is_used() and depot.remove(task_id)) or was_here


def _place(task_id: str, attempt: int) -> Path:
    root: Path = settings.ARTIFACTS_DIR
    return root / task_id / str(attempt)


def keep(
    task: TrainingTask,
    scratch: Path,
    *,
    final: Mapping[str, Any] | None,
    kind: str,
    points: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Put the attempt's files in their place.

    Of a completed training all artifacts, after a check against what it said of them; of any
    other only log and curves. Returns path, bytes and sha256 of each. Raises: NotKept.
    """
    source, saved = scratch / "kept", scratch / HOME / "artifacts"
    try:
        if kind == "completed" and saved.is_dir():
            _refuse_links(saved)
            saved.rename(source)
        source.mkdir(exist_ok=True)
        shutil.copyfile(scratch / LOG, source / LOG)
        (source / CURVES).write_text(json.dumps(clean(points)))
        files = _listed(source)
        if kind == "completed":
            _compare(files, (final or {}).get("result", {}).get("artifacts", []))
        _open_to_group(source)
        place = _place(task.id, task.attempt)
        _put_in_place(source, place)
        if depot.is_used():
            depot.put(f"{task.id}/{task.attempt}", place, last=CURVES)
    except OSError as error:
        _remove_half(task)
        raise NotKept(*told(error)) from error
    return list(files.values())


def discard(task: TrainingTask) -> None:
    """Remove what a fenced attempt has left; no row speaks of it."""
    shutil.rmtree(_place(task.id, task.attempt), ignore_errors=True)
    if depot.is_used():
        with suppress(OSError):
            # No row speaks of them; they go with their task.
            depot.remove(f"{task.id}/{task.attempt}")


def holds(task: TrainingTask) -> bool:
    """Whether the attempt's log and curves are in their place."""
    return (_place(task.id, task.attempt) / CURVES).is_file()


def clear_rows(task: TrainingTask) -> None:
    """Drop the rows of the attempt's log and curves: they are files now."""
    LogChunk.objects.filter(task=task, attempt=task.attempt).delete()
    MetricPoint.objects.filter(task=task, attempt=task.attempt).delete()


def _refuse_links(saved: Path) -> None:
    """A link could point at a file that only the leader may read."""
    for path in [saved, *saved.rglob("*")]:
        if path.is_symlink():
            raise NotKept("artifact_damaged", f"The artifact {path.name} is a link, not a file")


def _listed(root: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        name: {"path": name, "bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in files
        for name in [path.relative_to(root).as_posix()]
    }


def _compare(files: Mapping[str, dict[str, Any]], said: list[dict[str, Any]]) -> None:
    for one in said:
        if files.get(one["path"], {}).get("sha256") != one["sha256"]:
            raise NotKept(
                "artifact_damaged", f"The artifact {one['path']} is not what the training saved"
            )


def _put_in_place(source: Path, target: Path) -> None:
    """Rename, or across file systems copy beside and rename, so that a half is never seen."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = _beside(target)
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(source, beside)
        beside.rename(target)
    _sync(target.parent)


def _open_to_group(root: Path) -> None:
    """A proxy that serves the files reads them as a member of our group; whether it may come so
    far, ARTIFACTS_DIR itself decides."""
    root.chmod(0o750)
    for path in root.rglob("*"):
        path.chmod(0o750 if path.is_dir() else 0o640)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _remove_half(task: TrainingTask) -> None:
    """What could not be copied to its end; nobody has seen it."""
    place = _place(task.id, task.attempt)
    shutil.rmtree(_beside(place), ignore_errors=True)
    if depot.is_used():
        shutil.rmtree(place, ignore_errors=True)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def told(error: OSError) -> tuple[str, str]:
    """The code and the sentence for a file that could not be written."""
    full = {errno.ENOSPC, errno.EDQUOT}
    # A copy of a folder gathers its errors, and keeps of each the text alone.
    if error.errno in full or any(os.strerror(number) in str(error) for number in full):
        return "disk_full", "The disk is full: free some space, then retry this task"
    return "not_kept", f"The result could not be kept: {error.strerror or error}"
