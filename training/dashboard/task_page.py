"""One task: live while it runs, then what came of it."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from training import attempt_log, basis, crew, curves, datasets, outcomes, reports, services
from training.errors import NotFinished, NotFound, StoreAway
from training.models import HEADLINES, TrainingTask
from training.states import Stage, Status

from . import environment, timeline
from .cures import cure_of
from .words import plain

LOG_SHOWN = 48_000
"""Bytes of the log's end that come with the page; the rest is a link away."""

LAST_WORDS = 15
"""Lines of the log that a failed task shows beside its error."""

ROWS_OF_DAY = 20
"""The largest positions, and the best scores, of the chosen day."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@login_required
@require_safe
def show(request: HttpRequest, task_id: str) -> HttpResponse:
    """The task's page. 404 also where it is not theirs."""
    try:
        task = services.visible(task_id, user=cast(AbstractBaseUser, request.user))
    except NotFound:
        raise Http404 from None
    steps = list(timeline.steps(task))
    context = {
        "task": task,
        "steps": steps,
        "was_fitted": any(step.name == Stage.FIT and step.state == "done" for step in steps),
        "wait": crew.wait_of(task) if task.status == Status.PENDING else None,
        "lost": timeline.lost(task),
        "left": timeline.left(task),
        "now": timezone.now(),
        "cure": cure_of(task.error_code),
        "headlines": _headlines(task),
        "synthetic": datasets.synthetic(),
        "backtest": basis.backtest(task.config),
        "environment": environment.rows(task),
        "metrics": task.result.get("metrics", {}),
        **_from_files(task, request.GET.get("day", "")),
        "children": task.retries.order_by("created_at").only("id", "name")[:20],
    }
    return render(request, "training/pages/task.html", context)


def _headlines(task: TrainingTask) -> list[tuple[str, float]]:
    metrics = task.result.get("metrics", {})
    shown = (*HEADLINES, "turnover")
    return [(name, metrics[name]) for name in shown if metrics.get(name) is not None]


def _from_files(task: TrainingTask, day: str) -> dict[str, Any]:
    """What lies in the task's files; the page has the rest where these can't be reached."""
    try:
        log = _log_end(task)
        return {
            "curves": list(_curves(task)),
            "log": log,
            "last_words": "\n".join(log["text"].splitlines()[-LAST_WORDS:]),
            **_report(task),
            **_day(task, day),
        }
    except StoreAway as error:
        return {"away": error.message, "log": {"begins": 0, "next": 0}}


def _report(task: TrainingTask) -> dict[str, Any]:
    """Which blocks the report has, and its table of months; the charts fetch their series."""
    try:
        report = reports.of(task)
    except (NotFinished, NotFound):
        return {}
    shown: dict[str, Any] = {"report": report, "month_names": MONTHS}
    if series := report.get("ic"):
        shown["has_ic"] = any(value is not None for value in (*series["ic"], *series["rank_ic"]))
    if monthly := report.get("monthly"):
        shown["years"] = list(_years(monthly))
    return shown


def _day(task: TrainingTask, asked: str) -> dict[str, Any]:
    """What was held and foretold on a day: the asked one, or the last traded one before it."""
    try:
        days = outcomes.days(task)
        date = days[max(bisect_right(days, asked) - 1, 0)] if asked and days else None
        held = outcomes.positions(task, date=date, instrument=None, limit=ROWS_OF_DAY)
        date = date or held.date
        foretold = outcomes.scores(task, date=date, instrument=None, limit=ROWS_OF_DAY)
    except (NotFinished, NotFound):
        return {}
    return {
        "day": date or foretold.date,
        "first_day": days[0] if days else "",
        "last_day": days[-1] if days else "",
        "held": held,
        "account": outcomes.account(task, date) if date else None,
        "foretold": foretold,
    }


def _years(monthly: dict[str, Any]) -> Iterator[tuple[str, list[float | None], float]]:
    """Each year, its twelve months (None: not in the backtest) and its sum."""
    by_month = dict(zip(monthly["months"], monthly["excess_with_cost"], strict=True))
    years = monthly["years"]
    for year, total in zip(years["years"], years["excess_with_cost"], strict=True):
        yield year, [by_month.get(f"{year}-{month:02}") for month in range(1, 13)], total


# ── Curves and log, as they stand ───────────────────────────────────────────────────────


def _curves(task: TrainingTask) -> Iterator[dict[str, Any]]:
    """Each curve's end: what a page without JavaScript says of it."""
    points = curves.points_of(task, task.attempt)
    for name, of_curve in groupby(points, key=itemgetter("name")):
        known = [point for point in of_curve if point["value"] is not None]
        if known:
            yield {"name": name, "count": len(known), "last": known[-1]}


def _log_end(task: TrainingTask) -> dict[str, Any]:
    """The last lines of the newest attempt's log, and where its bytes go on."""
    end = attempt_log.end_of(task, task.attempt)
    part = attempt_log.part_of(task, task.attempt, offset=max(end - LOG_SHOWN, 0))
    text = part.text.decode(errors="replace")
    if part.offset:
        text = text.partition("\n")[2]
    return {
        "text": plain(text),
        "next": part.offset + len(part.text),
        "is_cut": part.offset > 0,
        "begins": part.offset,
    }
