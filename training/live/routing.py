"""Which socket is where: first the origin, then who it is, then the path."""

from collections.abc import Callable
from typing import Any, cast

from channels.routing import URLRouter
from django.urls import path, re_path

from . import consumers
from .authentication import Application, OwnOrigin, SignedIn


def _view(application: Application) -> Callable[..., Any]:
    """The application as Django's `path` takes it; Channels calls it as what it is."""
    return cast("Callable[..., Any]", application)


websocket = OwnOrigin(
    SignedIn(
        URLRouter(
            [
                path("ws/train/<str:task_id>", _view(consumers.task_socket)),
                path("ws/tasks", _view(consumers.list_socket)),
                re_path(r"", _view(consumers.nowhere)),
            ]
        )
    )
)
