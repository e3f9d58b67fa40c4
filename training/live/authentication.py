"""Who opens a socket: a bearer token for programs, the session's cookie for browsers.

Not Channels' own middleware: that one reads through a single thread for all sockets of the
process, and flushes the session of whoever's key was rotated.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AbstractBaseUser
from django.http.cookie import parse_cookie
from django.utils.crypto import constant_time_compare

from training import tokens

from . import closing, origin

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Credential:
    """What the caller has shown; kept, so that it can be checked again while the socket is open."""

    is_token: bool
    secret: str


class OwnOrigin:
    """Refuses foreign pages (4403). A program, which has no Origin, needs a token."""

    def __init__(self, inner: Application) -> None:
        self.inner = inner

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the caller on, or accept and close: a code is seen only on an open socket.

        No coroutine of its own, here and below: each would stay as long as the socket.
        """
        if _may_open(scope):
            return self.inner(scope, receive, send)
        return closing.refuse(receive, send, closing.FOREIGN_ORIGIN)


class SignedIn:
    """Reads what the caller shows into `scope["credential"]`; refuses who shows nothing (4401).

    Whether it is valid is looked up together with what the socket wants, in one go.
    """

    def __init__(self, inner: Application) -> None:
        self.inner = inner

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the caller on, or accept and close."""
        credential = credential_of(scope)
        if credential is None:
            return closing.refuse(receive, send, closing.NOT_SIGNED_IN)
        return self.inner({**scope, "credential": credential}, receive, send)


def _may_open(scope: Scope) -> bool:
    origins = _header_values(scope, b"origin")
    if not origins:
        shown = credential_of(scope)
        # A cookie without an Origin comes from no browser that we know of.
        return shown is None or shown.is_token
    hosts = _header_values(scope, b"host")
    if len(origins) != 1 or len(hosts) != 1:
        return False
    return origin.is_own(origins[0], scope=scope, host=hosts[0])


def credential_of(scope: Scope) -> Credential | None:
    """The token of the Authorization header if there is one, else the session of the cookie."""
    headers = _header_values(scope, b"authorization")
    if headers:
        word, _, token = headers[0].strip().partition(" ")
        valid = len(headers) == 1 and word.lower() == "bearer" and token.strip()
        return Credential(is_token=True, secret=token.strip()) if valid else None
    for cookies in _header_values(scope, b"cookie"):
        if key := parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME):
            return Credential(is_token=False, secret=key)
    return None


def user_of(credential: Credential) -> AbstractBaseUser | None:
    """The active user who may show this, else None. Reads the database."""
    if credential.is_token:
        return tokens.user_of(credential.secret)
    return _user_of_session(credential.secret)


def _user_of_session(key: str) -> AbstractBaseUser | None:
    session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    path = session.get(auth.BACKEND_SESSION_KEY)
    if path not in settings.AUTHENTICATION_BACKENDS:
        return None
    user: AbstractBaseUser | None = auth.load_backend(path).get_user(session[auth.SESSION_KEY])
    shown = session.get(auth.HASH_SESSION_KEY) or ""
    if user is None or not user.is_active:
        return None
    valid = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return user if any(constant_time_compare(shown, one) for one in valid) else None


def _header_values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin1") for key, value in scope["headers"] if key == name]
