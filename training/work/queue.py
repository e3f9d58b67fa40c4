"""Rings a queue's bell. The job is named as text, so that ringing imports no engine."""

import logging

import django_rq
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

RUN_NEXT = "training.work.jobs.run_next"
RESULT_LIVES_S = 60


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


def rung(queue: str) -> int:
    """How many rings wait to be heard. Raises: RedisError."""
    return int(django_rq.get_queue(queue).count)
