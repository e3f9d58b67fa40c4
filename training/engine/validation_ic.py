"""IC and rank IC of the validation segment, round by round, from what the fit has predicted anyway.

Only for fits that predict their validation set to score it (LightGBM, XGBoost, most of torch's).
The label is the handler's raw one, as in Qlib's SigAnaRecord, so the last round's IC and the
report's compare. Nothing here changes a fit: predictions are read, never made to order.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from qlib.data.dataset.handler import DataHandlerLP

SHARE = 0.02
"""Of the fit's time so far that measuring may take; rounds beyond it are left out."""

FREE_S = 0.02
"""Seconds that measuring may take beyond its share, so that a short fit has a curve too."""

VALID = "valid"

Numbers = NDArray[np.float64]


class ValidationIC:
    """Measures as many rounds as its share of time allows; the others have no value at all."""

    def __init__(self, dataset: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._dataset = dataset
        self._clock = clock
        self._began = clock()
        self._spent_s = 0.0
        self._last_s = 0.0
        self._daily: DailyIC | None = None
        self._is_possible = VALID in getattr(dataset, "segments", {})

    def of(self, predicted: Callable[[], Any], label: Callable[[], Any]) -> dict[str, float]:
        """`valid_ic` and `valid_rank_ic` of this round, or nothing.

        predicted: the fit's predictions of its validation rows; label: what it has as their label,
        by which the rows are known to be the segment's. Both are asked only if it is measured.
        """
        if not self.is_wanted:
            return {}
        began = self._clock()
        values = self._measure(predicted, label)
        self._last_s = self._clock() - began
        self._spent_s += self._last_s
        return values

    @property
    def is_wanted(self) -> bool:
        """Whether a round would be measured now: who has to copy for it may ask before."""
        return self._is_possible and self._is_affordable()

    def _is_affordable(self) -> bool:
        # It grows with the fit: rounds that are left out lie evenly between those measured.
        allowed_s = SHARE * (self._clock() - self._began) + FREE_S
        return self._spent_s + self._last_s <= allowed_s

    def _measure(self, predicted: Callable[[], Any], label: Callable[[], Any]) -> dict[str, float]:
        if self._daily is None:
            self._daily = _daily_of(self._dataset, np.asarray(label()))
            self._is_possible = self._daily is not None
        if self._daily is None:
            return {}
        predictions = np.asarray(predicted(), dtype=np.float64)
        if predictions.shape != (self._daily.rows,):
            # Several outputs, or other rows than the first time: nobody knows which is whose.
            return {}
        ic, rank_ic = self._daily.means(predictions)
        return {"valid_ic": ic, "valid_rank_ic": rank_ic}


class DailyIC:
    """Mean over days of the correlation of prediction and label, and of that of their ranks.

    dates, labels: one for each row, in any order; rows whose label is not finite are left out,
    days on which all are equal likewise, both as in Qlib 0.9.7, qlib/contrib/eva/alpha.py, calc_ic.
    """

    def __init__(self, dates: NDArray[Any], labels: Numbers) -> None:
        self.rows = len(labels)
        known = np.flatnonzero(np.isfinite(labels))
        self._rows = known[np.argsort(dates[known], kind="stable")]
        days = dates[self._rows]
        is_new = np.append(True, days[1:] != days[:-1])[: len(days)]
        self._starts = np.flatnonzero(is_new)
        # Few enough for 16 bits, which numpy sorts by counting.
        self._day = (np.cumsum(is_new) - 1).astype(np.uint16)
        self._counts = np.bincount(self._day)
        label = labels[self._rows]
        self._label = self._standard(label)
        self._label_rank = self._standard(self._ranks(label))

    def means(self, predicted: Numbers) -> tuple[float, float]:
        """IC and rank IC of these predictions, one for each row; NaN where no day has any."""
        prediction = predicted[self._rows]
        ranks = self._ranks(prediction)
        return self._mean(prediction, self._label), self._mean(ranks, self._label_rank)

    def _mean(self, values: Numbers, standard_label: Numbers) -> float:
        by_day = self._sums(self._standard(values) * standard_label)
        known = by_day[np.isfinite(by_day)]
        return float(known.mean()) if len(known) else float("nan")

    def _standard(self, values: Numbers) -> Numbers:
        """Deviations from the day's mean, in units of their length; NaN where all are equal."""
        deviations = values - (self._sums(values) / self._counts)[self._day]
        lengths = np.sqrt(self._sums(deviations**2))
        highest = np.maximum.reduceat(values, self._starts)
        # Equal values may differ from their own mean by a last bit.
        lengths[highest == np.minimum.reduceat(values, self._starts)] = np.nan
        standard: Numbers = deviations / lengths[self._day]
        return standard

    def _ranks(self, values: Numbers) -> Numbers:
        """Places within the day, counted through all days; equal values share their mean place."""
        by_value = np.argsort(values)
        order = by_value[np.argsort(self._day[by_value], kind="stable")]
        ordered = values[order]
        is_new = np.append(True, ordered[1:] != ordered[:-1])
        is_new[self._starts] = True
        firsts = np.flatnonzero(is_new)
        lasts = np.append(firsts[1:], len(values)) - 1
        ranks = np.empty(len(values))
        ranks[order] = ((firsts + lasts) / 2)[np.cumsum(is_new) - 1]
        return ranks

    def _sums(self, values: Numbers) -> Numbers:
        sums: Numbers = np.add.reduceat(values, self._starts)
        return sums


def _daily_of(dataset: Any, label: NDArray[Any]) -> DailyIC | None:
    """None where the rows are not surely the segment's, or no raw label is kept."""
    rows = _rows_of(dataset, label.ravel())
    if rows is None:
        return None
    try:
        raw = _labels(dataset, DataHandlerLP.DK_R)
    except AttributeError:  # the handler has `drop_raw`
        return None
    raw_label = raw.iloc[:, 0].reindex(rows).to_numpy(np.float64)
    if not np.isfinite(raw_label).any():
        return None
    return DailyIC(rows.get_level_values("datetime").to_numpy(), raw_label)


def _rows_of(dataset: Any, label: NDArray[Any]) -> "pd.MultiIndex | None":
    """Day and instrument of each of the fit's labels, known by the labels themselves.

    Rows come by day, or by instrument where the model reads series (TSDatasetH). A fit by batches
    may leave out the last, incomplete one.
    """
    learned = _labels(dataset, DataHandlerLP.DK_L)
    if not 0 < label.size <= learned.size or learned.shape[1] != 1:
        return None
    for one in (learned, learned.sort_index(level=["instrument", "datetime"])):
        rows = one.iloc[: label.size]
        if np.array_equal(label, rows.to_numpy(label.dtype).ravel(), equal_nan=True):
            return rows.index
    return None


def _labels(dataset: Any, key: str) -> pd.DataFrame:
    # Not by `prepare`, which for series builds all of them.
    segment = slice(*dataset.segments[VALID])
    table: pd.DataFrame = dataset.handler.fetch(segment, col_set="label", data_key=key)
    return table
