"""`manage.py backup FOLDER`: a consistent copy while the platform runs."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from training import backups
from training.dumps import NoBackup


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
                done = backups.take(folder)
                report = backups.summary(done)
                size = f"{report.bytes / 1e6:.1f} MB"
                self.stdout.write(f"{done}: {report.files} files, {size}, verified")
                if keep > 0:
                    for old in backups.thin_out(folder, keep=keep):
                        self.stdout.write(f"removed {old}")
        except (NoBackup, OSError, Error) as error:
            raise CommandError(f"the backup failed: {error}") from error
