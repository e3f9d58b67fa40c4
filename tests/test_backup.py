"""The restore drill: back up, destroy, restore elsewhere, compare; and what is refused."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.core.management import CommandError, call_command

from tests import postgres
from training import backups
from training.states import Status

ROOT = Path(__file__).resolve().parent.parent
SHOW = (
    "import json; from training.models import TrainingTask as T;"
    "print(json.dumps({t.id: [t.status, t.attempt, t.losses, [e.kind for e in"
    " t.events.order_by('seq')]] for t in T.objects.all()}))"
)


@dataclass
class Place:
    """A state directory and a database."""

    folder: Path
    url: str
    path: str = os.environ["PATH"]

    def run(self, *command, code=0):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={
                "PATH": self.path,
                "PLATFORM_STATE_DIR": str(self.folder),
                "PLATFORM_DATABASE_URL": self.url,
                "PLATFORM_LOG_LEVEL": "error",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout[-2_000:] + done.stderr[-2_000:]
        return done.stdout + done.stderr

    def manage(self, *command, code=0):
        return self.run("manage.py", *command, code=code)

    def tasks(self):
        return json.loads(self.manage("shell", "-v0", "-c", SHOW).splitlines()[-1])


@pytest.fixture
def sqlite_places(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    return [
        Place(tmp_path / name, f"sqlite:///{tmp_path / name}/db.sqlite3") for name in ("old", "new")
    ]


@pytest.fixture
def postgres_places(tmp_path):
    with postgres.running() as server:
        # pg_dump must be as new as the server.
        programs = postgres.programs()
        places = []
        for name in ("old", "new"):
            database = f"{name}_{uuid.uuid4().hex[:8]}"
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {database}".encode())
            url = urlunsplit(urlsplit(server)._replace(path=f"/{database}"))
            (tmp_path / name).mkdir()
            places.append(Place(tmp_path / name, url, f"{programs}:{os.environ['PATH']}"))
        yield places


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def places(request):
    return request.getfixturevalue(f"{request.param}_places")


@pytest.mark.slow
def test_the_drill_loses_nothing_final_and_begins_what_ran_anew(places, tmp_path):
    old, new = places
    old.manage("migrate", "-v0")
    ids = json.loads(old.run("-m", "tests.drill"))
    before = old.tasks()

    assert "verified" in old.manage("backup", str(tmp_path / "backups"))
    shutil.rmtree(old.folder)
    (backup,) = backups.complete(tmp_path / "backups")
    assert "1 completed" in new.manage("restore", str(backup), "--verify")
    assert "1 that ran are pending again" in new.manage("restore", str(backup))

    after = new.tasks()
    assert {key: after[ids[key]] for key in ("completed", "pending")} == {
        key: before[ids[key]] for key in ("completed", "pending")
    }
    assert after[ids["running"]] == ["pending", 1, 0, ["created", "started", "requeued"]]
    copied = new.folder / "artifacts" / ids["completed"]
    assert [path.name for path in copied.iterdir()] == ["1"]
    assert (copied / "1" / "m" / "model").read_bytes() == b"a model\n" * 1_000
    assert "has tasks: restore into an empty" in new.manage("restore", str(backup), code=1)


# ── In this process ─────────────────────────────────────────────────────────────────────


def dump(target):
    """Stands for the copy of the database: inside a test's transaction there is none."""
    sqlite3.connect(target).execute("CREATE TABLE empty (id)").connection.close()


@pytest.fixture
def backup(make_task, settings, tmp_path, monkeypatch):
    """A complete backup with one file of a task."""
    monkeypatch.setattr(backups, "_dump", dump)
    file = settings.ARTIFACTS_DIR / make_task().id / "1" / "model"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"a model")
    with backups.alone(tmp_path / "backups"):
        return backups.take(tmp_path / "backups")


def test_files_that_the_last_backup_has_take_no_space_again(backup, tmp_path):
    first = backup.rename(backup.with_name("2020-01-01T000000Z"))
    (model,) = first.rglob("model")

    second = backups.take(tmp_path / "backups")

    assert os.path.samefile(model, second / model.relative_to(first))
    assert backups.verify(second).faults == ()
    assert backups.thin_out(tmp_path / "backups", keep=1) == [first]
    assert backups.complete(tmp_path / "backups") == [second]


def test_a_damaged_file_of_the_last_backup_is_copied_anew(backup, settings):
    first = backup.rename(backup.with_name("2020-01-01T000000Z"))
    (model,) = first.rglob("model")
    about = model.stat()
    model.write_bytes(b"a medal")
    os.utime(model, ns=(about.st_atime_ns, about.st_mtime_ns))

    call_command("backup", str(first.parent), keep=1)

    (second,) = backups.complete(first.parent)
    assert backups.verify(second).faults == ()
    assert (second / model.relative_to(first)).read_bytes() == b"a model"


def test_a_copy_that_is_not_what_was_read_makes_no_backup(backup, monkeypatch):
    def copy_wrongly(source, target):
        target.write_bytes(b"another")

    monkeypatch.setattr(backups.shutil, "copy2", copy_wrongly)
    (backup / "manifest.json").unlink()

    with pytest.raises(CommandError, match="model: its copy is not what was read"):
        call_command("backup", str(backup.parent), keep=1)

    assert set(backup.parent.iterdir()) == {backup, backup.parent / backups.LOCK}


def test_a_database_that_the_disk_has_no_room_for_is_told(monkeypatch, tmp_path):
    def full(*_, **__):
        raise sqlite3.OperationalError("database or disk is full")

    stand_in = SimpleNamespace(vendor="sqlite", ensure_connection=lambda: None)
    stand_in.connection = SimpleNamespace(backup=full)
    monkeypatch.setattr(backups, "connection", stand_in)

    with pytest.raises(backups.NoBackup, match="could not be written: database or disk is full"):
        backups._dump(tmp_path / "database.sqlite3")


def test_looking_at_a_backup_leaves_nothing_beside_its_database(tmp_path):
    copy = tmp_path / "database.sqlite3"
    opened = sqlite3.connect(copy)
    opened.execute("PRAGMA journal_mode=WAL")
    opened.execute("CREATE TABLE empty (id)")
    opened.close()

    faults = backups._faults_of_dump(copy)

    assert (faults, list(tmp_path.glob("database*"))) == ([], [copy])


def test_a_backup_that_breaks_off_leaves_nothing(backup, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(backups.shutil, "copy2", full)
    (backup / "manifest.json").unlink()

    with pytest.raises(OSError, match="No space"):
        backups.take(backup.parent)

    assert set(backup.parent.iterdir()) == {backup, backup.parent / backups.LOCK}


def test_a_second_backup_at_once_is_refused_and_leaves_the_first_alone(backup):
    first = backup.rename(backup.with_name("2020-01-01T000000Z"))
    half = backup.with_name(backups.PARTIAL)
    half.mkdir()

    with (
        backups.alone(backup.parent),
        pytest.raises(CommandError, match="another backup is being made"),
    ):
        call_command("backup", str(backup.parent), keep=1)

    assert half.exists()
    call_command("backup", str(backup.parent), keep=1)
    assert not half.exists()
    assert not first.exists()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda backup, model: model.write_bytes(b"another"), "has changed"),
        (lambda backup, model: model.unlink(), "No such file"),
        (lambda backup, model: (backup / "manifest.json").write_bytes(b"{"), "can't be read"),
        (lambda backup, model: (backup / "manifest.json").unlink(), "no complete backup"),
        (lambda backup, model: next(backup.glob("database*")).write_bytes(b""), "has changed"),
    ],
)
def test_a_damaged_backup_is_refused_before_anything_is_touched(
    backup, settings, tmp_path, damage, told
):
    (model,) = backup.rglob("model")
    damage(backup, model)
    settings.ARTIFACTS_DIR = tmp_path / "elsewhere"

    with pytest.raises(backups.NoBackup, match=told):
        backups.restore(backup)

    assert not settings.ARTIFACTS_DIR.exists()


def test_what_rows_promise_and_files_do_not_keep_is_told(make_task, dataset):
    listed = [{"path": "model", "bytes": 7, "sha256": "0" * 64}]
    task = make_task(status=Status.COMPLETED, result={"metrics": {}, "artifacts": listed})

    assert list(backups.faults_here()) == [
        "dataset demo: version v1 is not there",
        f"{task.id}: model: No such file or directory",
    ]


def test_files_that_retention_has_removed_are_no_fault(make_task, settings):
    listed = [{"path": "model", "bytes": 7, "sha256": "0" * 64}]
    task = make_task(status=Status.COMPLETED, result={"metrics": {}, "artifacts": listed})
    settings.KEEP_ARTIFACTS_DAYS = 30

    pruned = list(backups.faults_here())
    (settings.ARTIFACTS_DIR / task.id / "1").mkdir(parents=True)

    assert pruned == []
    assert list(backups.faults_here()) == [f"{task.id}: model: No such file or directory"]
