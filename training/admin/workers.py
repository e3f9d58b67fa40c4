"""Workers, to be drained and resumed; and the rings that wake them, to be read."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.http import require_safe

from training import services
from training.dashboard.words import size
from training.models import Worker
from training.work import queue

from .access import ReadOnly


@admin.register(Worker)
class WorkerAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Workers, as they last told of themselves; to be drained and resumed."""

    list_display = (
        "name",
        "host",
        "queue",
        "cores",
        "memory",
        "used",
        "extras",
        "draining",
        "started_at",
        "seen_at",
    )
    list_filter = ("queue", "draining")
    search_fields = ("name", "host")
    actions = ("drain", "resume")
    change_list_template = "training/admin/workers.html"

    @admin.display(description="memory", ordering="memory_bytes")
    def memory(self, worker: Worker) -> str:
        return size(worker.memory_bytes)

    @admin.display(description="used", ordering="used_bytes")
    def used(self, worker: Worker) -> str:
        return size(worker.used_bytes)

    @admin.action(description="Drain: end what runs, take nothing more")
    def drain(self, request: HttpRequest, workers: QuerySet[Worker]) -> None:
        for worker in workers:
            services.drain(worker.name, user=_user(request))
        self.message_user(request, f"{len(workers)} drain", messages.SUCCESS)

    @admin.action(description="Resume")
    def resume(self, request: HttpRequest, workers: QuerySet[Worker]) -> None:
        for worker in workers:
            services.drain(worker.name, user=_user(request), draining=False)
        self.message_user(request, f"{len(workers)} work again", messages.SUCCESS)

    def get_urls(self) -> list[Any]:
        rings = self.admin_site.admin_view(require_safe(self.rings))
        return [path("rings/", rings, name="training_rings"), *super().get_urls()]

    def rings(self, request: HttpRequest) -> HttpResponse:
        """What RQ knows, for superusers, to be read only: the truth is in the tasks."""
        if not request.user.is_superuser:
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Rings",
            "opts": self.opts,
            "queues": queue.overview(),
        }
        return TemplateResponse(request, "training/admin/rings.html", context)


def _user(request: HttpRequest) -> AbstractBaseUser:
    """Who asks; nobody else reaches a view of the admin's."""
    if not isinstance(request.user, AbstractBaseUser):
        raise PermissionDenied
    return request.user
