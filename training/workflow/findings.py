"""All faults and warnings of one check, each with its place in the document."""

from collections.abc import Iterable
from difflib import get_close_matches

from training.errors import Fault
from training.workflow.document import MAX_FAULTS, Document, Path


class Enough(Exception):
    """`MAX_FAULTS` are told: nobody reads more, and looking on would only cost time."""


class Findings:
    """Collects faults and warnings, at most `MAX_FAULTS` of a kind.

    `fault` raises Enough with the last one that is kept.
    """

    def __init__(self, document: Document | None = None) -> None:
        self._document = document
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []

    def fault(self, path: Path, message: str, *, hint: str | None = None) -> None:
        self._add(self.faults, path, message, hint)
        if len(self.faults) >= MAX_FAULTS:
            raise Enough

    def warn(self, path: Path, message: str, *, hint: str | None = None) -> None:
        self._add(self.warnings, path, message, hint)

    def _add(self, to: list[Fault], path: Path, message: str, hint: str | None) -> None:
        place = self._document.place(path) if self._document else None
        line, column = place or (None, None)
        shown = ".".join(str(step)[:80] for step in path)
        found = Fault(shown, message, hint, line, column)
        if len(to) < MAX_FAULTS and found not in to:
            to.append(found)


def did_you_mean(name: object, known: Iterable[str]) -> str | None:
    """A hint that names the nearest known name, if one is near."""
    if not isinstance(name, str) or len(name) > 60:
        return None
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else None


def shown(value: object) -> str:
    """A value as a message shows it: short, on one line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
