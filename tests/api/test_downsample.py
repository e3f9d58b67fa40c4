"""Largest triangles keep a curve's shape."""

import pytest

from training.downsample import largest_triangles


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 10, 11, 100, 1_001])
@pytest.mark.parametrize("count", [3, 4, 10, 99, 5_000])
def test_the_number_the_order_and_the_ends_are_right(length, count):
    points = [(float(n), float((n * 7919) % 31)) for n in range(length)]

    kept = largest_triangles(points, count)

    assert len(kept) == min(length, count)
    assert kept == sorted(set(kept))
    assert kept[:1] == ([0] if length else [])
    assert kept[-1:] == ([length - 1] if length else [])


def test_a_lone_spike_is_never_lost():
    for spike in range(1, 499):
        points = [(float(n), 50.0 if n == spike else 0.0) for n in range(500)]

        assert spike in largest_triangles(points, 10)
