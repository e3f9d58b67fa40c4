"""`PLATFORM_DATABASE_URL`, read as PostgreSQL's own programs do: it may name several servers."""

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>[0-9]+))?")


def parse(url: str) -> dict[str, Any]:
    """Django's settings of the database.

    `@h1:p1,h2:p2/` becomes one list of hosts and one of ports, as the driver takes them; a port
    that is missing is 5432. Raises: ImproperlyConfigured.
    """
    try:
        parts = urlsplit(url)
        user, at, servers = parts.netloc.rpartition("@")
        several = "," in servers
        rest = urlunsplit(parts._replace(netloc=user + at)) if several else url
        config: dict[str, Any] = {**dj_database_url.parse(rest)}
    except ValueError as error:
        raise ImproperlyConfigured(
            "PLATFORM_DATABASE_URL must be a sqlite:/// or a postgresql:// address"
        ) from error
    if several:
        config["HOST"], config["PORT"] = _lists(servers)
    return config


def _lists(servers: str) -> tuple[str, str]:
    found = [_SERVER.fullmatch(server) for server in servers.split(",")]
    hosts = [one["host"].strip("[]") for one in found if one]
    if len(hosts) < len(found):
        raise ImproperlyConfigured(
            f"PLATFORM_DATABASE_URL must name its servers as host:port,host:port, not {servers}"
        )
    return ",".join(hosts), ",".join(one["port"] or "5432" for one in found if one)
