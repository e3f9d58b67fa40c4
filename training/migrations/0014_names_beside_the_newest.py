"""A part of a name is looked for in an index, on SQLite too: in a row, `config` lies before it."""

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("training", "0013_parts_of_names"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        # In this order, as the removal locks everybody out until the end.
        migrations.AddIndex(
            model_name="trainingtask",
            index=models.Index(fields=["-created_at", "-id", "name"], name="task_newest_named"),
        ),
        migrations.RemoveIndex(
            model_name="trainingtask",
            name="task_newest",
        ),
    ]
