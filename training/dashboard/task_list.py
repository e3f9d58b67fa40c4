"""The list of tasks: filters and order in the address, pages by cursor."""

from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from training import catalogue, datasets
from training.errors import InvalidCursor
from training.events import instant
from training.models import Dataset, TrainingTask
from training.states import Status
from training.task_lists import ORDERINGS, page, wanted

PAGE = 50

COLUMNS = (
    ("ic", "IC"),
    ("icir", "ICIR"),
    ("rank_ic", "Rank IC"),
    ("annualized_return", "Excess p.a."),
    ("information_ratio", "Inf. ratio"),
    ("max_drawdown", "Drawdown"),
)

_UNSEEN = ("config", "posted", "warnings", "result")


class Filters(forms.Form):
    """What may stand in the list's address; what makes no sense is told, and left out."""

    q = forms.CharField(required=False, max_length=200)
    status = forms.MultipleChoiceField(required=False, choices=Status.choices)
    dataset = forms.CharField(required=False, max_length=64)
    model = forms.CharField(required=False, max_length=64)
    owner = forms.CharField(required=False, max_length=150)
    created_after = forms.DateTimeField(required=False)
    created_before = forms.DateTimeField(required=False)
    tag = forms.CharField(required=False, max_length=50)
    ordering = forms.ChoiceField(required=False, choices=[(one, one) for one in ORDERINGS])
    cursor = forms.CharField(required=False, max_length=1_000)

    @property
    def asked(self) -> dict[str, Any]:
        return {name: value for name, value in self.cleaned_data.items() if value}


@login_required
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """One page of the list. A form sends its empty fields too: an address to share has none."""
    if any("" in values for _, values in request.GET.lists()):
        return _leaving_out(request)
    filters = Filters(request.GET)
    filters.is_valid()
    asked = filters.asked
    ordering = asked.get("ordering", "-created_at")
    mine = TrainingTask.objects.visible_to(request.user)
    # Read before the rows: a task made in between is told of twice rather than never.
    newest = mine.order_by("-created_at").values_list("created_at", flat=True).first()
    try:
        found = page(
            mine.filter(wanted(asked)).select_related("owner").defer(*_UNSEEN),
            ordering=ordering,
            cursor=asked.get("cursor", ""),
            limit=PAGE,
        )
    except InvalidCursor:
        return _leaving_out(request, "cursor")
    context = {
        "tasks": found.tasks,
        "newest": instant(newest) or "",
        "next": found.cursor,
        "asked": asked,
        "filters": filters,
        "ordering": ordering,
        "columns": [_heading(name, said, ordering) for name, said in COLUMNS],
        "statuses": Status.values,
        "synthetic": datasets.synthetic(),
        "models": sorted({*catalogue.load().names("model"), asked.get("model", "")} - {""}),
        "datasets": Dataset.objects.order_by("name").values_list("name", flat=True),
        "is_narrowed": bool(set(asked) - {"ordering", "cursor"}),
    }
    return render(request, "training/pages/tasks.html", context)


def _leaving_out(request: HttpRequest, *unwanted: str) -> HttpResponse:
    """The same address without these parameters, and without empty ones."""
    query = request.GET.copy()
    for name, values in request.GET.lists():
        query.setlist(name, [value for value in values if value and name not in unwanted])
    said = query.urlencode()
    return HttpResponseRedirect(f"{reverse('page-tasks')}{'?' if said else ''}{said}")


def _heading(name: str, said: str, ordering: str) -> dict[str, str]:
    """A column's title, the order that a click on it asks for, and how it is sorted now."""
    # A drawdown is negative: downwards, the smallest loss comes first, as with the others.
    sorted_now = {f"-{name}": "descending", name: "ascending"}.get(ordering, "")
    following = name if sorted_now == "descending" else f"-{name}"
    return {"name": name, "said": said, "sorted": sorted_now, "ordering": following}
