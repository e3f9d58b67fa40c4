"""Presets: official models to start from, fitted to a dataset that is here.

A preset is a Qlib workflow without what depends on the data. Dates, segments, market, benchmark
and records are filled in from the dataset, where the preset says nothing of them. `official/` has
what is shipped; the rows belong to the staff, who may change them and add others.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings

from training import catalogue, workflow
from training.errors import Fault, InvalidConfig, NotFound
from training.models import Dataset, Preset, Worker

SHIPPED = Path(__file__).parent / "official"

TRAIN, VALID = 0.56, 0.17
"""Shares of the days; the rest is the test. Near Qlib's own examples (2008-2014, 2016, 2020)."""
GAP = 3
"""Days from one segment's last to the next one's first: Qlib's label looks two days ahead, so no
label knows a price of the next segment."""
COSTS: dict[str, dict[str, Any]] = {
    "cn": {"limit_threshold": 0.095, "open_cost": 0.0005, "close_cost": 0.0015, "min_cost": 5},
    "us": {"open_cost": 0.0005, "close_cost": 0.0005, "min_cost": 1},
}
_RECORDS = "qlib.workflow.record_temp"


@dataclass(frozen=True)
class Offer:
    """A preset fitted to a dataset.

    needs: "", "xgboost", "catboost" or "torch"; runnable: a worker that is here has it;
    workflow: YAML, complete, as `POST /api/train` takes it.
    """

    name: str
    title: str
    description: str
    model: str
    handler: str
    needs: str
    runnable: bool
    dataset: str
    workflow: str


def offers(dataset: Dataset) -> list[Offer]:
    """All presets, in the staff's order, fitted to this dataset."""
    extras = _extras_here()
    return [_offer(preset, dataset, extras) for preset in Preset.objects.all()]


def offer(name: str, dataset: Dataset) -> Offer:
    """The preset of this name, fitted to this dataset. Raises: NotFound."""
    preset = Preset.objects.filter(name=name).first()
    if preset is None:
        raise NotFound(f"there is no preset {name!r}")
    return _offer(preset, dataset, _extras_here())


def dataset_for(name: str | None) -> Dataset:
    """The dataset asked for; else the default one, else the first by name. Raises: NotFound."""
    wanted = name or settings.DEFAULT_DATASET
    rows = Dataset.objects.order_by("name")
    found = rows.filter(name=wanted).first() if wanted else rows.first()
    if found is None:
        known = ", ".join(rows.values_list("name", flat=True)) or "none yet: import one"
        raise NotFound(f"there is no dataset {wanted!r}; there is {known}")
    return found


def parse(text: str) -> dict[str, Any]:
    """A preset's workflow as plain values. Raises: InvalidConfig, TooLarge."""
    data = workflow.parse(text.encode(), content_type="application/yaml").data
    for path in (("task", "model", "class"), ("task", "dataset", "kwargs", "handler", "class")):
        found: Any = data
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, str):
            raise InvalidConfig([Fault(".".join(path), "a preset names its model and handler")])
    return data


def fitted(data: dict[str, Any], dataset: Dataset, *, name: str) -> dict[str, Any]:
    """The preset's workflow with all that depends on the data; what it says itself stays.

    name: of the tasks made from it.
    """
    days, markets = dataset.manifest["days"], dataset.manifest["markets"]
    segments = segments_of(days)
    task = json.loads(json.dumps(data["task"]))
    kwargs = task["dataset"].setdefault("kwargs", {})
    kwargs["handler"]["kwargs"] = {
        "start_time": days[0],
        "end_time": days[-1],
        "fit_start_time": days[0],
        "fit_end_time": segments["train"][1],
        "instruments": "all" if "all" in markets else sorted(markets)[0],
    } | kwargs["handler"].get("kwargs", {})
    kwargs.setdefault("segments", _with_pretraining(segments, task["model"]))
    task.setdefault("record", _records(dataset, kwargs["segments"]["test"]))
    return {
        "platform": {"name": name, "tags": ["preset"]} | data.get("platform", {}),
        "qlib_init": {"provider_uri": dataset.name, "region": dataset.region},
        "task": task,
    }


def segments_of(days: list[str]) -> dict[str, list[str]]:
    """Train, valid and test one after the other, with the label's look-ahead between them."""
    last = len(days) - 1
    train_end, valid_end = int(last * TRAIN), int(last * (TRAIN + VALID))
    ends = [(0, train_end - GAP), (train_end, valid_end - GAP)]
    ends.append((valid_end, last - GAP))
    parts = zip(("train", "valid", "test"), ends, strict=True)
    return {part: [days[max(first, 0)], days[max(end, 0)]] for part, (first, end) in parts}


def load_shipped() -> int:
    """Make rows of the shipped presets that have none; how many were made."""
    known = set(Preset.objects.values_list("name", flat=True))
    new = [file for file in sorted(SHIPPED.glob("*.yaml")) if file.stem not in known]
    for file in new:
        shipped = yaml.safe_load(file.read_text(encoding="utf-8"))
        columns = {name: shipped[name] for name in ("title", "description", "position")}
        columns["workflow"] = as_yaml(shipped["workflow"])
        Preset.objects.create(name=file.stem, **columns)
    return len(new)


def as_yaml(data: dict[str, Any]) -> str:
    """The document as text for people, which is read as the same: keys in their order, nothing
    abbreviated."""
    text: str = yaml.dump(data, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=96)
    return text


# The C library writes ten times as fast; not every platform's wheel has it.
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Plain(_Dumper):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> Any:
        # The library quotes what YAML 1.1 takes for something else; we read YAML 1.2.
        style = None if workflow.is_text(data) else "'"
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Plain.add_representer(str, _Plain.represent_str)


# ── Parts ───────────────────────────────────────────────────────────────────────────────


def _offer(preset: Preset, dataset: Dataset, extras: frozenset[str]) -> Offer:
    data = _parsed(preset.workflow)
    model = data["task"]["model"]
    needs = _needs(model)
    document = fitted(data, dataset, name=f"{preset.title}, {dataset.name}")
    return Offer(
        name=preset.name,
        title=preset.title,
        description=preset.description,
        model=model["class"],
        handler=data["task"]["dataset"]["kwargs"]["handler"]["class"],
        needs=needs,
        runnable=not needs or needs in extras,
        dataset=dataset.name,
        workflow=as_yaml(document),
    )


@lru_cache(maxsize=256)
def _parsed(text: str) -> dict[str, Any]:
    return parse(text)


def _needs(model: dict[str, Any]) -> str:
    entry = catalogue.load().find("model", model["class"], model.get("module_path"))
    return entry.needs if entry else ""


def _extras_here() -> frozenset[str]:
    workers: Iterable[Worker] = Worker.objects.alive().filter(draining=False)
    return frozenset(extra for worker in workers for extra in worker.extras)


def _with_pretraining(segments: dict[str, list[str]], model: dict[str, Any]) -> dict[str, Any]:
    """TabNet pre-trains on segments of its own."""
    if not model.get("kwargs", {}).get("pretrain"):
        return segments
    return {
        "pretrain": segments["train"],
        "pretrain_validation": segments["valid"],
        **segments,
    }


def _records(dataset: Dataset, test: list[str]) -> list[dict[str, Any]]:
    """Qlib's three usual records; no backtest on a market without a benchmark to compare with."""
    signal = {"model": "<MODEL>", "dataset": "<DATASET>"}
    records = [
        {"class": "SignalRecord", "module_path": _RECORDS, "kwargs": signal},
        {
            "class": "SigAnaRecord",
            "module_path": _RECORDS,
            "kwargs": {"ana_long_short": False, "ann_scaler": 252},
        },
    ]
    if dataset.manifest.get("benchmarks"):
        config = _backtest(dataset, test)
        records.append(
            {"class": "PortAnaRecord", "module_path": _RECORDS, "kwargs": {"config": config}}
        )
    return records


def _backtest(dataset: Dataset, test: list[str]) -> dict[str, Any]:
    """Qlib's example strategy; in a small market it holds a fifth of the instruments."""
    topk = min(50, max(dataset.instrument_count // 5, 1))
    return {
        "strategy": {
            "class": "TopkDropoutStrategy",
            "module_path": "qlib.contrib.strategy",
            "kwargs": {"signal": "<PRED>", "topk": topk, "n_drop": max(topk // 10, 1)},
        },
        "backtest": {
            "start_time": test[0],
            "end_time": test[1],
            "account": 100_000_000,
            "benchmark": dataset.manifest["benchmarks"][0],
            "exchange_kwargs": {"deal_price": "close", **COSTS.get(dataset.region, COSTS["us"])},
        },
    }
