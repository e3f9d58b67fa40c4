"""Figures that a worker computes of finished tasks, asked for once and kept.

The web has no pandas. What it can't work out itself it asks for here; a worker fills it in
(`work/figures.py`), and the next look finds it. Final tasks do not change, so a figure stays true.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from .models import Figure, TrainingTask

KEPT = timedelta(days=30)
"""A figure that nobody has asked for so long is forgotten."""
ASK_AGAIN = timedelta(seconds=20)
"""A ring may be lost: who still waits after this long rings again."""


@dataclass(frozen=True)
class Answer:
    """What is known of a figure.

    state: `waiting` for a worker, `ready`, or `failed` with its error; ring: a worker is to be told
    of the key.
    """

    key: str
    state: str
    value: dict[str, Any] | None = None
    error: str = ""
    ring: bool = False


def correlation(tasks: Sequence[TrainingTask]) -> Answer:
    """How alike the predictions of these completed tasks are. The caller rings, if told so."""
    attempts = sorted(f"{task.id}/{task.attempt}" for task in tasks)
    return _ask("correlation", {"attempts": attempts})


def keep(key: str, *, value: dict[str, Any] | None = None, error: str = "") -> None:
    """What came of a computation."""
    Figure.objects.filter(pk=key).update(value=value, error=error, computed_at=Now())


def _ask(kind: str, asked: dict[str, Any]) -> Answer:
    key = hashlib.sha256(f"{kind} {asked}".encode()).hexdigest()
    row, new = Figure.objects.get_or_create(key=key, defaults={"kind": kind, "asked": asked})
    if new:
        Figure.objects.filter(asked_at__lt=Now() - KEPT).delete()
        return Answer(key, "waiting", ring=True)
    if row.error:
        return Answer(key, "failed", error=row.error)
    if row.value is not None:
        return Answer(key, "ready", value=row.value)
    late = Figure.objects.filter(pk=key, asked_at__lt=Now() - ASK_AGAIN).update(asked_at=Now())
    return Answer(key, "waiting", ring=bool(late))
