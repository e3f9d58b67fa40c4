"""What a person does to tasks from a page: each deed is a form, and one call of `services`."""

from collections.abc import Callable
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods

from training import errors, services
from training.models import TrainingTask

AT_ONCE = 200
"""Tasks of one bulk action."""

Deed = Callable[..., Any]


def _unpin(task_id: str, *, user: AbstractBaseUser) -> None:
    services.pin(task_id, user=user, pinned=False)


DEEDS: dict[str, tuple[Deed, str]] = {
    "cancel": (services.cancel, "cancelled, or asked to stop"),
    "finish": (services.finish, "asked to finish now"),
    "retry": (services.retry, "submitted again"),
    "pin": (services.pin, "pinned"),
    "unpin": (_unpin, "unpinned"),
    "delete": (services.delete, "deleted"),
}

QUESTIONS = {
    "cancel": "Cancel {}? What was computed so far is lost.",
    "delete": "Delete {} with all artifacts? This cannot be undone.",
}


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def on_one(request: HttpRequest, task_id: str, deed: str) -> HttpResponse:
    """Do one deed to one task, after a question where it can't be undone; show where it led."""
    if deed not in DEEDS:
        raise Http404
    if request.method != "POST":
        return not_done(request, reverse("page-task", args=[task_id]))
    act, done = DEEDS[deed]
    here = reverse("page-task", args=[task_id])
    if deed in QUESTIONS and request.POST.get("sure") != "yes":
        return _ask(request, deed, [task_id], no=here)
    user = cast(AbstractBaseUser, request.user)
    try:
        made = act(task_id, user=user)
    except errors.NotFound:
        raise Http404 from None
    except errors.TrainingError as error:
        messages.error(request, error.message)
        return HttpResponseRedirect(here)
    messages.success(request, f"{task_id[:13]}: {done}")
    if deed == "delete":
        return HttpResponseRedirect(reverse("page-tasks"))
    if deed == "retry":
        return HttpResponseRedirect(reverse("page-task", args=[made.id]))
    return HttpResponseRedirect(here)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def on_many(request: HttpRequest) -> HttpResponse:
    """Do one deed to the chosen tasks, after a question; tell of each refused one why."""
    if request.method != "POST":
        return not_done(request, reverse("page-tasks"))
    chosen = list(dict.fromkeys(request.POST.getlist("task")))[:AT_ONCE]
    deed = request.POST.get("deed", "")
    if deed == "compare" and len(chosen) > 1:
        return HttpResponseRedirect(f"{reverse('page-compare')}?tasks={','.join(chosen)}")
    if deed != "compare" and deed not in QUESTIONS:
        raise Http404
    if not chosen or deed == "compare":
        needed = "two or more" if deed == "compare" else "some"
        messages.warning(request, f"Too few tasks are chosen: tick {needed} in the list first")
        return HttpResponseRedirect(_next(request))
    if request.POST.get("sure") != "yes":
        return _ask(request, deed, chosen, no=_next(request))
    _each(request, deed, chosen)
    return HttpResponseRedirect(_next(request))


def _next(request: HttpRequest) -> str:
    """Where the form came from, its filters included; the whole list if it says nothing of ours."""
    place = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(place, allowed_hosts=None)
    return place if is_ours else reverse("page-tasks")


def not_done(request: HttpRequest, page: str) -> HttpResponse:
    """Back to the page, for a deed that came by GET.

    Who presses a button when the session is over comes back so from signing in.
    """
    messages.warning(request, "You had been signed out: nothing was done, press the button again")
    return HttpResponseRedirect(page)


def _each(request: HttpRequest, deed: str, chosen: list[str]) -> None:
    act, done = DEEDS[deed]
    count = 0
    for task_id in chosen:
        try:
            act(task_id, user=cast(AbstractBaseUser, request.user))
        except errors.TrainingError as error:
            messages.error(request, error.message)
        else:
            count += 1
    if count:
        messages.success(request, f"{count} {done}")


def _ask(request: HttpRequest, deed: str, chosen: list[str], *, no: str) -> HttpResponse:
    """The question; `no` is where its refusal leads."""
    tasks = TrainingTask.objects.visible_to(request.user).filter(pk__in=chosen)
    found = list(tasks.select_related("owner").only("id", "name", "status", "owner__username"))
    if not found:
        raise Http404
    question = QUESTIONS[deed].format("this task" if len(found) == 1 else "these tasks")
    context = {
        "deed": deed,
        "question": question,
        "tasks": found,
        "next": _next(request),
        "no": no,
    }
    return render(request, "training/pages/confirm.html", context)
