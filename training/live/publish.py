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
from collections.abc import Iterable, Mapping, Sequence
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

IDLE_S = 0.01
"""After so long without a publication it is looked first whether Redis has closed meanwhile."""

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


def publish(messages: Sequence[Mapping[str, Any]], *, owner_id: int) -> None:
    """Tell the web processes of what one commit has brought to one task, in one write.

    Never raises, waits at most `TIMEOUT_S`.
    """
    try:
        _send(list(_parcels(messages, owner_id)))
    except NOT_SENT as error:
        task_id = messages[0].get("task_id") if messages else None
        log.warning("events of %s were not published: %r", task_id, error)


def _parcels(messages: Sequence[Mapping[str, Any]], owner_id: int) -> Iterable[Parcel]:
    sent, listed = time.time(), None
    for message in messages:
        kind, task_id, seq = str(message["type"]), message["task_id"], message["seq"]
        about = {"task_id": task_id, "kind": kind, "seq": seq}
        event = {"type": "task.event", **about, "sent": sent, "text": to_text(message)}
        yield task_group(task_id), event
        if kind not in _SILENT_IN_LISTS:
            listed = about
    if listed:
        # Lists read the row: the newest change stands for those before it.
        yield LIST_GROUP, {"type": "task.changed", **listed, "owner_id": owner_id}


def _send(parcels: list[Parcel]) -> None:
    layer = get_channel_layer()
    if isinstance(layer, RedisPubSubChannelLayer):
        prefix = _config().get("prefix", "asgi")
        _line().send([_command(prefix, group, layer.serialize(body)) for group, body in parcels])
    elif layer is not None:
        for group, body in parcels:
            async_to_sync(layer.group_send)(group, body)


def _command(prefix: str, group: str, body: bytes) -> bytes:
    """A PUBLISH as it goes over the wire, to the Redis channel that the layer has for the group."""
    name = f"{prefix}__group__{group}".encode()
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(name),
        name,
        len(body),
        body,
    )


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
    used_at: float = 0.0
    rests_until: float = 0.0
    rest_s: float = BREAK_S

    def send(self, commands: list[bytes]) -> None:
        """Send in order, without waiting for answers. Raises: RedisError, OSError."""
        if time.monotonic() < self.rests_until or not self.lock.acquire(timeout=TIMEOUT_S):
            return
        try:
            self._deliver(commands)
        except LAYER_ERRORS:
            self._close()
            self.rests_until = time.monotonic() + self.rest_s
            self.rest_s = min(self.rest_s * 2, BREAK_MAX_S)
            raise
        finally:
            self.lock.release()

    def _deliver(self, commands: list[bytes]) -> None:
        now = time.monotonic()
        if self.is_open and now - self.used_at > IDLE_S and self._was_cut():
            self._close()
        if not self.is_open:
            commands = self._open(commands)
        self.used_at = now
        self.connection.send_packed_command([b"".join(commands)], check_health=False)

    def _was_cut(self) -> bool:
        """Whether Redis has closed an idle connection: nothing else is to be read from it."""
        try:
            return self.connection.can_read(timeout=0)
        except LAYER_ERRORS:
            return True

    def _open(self, commands: list[bytes]) -> list[bytes]:
        """Connect and send the first command with its answer, so that a refusal is told.

        Returns what is left to send.
        """
        self.connection.connect()
        first, *rest = commands
        self.connection.send_packed_command([first], check_health=False)
        self.connection.read_response()
        self.connection.send_command("CLIENT", "REPLY", "OFF", check_health=False)
        self.is_open, self.rest_s = True, BREAK_S
        return rest

    def _close(self) -> None:
        self.is_open = False
        self.connection.disconnect()


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
        # Else redis-py looks its own version up, to tell it: connecting would take twice as long.
        driver_info=None,
    )
    connection: Connection = pool.make_connection()
    return connection
