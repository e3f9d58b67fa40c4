"""Tasks, alive, and what the staff does to them."""

import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from training import services
from training.dashboard.words import as_yaml, figure, plain
from training.errors import TrainingError
from training.models import TrainingTask
from training.task_lists import wanted

from .access import ReadOnly
from .dates import indexed
from .filters import DatasetFilter, ModelFilter, QueueFilter
from .ids import with_id

EVENTS_SHOWN = 50
NAME_SHOWN = 60
TASK_ID_START = re.compile(r"task-[0-9a-f-]*")


FIRST = ("page", "bar", "log")
TEXTS: dict[str, Callable[[Any], str]] = {
    "name": str,
    "message": str,
    "error": str,
    "posted": str,
    "warnings": as_yaml,
    "config": as_yaml,
    "result": as_yaml,
}
"""Fields of a task's page that people, trainings and workflows filled, and how each is written."""


def _as_text(name: str) -> Callable[[TrainingTask], SafeString]:
    """A field that keeps its lines, and nothing that turns or colours them."""

    @admin.display(description=name)
    def shown(task: TrainingTask) -> SafeString:
        return format_html("<pre>{}</pre>", plain(TEXTS[name](getattr(task, name))))

    return shown


@admin.register(TrainingTask)
class TaskAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Tasks, alive: the page's script listens to the tasks' socket, or else looks by itself."""

    list_display = (
        "short_id",
        "title",
        "owner",
        "status_now",
        "bar",
        "trained",
        "rounded_ic",
        "made_at",
    )
    list_display_links = ("short_id",)
    list_filter = (
        "status",
        QueueFilter,
        "pinned",
        DatasetFilter,
        ModelFilter,
        "owner",
        "created_at",
    )
    list_select_related = ("owner",)
    list_per_page = 50
    show_full_result_count = False
    search_fields = ("id__startswith", "name__icontains")
    search_help_text = "the start of an id, or a part of a name"
    date_hierarchy = "created_at"
    ordering = ("-created_at", "-id")
    actions = ("cancel", "retry", "pin", "unpin", "delete")
    exclude = ("lease_until", "progress", *TEXTS)
    readonly_fields: ClassVar[Any] = (*FIRST, *map(_as_text, TEXTS), "latest_events")

    class Media:
        css = {"all": ("training/admin.css",)}
        js = ("training/admin.js",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[TrainingTask]:
        rows: QuerySet[TrainingTask] = indexed(super().get_queryset(request))
        if str(getattr(request.resolver_match, "url_name", "")).endswith("_changelist"):
            return rows.defer("config", "posted", "result", "warnings")
        return rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if TASK_ID_START.fullmatch(term):
            return with_id(queryset, "id", term), False
        return queryset.filter(wanted({"q": term})), False

    def get_fields(self, request: HttpRequest, obj: TrainingTask | None = None) -> Any:
        """What one looks for first, then what the row says, its long texts last."""
        return [*FIRST, *(one for one in super().get_fields(request, obj) if one not in FIRST)]

    @admin.display(description="task", ordering="id")
    def short_id(self, task: TrainingTask) -> str:
        return task.id[5:13]

    @admin.display(description="name", ordering="name")
    def title(self, task: TrainingTask) -> str:
        return Truncator(plain(task.name)).chars(NAME_SHOWN)

    @admin.display(description="status", ordering="status")
    def status_now(self, task: TrainingTask) -> SafeString:
        return format_html('<span data-show="status">{}</span>', task.status)

    @admin.display(description="progress", ordering="progress")
    def bar(self, task: TrainingTask) -> SafeString:
        percent = f"{task.progress:.1f}"
        return format_html(
            '<progress data-task="{}" max="100" value="{}"></progress>'
            ' <span data-show="percent">{} %</span> <span data-show="stage">{}</span>',
            task.id,
            percent,
            percent,
            task.stage,
        )

    @admin.display(description="model, dataset", ordering="model")
    def trained(self, task: TrainingTask) -> str:
        return f"{task.model}, {task.dataset}"

    @admin.display(description="IC", ordering="ic")
    def rounded_ic(self, task: TrainingTask) -> str:
        return figure(task.ic)

    @admin.display(description="created", ordering="created_at")
    def made_at(self, task: TrainingTask) -> str:
        return f"{task.created_at:%Y-%m-%d %H:%M}"

    @admin.display(description="page")
    def page(self, task: TrainingTask) -> SafeString:
        where = reverse("page-task", args=[task.id])
        return format_html('<a href="{}">with curves, report and all actions</a>', where)

    @admin.display(description="log")
    def log(self, task: TrainingTask) -> SafeString:
        return format_html('<a href="{}">as text</a>', reverse("task-log", args=[task.id]))

    @admin.display(description="latest events")
    def latest_events(self, task: TrainingTask) -> SafeString:
        events = task.events.order_by("-seq")[:EVENTS_SHOWN]
        return render_to_string("training/admin/events.html", {"events": events})

    @admin.action(description="Cancel")
    def cancel(self, request: HttpRequest, tasks: QuerySet[TrainingTask]) -> None:
        self._each(request, tasks, "cancelled or asked to stop", services.cancel)

    @admin.action(description="Retry")
    def retry(self, request: HttpRequest, tasks: QuerySet[TrainingTask]) -> None:
        self._each(request, tasks, "submitted again", services.retry)

    @admin.action(description="Pin: keep from cleaning and deletion")
    def pin(self, request: HttpRequest, tasks: QuerySet[TrainingTask]) -> None:
        self._each(request, tasks, "pinned", services.pin)

    @admin.action(description="Unpin")
    def unpin(self, request: HttpRequest, tasks: QuerySet[TrainingTask]) -> None:
        def let_go(task_id: str, *, user: User) -> None:
            services.pin(task_id, user=user, pinned=False)

        self._each(request, tasks, "unpinned", let_go)

    @admin.action(description="Delete, with all artifacts")
    def delete(self, request: HttpRequest, tasks: QuerySet[TrainingTask]) -> HttpResponse | None:
        """Asks first: artifacts do not come back."""
        if request.POST.get("confirmed") == "yes":
            self._each(request, tasks, "deleted", services.delete)
            return None
        context = {**self.admin_site.each_context(request), "tasks": tasks, "opts": self.opts}
        return TemplateResponse(request, "training/admin/confirm_delete.html", context)

    def _each(
        self,
        request: HttpRequest,
        tasks: Iterable[TrainingTask],
        done: str,
        act: Callable[..., Any],
    ) -> None:
        """Do it to each task; tell how many went, and of each refused one why."""
        count = 0
        for task in tasks:
            try:
                act(task.id, user=request.user)
            except TrainingError as error:
                self.message_user(request, plain(f"{task}: {error.message}"), messages.ERROR)
            else:
                count += 1
        if count:
            self.message_user(request, f"{count} {done}", messages.SUCCESS)
