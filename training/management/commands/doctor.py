"""`manage.py doctor`: looks at all that the platform needs; prints the cure of what is ill."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import ERROR, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandParser
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from training import backups, depot
from training.errors import StoreAway
from training.export.outbox import HORIZON
from training.models import Dataset, TrainingTask, Worker
from training.states import Status
from training.work import queue

OK, WARN, FAIL = "ok", "warn", "FAIL"
CLOCKS_APART_S = 5.0
LITTLE_SPACE = 0.05
NO_SPACE = 100 * 1024**2
SHORTEST_KEY = 32
ENVIRONMENT = Path("/etc/qlib-platform/environment")
UNHEARD = timedelta(minutes=1)
UNNAMED = "not named"
OLDEST_POSTGRES = 130_000
EXPORT_WITHIN = timedelta(hours=1)
BACKUP_WITHIN = timedelta(days=2)


@dataclass(frozen=True)
class Finding:
    """What was seen of one part; cure: what to do about it."""

    state: str
    part: str
    text: str
    cure: str = ""


Findings = Iterator[Finding]


class Command(BaseCommand):
    """Changes nothing. Exit code 1 if something fails; warnings alone are 0."""

    help = "Look at settings, database, Redis, folders, datasets, workers, leases, backups."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Where backups are: the platform's settings do not know it."""
        parser.add_argument("--backups", type=Path, metavar="FOLDER", help="is one of them new?")

    def handle(self, *, backups: Path | None, **_: Any) -> None:
        """All findings, the ill ones with their cure."""
        ill = 0
        seen = set()
        looks: list[Callable[[], Findings]] = [*LOOKS]
        if backups:
            looks.append(partial(_backups, backups))
        for look in looks:
            for finding in _insist(look):
                # A database that is away is met by each look.
                if finding in seen:
                    continue
                seen.add(finding)
                self.stdout.write(f"{finding.state:4}  {finding.part:9} {finding.text}")
                if finding.state != OK:
                    self.stdout.write(f"{'':16}cure: {finding.cure}")
                ill += finding.state == FAIL
        if ill:
            self.stderr.write(f"{ill} of these must be cured before the platform can work.")
            raise SystemExit(1)


def _insist(look: Callable[[], Findings]) -> Findings:
    try:
        yield from look()
    except Error as error:
        yield Finding(FAIL, "database", f"does not answer: {error}".strip(), _DATABASE_CURE)


_DATABASE_CURE = (
    "start it; compare PLATFORM_DATABASE_URL with its address, user and password; "
    "the tables come from manage.py migrate"
)


def _settings() -> Findings:
    for message in run_checks():
        state = FAIL if message.level >= ERROR else WARN
        yield Finding(state, "settings", str(message.msg), message.hint or f"see {message.id}")
    if settings.DEBUG:
        yield Finding(WARN, "settings", "DEBUG shows sources to visitors", "unset PLATFORM_DEBUG")
    if not settings.HTTPS and set(settings.ALLOWED_HOSTS) - {"localhost", "127.0.0.1", "[::1]"}:
        cure = "serve by nginx with TLS (deploy/README.md) and set PLATFORM_HTTPS=true"
        yield Finding(WARN, "settings", "passwords and tokens travel in clear text", cure)
    for secret in (settings.STATE_DIR / "secret.key", ENVIRONMENT):
        if _mode(secret) & 0o077:
            yield Finding(FAIL, "settings", f"others may read {secret}", f"chmod 600 {secret}")
    if len(settings.SECRET_KEY) < SHORTEST_KEY:
        text = f"PLATFORM_SECRET_KEY has {len(settings.SECRET_KEY)} characters and can be guessed"
        cure = "set one of 50 random characters; everybody must sign in again then"
        yield Finding(WARN, "settings", text, cure)
    yield Finding(OK, "settings", f"release {settings.RELEASE or UNNAMED}")


def _mode(path: Path) -> int:
    """Its rights; 0, if it is not there, or nobody but root may come so far."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except (FileNotFoundError, PermissionError):
        return 0


def _database() -> Findings:
    connection.ensure_connection()
    if connection.vendor == "postgresql":
        number = connection.cursor().connection.info.server_version
        good = number >= OLDEST_POSTGRES
        told = f"PostgreSQL {number // 10_000}.{number % 10_000}"
        yield Finding(OK if good else FAIL, "database", told, "use PostgreSQL 13 or newer")
    else:
        yield Finding(OK, "database", "SQLite: good for one machine and a handful of workers")
    executor = MigrationExecutor(connection)
    if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        text = f"{len(plan)} migrations are not applied"
        yield Finding(FAIL, "database", text, "run manage.py migrate")
    loader = executor.loader
    if newer := sorted(loader.applied_migrations.keys() - loader.disk_migrations.keys()):
        text = f"it is of a newer release: {'.'.join(newer[-1])} is not known here"
        cure = "well after a rollback by one release; else install the newer release"
        yield Finding(WARN, "database", text, cure)
    apart = abs((_database_now() - timezone.now()).total_seconds())
    if apart > CLOCKS_APART_S:
        text = f"its clock and this machine's are {apart:.0f} s apart"
        yield Finding(WARN, "database", text, "run an NTP client on both machines")


def _database_now() -> Any:
    # A table that has rows wherever there are tables.
    rows = MigrationRecorder.Migration.objects.annotate(now=Now())
    return rows.values_list("now", flat=True)[0]


def _redis() -> Findings:
    told = queue.facts()
    if told is None:
        cure = "start it; compare PLATFORM_REDIS_URL with its address, user and password"
        yield Finding(FAIL, "redis", "does not answer", cure)
        return
    yield Finding(OK, "redis", f"version {told['redis_version']}")
    if told.get("maxmemory_policy", "noeviction") != "noeviction":
        text = f"forgets rings when it is full ({told['maxmemory_policy']})"
        yield Finding(WARN, "redis", text, "set maxmemory-policy noeviction")
    if not told.get("aof_enabled", 1):
        text = "keeps nothing over a restart; the reconciler rings again, later"
        yield Finding(WARN, "redis", text, "set appendonly yes")


def _folders() -> Findings:
    for name in ("STATE", "RUNTIME", "DATASETS", "ARTIFACTS", "SCRATCH", "FEATURES"):
        folder = getattr(settings, f"{name}_DIR")
        there = next(one for one in (folder, *folder.parents) if one.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            cure = f"give it to this user, or name another place in PLATFORM_{name}_DIR"
            yield Finding(FAIL, "folders", f"{there} can't be written", cure)
            continue
        usage = shutil.disk_usage(there)
        if usage.free < usage.total * LITTLE_SPACE:
            state = FAIL if usage.free < NO_SPACE else WARN
            text = f"{folder} has {usage.free / 1e9:.1f} GB left"
            yield Finding(state, "folders", text, "run manage.py maintain, or give it more space")
    if settings.ACCEL_PREFIX:
        for folder in (settings.ARTIFACTS_DIR, settings.ARTIFACTS_DIR.parent):
            # By group or as anybody, it need only pass: it is told the whole path.
            if folder.exists() and not _mode(folder) & 0o011:
                text = f"nginx can't pass {folder}: it answers downloads with 403"
                yield Finding(FAIL, "folders", text, f"chmod g+x {folder}")
    yield Finding(OK, "folders", f"state in {settings.STATE_DIR}")


def _store() -> Findings:
    if not depot.is_used():
        return
    try:
        depot.size("nothing")
    except (StoreAway, ImproperlyConfigured) as error:
        cure = "compare PLATFORM_ARTIFACTS_S3_… with the server; its packages: install.sh --s3"
        yield Finding(FAIL, "store", str(error), cure)
    else:
        yield Finding(OK, "store", "artifacts are in the far store")


def _datasets() -> Findings:
    rows = list(Dataset.objects.all())
    if not rows:
        yield Finding(WARN, "datasets", "there is none", "run manage.py import_market")
    for row in rows:
        place = settings.DATASETS_DIR / row.name / row.version
        if not place.is_dir():
            cure = f"copy it here, or import it again: {place}"
            yield Finding(FAIL, "datasets", f"{row.name}: its version is not here", cure)
        elif missing := _missing_files(place, row.manifest):
            cure = f"copy them here from a backup or another machine: {place}"
            yield Finding(FAIL, "datasets", f"{row.name}: {missing} of its files are missing", cure)
        else:
            yield Finding(OK, "datasets", f"{row.name} to {row.last_day}, version {row.version}")


def _missing_files(place: Path, manifest: dict[str, Any]) -> int:
    """Of the calendar, the manifest, and one file for each instrument and field."""
    columns = (len(manifest["instruments"]) + len(manifest["benchmarks"])) * len(manifest["fields"])
    there = sum(1 for _ in place.glob("features/*/*.day.bin"))
    others = (place / "manifest.json", place / "calendars/day.txt")
    return max(columns - there, 0) + sum(not one.is_file() for one in others)


def _workers() -> Findings:
    alive = list(Worker.objects.alive())
    taking = [worker for worker in alive if not worker.draining]
    if not taking:
        cure = "systemctl start qlib-worker@cpu-1, or manage.py worker cpu"
        yield Finding(FAIL, "workers", "none takes tasks", cure)
    for worker in alive:
        told = f"{worker.name} on {worker.host}, queue {worker.queue}"
        release = worker.versions.get("platform", "")
        if release != settings.RELEASE:
            text = f"{told}: release {release or UNNAMED}, here {settings.RELEASE or UNNAMED}"
            yield Finding(WARN, "workers", text, "upgrade the older one (deploy/README.md)")
        else:
            yield Finding(OK, "workers", told + (", draining" if worker.draining else ""))
    for needs, name in _waiting():
        if not any(worker.queue == name and worker.has(needs) for worker in taking):
            having = f" with {needs} installed" if needs else ""
            cure = f"start a worker for queue {name}{having}"
            yield Finding(WARN, "workers", f"tasks of queue {name} wait for one", cure)
    if find_spec("qlib") is None:
        yield Finding(OK, "workers", "none can run on this machine: it has no Qlib")


def _waiting() -> Any:
    pending = TrainingTask.objects.filter(status=Status.PENDING)
    return pending.values_list("needs", "queue").order_by().distinct()


def _leases() -> Findings:
    """What the reconciler would have mended if there was one: it leaves no other sign of life."""
    cure = "start the reconciler: systemctl start qlib-reconcile, or manage.py reconcile"
    late = Now() - 2 * settings.LEASE - timedelta(seconds=settings.RECONCILE_EVERY_S)
    over = TrainingTask.objects.filter(Q(lease_until__lt=late), status=Status.RUNNING).count()
    if over:
        yield Finding(FAIL, "leases", f"{over} tasks lost their worker and nobody acts", cure)
    else:
        yield Finding(OK, "leases", "all are kept")
    waiting = TrainingTask.objects.filter(status=Status.PENDING, created_at__lt=Now() - UNHEARD)
    names = set(waiting.values_list("queue", flat=True))
    for told in queue.overview() if names else []:
        if told["name"] in names and not told["waiting"]:
            text = f"tasks of queue {told['name']} wait, and nobody rings for them"
            yield Finding(WARN, "rings", text, cure)


def _export() -> Findings:
    if not settings.MLFLOW_TRACKING_URI:
        return
    ended = Q(completed_at__lt=Now() - EXPORT_WITHIN, completed_at__gte=Now() - HORIZON)
    due = TrainingTask.objects.filter(ended, status=Status.COMPLETED, export__sent_at=None)
    if count := due.count():
        cure = "journalctl -u qlib-export says why; it may be off: systemctl start qlib-export"
        yield Finding(WARN, "export", f"{count} results have not come to MLflow", cure)
    else:
        yield Finding(OK, "export", "MLflow has all results")


def _backups(folder: Path) -> Findings:
    newest = next(iter(reversed(backups.complete(folder))), None)
    if newest is None or timezone.now() - backups.taken_at(newest) > BACKUP_WITHIN:
        cure = f"journalctl -u qlib-backup says why; qlib-manage backup {folder}"
        yield Finding(WARN, "backup", f"none of the last two days in {folder}", cure)
    else:
        yield Finding(OK, "backup", str(newest))


LOOKS = (_settings, _database, _redis, _folders, _store, _datasets, _workers, _leases, _export)
