"""`manage.py restore BACKUP`: the way back, into an empty database."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from training import backups
from training.dumps import NoBackup


class Command(BaseCommand):
    """Verifies the backup first, and what was restored at the end."""

    help = "Restore a backup into the empty place that the settings name, or only verify it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Which, and whether to look only."""
        parser.add_argument("backup", type=Path)
        parser.add_argument("--verify", action="store_true", help="look only, change nothing")

        parser.add_argument(
            "--replace", action="store_true", help="also over what the database has"
        )

    def handle(self, *, backup: Path, verify: bool, replace: bool, **_: Any) -> None:
        """Exit code 1 and the faults, if there are any."""
        try:
            report = (
                backups.verify(backup) if verify else backups.restore(backup, replacing=replace)
            )
        except (NoBackup, Error) as error:
            raise CommandError(str(error)) from error
        for fault in report.faults:
            self.stderr.write(fault)
        tasks = ", ".join(f"{count} {status}" for status, count in sorted(report.tasks.items()))
        self.stdout.write(f"{report.files} files, {report.bytes / 1e6:.1f} MB; tasks: {tasks}")
        if report.requeued:
            self.stdout.write(f"{report.requeued} that ran are pending again")
        if report.faults:
            raise CommandError(f"{len(report.faults)} faults")
