"""Writes `training/catalogue.json`: what the installed Qlib offers, read from its signatures.

    python -m training.engine.build_catalogue            writes the file
    python -m training.engine.build_catalogue --check    fails if the file is out of date

Facts only; what the facts mean (bounds, refusals, needs) is kept by hand in
`training/catalogue_meaning.py`. An administrator's own classes: see `build_own_catalogue`.
"""

import argparse
import importlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from training.catalogue_meaning import OFFERED, OPERATOR_ARGUMENTS, OPERATORS_LEFT_OUT

TARGET = Path(__file__).resolve().parent.parent / "catalogue.json"
_OURS_TO_GIVE = frozenset({"self", "recorder", "args"})


def build() -> dict[str, Any]:
    """The catalogue as plain data; the same Qlib gives the same bytes."""
    return {
        "qlib": version("pyqlib"),
        "lightgbm": {"version": version("lightgbm"), "aliases": _lightgbm_aliases()},
        "slots": {
            slot: [entry_of(path) for path in paths] for slot, paths in sorted(OFFERED.items())
        },
        "operators": _operators(),
        "columns": _columns(),
    }


def class_of(path: str) -> type:
    """The class of that dotted path. Raises: ImportError, AttributeError."""
    module_path, name = path.rsplit(".", 1)
    found: type = getattr(importlib.import_module(module_path), name)
    return found


def entry_of(path: str) -> dict[str, Any]:
    """The facts of one class: its parameters as the signatures tell them."""
    module_path, name = path.rsplit(".", 1)
    found = class_of(path)
    parameters, is_open = _parameters(found)
    return {
        "class": name,
        "module": module_path,
        "also_in": _other_places(module_path, name, found),
        "about": (inspect.getdoc(found) or "").partition("\n")[0].strip(),
        "open": is_open,
        "parameters": parameters,
    }


def _other_places(module_path: str, name: str, found: type) -> list[str]:
    """Packages above the module that show the same class, as `qlib.contrib.strategy` does."""
    parts = module_path.split(".")
    above = (".".join(parts[:count]) for count in range(1, len(parts)))
    return [place for place in above if getattr(sys.modules.get(place), name, None) is found]


def _parameters(found: type) -> tuple[dict[str, Any], bool]:
    """Parameters of the constructor and, where `**kwargs` passes on, of those that it calls.

    Returns: name → facts in order, and whether unknown names are swallowed at the end.
    """
    facts: dict[str, Any] = {}
    for owner in _constructors(found):
        signature = inspect.signature(owner.__dict__["__init__"])
        passes_on = False
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                passes_on = True
            elif name not in _OURS_TO_GIVE and name not in facts:
                facts[name] = _facts(parameter)
        if not passes_on:
            return facts, False
    return facts, True


def _constructors(found: type) -> Iterator[type]:
    packages = {"qlib", found.__module__.partition(".")[0]}
    for owner in found.__mro__:
        own = owner.__dict__.get("__init__")
        if own is not None and owner.__module__.partition(".")[0] in packages:
            yield owner


def _facts(parameter: inspect.Parameter) -> dict[str, Any]:
    if parameter.default is inspect.Parameter.empty:
        return {"required": True}
    return {"default": _plain(parameter.default)}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return {"object": getattr(value, "__name__", type(value).__name__)}


def _operators() -> dict[str, list[str]]:
    from qlib.data.ops import OpsList

    found = {}
    for operator in OpsList:
        name = operator.__name__
        if name in OPERATORS_LEFT_OUT:
            continue
        found[name] = argument_kinds(operator, OPERATOR_ARGUMENTS.get(name, {}))
    return dict(sorted(found.items()))


def argument_kinds(operator: type, said: Mapping[str, str]) -> list[str]:
    """What each argument of an operator may be: as said, else by Qlib's own names for them.

    Raises: KeyError, with the name of an argument that neither tells.
    """
    constructor = operator.__dict__.get("__init__") or operator.__init__  # type: ignore[misc]
    names = [n for n in inspect.signature(constructor).parameters if n != "self"]
    bases = [base.__name__ for base in operator.__mro__]
    return [said.get(n) or _argument_kind(n, bases) for n in names]


def _argument_kind(name: str, bases: list[str]) -> str:
    if name in ("feature_left", "feature_right"):
        return "series" if "PairRolling" in bases else "value"
    kinds = {
        "feature": "series",
        "condition": "series",
        "N": "window",
        "qscore": "quantile",
        "instrument": "instrument",
        "freq": "frequency",
        "func": "function",
    }
    return kinds[name]


def _columns() -> dict[str, dict[str, str]]:
    """Column name → expression, of the handlers that bring their own features."""
    from qlib.contrib.data.handler import Alpha158
    from qlib.contrib.data.loader import Alpha158DL, Alpha360DL

    default_loader = Alpha158DL.get_feature_config()
    return {
        "Alpha158": _named(Alpha158.get_feature_config(Alpha158.__new__(Alpha158))),
        "Alpha158DL": _named(default_loader),
        "Alpha360": _named(Alpha360DL.get_feature_config()),
    }


def _named(config: Any) -> dict[str, str]:
    expressions, names = config
    return dict(zip(names, expressions, strict=True))


def _lightgbm_aliases() -> dict[str, str]:
    """Alias → LightGBM's own name of the parameter, as the installed library tells it."""
    from lightgbm.basic import _ConfigAliases

    everything = _ConfigAliases._get_all_param_aliases()
    return {
        alias: name
        for name, aliases in sorted(everything.items())
        for alias in sorted(aliases)
        if alias != name
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true")
    check = options.parse_args().check
    text = json.dumps(build(), indent=1, sort_keys=False, ensure_ascii=False) + "\n"
    if not check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write("training/catalogue.json does not match the installed Qlib: rebuild it\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
