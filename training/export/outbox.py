"""Which results are due, and who is sending one: guarded updates, so that two exporters share.

`Export.tries` counts the claims and fences: an exporter that was away too long and whose result
somebody else has claimed meanwhile changes nothing any more.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import DateTimeField, ExpressionWrapper, F, QuerySet, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from training import lifecycle
from training.models import Export, TrainingTask
from training.sanitise import clean_text
from training.states import Status

HORIZON = timedelta(days=7)
"""When the export is switched on, results that ended so lately go too, older ones stay here."""

HOLD = timedelta(minutes=3)
"""A claim lasts so long after its last sign of life: longer than MLflow waits for one answer."""

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 600.0


class Superseded(Exception):
    """The claim is over: another exporter has the result, or its task was deleted."""


@dataclass(frozen=True)
class Claim:
    """The right to send one result; run_id: MLflow's, empty as long as there is none."""

    task_id: str
    tries: int
    run_id: str


def enlist() -> int:
    """Put the completed tasks of the last days that have no row yet in the outbox; how many."""
    fresh = TrainingTask.objects.filter(
        status=Status.COMPLETED, export__isnull=True, completed_at__gte=Now() - HORIZON
    )
    # A second exporter may enlist the same task at the same time.
    rows = [Export(task_id=task_id) for task_id in fresh.values_list("pk", flat=True)]
    return len(Export.objects.bulk_create(rows, ignore_conflicts=True))


def claim_next() -> Claim | None:
    """Claim the result that has been due longest; None if nothing is due."""
    due = Export.objects.filter(sent_at__isnull=True, next_at__lte=Now()).order_by("next_at", "pk")
    while row := due.first():
        seen = due.order_by().filter(pk=row.pk, tries=row.tries)
        if seen.update(tries=F("tries") + 1, next_at=_from_now(HOLD)):
            return Claim(row.pk, row.tries + 1, row.run_id)
    return None


def renew(claim: Claim) -> None:
    """A sign of life from whoever sends. Raises: Superseded."""
    _change(claim, next_at=_from_now(HOLD))


def keep_run(claim: Claim, run_id: str) -> None:
    """Remember the run as soon as it exists, so that a retry continues it. Raises: Superseded."""
    _change(claim, run_id=run_id)


def sent(claim: Claim) -> None:
    """The result is there, whole; it tells its run from now on. Raises: Superseded."""
    with transaction.atomic():
        _change(claim, sent_at=Now(), error="")
        row = Export.objects.get(pk=claim.task_id)
        lifecycle.note_export(claim.task_id, run_id=row.run_id)


def failed(claim: Claim, error: str) -> float:
    """Keep the error and try again later; in how many seconds. Raises: Superseded."""
    wait_s = wait_after(claim.tries)
    _change(claim, next_at=_from_now(timedelta(seconds=wait_s)), error=clean_text(error))
    return wait_s


def release(claim: Claim) -> None:
    """Give the result back, due at once: this exporter stops. Raises: Superseded."""
    _change(claim, next_at=Now())


def wait_after(tries: int) -> float:
    """Seconds before the next try: 5, 10, 20 … and never more than ten minutes."""
    doublings = min(tries - 1, 10)
    return min(FIRST_WAIT_S * 2.0**doublings, LONGEST_WAIT_S)


def _change(claim: Claim, **changes: object) -> None:
    if not _held(claim).update(**changes):
        raise Superseded("it was deleted, or another exporter has it")


def _held(claim: Claim) -> QuerySet[Export]:
    return Export.objects.filter(pk=claim.task_id, tries=claim.tries, sent_at__isnull=True)


def _from_now(later: timedelta) -> Combinable:
    """An instant by the database's clock."""
    return ExpressionWrapper(Now() + Value(later), output_field=DateTimeField())
