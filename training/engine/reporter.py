"""The training's voice and ear: what it tells its leader, and what it is asked to do."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from training.engine.protocol import Channel, Message

MIN_INTERVAL_S = 0.2
POINTS_PER_MESSAGE = 1000


class Cancelled(BaseException):
    """The leader asked to abort. Qlib and joblib catch Exception and go on: not one of those."""


class Reporter:
    """Reports of one training, in order, over its channel to the leader.

    A leader that is gone counts as an order to abort. Not for threads, and not for forked children.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stage = ""
        self._order: str | None = None
        self._answers: list[Message] = []
        self._points: list[Message] = []
        self._points_sent_at = 0.0
        self._progress_sent_at = 0.0

    def stage(self, name: str, message: str = "") -> None:
        """Enters a stage. A cancel point, like `progress`."""
        self._stage = name
        self._progress_sent_at = 0.0
        self.flush()
        self._send({"type": "stage", "stage": name, "message": message})
        self._stop_if_aborted()

    def say(self, message: str) -> None:
        """What the current stage is busy with. A cancel point."""
        self.stage(self._stage, message)

    def progress(self, done: int, total: int | None, *, unit: str, message: str = "") -> None:
        """How far the current stage is; at most 5 a second go out, and always done == total.

        Raises: Cancelled, when the leader asked to abort.
        """
        self._stop_if_aborted()
        self._flush_if_due()
        now = time.monotonic()
        if done != total and now - self._progress_sent_at < MIN_INTERVAL_S:
            return
        self._progress_sent_at = now
        report = {"stage": self._stage, "done": done, "total": total, "unit": unit}
        self._send({"type": "progress", **report, "message": message})

    def metrics(self, points: Iterable[tuple[str, int, float]]) -> None:
        """Points (name, step, value) of curves; sent at most 5 times a second, never dropped.

        A value that is not finite becomes null. The last points go out with `flush`.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for name, step, value in points:
            self._points.append({"name": name, "step": step, "value": value, "at": at})
        self._flush_if_due()

    def order(self) -> str | None:
        """The leader's wish: None, "finish" or "abort". Never blocks; "abort" stays."""
        while self._order != "abort" and self._channel.is_ready():
            self._listen()
        return self._order

    def ask(self, question: Message, *, timeout_s: float) -> Message | None:
        """Send a question and wait for its answer; None in time. Raises: Cancelled."""
        self.tell(question)
        deadline = time.monotonic() + timeout_s
        while not self._answers:
            self._stop_if_aborted()
            left_s = deadline - time.monotonic()
            if self._answers or left_s <= 0:
                break
            self._channel.is_ready(left_s)
        return self._answers.pop(0) if self._answers else None

    def tell(self, message: Message) -> None:
        """Send what wants no answer."""
        self._send(message)

    def pause(self, seconds: float) -> None:
        """Do nothing for so long, but hear an order to abort at once. Raises: Cancelled."""
        deadline = time.monotonic() + seconds
        while (left_s := deadline - time.monotonic()) > 0:
            self._channel.is_ready(left_s)
            self._stop_if_aborted()

    def _listen(self) -> None:
        for message in self._channel.receive():
            if "answer" in message:
                self._answers.append(message["answer"])
            self._order = message.get("op") or self._order
        if self._channel.is_closed:
            self._order = "abort"

    def flush(self) -> None:
        """Sends every gathered point now."""
        points, self._points = self._points, []
        self._points_sent_at = time.monotonic()
        for start in range(0, len(points), POINTS_PER_MESSAGE):
            batch = points[start : start + POINTS_PER_MESSAGE]
            self._send({"type": "metrics", "points": batch})

    def done(self, result: Message) -> None:
        """The last word of a training that came to its end; `stopped` tells an early finish."""
        self.flush()
        stopped = "finish" if self.order() == "finish" else None
        self._send({"type": "done", "stopped": stopped, "result": result})

    def failed(self, *, code: str, error: str) -> None:
        """The last word of a training that did not."""
        self._send({"type": "failed", "code": code, "error": error})

    def _flush_if_due(self) -> None:
        if self._points and time.monotonic() - self._points_sent_at >= MIN_INTERVAL_S:
            self.flush()

    def _stop_if_aborted(self) -> None:
        if self.order() == "abort":
            raise Cancelled

    def _send(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except ConnectionError:
            raise Cancelled from None
