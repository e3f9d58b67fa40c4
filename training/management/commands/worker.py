"""`manage.py worker QUEUE`: one worker process for one queue."""

import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from training.work import worker


class Command(BaseCommand):
    """Hears the queue's rings and leads its tasks, one at a time."""

    help = "Run one worker for one queue (cpu, torch or gpu)."

    def add_arguments(self, parser: CommandParser) -> None:
        """The queue, and the worker's name."""
        parser.add_argument("queue", choices=settings.QUEUES)
        parser.add_argument("--name", help="unique among all workers; by default QUEUE-HOST")

    def handle(self, *, queue: str, name: str | None, **_: Any) -> None:
        """Work until SIGTERM or SIGINT; a running task then goes back to the queue."""
        if settings.TRAINING_THREADS < 1:
            raise CommandError("PLATFORM_TRAINING_THREADS must be at least 1")
        worker.run(queue, slot=name or f"{queue}-{socket.gethostname()}")
