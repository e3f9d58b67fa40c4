"""Judges how a training ended, against its limits. Standard library only."""

import math
import signal
from dataclasses import dataclass

from training.engine.protocol import Message

# RLIMIT_DATA stands this far above the watched limit: it stops what grows between two looks.
BACKSTOP_FACTOR = 1.4
MEMORY_SIGNALS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGKILL)
"""How one that gets no memory ends: native code crashes, or the kernel kills to have some again."""


@dataclass(frozen=True)
class Limits:
    """What one training may use. The leader watches memory and wall time, the kernel the rest."""

    memory_bytes: int
    wall_s: float
    cpu_s: float | None = None
    file_bytes: int = 8 * 2**30
    open_files: int = 1024

    def as_rlimits(self) -> dict[str, int]:
        """Names without RLIMIT_. No address space limit: native code maps far more than it uses."""
        limits = {
            "CORE": 0,
            "FSIZE": self.file_bytes,
            "NOFILE": self.open_files,
            "DATA": int(self.memory_bytes * BACKSTOP_FACTOR),
        }
        return limits if self.cpu_s is None else {**limits, "CPU": math.ceil(self.cpu_s)}


@dataclass(frozen=True)
class Outcome:
    """How a training ended. kind: completed, failed, cancelled, host_lost.

    code and error: empty if completed.
    """

    kind: str
    code: str = ""
    error: str = ""


def classify(
    *,
    final: Message | None,
    ended: Message | None,
    killed_because: str | None,
    peak_memory_bytes: int,
    limits: Limits,
) -> Outcome:
    """Judges a training by its last word, the host's exit message, and why it was killed, if so.

    final: its "done" or "failed", if any. killed_because: None, "out_of_memory", "timed_out",
    "cancelled", or another code of the leader's. A training that was done is completed, even if an
    order to stop came a moment later, unless the leader's kill met it before it could exit.
    """
    exited = ended is not None and ended["code"] == 0
    if final is not None and final["type"] == "done" and (exited or killed_because is None):
        return Outcome("completed")
    peak = max(peak_memory_bytes, ended["max_rss_bytes"] if ended else 0)
    if killed_because is not None:
        # Peak as the watch saw it: resident size counts file pages too.
        return _failure(killed_because, peak=peak_memory_bytes, limits=limits)
    if final is not None and final["type"] == "failed":
        sentence = None if final["code"] in SENTENCES else final["error"]
        return _failure(final["code"], peak=peak, limits=limits, sentence=sentence)
    if ended is None:
        return _failure("host_lost", peak=peak, limits=limits)
    return _judge_silent_end(ended, peak=peak, limits=limits)


SENTENCES = {
    "out_of_memory": "The training used {peak} of {limit} memory and was stopped; "
    "use fewer instruments, features or a shorter range.",
    "timed_out": "The training ran longer than its limit of {wall} and was stopped; "
    "peak memory {peak}. Allow more time or make it smaller.",
    "cancelled": "The training was cancelled.",
    "host_lost": "The engine host died under the training; peak memory {peak}. "
    "This is no fault of the workflow.",
}


def _judge_silent_end(ended: Message, *, peak: int, limits: Limits) -> Outcome:
    """A training that ended by itself without a last word."""
    number = ended["signal"]
    if number == signal.SIGXCPU:
        return _failure("timed_out", peak=peak, limits=limits)
    if number in MEMORY_SIGNALS and peak > 0.8 * limits.memory_bytes:
        return _failure("out_of_memory", peak=peak, limits=limits)
    if number:
        name = signal.Signals(number).name if number in iter(signal.Signals) else "unknown"
        sentence = (
            f"The training was killed by signal {number} ({name}); peak memory {_size(peak)}."
        )
        return Outcome("failed", "training_killed", sentence)
    sentence = (
        f"The training ended without a last word, exit code {ended['code']}; "
        f"peak memory {_size(peak)}. The log may tell more."
    )
    return Outcome("failed", "training_error", sentence)


def _failure(code: str, *, peak: int, limits: Limits, sentence: str | None = None) -> Outcome:
    kind = code if code in ("cancelled", "host_lost") else "failed"
    pattern = SENTENCES.get(code, "The training was stopped ({code}); peak memory {peak}.")
    told = pattern.format(
        code=code, peak=_size(peak), limit=_size(limits.memory_bytes), wall=_span(limits.wall_s)
    )
    return Outcome(kind, code, sentence or told)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _span(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:g} s"
