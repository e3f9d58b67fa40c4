"""A new task: a preset or an earlier task's workflow in an editor, checked, then started."""

import json
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from training import preflight, presets, services
from training.errors import Fault, InvalidConfig, NotFound, TooLarge
from training.models import Dataset, TrainingTask

YAML = "application/yaml"
NO_DATASET = """\
# There is no dataset yet. Import one, then load this page again:
#   manage.py import_market NAME bars.parquet
"""
NO_DEFAULT = """\
# PLATFORM_DEFAULT_DATASET names {wanted}, which is not here. Choose another dataset.
"""
NO_PRESET = """\
# There is no preset that can run here. Paste a Qlib workflow.
"""


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def show(request: HttpRequest) -> HttpResponse:
    """The editor; by POST the check of its text, or the start of a task."""
    if request.method == "POST":
        return _posted(request)
    text, chosen = _first_text(request)
    return _page(request, text=text, chosen=chosen)


def _posted(request: HttpRequest) -> HttpResponse:
    # A browser's text field ends its lines by CR LF; the places of faults are counted alike.
    text = request.POST.get("workflow", "").replace("\r\n", "\n")
    body = text.encode("utf-8", "replace")
    if request.POST.get("deed") == "start":
        try:
            user = cast(AbstractBaseUser, request.user)
            made = services.submit(body, content_type=YAML, owner=user)
        except InvalidConfig as error:
            return _page(request, text=text, faults=error.faults)
        except TooLarge as error:
            return _page(request, text=text, faults=[Fault("", error.message)])
        messages.success(request, "Started: what happens shows here at once")
        return HttpResponseRedirect(reverse("page-task", args=[made.task.id]))
    try:
        verdict = preflight.check(body, content_type=YAML)
    except TooLarge as error:
        return _page(request, text=text, faults=[Fault("", error.message)])
    return _page(request, text=text, faults=verdict.faults, verdict=verdict)


def _page(
    request: HttpRequest,
    *,
    text: str = "",
    chosen: str = "",
    faults: Any = (),
    verdict: Any = None,
) -> HttpResponse:
    dataset, offers = _offers(request)
    names = list(Dataset.objects.order_by("name").values_list("name", flat=True))
    if not text and request.method != "POST":
        offer = next((one for one in offers if one.runnable), None)
        text, chosen = (offer.workflow, offer.name) if offer else (_why_empty(dataset, names), "")
    context = {
        "text": text,
        "chosen": chosen,
        "offers": offers,
        "dataset": dataset,
        "others": [name for name in names if name != dataset],
        "faults": [fault.as_dict() for fault in faults],
        "warnings": [one.as_dict() for one in verdict.warnings] if verdict else [],
        "estimate": verdict.estimate.as_dict() if verdict and verdict.estimate else None,
        "is_valid": bool(verdict and verdict.workflow),
    }
    status = 400 if faults else 200
    return render(request, "training/pages/new.html", context, status=status)


def _why_empty(dataset: str, names: list[str]) -> str:
    """What stands in the editor where there is no preset to begin with."""
    if not names:
        return NO_DATASET
    return NO_PRESET if dataset else NO_DEFAULT.format(wanted=settings.DEFAULT_DATASET)


def _offers(request: HttpRequest) -> tuple[str, list[presets.Offer]]:
    """The presets for the dataset in the address, of the cloned task, or for the default one."""
    try:
        dataset = presets.dataset_for(request.GET.get("dataset") or _dataset_of_origin(request))
    except NotFound:
        if request.GET.get("dataset"):
            raise Http404 from None
        return "", []
    return dataset.name, presets.offers(dataset)


def _dataset_of_origin(request: HttpRequest) -> str | None:
    """The cloned task's dataset; None where there is no clone, or that dataset is gone."""
    tasks = TrainingTask.objects.visible_to(request.user).filter(pk=request.GET.get("like"))
    name = tasks.values_list("dataset", flat=True).first()
    return name if Dataset.objects.filter(name=name).exists() else None


def _first_text(request: HttpRequest) -> tuple[str, str]:
    """What the address asks to begin with, and the preset's name if it is one."""
    if like := request.GET.get("like"):
        return _text_of(request, like), ""
    name = request.GET.get("preset")
    if not name:
        return "", ""
    try:
        return presets.offer(name, presets.dataset_for(request.GET.get("dataset"))).workflow, name
    except NotFound:
        raise Http404 from None


def _text_of(request: HttpRequest, task_id: str) -> str:
    """An earlier task's workflow as it was posted; JSON becomes YAML."""
    try:
        task = services.visible(task_id, user=cast(AbstractBaseUser, request.user))
    except NotFound:
        raise Http404 from None
    try:
        return presets.as_yaml(json.loads(task.posted))
    except ValueError:
        return task.posted
