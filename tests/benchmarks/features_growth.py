"""Loads Alpha158 of made data, larger and larger, and prints time and memory of each size.

    python tests/benchmarks/features_growth.py --folder /tmp/growth 500x1500 1000x1500 2000x5000

Every size is made in the folder, loaded by the platform in a fresh process, and removed.
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))
from features_load import in_fresh_process

FIELDS = ("open", "high", "low", "close", "volume", "vwap")


def make_store(folder: Path, instruments: int, days: int) -> None:
    """Random walks without a gap."""
    rng = np.random.default_rng(0)
    calendar = [f"{day:%Y-%m-%d}" for day in pd.bdate_range("2000-01-03", periods=days)]
    for name in ("calendars", "instruments"):
        (folder / name).mkdir(parents=True)
    (folder / "calendars/day.txt").write_text("".join(f"{day}\n" for day in calendar))
    listing = [f"M{k:05d}\t{calendar[0]}\t{calendar[-1]}\n" for k in range(instruments)]
    (folder / "instruments/all.txt").write_text("".join(listing))
    for k in range(instruments):
        place = folder / "features" / f"m{k:05d}"
        place.mkdir(parents=True)
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, size=days)))
        for field in FIELDS:
            values = close * np.exp(rng.normal(0, 0.01, size=days))
            np.concatenate([[0], values]).astype("<f4").tofile(place / f"{field}.day.bin")


def main() -> None:
    """One line a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="+", help="instruments x days, such as 500x1500")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for size in options.sizes:
        instruments, days = map(int, size.split("x"))
        store = options.folder / size
        make_store(store, instruments, days)
        try:
            spec = {
                **{"store": str(store), "scratch": str(options.folder), "handler": "Alpha158"},
                **{"start": None, "end": None, "fit_end": None, "whole": False, "digest": False},
                **{"threads": options.threads, "evaluator": "platform"},
            }
            print(size, in_fresh_process(spec), flush=True)  # noqa: T201
        finally:
            shutil.rmtree(store)


if __name__ == "__main__":
    main()
