"""`manage.py audit`: are all promises kept?"""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from training import audit


class Command(BaseCommand):
    """Exit code 0: every invariant holds; 1: some do not; 2: the database could not be read."""

    help = "Check every invariant of every task, and say each violation with its task."

    def add_arguments(self, parser: CommandParser) -> None:
        """How patient, and how thorough."""
        parser.add_argument(
            "--grace",
            type=float,
            metavar="SECONDS",
            help="how long a lease may be over without somebody acting; by default one lease",
        )
        parser.add_argument(
            "--no-hashes", action="store_true", help="compare artifacts by name and size only"
        )

    def handle(self, *, grace: float | None, no_hashes: bool, **_: Any) -> None:
        """Print the violations. Raises: CommandError, if there are any."""
        patience = None if grace is None else timedelta(seconds=grace)
        try:
            report = audit.run(grace=patience, hashes=not no_hashes)
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(f"the database could not be read: {error}", returncode=2) from error
        for violation in report.violations:
            self.stdout.write(str(violation))
        if report.violations:
            raise CommandError(f"{len(report.violations)} violations in {report.tasks} tasks")
        self.stdout.write(f"{report.tasks} tasks: every invariant holds")
