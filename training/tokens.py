"""Who a bearer token is, for HTTP and sockets alike. Tokens are kept hashed (django-rest-knox)."""

from time import monotonic

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q
from django.utils import timezone
from knox.crypto import hash_token
from knox.models import AuthToken

RECENT_S = 1.0
"""A program's calls follow one another: whose token it is is asked of the database once a second,
so a token that ended is refused a second later at most."""

RECENT_MAX = 1_000

_recent: dict[str, tuple[float, AbstractBaseUser]] = {}
"""By digest, until when it is taken as read; kept to spare each call of a program a query."""


def create(user: AbstractBaseUser) -> str:
    """Make a token; this text is the only time it is seen."""
    _, token = AuthToken.objects.create(user=user)
    return str(token)


def user_of(token: str) -> AbstractBaseUser | None:
    """The active user whose valid token this is, else None. Asks the database once."""
    digest = _digest(token)
    return _read(digest) if digest else None


def recent_user_of(token: str) -> AbstractBaseUser | None:
    """The same, as it was within the last `RECENT_S`."""
    digest = _digest(token)
    if digest is None:
        return None
    until, user = _recent.get(digest, (0.0, None))
    if user is not None and monotonic() < until:
        return user
    user = _read(digest)
    if user is None:
        _recent.pop(digest, None)
        return None
    if len(_recent) >= RECENT_MAX:
        _recent.clear()
    _recent[digest] = (monotonic() + RECENT_S, user)
    return user


def _digest(token: str) -> str | None:
    try:
        return str(hash_token(token))
    except UnicodeError:
        return None


def _read(digest: str) -> AbstractBaseUser | None:
    # By the digest, not by knox's own way: that one also reads, and tidies, all other tokens of
    # the user, at each request.
    found = AuthToken.objects.select_related("user").filter(digest=digest, user__is_active=True)
    row = found.filter(Q(expiry=None) | Q(expiry__gt=timezone.now())).first()
    return row.user if row else None
