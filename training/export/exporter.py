"""Sends what is due, one result after another, until stopped.

Safe to run twice at once, to be killed at any moment, and to find no server: what was not sent
stays in the outbox.
"""

import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from training.models import TrainingTask

from . import outbox, to_mlflow
from .outbox import Claim, Superseded

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0


class Stopped(Exception):
    """The process is asked to end; the result under way is given back."""


def run(*, stopped: Callable[[], bool]) -> None:
    """Send what is due, every few seconds, until stopped."""
    log.info("results go to MLflow at %s", to_mlflow.shown(settings.MLFLOW_TRACKING_URI))
    while not stopped():
        try:
            once(stopped=stopped)
        except (DatabaseError, InterfaceError) as error:
            log.warning("database: %s", error)
        finally:
            connection.close()
        _sleep(LOOK_EVERY_S, stopped)


def once(*, stopped: Callable[[], bool] = lambda: False) -> int:
    """Try everything that is due now; how many results could not be sent."""
    outbox.enlist()
    failures = 0
    while not stopped() and (claim := outbox.claim_next()):
        failures += not deliver(claim, stopped=stopped)
    return failures


def deliver(claim: Claim, *, stopped: Callable[[], bool] = lambda: False) -> bool:
    """Send one claimed result and record what came of it; False if it must be tried again."""
    try:
        _send(claim, stopped)
        outbox.sent(claim)
    except Stopped:
        outbox.release(claim)
        return False
    except (Superseded, TrainingTask.DoesNotExist) as error:
        log.warning("%s: %s", claim.task_id, error)
    except (DatabaseError, InterfaceError):
        # Ours, not MLflow's: the claim ends by itself.
        raise
    except Exception as error:  # whatever a server or a client library may do: kept, tried again
        _record_failure(claim, error)
        return False
    else:
        log.info("%s: sent to MLflow", claim.task_id)
    return True


def _send(claim: Claim, stopped: Callable[[], bool]) -> None:
    task = TrainingTask.objects.select_related("owner").get(pk=claim.task_id)

    def step_done() -> None:
        if stopped():
            raise Stopped
        outbox.renew(claim)

    to_mlflow.send(
        to_mlflow.connect(settings.MLFLOW_TRACKING_URI),
        task,
        run_id=claim.run_id,
        keep_run=lambda run_id: outbox.keep_run(claim, run_id),
        step_done=step_done,
    )


def _record_failure(claim: Claim, error: Exception) -> None:
    told = f"{type(error).__name__}: {error}"
    told = to_mlflow.without_secrets(told, settings.MLFLOW_TRACKING_URI)
    try:
        wait_s = outbox.failed(claim, told)
    except Superseded:
        return  # deleted meanwhile, or somebody else's: nobody waits for this failure
    # No traceback: it would show the address with its password.
    log.warning("%s: not sent, again in %.0f s: %s", claim.task_id, wait_s, told)


def _sleep(seconds: float, stopped: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not stopped() and time.monotonic() < end:
        time.sleep(0.1)
