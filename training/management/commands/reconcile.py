"""`manage.py reconcile`: finds lost leaders and lost rings."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from training.work import reconcile


class Command(BaseCommand):
    """Runs beside the workers; two at once do no harm."""

    help = "Act for lost workers and ring again for pending tasks, every few seconds."

    def add_arguments(self, parser: CommandParser) -> None:
        """One pass only, on demand."""
        parser.add_argument("--once", action="store_true", help="one pass, then end")

    def handle(self, *, once: bool, **_: Any) -> None:
        """Until SIGTERM or SIGINT."""
        if once:
            return reconcile.once()
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        return reconcile.run(stopped=stop.is_set)
