"""Fewer points of a curve that still look like it."""

from collections.abc import Sequence

Point = tuple[float, float]


def largest_triangles(points: Sequence[Point], count: int) -> list[int]:
    """Indexes of at most `count` points that keep the curve's shape, first and last included.

    points: (x, y), ascending x, all finite; count: 3 or more.
    Source: Sveinn Steinarsson, Downsampling Time Series for Visual Representation (2013),
    the algorithm "largest triangle three buckets".
    """
    if len(points) <= count:
        return list(range(len(points)))
    width = (len(points) - 2) / (count - 2)
    edges = [1 + int(width * number) for number in range(count - 2)] + [len(points) - 1]
    kept = [0]
    for number in range(count - 2):
        start, stop = edges[number], edges[number + 1]
        beyond = edges[number + 2] if number + 2 < len(edges) else len(points)
        corner = _centre(points[stop:beyond])
        kept.append(_farthest(points, range(start, stop), points[kept[-1]], corner))
    return [*kept, len(points) - 1]


def _centre(points: Sequence[Point]) -> Point:
    return (
        sum(x for x, _ in points) / len(points),
        sum(y for _, y in points) / len(points),
    )


def _farthest(points: Sequence[Point], bucket: range, left: Point, right: Point) -> int:
    """The index in the bucket whose point spans the largest triangle with both others."""

    def area(index: int) -> float:
        x, y = points[index]
        return abs((left[0] - right[0]) * (y - left[1]) - (left[0] - x) * (right[1] - left[1]))

    return max(bucket, key=area)
