"""The values that travel: what a dataset holds, what the site allows, what a check gives."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from training.errors import Fault


@dataclass(frozen=True)
class MarketFacts:
    """What the check must know of a dataset. Days are ISO texts in order; names as in the store."""

    name: str
    version: str
    region: str
    days: tuple[str, ...]
    fields: frozenset[str]
    instruments: Mapping[str, tuple[str, str]]
    markets: Mapping[str, tuple[str, ...]]
    benchmarks: tuple[str, ...] = ()

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> "MarketFacts":
        """Reads the dataset's `manifest.json`; KeyError, if a part is missing."""
        return cls(
            name=manifest["name"],
            version=manifest["version"],
            region=manifest["region"],
            days=tuple(manifest["days"]),
            fields=frozenset(name.lower() for name in manifest["fields"]),
            instruments={
                name: (span[0], span[1]) for name, span in manifest["instruments"].items()
            },
            markets={name: tuple(codes) for name, codes in manifest["markets"].items()},
            benchmarks=tuple(manifest.get("benchmarks", ())),
        )

    @property
    def first_day(self) -> str:
        return self.days[0]

    @property
    def last_day(self) -> str:
        return self.days[-1]

    @cached_property
    def by_lower_name(self) -> Mapping[str, str]:
        """Lower-case name → name: Qlib's store is lower case on disk."""
        names = (*self.instruments, *self.benchmarks)
        return {name.lower(): name for name in names}

    def day_index(self, day: str) -> int:
        """The place of the first trading day at or after `day` (an ISO date)."""
        return bisect_left(self.days, day[:10])

    def days_between(self, start: str | None, end: str | None) -> int:
        """Trading days from start to end, both included; None is open."""
        low = 0 if start is None else bisect_left(self.days, start[:10])
        high = len(self.days) if end is None else bisect_right(self.days, end[:10])
        return max(high - low, 0)

    def rows(self, codes: tuple[str, ...], start: str | None, end: str | None) -> int:
        """Rows (day × instrument) of these instruments in that range, an upper bound."""
        count = 0
        for code in codes:
            first, last = self.instruments.get(code, ("", ""))
            if first:
                from_day = first if start is None else max(first, start[:10])
                count += self.days_between(from_day, last if end is None else min(last, end[:10]))
        return count


@dataclass(frozen=True)
class Defaults:
    """What the site gives where a workflow says nothing, and the most that it may ask for.

    threads: the share of one training on a worker.
    """

    threads: int = 1
    timeout_s: int = 6 * 3600
    max_attempts: int = 2
    max_timeout_s: int = 7 * 24 * 3600
    default_dataset: str | None = None


@dataclass(frozen=True)
class Workflow:
    """What a person asked for, checked: it can run.

    config: the canonical document {"qlib_init", "task", "platform"}, plain JSON values.
    needs: "", "xgboost", "catboost", "torch" or "gpu"; posted: the text as it came.
    """

    name: str
    tags: tuple[str, ...]
    priority: str
    timeout_s: int
    max_attempts: int
    threads: int
    when_no_worker: str
    dataset: str
    model: str
    needs: str
    handler: str
    config: dict[str, Any] = field(repr=False)
    warnings: tuple[Fault, ...] = ()
    posted: str = field(default="", repr=False)
