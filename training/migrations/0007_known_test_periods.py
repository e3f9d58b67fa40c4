"""The test period of tasks from before it was a column."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from django.db import migrations


def test_period(config: Mapping[str, Any]) -> tuple[date | None, date | None]:
    """First and last day of a workflow's test segment, as they were read when this was written."""
    kwargs = config.get("task", {}).get("dataset", {}).get("kwargs", {})
    span = (kwargs.get("segments") or {}).get("test") or (None, None)
    first, last = (date.fromisoformat(str(day)[:10]) if day else None for day in span)
    return first, last


def fill(apps: Any, schema_editor: object) -> None:
    tasks = apps.get_model("training", "TrainingTask").objects
    for task in tasks.only("id", "config").iterator(chunk_size=200):
        first, last = test_period(task.config)
        if first and last:
            tasks.filter(pk=task.pk).update(test_from=first, test_to=last)


class Migration(migrations.Migration):
    dependencies = [("training", "0006_test_period")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop, elidable=True)]
