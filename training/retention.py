"""What may go, by age, count and size: planned first, carried out only when asked.

Never a task that is not final or that is pinned, nor anything of theirs. Each rule yields what it
would remove; carrying a removal out looks again, by a guarded statement, as things change between
the two.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from . import archive, datasets, depot, lifecycle
from .errors import NotFinished, NotFound, Pinned
from .models import Dataset, IdempotencyKey, TaskEvent, TrainingTask, Worker
from .states import FINAL, EventKind, Status

PRUNED_KINDS = (EventKind.PROGRESS, EventKind.METRIC, EventKind.LOG)
"""The many; what tells a task's story stays as long as the task."""

ROWS_AT_ONCE = 2_000
"""Rows in one delete, so that no lock is held for long."""

LEFT_BEHIND = timedelta(hours=24)
"""What nobody owns is old enough then: nothing that is still being made is taken for a leftover."""


@dataclass(frozen=True)
class Removal:
    """One thing that may go; do: removes it, and says whether it still could."""

    kind: str
    name: str
    bytes: int
    do: Callable[[], bool]


Removals = Iterator[Removal]


def plan() -> Removals:
    """Everything that the settings let go, task by task. Reads only."""
    gone = set()
    for removal in _tasks():
        gone.add(removal.name)
        yield removal
    yield from _artifacts(without=gone)
    yield from _events()
    yield from _versions()
    yield from _orphans()
    yield from _copies()
    yield from _scratch()
    yield from _rows()


# ── Tasks and what is theirs ────────────────────────────────────────────────────────────


def _removable() -> QuerySet[TrainingTask]:
    return TrainingTask.objects.filter(status__in=sorted(FINAL), pinned=False)


def _older(days: int, field: str = "completed_at") -> Q:
    """Nothing where the setting is 0: for ever."""
    return Q(**{f"{field}__lt": Now() - timedelta(days=days)}) if days else Q(pk__in=[])


def _tasks() -> Removals:
    """Tasks over the age, and those over the count, oldest first."""
    by_age = _removable().filter(_older(settings.KEEP_TASKS_DAYS)).order_by("completed_at", "id")
    ids = list(by_age.values_list("id", flat=True))
    if settings.KEEP_TASKS:
        newest = _removable().order_by("-completed_at", "-id").values_list("id", flat=True)
        ids += list(newest[settings.KEEP_TASKS :])
    for task_id in dict.fromkeys(ids):
        yield Removal("task", task_id, _size_of(task_id), partial(_delete_task, task_id))


def _delete_task(task_id: str) -> bool:
    try:
        lifecycle.delete(task_id)
    except (NotFound, NotFinished, Pinned):
        return False
    archive.remove(task_id)
    return True


def _artifacts(*, without: set[str]) -> Removals:
    """Files of old tasks, then of the oldest until the rest fits; the tasks' rows stay."""
    kept: list[tuple[str, int]] = []
    old = set(
        _removable().filter(_older(settings.KEEP_ARTIFACTS_DAYS)).values_list("id", flat=True)
    )
    by_age = _removable().order_by("completed_at", "id").values_list("id", flat=True)
    there = _with_files()
    for task_id in by_age.iterator():
        if task_id in without or task_id not in there:
            continue
        entry = (task_id, _size_of(task_id))
        if task_id in old:
            yield _files(*entry)
        else:
            kept.append(entry)
    yield from _over_size(kept, there=there, without=without | old)


def _over_size(kept: list[tuple[str, int]], *, there: set[str], without: set[str]) -> Removals:
    limit = settings.KEEP_ARTIFACTS_BYTES
    if not limit:
        return
    # Pinned and running ones count: they take the space, though they stay.
    total = sum(_size_of(name) for name in there - without)
    for task_id, size in kept:
        if total <= limit:
            return
        total -= size
        yield _files(task_id, size)


def _files(task_id: str, size: int) -> Removal:
    return Removal("artifacts", task_id, size, partial(_remove_files, task_id))


def _remove_files(task_id: str) -> bool:
    """The row first: wherever it comes to be read, it promises no file that has gone."""
    rows = _removable().filter(pk=task_id)
    task = rows.only("result").first()
    if task is None:
        return False
    if task.result.get("artifacts") and not rows.update(result=task.result | {"artifacts": []}):
        return False
    return archive.remove(task_id)


def _with_files() -> set[str]:
    """Names of tasks that have files, here or in the far store."""
    here = {path.name for path in _folders(settings.ARTIFACTS_DIR)}
    there = set(depot.tasks()) if depot.is_used() else set()
    return {name for name in here | there if name.startswith("task-")}


def _size_of(task_id: str) -> int:
    return depot.size(task_id) if depot.is_used() else _size(settings.ARTIFACTS_DIR / task_id)


def _events() -> Removals:
    """Progress, curves and log lines of the past: listeners that come late get a snapshot."""
    old = _removable().filter(_older(settings.KEEP_PROGRESS_DAYS))
    count = _pruned(old).count()
    if count:
        yield Removal("events", f"{count} rows", 0, lambda: _delete_rows(_pruned(old)))


def _pruned(tasks: QuerySet[TrainingTask]) -> QuerySet[TaskEvent]:
    return TaskEvent.objects.filter(task__in=tasks, kind__in=PRUNED_KINDS)


# ── What nobody refers to ───────────────────────────────────────────────────────────────


def _versions() -> Removals:
    """Versions of datasets that are neither current nor any task's."""
    current = set(Dataset.objects.values_list("name", "version"))
    used = set(TrainingTask.objects.values_list("dataset", "dataset_version").order_by().distinct())
    for market in _folders(settings.DATASETS_DIR):
        for version in _folders(market):
            known = (market.name, version.name)
            if not datasets.VERSION_FORM.fullmatch(version.name) or known in current | used:
                continue
            if _is_left_behind(version):
                name = "/".join(known)
                yield Removal("version", name, _size(version), partial(_remove_version, version))


def _remove_version(version: Path) -> bool:
    name = version.parent.name
    taken = TrainingTask.objects.filter(dataset=name, dataset_version=version.name).exists()
    current = Dataset.objects.filter(name=name, version=version.name).exists()
    return not (taken or current) and _remove(version)


def _orphans() -> Removals:
    """Artifacts of tasks that are gone: a deletion was cut short."""
    there = _with_files()
    known = set(TrainingTask.objects.filter(pk__in=there).values_list("pk", flat=True))
    for name in sorted(there - known):
        if _is_orphan(name):
            yield Removal("orphan", name, _size_of(name), partial(archive.remove, name))


def _is_orphan(name: str) -> bool:
    place = settings.ARTIFACTS_DIR / name
    if place.is_dir():
        return _is_left_behind(place)
    return time.time() - depot.changed_at(name) > LEFT_BEHIND.total_seconds()


def _copies() -> Removals:
    """What this host has fetched from the far store, or put there: it can be fetched again."""
    for place in _folders(settings.ARTIFACTS_DIR) if depot.is_used() else []:
        if place.name.startswith("task-") and _is_left_behind(place):
            yield Removal("copy", place.name, _size(place), partial(_remove, place))


def _scratch() -> Removals:
    """Scratch of leaders that were killed on this machine."""
    places = _folders(settings.SCRATCH_DIR)
    # Read after the listing: a folder that is made later belongs to a task that runs by now.
    running = {
        f"{task_id}-{attempt}"
        for task_id, attempt in TrainingTask.objects.filter(status=Status.RUNNING).values_list(
            "id", "attempt"
        )
    }
    for place in places:
        if place.name not in running and _is_left_behind(place):
            yield Removal("scratch", place.name, _size(place), partial(_remove, place))


def _rows() -> Removals:
    """Rows that mean nothing any more."""
    day = Now() - timedelta(days=1)
    stale: dict[str, QuerySet[Any]] = {
        "sessions": Session.objects.filter(expire_date__lt=Now()),
        "idempotency keys": IdempotencyKey.objects.filter(created_at__lt=day),
        "lost workers": Worker.objects.filter(seen_at__lt=day),
    }
    for name, rows in stale.items():
        if count := rows.count():
            yield Removal("rows", f"{count} {name}", 0, partial(_delete_rows, rows))


# ── How ─────────────────────────────────────────────────────────────────────────────────


def _delete_rows(rows: QuerySet[Any]) -> bool:
    """Delete in pieces, whatever the database takes in one statement."""
    while ids := list(rows.values_list("pk", flat=True)[:ROWS_AT_ONCE]):
        rows.model._default_manager.filter(pk__in=ids).delete()
    return True


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return sorted(one for one in place.iterdir() if one.is_dir() and not one.is_symlink())


def _is_left_behind(place: Path) -> bool:
    return time.time() - place.stat().st_mtime > LEFT_BEHIND.total_seconds()


def _size(place: Path) -> int:
    return sum(_sizes(place.rglob("*"))) if place.is_dir() else 0


def _sizes(paths: Iterable[Path]) -> Iterator[int]:
    for path in paths:
        try:
            yield path.lstat().st_size if not path.is_dir() else 0
        except FileNotFoundError:
            continue  # removed meanwhile


def _remove(place: Path) -> bool:
    # Out of sight first: nobody may read a half.
    hidden = place.with_name(f".{place.name}.gone")
    try:
        place.rename(hidden)
    except FileNotFoundError:
        return False
    shutil.rmtree(hidden, ignore_errors=True)
    return True
