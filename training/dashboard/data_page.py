"""Datasets: what there is, how far it reaches, where it has holes."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from training import coverage
from training.models import Dataset

SHOWN = 5
"""Pauses that a card names; of further ones it tells the number."""


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
    }
