"""Two to twenty tasks beside each other; the address is the link to share."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from training.models import HEADLINES, TrainingTask
from training.states import Status

MOST = 20
OFFERED = 30

Cell = tuple[Any, bool]


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
        "offered": [],
    }
    if len(tasks) < 2:
        finished = mine.filter(status=Status.COMPLETED).order_by("-created_at")
        context["offered"] = finished.defer("config", "posted", "result")[:OFFERED]
    else:
        context["metrics"] = list(_metrics(tasks))
        context["differences"] = list(_differences(tasks))
    return render(request, "training/pages/compare.html", context)


def _asked(request: HttpRequest) -> list[str]:
    """Ids out of `?tasks=a,b` and `?task=a&task=b`, each once, in their order."""
    listed = request.GET.get("tasks", "").split(",")
    return [one for one in dict.fromkeys([*listed, *request.GET.getlist("task")]) if one]


def _metrics(tasks: list[TrainingTask]) -> Iterator[tuple[str, list[Cell]]]:
    """Each metric that a task has, the headlines first: values, and which is the best.

    Of all headlines more is better (a drawdown is negative); of others nobody knows.
    """
    of_task = [task.result.get("metrics", {}) for task in tasks]
    names = dict.fromkeys([*HEADLINES, *sorted({name for one in of_task for name in one})])
    for name in names:
        values = [one.get(name) for one in of_task]
        known = [value for value in values if value is not None]
        if known:
            best = max(known) if name in HEADLINES and len(known) > 1 else None
            yield name, [(value, value is not None and value == best) for value in values]


def _differences(tasks: list[TrainingTask]) -> Iterator[tuple[str, list[str]]]:
    """The places where the configs as run are not all alike, and what each has there."""
    flat = [dict(_leaves(task.config)) for task in tasks]
    for path in dict.fromkeys(path for one in flat for path in one):
        values = [one.get(path) for one in flat]
        if any(value != values[0] for value in values):
            yield path, ["–" if value is None else value for value in values]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """`task.model.kwargs.num_leaves` and its value as text, for each leaf of the config."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(one, Mapping | list) for one in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{number}")
    else:
        yield path, str(value)
