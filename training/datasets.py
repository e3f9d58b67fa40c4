"""Registered markets: flips the pointer to a finished version, and finds a version's place."""

import re
from datetime import date
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from .errors import NotFound
from .models import Dataset

NAME_FORM = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", flags=re.ASCII)
VERSION_FORM = re.compile(r"[0-9a-f]{16}", flags=re.ASCII)


def directory(name: str, version: str) -> Path:
    """Where this version of a market lies. Raises: ValueError, if one is no name of ours."""
    if not NAME_FORM.fullmatch(name) or not VERSION_FORM.fullmatch(version):
        raise ValueError(f"no version of a market: {name!r}, {version!r}")
    root: Path = settings.DATASETS_DIR
    return root / name / version


def version_path(dataset: Dataset) -> Path:
    """Where the current version of the dataset lies."""
    return directory(dataset.name, dataset.version)


def register(manifest: dict[str, Any], *, version: str) -> Dataset:
    """Make a finished version the current one of its name; the last step of an import.

    manifest: as in the version's `manifest.json`. Registering the same again changes nothing.
    Raises: NotFound, if the version's directory is not there; ValueError, KeyError, if the
    manifest is not one of ours.
    """
    path = directory(manifest["name"], version)
    if manifest["version"] != version:
        raise ValueError(f"the manifest is of version {manifest['version']!r}, not {version!r}")
    if not (path / "manifest.json").is_file():
        raise NotFound(f"Version {version} of {manifest['name']} is not in {path.parent}.")
    with transaction.atomic():
        dataset, _ = Dataset.objects.update_or_create(
            name=manifest["name"],
            defaults={
                "region": manifest["region"],
                "version": version,
                "fingerprint": manifest["fingerprint"],
                "rows": manifest["rows"],
                "first_day": date.fromisoformat(manifest["first_day"]),
                "last_day": date.fromisoformat(manifest["last_day"]),
                "instrument_count": len(manifest["instruments"]),
                "synthetic": manifest["synthetic"],
                "manifest": manifest,
            },
        )
    return dataset


def facts(dataset: Dataset) -> dict[str, Any]:
    """What a list shows of a dataset; the manifest's long parts are left out."""
    return {
        "name": dataset.name,
        "region": dataset.region,
        "version": dataset.version,
        "fingerprint": dataset.fingerprint,
        "synthetic": dataset.synthetic,
        "rows": dataset.rows,
        "instruments": dataset.instrument_count,
        "first_day": dataset.first_day.isoformat(),
        "last_day": dataset.last_day.isoformat(),
        "markets": sorted(dataset.manifest["markets"]),
        "benchmarks": dataset.manifest["benchmarks"],
    }
