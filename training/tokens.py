"""Who a bearer token is, for HTTP and sockets alike. Tokens are kept hashed (django-rest-knox)."""

from django.contrib.auth.models import AbstractBaseUser
from knox.auth import TokenAuthentication
from knox.models import AuthToken
from rest_framework.exceptions import AuthenticationFailed


def create(user: AbstractBaseUser) -> str:
    """Make a token; this text is the only time it is seen."""
    _, token = AuthToken.objects.create(user=user)
    return str(token)


def user_of(token: str) -> AbstractBaseUser | None:
    """The active user whose valid token this is, else None."""
    try:
        user: AbstractBaseUser = TokenAuthentication().authenticate_credentials(token.encode())[0]
    except (AuthenticationFailed, UnicodeError):
        return None
    return user
