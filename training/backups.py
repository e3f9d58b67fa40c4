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
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.models import Count

from . import archive, depot, lifecycle
from .models import Dataset, FeatureColumn, TrainingTask, Worker
from .states import RequeueReason, Status

MANIFEST = "manifest.json"
PARTIAL = ".partial"
LOCK = ".lock"
NAME = "%Y-%m-%dT%H%M%SZ"
DUMPS = {"sqlite": "database.sqlite3", "postgresql": "database.dump"}


class NoBackup(Exception):
    """A backup could not be taken, is damaged, or does not fit: says what, and the cure."""


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
    last = next(iter(reversed(complete(folder))), None)
    now = datetime.now(UTC)
    partial = folder / PARTIAL
    partial.mkdir(mode=0o700)
    dump = partial / DUMPS[connection.vendor]
    try:
        _dump(dump)
        tasks = _task_counts()
        files = [_entry(partial, dump)]
        for name, root in _roots().items():
            files += _copy_tree(root, partial / name, base=partial, last=last)
        if faults := _faults_of_dump(dump):
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


def _dump(target: Path) -> None:
    if connection.vendor == "postgresql":
        _run("pg_dump", "--format=custom", f"--file={target}")
        return
    connection.ensure_connection()
    try:
        with closing(sqlite3.connect(target)) as copy:
            # In one step: in several, a busy platform would make it begin again and again.
            connection.connection.backup(copy, pages=-1)
    except sqlite3.Error as error:
        # A full disk, too, is told so.
        raise NoBackup(f"{target} could not be written: {error}") from error


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
    """Files of finished attempts and versions; what is hidden is being made or removed."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(names))


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
        faults += _faults_of_dump(backup / DUMPS[told["database"]])
    return replace(summary(backup), faults=tuple(faults))


def restore(backup: Path) -> Report:
    """Put everything in the place that the settings name, which must be empty of tasks.

    Tasks that ran when the backup was taken are pending again, and use up no attempt.
    Raises: NoBackup.
    """
    told = _manifest(backup)
    report = verify(backup)
    if report.faults:
        raise NoBackup("the backup is damaged: " + "; ".join(report.faults[:5]))
    if told["database"] != connection.vendor:
        raise NoBackup(f"it is of {told['database']}, PLATFORM_DATABASE_URL of {connection.vendor}")
    _refuse_to_overwrite()
    for name, root in _roots().items():
        if (backup / name).is_dir():
            shutil.copytree(backup / name, root, dirs_exist_ok=True)
    _load(backup / DUMPS[connection.vendor])
    call_command("migrate", verbosity=0)
    requeued = _begin_again()
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


def _refuse_to_overwrite() -> None:
    tables = connection.introspection.table_names()
    if TrainingTask._meta.db_table in tables and TrainingTask.objects.exists():
        raise NoBackup("this database has tasks: restore into an empty one")


def _load(dump: Path) -> None:
    if connection.vendor == "postgresql":
        options = ("--clean", "--if-exists", "--no-owner", "--no-privileges")
        name = _where()["PGDATABASE"]
        _run("pg_restore", *options, "--single-transaction", f"--dbname={name}", str(dump))
        return
    target = Path(connection.settings_dict["NAME"])
    connection.close()
    for suffix in ("-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.restored")
    shutil.copyfile(dump, beside)
    beside.rename(target)


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
        told: dict[str, Any] = json.loads((backup / MANIFEST).read_text())
    except FileNotFoundError:
        raise NoBackup(f"{backup} is no complete backup: it has no {MANIFEST}") from None
    except ValueError as error:
        raise NoBackup(f"{backup / MANIFEST} can't be read: {error}") from error
    return told


def _fault_of(base: Path, told: dict[str, Any]) -> str | None:
    try:
        is_as_told = _sha256(base / told["path"]) == told["sha256"]
    except OSError as error:
        return f"{told['path']}: {error.strerror}"
    return None if is_as_told else f"{told['path']} has changed"


def _faults_of_dump(dump: Path) -> list[str]:
    try:
        if dump.name == DUMPS["postgresql"]:
            _run("pg_restore", "--list", str(dump))
            return []
        # Immutable: it may lie where nothing can be written, and nothing comes to lie beside it.
        with closing(
            sqlite3.connect(f"{dump.absolute().as_uri()}?immutable=1", uri=True)
        ) as opened:
            answers = [row[0] for row in opened.execute("PRAGMA integrity_check")]
    except (NoBackup, sqlite3.Error) as error:
        return [f"{dump.name}: {error}"]
    return [] if answers == ["ok"] else [f"{dump.name}: {one}" for one in answers[:3]]


def _run(program: str, *options: str) -> None:
    """Run one of PostgreSQL's programs on our database. Raises: NoBackup."""
    try:
        done = subprocess.run(  # noqa: S603 - our own words, and no shell
            [program, *options],
            env={**os.environ, **_where()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise NoBackup(f"{program} is missing: apt install postgresql-client") from None
    if done.returncode:
        raise NoBackup(f"{program}: {done.stderr.strip()[-500:]}")


def _where() -> dict[str, str]:
    """The server that Django found, of several perhaps, as PostgreSQL's programs are told."""
    connection.ensure_connection()
    info = connection.connection.info
    told = {"host": info.host, "port": info.port, "user": info.user, "database": info.dbname}
    secure = connection.settings_dict["OPTIONS"]
    tls = {name: secure[name] for name in ("sslmode", "sslrootcert") if name in secure}
    known = {**told, **tls, "password": info.password}
    return {f"PG{name.upper()}": str(value) for name, value in known.items() if value}
