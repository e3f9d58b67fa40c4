"""Coming in, and staying in: whose credential it is, and which tasks its user sees.

When a web process restarts, all of its clients come back at once, most of them to a few tasks.
So what was read for one is kept for a moment for those who come right behind.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from training import events
from training.models import TrainingTask

from . import reads
from .authentication import Credential, user_of
from .publish import to_text

KEEP_S = 1.0
"""So old may be what a new socket is let in by; it is checked again while the socket is open."""

KEPT_MAX = 2_000

T = TypeVar("T")


@dataclass(frozen=True)
class Admission:
    """Who has come in."""

    user_id: int
    is_staff: bool

    def sees(self, owner_id: int) -> bool:
        """Whether the user may see a task of this owner; as `TrainingTask.visible_to` has it."""
        return self.is_staff or owner_id == self.user_id


@dataclass(frozen=True)
class Snapshot:
    """A task as it was just now, whole: `text` for the wire, `message` without its data."""

    owner_id: int
    message: dict[str, Any]
    text: str


class Recent(Generic[T]):
    """Answers that were there a moment ago."""

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[float, T]] = {}

    def get(self, key: Any) -> T | None:
        """The answer, if it is fresh."""
        until, answer = self._kept.get(key, (0.0, None))
        return answer if time.monotonic() < until else None

    async def ask(self, read: Callable[[Any], T | None], key: Any) -> T | None:
        """The fresh answer, else what `read` finds. Raises: DatabaseError."""
        answer = self.get(key)
        if answer is None:
            answer = await reads.run(read, key)
            if answer is not None:
                self._keep(key, answer)
        return answer

    def _keep(self, key: Any, answer: T) -> None:
        self._kept.pop(key, None)
        self._kept[key] = (time.monotonic() + KEEP_S, answer)
        while len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]


class Door:
    """Lets sockets in, for the hub of one event loop."""

    def __init__(self) -> None:
        self._people: Recent[Admission] = Recent()
        self._tasks: Recent[Snapshot] = Recent()

    async def admit(self, credential: Credential) -> Admission | None:
        """Who it is; None if not signed in. Raises: DatabaseError."""
        return await self._people.ask(_who, credential)

    async def show(self, task_id: str, admission: Admission, *, at_least: int) -> Snapshot | None:
        """The task; None if there is none, or it is not theirs. Raises: DatabaseError.

        at_least: a number that the client has seen; an older snapshot would know less than it.
        """
        snapshot = await self._tasks.ask(snapshot_of, task_id)
        if snapshot is not None and snapshot.message["seq"] < at_least:
            snapshot = await reads.run(snapshot_of, task_id)
        return snapshot if snapshot and admission.sees(snapshot.owner_id) else None


def _who(credential: Credential) -> Admission | None:
    user = user_of(credential)
    return Admission(user.pk, bool(getattr(user, "is_staff", False))) if user else None


def snapshot_of(task_id: str) -> Snapshot | None:
    """The task as one message; None if it is gone."""
    task = TrainingTask.objects.select_related("owner").filter(pk=task_id).first()
    if task is None:
        return None
    message = events.snapshot(task)
    return Snapshot(task.owner_id, {**message, "data": {}}, to_text(message))


def still_in(
    wanted: Mapping[Credential, frozenset[str]],
) -> dict[Credential, tuple[Admission, frozenset[str]] | None]:
    """Of each credential: whom it admits now, and which of the tasks; None if nobody."""
    owners = _owners(set().union(*wanted.values()))
    answer: dict[Credential, tuple[Admission, frozenset[str]] | None] = {}
    for credential, task_ids in wanted.items():
        admission = _who(credential)
        if admission is None:
            answer[credential] = None
            continue
        visible = {one for one in task_ids & owners.keys() if admission.sees(owners[one])}
        answer[credential] = admission, frozenset(visible)
    return answer


def _owners(task_ids: set[str]) -> dict[str, int]:
    return {
        task_id: owner_id
        for some in reads.chunks(task_ids)
        for task_id, owner_id in TrainingTask.objects.filter(pk__in=some).values_list(
            "pk", "owner_id"
        )
    }
