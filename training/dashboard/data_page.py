"""Datasets: what there is, how far it reaches, where it has holes."""

from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from training.models import Dataset

LONG_PAUSE = timedelta(days=10)
"""Between two trading days: longer than any holiday of the known markets is worth a look."""

SHOWN = 5


@login_required
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Every dataset and its health."""
    cards = [_card(row) for row in Dataset.objects.order_by("name")]
    return render(request, "training/pages/datasets.html", {"cards": cards})


def _card(row: Dataset) -> dict[str, Any]:
    manifest = row.manifest
    days = manifest.get("days", [])
    spans = manifest.get("instruments", {})
    root = settings.DATASETS_DIR / row.name
    ended = sum(1 for first, last in spans.values() if last < row.last_day.isoformat())
    # The benchmarks' rows are counted among the dataset's, their names not among its instruments.
    cells = len(days) * (row.instrument_count + len(manifest.get("benchmarks", [])))
    return {
        "row": row,
        "day_count": len(days),
        "fill": row.rows / cells if cells else None,
        "behind_days": (timezone.now().date() - row.last_day).days,
        "pauses": list(_pauses(days))[:SHOWN],
        "ended": ended,
        "fields": manifest.get("fields", []),
        "markets": {name: len(codes) for name, codes in manifest.get("markets", {}).items()},
        "benchmarks": manifest.get("benchmarks", []),
        "is_there": (root / row.version).is_dir(),
        "versions": sorted(one.name for one in root.iterdir() if one.is_dir())
        if root.is_dir()
        else [],
    }


def _pauses(days: list[str]) -> Any:
    """Days between which nothing was traded for long: (last before, first after, days)."""
    known = [date.fromisoformat(day[:10]) for day in days]
    for before, after in zip(known, known[1:], strict=False):
        if after - before >= LONG_PAUSE:
            yield before, after, (after - before).days
