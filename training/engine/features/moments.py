"""Skewness, kurtosis, and means over windows that Qlib takes by calling numpy on each.

Conventions as in windows.py. Sources: pandas 2.3, `roll_skew` and `roll_kurt`; Qlib 0.9.7,
qlib/data/ops.py, Mad and WMA; numpy's pairwise sum.
"""

import math

import numpy as np

from training.engine.features.kernel import inlined, kernel

NAN = math.nan


@inlined
def _add(total, compensation, value):  # type: ignore[no-untyped-def]
    step = value - compensation
    fresh = total + step
    return fresh, fresh - total - step


@inlined
def _skew_of(n, same, x, xx, xxx):  # type: ignore[no-untyped-def]
    if n < 3:
        return NAN
    if same >= n:
        return 0.0
    a = x / n
    b = xx / n - a * a
    c = xxx / n - a * a * a - 3 * a * b
    if b <= 1e-14:
        return NAN
    r = math.sqrt(b)
    return (math.sqrt(n * (n - 1.0)) * c) / ((n - 2) * r * r * r)


@inlined
def _kurt_of(n, same, x, xx, xxx, xxxx):  # type: ignore[no-untyped-def]
    if n < 4:
        return NAN
    if same >= n:
        return -3.0
    a = x / n
    r = a * a
    b = xx / n - r
    r = r * a
    c = xxx / n - r - 3 * a * b
    r = r * a
    d = xxxx / n - r - 6 * b * a * a - 4 * c * a
    if b <= 1e-14:
        return NAN
    k = (n * n - 1.0) * d / (b * b) - 3 * ((n - 1.0) ** 2)
    return k / ((n - 2.0) * (n - 3.0))


@inlined
def _centre(values, first, end, limit):  # type: ignore[no-untyped-def]
    """What pandas takes away first: the rounded mean, unless a value lies far below it."""
    count, total, lowest = 0, 0.0, math.inf
    for i in range(first, end):
        if not math.isnan(values[i]):
            count += 1
            total += values[i]
            lowest = min(lowest, values[i])
    if count == 0:
        return 0.0
    mean = total / count
    if not lowest - mean > limit:
        return 0.0
    # C's round(): halves away from zero.
    return math.copysign(math.floor(abs(mean) + 0.5), mean)


@kernel("void(f8[::1], i8[::1], i8, b1, f8[::1])")
def rolling_shape(values, bounds, size, fourth, out):  # type: ignore[no-untyped-def]
    """Skewness, or kurtosis if `fourth`, of a sample."""
    limit = -1e4 if fourth else -1e5
    for b in range(len(bounds) - 1):
        first = bounds[b]
        centre = _centre(values, first, bounds[b + 1], limit)
        n = x = xx = xxx = xxxx = previous = 0.0
        ax = axx = axxx = axxxx = rx = rxx = rxxx = rxxxx = 0.0
        same = 0
        for i in range(first, bounds[b + 1]):
            if i == first or size == 1:
                n = x = xx = xxx = xxxx = 0.0
                ax = axx = axxx = axxxx = rx = rxx = rxxx = rxxxx = 0.0
                same = 0
                # pandas starts from the value as it was before the centre was taken away.
                previous = values[i]
            elif i - size >= first and not math.isnan(values[i - size]):
                v = values[i - size] - centre
                n -= 1
                x, rx = _add(x, rx, -v)
                xx, rxx = _add(xx, rxx, -v * v)
                xxx, rxxx = _add(xxx, rxxx, -v * v * v)
                xxxx, rxxxx = _add(xxxx, rxxxx, -v * v * v * v)
            v = values[i] - centre
            if not math.isnan(v):
                n += 1
                x, ax = _add(x, ax, v)
                xx, axx = _add(xx, axx, v * v)
                xxx, axxx = _add(xxx, axxx, v * v * v)
                xxxx, axxxx = _add(xxxx, axxxx, v * v * v * v)
                same = same + 1 if v == previous else 1
                previous = v
            if fourth:
                out[i] = _kurt_of(n, same, x, xx, xxx, xxxx)
            else:
                out[i] = _skew_of(n, same, x, xx, xxx)


@kernel("f8(f8[::1], i8, i8)")
def pairwise_sum(values, start, count):  # type: ignore[no-untyped-def]
    """numpy's sum of a contiguous float64 array, in numpy's order.

    Source: numpy, numpy/_core/src/umath/loops_utils.h.src, `pairwise_sum`.
    """
    if count < 8:
        total = -0.0
        for k in range(start, start + count):
            total += values[k]
        return total
    if count > 128:
        half = count // 2
        half -= half % 8
        return pairwise_sum(values, start, half) + pairwise_sum(values, start + half, count - half)
    r0, r1, r2, r3 = values[start], values[start + 1], values[start + 2], values[start + 3]
    r4, r5, r6, r7 = values[start + 4], values[start + 5], values[start + 6], values[start + 7]
    whole = count - count % 8
    for k in range(start + 8, start + whole, 8):
        r0 += values[k]
        r1 += values[k + 1]
        r2 += values[k + 2]
        r3 += values[k + 3]
        r4 += values[k + 4]
        r5 += values[k + 5]
        r6 += values[k + 6]
        r7 += values[k + 7]
    total = ((r0 + r1) + (r2 + r3)) + ((r4 + r5) + (r6 + r7))
    for k in range(start + whole, start + count):
        total += values[k]
    return total


@kernel("void(f8[::1], i8[::1], i8, f8[::1])")
def mean_deviation(values, bounds, size, out):  # type: ignore[no-untyped-def]
    """The mean distance of the window's observations from their mean."""
    for b in range(len(bounds) - 1):
        first, end = bounds[b], bounds[b + 1]
        seen = np.empty(min(size, end - first), np.float64)
        for i in range(first, end):
            count = 0
            for j in range(max(first, i - size + 1), i + 1):
                if not math.isnan(values[j]):
                    seen[count] = values[j]
                    count += 1
            if count == 0:
                out[i] = NAN
                continue
            mean = (0.0 + pairwise_sum(seen, 0, count)) / count
            for k in range(count):
                seen[k] = abs(seen[k] - mean)
            out[i] = pairwise_sum(seen, 0, count) / count


@kernel("void(f8[::1], i8[::1], i8, f8[::1])")
def weighted_mean(values, bounds, size, out):  # type: ignore[no-untyped-def]
    """Qlib's WMA: weights 1, 2, 3 … that sum to 1, and then the mean of the weighted values."""
    for b in range(len(bounds) - 1):
        first, end = bounds[b], bounds[b + 1]
        weighted = np.empty(min(size, end - first), np.float64)
        for i in range(first, end):
            start = max(first, i - size + 1)
            length = i + 1 - start
            weights = length * (length + 1) // 2
            count = 0
            for k in range(length):
                value = values[start + k]
                if math.isnan(value):
                    weighted[k] = 0.0
                else:
                    weighted[k] = ((k + 1) / weights) * value
                    count += 1
            # numpy starts its sums at 0, so that nothing but -0.0 adds up to 0.0.
            out[i] = (0.0 + pairwise_sum(weighted, 0, length)) / count if count else NAN
