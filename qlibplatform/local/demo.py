"""The demo training as a client of the platform: submitted over HTTP, followed over its socket.

Knows nothing that the contract does not promise to every client.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

from .prepare import CHECKOUT, CannotStart, Place

WORKFLOW = CHECKOUT / "training" / "presets" / "demo.yaml"
FINAL = frozenset({"completed", "failed", "cancelled"})
Event = dict[str, Any]

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy that the environment names is not for this machine's own address."""


@dataclass(frozen=True)
class Client:
    """A place to talk to, and the token to do it with."""

    place: Place
    token: str

    def submit(self) -> str:
        """Post the demo workflow and answer the task's id. Raises: CannotStart."""
        request = urllib.request.Request(
            f"{self.place.url}/api/train",
            data=WORKFLOW.read_bytes(),
            headers={**self._headers(), "Content-Type": "application/yaml"},
        )
        try:
            with _DIRECT.open(request, timeout=30) as answer:
                return str(json.load(answer)["task_id"])
        except urllib.error.HTTPError as error:
            text = error.read(2000).decode(errors="replace")
            raise CannotStart(f"The demo workflow was refused ({error.code}): {text}") from error
        except OSError as error:
            raise CannotStart(f"The demo workflow could not be posted: {error}") from error

    def task(self, task_id: str) -> dict[str, Any]:
        """The task as it is now."""
        request = urllib.request.Request(
            f"{self.place.url}/api/tasks/{task_id}", headers=self._headers()
        )
        with _DIRECT.open(request, timeout=30) as answer:
            task: dict[str, Any] = json.load(answer)
            return task

    def events(self, task_id: str, *, look: Callable[[], None]) -> Iterator[Event | None]:
        """The task's events until the final one, through any loss of the connection.

        None whenever a quarter of a second passed without one. look: called about every second;
        what it raises ends the listening.
        """
        seen = None
        while True:
            try:
                for event in self._listen(task_id, after=seen, look=look):
                    if event is None:
                        yield None
                        continue
                    seen = event["seq"]
                    yield event
                    if event["status"] in FINAL:
                        return
            except (OSError, ConnectionClosed, InvalidHandshake) as error:
                _raise_if_hopeless(error)
                look()
                time.sleep(0.5)

    def _listen(
        self, task_id: str, *, after: int | None, look: Callable[[], None]
    ) -> Iterator[Event | None]:
        query = "" if after is None else f"?after={after}"
        url = f"ws://{self.place.address}/ws/train/{task_id}{query}"
        looked_at = time.monotonic()
        with connect(url, additional_headers=self._headers(), proxy=None) as socket:
            while True:
                if time.monotonic() - looked_at > 1:
                    look()
                    looked_at = time.monotonic()
                try:
                    message = json.loads(socket.recv(timeout=0.25))
                except TimeoutError:
                    yield None
                    continue
                if "seq" in message:
                    yield message

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def _raise_if_hopeless(error: Exception) -> None:
    """A refusal that would be the same the next time is an end, not an interruption."""
    refused = isinstance(error, InvalidStatus) and error.response.status_code < 500
    told = error.rcvd if isinstance(error, ConnectionClosed) else None
    if refused or (told and 4400 <= told.code < 4429):
        raise CannotStart(f"The demo training cannot be followed: {error}") from error


def wait_until_ready(place: Place, *, look: Callable[[], None], deadline_s: float = 60) -> None:
    """Wait for `/readyz`: database, Redis and a worker are there. Raises: CannotStart."""
    until = time.monotonic() + deadline_s
    reason = "no answer"
    while time.monotonic() < until:
        try:
            with _DIRECT.open(f"{place.url}/readyz", timeout=5):
                return
        except urllib.error.HTTPError as error:
            reason = error.read(1000).decode(errors="replace")
        except OSError as error:
            reason = str(error)
        look()
        time.sleep(0.1)
    raise CannotStart(f"The platform is not ready after {deadline_s:.0f} s: {reason}")
