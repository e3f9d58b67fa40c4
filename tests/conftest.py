"""What all tests share: places of their own, people by their part, tasks, datasets, clients.

The suite runs on the database that `PLATFORM_DATABASE_URL` names, SQLite in memory by default;
`tests/test_postgres.py` runs its database part once more on PostgreSQL.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from tests import factories
from training import tokens
from training.models import Dataset, TrainingTask
from training.work import queue

MakeTask = Callable[..., TrainingTask]


@pytest.fixture(autouse=True)
def _own_places(settings: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """State below the test's own directory, messages in memory, cheap passwords."""
    settings.STATE_DIR = tmp_path
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STATIC_ROOT.mkdir()
    # Every test client would look through all static files.
    settings.WHITENOISE_USE_FINDERS = False
    for name in ("DATASETS", "ARTIFACTS", "SCRATCH", "FEATURES"):
        setattr(settings, f"{name}_DIR", tmp_path / name.lower())
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    if "redis" not in request.keywords:
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.fixture(autouse=True)
def rings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The queues that were rung. Only a test marked `redis` rings a real bell."""
    heard: list[str] = []
    if "redis" not in request.keywords:
        monkeypatch.setattr(queue, "ring", lambda name: heard.append(name) or True)
        monkeypatch.setattr(
            queue, "ring_for_figure", lambda key: heard.append(f"figure {key}") or True
        )
        monkeypatch.setattr(queue, "ping", lambda: True)
    return heard


@pytest.fixture
def owner(db: None) -> User:
    """Whose tasks they are, unless a test says otherwise."""
    return User.objects.create_user("owner", password="owner-secret")


@pytest.fixture
def staff(db: None) -> User:
    """May watch and act on all tasks."""
    return User.objects.create_user("staff", password="staff-secret", is_staff=True)


@pytest.fixture
def stranger(db: None) -> User:
    """Signed in, and owner of nothing that the test is about."""
    return User.objects.create_user("stranger", password="stranger-secret")


@pytest.fixture
def dataset(db: None) -> Dataset:
    """The only dataset, `demo`, so that workflows need not name it."""
    return factories.make_dataset()


@pytest.fixture
def make_task(owner: User) -> MakeTask:
    """`make_task(status=Status.RUNNING, name="x")`: the owner's, by the lifecycle's moves."""

    def make(**fields: Any) -> TrainingTask:
        return factories.make_task(fields.pop("owner", owner), **fields)

    return make


@pytest.fixture
def client_of(db: None) -> Callable[[User | None], APIClient]:
    """A client that signs in by a bearer token of the user's own; None: nobody."""

    def make(user: User | None) -> APIClient:
        client = APIClient(raise_request_exception=False)
        if user is not None:
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens.create(user)}")
        return client

    return make


@pytest.fixture
def api(client_of: Callable[[User | None], APIClient], owner: User) -> APIClient:
    """The owner's client."""
    return client_of(owner)
