"""A database of its own for each platform: SQLite beside its state, or one on PostgreSQL."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tests import postgres


@contextmanager
def fresh(kind: str) -> Iterator[str | None]:
    """The address of an empty database; None stands for the platform's own SQLite file."""
    if kind == "sqlite":
        yield None
        return
    with postgres.running() as server:
        name = f"platform_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
