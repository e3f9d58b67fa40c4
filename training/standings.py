"""Who is ahead: completed tasks on the same data and test period, and how much of it is luck.

A board is a dataset, its version and a test period. Everyone sees the tasks that are theirs to
see, and the tries among them: what a winner was chosen from.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Avg, Count, F, Max

from . import luck, reports
from .errors import NotFound
from .models import HEADLINES, TaskQuerySet, TrainingTask
from .states import Status

SHOWN = (*HEADLINES, "turnover")
DAYS_PER_YEAR = 238
"""By which Qlib's risk analysis annualises: the information ratio is a daily one by its root.
Source: Qlib 0.9.7, qlib/contrib/evaluate.py, risk_analysis."""
MOST_BOARDS = 200

User = AbstractBaseUser | AnonymousUser


@dataclass(frozen=True)
class Board:
    """What results can be compared on."""

    dataset: str
    dataset_version: str
    test_from: date
    test_to: date


@dataclass(frozen=True)
class Tries:
    """What a winner was chosen from.

    count: completed tasks; different: those with information ratios of their own, so that one
    config run twice counts once; variance: of the different daily Sharpe ratios; expected_best:
    the daily Sharpe ratio that the best would show by chance.
    """

    count: int
    different: int
    variance: float
    expected_best: float


def test_period(config: Mapping[str, Any]) -> tuple[date | None, date | None]:
    """First and last day of a workflow's test segment; None where it is open or absent."""
    kwargs = config.get("task", {}).get("dataset", {}).get("kwargs", {})
    span = (kwargs.get("segments") or {}).get("test") or (None, None)
    first, last = (date.fromisoformat(str(day)[:10]) if day else None for day in span)
    return first, last


def boards(user: User) -> list[dict[str, Any]]:
    """The boards that the user has completed tasks on, the one with the newest task first."""
    groups = (
        _completed(user)
        .values("dataset", "dataset_version", "test_from", "test_to")
        .annotate(tries=Count("id"), newest=Max("completed_at"))
        .order_by("-newest")
    )
    return [dict(group) for group in groups[:MOST_BOARDS]]


def choose(user: User, **asked: Any) -> Board:
    """The board that is asked for by any part of it; of several the one with the newest task.

    Raises: NotFound.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    newest = _completed(user).filter(**given).order_by("-completed_at").first()
    if newest is None or newest.test_from is None or newest.test_to is None:
        raise NotFound("no completed task with an information ratio is on such a board")
    return Board(newest.dataset, newest.dataset_version, newest.test_from, newest.test_to)


def tries_on(board: Board, user: User) -> Tries:
    """How many tries stand behind the winner, and what chance alone would have made of them."""
    tasks = _on(board, user)
    # Squares around the mean, in the database: there may be very many.
    distinct = tasks.values("information_ratio").distinct()
    told = distinct.aggregate(
        count=Count("information_ratio"),
        mean=Avg("information_ratio"),
        squares=Avg(F("information_ratio") * F("information_ratio")),
    )
    count = told["count"]
    variance = 0.0
    if count > 1:
        spread = max(told["squares"] - told["mean"] ** 2, 0.0) * count / (count - 1)
        variance = spread / DAYS_PER_YEAR
    return Tries(tasks.count(), count, variance, luck.expected_best(count, variance))


def leaders(
    board: Board, user: User, tries: Tries, *, order: str, limit: int
) -> list[dict[str, Any]]:
    """The best by a headline metric, each with its figures and its deflated Sharpe ratio.

    deflated_sharpe: the probability that the excess return's true Sharpe ratio is above what the
    best of so many tries shows by chance; None without a daily report.
    """
    rows = _on(board, user).select_related("owner").defer("config", "posted", "warnings")
    best = rows.order_by(F(order).desc(nulls_last=True), "created_at", "id")[:limit]
    return [_row(task, place, tries) for place, task in enumerate(best, start=1)]


def leaderboard(
    user: User, *, order: str = "information_ratio", limit: int = 50, **asked: Any
) -> dict[str, Any]:
    """A board with its leaders, and all boards there are. Raises: NotFound."""
    board = choose(user, **asked)
    tries = tries_on(board, user)
    return {
        "board": asdict(board),
        "order": order,
        "tries": asdict(tries),
        "results": leaders(board, user, tries, order=order, limit=limit),
        "boards": boards(user),
    }


# ── Parts ───────────────────────────────────────────────────────────────────────────────


def _completed(user: User) -> TaskQuerySet:
    """Those that can be placed: with a test period and a backtest."""
    return TrainingTask.objects.visible_to(user).filter(
        status=Status.COMPLETED,
        test_from__isnull=False,
        test_to__isnull=False,
        information_ratio__isnull=False,
    )


def _on(board: Board, user: User) -> TaskQuerySet:
    return _completed(user).filter(**asdict(board))


def _row(task: TrainingTask, place: int, tries: Tries) -> dict[str, Any]:
    metrics = task.result.get("metrics", {})
    moments = _moments(task)
    deflated = luck.deflated_sharpe(moments, benchmark=tries.expected_best) if moments else None
    plain = luck.deflated_sharpe(moments, benchmark=0.0) if moments else None
    return {
        "place": place,
        "task_id": task.id,
        "name": task.name,
        "owner": task.owner.get_username(),
        "model": task.model,
        "created_at": task.created_at,
        "metrics": {name: metrics[name] for name in SHOWN if name in metrics},
        "days": moments.count if moments else None,
        "sharpe": moments.sharpe if moments else None,
        "probabilistic_sharpe": plain,
        "deflated_sharpe": deflated,
    }


def _moments(task: TrainingTask) -> luck.Moments | None:
    """Of the daily excess returns with cost; None without them, or while their store is away."""
    try:
        return _moments_of(str(reports.file_of(task)))
    except OSError:
        return None


@lru_cache(maxsize=4_096)
def _moments_of(path: str) -> luck.Moments | None:
    """Kept: a completed task's report never changes. Raises: OSError, which is not kept: the file
    may only be away.
    """
    return luck.moments(reports.excess_returns(path))
