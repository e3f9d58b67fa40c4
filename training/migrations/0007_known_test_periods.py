"""The test period of tasks from before it was a column."""

from typing import Any

from django.db import migrations

from training.standings import test_period


def fill(apps: Any, schema_editor: object) -> None:
    tasks = apps.get_model("training", "TrainingTask").objects
    for task in tasks.only("id", "config").iterator(chunk_size=200):
        first, last = test_period(task.config)
        if first and last:
            tasks.filter(pk=task.pk).update(test_from=first, test_to=last)


class Migration(migrations.Migration):
    dependencies = [("training", "0006_test_period")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop, elidable=True)]
