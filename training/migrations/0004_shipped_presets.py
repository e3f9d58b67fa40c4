"""Rows for the presets that are shipped; what the staff has made of them later stays theirs.

How the files are read and written stands here as it was: the application goes on changing.
"""

from pathlib import Path
from typing import Any

import yaml
from django.db import migrations

SHIPPED = Path(__file__).parent.parent / "presets" / "official"

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Plain(_Dumper):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


def load(apps: Any, schema_editor: object) -> None:
    presets = apps.get_model("training", "Preset").objects
    known = set(presets.values_list("name", flat=True))
    for file in sorted(SHIPPED.glob("*.yaml")):
        if file.stem not in known:
            shipped = yaml.safe_load(file.read_text(encoding="utf-8"))
            columns = {name: shipped[name] for name in ("title", "description", "position")}
            columns["workflow"] = yaml.dump(
                shipped["workflow"], Dumper=_Plain, sort_keys=False, allow_unicode=True, width=96
            )
            presets.create(name=file.stem, **columns)


class Migration(migrations.Migration):
    dependencies = [("training", "0003_preset")]

    operations = [migrations.RunPython(load, migrations.RunPython.noop, elidable=False)]
