"""A task's config becomes what Qlib is given: checked a second time, rebuilt, never trusted.

The queue and the database may have been written to by others than the web. So the training process
checks the form once more, by the same catalogue, and takes over nothing that it did not understand.
"""

from typing import Any

from training.catalogue import load
from training.errors import Fault, InvalidConfig
from training.workflow.check import PLATFORM
from training.workflow.findings import Enough, Findings
from training.workflow.shape import Shape
from training.workflow.yaml12 import MAX_LEVELS, MAX_NODES

_PARTS = frozenset({"qlib_init", "task", "platform"})
_INIT = {"provider_uri": "text", "region": "choice cn|us|tw"}


class RefusedConfig(InvalidConfig):
    """The stored config is not one that the check can have made."""


def task_for_qlib(config: Any) -> dict[str, Any]:
    """Qlib's `task`: every class and module from the catalogue, a copy of nothing but the known.

    Raises: RefusedConfig, with every fault.
    """
    if not isinstance(config, dict) or not set(config) <= _PARTS:
        raise RefusedConfig([Fault("", "the config is not of the platform's making")])
    if not _is_plain(config):
        raise RefusedConfig([Fault("", "the config is too large or not plain JSON")])
    findings = Findings()
    try:
        task = _checked(config, Shape(load(), findings), findings)
    except Enough:
        task = {}
    if findings.faults:
        raise RefusedConfig(findings.faults)
    for record in task["record"]:
        if "PortAna" in record["class"]:
            _make_tuples(record["kwargs"]["config"]["backtest"].get("exchange_kwargs", {}))
    return task


def _checked(config: dict[str, Any], shape: Shape, findings: Findings) -> dict[str, Any]:
    """Every part by its form; `qlib_init` is not used here, and may hold nothing but two names."""
    shape.mapping(_INIT, config.get("qlib_init", {}), ("qlib_init",), "`qlib_init`")
    shape.mapping(PLATFORM, config.get("platform", {}), ("platform",), "`platform`")
    task: dict[str, Any] = shape.task(config.get("task"), ("task",))
    return task


def _is_plain(config: Any) -> bool:
    nodes, stack = 0, [(config, 1)]
    while stack:
        value, level = stack.pop()
        nodes += 1
        if nodes > MAX_NODES or level > MAX_LEVELS:
            return False
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                return False
            stack.extend((item, level + 1) for item in value.values())
        elif isinstance(value, list):
            stack.extend((item, level + 1) for item in value)
        elif not isinstance(value, str | int | float | bool | None):
            return False
    return True


def _make_tuples(exchange: dict[str, Any]) -> None:
    """Qlib's exchange takes limits as tuples only, which JSON and YAML can't say."""
    if isinstance(exchange.get("limit_threshold"), list):
        exchange["limit_threshold"] = tuple(exchange["limit_threshold"])
    volume = exchange.get("volume_threshold")
    if isinstance(volume, list):
        exchange["volume_threshold"] = tuple(volume)
    elif isinstance(volume, dict):
        exchange["volume_threshold"] = {side: tuple(limit) for side, limit in volume.items()}
