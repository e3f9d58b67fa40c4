"""What the web will show of a finished training, as JSON and Parquet: it unpickles nothing.

Frames in, plain lists out: every number finite or None, every day an ISO date. Returns are added
up, not compounded, as in Qlib's own risk analysis.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

VERSION = 1
GROUP_COUNT = 5


def portfolio_series(report: pd.DataFrame) -> dict[str, Any]:
    """The backtest, day by day.

    report: Qlib's report_normal: index datetime; columns return (without cost), cost, bench,
    turnover; fractions of the account (0.01 = 1 %). Drawdowns are those of the excess return.
    """
    excess = report["return"] - report["bench"]
    excess_with_cost = excess - report["cost"]
    series = {
        "return_with_cost": (report["return"] - report["cost"]).cumsum(),
        "return_without_cost": report["return"].cumsum(),
        "benchmark": report["bench"].cumsum(),
        "excess_with_cost": excess_with_cost.cumsum(),
        "excess_without_cost": excess.cumsum(),
        "drawdown_with_cost": _drawdown(excess_with_cost),
        "drawdown_without_cost": _drawdown(excess),
        "turnover": report["turnover"],
    }
    return {"days": _days(report.index)} | {name: numbers(s) for name, s in series.items()}


def ic_series(ic: pd.Series, rank_ic: pd.Series) -> dict[str, Any]:
    """IC and rank IC by day, and their means by month (`2018-03`). Index: datetime."""
    months = ic.index.to_period("M")
    by_month = pd.DataFrame({"ic": ic, "rank_ic": rank_ic}).groupby(months).mean()
    return {
        "days": _days(ic.index),
        "ic": numbers(ic),
        "rank_ic": numbers(rank_ic),
        "by_month": {
            "months": [str(month) for month in by_month.index],
            "ic": numbers(by_month["ic"]),
            "rank_ic": numbers(by_month["rank_ic"]),
        },
    }


def group_returns(score: pd.Series, label: pd.Series) -> dict[str, Any]:
    """Each day's instruments in five equal groups by score, the best first: mean label, added up.

    Both: index (datetime, instrument); the label is a forward return. The two differences are
    those of Qlib's report: first group less last, first group less all.
    """
    both = pd.DataFrame({"score": score, "label": label}).dropna()
    order = both.groupby(level="datetime")["score"].rank(method="first", ascending=False)
    count = both.groupby(level="datetime")["score"].transform("size")
    group = np.ceil(order / count * GROUP_COUNT).astype(int)
    days = both.index.get_level_values("datetime")
    means = both["label"].groupby([days, group.to_numpy()]).mean().unstack()
    means = means.reindex(columns=range(1, GROUP_COUNT + 1))
    first, everyone = means[1], both["label"].groupby(days).mean()
    return {
        "days": _days(means.index),
        "groups": {str(number): numbers(means[number].cumsum()) for number in means.columns},
        "long_short": numbers((first - means[GROUP_COUNT]).cumsum()),
        "long_average": numbers((first - everyone).cumsum()),
    }


def feature_importance(model: Any, features: list[str]) -> dict[str, Any] | None:
    """How much the model leans on each feature, the most first; None if it can't tell.

    features: names in the order of the columns; boosters that saw bare numbers name them
    `Column_3` or `f3`. A linear model's coefficients are ordered by their size.
    """
    if hasattr(model, "get_feature_importance"):
        found = model.get_feature_importance()
        pairs = [(_feature_name(str(name), features), value) for name, value in found.items()]
        kind = "importance"
    elif getattr(model, "coef_", None) is not None:
        pairs, kind = list(zip(features, np.ravel(model.coef_), strict=False)), "coefficient"
    else:
        return None
    pairs.sort(key=lambda pair: -abs(pair[1]))
    return {
        "kind": kind,
        "features": [name for name, _ in pairs],
        "values": numbers(value for _, value in pairs),
    }


def write_predictions(prediction: pd.DataFrame, path: Path) -> None:
    """A Parquet file (datetime, instrument, score), sorted by day, then instrument.

    prediction: Qlib's pred.pkl, index (datetime, instrument) with the levels in any order.
    """
    score = prediction["score"] if "score" in prediction else prediction.iloc[:, 0]
    table = score.rename("score").reset_index()[["datetime", "instrument", "score"]]
    table["instrument"] = table["instrument"].astype(str)
    table = table.sort_values(["datetime", "instrument"], ignore_index=True)
    table.to_parquet(path, index=False, compression="zstd")


def numbers(values: Iterable[float]) -> list[float | None]:
    """JSON has no NaN and no infinity: None stands for both."""
    return [float(value) if math.isfinite(value) else None for value in values]


def _drawdown(returns: pd.Series) -> pd.Series:
    """How far below its highest value so far the sum of returns is; 0 or less."""
    total = returns.cumsum()
    return total - total.cummax()


def _days(index: pd.Index) -> list[str]:
    return [f"{day:%Y-%m-%d}" for day in index]


def _feature_name(name: str, features: list[str]) -> str:
    digits = name.removeprefix("Column_") if name.startswith("Column_") else name.removeprefix("f")
    if name in features or not digits.isdigit() or int(digits) >= len(features):
        return name
    return features[int(digits)]
