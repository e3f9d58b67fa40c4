"""What a workflow may use: classes by slot, their parameters and what each may be.

Joins `catalogue.json` (read from the pinned Qlib by `training.engine.build_catalogue`) with
`catalogue_meaning.py` (kept by hand). The web checks with it and imports no Qlib.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from training import catalogue_meaning as meaning

DATA = Path(__file__).with_name("catalogue.json")
OWN_CLASSES = "PLATFORM_OWN_CLASSES"
"""The setting that names an administrator's list of own classes, read here and not from Django's
settings, as the engine has none: see `training/workflow/README.md`."""


class OwnClassesNotRead(RuntimeError):
    """The list of own classes is not there, or has changed since it was read."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one value may be. `kind` names the check; the rest are its bounds.

    low_open: the lower bound itself is out of range. reason: why it is refused or ignored.
    """

    kind: str
    nullable: bool = False
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    choices: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    rule: Rule
    required: bool = False
    default: Any = None
    of_library: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One class that a workflow may name.

    also_in: other modules under which Qlib shows it. library: whose parameters `**kwargs` takes
    ("" for none). aliases: other names of those parameters → the library's own.
    own: an administrator's; only then own_needs and reads (the dataset's class, "" for any).
    """

    slot: str
    name: str
    module: str
    also_in: tuple[str, ...]
    about: str
    parameters: Mapping[str, Parameter]
    library: str = ""
    aliases: Mapping[str, str] | None = None
    own: bool = False
    own_needs: str = ""
    reads: str = ""

    @property
    def needs(self) -> str:
        """The extra that a worker must have: "", "xgboost", "catboost" or "torch"."""
        if self.own:
            return self.own_needs
        if self.library in ("xgboost", "catboost"):
            return self.library
        return "torch" if ".pytorch_" in self.module else ""

    def own_name(self, name: str) -> str:
        """The library's own name of a parameter that has several."""
        return (self.aliases or {}).get(name, name)


@dataclass(frozen=True)
class Catalogue:
    qlib_version: str
    slots: Mapping[str, tuple[Entry, ...]]
    operators: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, Mapping[str, str]]
    own_operators: tuple[str, ...] = ()

    def find(self, slot: str, name: str, module: str | None) -> Entry | None:
        """The entry of that class; without a module, the only one of that name."""
        named = [entry for entry in self.slots[slot] if entry.name == name]
        if module is None:
            return named[0] if len(named) == 1 else None
        for entry in named:
            if module == entry.module or module in entry.also_in:
                return entry
        return None

    def get(self, slot: str, name: str, module: str | None = None) -> Entry:
        """As `find`, where the entry is known to exist; KeyError, if not."""
        entry = self.find(slot, name, module)
        if entry is None:
            raise KeyError(f"{slot} {module}.{name}")
        return entry

    def names(self, slot: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(entry.name for entry in self.slots[slot]))

    def modules(self, slot: str, name: str) -> tuple[str, ...]:
        return tuple(entry.module for entry in self.slots[slot] if entry.name == name)


@cache
def load() -> Catalogue:
    """The catalogue, read once per process."""
    data = json.loads(DATA.read_text(encoding="utf-8"))
    own = _own_data()
    lightgbm_aliases = data["lightgbm"]["aliases"]
    operators = {**data["operators"], **own.get("operators", {})}
    return Catalogue(
        qlib_version=data["qlib"],
        slots={
            slot: tuple(
                _entry(slot, facts, lightgbm_aliases)
                for facts in (*entries, *own.get("slots", {}).get(slot, ()))
            )
            for slot, entries in data["slots"].items()
        },
        operators={name: tuple(kinds) for name, kinds in operators.items()},
        columns=data["columns"],
        own_operators=tuple(own.get("operator_paths", ())),
    )


def _own_data() -> dict[str, Any]:
    """What was read of the administrator's own classes; empty without such a list.

    Raises: OwnClassesNotRead, with the cure.
    """
    named = os.environ.get(OWN_CLASSES, "")
    if not named:
        return {}
    cure = f"run python -m training.engine.build_own_catalogue {named}"
    source = Path(named)
    try:
        data: dict[str, Any] = json.loads(source.with_suffix(".json").read_text(encoding="utf-8"))
        same = data["digest"] == digest(source)
    except (OSError, ValueError, KeyError) as error:
        raise OwnClassesNotRead(f"{OWN_CLASSES}: {error}; {cure}") from error
    if not same:
        raise OwnClassesNotRead(f"{OWN_CLASSES}: {named} has changed; {cure}")
    return data


def digest(source: Path) -> str:
    """The sign by which a list of own classes is known again."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


def rules(table: Mapping[str, str]) -> dict[str, Rule]:
    """A table of short rule texts, read."""
    return {name: rule(text) for name, text in table.items()}


@cache
def rule(text: str) -> Rule:
    """Reads one rule of `catalogue_meaning`, e.g. `int? 1..10` or `choice a|b`."""
    head, _, rest = text.partition(" ")
    nullable = head.endswith("?")
    kind = head.removesuffix("?")
    if kind in ("refuse", "ignore", "scratch", "placeholder"):
        return Rule(kind, nullable=True, reason=rest)
    if kind == "choice":
        return Rule(kind, nullable=nullable, choices=tuple(rest.split("|")))
    if not rest:
        return Rule(kind, nullable=nullable)
    low, _, high = rest.partition("..")
    return Rule(
        kind,
        nullable=nullable,
        low=float(low.removeprefix(">")),
        high=float(high),
        low_open=low.startswith(">"),
    )


def _entry(slot: str, facts: dict[str, Any], lightgbm_aliases: dict[str, str]) -> Entry:
    name = facts["class"]
    library = meaning.BOOSTERS.get(name, "")
    parameters = {
        parameter: Parameter(
            parameter,
            rule(own["rule"]) if "rule" in own else _rule_for(name, parameter),
            required=own.get("required", False),
            default=own.get("default"),
        )
        for parameter, own in facts["parameters"].items()
    }
    for extra, text in meaning.EXTRA.get(name, {}).items():
        parameters.setdefault(extra, Parameter(extra, rule(text)))
    for extra, text in _LIBRARIES.get(library, {}).items():
        parameters.setdefault(extra, Parameter(extra, rule(text), of_library=True))
    aliases = lightgbm_aliases if library == "lightgbm" else meaning.ALIASES.get(library)
    return Entry(
        slot=slot,
        name=name,
        module=facts["module"],
        also_in=tuple(facts["also_in"]),
        about=facts["about"],
        parameters=parameters,
        library=library,
        aliases=aliases,
        own=facts.get("own", False),
        own_needs=facts.get("needs", ""),
        reads=facts.get("reads", ""),
    )


_LIBRARIES = {
    "lightgbm": meaning.LIGHTGBM,
    "xgboost": meaning.XGBOOST,
    "catboost": meaning.CATBOOST,
}


def _rule_for(class_name: str, parameter: str) -> Rule:
    """KeyError, if nobody said what the parameter means: a test asks this of every one."""
    own = meaning.BY_CLASS.get(class_name, {})
    return rule(own[parameter] if parameter in own else meaning.BY_NAME[parameter])
