"""Registered markets: flips the pointer to a finished version, finds a version's place, removes."""

import json
import re
import shutil
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists

from .errors import NotFound
from .models import Dataset, TrainingTask

NAME_FORM = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", flags=re.ASCII)
VERSION_FORM = re.compile(r"[0-9a-f]{16}", flags=re.ASCII)


def directory(name: str, version: str) -> Path:
    """Where this version of a market lies. Raises: ValueError, if one is no name of ours."""
    if not NAME_FORM.fullmatch(name) or not VERSION_FORM.fullmatch(version):
        raise ValueError(f"no version of a market: {name!r}, {version!r}")
    root: Path = settings.DATASETS_DIR
    return root / name / version


def manifest(name: str, version: str) -> dict[str, Any]:
    """What an import wrote of this version, which may not be the current one.

    Raises: OSError, ValueError.
    """
    told: dict[str, Any] = json.loads((directory(name, version) / "manifest.json").read_bytes())
    return told


def synthetic() -> frozenset[str]:
    """Names of those whose prices a program made: what is computed on them means nothing."""
    names = Dataset.objects.filter(synthetic=True).values_list("name", flat=True)
    return frozenset(names)


def register(told: dict[str, Any], *, version: str) -> Dataset:
    """Make a finished version the current one of its name; the last step of an import.

    told: as in the version's `manifest.json`. Registering the same again changes nothing.
    Raises: NotFound, if the version's directory is not there; ValueError, KeyError, if the
    manifest is not one of ours.
    """
    path = directory(told["name"], version)
    if told["version"] != version:
        raise ValueError(f"the manifest is of version {told['version']!r}, not {version!r}")
    if not (path / "manifest.json").is_file():
        raise NotFound(f"Version {version} of {told['name']} is not in {path.parent}.")
    with transaction.atomic():
        dataset, _ = Dataset.objects.update_or_create(
            name=told["name"],
            defaults={
                "region": told["region"],
                "version": version,
                "fingerprint": told["fingerprint"],
                "rows": told["rows"],
                "first_day": date.fromisoformat(told["first_day"]),
                "last_day": date.fromisoformat(told["last_day"]),
                "instrument_count": len(told["instruments"]),
                "synthetic": told["synthetic"],
                "manifest": told,
            },
        )
    return dataset


def remove(name: str) -> bool:
    """Remove a market with all its versions, if no task refers to it; whether it went.

    The row first: nobody finds the market any more, and of a removal that is cut short retention
    removes the files.
    """
    tasks = TrainingTask.objects.filter(dataset=name)
    if not Dataset.objects.filter(~Exists(tasks), name=name).delete()[0]:
        return False
    root: Path = settings.DATASETS_DIR
    # Out of sight first: nobody may read a half.
    hidden = root / f".{name}.gone"
    shutil.rmtree(hidden, ignore_errors=True)
    with suppress(FileNotFoundError):
        (root / name).rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
    return True
