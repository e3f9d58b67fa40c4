"""The journal of all events."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import Truncator

from training.dashboard.words import percent, plain
from training.models import TaskEvent
from training.task_lists import start_of_id

from .access import ReadOnly
from .dates import indexed
from .ids import with_id

MESSAGE_SHOWN = 120


@admin.register(TaskEvent)
class EventAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """All events, newest first."""

    list_display = ("at", "task_start", "seq", "kind", "status", "stage", "percent_done", "said")
    list_filter = ("kind",)
    show_full_result_count = False
    search_fields = ("task__id__startswith",)
    search_help_text = "the start of a task's id"
    date_hierarchy = "at"
    ordering = ("-id",)
    actions = None

    @admin.display(description="task")
    def task_start(self, event: TaskEvent) -> str:
        return event.task_id[5:13]

    @admin.display(description="progress")
    def percent_done(self, event: TaskEvent) -> str:
        return percent(event.progress)

    @admin.display(description="message")
    def said(self, event: TaskEvent) -> str:
        return Truncator(plain(event.message)).chars(MESSAGE_SHOWN)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        return (with_id(queryset, "task__id", start_of_id(term)) if term else queryset), False

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskEvent]:
        rows: QuerySet[TaskEvent] = indexed(super().get_queryset(request))
        return rows.defer("data")
