"""The ASGI application: HTTP to Django, WebSocket to `training.live`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qlibplatform.settings")

import django

django.setup(set_prefix=False)

# Only after Django is set up: these import models.
from channels.routing import ProtocolTypeRouter  # noqa: E402

from qlibplatform.one_hop import OneHop  # noqa: E402
from training.live.routing import websocket  # noqa: E402

from .observed import observed  # noqa: E402

application = observed(ProtocolTypeRouter({"http": OneHop(), "websocket": websocket}))
