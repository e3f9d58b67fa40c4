"""Which results are due, and that one of two exporters sends each."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from training import lifecycle
from training.export import outbox
from training.export.outbox import Superseded
from training.models import Export, TrainingTask
from training.states import Status

pytestmark = pytest.mark.django_db


def make_due(task: TrainingTask) -> None:
    Export.objects.filter(pk=task.pk).update(next_at=Now() - timedelta(seconds=1))


@pytest.mark.parametrize("status", list(Status))
def test_only_completed_tasks_come_into_the_outbox_and_each_once(make_task, status):
    make_task(status=status)

    first, again = outbox.enlist(), outbox.enlist()

    assert first == (status == Status.COMPLETED)
    assert again == 0


def test_a_result_older_than_the_horizon_stays_here(make_task):
    old, young = make_task(status=Status.COMPLETED), make_task(status=Status.COMPLETED)
    for task, age in ((old, outbox.HORIZON), (young, outbox.HORIZON - timedelta(minutes=1))):
        ended = timezone.now() - age
        TrainingTask.objects.filter(pk=task.pk).update(completed_at=ended)

    outbox.enlist()

    assert list(Export.objects.values_list("pk", flat=True)) == [young.pk]


def test_a_claimed_result_is_nobody_elses_until_the_hold_ends(make_task):
    task = make_task(status=Status.COMPLETED)
    outbox.enlist()

    first = outbox.claim_next()
    meanwhile = outbox.claim_next()
    make_due(task)
    second = outbox.claim_next()

    assert first is not None
    assert second is not None
    assert meanwhile is None
    assert (first.tries, second.tries) == (1, 2)


def test_two_exporters_that_saw_the_same_row_do_not_both_claim_it(make_task, monkeypatch):
    make_task(status=Status.COMPLETED)
    outbox.enlist()
    claims = []
    from_now = outbox._from_now

    def let_the_other_in(later: timedelta) -> object:
        # Called between the read and the update: the other exporter does both here.
        monkeypatch.setattr(outbox, "_from_now", from_now)
        claims.append(outbox.claim_next())
        return from_now(later)

    monkeypatch.setattr(outbox, "_from_now", let_the_other_in)
    claims.append(outbox.claim_next())

    assert claims[0] is not None
    assert claims[1] is None
    assert Export.objects.get().tries == 1


@pytest.mark.parametrize(
    "change",
    [
        outbox.renew,
        outbox.sent,
        outbox.release,
        lambda claim: outbox.failed(claim, "late"),
        lambda claim: outbox.keep_run(claim, "late"),
    ],
)
@pytest.mark.parametrize("why", ["taken over", "deleted"])
def test_an_exporter_that_lost_its_claim_changes_nothing(make_task, change, why):
    task = make_task(status=Status.COMPLETED)
    outbox.enlist()
    stale = outbox.claim_next()
    if why == "deleted":
        lifecycle.delete(task.id)
    else:
        make_due(task)
        outbox.claim_next()
    before = list(Export.objects.values())

    with pytest.raises(Superseded):
        change(stale)

    assert list(Export.objects.values()) == before


def test_a_failure_is_kept_and_waits_longer_each_time_up_to_ten_minutes(make_task):
    task = make_task(status=Status.COMPLETED)
    outbox.enlist()
    waits = []

    for _ in range(9):
        make_due(task)
        claim = outbox.claim_next()
        waits.append(outbox.failed(claim, "no\0 answer"))
        row = Export.objects.get()
        left_s = (row.next_at - timezone.now()).total_seconds()
        assert waits[-1] - 5 < left_s <= waits[-1] + 1

    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    assert row.tries == 9
    assert "no" in row.error
    assert outbox.wait_after(10_000) == 600
    assert outbox.claim_next() is None


def test_a_released_result_is_due_at_once(make_task):
    make_task(status=Status.COMPLETED)
    outbox.enlist()
    outbox.release(outbox.claim_next())

    assert outbox.claim_next() is not None


def test_a_sent_result_tells_its_run(make_task):
    task = make_task(status=Status.COMPLETED)
    outbox.enlist()
    claim = outbox.claim_next()
    assert claim is not None
    outbox.keep_run(claim, "run-7")

    outbox.sent(claim)

    task.refresh_from_db()
    assert task.result["mlflow_run_id"] == "run-7"
