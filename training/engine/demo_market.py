"""The demo market: invented prices with a weak planted signal, always the same.

Nothing in it is real, and it says so by its names. It behaves roughly as a market does: a common
factor and sectors, calm and wild times, heavy tails. A small part of each name's own return is
pulled back against its last days, so a model that learns well finds a small positive IC.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from .market_bars import BarFile, Floats

SEED = 20_240_601
INSTRUMENTS = 60
DAYS = 1_000
FIRST_DAY = "2020-01-02"
BENCHMARK = "DEMOIDX"
DESCRIPTION = "Synthetic prices, made by a program; no real market."
SECTORS = 6
REVERSAL = 0.035
"""How much of the mean own return of the last days comes back each day."""
REVERSAL_DAYS = 5
DAILY_VOLATILITY = 0.016


def demo_bars() -> tuple[list[BarFile], list[np.ndarray[Any, np.dtype[np.bool_]]]]:
    """The market and its index, as if read from two files, and that every row is kept."""
    random = np.random.default_rng(SEED)
    days = np.busday_offset(FIRST_DAY, np.arange(DAYS), roll="forward")
    returns = _returns(random)
    closes = random.uniform(15, 150, INSTRUMENTS) * np.exp(np.cumsum(returns, axis=0))
    names = [f"DEMO{number:03d}" for number in range(1, INSTRUMENTS + 1)]
    market = _bars(random, days, names, closes, is_benchmark=False)
    # Equal weights, rebalanced daily: the mean of the simple returns.
    index = 1_000 * np.cumprod(1 + np.expm1(returns).mean(axis=1))[:, None]
    benchmark = _bars(random, days, [BENCHMARK], index, is_benchmark=True)
    files = [market, benchmark]
    return files, [np.ones(len(one.rows), dtype=bool) for one in files]


def _returns(random: np.random.Generator) -> Floats:
    """Log returns, days × instruments."""
    sectors = np.arange(INSTRUMENTS) % SECTORS
    common = 0.0001 + 0.009 * _shocks(random, 1)
    by_sector = 0.005 * _shocks(random, SECTORS)
    size = DAILY_VOLATILITY * random.uniform(0.6, 1.5, INSTRUMENTS)
    news = size * _shocks(random, INSTRUMENTS)
    own = np.zeros_like(news)
    for day in range(DAYS):
        recent = own[max(day - REVERSAL_DAYS, 0) : day]
        pull = recent.mean(axis=0) if len(recent) else 0.0
        own[day] = news[day] - REVERSAL * REVERSAL_DAYS * pull
    beta = random.uniform(0.6, 1.4, INSTRUMENTS)
    total: Floats = beta * common + by_sector[:, sectors] + own
    return total


def _shocks(random: np.random.Generator, count: int) -> Floats:
    """Unit shocks with heavy tails whose size comes in waves, days × count."""
    waves = np.zeros((DAYS, count))
    for day in range(1, DAYS):
        waves[day] = 0.95 * waves[day - 1] + 0.1 * random.standard_normal(count)
    shocks: Floats = np.exp(waves) * random.standard_t(5, (DAYS, count)) / np.sqrt(5 / 3)
    return np.clip(shocks, -8, 8)


def _bars(
    random: np.random.Generator,
    days: np.ndarray[Any, np.dtype[np.datetime64]],
    names: list[str],
    closes: Floats,
    *,
    is_benchmark: bool,
) -> BarFile:
    """Whole bars around the closes, instrument by instrument."""
    shape = closes.shape
    before = np.vstack([closes[:1], closes[:-1]])
    opens = before * np.exp(0.004 * random.standard_normal(shape))
    spread = np.abs(0.006 * random.standard_normal((2, *shape)))
    moved = np.abs(np.log(closes / before))
    volume = np.exp(13 + 12 * moved + 0.3 * random.standard_normal(shape)).round()
    highs = np.maximum(opens, closes) * np.exp(spread[0])
    lows = np.minimum(opens, closes) * np.exp(-spread[1])
    prices = {"open": opens, "high": highs, "low": lows, "close": closes}
    values = {name: grid.T.ravel().round(4) for name, grid in prices.items()}
    values["volume"] = volume.T.ravel()
    count = closes.size
    return BarFile(
        name="synthetic",
        sha256="",
        is_benchmark=is_benchmark,
        table=pa.table({}),
        rows=np.arange(1, count + 1, dtype=np.int64),
        days=np.tile(days, len(names)),
        instruments=np.repeat(np.array(names, dtype=object), len(days)),
        values=values,
        ignored=(),
    )
