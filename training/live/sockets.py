"""What the two kinds of sockets have in common: who listens, the way out, a client's few words."""

import asyncio
from typing import Any

from .admission import Admission
from .authentication import Credential
from .hub import Hub
from .outlet import Outlet
from .publish import to_text


class Socket:
    """What the two kinds have in common: who listens, the way out, and the words of a client."""

    task_id = ""

    def __init__(self, credential: Credential, admission: Admission, outlet: Outlet) -> None:
        self.credential = credential
        self.admission = admission
        self.user_id = admission.user_id
        self.outlet = outlet
        self.wake = asyncio.Event()
        self._code: int | None = None
        self._answers: list[dict[str, Any]] = []

    def admit(self, now: Admission) -> None:
        """Take note of who the user is now."""
        self.admission = now

    def stop(self, code: int) -> None:
        """Close the socket soon."""
        self._code = code
        self.wake.set()

    def ask(self, word: dict[str, Any]) -> None:
        """Answer a client's word: `ping`, `sync`, or what can't be understood."""
        if word.get("type") == "ping":
            self._answers.append({"type": "pong"})
        elif not (word.get("type") == "sync" and self._sync(word)):
            hint = 'send {"type": "ping"} or ' + self._sync_hint
            self._answers.append({"type": "error", "message": f"not understood: {hint}"})
        self.wake.set()

    _sync_hint = ""

    def _sync(self, word: dict[str, Any]) -> bool:
        """Go back to where the client says; False if it says no such place."""
        raise NotImplementedError

    def _state(self) -> dict[str, Any]:
        """The fields that every message carries, as an answer carries them."""
        raise NotImplementedError

    async def write(self, here: Hub) -> int:
        """Send what there is until told to close; returns the close code."""
        raise NotImplementedError

    async def _answer(self) -> None:
        while self._answers:
            await self.outlet.send(to_text({**self._state(), **self._answers.pop(0)}))
