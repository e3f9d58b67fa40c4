"""Rows for the presets that are shipped; what the staff has made of them later stays theirs."""

from typing import Any

from django.db import migrations

from training import presets


def load(apps: Any, schema_editor: object) -> None:
    presets.load_shipped(apps.get_model("training", "Preset"))


class Migration(migrations.Migration):
    dependencies = [("training", "0003_preset")]

    operations = [migrations.RunPython(load, migrations.RunPython.noop, elidable=False)]
