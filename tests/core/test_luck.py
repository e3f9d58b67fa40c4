"""The deflated Sharpe ratio, against the worked example of its authors."""

import math
import random
import statistics

import pytest

from training.luck import Moments, deflated_sharpe, expected_best, moments

# Bailey and López de Prado (2014), "A Numerical Example": an annualised Sharpe ratio of 2.5 over
# 1,250 days of 250 a year, the tries' variance 1/2 a year, skewness -3, kurtosis 10.
FOUND = Moments(count=1250, sharpe=2.5 / math.sqrt(250), skewness=-3.0, kurtosis=10.0)
VARIANCE = 0.5 / 250


def test_the_authors_own_example_comes_out():
    best = expected_best(100, VARIANCE)

    assert best == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(FOUND, benchmark=best) == pytest.approx(0.9004, abs=5e-5)
    fewer = expected_best(46, VARIANCE)
    assert deflated_sharpe(FOUND, benchmark=fewer) == pytest.approx(0.9505, abs=5e-4)


def test_more_tries_make_the_same_figure_less_convincing():
    told = [deflated_sharpe(FOUND, benchmark=expected_best(n, VARIANCE)) for n in (1, 2, 10, 999)]

    assert told == sorted(told, reverse=True)
    assert expected_best(1, VARIANCE) == 0.0


def test_the_best_of_many_worthless_tries_is_about_what_is_expected():
    draw = random.Random(7)  # noqa: S311
    best = [max(draw.gauss(0, 0.1) for _ in range(200)) for _ in range(300)]

    assert expected_best(200, 0.01) == pytest.approx(statistics.mean(best), rel=0.03)


def test_moments_are_those_of_the_returns():
    returns = [0.01, -0.02, 0.03, 0.0]

    found = moments(returns)

    assert found.sharpe == pytest.approx(statistics.mean(returns) / statistics.stdev(returns))
    assert found.count == 4
    even = moments([-1.0, 1.0] * 50)
    assert (even.skewness, even.kurtosis) == (pytest.approx(0), pytest.approx(1))


@pytest.mark.parametrize("returns", [[], [0.1, 0.2], [0.1, 0.1, 0.1, 0.1]])
def test_too_little_to_judge_by_is_nothing(returns):
    assert moments(returns) is None
