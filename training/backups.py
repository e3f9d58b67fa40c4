"""A copy of everything that can't be made again, taken while the platform runs; and its way back.

    <backup>/manifest.json  database.sqlite3 or database.dump  artifacts/…  datasets/…

The database is copied first, in one snapshot. Files are in place before a row speaks of them and
never change, so whatever the copied rows name is there to be copied after them, but for what is
deleted in between: a restore tells of it. Caches, Redis and secrets are not in it: the first two
are made anew, the last belong elsewhere.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader
from django.db.models import Count

from . import archive, depot, dumps, lifecycle
from .dumps import NoBackup
from .models import Dataset, FeatureColumn, TrainingTask, Worker
from .states import RequeueReason, Status

MANIFEST = "manifest.json"
PARTIAL = ".partial"
LOCK = ".lock"
NAME = "%Y-%m-%dT%H%M%SZ"
RESTORED = ".restored"
"""Beside what is in its place already; hidden, so that nobody takes it for a task or a market."""


@dataclass(frozen=True)
class Report:
    """What came of it; faults: one sentence each, none if all is well."""

    files: int
    bytes: int
    tasks: dict[str, int]
    faults: tuple[str, ...] = ()
    requeued: int = 0


def _roots() -> dict[str, Path]:
    """What is copied; a far store is not, it has versions and copies of its own."""
    roots: dict[str, Path] = {"datasets": settings.DATASETS_DIR}
    return roots if depot.is_used() else {"artifacts": settings.ARTIFACTS_DIR, **roots}


# ── Taking one ──────────────────────────────────────────────────────────────────────────


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second backup out of the folder: what is being made looks like what a broken one has
    left. Raises: NoBackup, if this is the second; OSError.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NoBackup(f"another backup is being made in {folder}") from None
        yield


def take(folder: Path) -> Path:
    """Make a backup in a new folder named for this instant; files that the last one has are
    linked to it, so that only what is new takes space. To be called `alone`.

    It gets its name when every file in it was read again, and was what the platform has.
    Raises: NoBackup, OSError.
    """
    remove_broken(folder)
    last = next((one for one in reversed(complete(folder)) if _is_readable(one)), None)
    now = datetime.now(UTC)
    partial = folder / PARTIAL
    partial.mkdir(mode=0o700)
    dump = partial / dumps.NAMES[connection.vendor]
    try:
        dumps.write(dump)
        tasks = _task_counts()
        files = [_entry(partial, dump)]
        for name, root in _roots().items():
            files += _copy_tree(root, partial / name, base=partial, last=last)
        if faults := dumps.faults(dump):
            raise NoBackup("; ".join(faults))
        told = {
            "taken_at": now.isoformat(timespec="seconds"),
            "database": connection.vendor,
            "release": settings.RELEASE,
            "tasks": tasks,
            "files": files,
        }
        (partial / MANIFEST).write_text(json.dumps(told))
        # Once for all files: a power cut after this line finds them.
        os.sync()
        done = folder / now.strftime(NAME)
        partial.rename(done)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return done


def _is_readable(backup: Path) -> bool:
    try:
        return bool(_manifest(backup))
    except NoBackup:
        return False


def taken_at(backup: Path) -> datetime:
    """When it was begun; its name says so."""
    return datetime.strptime(backup.name, NAME).replace(tzinfo=UTC)


def complete(folder: Path) -> list[Path]:
    """The backups in the folder, oldest first."""
    return sorted(one.parent for one in folder.glob(f"[0-9]*Z/{MANIFEST}"))


def thin_out(folder: Path, *, keep: int) -> list[Path]:
    """Remove all but the newest `keep` backups. To be called `alone`."""
    gone = complete(folder)[:-keep]
    for old in gone:
        shutil.rmtree(old)
    return gone


def remove_broken(folder: Path) -> None:
    """Remove what a killed backup has left. To be called `alone`."""
    for left in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(left)


def _task_counts() -> dict[str, int]:
    rows = TrainingTask.objects.values_list("status").annotate(Count("id")).order_by()
    return dict(rows)


def _copy_tree(root: Path, target: Path, *, base: Path, last: Path | None) -> list[dict[str, Any]]:
    """Copy every finished file, or link it to the last backup's, where that one is as it was."""
    known = {one["path"]: one for one in _manifest(last)["files"]} if last else {}
    entries = []
    for source in _files(root):
        copy = target / source.relative_to(root)
        path = copy.relative_to(base).as_posix()
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            told = known.get(path)
            if last and told and _is_same(last / path, source) and not _fault_of(last, told):
                os.link(last / path, copy)
            else:
                told = _copied(source, copy, path)
        except FileNotFoundError:
            copy.unlink(missing_ok=True)  # deleted meanwhile, with its task
        else:
            entries.append(told)
    return entries


def _copied(source: Path, copy: Path, path: str) -> dict[str, Any]:
    """Copy one file, and look whether the copy is what was read. Raises: NoBackup, OSError."""
    shutil.copy2(source, copy)
    told = {"path": path, "bytes": source.stat().st_size, "sha256": _sha256(source)}
    if _sha256(copy) != told["sha256"]:
        raise NoBackup(f"{path}: its copy is not what was read; look for faults of the disk")
    return told


def _files(root: Path) -> Iterator[Path]:
    """Files of finished attempts and versions, and none that lie elsewhere; what is hidden is being
    made or removed.
    """
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = (Path(folder) / name for name in sorted(names))
        yield from (file for file in files if not file.is_symlink())


def _is_same(before: Path, source: Path) -> bool:
    """Whether the platform's file is the one of then, by size and time: its bytes are not read."""
    now = source.stat()
    try:
        then = before.stat()
    except FileNotFoundError:
        return False
    return (then.st_size, then.st_mtime_ns) == (now.st_size, now.st_mtime_ns)


def _entry(base: Path, file: Path) -> dict[str, Any]:
    path = file.relative_to(base).as_posix()
    return {"path": path, "bytes": file.stat().st_size, "sha256": _sha256(file)}


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


# ── The way back ────────────────────────────────────────────────────────────────────────


def summary(backup: Path) -> Report:
    """What it tells of itself. Raises: NoBackup."""
    told = _manifest(backup)
    size = sum(one["bytes"] for one in told["files"])
    return Report(len(told["files"]), size, told["tasks"])


def verify(backup: Path) -> Report:
    """Look whether every file is there and as it was, and the database can be read."""
    told = _manifest(backup)
    faults = [fault for one in told["files"] if (fault := _fault_of(backup, one))]
    if not faults:
        faults += dumps.faults(backup / dumps.NAMES[told["database"]])
    return replace(summary(backup), faults=tuple(faults))


def restore(backup: Path, *, replacing: bool = False) -> Report:
    """Put everything in the place that the settings name; what is in its database goes.

    replacing: also where there are accounts, datasets or tasks. Tasks that ran when the backup was
    taken are pending again, and use up no attempt. Raises: NoBackup, which says what was changed.
    """
    report = verify(backup)
    if report.faults:
        raise NoBackup("the backup is damaged: " + "; ".join(report.faults[:5]))
    told = _manifest(backup)
    _refuse_what_does_not_fit(backup, told)
    if not replacing:
        _refuse_to_overwrite()
    try:
        _bring(backup, told)
        dumps.load(backup / dumps.NAMES[connection.vendor])
    except (NoBackup, OSError, Error) as error:
        _remove_brought()
        raise NoBackup(f"nothing was changed: {error}") from error
    try:
        _put_in_place()
        call_command("migrate", verbosity=0)
        requeued = _begin_again()
    except (OSError, Error) as error:
        cure = "mend it, then restore again with --replace"
        raise NoBackup(f"the database is loaded, but not all is done: {error}; {cure}") from error
    return Report(report.files, report.bytes, _task_counts(), tuple(faults_here()), requeued)


def faults_here() -> Iterator[str]:
    """What the rows promise and the files do not keep, on the platform as it is here."""
    for row in Dataset.objects.all():
        if not (settings.DATASETS_DIR / row.name / row.version / MANIFEST).is_file():
            yield f"dataset {row.name}: version {row.version} is not there"
    for task in TrainingTask.objects.filter(status=Status.COMPLETED).iterator():
        if archive.is_pruned(task):
            continue
        place = archive.folder(task)
        for one in task.result.get("artifacts", []):
            if fault := _fault_of(place, one):
                yield f"{task.id}: {fault}"


def _refuse_what_does_not_fit(backup: Path, told: dict[str, Any]) -> None:
    """Another kind of database, or tables that this code does not know."""
    if told["database"] != connection.vendor:
        raise NoBackup(f"it is of {told['database']}, PLATFORM_DATABASE_URL of {connection.vendor}")
    seen = dumps.migrations(backup / dumps.NAMES[told["database"]])
    unknown = sorted(".".join(one) for one in seen - MigrationLoader(None).disk_migrations.keys())
    if unknown:
        release = told.get("release") or f"that has {unknown[-1]}"
        raise NoBackup(
            f"it is of a newer release, with tables that this one does not know ({unknown[-1]}): "
            f"install the release {release}, then restore"
        )


def _refuse_to_overwrite() -> None:
    """All that people make hangs on these; the rest comes from migrations or is made anew."""
    tables = connection.introspection.table_names()
    for rows, name in ((User, "accounts"), (Dataset, "datasets"), (TrainingTask, "tasks")):
        if rows._meta.db_table in tables and rows._default_manager.exists():
            cure = "restore into an empty one, or with --replace, which drops what is there"
            raise NoBackup(f"this database has {name}: {cure}")


def _bring(backup: Path, told: dict[str, Any]) -> None:
    """Copy what the manifest lists, and nothing else, beside its place."""
    roots = _roots()
    _remove_brought()
    for root in roots.values():
        (root / RESTORED).mkdir(parents=True)
    for one in told["files"]:
        name, _, path = one["path"].partition("/")
        if name in roots:
            target = roots[name] / RESTORED / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(backup / one["path"], target)


def _put_in_place() -> None:
    for root in _roots().values():
        brought = root / RESTORED
        for file in [one for one in brought.rglob("*") if one.is_file()]:
            target = root / file.relative_to(brought)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    _remove_brought()


def _remove_brought() -> None:
    for root in _roots().values():
        with suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(root / RESTORED)


def _begin_again() -> int:
    """Running tasks are pending again; caches and workers of the old place are forgotten."""
    FeatureColumn.objects.all().delete()
    Worker.objects.all().delete()
    running = TrainingTask.objects.filter(status=Status.RUNNING).values_list("id", "attempt")
    moved = [
        lifecycle.requeue(task_id, attempt=attempt, reason=RequeueReason.SHUTDOWN)
        for task_id, attempt in list(running)
    ]
    return len(moved)


def _manifest(backup: Path) -> dict[str, Any]:
    try:
        told = json.loads((backup / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise NoBackup(f"{backup} is no complete backup: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise NoBackup(f"{backup / MANIFEST} can't be read: {error}") from error
    match told:
        case {"database": "sqlite" | "postgresql", "tasks": dict(), "files": list(files)} if all(
            _is_entry(one) for one in files
        ):
            return dict(told)
    raise NoBackup(f"{backup / MANIFEST} can't be read: it is no list of a backup's files")


def _is_entry(told: object) -> bool:
    match told:
        case {"path": str(), "bytes": int(), "sha256": str()}:
            return True
    return False


def _fault_of(base: Path, told: dict[str, Any]) -> str | None:
    file, place = base / told["path"], base.resolve()
    real = file.resolve()
    if real != place / told["path"] or not real.is_relative_to(place):
        return f"{told['path']} is a link, or leads elsewhere"
    try:
        return None if _sha256(file) == told["sha256"] else f"{told['path']} has changed"
    except OSError as error:
        return f"{told['path']}: {error.strerror}"
