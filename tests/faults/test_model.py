"""The lifecycle against a model of it, in any order of moves that hypothesis can think of.

The model is a few plain fields per task. Leaders that were fenced, sightings that are stale and
requests for tasks that have moved on go on acting: that is what the guards are for. Each step
compares the row and the events of the task; at the end all open tasks are led to their end and
the audit looks at everything. The plain run tries 150 examples, always the same, CI 2,000;
`MODEL_EXAMPLES` says how many, `MODEL_RANDOM=1` that they be others each time.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests import factories
from tests.faults import mutants
from training import audit, lifecycle
from training.errors import AlreadyFinished, Fenced, NotFinished, NotFitting, NotFound, Pinned
from training.models import TrainingTask
from training.states import RequeueReason, Stage

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "150"))
STEPS = 25
# Who only wants to know whether it fails need not wait for the smallest example.
PHASES = [Phase.generate, *([Phase.shrink] if os.environ.get("MODEL_SHRINK") != "0" else [])]

FINAL = ("completed", "failed", "cancelled")


@dataclass
class Model:
    """What a task should be."""

    rank: tuple[Any, ...]
    max_attempts: int
    status: str = "pending"
    stage: str = "queued"
    progress: float = 0.0
    attempt: int = 0
    losses: int = 0
    cancel: bool = False
    finish: bool = False
    pinned: bool = False
    code: str = ""
    events: list[str] = field(default_factory=lambda: ["created"])

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    def end(self, status: str, *, code: str = "") -> None:
        self.status, self.code = status, code
        self.events.append(status)

    def give_back(self, reason: str) -> None:
        counts = reason != "shutdown"
        if self.cancel:
            self.end("cancelled")
        elif counts and self.losses + 1 >= self.max_attempts:
            self.end("failed", code=reason)
        else:
            self.status, self.stage, self.finish = "pending", "queued", False
            self.losses += counts
            self.events.append("requeued")


@dataclass(frozen=True)
class Sighting:
    """What a reconciler has read of a running task, perhaps long ago."""

    task_id: str
    attempt: int
    lease_until: datetime | None


Leader = tuple[str, int]
"""A task and the attempt under which somebody leads it, or thinks so."""


# Plain SQL, as a step does little else than compare: half of the time would go into the ORM.
COLUMNS = {
    "status": "status",
    "stage": "stage",
    "progress": "progress",
    "attempt": "attempt",
    "losses": "losses",
    "cancel": "cancel_requested_at IS NOT NULL",
    "finish": "finish_requested_at IS NOT NULL",
    "pinned": "pinned",
    "code": "error_code",
    "lease": "lease_until IS NOT NULL",
}
ROW = f"SELECT {', '.join(COLUMNS.values())} FROM training_trainingtask WHERE id = %s"  # noqa: S608
EVENTS = "SELECT seq, kind FROM training_taskevent WHERE task_id = %s ORDER BY seq"


class Lifecycle(RuleBasedStateMachine):
    """Moves of people, leaders and reconcilers."""

    tasks = Bundle("tasks")
    leaders = Bundle("leaders")
    sightings = Bundle("sightings")

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.owner = User.objects.get_or_create(username="owner")[0]
        self.models: dict[str, Model] = {}

    # ── people ──────────────────────────────────────────────────────────────────────

    @initialize(target=tasks)
    def first(self) -> str:
        return self._create(priority=1, max_attempts=2)

    @rule(target=tasks, priority=st.integers(0, 2), max_attempts=st.integers(1, 3))
    def create(self, priority: int, max_attempts: int) -> str:
        return self._create(priority=priority, max_attempts=max_attempts)

    def _create(self, *, priority: int, max_attempts: int) -> str:
        task = lifecycle.create(
            TrainingTask(
                owner=self.owner,
                priority=priority,
                max_attempts=max_attempts,
                posted="{}",
                config={},
                queue="cpu",
            )
        )
        self.models[task.id] = Model((priority, task.created_at, task.id), max_attempts)
        self._compare(task.id)
        return task.id

    @rule(task_id=tasks)
    def cancel(self, task_id: str) -> None:
        model = self.models.get(task_id)
        if model is None or model.is_final:
            error = AlreadyFinished if model else NotFound
            return self._refused(error, lambda: lifecycle.request_cancel(task_id), task_id)
        lifecycle.request_cancel(task_id)
        if model.status == "pending":
            model.end("cancelled")
        elif not model.cancel:
            model.cancel = True
            model.events.append("cancel_requested")
        return self._compare(task_id)

    @rule(task_id=tasks)
    def finish(self, task_id: str) -> None:
        def ask() -> object:
            return lifecycle.request_finish(task_id)

        model = self.models.get(task_id)
        if model is None or model.is_final:
            return self._refused(AlreadyFinished if model else NotFound, ask, task_id)
        fits = model.status == "running" and model.stage in ("data", "fit") and not model.cancel
        if not fits and not model.finish:
            return self._refused(NotFitting, ask, task_id)
        ask()
        if fits and not model.finish:
            model.finish = True
            model.events.append("finish_requested")
        return self._compare(task_id)

    @rule(task_id=tasks, pinned=st.booleans())
    def pin(self, task_id: str, pinned: bool) -> None:
        lifecycle.pin(task_id, pinned=pinned)
        if model := self.models.get(task_id):
            model.pinned = pinned
            self._compare(task_id)

    @rule(task_id=tasks)
    def delete(self, task_id: str) -> None:
        def ask() -> object:
            return lifecycle.delete(task_id)

        model = self.models.get(task_id)
        if model is None:
            return self._refused(NotFound, ask, task_id)
        if model.pinned:
            return self._refused(Pinned, ask, task_id)
        if not model.is_final:
            return self._refused(NotFinished, ask, task_id)
        ask()
        del self.models[task_id]
        return self._compare(task_id)

    # ── leaders ─────────────────────────────────────────────────────────────────────

    @rule(target=leaders)
    def claim(self) -> Leader:
        pending = [(m.rank, task_id) for task_id, m in self.models.items() if m.status == "pending"]
        task = lifecycle.claim_next("cpu", extras=[], worker="w")
        if not pending:
            assert task is None
            return "task-nobody", 0
        assert task is not None
        assert task.id == min(pending)[1]
        return self._claimed(task)

    @rule(target=leaders, task_id=tasks)
    def claim_what_another_may_have_taken(self, task_id: str) -> Leader:
        """`claim_next` has listed it, and then it moved on."""
        model = self.models.get(task_id)
        task = lifecycle._claim(task_id, worker="w")
        if model is None or model.status != "pending":
            assert task is None
            return task_id, (model.attempt if model else 0)
        assert task is not None
        return self._claimed(task)

    def _claimed(self, task: TrainingTask) -> Leader:
        model = self.models[task.id]
        model.status, model.stage, model.progress = "running", "data", 0.0
        model.attempt += 1
        model.events.append("started")
        assert task.attempt == model.attempt
        self._compare(task.id)
        return task.id, model.attempt

    @rule(
        leader=leaders,
        progress=st.sampled_from([None, 0.0, 10.0, 55.0, 100.0]),
        stage=st.sampled_from([None, Stage.FIT, Stage.BACKTEST]),
        log=st.sampled_from(["", "a line\n"]),
    )
    def report(self, leader: Leader, progress: float | None, stage: Any, log: str) -> None:
        news = lifecycle.News(
            progress=progress, stages=((stage, "on"),) if stage else (), log=log, message=None
        )
        said = (["stage"] if stage else []) + (["progress"] if progress is not None else [])
        said += ["log"] if log else []
        if not said:
            return
        if model := self._led(leader, lambda: lifecycle.report(leader[0], news, attempt=leader[1])):
            model.stage = stage or model.stage
            model.progress = max(model.progress, min(progress or 0.0, 99.9))
            model.events += said
            self._compare(leader[0])

    @rule(leader=leaders)
    def renew(self, leader: Leader) -> None:
        if model := self._led(leader, lambda: lifecycle.renew(leader[0], attempt=leader[1])):
            orders = lifecycle.look(leader[0], attempt=leader[1])
            assert (orders.cancel, orders.finish) == (model.cancel, model.finish)
            lease = TrainingTask.objects.get(pk=leader[0]).lease_until
            assert lease > timezone.now()
            self._compare(leader[0])

    @rule(leader=leaders)
    def look(self, leader: Leader) -> None:
        self._led(leader, lambda: lifecycle.look(leader[0], attempt=leader[1]))

    @rule(leader=leaders)
    def complete(self, leader: Leader) -> None:
        def end() -> object:
            return lifecycle.complete(leader[0], attempt=leader[1], result={"metrics": {"ic": 0.5}})

        if model := self._led(leader, end):
            model.stage, model.progress = "save", 100.0
            model.end("completed")
            self._compare(leader[0])

    @rule(leader=leaders)
    def fail(self, leader: Leader) -> None:
        def end() -> object:
            return lifecycle.fail(leader[0], attempt=leader[1], code="x", error="y")

        if model := self._led(leader, end):
            model.end("failed", code="x")
            self._compare(leader[0])

    @rule(leader=leaders)
    def stop(self, leader: Leader) -> None:
        if model := self._led(
            leader, lambda: lifecycle.cancel_running(leader[0], attempt=leader[1])
        ):
            model.end("cancelled")
            self._compare(leader[0])

    @rule(leader=leaders, reason=st.sampled_from(list(RequeueReason)))
    def requeue(self, leader: Leader, reason: RequeueReason) -> None:
        def end() -> object:
            return lifecycle.requeue(leader[0], attempt=leader[1], reason=reason)

        if model := self._led(leader, end):
            model.give_back(reason.value)
            self._compare(leader[0])

    def _led(self, leader: Leader, act: Callable[[], object]) -> Model | None:
        """The model, if the leader is the one and its act went through; else it was fenced."""
        model = self.models.get(leader[0])
        if model and model.status == "running" and model.attempt == leader[1]:
            act()
            return model
        self._refused(Fenced, act, leader[0])
        return None

    # ── time, and reconcilers ───────────────────────────────────────────────────────

    @precondition(lambda self: any(m.status == "running" for m in self.models.values()))
    @rule(target=sightings, task_id=tasks, is_over=st.booleans())
    def see(self, task_id: str, is_over: bool) -> Sighting:
        """A reconciler reads the row; before that the leader may have been silent for long."""
        model = self.models.get(task_id)
        if model is None or model.status != "running":
            return Sighting(task_id, 0, None)
        row = TrainingTask.objects.filter(pk=task_id)
        if is_over:
            row.update(lease_until=timezone.now() - timedelta(minutes=1))
        return Sighting(task_id, *row.values_list("attempt", "lease_until")[0])

    @rule(seen=sightings)
    def expire(self, seen: Sighting) -> None:
        model = self.models.get(seen.task_id)
        now = TrainingTask.objects.filter(pk=seen.task_id).first()
        task = lifecycle.expire(seen.task_id, attempt=seen.attempt, lease_until=seen.lease_until)
        is_over = (
            model is not None
            and now is not None
            and model.status == "running"
            and (model.attempt, now.lease_until) == (seen.attempt, seen.lease_until)
            and now.lease_until < timezone.now()
        )
        assert (task is not None) == is_over
        if model and is_over:
            model.give_back("worker_lost")
        self._compare(seen.task_id)

    @rule(target=leaders, leader=leaders)
    def lose(self, leader: Leader) -> Leader:
        """A leader falls silent, a reconciler acts, and another worker takes the task.

        The old leader stays among those who act: this is what the attempt's number is for.
        """
        task_id, attempt = leader
        model = self.models.get(task_id)
        if model is None or (model.status, model.attempt) != ("running", attempt):
            return leader
        self.expire(self.see(task_id, is_over=True))
        if model.status != "pending":
            return leader
        return self._claimed(factories.start(TrainingTask(pk=task_id)))

    # ── comparing ───────────────────────────────────────────────────────────────────

    def _refused(self, error: type[Exception], act: Callable[[], object], task_id: str) -> None:
        with pytest.raises(error):
            act()
        self._compare(task_id)

    def _compare(self, task_id: str) -> None:
        model = self.models.get(task_id)
        with connection.cursor() as cursor:
            cursor.execute(ROW, [task_id])
            row = cursor.fetchone()
            cursor.execute(EVENTS, [task_id])
            told = cursor.fetchall()
        if model is None:
            assert (row, told) == (None, [])
            return
        assert dict(zip(COLUMNS, row, strict=True)) == {
            "status": model.status,
            "stage": model.stage,
            "progress": model.progress,
            "attempt": model.attempt,
            "losses": model.losses,
            "cancel": model.cancel,
            "finish": model.finish,
            "pinned": model.pinned,
            "code": model.code,
            "lease": model.status == "running",
        }
        assert told == list(enumerate(model.events, 1))

    def teardown(self) -> None:
        """Everything that is open comes to an end; the audit of all examples comes last."""
        is_well = False
        try:
            for task_id, model in list(self.models.items()):
                while not model.is_final:
                    if model.status == "pending":
                        self._claimed(factories.start(TrainingTask(pk=task_id)))
                    self.complete((task_id, model.attempt))
            is_well = True
        finally:
            # The next example must find no open task; rows of an example that fell are gone.
            transaction.set_rollback(not is_well)
            self.atomic.__exit__(None, None, None)


@pytest.mark.django_db
@pytest.mark.timeout(900 + 5 * EXAMPLES)
def test_the_lifecycle_does_what_the_model_says_in_any_order(settings):
    settings.ARTIFACTS_DIR.mkdir()

    run_state_machine_as_test(Lifecycle, settings=_examples())

    report = audit.run()
    assert report.tasks == TrainingTask.objects.count() > EXAMPLES / 2
    assert report.violations == []


def _examples() -> settings:
    return settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize="MODEL_RANDOM" not in os.environ,
        suppress_health_check=list(HealthCheck),
        phases=PHASES,
    )


@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_each_mutant_still_has_its_place(name):
    assert mutants.mutated(name) != (mutants.ROOT / mutants.TARGET).read_text()
