"""Straight lines through windows of rows, in the running sums of Qlib's own C++.

Conventions as in windows.py, but infinities are not masked: as in Qlib, one of them spoils the rest
of its instrument. Source: Qlib 0.9.7, qlib/data/_libs/rolling.pyx and expanding.pyx.
"""

import math

from training.engine.features.kernel import inlined, kernel

SLOPE, RSQUARE, RESIDUAL = 0, 1, 2


@inlined
def _line(n, x, xx, y, yy, xy, at, value, what):  # type: ignore[no-untyped-def]
    """Slope, squared correlation or residual at `at`, from the sums over n observations."""
    above = n * xy - x * y
    if what == RSQUARE:
        r = above / math.sqrt((n * xx - x * x) * (n * yy - y * y))
        return r * r
    slope = above / (n * xx - x * x)
    if what == SLOPE:
        return slope
    return value - (slope * at + (y / n - slope * (x / n)))


@kernel("void(f8[::1], i8[::1], i8, i8, f8[::1])")
def rolling_line(values, bounds, size, what, out):  # type: ignore[no-untyped-def]
    """x counts from 1 at the window's oldest place, also where rows are missing."""
    width = float(size)
    for b in range(len(bounds) - 1):
        first = bounds[b]
        n = x = xx = y = yy = xy = 0.0
        for i in range(first, bounds[b + 1]):
            xy = xy - y
            xx = xx + n - 2 * x
            x = x - n
            if i - size >= first and not math.isnan(values[i - size]):
                old = values[i - size]
                n -= 1
                y -= old
                yy -= old * old
            value = values[i]
            if not math.isnan(value):
                n += 1
                x += width
                xx += width * width
                y += value
                yy += value * value
                xy += width * value
            out[i] = _line(n, x, xx, y, yy, xy, width, value, what)


@kernel("void(f8[::1], i8[::1], i8, f8[::1])")
def expanding_line(values, bounds, what, out):  # type: ignore[no-untyped-def]
    """As rolling_line, over all rows from the instrument's first on; x counts from there."""
    for b in range(len(bounds) - 1):
        first = bounds[b]
        n = x = xx = y = yy = xy = 0.0
        for i in range(first, bounds[b + 1]):
            at = float(i - first + 1)
            value = values[i]
            if not math.isnan(value):
                n += 1
                x += at
                xx += at * at
                y += value
                yy += value * value
                xy += at * value
            out[i] = _line(n, x, xx, y, yy, xy, at, value, what)
