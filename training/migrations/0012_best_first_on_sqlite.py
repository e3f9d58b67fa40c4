"""The best and the worst by a metric from an index, on SQLite too."""

from typing import Any

from django.db import migrations

METRICS = (
    "ic",
    "icir",
    "rank_ic",
    "rank_icir",
    "annualized_return",
    "information_ratio",
    "max_drawdown",
)


def create(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "sqlite":
        for metric in METRICS:
            schema_editor.execute(
                f"CREATE INDEX task_best_{metric} ON training_trainingtask"
                f" ({metric}, created_at, id)"
            )


def drop(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "sqlite":
        for metric in METRICS:
            schema_editor.execute(f"DROP INDEX task_best_{metric}")


class Migration(migrations.Migration):
    dependencies = [("training", "0011_best_first_on_postgresql")]

    operations = [migrations.RunPython(create, drop)]
