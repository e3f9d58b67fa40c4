"""The pre-flight check: a document becomes a Workflow, or all its faults are told at once."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from training import catalogue_meaning as meaning
from training.catalogue import Entry, load
from training.errors import Fault, InvalidConfig
from training.workflow import canonical, sense
from training.workflow.document import Document, Path
from training.workflow.facts import Defaults, MarketFacts, Workflow
from training.workflow.findings import Enough, Findings, did_you_mean, shown
from training.workflow.shape import Shape
from training.workflow.values import BAD

Market = Callable[[str | None], MarketFacts | None]

_TOP = ("qlib_init", "task", "platform", "experiment_name")
_REFUSED_TOP = {
    "BASE_CONFIG_PATH": "a file on the server would be read: write the whole workflow",
    "sys": "folders of the sender would be searched for code to run",
}
# What `qrun` takes and a service settles by itself, with no effect on any result.
_SETTLED = frozenset(
    [
        "kernels",
        "maxtasksperchild",
        "joblib_backend",
        "logging_level",
        "clear_mem_cache",
        "skip_if_reg",
        "default_conf",
        "dataset_cache",
        "expression_cache",
        "calendar_cache",
    ]
)
_REGIONS = ("cn", "us", "tw")
_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}", re.ASCII)
PLATFORM = {
    "name": "text",
    "tags": "texts",
    "priority": "choice high|normal|low",
    "timeout_s": "int 1..31536000",
    "max_attempts": "int 1..10",
    "threads": "int 1..1024",
    "when_no_worker": "choice refuse|wait",
    "rounds": "int 1..100000",
    "seed": "int 0..4294967295",
}
MAX_TAGS = 20


@dataclass(frozen=True)
class Examined:
    """What a check has found; `workflow` is None where there are faults."""

    findings: Findings
    workflow: Workflow | None = None
    facts: MarketFacts | None = None

    @property
    def faults(self) -> list[Fault]:
        """In the order of the document."""
        return _in_order(self.findings.faults)

    @property
    def warnings(self) -> list[Fault]:
        """In the order of the document."""
        return _in_order(self.findings.warnings)


def examine(document: Document, *, market: Market, defaults: Defaults) -> Examined:
    """Checks everything that can be known before the data are loaded.

    market: the facts of a registered dataset by name, of the default one for None.
    """
    findings = Findings(document)
    try:
        found = _examine(document, market, defaults, findings)
    except Enough:
        found = None
    if findings.faults or found is None:
        return Examined(findings)
    return Examined(findings, _workflow(document, found, findings), found.facts)


def check(document: Document, *, market: Market, defaults: Defaults) -> Workflow:
    """The workflow of a document without faults, see `examine`. Raises: InvalidConfig."""
    examined = examine(document, market=market, defaults=defaults)
    if examined.workflow is None:
        raise InvalidConfig(examined.faults)
    return examined.workflow


@dataclass(frozen=True)
class _Found:
    """The understood parts of a workflow, not yet known to be without fault."""

    task: dict[str, Any]
    platform: dict[str, Any]
    facts: MarketFacts
    region: str


def _examine(
    document: Document, market: Market, defaults: Defaults, findings: Findings
) -> _Found | None:
    data, catalogue = document.data, load()
    _check_top(data, findings)
    platform = _platform(data.get("platform"), defaults, findings)
    init = _Init.read(data.get("qlib_init"), market, defaults, findings)
    shape = Shape(catalogue, findings, facts=init.facts, threads=platform["threads"])
    if "task" not in data:
        findings.fault(("task",), "a workflow needs a `task`")
        return None
    task = shape.task(data["task"], ("task",))
    canonical.complete(task, catalogue=catalogue, threads=platform["threads"])
    _check_rounds(platform, task, findings)
    if init.facts is None:
        return None
    sense.check(
        task, catalogue=catalogue, facts=init.facts, findings=findings, horizon=shape.horizon
    )
    return _Found(task, platform, init.facts, init.region)


def _in_order(found: list[Fault]) -> list[Fault]:
    return sorted(found, key=lambda fault: (fault.line or 0, fault.column or 0))


def _check_top(data: dict[str, Any], findings: Findings) -> None:
    for key, reason in _REFUSED_TOP.items():
        if data.get(key) is not None:
            findings.fault((key,), f"`{key}` is refused: {reason}")
    for key in data:
        hint = did_you_mean(key, _TOP) if key not in _TOP else None
        # Other keys only hold anchors; a near miss of one of ours is more likely a slip.
        if hint is not None and len(str(key)) > 3 and _is_slip(str(key)):
            findings.warn((key,), f"`{key}` is not read by Qlib", hint=hint)


def _is_slip(key: str) -> bool:
    return any(abs(len(key) - len(name)) <= 1 and key[:2] == name[:2] for name in _TOP)


def _platform(value: Any, defaults: Defaults, findings: Findings) -> dict[str, Any]:
    shape = Shape(load(), findings)
    given = shape.mapping(PLATFORM, value or {}, ("platform",), "`platform`")
    given = {} if given is BAD else given
    if len(given.get("tags", ())) > MAX_TAGS:
        findings.fault(("platform", "tags"), f"at most {MAX_TAGS} tags")
    if given.get("timeout_s", 0) > defaults.max_timeout_s:
        message = f"at most {defaults.max_timeout_s} seconds are given here"
        findings.fault(("platform", "timeout_s"), message)
    asked = given.get("threads", defaults.threads)
    if asked > defaults.threads:
        message = f"threads is set to {defaults.threads}, a training's share here"
        findings.warn(("platform", "threads"), message)
    return {
        "priority": "normal",
        "timeout_s": defaults.timeout_s,
        "max_attempts": defaults.max_attempts,
        "when_no_worker": "refuse",
        # Of Python's and NumPy's own chance, which `qrun` leaves to chance.
        "seed": canonical.DEFAULT_SEED,
        **given,
        "threads": min(asked, defaults.threads),
    }


def _check_rounds(platform: dict[str, Any], task: dict[str, Any], findings: Findings) -> None:
    model = task.get("model", {}).get("class")
    if "rounds" in platform and model is not None and model not in meaning.ROUNDS_BY_PLATFORM:
        message = f"platform.rounds is for {', '.join(sorted(meaning.ROUNDS_BY_PLATFORM))} only"
        hint = f"{model} has a parameter of its own for it"
        findings.fault(("platform", "rounds"), message, hint=hint)


@dataclass(frozen=True)
class _Init:
    """`qlib_init`, understood."""

    facts: MarketFacts | None
    region: str

    @classmethod
    def read(cls, value: Any, market: Market, defaults: Defaults, findings: Findings) -> "_Init":
        path: Path = ("qlib_init",)
        if value is not None and not isinstance(value, dict):
            findings.fault(path, "`qlib_init` is a mapping with `provider_uri` and `region`")
            return cls(None, "")
        value = value or {}
        for key, item in value.items():
            _check_init_key(key, item, findings)
        facts = _dataset(value.get("provider_uri"), market, defaults, findings)
        region = _region(value.get("region"), facts, findings)
        return cls(facts, region)


def _check_init_key(key: str, item: Any, findings: Findings) -> None:
    if key in ("provider_uri", "region") or item is None:
        return
    if key in _SETTLED:
        findings.warn(("qlib_init", key), f"`{key}` is settled by the platform and left out")
        return
    hint = did_you_mean(key, ("provider_uri", "region"))
    message = f"`{key}` is refused: the platform starts Qlib, a workflow names dataset and region"
    findings.fault(("qlib_init", key), message, hint=hint)


def _region(value: Any, facts: MarketFacts | None, findings: Findings) -> str:
    own = facts.region if facts else ""
    if value is None:
        return own
    if value not in _REGIONS:
        message = f"{shown(value)} is no region: {', '.join(_REGIONS)}"
        findings.fault(("qlib_init", "region"), message)
        return own
    if own and value != own:
        message = f"region {value} trades by other rules than dataset {facts and facts.name}, {own}"
        findings.warn(("qlib_init", "region"), message)
    return str(value)


def _dataset(
    uri: Any, market: Market, defaults: Defaults, findings: Findings
) -> MarketFacts | None:
    path: Path = ("qlib_init", "provider_uri")
    if isinstance(uri, dict):
        for freq in uri:
            if freq not in ("day", "1day"):
                message = f"no data of frequency {shown(freq)}: the datasets hold daily bars only"
                findings.fault((*path, freq), message)
        uri = uri.get("day", uri.get("1day"))
    if uri is None:
        facts = market(defaults.default_dataset)
        if facts is None:
            findings.fault(path, "there is no default dataset", hint="name one")
        return facts
    name = uri.rstrip("/").rpartition("/")[2] if isinstance(uri, str) else ""
    if not _DATASET.fullmatch(name) or "://" in uri:
        findings.fault(path, f"{shown(uri)} names no dataset", hint="a dataset's name")
        return None
    facts = market(name)
    if facts is None:
        hint = "GET /api/datasets lists what there is"
        findings.fault(path, f"no dataset {name} is registered", hint=hint)
    return facts


def _needs(entry: Entry, kwargs: dict[str, Any]) -> str:
    name, value = meaning.GPU_ONLY.get(entry.name, ("", ""))
    return "gpu" if name and kwargs.get(name) == value else entry.needs


def _workflow(document: Document, found: _Found, findings: Findings) -> Workflow:
    task, platform, facts = found.task, found.platform, found.facts
    model = task["model"]
    entry = load().get("model", model["class"], model["module_path"])
    handler = task["dataset"]["kwargs"]["handler"]["class"]
    title = platform.get("name") or document.data.get("experiment_name")
    if not isinstance(title, str) or not title.strip():
        title = f"{model['class']} on {facts.name} ({handler})"
    config = {
        "qlib_init": {"provider_uri": facts.name, "region": found.region},
        "task": task,
        "platform": platform,
    }
    return Workflow(
        name=title.strip()[:200],
        tags=tuple(dict.fromkeys(platform.get("tags", ()))),
        priority=platform["priority"],
        timeout_s=platform["timeout_s"],
        max_attempts=platform["max_attempts"],
        threads=platform["threads"],
        when_no_worker=platform["when_no_worker"],
        dataset=facts.name,
        model=model["class"],
        needs=_needs(entry, model["kwargs"]),
        handler=handler,
        config=config,
        warnings=tuple(findings.warnings),
        posted=document.posted,
    )
