"""The restore drill: back up, destroy, restore elsewhere, compare; and what is refused."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.core.management import CommandError, call_command

from tests import postgres
from training import backups, dumps
from training.models import Dataset, TrainingTask
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


def as_superuser(url, command):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(command.encode())


@pytest.fixture
def postgres_places(tmp_path):
    with postgres.running() as server:
        # pg_dump must be as new as the server.
        programs = postgres.programs()
        places = []
        user = f"user_{uuid.uuid4().hex[:8]}"
        as_superuser(server, f"CREATE ROLE {user} LOGIN")
        for name in ("old", "new"):
            database = f"{name}_{uuid.uuid4().hex[:8]}"
            as_superuser(server, f"CREATE DATABASE {database} OWNER {user}")
            url = urlsplit(server)._replace(path=f"/{database}")
            # As where a superuser had to make an extension: its owner may not.
            as_superuser(urlunsplit(url), "CREATE EXTENSION vector")
            as_superuser(server, f"REVOKE CREATE ON DATABASE {database} FROM {user}")
            url = urlunsplit(url._replace(netloc=f"{user}@"))
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
    assert "has accounts: restore into an empty" in new.manage("restore", str(backup), code=1)
    new.manage("restore", str(backup), "--replace")
    assert new.tasks() == after


# ── In this process ─────────────────────────────────────────────────────────────────────


def dump(target):
    """Stands for the copy of the database: inside a test's transaction there is none."""
    with closing(sqlite3.connect(target)) as opened:
        opened.execute("CREATE TABLE django_migrations (app, name)")
        opened.execute("INSERT INTO django_migrations VALUES ('training', '0001_initial')")
        opened.commit()


@pytest.fixture
def backup(make_task, settings, tmp_path, monkeypatch):
    """A complete backup with one file of a task."""
    monkeypatch.setattr(dumps, "write", dump)
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
    monkeypatch.setattr(dumps, "connection", stand_in)

    with pytest.raises(backups.NoBackup, match="could not be written: database or disk is full"):
        dumps.write(tmp_path / "database.sqlite3")


def test_looking_at_a_backup_leaves_nothing_beside_its_database(tmp_path):
    copy = tmp_path / "database.sqlite3"
    opened = sqlite3.connect(copy)
    opened.execute("PRAGMA journal_mode=WAL")
    opened.execute("CREATE TABLE empty (id)")
    opened.close()

    faults = dumps.faults(copy)

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


def link(model):
    """The same bytes, but elsewhere."""
    model.symlink_to(model.rename(model.parents[5] / "elsewhere.txt"))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda backup, model: model.write_bytes(b"another"), "has changed"),
        (lambda backup, model: model.unlink(), "No such file"),
        (lambda backup, model: (backup / "manifest.json").write_bytes(b"{"), "can't be read"),
        (lambda backup, model: (backup / "manifest.json").write_text("{}"), "can't be read"),
        (lambda backup, model: (backup / "manifest.json").write_text("[]"), "can't be read"),
        (lambda backup, model: (backup / "manifest.json").unlink(), "no complete backup"),
        (lambda backup, model: link(model), "is a link"),
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


@pytest.fixture
def elsewhere(settings, tmp_path, monkeypatch):
    """Another place; its database stays the test's own."""
    settings.ARTIFACTS_DIR = tmp_path / "elsewhere"
    monkeypatch.setattr(dumps, "load", lambda dump: None)
    return settings.ARTIFACTS_DIR


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_the_manifest_lists_is_restored_and_nothing_else(backup, elsewhere):
    (model,) = backup.rglob("model")
    model.with_name("secret").symlink_to("/etc/passwd")
    model.with_name("more").write_bytes(b"more")

    backups.restore(backup, replacing=True)

    assert files_in(elsewhere) == {model.relative_to(backup / "artifacts").as_posix()}


def test_a_restore_whose_database_is_not_taken_leaves_no_file(backup, elsewhere, monkeypatch):
    def refuse(dump):
        raise backups.NoBackup("must be owner")

    monkeypatch.setattr(dumps, "load", refuse)

    with pytest.raises(backups.NoBackup, match="nothing was changed: must be owner"):
        backups.restore(backup, replacing=True)

    assert list(elsewhere.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_told_before_anything_is_touched(backup, elsewhere):
    elsewhere.write_bytes(b"")

    with pytest.raises(backups.NoBackup, match="nothing was changed: .*elsewhere"):
        backups.restore(backup, replacing=True)


def test_a_file_in_the_way_is_named_after_the_database_is_loaded(backup, elsewhere, make_task):
    (model,) = backup.rglob("model")
    elsewhere.mkdir()
    (elsewhere / model.parts[-3]).write_bytes(b"")

    with pytest.raises(backups.NoBackup, match=r"loaded, but .*task-.*again with --replace"):
        backups.restore(backup, replacing=True)


def test_a_backup_of_a_newer_release_is_refused_before_anything_is_touched(
    backup, elsewhere, monkeypatch
):
    newer = {("training", "0001_initial"), ("training", "9999_newer")}
    monkeypatch.setattr(dumps, "migrations", lambda dump: newer)

    with pytest.raises(backups.NoBackup, match="newer release.*training.9999_newer.*install the"):
        backups.restore(backup, replacing=True)

    assert not elsewhere.exists()


def test_a_database_with_an_account_alone_is_not_overwritten(backup, elsewhere):
    TrainingTask.objects.all().delete()
    Dataset.objects.all().delete()

    with pytest.raises(CommandError, match="has accounts: .*--replace"):
        call_command("restore", str(backup))

    assert not elsewhere.exists()


@pytest.mark.parametrize("has_trigrams", [True, False])
def test_extensions_are_left_to_the_server(monkeypatch, has_trigrams):
    contents = {
        "extension": "2; 3079 16441 EXTENSION - pg_trgm \n",
        "comment": "3500; 0 0 COMMENT - EXTENSION pg_trgm \n",
        "table": "215; 1259 16522 TABLE public training_trainingtask qlib\n",
        "index": "3333; 1259 16999 INDEX public task_part_of_name qlib\n",
    }
    chosen = []

    def run(program, *options):
        chosen.extend(Path(one[11:]).read_text() for one in options if one[:10] == "--use-list")
        return "".join(contents.values())

    monkeypatch.setattr(dumps, "_run", run)
    monkeypatch.setattr(dumps, "_has_trigrams", lambda: has_trigrams)
    monkeypatch.setattr(dumps, "_where", lambda: {"PGDATABASE": "qlib"})

    dumps.load(Path("database.dump"))

    assert chosen == [contents["table"] + (contents["index"] if has_trigrams else "")]


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
