"""Browsers without JavaScript: Django's client, signed in by a session."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

NASTY = '<script>alert("x")</script>'
TERMINAL = "\x1b[31mred\x1b[0m\x1b]0;title\x07\u202ereversed"


@pytest.fixture
def browser_of(db: None) -> Callable[[User | None], Client]:
    """A browser that the user is signed in with; None: nobody."""

    def make(user: User | None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    return make


@pytest.fixture
def browser(browser_of: Callable[[User | None], Client], owner: User) -> Client:
    """The owner's."""
    return browser_of(owner)
