"""Two to twenty tasks beside each other; the address is the link to share."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from training import comparison, datasets, services
from training.models import HEADLINES, TrainingTask
from training.states import Status

MOST = 20
OFFERED = 30
SHOWN_FIRST = (*HEADLINES, "turnover")


@login_required
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """The comparison of the tasks in the address; a list to choose from where there are none."""
    asked = _asked(request)
    mine = TrainingTask.objects.visible_to(request.user).select_related("owner")
    found = mine.in_bulk(asked[:MOST])
    tasks = [found[task_id] for task_id in asked if task_id in found]
    context: dict[str, Any] = {
        "tasks": tasks,
        "missing_count": len(asked) - len(tasks),
        "most": MOST,
        "synthetic": datasets.synthetic(),
        "offered": [],
    }
    if len(tasks) < 2:
        finished = mine.filter(status=Status.COMPLETED).order_by("-created_at")
        context["offered"] = finished.defer("config", "posted", "result")[:OFFERED]
    else:
        context |= comparison.side_by_side(tasks)
        rows = context["metrics"]
        context["metrics"] = [row for row in rows if row["name"] in SHOWN_FIRST]
        context["more_metrics"] = [row for row in rows if row["name"] not in SHOWN_FIRST]
        differences = _beside(tasks, context["differences"])
        context["differences"] = [row for row in differences if not row["is_lesser"]]
        context["lesser"] = [row for row in differences if row["is_lesser"]]
        context["correlation"] = _correlation(tasks)
    return render(request, "training/pages/compare.html", context)


def _asked(request: HttpRequest) -> list[str]:
    """Ids out of `?tasks=a,b` and `?task=a&task=b`, each once, in their order."""
    listed = request.GET.get("tasks", "").split(",")
    return [one for one in dict.fromkeys([*listed, *request.GET.getlist("task")]) if one]


def _beside(tasks: list[TrainingTask], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Differences with their tasks; is_lesser: it follows from a class in a row above."""
    return [
        {
            "path": row["path"],
            "cells": list(zip(tasks, row["values"], strict=True)),
            "is_lesser": row["path"].endswith("module_path") or None in row["values"],
        }
        for row in rows
    ]


def _correlation(tasks: list[TrainingTask]) -> dict[str, Any] | None:
    """How alike the predictions are, as far as a worker has computed it; None for too few."""
    answer = services.correlation(tasks)
    if answer is None:
        return None
    told: dict[str, Any] = {"state": answer.state, "error": answer.error, "rows": []}
    if answer.value:
        # The figure is kept in the order of the ids; the page has the reader's.
        place = {task_id: number for number, task_id in enumerate(answer.value["tasks"])}
        those = [task for task in tasks if task.id in place]
        rank = answer.value["rank"]
        told["those"] = those
        told["rows"] = [(a, [rank[place[a.id]][place[b.id]] for b in those]) for a in those]
    return told
