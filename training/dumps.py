"""The database as one file: written, looked at, and loaded again. What else is in a backup, and
when a file may be loaded at all, `backups.py` knows.
"""

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from django.db import Error, connection

NAMES = {"sqlite": "database.sqlite3", "postgresql": "database.dump"}
"""Of the file, by Django's name for the kind of database."""

Migrations = set[tuple[str, str]]
"""App and name of each."""

_EXTENSION = re.compile(r" (COMMENT - )?EXTENSION ")
_TRIGRAM_INDEX = re.compile(r" INDEX \S+ task_part_of_name ")


class NoBackup(Exception):
    """A backup could not be taken, is damaged, or does not fit: says what, and the cure."""


def write(target: Path) -> None:
    """Copy the whole database, as it is at one instant. Raises: NoBackup."""
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


def faults(dump: Path) -> list[str]:
    """Why it can't be read; empty if it can."""
    try:
        if _is_postgres(dump):
            _run("pg_restore", "--list", str(dump))
            return []
        answers = [row[0] for row in _ask(dump, "PRAGMA integrity_check")]
    except NoBackup as error:
        return [str(error)]
    return [] if answers == ["ok"] else [f"{dump.name}: {one}" for one in answers[:3]]


def migrations(dump: Path) -> Migrations:
    """The migrations that its tables have seen. Raises: NoBackup."""
    if not _is_postgres(dump):
        return {(app, name) for app, name in _ask(dump, "SELECT app, name FROM django_migrations")}
    wanted = ("--data-only", "--table=django_migrations", "--file=-")
    rows = [line.split("\t") for line in _run("pg_restore", *wanted, str(dump)).splitlines()]
    return {(row[1], row[2]) for row in rows if len(row) == 4}


def load(dump: Path) -> None:
    """Put it in the place of the database: all of it, or nothing. Raises: NoBackup, OSError."""
    if _is_postgres(dump):
        _load_postgres(dump)
        return
    target = Path(connection.settings_dict["NAME"])
    connection.close()
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.restored")
    try:
        shutil.copyfile(dump, beside)
        for suffix in ("-wal", "-shm"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        beside.rename(target)
    finally:
        beside.unlink(missing_ok=True)


def _load_postgres(dump: Path) -> None:
    """Without extensions, which only a superuser may drop or make; they are the server's matter."""
    has_trigrams = _has_trigrams()
    with tempfile.NamedTemporaryFile("w") as chosen:
        for line in _run("pg_restore", "--list", str(dump)).splitlines(keepends=True):
            left_out = _EXTENSION.search(line) or (_TRIGRAM_INDEX.search(line) and not has_trigrams)
            chosen.write("" if left_out else line)
        chosen.flush()
        how = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction")
        where = (f"--use-list={chosen.name}", f"--dbname={_where()['PGDATABASE']}")
        _run("pg_restore", *how, *where, str(dump))


def _has_trigrams() -> bool:
    """Whether the index for parts of names can be made here, if need be with the extension."""
    with connection.cursor() as cursor:
        # Not there, or not ours to make: names are then searched without an index.
        with suppress(Error):
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
        return cursor.fetchone() is not None


def _is_postgres(dump: Path) -> bool:
    return dump.name == NAMES["postgresql"]


def _ask(dump: Path, question: str) -> list[tuple[str, ...]]:
    # Immutable: it may lie where nothing can be written, and nothing comes to lie beside it.
    address = f"{dump.absolute().as_uri()}?immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as opened:
            return opened.execute(question).fetchall()
    except sqlite3.Error as error:
        raise NoBackup(f"{dump.name}: {error}") from error


def _run(program: str, *options: str) -> str:
    """Run one of PostgreSQL's programs on our database; what it said. Raises: NoBackup."""
    try:
        done = subprocess.run(  # noqa: S603 - our own words, and no shell
            [program, *options],
            env={**os.environ, **_where()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise NoBackup(f"{program} is missing: apt install postgresql-client") from None
    if done.returncode:
        raise NoBackup(f"{program}: {done.stderr.strip()[-500:]}")
    return done.stdout


def _where() -> dict[str, str]:
    """The server that Django found, of several perhaps, as PostgreSQL's programs are told."""
    connection.ensure_connection()
    info = connection.connection.info
    told = {"host": info.host, "port": info.port, "user": info.user, "database": info.dbname}
    secure = connection.settings_dict["OPTIONS"]
    tls = {name: secure[name] for name in ("sslmode", "sslrootcert") if name in secure}
    known = {**told, **tls, "password": info.password}
    return {f"PG{name.upper()}": str(value) for name, value in known.items() if value}
