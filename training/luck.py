"""How much of a Sharpe ratio is luck: what the best of many tries would show by chance.

Source: David H. Bailey and Marcos López de Prado, The Deflated Sharpe Ratio: Correcting for
Selection Bias, Backtest Overfitting and Non-Normality, Journal of Portfolio Management 40 (5),
2014. All Sharpe ratios here are of one period (a day), not annualised.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()
_EULER_MASCHERONI = 0.5772156649015329


@dataclass(frozen=True)
class Moments:
    """Of a series of returns. sharpe: mean by standard deviation; kurtosis: 3 for a normal one."""

    count: int
    sharpe: float
    skewness: float
    kurtosis: float


def moments(returns: Sequence[float]) -> Moments | None:
    """None of fewer than three returns, or of returns that are all the same."""
    count = len(returns)
    if count < 3:
        return None
    mean = math.fsum(returns) / count
    second, third, fourth = (
        math.fsum((value - mean) ** power for value in returns) / count for power in (2, 3, 4)
    )
    if second <= 1e-24:
        return None
    # The standard deviation as Qlib's risk analysis has it, over one less than the count.
    deviation = math.sqrt(second * count / (count - 1))
    return Moments(count, mean / deviation, third / second**1.5, fourth / second**2)


def expected_best(tries: int, variance: float) -> float:
    """The Sharpe ratio that the best of so many tries would have, were none any good.

    variance: of the tries' Sharpe ratios; tries: independent ones; where they resemble each other
    it is an upper bound.
    """
    if tries < 2 or variance <= 0:
        return 0.0
    usual = _NORMAL.inv_cdf(1 - 1 / tries)
    rare = _NORMAL.inv_cdf(1 - 1 / (tries * math.e))
    return math.sqrt(variance) * ((1 - _EULER_MASCHERONI) * usual + _EULER_MASCHERONI * rare)


def deflated_sharpe(found: Moments, *, benchmark: float) -> float | None:
    """The probability that the true Sharpe ratio is above `benchmark`, in [0, 1].

    benchmark: what chance alone would give, as `expected_best` has it; 0 makes it the probabilistic
    Sharpe ratio. None where the moments leave no variance to judge by.
    """
    sharpe = found.sharpe
    spread = 1 - found.skewness * sharpe + (found.kurtosis - 1) / 4 * sharpe**2
    if spread <= 0:
        return None
    return _NORMAL.cdf((sharpe - benchmark) * math.sqrt(found.count - 1) / math.sqrt(spread))
