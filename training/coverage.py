"""How far a dataset reaches and where it has holes, as its manifest tells."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Any

from django.conf import settings

from .datasets import VERSION_FORM
from .downsample import largest_triangles
from .models import Dataset

LONG_PAUSE = timedelta(days=10)
"""Longer than any holiday of the known markets."""
STALE = timedelta(days=7)
COMPLETE = 0.98
MOST_PAUSES = 50


def of(dataset: Dataset, *, points: int = 500, today: date | None = None) -> dict[str, Any]:
    """What there is of a dataset, day by day, its pauses, versions and health.

    points: days of the curve of instruments at most; completeness: rows that are there, of those
    that the instruments' own spans promise, an upper bound.
    """
    manifest = dataset.manifest
    days, spans = manifest["days"], manifest["instruments"]
    counts = _instruments_by_day(days, list(spans.values()))
    promised = sum(counts)
    # The rows of benchmarks are counted in, their spans are not told: so it is an upper bound.
    completeness = min(dataset.rows / promised, 1.0) if promised else None
    pauses = list(_pauses(days))
    kept = largest_triangles([(float(n), float(count)) for n, count in enumerate(counts)], points)
    age_days = ((today or datetime.now(UTC).date()) - dataset.last_day).days
    return {
        "day_count": len(days),
        "age_days": age_days,
        "completeness": completeness,
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
    """The versions whose files are here, the newest first."""
    root = settings.DATASETS_DIR / dataset.name
    folders = root.iterdir() if root.is_dir() else ()
    found = [
        {
            "version": one.name,
            "current": one.name == dataset.version,
            "imported_at": datetime.fromtimestamp(one.stat().st_mtime, UTC).isoformat(),
        }
        for one in folders
        if VERSION_FORM.fullmatch(one.name) and one.is_dir()
    ]
    return sorted(found, key=lambda one: str(one["imported_at"]), reverse=True)


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
        yield {"code": "stale", "message": f"its last day was {age_days} days ago"}
    if completeness is not None and completeness < COMPLETE:
        missing = f"{1 - completeness:.1%} of the rows that its instruments promise are missing"
        yield {"code": "holes", "message": missing}
    if pauses:
        yield {"code": "pauses", "message": f"nothing was traded for long, {len(pauses)} times"}
