"""Who a bearer token is, for HTTP and sockets alike. Tokens are kept hashed (django-rest-knox)."""

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q
from django.utils import timezone
from knox.crypto import hash_token
from knox.models import AuthToken


def create(user: AbstractBaseUser) -> str:
    """Make a token; this text is the only time it is seen."""
    _, token = AuthToken.objects.create(user=user)
    return str(token)


def user_of(token: str) -> AbstractBaseUser | None:
    """The active user whose valid token this is, else None. Asks the database once."""
    try:
        digest = hash_token(token)
    except UnicodeError:
        return None
    # By the digest, not by knox's own way: that one also reads, and tidies, all other tokens of
    # the user, at each request.
    found = AuthToken.objects.select_related("user").filter(digest=digest, user__is_active=True)
    row = found.filter(Q(expiry=None) | Q(expiry__gt=timezone.now())).first()
    return row.user if row else None
