"""A small market for all platforms of a test run: real prices if there are, else the demo's."""

import os
from datetime import date
from pathlib import Path

from .platform_processes import Platform
from .workflows import Market


def import_into(platform: Platform) -> Market:
    """Import the market by the command that users have; a second platform finds it built."""
    folder = os.environ.get("MARKET_DATA")
    if folder is None:
        platform.manage("build_demo_market")
    else:
        prices, index = Path(folder, "sp500_top50.parquet"), Path(folder, "benchmark.parquet")
        platform.manage("import_market", "top50", str(prices), "--benchmark", str(index))
    return facts(has_real_prices=folder is not None)


def facts(*, has_real_prices: bool) -> Market:
    """What the tests need to know of the market to write workflows."""
    if has_real_prices:
        return Market("top50", TOP50, "^GSPC", date(2013, 1, 2), date(2018, 12, 21))
    names = tuple(f"DEMO{number:03d}" for number in range(1, 51))
    return Market("demo", names, "DEMOIDX", date(2020, 1, 2), date(2023, 11, 1))


_NAMES = """
AAPL ABBV AMGN AMZN BA BAC BKNG BRK.B C CAT CMCSA CSCO CVS CVX DIS F FB GE GILD GM GOOGL GS HAL HD
IBM INTC JNJ JPM KO MCD MRK MSFT MU NFLX ORCL PEP PFE PG PM QCOM SBUX SLB T TSLA UNH V VZ WFC WMT
XOM
"""
TOP50 = tuple(_NAMES.split())
