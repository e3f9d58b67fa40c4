"""The log of a running attempt: every line of the training and of its leader, with its time.

The training writes raw bytes to a file of its own, so that it never waits for its leader; the
leader reads what is new, stamps each line and keeps the stamped text beside it.
"""

import logging
import time
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from .sanitise import clean_text

log = logging.getLogger(__name__)

READ_BYTES = 65_536
MAX_LINE = 4_096
"""Characters of one line; a longer one is cut, as no reader looks at it."""

PARTIAL_LIVES_S = 1.0
"""A line without an end is shown after so long: a prompt or a progress bar."""


class RunLog:
    """Stamped text of one attempt; `raw` is where the training writes."""

    def __init__(self, folder: Path) -> None:
        self.raw = folder / "log.raw"
        self.kept = folder / "log.txt"
        self.raw.touch(mode=0o600)
        self._source = self.raw.open("rb")
        self._kept = self.kept.open("w", encoding="utf-8")
        self._partial = b""
        self._partial_since = 0.0
        self._written = 0
        self._full = False

    def add(self, text: str) -> str:
        """A line of the leader's own, stamped."""
        return self._keep(f"{_now()} leader: {clean_text(text, limit=MAX_LINE)}\n")

    def read(self) -> str:
        """What the training has written since, stamped; complete lines only."""
        fresh = self._source.read(READ_BYTES)
        if not fresh and not self._is_stale():
            return ""
        if not self._partial:
            self._partial_since = time.monotonic()
        text = (self._partial + fresh).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._partial = text.split(b"\n")
        if not fresh or len(self._partial) > READ_BYTES:
            lines, self._partial = [*lines, self._partial], b""
        return self._keep("".join(_stamped(line) for line in lines if line.strip()))

    def rest(self) -> str:
        """Everything that is left, the last line too, complete or not."""
        pieces = []
        while self._source.tell() < self.raw.stat().st_size:
            pieces.append(self.read())
        if self._partial.strip():
            pieces.append(self._keep(_stamped(self._partial)))
            self._partial = b""
        return "".join(pieces)

    def _is_stale(self) -> bool:
        return bool(self._partial) and (time.monotonic() - self._partial_since > PARTIAL_LIVES_S)

    def _keep(self, text: str) -> str:
        if self._full:
            return ""
        self._written += len(text.encode())
        if self._written > settings.LOG_MAX_BYTES:
            self._full = True
            text = f"{_now()} leader: the log is cut here, at {settings.LOG_MAX_BYTES} bytes\n"
        try:
            self._kept.write(text)
            self._kept.flush()
        except OSError as error:
            # A full disk must not end the leader; what it reports still reaches the database.
            log.warning("the log can't be written here: %s", error)
        return text


def _stamped(line: bytes) -> str:
    return f"{_now()} {clean_text(line.decode(errors='replace'), limit=MAX_LINE)}\n"


def _now() -> str:
    """This instant: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
