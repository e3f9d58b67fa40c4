"""Datasets, to be read."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from training.models import Dataset

from .access import ReadOnly


@admin.register(Dataset)
class DatasetAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Datasets. They are imported, changed and removed by commands."""

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
