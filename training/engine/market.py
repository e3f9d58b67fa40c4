"""Imports daily bars into a version of Qlib's store; a program of its own.

`python -m training.engine.market import --name NAME --out DIR FILE…` or `… demo --name NAME --out
DIR`. Tells its progress, faults and end as JSON lines on standard output; exits with 0 or 1.
What is imported is never current by itself: the caller flips the pointer.
"""

import argparse
import csv
import errno
import io
import itertools
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from .demo_market import DESCRIPTION, SEED, demo_bars
from .market_bars import BarFile, MarketError, read_bars
from .market_checks import Finding, bad_rows, check, count_faults, faults
from .market_join import Bars, assemble
from .market_store import About, only_import, write_version

FAULTS_LISTED = 200
REGIONS = ("cn", "us", "tw")
NAME_FORM = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
RESERVED_MARKETS = frozenset({"all", "benchmark"})
CHINESE = re.compile(r"(?i)(SH|SZ|BJ)\d{6}|\d{6}\.(SH|SZ|BJ)")
TAIWANESE = re.compile(r"(?i)\d{4,6}\.TWO?")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns: its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if not NAME_FORM.fullmatch(options.name):
            raise MarketError(
                f"{options.name!r} is no fit name for a market: use up to 32 of a-z 0-9 _ -"
            )
        with only_import(options.out / options.name):
            options.run(options)
    except MarketError as error:
        return _failed(error.code, error.message)
    except BrokenPipeError:
        # Who asked for the import is gone. What is left in the pipe must not be tried again.
        sys.stdout = None
        return 1
    except OSError as error:
        return _failed("market_not_written", _disk_trouble(error))
    except MemoryError:
        return _failed("out_of_memory", "The files are too large for this machine's memory.")
    except KeyboardInterrupt:
        return _failed("cancelled", "The import was stopped; nothing of it was kept.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="training.engine.market", description=__doc__)
    commands = parser.add_subparsers(required=True)
    importing = commands.add_parser("import", help="import files of bars")
    importing.set_defaults(run=import_files)
    importing.add_argument("files", nargs="+", type=Path, metavar="FILE")
    importing.add_argument("--region", choices=REGIONS)
    importing.add_argument("--benchmark", action="append", default=[], type=Path, metavar="FILE")
    importing.add_argument("--market", action="append", default=[], metavar="NAME=FILE")
    importing.add_argument("--drop-bad", action="store_true")
    demo = commands.add_parser("demo", help="build the synthetic demo market")
    demo.set_defaults(run=build_demo)
    for command in (importing, demo):
        command.add_argument("--name", required=True)
        command.add_argument("--out", required=True, type=Path)
    return parser


def import_files(options: argparse.Namespace) -> None:
    """Read, check and write the files named by the options. Raises: MarketError, OSError."""
    files = [
        *(read_bars(path, is_benchmark=False, progress=_progress) for path in options.files),
        *(read_bars(path, is_benchmark=True, progress=_progress) for path in options.benchmark),
    ]
    _progress(0, 1, "Checking")
    findings = check(files)
    count = count_faults(files, findings)
    for fault in itertools.islice(faults(files, findings), FAULTS_LISTED):
        _say("fault", **asdict(fault))
    if count and not options.drop_bad:
        raise MarketError(_refusal(count))
    keep = [~bad_rows(findings, file=n, count=len(one.rows)) for n, one in enumerate(files)]
    bars = assemble(files, keep)
    _progress(1, 1, "Checking")
    about = About(
        name=options.name,
        region=options.region or _region_of(bars),
        source=[_source(one) for one in files],
        markets=_markets(options.market, bars),
    )
    dropped = _dropped_rows(files, findings) if count else ""
    rows = sum(int((~mask).sum()) for mask in keep) + sum(len(one.torn) for one in files)
    _publish(bars, about, options.out, dropped=dropped, dropped_count=rows, faults=count)


def build_demo(options: argparse.Namespace) -> None:
    """Build the demo market, always the same. Raises: MarketError, OSError."""
    _progress(0, 1, "Making prices")
    bars = assemble(*demo_bars())
    _progress(1, 1, "Making prices")
    about = About(
        name=options.name,
        region="us",
        synthetic=True,
        description=DESCRIPTION,
        source=[{"file": "synthetic", "seed": SEED, "rows": bars.rows}],
    )
    _publish(bars, about, options.out)


def _publish(bars: Bars, about: About, out: Path, *, dropped: str = "", **counts: int) -> None:
    path = write_version(bars, about, out=out, dropped=dropped, progress=_progress)
    _say(
        "done",
        manifest_path=str(path.absolute()),
        version=path.parent.name,
        rows=bars.rows,
        instruments=len(bars.names) - len(bars.benchmarks),
        warnings=list(bars.warnings),
        **counts,
    )


def _refusal(count: int) -> str:
    what = "1 fault" if count == 1 else f"{count:,} faults"
    listed = f"; the first {FAULTS_LISTED} are listed" if count > FAULTS_LISTED else ""
    return (
        f"{what} in the files{listed}. Nothing was imported. Mend the files, or import with "
        "--drop-bad to leave these rows out."
    )


def _region_of(bars: Bars) -> str:
    """The region that all names speak for; us otherwise."""
    names = set(bars.names) - set(bars.benchmarks)
    if all(CHINESE.fullmatch(name) for name in names):
        return "cn"
    return "tw" if all(TAIWANESE.fullmatch(name) for name in names) else "us"


def _source(file: BarFile) -> dict[str, Any]:
    source = {"file": file.name, "sha256": file.sha256, "rows": len(file.rows) + len(file.torn)}
    return {**source, "ignored_columns": list(file.ignored)} if file.ignored else source


def _dropped_rows(files: Sequence[BarFile], findings: Sequence[Finding]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "row", "column", "value", "message", "cure"])
    writer.writerows(asdict(fault).values() for fault in faults(files, findings))
    return text.getvalue()


def _markets(given: Sequence[str], bars: Bars) -> Mapping[str, list[tuple[str, str, str]]]:
    """Named markets from `NAME=FILE`. Raises: MarketError."""
    spans = {name: bars.span(n) for n, name in enumerate(bars.names) if name not in bars.benchmarks}
    markets = {}
    for item in given:
        name, separator, file = item.partition("=")
        if not separator or not NAME_FORM.fullmatch(name) or name in RESERVED_MARKETS:
            raise MarketError(
                f"--market {item!r}: write NAME=FILE, NAME of a-z 0-9 _ - and not "
                f"{' or '.join(sorted(RESERVED_MARKETS))}."
            )
        markets[name] = _market(Path(file), spans)
    return markets


def _market(path: Path, spans: Mapping[str, tuple[str, str]]) -> list[tuple[str, str, str]]:
    """A market's members: a symbol a line, or symbol, first and last day with tabs or commas."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MarketError(f"The market file {path.name} can't be read: {error}") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in re.split(r"[\t,]", line.strip())]
        if cells == [""] or cells[0].startswith("#"):
            continue
        if cells[0] not in spans:
            raise MarketError(f"{path.name}, line {number}: the files have no bar of {cells[0]!r}.")
        entry = _member(cells, spans[cells[0]], where=f"{path.name}, line {number}")
        if entry:
            entries.append(entry)
    if not entries:
        raise MarketError(f"The market file {path.name} names no instrument with bars in its time.")
    return sorted(set(entries))


def _member(
    cells: Sequence[str], span: tuple[str, str], *, where: str
) -> tuple[str, str, str] | None:
    """The member with its days cut to where it has bars; None if there are none."""
    if len(cells) not in {1, 3}:
        raise MarketError(f"{where}: write a symbol, or a symbol, its first and its last day.")
    try:
        first, last = (date.fromisoformat(cell).isoformat() for cell in cells[1:] or span)
    except ValueError as error:
        raise MarketError(f"{where}: write the days as YYYY-MM-DD.") from error
    first, last = max(first, span[0]), min(last, span[1])
    return (cells[0], first, last) if first <= last else None


def _disk_trouble(error: OSError) -> str:
    reasons = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "a file would be larger than the limit",
        errno.EROFS: "the disk is read-only",
        errno.EACCES: "there is no right to write",
    }
    reason = reasons.get(error.errno or 0, error.strerror or str(error))
    return f"The market could not be written: {reason} ({error.filename}). Nothing was imported."


class _Pace:
    """When progress was last told, so that a fast import does not drown its reader."""

    told_at = 0.0


def _progress(done: int, total: int, message: str) -> None:
    now = time.monotonic()
    if done not in {0, total} and now - _Pace.told_at < 0.1:
        return
    _Pace.told_at = now
    _say("progress", done=done, total=total, message=message)


def _failed(code: str, error: str) -> int:
    _say("failed", code=code, error=error)
    return 1


def _say(kind: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"type": kind, **facts}, ensure_ascii=True) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
