"""Ranks and quantiles over windows: one sorted window serves all of them.

Conventions as in windows.py. Source of the formulas: pandas 2.3, `roll_rank`, `roll_quantile` and
`roll_median_c`, which keep a skip list; a sorted array gives the same numbers.
"""

import math

import numpy as np

from training.engine.features.kernel import inlined, kernel

NAN = math.nan


@inlined
def _remove(window, count, value):  # type: ignore[no-untyped-def]
    for k in range(np.searchsorted(window[:count], value), count - 1):
        window[k] = window[k + 1]


@inlined
def _insert(window, count, value):  # type: ignore[no-untyped-def]
    """Puts the value behind its equals; returns its place."""
    k = count
    while k > 0 and window[k - 1] > value:
        window[k] = window[k - 1]
        k -= 1
    window[k] = value
    return k


@inlined
def _quantile(window, count, level):  # type: ignore[no-untyped-def]
    place = level * (count - 1)
    low = int(place)
    if count == 1 or place == low:
        return window[low]
    return window[low] + (window[low + 1] - window[low]) * (place - low)


@inlined
def _median(window, count):  # type: ignore[no-untyped-def]
    middle = count // 2
    if count % 2:
        return window[middle]
    return (window[middle] + window[middle - 1]) / 2


@inlined
def _rank(window, count, place):  # type: ignore[no-untyped-def]
    """The mean rank of the value at `place` and its equals, as a share of the observations."""
    lowest = place
    while lowest > 0 and window[lowest - 1] == window[place]:
        lowest -= 1
    high, low = place + 1.0, lowest + 1.0
    mean = ((high * (high + 1) / 2) - ((low - 1) * low / 2)) / (high - low + 1)
    return mean / count


@kernel("void(f8[::1], i8[::1], i8, f8[::1], f8[:, ::1])")
def rolling_order(values, bounds, size, levels, outs):  # type: ignore[no-untyped-def]
    """Row k of `outs`: the quantile levels[k]; the rank for level -1, the median for level -2."""
    longest = 1
    for b in range(len(bounds) - 1):
        longest = max(longest, bounds[b + 1] - bounds[b])
    window = np.empty(min(size, longest) + 1, np.float64)
    for b in range(len(bounds) - 1):
        first = bounds[b]
        count = 0
        for i in range(first, bounds[b + 1]):
            if i - size >= first and not math.isnan(values[i - size]):
                _remove(window, count, values[i - size])
                count -= 1
            seen = not math.isnan(values[i])
            place = 0
            if seen:
                place = _insert(window, count, values[i])
                count += 1
            for k in range(len(levels)):
                if count < 1 or (levels[k] == -1.0 and not seen):
                    outs[k, i] = NAN
                elif levels[k] == -1.0:
                    outs[k, i] = _rank(window, count, place)
                elif levels[k] == -2.0:
                    outs[k, i] = _median(window, count)
                else:
                    outs[k, i] = _quantile(window, count, levels[k])
