"""The transitions: what may become what, and that each move is told exactly once."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from training import audit, events, lifecycle
from training.errors import AlreadyFinished, Fenced, NotFinished, NotFitting, NotFound, Pinned
from training.models import LogChunk, MetricPoint, TaskEvent, TrainingTask
from training.states import FINAL, MOVES, RequeueReason, Stage, Status

pytestmark = pytest.mark.django_db


def kinds(task: TrainingTask) -> list[str]:
    return list(task.events.order_by("seq").values_list("kind", flat=True))


def seqs(task: TrainingTask) -> list[int]:
    return list(task.events.order_by("seq").values_list("seq", flat=True))


def expired(task: TrainingTask) -> TrainingTask:
    """The task with a lease that is over, as a dead leader leaves it."""
    past = timezone.now() - timedelta(seconds=60)
    TrainingTask.objects.filter(pk=task.pk).update(lease_until=past)
    task.refresh_from_db()
    return task


ACTIONS = {
    "complete": lambda t: lifecycle.complete(t.id, attempt=t.attempt, result={}),
    "fail": lambda t: lifecycle.fail(t.id, attempt=t.attempt, code="x", error="y"),
    "cancel_running": lambda t: lifecycle.cancel_running(t.id, attempt=t.attempt),
    "requeue": lambda t: lifecycle.requeue(t.id, attempt=t.attempt, reason=RequeueReason.SHUTDOWN),
    "request_cancel": lambda t: lifecycle.request_cancel(t.id),
}
BECOMES = {
    "complete": {Status.RUNNING: Status.COMPLETED},
    "fail": {Status.RUNNING: Status.FAILED},
    "cancel_running": {Status.RUNNING: Status.CANCELLED},
    "requeue": {Status.RUNNING: Status.PENDING},
    "request_cancel": {Status.PENDING: Status.CANCELLED, Status.RUNNING: Status.RUNNING},
}


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("action", list(ACTIONS))
def test_every_action_on_every_status_moves_as_the_table_says_or_changes_nothing(
    make_task, action, status
):
    task = make_task(status=status)
    before = kinds(task)

    try:
        ACTIONS[action](task)
    except (Fenced, AlreadyFinished):
        assert status not in BECOMES[action]
    task.refresh_from_db()

    expected = BECOMES[action].get(status, status)
    assert task.status == expected
    assert expected == status or expected in MOVES[status]
    assert len(kinds(task)) == len(before) + (status in BECOMES[action])
    assert seqs(task) == list(range(1, task.last_seq + 1))


def test_the_oldest_of_the_most_urgent_is_claimed_first(make_task):
    low = make_task(priority=2)
    first = make_task(priority=1)
    second = make_task(priority=1)
    high = make_task(priority=0)

    order = [lifecycle.claim_next("cpu", extras=[], worker="w").id for _ in range(4)]

    assert order == [high.id, first.id, second.id, low.id]
    assert lifecycle.claim_next("cpu", extras=[], worker="w") is None


def test_a_task_is_only_claimed_by_a_worker_that_has_what_it_needs(make_task):
    task = make_task(needs="xgboost")

    assert lifecycle.claim_next("cpu", extras=["catboost"], worker="w") is None
    assert lifecycle.claim_next("torch", extras=["xgboost"], worker="w") is None
    assert lifecycle.claim_next("cpu", extras=["xgboost"], worker="w").id == task.id


def test_a_report_of_another_attempt_is_refused_and_leaves_no_trace(make_task):
    task = make_task(status=Status.RUNNING)
    news = lifecycle.News(progress=50.0, message="late", log="late\n")

    with pytest.raises(Fenced):
        lifecycle.report(task.id, news, attempt=task.attempt + 1)

    task.refresh_from_db()
    assert task.progress == 0.0
    assert "late" not in task.message
    assert not LogChunk.objects.exists()
    assert seqs(task) == list(range(1, task.last_seq + 1))


@pytest.mark.parametrize("action", ["complete", "fail", "cancel_running", "requeue"])
def test_the_leader_of_an_attempt_that_was_lost_ends_nothing(make_task, action):
    lost = expired(make_task(status=Status.RUNNING))
    lifecycle.expire(lost.id, attempt=1, lease_until=lost.lease_until)
    lifecycle.claim_next("cpu", extras=[], worker="w2")

    with pytest.raises(Fenced):
        ACTIONS[action](lost)

    now = TrainingTask.objects.get(pk=lost.pk)
    assert (now.status, now.attempt, now.worker) == (Status.RUNNING, 2, "w2")
    assert kinds(now) == ["created", "started", "requeued", "started"]


def test_progress_never_goes_down_and_never_reaches_100_while_running(make_task):
    task = make_task(status=Status.RUNNING)

    for told in (30.0, 10.0, 200.0):
        lifecycle.report(task.id, lifecycle.News(progress=told), attempt=task.attempt)

    told = task.events.filter(kind="progress").order_by("seq")
    assert list(told.values_list("progress", flat=True)) == [30.0, 30.0, 99.9]


def test_a_report_keeps_points_and_log_and_numbers_its_events(make_task):
    task = make_task(status=Status.RUNNING)
    at = timezone.now()
    news = lifecycle.News(
        progress=10.0,
        message="round 1",
        stages=((Stage.FIT, "fitting"),),
        points=(("valid.l2", 1, 0.5, at), ("valid.l2", 2, float("nan"), at)),
        log="äöü\n",
    )

    lifecycle.report(task.id, news, attempt=task.attempt)

    task.refresh_from_db()
    assert kinds(task)[-4:] == ["stage", "progress", "metric", "log"]
    assert seqs(task) == list(range(1, task.last_seq + 1))
    assert task.stage == Stage.FIT
    points = MetricPoint.objects.order_by("step").values_list("value", flat=True)
    assert list(points) == [0.5, None]
    assert LogChunk.objects.get().size == len("äöü\n".encode())


def test_a_report_that_comes_twice_keeps_one_log(make_task):
    task = make_task(status=Status.RUNNING)

    for _ in range(2):
        lifecycle.report(task.id, lifecycle.News(log="once\n"), attempt=task.attempt)

    assert LogChunk.objects.count() == 1


def test_a_report_that_comes_twice_with_more_behind_it_leaves_no_hole_in_the_log(make_task):
    task = make_task(status=Status.RUNNING)

    for offset, text in ((0, "one\n"), (0, "one\ntwo\n"), (8, "three\n")):
        news = lifecycle.News(log=text, log_offset=offset)
        lifecycle.report(task.id, news, attempt=task.attempt)

    kept = LogChunk.objects.order_by("offset").values_list("text", flat=True)
    assert "".join(kept) == "one\ntwo\nthree\n"
    assert audit.run().violations == []


def test_what_json_can_not_hold_is_repaired_before_it_is_written(make_task):
    task = make_task(status=Status.RUNNING)
    result = {"metrics": {"ic": float("inf"), "icir": 0.5}, "text": "nul\0 and \ud800"}

    lifecycle.complete(task.id, attempt=task.attempt, result=result)

    task.refresh_from_db()
    assert task.result["metrics"] == {"ic": None, "icir": 0.5}
    assert "\0" not in task.result["text"]
    assert task.ic is None
    assert task.icir == 0.5


def test_losing_a_worker_starts_another_attempt_until_none_is_left(make_task):
    task = make_task(status=Status.RUNNING, max_attempts=2)

    first = lifecycle.expire(task.id, attempt=1, lease_until=expired(task).lease_until)
    again = lifecycle.claim_next("cpu", extras=[], worker="w2")
    second = lifecycle.expire(again.id, attempt=2, lease_until=expired(again).lease_until)

    assert (first.status, first.losses) == (Status.PENDING, 1)
    assert (second.status, second.error_code) == (Status.FAILED, "worker_lost")
    assert kinds(task) == ["created", "started", "requeued", "started", "failed"]


def test_a_shutdown_uses_up_no_attempt(make_task):
    task = make_task(status=Status.RUNNING, max_attempts=1)

    for attempt in (1, 2, 3):
        lifecycle.requeue(task.id, attempt=attempt, reason=RequeueReason.SHUTDOWN)
        assert lifecycle.claim_next("cpu", extras=[], worker="w").attempt == attempt + 1

    task.refresh_from_db()
    assert task.losses == 0


def test_the_next_attempt_begins_at_nought(make_task):
    task = make_task(status=Status.RUNNING)
    lifecycle.report(task.id, lifecycle.News(progress=50.0), attempt=1)
    lifecycle.requeue(task.id, attempt=1, reason=RequeueReason.SHUTDOWN)

    assert lifecycle.claim_next("cpu", extras=[], worker="w").progress == 0.0


def test_a_lease_that_still_holds_is_not_expired(make_task):
    task = make_task(status=Status.RUNNING)

    assert lifecycle.expire(task.id, attempt=1, lease_until=task.lease_until) is None


def test_a_lease_that_was_renewed_meanwhile_is_not_expired(make_task):
    task = expired(make_task(status=Status.RUNNING))
    lifecycle.renew(task.id, attempt=1)

    assert lifecycle.expire(task.id, attempt=1, lease_until=task.lease_until) is None


def test_who_saw_an_older_lease_expires_nothing(make_task):
    """It was renewed and ran out again: whoever sees that may act, by what they see."""
    seen = expired(make_task(status=Status.RUNNING)).lease_until
    lifecycle.renew(TrainingTask.objects.get().id, attempt=1)
    task = expired(TrainingTask.objects.get())

    assert lifecycle.expire(task.id, attempt=1, lease_until=seen) is None

    assert kinds(task) == ["created", "started"]


def test_a_lost_task_whose_cancel_was_asked_for_is_cancelled(make_task):
    task = make_task(status=Status.RUNNING)
    lifecycle.request_cancel(task.id)

    ended = lifecycle.expire(task.id, attempt=1, lease_until=expired(task).lease_until)

    assert ended.status == Status.CANCELLED


def test_asking_twice_to_cancel_gives_one_event(make_task):
    task = make_task(status=Status.RUNNING)

    lifecycle.request_cancel(task.id)
    lifecycle.request_cancel(task.id)

    assert kinds(task).count("cancel_requested") == 1
    assert lifecycle.look(task.id, attempt=1).cancel


def test_finishing_early_is_refused_where_there_is_no_fit(make_task):
    task = make_task(status=Status.RUNNING)
    news = lifecycle.News(stages=((Stage.BACKTEST, ""),))
    lifecycle.report(task.id, news, attempt=1)

    with pytest.raises(NotFitting):
        lifecycle.request_finish(task.id)


def test_finishing_early_is_refused_where_a_cancel_was_asked_for(make_task):
    task = make_task(status=Status.RUNNING)
    lifecycle.request_cancel(task.id)

    with pytest.raises(NotFitting):
        lifecycle.request_finish(task.id)

    assert kinds(task) == ["created", "started", "cancel_requested"]


def test_the_next_attempt_is_not_finished_early_for_a_wish_about_the_last(make_task):
    task = make_task(status=Status.RUNNING)
    lifecycle.request_finish(task.id)

    lifecycle.requeue(task.id, attempt=1, reason=RequeueReason.HOST_LOST)
    again = lifecycle.claim_next("cpu", extras=[], worker="w2")

    assert lifecycle.look(task.id, attempt=2).finish is False
    assert again.finish_requested_at is None


def test_a_task_that_does_not_exist_is_not_found(db):
    for ask in (lifecycle.request_cancel, lifecycle.request_finish, lifecycle.delete):
        with pytest.raises(NotFound):
            ask("task-nobody")


@pytest.mark.parametrize("status", [s for s in Status if s not in FINAL])
def test_only_final_tasks_are_deleted(make_task, status):
    task = make_task(status=status)

    with pytest.raises(NotFinished):
        lifecycle.delete(task.id)

    assert TrainingTask.objects.filter(pk=task.id).exists()


def test_a_pinned_task_is_not_deleted(make_task):
    task = make_task(status=Status.COMPLETED)
    lifecycle.pin(task.id, pinned=True)

    with pytest.raises(Pinned):
        lifecycle.delete(task.id)


def test_a_move_that_is_rolled_back_announces_nothing(
    make_task, django_capture_on_commit_callbacks
):
    task = make_task(status=Status.RUNNING)
    heard = []
    events.recorded.connect(lambda messages, **_: heard.extend(messages), weak=False)

    with django_capture_on_commit_callbacks(execute=True):
        try:
            with transaction.atomic():
                lifecycle.request_cancel(task.id)
                raise RuntimeError
        except RuntimeError:
            pass

    assert heard == []


def test_the_database_refuses_a_second_final_event(make_task):
    task = make_task(status=Status.COMPLETED)
    TrainingTask.objects.filter(pk=task.pk).update(last_seq=F("last_seq") + 1)
    final = task.events.get(kind="completed")

    with pytest.raises(IntegrityError), transaction.atomic():
        TaskEvent.objects.create(
            task=task,
            seq=final.seq + 1,
            attempt=1,
            kind="failed",
            status="failed",
            stage="save",
            progress=0.0,
        )


def test_the_database_refuses_a_final_status_without_its_time(make_task):
    task = make_task(status=Status.RUNNING)

    with pytest.raises(IntegrityError), transaction.atomic():
        TrainingTask.objects.filter(pk=task.pk).update(status=Status.COMPLETED)


def test_the_mlflow_run_joins_the_result_and_leaves_the_rest_alone(make_task):
    task = make_task(status=Status.COMPLETED)
    before = dict(task.result)

    lifecycle.note_export(task.id, run_id="run-1")

    task.refresh_from_db()
    assert task.result == {**before, "mlflow_run_id": "run-1"}
    assert task.status == Status.COMPLETED


def test_listeners_hear_of_a_deletion_with_its_time(make_task, django_capture_on_commit_callbacks):
    task = make_task(status=Status.COMPLETED)
    heard = []
    events.recorded.connect(lambda messages, **_: heard.extend(messages), weak=False)

    with django_capture_on_commit_callbacks(execute=True):
        lifecycle.delete(task.id)

    told = [message for message in heard if message["type"] == "deleted"]
    assert [message["seq"] for message in told] == [task.last_seq + 1]
    assert told[0]["timestamp"].endswith("Z")
