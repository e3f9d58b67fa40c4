"""From the process that committed an event to the web processes: one Redis PUBLISH per group.

Written in `RedisPubSubChannelLayer`'s own wire form, so that any Channels consumer in the group
gets it, but without its event loop: the callers are synchronous (a leader, a web request), and
`async_to_sync(group_send)` opens a connection per call. A message that is lost is no loss, as
every hub looks into the database by itself; so nothing here raises, and nothing waits long.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

log = logging.getLogger(__name__)

LIST_GROUP = "training.tasks"
"""The group of everyone who watches a list; its messages name a task, they carry no state."""

LAYER_ERRORS: tuple[type[Exception], ...] = (RedisError, OSError)
"""What a channel layer raises when Redis is away."""

NOT_SENT = (RedisError, OSError, RuntimeError, LookupError, TypeError, ValueError)
"""What an attempt to publish may raise; RuntimeError: the in-memory layer inside a loop."""

TIMEOUT_S = 0.25
"""The longest that one publication may hold its caller up."""

BREAK_S, BREAK_MAX_S = 1.0, 5.0
"""After a failure nothing is tried for so long, doubled from failure to failure."""

_SILENT_IN_LISTS = frozenset({"metric", "log"})
"""Kinds that change nothing of what a list shows."""

Parcel = tuple[str, dict[str, Any]]


def task_group(task_id: str) -> str:
    """The group of everyone who watches the task."""
    return f"training.task.{task_id}"


def to_text(message: Mapping[str, Any]) -> str:
    """The JSON text as every socket gets it."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def publish(message: Mapping[str, Any], *, owner_id: int) -> None:
    """Tell the web processes of a committed event. Never raises, waits at most `TIMEOUT_S`."""
    try:
        _send(list(_parcels(message, owner_id)))
    except NOT_SENT as error:
        log.warning("an event of %s was not published: %r", message.get("task_id"), error)


def _parcels(message: Mapping[str, Any], owner_id: int) -> Iterable[Parcel]:
    kind, task_id, seq = message["type"], message["task_id"], message["seq"]
    about = {"task_id": task_id, "kind": str(kind), "seq": seq}
    event = {"type": "task.event", **about, "sent": time.time(), "text": to_text(message)}
    yield task_group(task_id), event
    if kind not in _SILENT_IN_LISTS:
        yield LIST_GROUP, {"type": "task.changed", **about, "owner_id": owner_id}


def _send(parcels: list[Parcel]) -> None:
    layer = get_channel_layer()
    if isinstance(layer, RedisPubSubChannelLayer):
        _line().send([(_wire_name(group), layer.serialize(body)) for group, body in parcels])
    elif layer is not None:
        for group, body in parcels:
            async_to_sync(layer.group_send)(group, body)


def _wire_name(group: str) -> str:
    """The Redis channel that the layer uses for the group."""
    return f"{_config().get('prefix', 'asgi')}__group__{group}"


def _config() -> dict[str, Any]:
    layers: dict[str, Any] = settings.CHANNEL_LAYERS
    config: dict[str, Any] = layers["default"].get("CONFIG", {})
    return config


@dataclass
class _Line:
    """This process's one connection, and the breaker that spares its callers a dead Redis."""

    pid: int
    redis: Redis
    lock: threading.Lock = field(default_factory=threading.Lock)
    rests_until: float = 0.0
    rest_s: float = BREAK_S

    def send(self, messages: list[tuple[str, bytes]]) -> None:
        """Publish in order, in one round trip. Raises: RedisError, OSError."""
        if time.monotonic() < self.rests_until or not self.lock.acquire(timeout=TIMEOUT_S):
            return
        try:
            self._deliver(messages)
        except LAYER_ERRORS:
            self.rests_until = time.monotonic() + self.rest_s
            self.rest_s = min(self.rest_s * 2, BREAK_MAX_S)
            raise
        else:
            self.rest_s = BREAK_S
        finally:
            self.lock.release()

    def _deliver(self, messages: list[tuple[str, bytes]]) -> None:
        try:
            self._publish(messages)
        except RedisConnectionError:
            # Most likely an idle connection that a restarted Redis has cut: once more, anew.
            # Told twice is harmless, hubs go by the number.
            self._publish(messages)

    def _publish(self, messages: list[tuple[str, bytes]]) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            for channel, body in messages:
                pipe.publish(channel, body)
            pipe.execute()


_kept: _Line | None = None
"""The connection, kept over calls: opening one takes longer than publishing."""


def _line() -> _Line:
    global _kept
    if _kept is None or _kept.pid != os.getpid():
        # A fork inherits the socket and perhaps a held lock: neither is its own.
        _kept = _Line(os.getpid(), _connect())
    return _kept


def _connect() -> Redis:
    host = _config()["hosts"][0]
    return Redis.from_url(
        host["address"] if isinstance(host, dict) else host,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
