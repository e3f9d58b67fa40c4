"""The meaning of a canonical task against its dataset: dates, columns, what fits what.

Every check reads the canonical task, in which each part has its right form or is missing.
"""

from collections.abc import Iterator
from typing import Any

from training import catalogue_meaning as meaning
from training.catalogue import Catalogue, Entry
from training.workflow import sizes
from training.workflow.columns import Columns, columns_of
from training.workflow.document import Path
from training.workflow.facts import MarketFacts
from training.workflow.findings import Findings
from training.workflow.market_shapes import codes_loaded, codes_of

_ORDER = ("train", "valid", "test")
_TABNET = ("pretrain", "pretrain_validation")
_QLIBS_BENCHMARK = "SH000300"
_MODEL: Path = ("task", "model", "kwargs")
_DATASET: Path = ("task", "dataset", "kwargs")
_HANDLER: Path = (*_DATASET, "handler", "kwargs")
_SEGMENTS: Path = (*_DATASET, "segments")


def check(
    task: dict[str, Any],
    *,
    catalogue: Catalogue,
    facts: MarketFacts,
    findings: Findings,
    horizon: int,
) -> None:
    """Tells every fault and warning of meaning; mends the backtest's end in place."""
    model, dataset = task.get("model"), task.get("dataset")
    if dataset is not None:
        handler = dataset["kwargs"]["handler"]
        _check_handler_range(dataset, findings)
        own_label = "label" not in handler["kwargs"] and handler["class"] in meaning.OWN_FIELDS
        horizon = meaning.OWN_LABEL_HORIZON if own_label else horizon
        _check_segments(dataset, facts, findings, horizon=horizon)
        _check_processors(handler, findings)
        _check_handler(handler, facts, findings)
    if model is not None:
        sizes.check(model, dataset, findings)
    own = model and catalogue.get("model", model["class"], model["module_path"])
    if own and own.own and dataset is not None:
        _check_own_model(own, dataset, findings)
    elif model is not None and dataset is not None:
        _check_fit(model, dataset, findings)
        _check_names(model, dataset, facts, findings)
        columns = columns_of(dataset["kwargs"]["handler"], catalogue, findings)
        _check_columns(model, dataset, columns, findings)
    _check_records(task.get("record"), dataset, facts, findings)


# ── dates ───────────────────────────────────────────────────────────────────────────────


def _check_handler_range(dataset: dict[str, Any], findings: Findings) -> None:
    kwargs = dataset["kwargs"]["handler"]["kwargs"]
    train = dataset["kwargs"]["segments"].get("train", [None, None])
    for start, end in (("start_time", "end_time"), ("fit_start_time", "fit_end_time")):
        if _after(kwargs.get(start), kwargs.get(end)):
            findings.fault((*_HANDLER, end), f"{end} lies before {start}")
    if _after(kwargs.get("fit_end_time"), train[1]):
        findings.fault(
            (*_HANDLER, "fit_end_time"),
            f"fit_end_time {kwargs['fit_end_time']} lies after the end of train, {train[1]}: "
            "the processors would learn from the days that the model is tested on",
        )


def _check_segments(
    dataset: dict[str, Any], facts: MarketFacts, findings: Findings, *, horizon: int
) -> None:
    segments = dataset["kwargs"]["segments"]
    handler = dataset["kwargs"]["handler"]["kwargs"]
    for name, span in segments.items():
        _check_segment(name, span, handler, facts, findings)
    for name in ("train", "test"):
        if name not in segments:
            findings.fault((*_SEGMENTS, name), f"there is no segment `{name}`")
    present = [name for name in _ORDER if name in segments]
    for earlier, later in zip(present, present[1:], strict=False):
        _check_pair(earlier, later, segments, facts, findings, horizon=horizon)


def _check_segment(
    name: str, span: list[Any], handler: dict[str, Any], facts: MarketFacts, findings: Findings
) -> None:
    path = (*_SEGMENTS, name)
    start, end = span
    if _after(start, end):
        findings.fault(path, f"{name} ends before it begins")
        return
    if facts.days_between(start, end) == 0:
        message = (
            f"{name} has no trading day: dataset {facts.name} goes "
            f"from {facts.first_day} to {facts.last_day}"
        )
        findings.fault(path, message)
        return
    first = max(filter(None, (start, handler.get("start_time"))), default=None, key=_day)
    last = min(filter(None, (end, handler.get("end_time"))), default=None, key=_day)
    if facts.days_between(first, last) == 0:
        findings.fault(path, f"{name} lies outside of what the handler loads")
        return
    if start is not None and _day(start) < facts.first_day and facts.day_index(start) == 0:
        findings.warn((*path, 0), f"the data begin on {facts.first_day} only")
    elif first != start and start is not None and _after(first, start):
        findings.warn((*path, 0), f"the handler loads from {first} only")
    if end is not None and _day(end) > facts.last_day:
        findings.warn((*path, 1), f"the data end on {facts.last_day}")
    elif last != end and end is not None and _after(end, last):
        findings.warn((*path, 1), f"the handler loads until {last} only")


def _check_pair(
    earlier: str,
    later: str,
    segments: dict[str, list[Any]],
    facts: MarketFacts,
    findings: Findings,
    *,
    horizon: int,
) -> None:
    end, start = segments[earlier][1], segments[later][0]
    path = (*_SEGMENTS, later)
    if end is None or start is None or not _after(start, end):
        findings.fault(path, f"{later} begins before {earlier} has ended")
        return
    apart = facts.day_index(start) - facts.days_between(None, end)
    if apart + 1 <= horizon:
        message = (
            f"the label looks {horizon} days ahead and {later} begins {apart + 1} trading day(s) "
            f"after {earlier} ends: the last labels of {earlier} know prices of {later}"
        )
        hint = f"leave {horizon} trading days between them"
        findings.warn((*_SEGMENTS, earlier, 1), message, hint=hint)


def _after(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and _moment(one) > _moment(other)


def _moment(text: str) -> str:
    return text.replace("T", " ") if len(text) > 10 else text + " 00:00:00"


def _day(text: str) -> str:
    return text[:10]


# ── what fits what ──────────────────────────────────────────────────────────────────────


def _check_processors(handler: dict[str, Any], findings: Findings) -> None:
    """Processors that learn want to know from when until when."""
    kwargs = handler["kwargs"]
    if handler["class"] not in meaning.OWN_FIELDS:
        return
    missing = [n for n in ("fit_start_time", "fit_end_time") if kwargs.get(n) is None]
    learning = {"ZScoreNorm", "RobustZScoreNorm", "MinMaxNorm"}
    by_default = ["ZScoreNorm"] if handler["class"].startswith("Alpha360") else []
    infer = (
        [p["class"] for p in kwargs["infer_processors"]]
        if "infer_processors" in kwargs
        else (by_default)
    )
    used = [*infer, *(p["class"] for p in kwargs.get("learn_processors", []))]
    who = next((name for name in used if name in learning), None)
    if who is not None:
        for name in missing:
            findings.fault((*_HANDLER, name), f"{who} learns from the data and needs {name}")


def _check_handler(handler: dict[str, Any], facts: MarketFacts, findings: Findings) -> None:
    """What Qlib's own handlers take for granted: a market and the fields of their features."""
    name = handler["class"]
    if name not in meaning.OWN_FIELDS:
        return
    own = meaning.OWN_MARKET
    if "instruments" not in handler["kwargs"] and codes_of(own, facts.markets) is None:
        message = f"{name} takes the market {own} by default, which {facts.name} has not"
        hint = f"instruments: {next(iter(facts.markets), 'all')}"
        findings.fault((*_HANDLER, "instruments"), message, hint=hint)
    missing = [field for field in meaning.OWN_FIELDS[name] if field not in facts.fields]
    if missing:
        message = f"dataset {facts.name} has no {', '.join(missing)}: columns of it will be empty"
        findings.warn(("task", "dataset", "kwargs", "handler", "class"), message)


def _check_own_model(model: Entry, dataset: dict[str, Any], findings: Findings) -> None:
    """Of an administrator's model only that is known which the administrator has said."""
    if model.reads and dataset["class"] != model.reads:
        findings.fault(("task", "dataset", "class"), f"{model.name} needs {model.reads}")


def _check_fit(model: dict[str, Any], dataset: dict[str, Any], findings: Findings) -> None:
    module, kind = model["module_path"], dataset["class"]
    path = ("task", "dataset", "class")
    if module in meaning.NEEDS_SERIES and kind != "TSDatasetH":
        findings.fault(path, f"{module.rpartition('.')[2]} reads series: it needs TSDatasetH")
    elif module in meaning.NEEDS_MEMORY and kind != "MTSDatasetH":
        findings.fault(path, f"{model['class']} needs MTSDatasetH")
    elif (
        module not in meaning.NEEDS_SERIES | meaning.NEEDS_MEMORY | meaning.EITHER_DATASET
        and kind != "DatasetH"
    ):
        findings.fault(path, f"{model['class']} reads plain rows: it needs DatasetH")
    segments = dataset["kwargs"]["segments"]
    wanted: tuple[str, ...] = () if model["class"] in meaning.WITHOUT_VALID else ("valid",)
    if model["class"] == "TabnetModel" and model["kwargs"].get("pretrain", True):
        wanted = ("valid", *_TABNET)
    for name in wanted:
        if name not in segments:
            findings.fault((*_SEGMENTS, name), f"{model['class']} needs a segment `{name}`")


def _check_names(
    model: dict[str, Any], dataset: dict[str, Any], facts: MarketFacts, findings: Findings
) -> None:
    """Enough names a day, where without them Qlib stops for a debugger in the middle of the fit."""
    least = meaning.LEAST_NAMES.get(model["class"], 0)
    valid = dataset["kwargs"]["segments"].get("valid")
    if not least or valid is None:
        return
    codes = codes_loaded(dataset["kwargs"]["handler"], facts)
    count = sum(facts.rows((code,), *valid) > 0 for code in codes)
    if count < least:
        message = (
            f"{model['class']} measures itself on days of at least {least} names of `valid`, "
            f"and {count} are traded then"
        )
        hint = "more instruments, or no segment `valid`"
        findings.fault((*_HANDLER, "instruments"), message, hint=hint)


def _check_columns(
    model: dict[str, Any], dataset: dict[str, Any], columns: Columns | None, findings: Findings
) -> None:
    if columns is None:
        return
    _check_labels(model, columns.labels, findings)
    for count in sorted({len(columns.for_fit), len(columns.for_predict)}):
        if count == 0:
            findings.fault(_HANDLER, "the processors leave no feature column")
            return
        for name, wanted, exact in _widths(model, dataset):
            if count == wanted or (not exact and count % wanted == 0):
                continue
            relation = f"{count} columns" if exact else f"{count} columns, no multiple of it"
            hint = f"{name[-1]}: {count}" if exact else None
            message = f"{name[-1]} is {wanted}, yet the handler gives {relation}"
            findings.fault(name, message, hint=hint)
    if len(set(columns.for_fit)) != len(set(columns.for_predict)):
        message = (
            f"the model would be fitted with {len(columns.for_fit)} columns "
            f"and asked with {len(columns.for_predict)}"
        )
        findings.fault((*_HANDLER, "infer_processors"), message)


def _widths(model: dict[str, Any], dataset: dict[str, Any]) -> Iterator[tuple[Path, int, bool]]:
    """Each parameter that must agree with the number of columns: path, value, exactly or not."""
    kwargs = model["kwargs"]
    module = model["module_path"]
    if model["class"] == "TRAModel":
        width = kwargs["model_config"].get("input_size", 16)
        given = dataset["kwargs"].get("input_size")
        yield (*_MODEL, "model_config", "input_size"), width, given is None
        return
    inner = kwargs.get("pt_model_kwargs")
    if isinstance(inner, dict):
        series = dataset["class"] == "TSDatasetH"
        for name in ("input_dim", "d_feat"):
            if name in inner:
                exact = series or name == "input_dim"
                yield (*_MODEL, "pt_model_kwargs", name), inner[name], exact
        return
    exact = module in meaning.NEEDS_SERIES or model["class"] == "TabnetModel"
    for name in ("d_feat", "fea_dim"):
        if name in kwargs:
            yield (*_MODEL, name), kwargs[name], exact


def _check_labels(model: dict[str, Any], labels: int, findings: Findings) -> None:
    if model["class"] == "TCTS":
        wanted = model["kwargs"].get("output_dim")
        if wanted != labels:
            message = f"output_dim is {wanted}, yet there are {labels} labels"
            findings.fault((*_MODEL, "output_dim"), message, hint=f"output_dim: {labels}")
    elif labels != 1:
        message = f"{model['class']} learns one label, the handler gives {labels}"
        findings.fault((*_HANDLER, "label"), message)


# ── records ─────────────────────────────────────────────────────────────────────────────


def _check_records(
    records: Any, dataset: dict[str, Any] | None, facts: MarketFacts, findings: Findings
) -> None:
    if records is None:
        return
    if not records:
        findings.warn(("task", "record"), "without records nothing is evaluated")
    predicted = False
    for place, record in enumerate(records):
        path: Path = ("task", "record", place)
        if record["class"] == "SignalRecord":
            predicted = True
        elif not predicted:
            message = f"{record['class']} needs the predictions of a SignalRecord before it"
            findings.fault(path, message)
        if "PortAna" in record["class"]:
            _check_backtest(record["kwargs"]["config"], dataset, path, facts, findings)


def _check_backtest(
    config: dict[str, Any],
    dataset: dict[str, Any] | None,
    record: Path,
    facts: MarketFacts,
    findings: Findings,
) -> None:
    path = (*record, "kwargs", "config", "backtest")
    backtest = config["backtest"]
    test = dataset["kwargs"]["segments"].get("test") if dataset else None
    _mend_end(backtest, test, path, facts, findings)
    start, end = backtest.setdefault("start_time", None), backtest["end_time"]
    if _after(start, end):
        findings.fault((*path, "end_time"), "the backtest ends before it begins")
    elif facts.days_between(start, end) == 0:
        message = f"no trading day: the data go from {facts.first_day} to {facts.last_day}"
        findings.fault((*path, "start_time"), message)
    elif test is not None and (_after(test[0], start) or _after(end, _open(test[1], facts))):
        findings.warn(path, "the backtest goes beyond the test segment, where no prediction is")
    if backtest.get("benchmark") is None:
        _check_default_benchmark(backtest, path, facts, findings)
    _check_strategy(config["strategy"], dataset, record, facts, findings)


def _open(end: str | None, facts: MarketFacts) -> str:
    """The end of a segment, with a day's slack for a backtest that ends on a holiday."""
    return facts.last_day if end is None else end


def _mend_end(
    backtest: dict[str, Any], test: Any, path: Path, facts: MarketFacts, findings: Findings
) -> None:
    """Qlib's backtest fails after the last day, and with an open end at the last day."""
    end = backtest.get("end_time")
    if end is None:
        wanted = test[1] if test and test[1] else facts.last_day
        place = min(facts.days_between(None, wanted), len(facts.days) - 1)
        backtest["end_time"] = facts.days[place]
        message = f"the backtest ends on {facts.days[place]}: Qlib can't run an open end"
        findings.warn((*path, "end_time"), message)
    elif _day(end) > facts.last_day:
        backtest["end_time"] = facts.last_day
        message = f"the backtest ends on {facts.last_day}, the last day of dataset {facts.name}"
        findings.warn((*path, "end_time"), message)


def _check_default_benchmark(
    backtest: dict[str, Any], path: Path, facts: MarketFacts, findings: Findings
) -> None:
    """Qlib compares with the CSI 300 where no benchmark is named."""
    if _QLIBS_BENCHMARK.lower() in facts.by_lower_name:
        backtest["benchmark"] = _QLIBS_BENCHMARK
        return
    hint = f"benchmark: {facts.benchmarks[0]}" if facts.benchmarks else None
    message = f"a benchmark is needed: Qlib's own, {_QLIBS_BENCHMARK}, is not in {facts.name}"
    findings.fault((*path, "benchmark"), message, hint=hint)


def _check_strategy(
    strategy: dict[str, Any],
    dataset: dict[str, Any] | None,
    record: Path,
    facts: MarketFacts,
    findings: Findings,
) -> None:
    kwargs = strategy["kwargs"]
    path = (*record, "kwargs", "config", "strategy", "kwargs")
    topk, n_drop = kwargs["topk"], kwargs["n_drop"]
    if n_drop > topk:
        findings.fault((*path, "n_drop"), f"n_drop {n_drop} is more than topk {topk}")
    if dataset is None:
        return
    count = len(codes_loaded(dataset["kwargs"]["handler"], facts))
    if topk > count:
        findings.warn((*path, "topk"), f"topk {topk} is more than the {count} instruments")
