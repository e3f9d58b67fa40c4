"""Reads a store through Qlib and keeps what it found; run as a process, for Qlib is global to one.

Arguments: store, result (a folder), instruments with commas.
"""

import json
import sys
from pathlib import Path

import qlib
from qlib.backtest.report import PortfolioMetrics
from qlib.data import D

FIELDS = ("open", "high", "low", "close", "volume", "factor", "vwap", "change")


def main(store: str, result: Path, instruments: list[str]) -> None:
    qlib.init(provider_uri=store, region="us", kernels=1, logging_level=40)
    frame = D.features(instruments, [f"${name}" for name in FIELDS], freq="day")
    frame.reset_index().to_parquet(result / "features.parquet")
    days = D.calendar(freq="day")
    market = D.list_instruments(D.instruments("all"), as_list=True, freq="day")
    benchmark = PortfolioMetrics(
        freq="day",
        benchmark_config={
            "benchmark": instruments[0],
            "start_time": days[0],
            "end_time": days[-1],
        },
    ).bench
    facts = {
        "days": len(days),
        "future_days": len(D.calendar(freq="day", future=True)),
        "all": sorted(market),
        "benchmark_days": int(benchmark.notna().sum()),
        "benchmark_mean": float(benchmark.mean()),
    }
    (result / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3].split(","))
