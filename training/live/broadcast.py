"""The signal's one receiver here: committed events go out to the sockets."""

from typing import Any

from training import events

from .publish import publish


def connect() -> None:
    """Listen to `events.recorded`."""
    events.recorded.connect(_send_out, dispatch_uid="training.live.broadcast")


def _send_out(*, message: dict[str, Any], owner_id: int, **_signal: Any) -> None:
    publish(message, owner_id=owner_id)
