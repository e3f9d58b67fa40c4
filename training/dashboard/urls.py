"""The pages' routes."""

from django.contrib.auth import views as auth
from django.http import HttpResponseRedirect
from django.templatetags.static import static
from django.urls import path

from . import (
    acting,
    compare_page,
    data_page,
    leaderboard_page,
    new_task,
    task_list,
    task_page,
    workers_page,
)

_TASK = "tasks/<task:task_id>"

urlpatterns = [
    path("", task_list.show, name="page-tasks"),
    path("tasks/act", acting.on_many, name="page-act"),
    path(_TASK, task_page.show, name="page-task"),
    path(f"{_TASK}/<slug:deed>", acting.on_one, name="page-deed"),
    path("new", new_task.show, name="page-new"),
    path("compare", compare_page.show, name="page-compare"),
    path("leaderboard", leaderboard_page.show, name="page-leaderboard"),
    path("workers", workers_page.show, name="page-workers"),
    path("workers/<path:name>/drain", workers_page.drain, name="page-drain"),
    path("datasets", data_page.show, name="page-datasets"),
    path(
        "sign-in",
        auth.LoginView.as_view(
            template_name="training/pages/sign_in.html", redirect_authenticated_user=True
        ),
        name="sign-in",
    ),
    # For pages without a head of ours: the administration's, a log as text.
    path("favicon.ico", lambda _: HttpResponseRedirect(static("training/mark.svg"))),
    path("sign-out", auth.LogoutView.as_view(), name="sign-out"),
]
