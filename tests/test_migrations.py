"""What a migration locks: a release must be able to upgrade while the one before it works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import postgres

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
