"""`/metrics`: what Prometheus asks for. The platform's figures are read from the truth at each
scrape; requests, queries and sockets are this web process's own."""

import shutil
import time
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import Error
from django.db.models import Count, F, Min, Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from rest_framework.request import Request
from rest_framework.views import APIView

from training import crew, features
from training.models import TrainingTask, Worker
from training.states import Status
from training.work import queue

from .health import SameMachineOrSignedIn
from .negotiation import AnyAccept
from .schema import failures

Families = Iterator[GaugeMetricFamily]


class Metrics(APIView):
    """The platform in figures."""

    permission_classes = [SameMachineOrSignedIn]
    content_negotiation_class = AnyAccept

    def perform_authentication(self, request: Request) -> None:
        """Left to the permission: who asks from this machine needs no database to be told."""

    @extend_schema(
        operation_id="metrics",
        responses={(200, "text/plain"): OpenApiTypes.STR, **failures()},
    )
    def get(self, request: HttpRequest) -> HttpResponse:
        """Prometheus's text format; `deploy/README.md` lists the names."""
        now = CollectorRegistry(auto_describe=False)
        now.register(_Platform())
        text = generate_latest(now) + generate_latest(REGISTRY)
        return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Platform:
    """Collects what the database, Redis and the disks say; what is away is told as down."""

    def collect(self) -> Families:
        """All families of one scrape."""
        began, database_up = time.perf_counter(), 1
        try:
            yield from [*_tasks(), *_queues(), *_leases(), *_workers(), *_features()]
        except Error:
            database_up = 0
        took = _family("scrape_database_seconds", "What the questions of this scrape took.")
        took.add_metric([], time.perf_counter() - began)
        yield took
        up = _family("up", "Whether the part answers.", "part")
        up.add_metric(["database"], database_up)
        up.add_metric(["redis"], int(queue.ping()))
        yield up
        yield from _disks()


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"qlibplatform_{name}", text, labels=labels)


def _tasks() -> Families:
    family = _family("tasks", "Tasks by status.", "status")
    counted = dict(TrainingTask.objects.values_list("status").annotate(Count("id")).order_by())
    for status in Status.values:
        family.add_metric([status], counted.get(status, 0))
    yield family


def _queues() -> Families:
    depth = _family("queue_tasks", "Open tasks by queue.", "queue", "status")
    oldest = _family("queue_oldest_seconds", "How long the oldest pending task waits.", "queue")
    for one in crew.queues():
        depth.add_metric([one.name, Status.PENDING], one.pending)
        depth.add_metric([one.name, Status.RUNNING], one.running)
        oldest.add_metric([one.name], one.oldest_s or 0)
    yield from (depth, oldest)


def _leases() -> Families:
    running = TrainingTask.objects.filter(status=Status.RUNNING)
    seen = running.aggregate(
        over=Count("id", filter=Q(lease_until__lt=Now())), late=Now() - Min("lease_until")
    )
    over = _family("leases_over", "Running tasks whose leader does not renew.")
    over.add_metric([], seen["over"])
    late = seen["late"].total_seconds() if seen["late"] else 0
    longest = _family("lease_over_seconds", "For how long the oldest of them has been over.")
    longest.add_metric([], max(late, 0))
    yield from (over, longest)


def _workers() -> Families:
    seen = _family("worker_seen_seconds", "Since its last sign of life.", "worker", "queue")
    used = _family("worker_memory_bytes", "Memory of all its processes.", "worker")
    limit = _family("worker_memory_limit_bytes", "What one training may use.", "worker")
    info = _family("worker_info", "1 for each worker.", "worker", "queue", "host", "release")
    draining = _family("worker_draining", "1 while it takes nothing new.", "worker")
    rows: Any = Worker.objects.annotate(age=Now() - F("seen_at"))
    for worker in rows:
        seen.add_metric([worker.name, worker.queue], worker.age.total_seconds())
        used.add_metric([worker.name], worker.used_bytes)
        limit.add_metric([worker.name], worker.memory_bytes)
        release = worker.versions.get("platform", "")
        info.add_metric([worker.name, worker.queue, worker.host, release], 1)
        draining.add_metric([worker.name], int(worker.draining))
    yield from (seen, used, limit, info, draining)


def _features() -> Families:
    family = _family("features", "The shared store of features; hits, misses: columns.", "figure")
    for name, value in features.figures().items():
        family.add_metric([name], value)
    yield family


def _disks() -> Families:
    free = _family("disk_free_bytes", "Free space where these files lie.", "place")
    size = _family("disk_size_bytes", "Size of that file system.", "place")
    for place in ("STATE", "ARTIFACTS", "DATASETS"):
        try:
            usage = shutil.disk_usage(getattr(settings, f"{place}_DIR"))
        except OSError:
            continue  # not made yet
        free.add_metric([place.lower()], usage.free)
        size.add_metric([place.lower()], usage.total)
    yield from (free, size)
