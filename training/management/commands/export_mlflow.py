"""`manage.py export_mlflow`: sends finished results on to an MLflow server."""

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from training.export import exporter


class Command(BaseCommand):
    """Runs beside the workers, in their environment (it has mlflow); two at once do no harm."""

    help = "Send completed results to the MLflow server of PLATFORM_MLFLOW_TRACKING_URI."

    def add_arguments(self, parser: CommandParser) -> None:
        """One pass only, on demand."""
        parser.add_argument("--once", action="store_true", help="send what is due, then end")

    def handle(self, *, once: bool, **_: Any) -> None:
        """Until SIGTERM or SIGINT. Raises: CommandError, if one pass left something unsent."""
        if not settings.MLFLOW_TRACKING_URI:
            raise CommandError("PLATFORM_MLFLOW_TRACKING_URI is not set: nowhere to send results")
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        if not once:
            return exporter.run(stopped=stop.is_set)
        if failures := exporter.once(stopped=stop.is_set):
            raise CommandError(f"{failures} results could not be sent; the log says why")
        return None
