"""Workers and queues: who is there, what they run, what waits."""

from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from training import crew, services
from training.errors import NotAllowed, NotFound
from training.models import TrainingTask

from .acting import not_done


@login_required
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """The workers of the last day, the live ones first; each queue's load."""
    members = sorted(crew.members(request.user), key=lambda one: not one.alive)
    shown = ("id", "name", "model", "progress", "stage", "status")
    ids = [task_id for one in members for task_id in one.runs]
    tasks = TrainingTask.objects.only(*shown).in_bulk(ids)
    context = {
        "members": [(one, [tasks[key] for key in one.runs if key in tasks]) for one in members],
        "queues": crew.queues(),
        "alive_count": sum(one.alive for one in members),
        "can_drain": request.user.is_staff,
    }
    return render(request, "training/pages/workers.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def drain(request: HttpRequest, name: str) -> HttpResponse:
    """Let a worker take nothing more, or work again."""
    if request.method != "POST":
        return not_done(request, reverse("page-workers"))
    draining = request.POST.get("draining") == "yes"
    try:
        services.drain(name, user=cast(AbstractBaseUser, request.user), draining=draining)
    except NotFound:
        raise Http404 from None
    except NotAllowed as error:
        messages.error(request, error.message)
    else:
        told = "ends what it runs and takes nothing more" if draining else "takes tasks again"
        messages.success(request, f"{name} {told}")
    return HttpResponseRedirect(reverse("page-workers"))
