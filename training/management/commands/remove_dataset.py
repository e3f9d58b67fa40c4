"""`manage.py remove_dataset NAME`: takes back an import that no task has used."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from training import datasets
from training.models import Dataset, TrainingTask


class Command(BaseCommand):
    """All versions go, or none: what a task was computed from stays."""

    help = "Remove a dataset and its files, unless tasks refer to it."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which, and whether to ask."""
        parser.add_argument("name", help="name of the dataset")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *, name: str, yes: bool, **_: Any) -> None:
        """Raises: CommandError, if it is used, not there, or not to go after all."""
        if not Dataset.objects.filter(name=name).exists():
            raise CommandError(f"there is no dataset {name}")
        if count := TrainingTask.objects.filter(dataset=name).count():
            raise CommandError(f"{count} tasks refer to {name}: delete them first")
        if not yes and not _is_sure(name):
            raise CommandError("nothing was removed")
        if not datasets.remove(name):
            raise CommandError(f"{name} was removed or used meanwhile: look again")
        self.stdout.write(f"{name} is removed")


def _is_sure(name: str) -> bool:
    try:
        return input(f"Remove {name} with all its versions for ever? [y/N] ").lower() == "y"
    except EOFError:
        return False
