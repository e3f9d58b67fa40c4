"""What a migration locks and leans on: a release upgrades while the one before it works."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tests import postgres
from training import presets, standings
from training.models import Preset

ROOT = Path(__file__).resolve().parent.parent
WRITE = """
import io, sys, django
from pathlib import Path
django.setup()
from django.core.management import call_command
for file in sorted(Path("training/migrations").glob("0*.py")):
    sql = io.StringIO()
    call_command("sqlmigrate", "training", file.stem, stdout=sql, no_color=True)
    Path(sys.argv[1], file.stem + ".sql").write_text(sql.getvalue())
"""
# Of taste, not of locks; and every connection of ours has its time limits.
TASTE = (
    "require-timeout-settings,prefer-bigint-over-int,prefer-bigint-over-smallint,"
    "prefer-identity,prefer-text-field,prefer-robust-stmts,prefer-timestamp-tz"
)
# Numbers below are for the first release: nobody upgrades over those with a full table.
FIRST_OF_THE_SECOND_RELEASE = "0020"


def complaints(folder):
    """Each complaint, by the file's name."""
    files = sorted(folder.glob("*.sql"))
    squawk = Path(sys.executable).parent / "squawk"
    done = subprocess.run(
        [squawk, "--reporter=gcc", f"--exclude={TASTE}", *files],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert files
    lines = [line for line in done.stdout.splitlines() if ".sql:" in line]
    assert bool(lines) == bool(done.returncode), done.stdout + done.stderr
    return [Path(line.split(":")[0]).stem + ":" + line.split(":", 3)[3] for line in lines]


@pytest.mark.postgres
def test_no_migration_after_the_first_release_locks_a_table_for_long(tmp_path):
    with postgres.running() as url:
        subprocess.run(
            [sys.executable, "-c", WRITE, tmp_path],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "DJANGO_SETTINGS_MODULE": "qlibplatform.settings",
                "PLATFORM_SECRET_KEY": "x" * 50,
                "PLATFORM_DATABASE_URL": url,
            },
            check=True,
        )

    found = complaints(tmp_path)

    assert [one for one in found if one >= FIRST_OF_THE_SECOND_RELEASE] == []


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ('CREATE INDEX "i" ON "training_taskevent" ("at");', "concurrent"),
        ('ALTER TABLE "training_taskevent" ADD COLUMN "a" integer NOT NULL;', "required"),
        ('ALTER TABLE "training_taskevent" DROP COLUMN "at";', "drop-column"),
        ('ALTER TABLE "training_taskevent" RENAME COLUMN "at" TO "b";', "renam"),
    ],
)
def test_the_linter_sees_what_would_stop_a_running_release(tmp_path, sql, rule):
    (tmp_path / "0099_x.sql").write_text(f"BEGIN;\n{sql}\nCOMMIT;\n")

    assert any(rule in one for one in complaints(tmp_path))


# ── What a migration leans on ───────────────────────────────────────────────────────────


def live_code(text):
    """Lines that take from the application more than a field's class or default."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        else:
            continue
        ours = [name for name in names if name.split(".")[0] in {"", "training", "qlibplatform"}]
        if [name for name in ours if name != "training.models"] or (
            ours and isinstance(node, ast.ImportFrom)
        ):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "file", sorted(Path(ROOT, "training/migrations").glob("0*.py")), ids=lambda file: file.stem
)
def test_a_migration_does_the_same_whatever_becomes_of_the_application(file):
    assert live_code(file.read_text()) == []


@pytest.mark.parametrize(
    ("line", "is_live"),
    [
        ("import training.models", False),
        ("from django.db import models", False),
        ("from training import presets", True),
        ("from training.standings import test_period", True),
        ("from training.models import TrainingTask", True),
        ("from .. import presets", True),
        ("import training.presets", True),
    ],
)
def test_live_code_is_seen(line, is_live):
    assert bool(live_code(line)) is is_live


@pytest.mark.django_db(transaction=True)
def test_migrating_from_the_first_tables_loads_what_the_application_would():
    executor = MigrationExecutor(connection)
    executor.migrate([("training", "0003_preset")])
    old = executor.loader.project_state([("training", "0003_preset")]).apps
    then = old.get_model("training", "Preset").objects
    then.all().delete()
    then.create(name="linear-alpha158", title="ours", workflow="own")

    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes("training"))

    migrated = dict(Preset.objects.values_list("name", "workflow"))
    assert migrated.pop("linear-alpha158") == "own"
    assert presets.load_shipped() == 0
    Preset.objects.all().delete()
    presets.load_shipped()
    assert migrated == dict(
        Preset.objects.exclude(name="linear-alpha158").values_list("name", "workflow")
    )


@pytest.mark.parametrize(
    "segments", [{"test": ["2020-01-02", "2020-12-31"]}, {"test": [None, "2020-12-31"]}, {}, None]
)
def test_the_frozen_reading_of_a_test_period_is_the_living_one(segments):
    module = importlib.import_module("training.migrations.0007_known_test_periods")
    config = {"task": {"dataset": {"kwargs": {"segments": segments}}}}

    assert module.test_period(config) == standings.test_period(config)
