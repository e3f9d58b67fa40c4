"""`manage.py import_market`: bars from CSV or Parquet files become a dataset."""

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from training.management.market_process import import_and_register


class Command(BaseCommand):
    """Import daily bars (date, instrument, open, high, low, close, volume and, if there are,
    factor, amount, vwap, change) under a name. Bad rows are refused, each with its cure."""

    help = "Import daily bars from CSV or Parquet files as a dataset; bad rows are refused."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", help="name of the dataset: a-z 0-9 _ -")
        parser.add_argument("files", nargs="+", metavar="FILE", help="CSV or Parquet")
        parser.add_argument(
            "--benchmark",
            action="append",
            default=[],
            metavar="FILE",
            help="bars of indexes: to compare with, not part of the market; may be repeated",
        )
        parser.add_argument(
            "--region",
            choices=["cn", "us", "tw"],
            help="trading rules; without it told by the symbols, us where they say nothing",
        )
        parser.add_argument(
            "--drop-bad", action="store_true", help="leave bad rows out and list them"
        )
        parser.add_argument(
            "--market",
            action="append",
            default=[],
            metavar="NAME=FILE",
            help="a named part of the market: a symbol a line, or symbol, first and last day",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        arguments = ["import", f"--name={options['name']}"]
        arguments += [f"--benchmark={Path(path).absolute()}" for path in options["benchmark"]]
        arguments += [f"--market={_with_whole_path(item)}" for item in options["market"]]
        if options["region"]:
            arguments.append(f"--region={options['region']}")
        if options["drop_bad"]:
            arguments.append("--drop-bad")
        files = [str(Path(path).absolute()) for path in options["files"]]
        import_and_register([*arguments, *files], out=self.stdout)


def _with_whole_path(item: str) -> str:
    name, separator, file = item.partition("=")
    if not separator or not file:
        raise CommandError(f"--market {item!r}: write NAME=FILE.")
    return f"{name}={Path(file).absolute()}"
