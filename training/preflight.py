"""A posted workflow against what there is here: datasets, workers, and what runs like it needed.

`workflow/` knows the document, this file the rows. The same for a submission and for a question.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings

from . import catalogue_meaning as meaning
from .errors import Fault, InvalidConfig
from .models import Dataset, TrainingTask, Worker
from .states import Status
from .workflow import (
    Defaults,
    Document,
    Estimate,
    Findings,
    MarketFacts,
    Run,
    Workflow,
    effort,
    estimate,
    examine,
    from_data,
    parse,
)

QUEUE_OF_NEEDS = {"torch": "torch", "gpu": "gpu"}
"""Which queue a workflow waits in; `cpu` for all others."""

_LOOK_BACK = 500
_LEARN_FROM = 10


@dataclass(frozen=True)
class Verdict:
    """All that the check has to say; without `workflow` it can't run.

    dataset_version: the one that it was checked against.
    """

    workflow: Workflow | None
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    estimate: Estimate | None = None
    dataset_version: str = ""


def check(body: bytes, *, content_type: str) -> Verdict:
    """Understand and check a posted workflow; every fault is in the verdict.

    Raises: TooLarge, and nothing else, whatever the body is.
    """
    try:
        document = parse(body, content_type=content_type)
    except InvalidConfig as unreadable:
        return Verdict(None, unreadable.faults, ())
    return _verdict(document)


def check_again(config: dict[str, Any]) -> Verdict:
    """Check the config of a task that ran before against what there is here now."""
    return _verdict(from_data(config))


def queue_of(needs: str) -> str:
    """The queue of a workflow with these needs."""
    return QUEUE_OF_NEEDS.get(needs, "cpu")


def _verdict(document: Document) -> Verdict:
    examined = examine(document, market=_market, defaults=_defaults())
    wanted, facts = examined.workflow, examined.facts
    size = None
    if wanted is not None and facts is not None:
        size = estimate(wanted, facts, _runs_like(wanted))
        _check_workers(wanted, size, examined.findings)
    return Verdict(
        workflow=None if examined.faults else wanted,
        faults=tuple(examined.faults),
        warnings=tuple(examined.warnings),
        estimate=size,
        dataset_version=facts.version if facts else "",
    )


# ── What the check is told ──────────────────────────────────────────────────────────────


def _market(name: str | None) -> MarketFacts | None:
    """The facts of the named dataset, or of the default one."""
    if name is None:
        name = settings.DEFAULT_DATASET or _only_dataset()
    version = Dataset.objects.filter(name=name).values_list("version", "updated_at").first()
    return _facts(name, *version) if name and version else None


@lru_cache(maxsize=4)
def _facts(name: str, version: str, updated_at: Any) -> MarketFacts | None:
    """A version's facts, kept: reading the manifest of a large market takes as long as a check."""
    row = Dataset.objects.filter(name=name, version=version, updated_at=updated_at).first()
    if row is None:
        return None
    return MarketFacts.from_manifest({**row.manifest, "name": name, "version": version})


def _only_dataset() -> str | None:
    names = list(Dataset.objects.values_list("name", flat=True)[:2])
    return names[0] if len(names) == 1 else None


def _defaults() -> Defaults:
    return Defaults(
        threads=settings.TRAINING_THREADS,
        timeout_s=settings.TRAINING_TIMEOUT_S,
        max_timeout_s=settings.TRAINING_TIMEOUT_MAX_S,
        max_attempts=settings.TRAINING_MAX_ATTEMPTS,
    )


# ── What runs like it needed ────────────────────────────────────────────────────────────


def _runs_like(wanted: Workflow) -> list[Run]:
    """The newest whole runs of the same model and handler, of the last that there were."""
    newest = (
        TrainingTask.objects.filter(status=Status.COMPLETED)
        .order_by("-created_at")
        .values_list("pk", flat=True)[:_LOOK_BACK]
    )
    like = TrainingTask.objects.filter(
        pk__in=list(newest),
        model=wanted.model,
        config__task__dataset__kwargs__handler__class=wanted.handler,
    ).order_by("-created_at")
    told = like.values_list("dataset", "config", "result")[:_LEARN_FROM]
    asked = effort(wanted.config)
    runs = (
        _run(result, same_data=dataset == wanted.dataset, same_effort=effort(config) == asked)
        for dataset, config, result in told
    )
    return [run for run in runs if run is not None]


def _run(result: dict[str, Any], *, same_data: bool, same_effort: bool) -> Run | None:
    """None of a run that was finished early, or that said too little."""
    data = result.get("data", {})
    if result.get("stopped") or not data.get("rows") or not result.get("peak_memory_bytes"):
        return None
    return Run(
        rows=data["rows"],
        columns=data.get("columns", 0),
        memory_bytes=result["peak_memory_bytes"],
        seconds=result.get("timings", {}),
        same_data=same_data,
        same_effort=same_effort,
    )


# ── Who could run it ────────────────────────────────────────────────────────────────────


def _check_workers(wanted: Workflow, size: Estimate, findings: Findings) -> None:
    """Is there a worker with what it needs, and is one large enough?

    A fault where the sender would rather be refused than wait, and where it is known.
    """
    workers = Worker.objects.all().able(wanted.needs, queue=queue_of(wanted.needs))
    waits = wanted.when_no_worker == "wait"
    if wanted.needs and not workers:
        _say_that_none_can(wanted, findings, waits=waits)
    largest = max((one.memory_bytes for one in workers), default=None)
    if largest is None or size.memory_bytes is None or size.memory_bytes <= largest:
        return
    source = f"as {size.runs} runs like it have shown" if size.runs else "by an estimate"
    message = (
        f"{size.rows:,} rows take {size.memory_bytes / 1e9:.1f} GB, {source}; "
        f"the largest worker present gives {largest / 1e9:.1f} GB"
    )
    say = findings.fault if size.runs and not waits else findings.warn
    path = ("task", "dataset", "kwargs", "handler", "kwargs")
    say(path, message, hint="fewer instruments, or a shorter time")


def _say_that_none_can(wanted: Workflow, findings: Findings, *, waits: bool) -> None:
    path: tuple[str, ...] = ("task", "model", "class")
    what, hint = wanted.model, f"start a worker with {wanted.needs} installed"
    if wanted.needs == "gpu":
        name, value = meaning.GPU_ONLY[wanted.model]
        path = ("task", "model", "kwargs", name)
        what, hint = f"{name} {value}", f"another {name}, or a worker of the queue gpu"
    message = f"{what} needs {wanted.needs}, and no worker present has it"
    if waits:
        findings.warn(path, message, hint=hint)
    else:
        findings.fault(path, message, hint=f"{hint}, or set platform.when_no_worker to wait")
