"""Datasets: what there is, how far it reaches, where it has holes."""

from datetime import date
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from training import coverage
from training.models import Dataset

SHOWN = 5
"""Pauses that a card names; of further ones it tells the number."""

CURVE = (600, 80)
"""Width and height that the curve of instruments is drawn in; the page stretches it."""


@login_required
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Every dataset and its health."""
    cards = [_card(row) for row in Dataset.objects.order_by("name")]
    return render(request, "training/pages/datasets.html", {"cards": cards})


def _card(row: Dataset) -> dict[str, Any]:
    found = coverage.of(row)
    codes = {note["code"] for note in found["health"]}
    return {
        "row": row,
        **found,
        "is_there": "files_missing" not in codes,
        # That prices are synthetic is no fault of theirs.
        "is_healthy": codes <= {"synthetic"},
        "pauses_shown": found["pauses"][:SHOWN],
        "more_pauses": max(len(found["pauses"]) - SHOWN, 0),
        "most": max(found["by_day"]["instruments"], default=0),
        "fewest": min(found["by_day"]["instruments"], default=0),
        "outline": _outline(found["by_day"]),
    }


def _outline(by_day: dict[str, list[Any]]) -> str:
    """Corners of the area under the curve of instruments, from 0 up, for an SVG polygon."""
    width, height = CURVE
    days = [date.fromisoformat(day).toordinal() for day in by_day["days"]]
    counts = by_day["instruments"]
    if len(days) < 2:
        return ""
    span, most = days[-1] - days[0], max(*counts, 1)
    corners = [
        (width * (day - days[0]) / span, height * (1 - count / most))
        for day, count in zip(days, counts, strict=True)
    ]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in [(0, height), *corners, (width, height)])
