"""`manage.py maintain`: removes what the settings let go; without `--apply` it only says so."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from training import retention


class Command(BaseCommand):
    """For a daily timer. Two at once do no harm."""

    help = "Show, and with --apply remove, old tasks, files, events and leftovers."

    def add_arguments(self, parser: CommandParser) -> None:
        """Nothing goes without `--apply`."""
        parser.add_argument("--apply", action="store_true", help="remove what is shown")

    def handle(self, *, apply: bool, **_: Any) -> None:
        """One line for each thing that goes, then the sum. Raises: CommandError."""
        count = size = failures = 0
        for removal in _plan():
            try:
                if apply and not removal.do():
                    continue
            except OSError as error:
                failures += 1
                self.stderr.write(f"{removal.kind:9} {removal.name}  could not be removed: {error}")
                continue
            count, size = count + 1, size + removal.bytes
            self.stdout.write(f"{removal.kind:9} {removal.name}  {removal.bytes / 1e6:.1f} MB")
        done = "removed" if apply else "would go; manage.py maintain --apply removes"
        self.stdout.write(f"{count} {done}, {size / 1e6:.1f} MB")
        if failures:
            raise CommandError(f"{failures} could not be removed")


def _plan() -> list[retention.Removal]:
    try:
        return list(retention.plan())
    except OSError as error:
        raise CommandError(f"nothing was removed: {error}") from error
