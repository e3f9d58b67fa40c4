"""A part of a name from an index, on PostgreSQL with pg_trgm; without it each task is read."""

import logging
from typing import Any

from django.db import migrations

EXTENSION = "CREATE EXTENSION IF NOT EXISTS pg_trgm"
# As Django asks for a part of a name, whatever its case.
INDEX = (
    "CREATE INDEX task_part_of_name ON training_trainingtask"
    " USING gin (UPPER(name::text) gin_trgm_ops)"
)

log = logging.getLogger(__name__)


def create(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    if not _may_create(schema_editor):
        log.warning(
            "Searches by a part of a name will read every task: the extension pg_trgm is not"
            " installed here, or this user may not create it. To have an index, let a superuser"
            " run, in this database: %s; %s;",
            EXTENSION,
            INDEX,
        )
        return
    schema_editor.execute(EXTENSION)
    schema_editor.execute(INDEX)


def _may_create(schema_editor: Any) -> bool:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
        if cursor.fetchone():
            return True
        # A trusted extension needs no superuser, only the right to create in the database.
        cursor.execute(
            "SELECT bool_or(r.rolsuper OR (v.trusted"
            " AND has_database_privilege(current_database(), 'CREATE')))"
            " FROM pg_available_extension_versions v, pg_roles r"
            " WHERE v.name = 'pg_trgm' AND r.rolname = current_user"
        )
        return bool(cursor.fetchone()[0])


def drop(apps: Any, schema_editor: Any) -> None:
    """The extension stays: something else may use it."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX IF EXISTS task_part_of_name")


class Migration(migrations.Migration):
    dependencies = [("training", "0012_best_first_on_sqlite")]

    operations = [migrations.RunPython(create, drop)]
