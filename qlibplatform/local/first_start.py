"""The database of a local start: migrated, with an administrator, and with the demo market.

Django is set up in this process, only for this, and its connections are closed afterwards.
"""

import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from .prepare import CHECKOUT, CannotStart
from .programs import LIFELINE, MANAGE

ADMINISTRATOR = "admin"
DEMO_MARKET = "demo"


@dataclass(frozen=True)
class Account:
    """The administrator of a first start. Both secrets are kept as hashes only: shown once."""

    name: str
    password: str
    token: str


def migrate() -> None:
    """Bring the database to this version. `DJANGO_SETTINGS_MODULE` must be set."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", interactive=False, verbosity=0)


def create_administrator() -> Account | None:
    """Make the administrator and a token; None if there is an administrator already."""
    from django.contrib.auth import get_user_model
    from django.db import connections, transaction

    from training import tokens

    users = get_user_model().objects
    try:
        if users.filter(is_superuser=True).exists():
            return None
        password = secrets.token_urlsafe(12)
        with transaction.atomic():
            user = users.create_superuser(ADMINISTRATOR, password=password)
            return Account(ADMINISTRATOR, password, tokens.create(user))
    finally:
        connections.close_all()


def has_demo_market() -> bool:
    """Whether the demo market was built already."""
    from django.db import connections

    from training.models import Dataset

    try:
        return Dataset.objects.filter(name=DEMO_MARKET).exists()
    finally:
        connections.close_all()


def build_demo_market(environment: Mapping[str, str]) -> None:
    """Build the synthetic market, in a process of its own. Raises: CannotStart."""
    done = subprocess.run(
        [*LIFELINE, *MANAGE, "build_demo_market"],
        cwd=CHECKOUT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        raise CannotStart("The demo market could not be built; the reason stands above.")
