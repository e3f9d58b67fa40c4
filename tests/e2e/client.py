"""A client program: HTTP with a token, and a subscriber that resumes where it was cut off."""

import hashlib
import json
import threading
import time
from typing import Any

import requests
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from .waiting import until

FINAL = ("completed", "failed", "cancelled")
AWAY = (requests.ConnectionError, requests.Timeout)


class Client:
    """Speaks to one platform as its user."""

    def __init__(self, address: str, token: str) -> None:
        self.address = address
        self.headers = {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """One request; a new connection each time, as the web may be killed between two."""
        headers = {**self.headers, **kwargs.pop("headers", {})}
        url = f"http://{self.address}{path}"
        return requests.request(method, url, headers=headers, timeout=20, **kwargs)

    def read(self, path: str, *, within_s: float = 20) -> requests.Response:
        """GET, again and again while the web is away. Raises: AssertionError."""

        def look() -> list[requests.Response]:
            try:
                answer = self.call("GET", path)
            except AWAY:
                return []
            return [answer] if answer.status_code < 500 else []

        found = until(look, what=f"GET {path}", within_s=within_s)[0]
        assert found.status_code == 200, f"GET {path}: {found.status_code} {found.text[:500]}"
        return found

    def insist(self, text: str, *, key: str, within_s: float = 60) -> str:
        """Post a workflow until it is answered, as a client does that keeps its key; the id.

        A web process that is gone, and a 5xx, are no answer; a refusal is one.
        """

        def post() -> str | None:
            try:
                return self.submit(text, key=key)
            except (*AWAY, requests.HTTPError):
                time.sleep(0.5)
                return None

        return str(until(post, what=f"an answer to {key}", within_s=within_s))

    def submit(self, text: str, *, key: str = "") -> str:
        """Post a workflow as YAML; the new task's id, or of the key's first one.

        Raises: AssertionError, if it is refused; requests.HTTPError at a 5xx.
        """
        headers = {"Content-Type": "application/yaml"}
        if key:
            headers["Idempotency-Key"] = key
        answer = self.call("POST", "/api/train", data=text.encode(), headers=headers)
        if answer.status_code >= 500:
            raise requests.HTTPError(answer.text, response=answer)
        assert answer.status_code == 201 or (key and answer.status_code == 200), answer.text
        return str(answer.json()["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        return dict(self.read(f"/api/tasks/{task_id}").json())

    def act(self, task_id: str, what: str) -> requests.Response:
        return self.call("POST", f"/api/tasks/{task_id}/{what}")

    def events(self, task_id: str) -> list[dict[str, Any]]:
        """All events of the task, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            page = self.read(f"/api/tasks/{task_id}/events?after={after}").json()["results"]
            if not page:
                return found
            found += page

    def final(self, task_id: str, *, within_s: float = 60) -> dict[str, Any]:
        """The task once it is final. Raises: AssertionError."""

        def look() -> dict[str, Any] | None:
            time.sleep(0.1)
            task = self.task(task_id)
            return task if task["status"] in FINAL else None

        return dict(until(look, what=f"the end of {task_id}", within_s=within_s))

    def log(self, task_id: str) -> str:
        return self.read(f"/api/tasks/{task_id}/log").text

    def download(self, task_id: str, path: str) -> bytes:
        return self.read(f"/api/tasks/{task_id}/artifacts/{path}").content


class Subscriber(threading.Thread):
    """Listens to one task from its first event on; comes back with `after` when it is cut off.

    heard: the messages, in order; faults: what a client must never meet.
    """

    def __init__(self, client: Client, task_id: str) -> None:
        super().__init__(name=f"subscriber of {task_id}", daemon=True)
        self.client = client
        self.task_id = task_id
        self.heard: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.connected_count = 0
        self._last = 0
        self._leaving = threading.Event()
        self.start()

    def run(self) -> None:
        """Until told to leave."""
        while not self._leaving.is_set():
            try:
                with self._connect() as socket:
                    self.connected_count += 1
                    self._listen(socket)
            except (OSError, EOFError, WebSocketException):
                self._leaving.wait(0.1)

    def leave(self) -> None:
        self._leaving.set()
        self.join(timeout=10)
        assert not self.is_alive(), "the subscriber does not end"

    def types(self) -> list[str]:
        return [message["type"] for message in self.heard]

    def wait_for(self, kind: str, *, stage: str = "", within_s: float = 60) -> dict[str, Any]:
        """The first message of this type (and stage)."""

        def look() -> dict[str, Any] | None:
            for message in list(self.heard):
                if message["type"] == kind and stage in {"", message["data"].get("stage")}:
                    return message
            return None

        return dict(until(look, what=f"{kind} {stage} of {self.task_id}", within_s=within_s))

    def has_ended(self) -> bool:
        """Whether the task's end was heard."""
        return any(one["type"] in FINAL for one in list(self.heard))

    def wait_for_end(self, *, within_s: float = 60) -> dict[str, Any]:
        def look() -> list[dict[str, Any]]:
            return [one for one in list(self.heard) if one["type"] in FINAL]

        end = until(look, what=f"the end of {self.task_id} on the socket", within_s=within_s)
        return dict(end[0])

    def _connect(self) -> ClientConnection:
        url = f"ws://{self.client.address}/ws/train/{self.task_id}?after={self._last}"
        return connect(url, additional_headers=self.client.headers, open_timeout=10, proxy=None)

    def _listen(self, socket: ClientConnection) -> None:
        while not self._leaving.is_set():
            try:
                text = socket.recv(timeout=0.2)
            except TimeoutError:
                continue
            self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        seq = message["seq"]
        first = message.get("from_seq", seq)
        if message["type"] == "snapshot" or first != self._last + 1:
            self.faults.append(f"{message['type']} {first}..{seq} came after {self._last}")
        self._last = seq
        self.heard.append(message)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
