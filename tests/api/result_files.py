"""What a training would have left, small and worked out by hand."""

import json
import math
from datetime import date, timedelta
from itertools import accumulate

from tests.factories import make_task
from training import archive
from training.states import Status


def weekdays(count, first=date(2018, 1, 1)):
    span = (first + timedelta(days=number) for number in range(count * 2))
    return [day.isoformat() for day in span if day.weekday() < 5][:count]


def report_of(excess, *, ic=None):
    """A report whose daily excess returns and ICs are given; the other series follow."""
    days = weekdays(len(excess))
    ic = list(ic if ic is not None else excess)
    total = list(accumulate(excess))
    peak = list(accumulate(total, max))
    portfolio = {
        "days": days,
        "return_with_cost": [2 * one for one in total],
        "return_without_cost": [2 * one for one in total],
        "benchmark": total,
        "excess_with_cost": total,
        "excess_without_cost": total,
        "drawdown_with_cost": [a - b for a, b in zip(total, peak, strict=True)],
        "drawdown_without_cost": [a - b for a, b in zip(total, peak, strict=True)],
        "turnover": [0.1] * len(days),
    }
    by_month = {"months": ["2018-01"], "ic": [0.0], "rank_ic": [0.0]}
    return {
        "version": 1,
        "portfolio": portfolio,
        "ic": {"days": days, "ic": ic, "rank_ic": ic, "by_month": by_month},
        "groups": {
            "days": days,
            "groups": {str(number): total for number in range(1, 6)},
            "long_short": total,
            "long_average": total,
        },
        "feature_importance": {"kind": "importance", "features": ["A"], "values": [1.0]},
    }


def waves(count, *, size=0.01):
    """Daily returns that go up and down."""
    return [size * math.sin(number / 3) for number in range(count)]


def completed(owner, *, report=None, sha="0" * 64, **fields):
    """A completed task that left a report."""
    result = {
        "metrics": {"ic": 0.03, "information_ratio": 1.1},
        "artifacts": [{"path": "report.json", "bytes": 1, "sha256": sha}],
        "data": {"dataset": "demo", "fingerprint": "f" * 64},
    }
    task = make_task(owner, status=Status.COMPLETED, result=result, **fields)
    folder = archive.folder(task)
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report or report_of(waves(300))))
    return task
