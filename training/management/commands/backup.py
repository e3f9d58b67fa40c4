"""`manage.py backup FOLDER`: a consistent copy while the platform runs."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from training import backups


class Command(BaseCommand):
    """Copies database, artifacts and datasets; no cache, no Redis, no secret."""

    help = "Back up database, artifacts and datasets into a new folder of FOLDER."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where, and how many stay."""
        parser.add_argument("folder", type=Path)
        parser.add_argument("--keep", type=int, default=0, help="remove all but the newest KEEP")

    def handle(self, *, folder: Path, keep: int, **_: Any) -> None:
        """Say the new backup's place."""
        try:
            with backups.alone(folder):
                self._take(folder)
                if keep > 0:
                    for old in backups.thin_out(folder, keep=keep):
                        self.stdout.write(f"removed {old}")
        except (backups.NoBackup, OSError) as error:
            raise CommandError(f"the backup failed: {error}") from error

    def _take(self, folder: Path) -> None:
        done = backups.take(folder)
        report = backups.verify(done)
        if report.faults:
            raise CommandError(f"{done} is damaged: {'; '.join(report.faults[:5])}")
        self.stdout.write(f"{done}: {report.files} files, {report.bytes / 1e6:.1f} MB, verified")
