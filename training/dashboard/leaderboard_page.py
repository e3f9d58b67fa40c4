"""Who is ahead on a dataset and test period, and how much of that is luck."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from training import datasets, standings
from training.errors import NotFound
from training.models import HEADLINES

LIKELY = 0.95
"""From this deflated Sharpe ratio on a winner is hardly luck: the customary level."""


class Asked(forms.Form):
    """Which board, and by what it is ordered."""

    dataset = forms.CharField(required=False, max_length=64)
    dataset_version = forms.CharField(required=False, max_length=64)
    test_from = forms.DateField(required=False)
    test_to = forms.DateField(required=False)
    order = forms.ChoiceField(required=False, choices=[(one, one) for one in HEADLINES])


@login_required
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """One board: the one in the address, else the one with the newest task."""
    form = Asked(request.GET)
    form.is_valid()
    asked = {name: value for name, value in form.cleaned_data.items() if value}
    context: dict[str, Any] = {
        "asked": asked,
        "likely": LIKELY,
        "columns": standings.SHOWN,
        "orders": HEADLINES,
        "synthetic": datasets.synthetic(),
    }
    try:
        context |= standings.leaderboard(request.user, **asked)
        context["results"] = list(_folded(context["results"]))
    except NotFound:
        context |= {"board": None, "boards": standings.boards(request.user), "results": []}
    return render(request, "training/pages/leaderboard.html", context)


def _folded(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same result several times in one row: the first, with `equals` of it and their count."""
    for _, same in groupby(rows, key=lambda row: (row["model"], row["metrics"])):
        first, *equals = same
        yield first | {"equals": equals, "count": len(equals) + 1}
