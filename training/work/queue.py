"""Rings a queue's bell. The job is named as text, so that ringing imports no engine."""

import logging
from typing import Any

import django_rq
from django.conf import settings
from redis.exceptions import RedisError
from rq import Worker
from rq.job import Job

log = logging.getLogger(__name__)

RUN_NEXT = "training.work.jobs.run_next"
COMPUTE = "training.work.figures.compute"
FIGURES = "figures"
"""The queue of figures: every worker hears it, whatever it trains."""
COMPUTE_WITHIN_S = 600
LAST_FAILURES = 5
RESULT_LIVES_S = 60


class RefusedJob(Exception):
    """Something in Redis names another callable than the one we ring for."""


class RunNextJob(Job):
    """A job that can name two functions only: whoever writes to Redis runs nothing else."""

    @property
    def func(self) -> Any:
        """One of the two allowed callables. Raises: RefusedJob."""
        if self.func_name not in (RUN_NEXT, COMPUTE) or self.instance is not None:
            raise RefusedJob(f"the job names {self.func_name!r}, not {RUN_NEXT!r} or {COMPUTE!r}")
        return super().func

    @property
    def success_callback(self) -> None:
        """None: callbacks would be a way to name another callable."""

    @property
    def failure_callback(self) -> None:
        """None: see `success_callback`."""

    @property
    def stopped_callback(self) -> None:
        """None: see `success_callback`."""


def ring(queue: str) -> bool:
    """Tell the queue's workers that there may be a pending task; False if nobody could hear.

    Never raises for Redis: the row is the promise, and the reconciler rings again.
    """
    try:
        django_rq.get_queue(queue).enqueue_call(
            RUN_NEXT,
            kwargs={"queue": queue},
            timeout=-1,
            result_ttl=RESULT_LIVES_S,
            failure_ttl=RESULT_LIVES_S,
        )
    except (RedisError, OSError) as error:
        log.warning("could not ring queue %s: %s; the reconciler will", queue, error)
        return False
    return True


def ring_for_figure(key: str) -> bool:
    """Tell the workers that a figure is asked for; False if nobody could hear.

    Never raises for Redis: who waits for the figure rings again.
    """
    try:
        django_rq.get_queue(FIGURES).enqueue_call(
            COMPUTE,
            kwargs={"key": key},
            timeout=COMPUTE_WITHIN_S,
            result_ttl=RESULT_LIVES_S,
            failure_ttl=RESULT_LIVES_S,
        )
    except (RedisError, OSError) as error:
        log.warning("could not ring for figure %s: %s", key, error)
        return False
    return True


def rung(queue: str) -> int:
    """How many rings wait to be heard. Raises: RedisError."""
    return int(django_rq.get_queue(queue).count)


def overview() -> list[dict[str, Any]]:
    """What RQ knows of each queue, for people: counts, its workers, its last failures.

    Nothing of it is the truth about a task. Empty where Redis does not answer.
    """
    try:
        return [_seen(name) for name in (*settings.QUEUES, FIGURES)]
    except (RedisError, OSError) as error:
        log.warning("redis: %s", error)
        return []


def _seen(name: str) -> dict[str, Any]:
    rings = django_rq.get_queue(name)
    failed = rings.failed_job_registry
    jobs = (rings.fetch_job(key) for key in failed.get_job_ids(end=LAST_FAILURES - 1))
    return {
        "name": name,
        "waiting": rings.count,
        "started": rings.started_job_registry.count,
        "failed": failed.count,
        "workers": [f"{one.name} ({one.get_state()})" for one in Worker.all(queue=rings)],
        "failures": [_why(job) for job in jobs if job],
    }


def _why(job: Job) -> str:
    """The end of what a failed job has told."""
    result = job.latest_result()
    return str(result.exc_string)[-2_000:] if result else f"{job.id}: nothing told"


def ping() -> bool:
    """Whether Redis answers."""
    try:
        return bool(django_rq.get_connection("cpu").ping())
    except (RedisError, OSError):
        return False


def facts() -> dict[str, Any] | None:
    """What Redis tells of itself; None if it does not answer."""
    try:
        told: dict[str, Any] = django_rq.get_connection("cpu").info()
    except (RedisError, OSError):
        return None
    return told
