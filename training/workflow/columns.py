"""Which columns a handler gives, followed through its processors, without loading anything."""

from dataclasses import dataclass
from typing import Any

from training.catalogue import Catalogue
from training.workflow.document import Path
from training.workflow.findings import Findings, did_you_mean

_HANDLER: Path = ("task", "dataset", "kwargs", "handler", "kwargs")


@dataclass(frozen=True)
class Columns:
    """Feature columns as the model is fitted with and asked with; the number of labels."""

    for_fit: tuple[str, ...]
    for_predict: tuple[str, ...]
    labels: int


def columns_of(handler: dict[str, Any], catalogue: Catalogue, findings: Findings) -> Columns | None:
    """The columns of a canonical handler; None, if they have no groups and can't be told."""
    loaded = _loaded(handler, catalogue)
    if loaded is None:
        return None
    features, labels = loaded
    kwargs = handler["kwargs"]
    shared = _through(features, kwargs, "shared_processors", findings)
    infer = _through(shared, kwargs, "infer_processors", findings)
    independent = kwargs.get("process_type", "append") == "independent"
    learn = _through(shared if independent else infer, kwargs, "learn_processors", findings)
    return Columns(tuple(learn), tuple(infer), labels)


def _loaded(handler: dict[str, Any], catalogue: Catalogue) -> tuple[list[str], int] | None:
    kwargs, name = handler["kwargs"], handler["class"].removesuffix("vwap")
    if name in catalogue.columns:
        return list(catalogue.columns[name]), _count(kwargs.get("label"), default=1)
    loader = kwargs.get("data_loader")
    if loader is None:
        return None
    config = loader["kwargs"].get("config")
    own = catalogue.columns.get(_OWN_COLUMNS.get(loader["class"], ""))
    if config is not None and not isinstance(config, dict):
        return None
    config = config or {}
    features = list(own or ())
    if "feature" in config:
        features = _names(config["feature"])
    return features, _count(config.get("label"), default=0)


_OWN_COLUMNS = {"Alpha158DL": "Alpha158DL", "Alpha360DL": "Alpha360"}


def _names(columns: list[Any]) -> list[str]:
    return list(columns[1]) if isinstance(columns[0], list) else list(columns)


def _count(columns: Any, *, default: int) -> int:
    return default if columns is None else len(_names(columns))


def _through(columns: list[str], kwargs: dict[str, Any], key: str, findings: Findings) -> list[str]:
    for place, processor in enumerate(kwargs.get(key, [])):
        chosen = processor["kwargs"].get("col_list", [])
        path = (*_HANDLER, key, place, "kwargs", "col_list")
        if processor["class"] == "FilterCol":
            if processor["kwargs"].get("fields_group", "feature") != "feature":
                continue
            _warn_of_strangers(chosen, columns, path, findings)
            columns = [name for name in columns if name in chosen]
        elif processor["class"] == "DropCol":
            _warn_of_strangers(chosen, columns, path, findings)
            columns = [name for name in columns if name not in chosen]
    return columns


def _warn_of_strangers(
    chosen: list[str], columns: list[str], path: Path, findings: Findings
) -> None:
    known = set(columns)
    for place, name in enumerate(chosen):
        if name not in known:
            message = f"there is no column {name} at this point"
            findings.warn((*path, place), message, hint=did_you_mean(name, columns))
