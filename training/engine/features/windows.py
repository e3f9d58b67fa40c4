"""Sums, means, variances, extremes, shifts and decays over windows of rows.

A block's instruments lie one after the other in `values`; instrument b has rows bounds[b] up to
bounds[b + 1]. A window of `size` rows ends at its row, is shorter at an instrument's first rows,
and never sees another instrument. NaN is "no observation". Results are float64.

The order of floating operations is pandas' own (pandas 2.3, pandas/_libs/window/aggregations.pyx),
compensated sums included: that, and nothing less, gives equal bits.
"""

import math

from training.engine.features.kernel import inlined, kernel

NAN = math.nan
_WINDOW = "void(f8[::1], i8[::1], i8, f8[::1])"
_WINDOW_AND_FLAG = "void(f8[::1], i8[::1], i8, b1, f8[::1])"


@inlined
def _add(total, compensation, value):  # type: ignore[no-untyped-def]
    """One step of Kahan's sum: the new total, the new compensation."""
    step = value - compensation
    fresh = total + step
    return fresh, fresh - total - step


@inlined
def _mean_of(total, count, same, negative, previous):  # type: ignore[no-untyped-def]
    """pandas' mean never has a sign that no value of the window has."""
    if count < 1:
        return NAN
    mean = total / count
    if same >= count:
        mean = previous
    elif (negative == 0 and mean < 0) or (negative == count and mean > 0):
        mean = 0.0
    return mean


@inlined
def _variance_of(count, same, squares):  # type: ignore[no-untyped-def]
    if count <= 1:
        return NAN
    return 0.0 if same >= count else squares / (count - 1)


@inlined
def _root(variance):  # type: ignore[no-untyped-def]
    return 0.0 if variance < 0 else math.sqrt(variance)


@kernel(_WINDOW)
def rolling_sum(values, bounds, size, out):  # type: ignore[no-untyped-def]
    for b in range(len(bounds) - 1):
        first = bounds[b]
        total = added = removed = previous = 0.0
        count = same = 0
        for i in range(first, bounds[b + 1]):
            if i == first or size == 1:
                total = added = removed = 0.0
                count = same = 0
                previous = values[i]
            elif i - size >= first and not math.isnan(values[i - size]):
                count -= 1
                total, removed = _add(total, removed, -values[i - size])
            value = values[i]
            if not math.isnan(value):
                count += 1
                total, added = _add(total, added, value)
                same = same + 1 if value == previous else 1
                previous = value
            if count < 1:
                out[i] = NAN
            elif same >= count:
                out[i] = previous * count
            else:
                out[i] = total


@kernel(_WINDOW)
def rolling_mean(values, bounds, size, out):  # type: ignore[no-untyped-def]
    for b in range(len(bounds) - 1):
        first = bounds[b]
        total = added = removed = previous = 0.0
        count = same = negative = 0
        for i in range(first, bounds[b + 1]):
            if i == first or size == 1:
                total = added = removed = 0.0
                count = same = negative = 0
                previous = values[i]
            elif i - size >= first and not math.isnan(values[i - size]):
                value = values[i - size]
                count -= 1
                total, removed = _add(total, removed, -value)
                negative -= math.copysign(1.0, value) < 0
            value = values[i]
            if not math.isnan(value):
                count += 1
                total, added = _add(total, added, value)
                negative += math.copysign(1.0, value) < 0
                same = same + 1 if value == previous else 1
                previous = value
            out[i] = _mean_of(total, count, same, negative, previous)


@kernel(_WINDOW_AND_FLAG)
def rolling_variance(values, bounds, size, root, out):  # type: ignore[no-untyped-def]
    """Of a sample (n - 1); `root` gives the standard deviation. One observation gives NaN."""
    for b in range(len(bounds) - 1):
        first = bounds[b]
        count = mean = squares = added = removed = previous = 0.0
        same = 0
        for i in range(first, bounds[b + 1]):
            if i == first or size == 1:
                count = mean = squares = added = removed = 0.0
                same = 0
                previous = values[i]
            elif i - size >= first and not math.isnan(values[i - size]):
                value = values[i - size]
                count -= 1
                if count:
                    before = mean - removed
                    step = value - removed
                    delta = step - mean
                    removed = delta + mean - step
                    mean = mean - delta / count
                    squares = squares - (value - before) * (value - mean)
                else:
                    mean = squares = 0.0
            value = values[i]
            if not math.isnan(value):
                count += 1
                same = same + 1 if value == previous else 1
                previous = value
                before = mean - added
                step = value - added
                delta = step - mean
                added = delta + mean - step
                mean = mean + delta / count
                squares = squares + (value - before) * (value - mean)
            variance = _variance_of(count, same, squares)
            out[i] = _root(variance) if root else variance


@kernel("void(f8[::1], i8[::1], i8, f8, f8[::1])")
def rolling_extreme(values, bounds, size, sign, out):  # type: ignore[no-untyped-def]
    """The largest (sign 1.0) or smallest (-1.0) observation; of equal ones the latest."""
    for b in range(len(bounds) - 1):
        first = bounds[b]
        best, place = NAN, -1
        for i in range(first, bounds[b + 1]):
            value = values[i]
            if not math.isnan(value) and (place < 0 or value * sign >= best * sign):
                best, place = value, i
            elif 0 <= place <= i - size:
                best, place = NAN, -1
                for j in range(i - size + 1, i + 1):
                    value = values[j]
                    if not math.isnan(value) and (place < 0 or value * sign >= best * sign):
                        best, place = value, j
            out[i] = best


@kernel("void(f8[::1], i8[::1], i8, f8, f8[::1])")
def place_of_extreme(values, bounds, size, sign, out):  # type: ignore[no-untyped-def]
    """numpy's argmax (sign 1.0) or argmin (-1.0) of the window, counted from 1.

    As in numpy a NaN beats every number, the first of them wins, and so does the first of equal
    numbers. A window without observations gives NaN.
    """
    for b in range(len(bounds) - 1):
        first = bounds[b]
        place = last_nan = first - 1
        count = 0
        for i in range(first, bounds[b + 1]):
            start = max(first, i - size + 1)
            if i - size >= first and not math.isnan(values[i - size]):
                count -= 1
            if math.isnan(values[i]):
                last_nan = i
            else:
                count += 1
            if count < 1:
                out[i] = NAN
                continue
            if last_nan >= start:
                place = start
                while not math.isnan(values[place]):
                    place += 1
                out[i] = place - start + 1
                place = first - 1
                continue
            if place < start:
                place = start
                for j in range(start + 1, i + 1):
                    if values[j] * sign > values[place] * sign:
                        place = j
            elif values[i] * sign > values[place] * sign:
                place = i
            out[i] = place - start + 1


@kernel(
    "void(f4[::1], i8[::1], i8, f4[::1])",
    "void(f8[::1], i8[::1], i8, f8[::1])",
)
def shift(values, bounds, step, out):  # type: ignore[no-untyped-def]
    """The value `step` rows before (or after, if negative); step 0: the instrument's first."""
    for b in range(len(bounds) - 1):
        first, end = bounds[b], bounds[b + 1]
        for i in range(first, end):
            j = i - step if step != 0 else first
            out[i] = values[j] if first <= j < end else NAN


@kernel("void(f8[::1], i8[::1], f8, f8[::1])")
def decayed_mean(values, bounds, alpha, out):  # type: ignore[no-untyped-def]
    """pandas' ewm(adjust=True, ignore_na=False).mean(), from the first observation on."""
    factor = 1.0 - alpha
    for b in range(len(bounds) - 1):
        first = bounds[b]
        mean, weight = NAN, 1.0
        for i in range(first, bounds[b + 1]):
            value = values[i]
            seen = not math.isnan(value)
            if math.isnan(mean):
                if seen:
                    mean = value
            else:
                weight *= factor
                if seen:
                    if mean != value:
                        mean = (weight * mean + value) / (weight + 1.0)
                    weight += 1.0
            out[i] = mean


@kernel("void(f4[::1], f8[::1])", "void(f8[::1], f8[::1])")
def finite_or_nan(values, out):  # type: ignore[no-untyped-def]
    """float64, with NaN for infinities: what pandas' windows see."""
    for i in range(len(values)):
        value = float(values[i])
        out[i] = NAN if math.isinf(value) else value


@kernel(
    "void(f4[::1], i8[::1], i8[::1], f4[::1])",
    "void(f8[::1], i8[::1], i8[::1], f4[::1])",
)
def scatter(values, sources, targets, out):  # type: ignore[no-untyped-def]
    """out[targets[k]] = values[sources[k]], or NaN where the source is negative."""
    for k in range(len(targets)):
        out[targets[k]] = values[sources[k]] if sources[k] >= 0 else NAN
