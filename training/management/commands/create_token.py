"""Make an API token for a user; it is shown this once."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from training import tokens


class Command(BaseCommand):
    help = "Makes an API token for a user and prints it: the only time it is seen."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *, username: str, **_: Any) -> None:
        users = get_user_model().objects
        user = users.filter(username=username, is_active=True).first()
        if user is None:
            raise CommandError(f"there is no active user {username!r}")
        self.stdout.write(tokens.create(user))
