"""From where a browser may open sockets: this very address, and `settings.ALLOWED_ORIGINS`.

A browser sends its cookies with a socket that any page opens, and stops nothing. So a foreign
page is refused before anything is read; another port or scheme of the same host is foreign too.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

_DEFAULT_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


def is_own(origin: str, *, scope: Mapping[str, Any], host: str) -> bool:
    """Whether a page of this origin may open a socket on this host (the Host header)."""
    told = parse(origin)
    if told is None:
        return False
    if told in {parse(allowed) for allowed in settings.ALLOWED_ORIGINS}:
        return True
    secure = settings.HTTPS or scope.get("scheme") == "wss"
    return _is_known(host) and told == parse(f"{'https' if secure else 'http'}://{host}")


def parse(origin: str) -> Origin | None:
    """Scheme, host and port of an origin; None for `null` and whatever else is no origin."""
    try:
        parts = urlsplit(origin.strip().lower())
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    plain = f"{parts.scheme}://{parts.netloc}" == origin.strip().lower() and "@" not in parts.netloc
    if not plain or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port


def _is_known(host: str) -> bool:
    """Whether the Host header is one of ours: a name that was made to point here is not."""
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
