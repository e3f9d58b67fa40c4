"""Who a request comes from, by its bearer token. Sessions are Django REST framework's own."""

from django.contrib.auth.models import AbstractBaseUser
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.request import Request

from training import tokens


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`; any other scheme is left to the next class."""

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser, str] | None:
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        text = token.strip().decode("ascii", "replace")
        user = tokens.recent_user_of(text)
        if user is None:
            raise AuthenticationFailed("This token is not valid, or no longer")
        return user, text

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def caller(request: Request) -> AbstractBaseUser:
    """Who is signed in. Raises: NotAuthenticated."""
    if isinstance(request.user, AbstractBaseUser):
        return request.user
    raise NotAuthenticated
