"""The best by a metric from an index, on PostgreSQL: SQLite has no index with its nulls last."""

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
    if schema_editor.connection.vendor == "postgresql":
        for metric in METRICS:
            schema_editor.execute(
                f"CREATE INDEX task_best_{metric} ON training_trainingtask"
                f" ({metric} DESC NULLS LAST, created_at DESC, id DESC)"
            )


def drop(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for metric in METRICS:
            schema_editor.execute(f"DROP INDEX task_best_{metric}")


class Migration(migrations.Migration):
    dependencies = [("training", "0010_newest_of_model_and_dataset")]

    operations = [migrations.RunPython(create, drop)]
