"""What each step of a graph computes, on the concatenated rows of several instruments.

Element by element it is numpy's own function, chosen as pandas would choose it; over windows it is
a kernel. Neither changes a bit of what Qlib computes for one instrument alone.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from training.engine.features import moments, regressions, windows
from training.engine.features.order import rolling_order

Array = np.ndarray[tuple[int], np.dtype[Any]]
Rows = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Value = Array | int | float
# Levels by which `rolling_order` knows what is no quantile.
RANK_LEVEL, MEDIAN_LEVEL = -1.0, -2.0

# pandas hands these to Python's operators, whose powers by 2 or 0.5 are not np.power's.
_PAIRS: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": operator.truediv,
    "Power": operator.pow,
    "Greater": np.maximum,
    "Less": np.minimum,
    "Gt": operator.gt,
    "Ge": operator.ge,
    "Lt": operator.lt,
    "Le": operator.le,
    "Eq": operator.eq,
    "Ne": operator.ne,
    "And": operator.and_,
    "Or": operator.or_,
    "where_both": lambda one, other: one + 0 * other,
}
_UNARY: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Log": np.log,
    "Not": np.invert,
    "Sign": lambda values: np.sign(values.astype(np.float32)),
    "double": lambda values: values.astype(np.float64),
}


def observed(values: Array) -> Array:
    """float64, NaN for infinities: how pandas prepares the values of a window."""
    if values.dtype.kind != "f":
        return values.astype(np.float64)
    out = np.empty(len(values))
    windows.finite_or_nan(values, out)
    return out


def present(values: Array) -> Array:
    """1.0 where there is a value, 0.0 where there is NaN."""
    if values.dtype.kind != "f":
        return np.ones(len(values))
    return (~np.isnan(values)).astype(np.float64)


def shifted(values: Array, bounds: Array, step: int) -> Array:
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    out = np.empty_like(values)
    windows.shift(values, bounds, step, out)
    return out


def ordered(values: Array, bounds: Array, size: int, levels: list[float]) -> Rows:
    """One row for each level."""
    outs = np.empty((len(levels), len(values)))
    rolling_order(values, bounds, size, np.array(levels), outs)
    return outs


def windowed(name: str, inputs: list[Array], bounds: Array, parameter: Any) -> Array:
    """A step over windows; parameter: the window's size, or the decay of EMA."""
    out = np.empty(len(inputs[0]))
    _WINDOWS[name](inputs[0], bounds, parameter, out)
    if name == "Rsquare" and len(inputs) > 1:
        out[inputs[1] <= _FLAT] = np.nan
    return out


def correlation(*inputs: Array) -> Array:
    """inputs: those of `covariance`, then the variances of x and y, and the standard deviations of
    both sides by themselves."""
    result: Array = covariance(*inputs[:4]) / (inputs[4] * inputs[5]) ** 0.5
    result[(inputs[6] <= _FLAT) | (inputs[7] <= _FLAT)] = np.nan
    return result


def covariance(mean_xy: Array, mean_x: Array, mean_y: Array, count: Array) -> Array:
    """From means over windows of x times y, of x, of y, and the number of days with both."""
    result: Array = (mean_xy - mean_x * mean_y) * (count / (count - 1))
    return result


# Qlib takes a window for flat below this standard deviation, whatever the values' scale.
_FLAT = 2e-05
_WINDOWS: dict[str, Callable[[Any, Any, Any, Any], None]] = {
    "Sum": windows.rolling_sum,
    "Mean": windows.rolling_mean,
    "Std": lambda v, b, size, out: windows.rolling_variance(v, b, size, True, out),
    "Var": lambda v, b, size, out: windows.rolling_variance(v, b, size, False, out),
    "Max": lambda v, b, size, out: windows.rolling_extreme(v, b, size, 1.0, out),
    "Min": lambda v, b, size, out: windows.rolling_extreme(v, b, size, -1.0, out),
    "IdxMax": lambda v, b, size, out: windows.place_of_extreme(v, b, size, 1.0, out),
    "IdxMin": lambda v, b, size, out: windows.place_of_extreme(v, b, size, -1.0, out),
    "Skew": lambda v, b, size, out: moments.rolling_shape(v, b, size, False, out),
    "Kurt": lambda v, b, size, out: moments.rolling_shape(v, b, size, True, out),
    "Mad": moments.mean_deviation,
    "WMA": moments.weighted_mean,
    "EMA": windows.decayed_mean,
    "Slope": lambda v, b, size, out: _line(v, b, size, regressions.SLOPE, out),
    "Rsquare": lambda v, b, size, out: _line(v, b, size, regressions.RSQUARE, out),
    "Resi": lambda v, b, size, out: _line(v, b, size, regressions.RESIDUAL, out),
}
WINDOWED = frozenset(_WINDOWS)
POINTWISE: dict[str, Callable[..., Any]] = {
    **_PAIRS,
    **_UNARY,
    **{"observed": observed, "present": present, "If": np.where},
    **{"Corr": correlation, "Cov": covariance},
}
"""Steps that need nothing but values; row by row, each by itself."""


def _line(values: Array, bounds: Array, size: int, what: int, out: Array) -> None:
    if size == 0:
        regressions.expanding_line(values, bounds, what, out)
    else:
        regressions.rolling_line(values, bounds, size, what, out)
