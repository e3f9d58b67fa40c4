"""The Django admin: tasks to watch and act on, everything else to read; users and their tokens.

Nothing is written here: actions go through `services`, which ask who may.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from django import forms
from django.apps import apps
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from . import catalogue, presets, services, tokens
from .admin_dates import indexed
from .errors import Fault, InvalidConfig, TrainingError
from .models import Dataset, Preset, TaskEvent, TrainingTask, Worker
from .preflight import check
from .work import queue

EVENTS_SHOWN = 50
TASK_ID_START = re.compile(r"task-[0-9a-f-]*")
TASK_ID_LENGTH = 41

AuthToken = apps.get_model("knox", "AuthToken")


class ReadOnly:
    """Every member of the staff may look; nobody adds, changes or deletes by a form."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _is_staff(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _is_staff(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def _is_staff(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_staff


def _with_id(rows: QuerySet[Any], column: str, start: str) -> QuerySet[Any]:
    """Rows whose task's id begins so, found by the index."""
    if len(start) == TASK_ID_LENGTH:
        return rows.filter(**{column: start})
    if connection.vendor == "sqlite":
        # Its LIKE reads every row; "~" comes after all that an id is made of.
        return rows.filter(**{f"{column}__gte": start, f"{column}__lt": f"{start}~"})
    return rows.filter(**{f"{column}__startswith": start})


class DatasetFilter(admin.SimpleListFilter):
    """The datasets there are; Django would look for the different names in all tasks."""

    title = "dataset"
    parameter_name = "dataset"

    def lookups(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]"
    ) -> list[tuple[str, str]]:
        names = Dataset.objects.order_by("name").values_list("name", flat=True)
        return [(name, name) for name in names]

    def queryset(
        self, request: HttpRequest, tasks: QuerySet[TrainingTask]
    ) -> QuerySet[TrainingTask]:
        return tasks.filter(dataset=self.value()) if self.value() else tasks


class ModelFilter(DatasetFilter):
    """The models that a workflow may name."""

    title = "model"
    parameter_name = "model"

    def lookups(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]"
    ) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(catalogue.load().names("model"))]

    def queryset(
        self, request: HttpRequest, tasks: QuerySet[TrainingTask]
    ) -> QuerySet[TrainingTask]:
        return tasks.filter(model=self.value()) if self.value() else tasks


class QueueFilter(DatasetFilter):
    """The queues there are."""

    title = "queue"
    parameter_name = "queue"

    def lookups(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]"
    ) -> list[tuple[str, str]]:
        return [(name, name) for name in settings.QUEUES]

    def queryset(
        self, request: HttpRequest, tasks: QuerySet[TrainingTask]
    ) -> QuerySet[TrainingTask]:
        return tasks.filter(queue=self.value()) if self.value() else tasks


@admin.register(TrainingTask)
class TaskAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Tasks, alive: the page's script listens to the tasks' socket, or else looks by itself."""

    list_display = (
        "short_id",
        "name",
        "owner",
        "status_now",
        "bar",
        "stage_now",
        "model",
        "dataset",
        "queue",
        "ic",
        "created_at",
        "pinned",
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
    exclude = ("lease_until",)
    readonly_fields = ("log", "latest_events")

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
            return _with_id(queryset, "id", term), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="task", ordering="id")
    def short_id(self, task: TrainingTask) -> str:
        return task.id[:13]

    @admin.display(description="status", ordering="status")
    def status_now(self, task: TrainingTask) -> SafeString:
        return format_html('<span data-show="status">{}</span>', task.status)

    @admin.display(description="stage", ordering="stage")
    def stage_now(self, task: TrainingTask) -> SafeString:
        return format_html('<span data-show="stage">{}</span>', task.stage)

    @admin.display(description="progress", ordering="progress")
    def bar(self, task: TrainingTask) -> SafeString:
        percent = f"{task.progress:.1f}"
        return format_html(
            '<progress data-task="{}" max="100" value="{}"></progress>'
            ' <span data-show="percent">{} %</span>',
            task.id,
            percent,
            percent,
        )

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
                self.message_user(request, f"{task}: {error.message}", messages.ERROR)
            else:
                count += 1
        if count:
            self.message_user(request, f"{count} {done}", messages.SUCCESS)


@admin.register(TaskEvent)
class EventAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """All events, newest first."""

    list_display = ("task_id", "seq", "kind", "status", "stage", "progress", "message", "at")
    list_filter = ("kind",)
    show_full_result_count = False
    search_fields = ("task__id__startswith",)
    search_help_text = "the start of a task's id"
    date_hierarchy = "at"
    ordering = ("-id",)
    actions = None

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        return (_with_id(queryset, "task_id", term) if term else queryset), False

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskEvent]:
        rows: QuerySet[TaskEvent] = indexed(super().get_queryset(request))
        return rows.defer("data")


@admin.register(Dataset)
class DatasetAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Datasets. They are imported and changed by commands."""

    list_display = (
        "name",
        "region",
        "version",
        "first_day",
        "last_day",
        "instrument_count",
        "rows",
        "synthetic",
        "updated_at",
    )
    exclude = ("manifest",)
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dataset]:
        return super().get_queryset(request).defer("manifest")


@admin.register(Worker)
class WorkerAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Workers, as they last told of themselves; to be drained and resumed."""

    list_display = (
        "name",
        "host",
        "queue",
        "cores",
        "memory_bytes",
        "used_bytes",
        "extras",
        "draining",
        "started_at",
        "seen_at",
    )
    list_filter = ("queue", "draining")
    search_fields = ("name", "host")
    actions = ("drain", "resume")
    change_list_template = "training/admin/workers.html"

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
        rings = self.admin_site.admin_view(self.rings)
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


class PresetForm(forms.ModelForm):  # type: ignore[type-arg]
    """A preset is kept only if it can run on a dataset that is here."""

    class Meta:
        model = Preset
        fields = ("name", "title", "description", "position", "workflow")

    def clean_workflow(self) -> str:
        """Every fault, at its place, as a submission would be told it."""
        text: str = self.cleaned_data["workflow"]
        try:
            data = presets.parse(text)
            dataset = Dataset.objects.order_by("name").first()
            if dataset is not None:
                document = presets.as_yaml(presets.fitted(data, dataset, name="preset"))
                faults = check(document.encode(), content_type="application/yaml").faults
                _refuse([fault for fault in faults if "no worker present" not in fault.message])
        except InvalidConfig as invalid:
            _refuse(list(invalid.faults))
        return text


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise forms.ValidationError([f"{fault.path}: {fault.message}" for fault in faults])


@admin.register(Preset)
class PresetAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Presets belong to the staff, all of them."""

    form = PresetForm
    list_display = ("title", "name", "position", "description", "updated_at")
    list_editable = ("position",)
    search_fields = ("name", "title", "description")
    prepopulated_fields = {"name": ("title",)}

    def get_readonly_fields(self, request: HttpRequest, obj: Preset | None = None) -> list[str]:
        """The name is the key: another name would be another preset."""
        return ["name"] if obj else []

    def get_prepopulated_fields(
        self, request: HttpRequest, obj: Preset | None = None
    ) -> dict[str, Any]:
        return {} if obj else dict(self.prepopulated_fields)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _is_staff(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _is_staff(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_staff(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _is_staff(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _is_staff(request)


# ── Users and their tokens ──────────────────────────────────────────────────────────────

admin.site.unregister(User)
admin.site.unregister(AuthToken)


@admin.register(User)
class PlatformUserAdmin(UserAdmin):  # type: ignore[type-arg]
    """Users, and the making of their API tokens."""

    actions = ("create_token",)

    @admin.action(description="Create an API token, shown once", permissions=["change"])
    def create_token(self, request: HttpRequest, users: QuerySet[User]) -> HttpResponse | None:
        """A page with the tokens; they are in no message, cookie or log.

        A token is its user: only a superuser makes one for somebody else.
        """
        chosen = list(users.filter(is_active=True))
        if not request.user.is_superuser and any(user != request.user for user in chosen):
            self.message_user(request, "You can make a token for yourself only", messages.ERROR)
            return None
        made = [(user, tokens.create(user)) for user in chosen]
        context = {**self.admin_site.each_context(request), "made": made, "opts": self.opts}
        return TemplateResponse(
            request,
            "training/admin/tokens.html",
            context,
            headers={"Cache-Control": "no-store"},
        )


@admin.register(AuthToken)
class TokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Tokens, by their first characters: to be revoked, never to be read or made here."""

    list_display = ("token_key", "user", "created", "expiry")
    list_select_related = ("user",)
    search_fields = ("user__username", "token_key")
    fields = ("token_key", "user", "created", "expiry")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
