"""Workers and queues: who is there, what they run, what waits."""

from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import BooleanField, Case, Count, Min, Q, Value, When
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from training.models import TrainingTask, Worker
from training.states import OPEN, Status


@login_required
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Every worker that was ever seen, the live ones first; each queue's load."""
    alive = Case(
        When(seen_at__gte=Now() - settings.WORKER_SILENCE, then=Value(True)),
        default=Value(False),
        output_field=BooleanField(),
    )
    rows = Worker.objects.annotate(alive=alive).order_by("-alive", "queue", "name")
    workers: list[Any] = list(rows)
    running = _running(request, [worker.name for worker in workers])
    context = {
        "workers": [(worker, running.get(worker.name)) for worker in workers],
        "queues": _queues(workers),
        "alive_count": sum(worker.alive for worker in workers),
    }
    return render(request, "training/pages/workers.html", context)


def _running(request: HttpRequest, names: list[str]) -> dict[str, TrainingTask]:
    """What each worker runs, as far as the user may see it."""
    tasks = TrainingTask.objects.visible_to(request.user).filter(
        status=Status.RUNNING, worker__in=names
    )
    shown = ("id", "name", "model", "worker", "progress", "stage", "status")
    return {task.worker: task for task in tasks.only(*shown)}


def _queues(workers: list[Any]) -> list[dict[str, Any]]:
    """Each queue's load over all owners."""
    pending = Q(status=Status.PENDING)
    loads = {
        load["queue"]: load
        for load in TrainingTask.objects.filter(status__in=sorted(OPEN))
        .values("queue")
        .annotate(
            pending=Count("id", filter=pending),
            running=Count("id", filter=Q(status=Status.RUNNING)),
            oldest=Min("created_at", filter=pending),
        )
    }
    return [
        {
            "name": name,
            "pending": 0,
            "running": 0,
            "oldest": None,
            **loads.get(name, {}),
            "workers": sum(one.alive and not one.draining and one.queue == name for one in workers),
        }
        for name in settings.QUEUES
    ]
