"""Filters whose choices are known without a look at all tasks."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from training import catalogue
from training.models import Dataset, TrainingTask


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
