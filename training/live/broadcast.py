"""The signal's one receiver here: committed events go out to the sockets."""

from typing import Any

from training import events

from .publish import publish


def connect() -> None:
    """Listen to `events.recorded`."""
    events.recorded.connect(_send_out, dispatch_uid="training.live.broadcast")


def _send_out(*, messages: list[dict[str, Any]], owner_id: int, **_signal: Any) -> None:
    publish(messages, owner_id=owner_id)
