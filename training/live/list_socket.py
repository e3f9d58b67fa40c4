"""The newest states of the tasks that one client may see."""

from typing import Any

from django.utils import timezone

from training.events import instant

from . import listing, reads
from .admission import Admission
from .authentication import Credential
from .hub import Hub
from .outlet import Outlet
from .publish import to_text
from .reads import State
from .sockets import Socket


class ListSocket(Socket):
    """The newest states to one client: what is not sent yet is kept by task, newest only."""

    _sync_hint = '{"type": "sync", "cursor": "<cursor>"}'

    def __init__(
        self, credential: Credential, admission: Admission, outlet: Outlet, since: int | None
    ) -> None:
        super().__init__(credential, admission, outlet)
        self._since = since
        self._pending: dict[str, tuple[int, str]] = {}
        self._must_load = True
        self._cursor = ""

    def _sync(self, word: dict[str, Any]) -> bool:
        cursor = word.get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            return False
        self._since, self._must_load = listing.event_id_of(cursor), True
        return True

    def _state(self) -> dict[str, Any]:
        of_a_task = ("task_id", "status", "progress", "message", "seq", "stage")
        now = instant(timezone.now())
        return {**dict.fromkeys(of_a_task), "timestamp": now, "data": {}, "cursor": self._cursor}

    def offer(self, state: State, text: str) -> None:
        """Take the state if the user may see it; a newer one of the same task takes its place."""
        if not self.admission.sees(state.owner_id):
            return
        waiting = self._pending.get(state.task_id)
        if waiting is None or waiting[0] < state.seq:
            self._pending[state.task_id] = (state.seq, text)
            self.wake.set()

    async def write(self, here: Hub) -> int:
        """Send every state; returns the close code. Raises: TooSlow, DatabaseError."""
        # Joined before the first reading, so that no change falls between the two.
        here.listing.join(self)
        await here.watch_list(self)
        while self._code is None:
            self.wake.clear()
            self._cursor = here.listing.cursor()
            await self._answer()
            if self._must_load:
                self._must_load = False
                await self._load(here.listing)
            while self._pending and self._code is None:
                task_id = next(iter(self._pending))
                await self.outlet.send(self._pending.pop(task_id)[1])
            if not self.wake.is_set():
                await self.wake.wait()
        return self._code

    async def _load(self, shown: listing.Listing) -> None:
        """Read what the client is to be told first."""
        cursor = shown.cursor()
        owner_id = None if self.admission.is_staff else self.user_id
        states = await reads.run(reads.states_for, owner_id, self._since)
        shown.know(states)
        for state in reversed(states):
            self.offer(state, to_text({**state.message, "cursor": cursor}))
