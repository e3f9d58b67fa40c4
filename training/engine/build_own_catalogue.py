"""Reads an administrator's own classes, so that workflows may name them.

    python -m training.engine.build_own_catalogue /etc/qlib-platform/own_classes.toml

Writes what it read beside the list, with the ending .json; `PLATFORM_OWN_CLASSES` names the list.
The form of the list is described in `training/workflow/README.md`.
"""

import argparse
import inspect
import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from training.catalogue import OWN_CLASSES, digest, load, rule
from training.catalogue_meaning import BY_NAME
from training.engine.build_catalogue import argument_kinds, class_of, entry_of
from training.workflow.shape import known_kinds
from training.workflow.values import is_plain

SLOTS = ("model", "handler", "processor")
_KEYS = {"slot", "path", "needs", "dataset", "rules"}
_NEEDS = ("", "xgboost", "catboost", "torch")
_BY_TYPE = {bool: "bool", int: "int -1000000000..1000000000", float: "float -1e18..1e18"}
_NUMBERS_AND_WORDS = ("int", "float", "bool", "text", "choice")
_KINDS_OF_ARGUMENTS = ("series", "value", "window", "shift", "decay", "quantile")


class BadList(Exception):
    """The list can't be taken; the message says where and why."""


def build(source: Path) -> dict[str, Any]:
    """All that is known of the listed classes, as plain data. Raises: BadList."""
    told: dict[str, Any] = {"digest": digest(source), "slots": {}, "operators": {}}
    told["operator_paths"] = []
    for item in _items(source):
        path, slot = item["path"], item["slot"]
        found = _found(path)
        if slot == "operator":
            told["operators"][found.__name__] = _arguments(found, item)
            told["operator_paths"].append(path)
        else:
            told["slots"].setdefault(slot, []).append(_entry(item))
    return told


def _items(source: Path) -> list[dict[str, Any]]:
    try:
        data = tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadList(f"{source}: {error}") from error
    items: list[dict[str, Any]] = data.get("class", [])
    names: set[str] = set()
    for item in items:
        _check_item(item)
        name = item["path"].rpartition(".")[2]
        if name in names or _is_qlibs(item["slot"], name):
            raise BadList(f"{item['path']}: the name {name} is taken")
        names.add(name)
    return items


def _check_item(item: dict[str, Any]) -> None:
    where = item.get("path", "a class without a path")
    if strangers := sorted(item.keys() - _KEYS):
        raise BadList(f"{where}: {strangers[0]} is not known; there are {', '.join(sorted(_KEYS))}")
    if item.get("slot") not in (*SLOTS, "operator"):
        raise BadList(f"{where}: its slot is one of {', '.join((*SLOTS, 'operator'))}")
    if not isinstance(item.get("path"), str) or "." not in item["path"]:
        raise BadList(f"{where}: its path is package.module.Class")
    if item.get("needs", "") not in _NEEDS:
        raise BadList(f"{where}: it needs {', '.join(_NEEDS[1:])} or nothing")


def _is_qlibs(slot: str, name: str) -> bool:
    catalogue = load()
    return name in (catalogue.operators if slot == "operator" else catalogue.names(slot))


def _found(path: str) -> type:
    try:
        found = class_of(path)
    except (ImportError, AttributeError) as error:
        raise BadList(f"{path} can't be imported: {error}") from error
    if not inspect.isclass(found):
        raise BadList(f"{path} is no class")
    return found


def _arguments(operator: type, item: dict[str, Any]) -> list[str]:
    said = item.get("rules", {})
    if strange := [kind for kind in said.values() if kind not in _KINDS_OF_ARGUMENTS]:
        raise BadList(f"{item['path']}: {strange[0]!r} is none of {', '.join(_KINDS_OF_ARGUMENTS)}")
    try:
        return argument_kinds(operator, said)
    except KeyError as missing:
        message = f"{item['path']}: what {missing} may be is not known; say it under [class.rules]"
        raise BadList(message) from missing


def _entry(item: dict[str, Any]) -> dict[str, Any]:
    facts = entry_of(item["path"])
    said = item.get("rules", {})
    if strangers := sorted(said.keys() - facts["parameters"].keys()):
        raise BadList(f"{item['path']} has no parameter {strangers[0]}")
    for name, own in facts["parameters"].items():
        own["rule"] = _checked(item["path"], name, said.get(name) or _inferred(name, own))
    own_facts = {"own": True, "needs": item.get("needs", ""), "reads": item.get("dataset", "")}
    return {**facts, **own_facts}


def _inferred(name: str, own: dict[str, Any]) -> str | None:
    """Qlib's own shapes (dates, instruments, processors …) by their names, all else by type."""
    known = BY_NAME.get(name)
    if known is not None and (name == "seed" or rule(known).kind not in _NUMBERS_AND_WORDS):
        return known
    return _BY_TYPE.get(type(own.get("default")))


def _checked(path: str, name: str, text: str | None) -> str:
    if text is None:
        raise BadList(f"{path}: what {name} may be is not known; say it under [class.rules]")
    try:
        kind = rule(text).kind
    except ValueError as error:
        raise BadList(f"{path}: {text!r} of {name} is no rule: {error}") from error
    if not is_plain(kind) and kind not in known_kinds():
        raise BadList(f"{path}: {text!r} of {name} is no rule that is known")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("list", type=Path)
    source = parser.parse_args().list
    # What was read before must not count as Qlib's own.
    os.environ.pop(OWN_CLASSES, None)
    try:
        told = build(source)
    except BadList as error:
        sys.stderr.write(f"{error}\n")
        return 1
    target = source.with_suffix(".json")
    part = target.with_suffix(".json.part")
    part.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.rename(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
