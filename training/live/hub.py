"""One per web process: who watches what, and how news reaches them.

A message from Redis is forwarded at once if it is the next of its task. Otherwise, and for every
watched task each `settings.LISTENER_LOOK_S`, the database is asked what is missing: one question
for all tasks, then one page per task that lags, for any number of sockets. So a message that is
lost, doubled or overtaken costs time, never an event, and Redis may be away.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import prometheus_client
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import Error as DatabaseError

from training.states import EventKind

from . import admission, closing, daphne_socket, reads
from .admission import Admission, Door
from .authentication import Credential
from .listing import Listing
from .publish import LAYER_ERRORS, LIST_GROUP, NOT_SENT, task_group
from .reads import Line
from .watch import Watch, Watcher

log = logging.getLogger(__name__)

HEARD_AT_ONCE = 64
"""Messages from Redis that are passed on together, at most."""

AT_ONCE = 250
"""Sockets that are looked at in one go."""

RECHECK_S = 20.0
"""How often it is looked whether a socket's user may still see what it watches."""

SUBSCRIBE_WAIT_S = 1.0
"""A new watch waits so long for Redis, then goes by its own looks until Redis is there."""

GOODBYE_S = 0.2
"""What the sockets have to say that the server goes."""


class Member(Protocol):
    """An open socket, as the hub knows it. `task_id` is empty for a list."""

    credential: Credential
    user_id: int
    task_id: str
    wake: asyncio.Event

    def admit(self, now: Admission) -> None:
        """Take note of who the user is now."""

    def stop(self, code: int) -> None:
        """Close the socket soon."""


class TaskMember(Member, Watcher, Protocol):
    """A socket that watches one task."""


class Hub:
    """The sockets of one event loop and what they watch."""

    def __init__(self) -> None:
        self.door = Door()
        self.listing = Listing()
        self._watches: dict[str, Watch] = {}
        self._members: set[Member] = set()
        self._sockets: Counter[int] = Counter()
        self._places: Counter[tuple[int, str]] = Counter()
        self._channel: str | None = None
        self._subscribed: set[str] = set()
        self._align_lock = asyncio.Lock()
        self._jobs: set[asyncio.Task[None]] = set()
        self._standing: list[asyncio.Task[None]] = []
        self._lagging: set[str] = set()
        self._heard: list[dict[str, Any]] = []
        daphne_socket.before_shutdown(self._say_goodbye, wait_s=GOODBYE_S)

    def __len__(self) -> int:
        """Open sockets."""
        return len(self._members)

    # ── Sockets come and go ─────────────────────────────────────────────────────────────

    def enter(self, member: Member) -> bool:
        """Count the socket in; False if its user has too many."""
        place = (member.user_id, member.task_id)
        if self._sockets[member.user_id] >= settings.SOCKETS_PER_USER:
            return False
        if self._places[place] >= settings.SOCKETS_PER_USER_AND_TASK:
            return False
        self._sockets[member.user_id] += 1
        self._places[place] += 1
        self._members.add(member)
        if not self._standing:
            self._standing = [self._start(self._listen()), self._start(self._look_always())]
        return True

    def leave(self, member: Member) -> None:
        """Count the socket out; what nobody watches any more is forgotten."""
        if member not in self._members:
            return
        self._members.discard(member)
        _uncount(self._sockets, member.user_id)
        _uncount(self._places, (member.user_id, member.task_id))
        watch = self._watches.get(member.task_id)
        if watch:
            watch.watchers.discard(member)
            if not watch.watchers:
                del self._watches[member.task_id]
                self._start(self._align(task_group(member.task_id)))
        self.listing.leave(member)
        if not self._members:
            self._rest()

    async def watch(self, member: TaskMember, snapshot: dict[str, Any]) -> Watch:
        """The task's watch, shared; what happens from the snapshot on is in it or follows."""
        watch = self._watches.get(member.task_id)
        if watch is not None:
            watch.watchers.add(member)
            return watch
        watch = self._watches[member.task_id] = Watch(snapshot)
        watch.watchers.add(member)
        await self._subscribe(task_group(member.task_id))
        # What was committed between the snapshot and the subscription was told to nobody here.
        self._start(self._catch_up(watch))
        return watch

    async def watch_list(self, member: Member) -> None:
        """Tell the hub that lists are watched. Raises: DatabaseError."""
        await self.listing.open()
        await self._subscribe(LIST_GROUP)

    def _start(self, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # Kept: the event loop itself holds its tasks only weakly.
        task = asyncio.create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        return task

    def _say_goodbye(self) -> None:
        for member in self._members:
            member.stop(closing.GOING_AWAY)

    def _rest(self) -> None:
        """Nobody is here: stop listening and looking until someone comes."""
        for task in self._standing:
            task.cancel()
        self._standing = []
        self._channel, self._subscribed = None, set()

    # ── From Redis ──────────────────────────────────────────────────────────────────────

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_until_it_breaks()
            except LAYER_ERRORS as error:
                log.warning("no live messages, going by looks: %r", error)
            self._channel, self._subscribed = None, set()
            await asyncio.sleep(settings.LISTENER_LOOK_S)

    async def _listen_until_it_breaks(self) -> None:
        layer = get_channel_layer()
        channel = await layer.new_channel()
        self._channel = channel
        self._start(self._align_all())
        while True:
            self._hear(await layer.receive(channel))
            if len(self._heard) >= HEARD_AT_ONCE:
                # With messages waiting, `receive` never lets others have their turn.
                await asyncio.sleep(0)

    def _hear(self, message: dict[str, Any]) -> None:
        """Keep the message for a moment: those that wait behind it go out with it."""
        self._heard.append(message)
        if len(self._heard) == 1:
            asyncio.get_running_loop().call_soon(self._take_all)

    def _take_all(self) -> None:
        heard, self._heard = self._heard, []
        ready: dict[Watch, list[Line]] = {}
        for message in heard:
            try:
                self._take(message, ready)
            except (KeyError, TypeError):
                log.warning("not a message of this platform's: %.200r", message)
        for watch, lines in ready.items():
            watch.extend(lines)

    def _take(self, message: dict[str, Any], ready: dict[Watch, list[Line]]) -> None:
        """Pass the message on, or into `ready` if it follows on what is known or is there."""
        if message.get("type") == "task.changed":
            self.listing.hear(message)
            return
        watch = self._watches.get(message.get("task_id", ""))
        if watch is None or message.get("type") != "task.event":
            return
        # A sender of an older release does not tell when.
        EVENT_LAG.observe(max(time.time() - message.get("sent", time.time()), 0))
        line = Line(message["seq"], message["kind"], message["text"])
        follows = ready[watch][-1].seq if watch in ready else watch.end
        if line.kind == EventKind.DELETED:
            watch.extend(ready.pop(watch, []))
            watch.end_with(line)
        elif line.seq == follows + 1:
            ready.setdefault(watch, []).append(line)
        elif line.seq > follows:
            DROPPED.inc(line.seq - follows - 1)
            self._start(self._catch_up(watch))

    async def _subscribe(self, group: str) -> None:
        task = self._start(self._align(group))
        # Not cancelled when the time is over: a half-written command would break the connection.
        await asyncio.wait({task}, timeout=SUBSCRIBE_WAIT_S)

    async def _align_all(self) -> None:
        for group in self._wanted():
            await self._align(group)

    def _wanted(self) -> set[str]:
        groups = {task_group(task_id) for task_id in self._watches}
        return groups | {LIST_GROUP} if self.listing.is_open else groups

    async def _align(self, group: str) -> None:
        """Subscribe to the group if it is wanted, else unsubscribe; in any order, any number."""
        async with self._align_lock:
            channel, wanted = self._channel, group in self._wanted()
            if channel is None or wanted == (group in self._subscribed):
                return
            layer = get_channel_layer()
            try:
                if wanted:
                    await layer.group_add(group, channel)
                    self._subscribed.add(group)
                else:
                    self._subscribed.discard(group)
                    await layer.group_discard(group, channel)
            except NOT_SENT as error:
                log.warning("Redis is away, going by looks: %r", error)

    # ── From the database ───────────────────────────────────────────────────────────────

    async def _look_always(self) -> None:
        checked = time.monotonic()
        while True:
            await asyncio.sleep(settings.LISTENER_LOOK_S)
            try:
                await self._look()
                await self.listing.look()
                if time.monotonic() - checked >= RECHECK_S:
                    await self._recheck()
                    checked = time.monotonic()
            except DatabaseError as error:
                log.warning("the look for missed events failed, next time again: %r", error)
            except Exception:
                # The one reader that finds lost messages must outlive a mistake.
                log.exception("the look for missed events failed")
            await self._align_all()

    async def _look(self) -> None:
        """Find what no message told, for all watched tasks."""
        watched = {key: watch for key, watch in self._watches.items() if not watch.gone}
        if not watched:
            return
        newest = await reads.run(reads.newest_seqs, list(watched))
        late = {key: watch.end for key, watch in watched.items() if newest.get(key, 0) > watch.end}
        for task_id, lines in (await reads.run(reads.missing_events, late)).items():
            DROPPED.inc(len(lines))
            watched[task_id].extend(lines)
            if len(lines) == reads.PAGE:
                self._start(self._catch_up(watched[task_id]))
        for task_id in watched.keys() - newest.keys():
            watched[task_id].vanished()

    async def _catch_up(self, watch: Watch) -> None:
        """Read what the task has after the newest that is known, page by page."""
        if watch.task_id in self._lagging:
            return
        self._lagging.add(watch.task_id)
        try:
            more = True
            while more and watch.watchers and not watch.gone:
                lines = await reads.run(reads.events_after, watch.task_id, watch.end)
                watch.extend(lines)
                more = len(lines) == reads.PAGE
        except DatabaseError as error:
            log.warning("events of %s could not be read, a look will: %r", watch.task_id, error)
        finally:
            self._lagging.discard(watch.task_id)

    async def _recheck(self) -> None:
        """Close the sockets whose user is signed out or does not see the task any more."""
        members = list(self._members)
        wanted: dict[Credential, set[str]] = {}
        async for member in _with_pauses(members):
            wanted.setdefault(member.credential, set()).update({member.task_id} - {""})
        frozen = {credential: frozenset(ids) for credential, ids in wanted.items()}
        answer = await reads.run(admission.still_in, frozen)
        async for member in _with_pauses(members):
            now = answer[member.credential]
            if now is None or now[0].user_id != member.user_id:
                member.stop(closing.NOT_SIGNED_IN)
            elif member.task_id and member.task_id not in now[1]:
                member.stop(closing.NOT_FOUND)
            else:
                member.admit(now[0])


EVENT_LAG = prometheus_client.Histogram(
    "qlibplatform_event_lag_seconds",
    "From an event's commit to its arrival at this web process, by the two machines' clocks.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
DROPPED = prometheus_client.Counter(
    "qlibplatform_wakeups_dropped",
    "Events of which no message came, or too late: read from the database instead.",
)
SOCKETS = prometheus_client.Gauge("qlibplatform_sockets", "Open sockets of this web process.")


async def _with_pauses(members: list[Member]) -> AsyncIterator[Member]:
    """Each of them, and between some of them whatever else there is to do: a message is not to
    wait until ten thousand sockets have been looked at.
    """
    for number, member in enumerate(members):
        if number % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
        yield member


def _uncount(counts: Counter[Any], one: Any) -> None:
    counts[one] -= 1
    if not counts[one]:
        del counts[one]


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()
"""The process's hub; by event loop, as tests have several."""


def current() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    # Not `setdefault`: that makes a hub each time, which the server's end then holds for ever.
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]


def open_sockets() -> int:
    """The sockets of this process, of all its event loops."""
    return sum(len(hub) for hub in list(_hubs.values()))


SOCKETS.set_function(open_sockets)
