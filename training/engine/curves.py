"""Training curves on their way out: one name per curve, finite values, nothing told twice."""

import math
import re
from collections.abc import Mapping

from training.engine.reporter import Reporter

# Some Qlib models log their own curves; here they get the names that ours have.
_QLIB_NAMES = {
    "train": "train.score",
    "valid": "valid.score",
    "train_loss": "train.loss",
    "val_loss": "valid.loss",
    "train_metric": "train.metric",
    "val_metric": "valid.metric",
}
_QLIB_BOOSTER_NAME = re.compile(r"(?P<metric>.+)\.(?P<segment>train|valid)")


class Curves:
    """Points by (name, step); `step` counts rounds, epochs or steps from 1."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._live: set[str] = set()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Points as they come from a fit's own callback."""
        self._live.update(values)
        self._send(step, values)

    def add_from_qlib(self, step: int, values: Mapping[str, float]) -> None:
        """Points that Qlib logs; LGBModel logs all rounds again after its fit: those stop here."""
        renamed = {curve_name(name): value for name, value in values.items()}
        fresh = {name: value for name, value in renamed.items() if name not in self._live}
        self._send(step, fresh)

    def _send(self, step: int, values: Mapping[str, float]) -> None:
        points = [(name, step, float(value)) for name, value in values.items()]
        finite = [point for point in points if math.isfinite(point[2])]
        if finite:
            self._reporter.metrics(finite)


def curve_name(qlib_name: str) -> str:
    """`l2.valid` -> `valid.l2`, `val_loss` -> `valid.loss`, others unchanged."""
    if booster := _QLIB_BOOSTER_NAME.fullmatch(qlib_name):
        return f"{booster['segment']}.{booster['metric']}"
    return _QLIB_NAMES.get(qlib_name, qlib_name)
