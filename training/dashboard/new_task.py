"""A new task: a preset or an earlier task's workflow in an editor, checked, then started."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from training import preflight, services
from training.errors import Fault, InvalidConfig, NotFound, TooLarge

YAML = "application/yaml"
PRESETS = Path(__file__).resolve().parent.parent / "presets"


@dataclass(frozen=True)
class Preset:
    """A workflow that one can start from."""

    key: str
    name: str
    about: str
    text: str


class Form(forms.Form):
    """The editor. Its text is read by `training.workflow`, within that one's limits."""

    workflow = forms.CharField(strip=False, widget=forms.Textarea)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def show(request: HttpRequest) -> HttpResponse:
    """The editor; by POST the check of its text, or the start of a task."""
    if request.method == "POST":
        return _posted(request)
    text, key = _first_text(request)
    return _page(request, text=text, key=key)


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
    request: HttpRequest, *, text: str, key: str = "", faults: Any = (), verdict: Any = None
) -> HttpResponse:
    context = {
        "text": text,
        "key": key,
        "presets": presets().values(),
        "faults": [fault.as_dict() for fault in faults],
        "warnings": [one.as_dict() for one in verdict.warnings] if verdict else [],
        "estimate": verdict.estimate.as_dict() if verdict and verdict.estimate else None,
        "is_valid": bool(verdict and verdict.workflow),
    }
    status = 400 if faults else 200
    return render(request, "training/pages/new.html", context, status=status)


def _first_text(request: HttpRequest) -> tuple[str, str]:
    """What the editor begins with, and the preset's key if it is one."""
    if like := request.GET.get("like"):
        return _text_of(request, like), ""
    known = presets()
    key = request.GET.get("preset") or next(iter(known), "")
    if key not in known:
        raise Http404
    return known[key].text, key


def _text_of(request: HttpRequest, task_id: str) -> str:
    """An earlier task's workflow as it was posted; JSON becomes YAML."""
    try:
        task = services.visible(task_id, user=cast(AbstractBaseUser, request.user))
    except NotFound:
        raise Http404 from None
    if not task.posted.lstrip().startswith("{"):
        return task.posted
    text: str = yaml.safe_dump(yaml.safe_load(task.posted), sort_keys=False, allow_unicode=True)
    return text


@cache
def presets() -> Mapping[str, Preset]:
    """The workflows that come with the platform, by their file's name."""
    paths = sorted(PRESETS.glob("*.yaml"), key=lambda path: (path.stem != "demo", path.stem))
    return {path.stem: _preset(path) for path in paths}


def _preset(path: Path) -> Preset:
    text = path.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    first = text.partition("\n")[0].removeprefix("#").strip()
    name = document.get("platform", {}).get("name") or path.stem
    return Preset(path.stem, name, first, text)
