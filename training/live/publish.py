"""From the process that committed an event to the web processes: one Redis PUBLISH per group.

Written in `RedisPubSubChannelLayer`'s own wire form, so that any Channels consumer in the group
gets it, but without its event loop: the callers are synchronous (a leader, a web request), and
`async_to_sync(group_send)` opens a connection per call. Redis is told to answer nothing, so
publications follow one another without a round trip, and what may wait for a slow Redis is what
the kernel holds of one socket: once that is full, and while Redis is away, news are dropped, and
the newest goes out when Redis is back. A message that is lost is no loss, as every hub looks into
the database by itself; so nothing here raises, and nothing waits long.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from redis import ConnectionPool, RedisError
from redis.backoff import NoBackoff
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
    try:
        return orjson.dumps(message).decode()
    except TypeError:
        # An integer of more than 64 bits, which JSON has and orjson has not.
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


class Connection(Protocol):
    """What is used of a connection of redis-py."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def can_read(self, timeout: float = 0) -> bool: ...
    def read_response(self) -> Any: ...
    def send_command(self, *words: Any, check_health: bool = True) -> None: ...
    def send_packed_command(self, command: Any, check_health: bool = True) -> None: ...


@dataclass
class _Line:
    """This process's one connection, and the breaker that spares its callers a dead Redis."""

    pid: int
    connection: Connection
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_open: bool = False
    rests_until: float = 0.0
    rest_s: float = BREAK_S

    def send(self, messages: list[tuple[str, bytes]]) -> None:
        """Publish in order, without waiting for answers. Raises: RedisError, OSError."""
        if time.monotonic() < self.rests_until or not self.lock.acquire(timeout=TIMEOUT_S):
            return
        try:
            self._deliver(messages)
        except LAYER_ERRORS:
            self._close()
            self.rests_until = time.monotonic() + self.rest_s
            self.rest_s = min(self.rest_s * 2, BREAK_MAX_S)
            raise
        finally:
            self.lock.release()

    def _deliver(self, messages: list[tuple[str, bytes]]) -> None:
        if self.is_open and self._was_cut():
            self._close()
        if not self.is_open:
            messages = self._open(messages)
        self.connection.send_packed_command([_packed(messages)], check_health=False)

    def _was_cut(self) -> bool:
        """Whether Redis has closed an idle connection: nothing else is to be read from it."""
        try:
            return self.connection.can_read(timeout=0)
        except LAYER_ERRORS:
            return True

    def _open(self, messages: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Connect and publish the first message with its answer, so that a refusal is told.

        Returns what is left to publish.
        """
        self.connection.connect()
        first, *rest = messages
        self.connection.send_command("PUBLISH", *first, check_health=False)
        self.connection.read_response()
        self.connection.send_command("CLIENT", "REPLY", "OFF", check_health=False)
        self.is_open, self.rest_s = True, BREAK_S
        return rest

    def _close(self) -> None:
        self.is_open = False
        self.connection.disconnect()


def _packed(messages: list[tuple[str, bytes]]) -> bytes:
    """PUBLISH commands as they go over the wire."""
    parts = []
    for channel, body in messages:
        name = channel.encode()
        parts.append(b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n" % (len(name), name))
        parts.append(b"$%d\r\n%b\r\n" % (len(body), body))
    return b"".join(parts)


_kept: _Line | None = None
"""The connection, kept over calls: opening one takes longer than publishing."""


def _line() -> _Line:
    global _kept
    if _kept is None or _kept.pid != os.getpid():
        # A fork inherits the socket and perhaps a held lock: neither is its own.
        _kept = _Line(os.getpid(), _connection())
    return _kept


def _connection() -> Connection:
    """A connection to the layer's Redis, not opened yet."""
    host = _config()["hosts"][0]
    pool = ConnectionPool.from_url(
        host["address"] if isinstance(host, dict) else host,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    connection: Connection = pool.make_connection()
    return connection
