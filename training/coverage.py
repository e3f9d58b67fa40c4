"""How far a dataset reaches and where it has holes, as its manifest tells."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Any

from django.conf import settings

from . import datasets
from .datasets import VERSION_FORM
from .downsample import largest_triangles
from .models import Dataset

LONG_PAUSE = timedelta(days=10)
"""Longer than any holiday of the known markets."""
STALE = timedelta(days=7)
COMPLETE = 0.98
MOST_PAUSES = 50
MOST_GAPPY = 10


def of(dataset: Dataset, *, points: int = 500, today: date | None = None) -> dict[str, Any]:
    """What there is of a dataset, day by day, its pauses, versions and health.

    points: days of the curve of instruments at most; completeness: rows that are there, of those
    that the instruments' own spans promise; None where an older import did not count them by
    instrument; gaps: rows that are not; gappy: the instruments with most of them.
    """
    manifest = dataset.manifest
    days, spans = manifest["days"], manifest["instruments"]
    counts = _instruments_by_day(days, list(spans.values()))
    missing = _missing(days, spans, manifest.get("instrument_rows"))
    gaps = None if missing is None else sum(missing.values())
    completeness = None if gaps is None else 1 - gaps / sum(counts)
    pauses = list(_pauses(days))
    kept = largest_triangles([(float(n), float(count)) for n, count in enumerate(counts)], points)
    age_days = ((today or datetime.now(UTC).date()) - dataset.last_day).days
    return {
        "day_count": len(days),
        "age_days": age_days,
        "completeness": completeness,
        "gaps": gaps,
        "gappy": _most(missing or {}),
        "ended": sum(last < days[-1] for _, last in spans.values()),
        "pauses": pauses[:MOST_PAUSES],
        "by_day": {"days": [days[n] for n in kept], "instruments": [counts[n] for n in kept]},
        "fields": manifest.get("fields", []),
        "markets": {name: len(codes) for name, codes in manifest.get("markets", {}).items()},
        "benchmarks": manifest.get("benchmarks", []),
        "vwap": manifest.get("vwap", ""),
        "versions": versions(dataset),
        "health": list(_health(dataset, age_days, completeness, pauses)),
    }


def versions(dataset: Dataset) -> list[dict[str, Any]]:
    """The versions whose files are here, the newest first. rows: None where it can't be read."""
    root = settings.DATASETS_DIR / dataset.name
    folders = root.iterdir() if root.is_dir() else ()
    found = [
        {
            "version": one.name,
            "current": one.name == dataset.version,
            "imported_at": datetime.fromtimestamp(one.stat().st_mtime, UTC).isoformat(),
            "rows": _rows_of(dataset.name, one.name),
        }
        for one in folders
        if VERSION_FORM.fullmatch(one.name) and one.is_dir()
    ]
    return sorted(found, key=lambda one: str(one["imported_at"]), reverse=True)


def _rows_of(name: str, version: str) -> int | None:
    try:
        rows: int = datasets.manifest(name, version)["rows"]
    except (OSError, ValueError, KeyError):
        return None
    return rows


def _missing(
    days: Sequence[str],
    spans: Mapping[str, Sequence[str]],
    rows: Mapping[str, int] | None,
) -> dict[str, int] | None:
    """Days between an instrument's first and last that have no row of it, where there are any.

    rows: of each instrument; None: nobody counted them.
    """
    if rows is None:
        return None
    place = {day: number for number, day in enumerate(days)}
    promised = {name: place[last] - place[first] + 1 for name, (first, last) in spans.items()}
    return {name: count - rows[name] for name, count in promised.items() if count > rows[name]}


def _most(missing: Mapping[str, int]) -> list[dict[str, Any]]:
    worst = sorted(missing.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_GAPPY]
    return [{"instrument": name, "days": days} for name, days in worst]


def _instruments_by_day(days: Sequence[str], spans: Sequence[Sequence[str]]) -> list[int]:
    """How many instruments are between their first and last day, on each day."""
    place = {day: number for number, day in enumerate(days)}
    change = [0] * (len(days) + 1)
    for first, last in spans:
        change[place[first]] += 1
        change[place[last] + 1] -= 1
    return list(accumulate(change[:-1]))


def _pauses(days: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Days between which nothing was traded for long."""
    for before, after in pairwise(days):
        length = date.fromisoformat(after) - date.fromisoformat(before)
        if length >= LONG_PAUSE:
            yield {"last_before": before, "first_after": after, "days": length.days}


def _health(
    dataset: Dataset, age_days: int, completeness: float | None, pauses: list[dict[str, Any]]
) -> Iterator[dict[str, str]]:
    """What is worth a look; nothing where all is well. code is stable, message for people."""
    if not (settings.DATASETS_DIR / dataset.name / dataset.version).is_dir():
        yield {"code": "files_missing", "message": "its files are not where this server looks"}
    if dataset.synthetic:
        yield {"code": "synthetic", "message": "made by a program: its figures mean nothing"}
    elif age_days > STALE.days:
        yield {"code": "stale", "message": f"its last day was {age_days:,} days ago"}
    if completeness is not None and completeness < COMPLETE:
        share = f"{100 - 100 * completeness:.1f} %"
        missing = f"{share} of the rows that its instruments promise are missing"
        yield {"code": "holes", "message": missing}
    if pauses:
        yield {"code": "pauses", "message": f"nothing was traded for long, {len(pauses)} times"}
