"""The form of a task: classes of the catalogue in their slots, each parameter by its rule.

Gives the canonical task: built anew from what was understood, so that nothing else of the posted
document goes on. Used twice: at submission, with the dataset's facts, and in the training process,
which trusts neither queue nor database, without them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from training import catalogue_meaning as meaning
from training import expressions
from training.catalogue import Catalogue, Entry, Parameter, Rule, rule, rules
from training.workflow import market_shapes
from training.workflow.document import Path
from training.workflow.facts import MarketFacts
from training.workflow.findings import Findings, did_you_mean, shown
from training.workflow.values import BAD, LEFT_OUT, check_plain, is_plain

TASK_KEYS = ("model", "dataset", "record", "reweighter")
_CONF_KEYS = frozenset({"class", "module_path", "kwargs"})
_ALPHA = ("Alpha158", "Alpha158vwap", "Alpha360", "Alpha360vwap")
MAX_RECORDS = 20
MAX_ITEMS = 2000
MAX_PROCESSORS = 50


class Shape:
    """One check of one task. `threads` caps what models ask for; None leaves it."""

    def __init__(
        self,
        catalogue: Catalogue,
        findings: Findings,
        *,
        facts: MarketFacts | None = None,
        threads: int | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.findings = findings
        self.facts = facts
        self.threads = threads
        # Days that the widest label looks ahead: 2 for Qlib's usual label.
        self.horizon = 0

    def task(self, value: Any, path: Path) -> dict[str, Any]:
        """The canonical task; parts with faults are missing from it."""
        if not isinstance(value, dict):
            self.findings.fault(path, "a task is a mapping with `model` and `dataset`")
            return {}
        for key in value:
            if key not in TASK_KEYS:
                hint = did_you_mean(key, TASK_KEYS)
                self.findings.fault((*path, key), f"a task has no `{key}`", hint=hint)
        if value.get("reweighter") is not None:
            reason = f"reweighter is refused: {meaning.READS_OBJECT}"
            self.findings.fault((*path, "reweighter"), reason)
        result: dict[str, Any] = {}
        for key in ("model", "dataset"):
            if value.get(key) is None:
                self.findings.fault((*path, key), f"a task needs a `{key}`")
            else:
                result[key] = self.instance(key, value[key], (*path, key))
        result["record"] = self._records(value.get("record"), (*path, "record"))
        return {key: part for key, part in result.items() if part is not BAD}

    def _records(self, value: Any, path: Path) -> Any:
        records = [value] if isinstance(value, dict) else value
        if records is None:
            return []
        if not isinstance(records, list) or len(records) > MAX_RECORDS:
            self.findings.fault(path, f"records are a list of at most {MAX_RECORDS}")
            return BAD
        single = isinstance(value, dict)
        found = [
            self.instance("record", item, path if single else (*path, place))
            for place, item in enumerate(records)
        ]
        return BAD if any(item is BAD for item in found) else found

    # ── classes ─────────────────────────────────────────────────────────────────────────

    def instance(
        self, slot: str, value: Any, path: Path, *, given: frozenset[str] = frozenset()
    ) -> Any:
        """`{class, module_path, kwargs}` of a class of that slot, canonical; else BAD.

        given: required parameters that Qlib fills in itself.
        """
        if isinstance(value, str) and "/" not in value and slot.endswith("processor"):
            value = {"class": value}
        if not self._is_conf(slot, value, path):
            return BAD
        entry = self._entry(slot, value, path)
        if entry is None:
            return BAD
        kwargs = value.get("kwargs")
        if kwargs is None:
            kwargs = {}
        kwargs = self.kwargs(entry, kwargs, (*path, "kwargs"), given=given)
        if kwargs is BAD:
            return BAD
        return {"class": entry.name, "module_path": entry.module, "kwargs": kwargs}

    def _is_conf(self, slot: str, value: Any, path: Path) -> bool:
        if isinstance(value, str):
            reason = "a text here would be imported or unpickled: write `class` and `kwargs`"
            self.findings.fault(path, f"{shown(value)} is refused: {reason}")
            return False
        if not isinstance(value, dict):
            self.findings.fault(path, f"a {slot} is a mapping with `class` and `kwargs`")
            return False
        strangers = [key for key in value if key not in _CONF_KEYS]
        for key in strangers:
            reason = " (any function could be called by it)" if key == "func" else ""
            hint = did_you_mean(key, _CONF_KEYS)
            self.findings.fault((*path, key), f"`{key}` is not accepted here{reason}", hint=hint)
        return not strangers

    def _entry(self, slot: str, value: Mapping[str, Any], path: Path) -> Entry | None:
        name, module = value.get("class"), value.get("module_path")
        if not isinstance(name, str) or not isinstance(module, str | None):
            self.findings.fault((*path, "class"), f"a {slot} names its class as a text")
            return None
        if "." in name and module is None:
            module, _, name = name.rpartition(".")
        entry = self.catalogue.find(slot, name, module)
        if entry is None:
            self._unknown_class(slot, name, module, path)
        return entry

    def _unknown_class(self, slot: str, name: str, module: str | None, path: Path) -> None:
        known = self.catalogue.names(slot)
        where = (*path, "class")
        if module is not None and module.endswith(".py"):
            where = (*path, "module_path")
            message = f"{shown(module)} is refused: a Python file of the sender would be run"
            self.findings.fault(where, message)
        elif name in meaning.NOT_OFFERED:
            self.findings.fault(where, meaning.NOT_OFFERED[name])
        elif name in known:
            modules = self.catalogue.modules(slot, name)
            message = (
                f"there is no {name} in {shown(module)}"
                if module
                else (f"there are several classes {name}: `module_path` must say which")
            )
            self.findings.fault(
                (*path, "module_path"), message, hint="it is in " + " or ".join(modules)
            )
        else:
            message = f"{shown(name)} is no {slot.replace('_', ' ')} that is offered"
            hint = did_you_mean(name, known) or f"offered: {', '.join(known)}"
            self.findings.fault(where, message, hint=hint)

    # ── parameters ──────────────────────────────────────────────────────────────────────

    def kwargs(
        self, entry: Entry, value: Any, path: Path, *, given: frozenset[str] = frozenset()
    ) -> Any:
        """The parameters of one class, each checked; BAD, if any has a fault."""
        if not isinstance(value, dict):
            self.findings.fault(path, "parameters are a mapping")
            return BAD
        result: dict[str, Any] = {}
        named: dict[str, str] = {}
        for name, item in value.items():
            own = entry.own_name(name) if name not in entry.parameters else name
            parameter = entry.parameters.get(own)
            if parameter is None:
                result[name] = self._unknown_parameter(entry, name, (*path, name))
                continue
            twin = named.setdefault(entry.own_name(own), name) if parameter.of_library else name
            if twin != name:
                message = f"{name} and {twin} are one and the same: the library takes one of them"
                self.findings.fault((*path, name), message)
                result[name] = BAD
                continue
            result[name] = self.value(entry, parameter.rule, item, (*path, name))
        for parameter in entry.parameters.values():
            needed = parameter.required or parameter.name in meaning.NEEDED.get(entry.name, ())
            if needed and parameter.name not in {*value, *given}:
                self.findings.fault((*path, parameter.name), f"{entry.name} needs {parameter.name}")
                return BAD
        return self._kept(result)

    def _unknown_parameter(self, entry: Entry, name: str, path: Path) -> Any:
        aliases = entry.aliases or {}
        hint = did_you_mean(name, [*entry.parameters, *aliases])
        self.findings.fault(path, f"{entry.name} has no parameter {shown(name)}", hint=hint)
        return BAD

    def mapping(self, table: Mapping[str, str], value: Any, path: Path, what: str) -> Any:
        """A plain mapping whose keys are all in the table of rules."""
        if not isinstance(value, dict):
            self.findings.fault(path, f"{what} is a mapping")
            return BAD
        known = rules(table)
        result = {}
        for name, item in value.items():
            if name in known:
                result[name] = self.value(None, known[name], item, (*path, name))
            else:
                hint = did_you_mean(name, known)
                self.findings.fault((*path, name), f"{what} has no {shown(name)}", hint=hint)
                result[name] = BAD
        return self._kept(result)

    @staticmethod
    def _kept(result: dict[str, Any]) -> Any:
        if any(item is BAD for item in result.values()):
            return BAD
        return {name: item for name, item in result.items() if item is not LEFT_OUT}

    def value(self, entry: Entry | None, rule_: Rule, value: Any, path: Path) -> Any:
        """One value by its rule: plain, or one of Qlib's own shapes below."""
        if is_plain(rule_.kind):
            return check_plain(self.findings, path, value, rule_)
        if value is None and rule_.nullable:
            return None
        return _SHAPES[rule_.kind](self, value, path, rule_, entry)

    def items(
        self, value: Any, path: Path, what: str, *, most: int = MAX_ITEMS
    ) -> list[Any] | None:
        """The list, or None with a fault told."""
        if isinstance(value, list) and len(value) <= most:
            return value
        self.findings.fault(path, f"{what} are a list of at most {most}")
        return None

    # ── expressions ─────────────────────────────────────────────────────────────────────

    def expression(self, text: Any, path: Path, *, role: str = "feature") -> Any:
        """A field expression, read by the grammar; fields and instruments must exist."""
        try:
            node = expressions.parse(text, self.catalogue.operators)
        except expressions.BadExpression as bad:
            message = f"{bad.message} (column {bad.column} of {shown(text)})"
            self.findings.fault(path, message, hint=bad.hint)
            return BAD
        self._warn_of_future(node, text, path, role=role)
        return BAD if self._names_strangers(node, path) else text

    def _warn_of_future(self, node: expressions.Node, text: str, path: Path, *, role: str) -> None:
        _, ahead = expressions.reach(node)
        if role == "label":
            self.horizon = max(self.horizon, ahead)
        elif ahead > 0:
            message = (
                f"{shown(text)} looks {ahead} days into the future: a {role} that knows the "
                "future makes every backtest worthless"
            )
            self.findings.warn(path, message, hint="only a label looks ahead")

    def _names_strangers(self, node: expressions.Node, path: Path) -> bool:
        if self.facts is None:
            return False
        strangers = sorted(expressions.fields(node) - self.facts.fields)
        for name in strangers:
            hint = did_you_mean(name, self.facts.fields)
            message = f"dataset {self.facts.name} has no field ${name}"
            self.findings.fault(path, message, hint=hint and hint.replace("mean ", "mean $"))
        unknown = [
            code
            for code in expressions.instruments(node)
            if code.lower() not in self.facts.by_lower_name
        ]
        for code in unknown:
            self.findings.fault(path, f"dataset {self.facts.name} has no instrument {code}")
        return bool(strangers or unknown)


ShapeCheck = Callable[[Shape, Any, Path, Rule, Entry | None], Any]


def _slot(slot: str) -> ShapeCheck:
    def check(shape: Shape, value: Any, path: Path, rule_: Rule, entry: Entry | None) -> Any:
        return shape.instance(slot, value, path)

    return check


def _processors(shape: Shape, value: Any, path: Path, rule_: Rule, entry: Entry | None) -> Any:
    items = shape.items(value, path, "processors", most=MAX_PROCESSORS)
    if items is None:
        return BAD
    # Alpha158 and its kin pass their own fit range on to each processor that wants one.
    own_range = entry is not None and entry.name in _ALPHA
    given = frozenset({"fit_start_time", "fit_end_time"}) if own_range else frozenset()
    found = [
        shape.instance("processor", item, (*path, place), given=given)
        for place, item in enumerate(items)
    ]
    return BAD if any(item is BAD for item in found) else found


def _inst_processors(shape: Shape, value: Any, path: Path, rule_: Rule, entry: Entry | None) -> Any:
    if isinstance(value, dict):
        groups = {
            group: _inst_processors(shape, items, (*path, group), rule_, entry)
            for group, items in value.items()
        }
        return BAD if any(item is BAD for item in groups.values()) else groups
    items = shape.items(value, path, "processors", most=MAX_PROCESSORS)
    if items is None:
        return BAD
    found = [shape.instance("inst_processor", item, (*path, n)) for n, item in enumerate(items)]
    return BAD if any(item is BAD for item in found) else found


def _workers(shape: Shape, value: Any, path: Path, rule_: Rule, entry: Entry | None) -> Any:
    return _capped(shape, value, path, rule_, least=0)


def _threads(shape: Shape, value: Any, path: Path, rule_: Rule, entry: Entry | None) -> Any:
    return _capped(shape, value, path, Rule("int", low=-1, high=rule_.high), least=1)


def _capped(shape: Shape, value: Any, path: Path, rule_: Rule, *, least: int) -> Any:
    asked = check_plain(shape.findings, path, value, Rule("int", low=rule_.low, high=rule_.high))
    share = shape.threads
    if asked is BAD or share is None:
        return asked
    if asked < least:
        return share
    if asked > share:
        message = f"{path[-1]} is set to {share}, a training's share here, instead of {asked}"
        shape.findings.warn(path, message)
    return min(asked, share)


def _network(shape: Shape, value: Any, path: Path, rule_: Rule, entry: Entry | None) -> Any:
    known = {f"{item.module}.{item.name}" for item in shape.catalogue.slots["network"]}
    if isinstance(value, str) and value in known:
        return value
    message = f"{shown(value)} is refused: any module could be loaded by it"
    hint = did_you_mean(value, known) or f"offered: {', '.join(sorted(known))}"
    shape.findings.fault(path, message, hint=hint)
    return BAD


def _network_kwargs(shape: Shape, value: Any, path: Path, rule_: Rule, entry: Entry | None) -> Any:
    # Which network it is, is known beside it only; `sense` checks the names against it.
    names = {
        parameter.name: parameter
        for item in shape.catalogue.slots["network"]
        for parameter in item.parameters.values()
    }
    pseudo = Entry("network", "the network", "", (), "", _optional(names))
    return shape.kwargs(pseudo, value, path)


def _optional(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    return {name: Parameter(name, item.rule) for name, item in parameters.items()}


def _tra_network(shape: Shape, value: Any, path: Path, rule_: Rule, entry: Entry | None) -> Any:
    return shape.mapping(meaning.TRA_NETWORK, value, path, "TRA's model_config")


def _tra_router(shape: Shape, value: Any, path: Path, rule_: Rule, entry: Entry | None) -> Any:
    return shape.mapping(meaning.TRA_ROUTER, value, path, "TRA's tra_config")


_SHAPES: dict[str, ShapeCheck] = {
    "handler": _slot("handler"),
    "data_loader": _slot("data_loader"),
    "strategy": _slot("strategy"),
    "executor": _slot("executor"),
    "processors": _processors,
    "inst_processors": _inst_processors,
    "workers": _workers,
    "threads": _threads,
    "network": _network,
    "network_kwargs": _network_kwargs,
    "tra_network": _tra_network,
    "tra_router": _tra_router,
    **market_shapes.SHAPES,
}


def known_kinds() -> frozenset[str]:
    """Every kind of rule that has a check, for the test that asks for all of them."""
    return frozenset(_SHAPES)


__all__ = ["Shape", "known_kinds", "rule"]
