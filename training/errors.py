"""Every deliberate error, each with a stable code. No Django here: trainings read it too.

TrainingError
├── InvalidConfig        invalid_config          a workflow that can't run; carries every fault
├── TooLarge             too_large               a document over the limits
├── NotFound             not_found               no such thing, or not yours
├── AlreadyFinished      already_finished        a final task can't be acted on
├── NotFinished          not_finished            the action wants a final task
├── NotFitting           not_fitting             nothing to finish early right now
├── NotAllowed           not_allowed             for the staff alone
├── Pinned               pinned                  a pinned task is not deleted
├── InvalidCursor        invalid_request         a page's place that this server did not give
├── StoreAway            store_away              the far store of artifacts does not answer
├── IdempotencyConflict  idempotency_conflict    one key, two different bodies
└── Fenced               fenced                  the attempt is not the leader's own any more
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, or worth a warning, in a workflow: the place and the cure.

    path: dotted, `task.model.kwargs.num_leave`, list items by number (`task.record.0`);
    line, column: 1-based, of the posted YAML, where known.
    """

    path: str
    message: str
    hint: str | None = None
    line: int | None = None
    column: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fault as the API shows it; what is unknown is left out."""
        return {name: value for name, value in vars(self).items() if value is not None}


class TrainingError(Exception):
    """Base of all deliberate errors; `code` is part of the contract, the message is for people."""

    code = "training_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidConfig(TrainingError):
    """A workflow was refused; `faults` holds everything that was found, never empty."""

    code = "invalid_config"

    def __init__(self, faults: "tuple[Fault, ...] | list[Fault]") -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        first = self.faults[0].message if self.faults else "no fault named"
        more = f" (and {count - 1} more)" if count > 1 else ""
        super().__init__(f"This workflow can't run: {first}{more}")


class TooLarge(TrainingError):
    """A document is larger or deeper than the limits; the message names the limit."""

    code = "too_large"


class NotFound(TrainingError):
    """There is no such thing, or the caller may not see it."""

    code = "not_found"


class AlreadyFinished(TrainingError):
    """The task is final; final is final."""

    code = "already_finished"


class NotFinished(TrainingError):
    """The action wants a final task and this one is not."""

    code = "not_finished"


class NotFitting(TrainingError):
    """The task is not where it could be finished early."""

    code = "not_fitting"


class NotAllowed(TrainingError):
    """The caller may see it, but only the staff may do this to it."""

    code = "not_allowed"


class Pinned(TrainingError):
    """The task is pinned: unpin it before deleting it."""

    code = "pinned"


class InvalidCursor(TrainingError):
    """The place of a page is none that this server gave for this order."""

    code = "invalid_request"


class StoreAway(TrainingError, OSError):
    """The far store of artifacts did not take or give something; like a disk that fails."""

    code = "store_away"


class IdempotencyConflict(TrainingError):
    """The same Idempotency-Key came with another body."""

    code = "idempotency_conflict"


class Fenced(TrainingError):
    """The task is not running under this attempt any more: its leader must stop writing."""

    code = "fenced"
