"""Imports of daily bars: what is refused, what stands in the store, what a kill leaves behind."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

from training.engine import market, market_checks  # noqa: E402 - only where pandas is there

ROOT = Path(__file__).resolve().parents[2]
MARKET_DATA = os.environ.get("MARKET_DATA")
HEADER = "date,instrument,open,high,low,close,volume"
GOOD = [
    "2020-01-02,AAA,10,11,9,10.5,1000",
    "2020-01-03,AAA,10,11,9,10.7,1100",
    "2020-01-02,BRK.B,20,22,19,21,500",
    "2020-01-06,BRK.B,21,22,20,21.5,0",
]


@dataclass
class Outcome:
    """What one import said."""

    code: int
    messages: list[dict[str, Any]]

    @property
    def faults(self) -> list[tuple[int, str, str]]:
        faults = [one for one in self.messages if one["type"] == "fault"]
        return [(one["row"], one["column"], one["value"]) for one in faults]

    @property
    def last(self) -> dict[str, Any]:
        return self.messages[-1]

    @property
    def version(self) -> Path:
        return Path(self.last["manifest_path"]).parent

    @property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads(Path(self.last["manifest_path"]).read_text())
        return manifest


Import = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Import:
    """`run(files…, "--option")`: an import as market `test` below the test's directory."""

    def start(*arguments: str | Path) -> Outcome:
        common = ["--name", "test", "--out", str(tmp_path / "out")]
        code = market.main(["import", *common, *map(str, arguments)])
        lines = capsys.readouterr().out.splitlines()
        return Outcome(code, [json.loads(line) for line in lines])

    return start


def write(path: Path, rows: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def versions(tmp_path: Path) -> list[str]:
    """What lies in the market's place, finished or not."""
    return sorted(path.name for path in (tmp_path / "out/test").iterdir() if path.is_dir())


def bin_of(version: Path, name: str) -> list[float]:
    return np.fromfile(version / "features" / f"{name}.day.bin", "<f4").tolist()


# ── Bad rows ────────────────────────────────────────────────────────────────────────────
TOMORROW = (datetime.now(UTC) + timedelta(days=3)).strftime("%Y-%m-%d")
BAD_ROWS = [
    (",AAA,10,11,9,10,5", "date", ""),
    ("2020-02-30,AAA,10,11,9,10,5", "date", "2020-02-30"),
    ("yesterday,AAA,10,11,9,10,5", "date", "yesterday"),
    ("2020-01-07 09:30:00,AAA,10,11,9,10,5", "date", "2020-01-07 09:30:00"),
    ("2020-01-07T00:00:00+02:00,AAA,10,11,9,10,5", "date", "2020-01-07T00:00:00+02:00"),
    ("1899-12-29,AAA,10,11,9,10,5", "date", "1899-12-29"),
    (f"{TOMORROW},AAA,10,11,9,10,5", "date", TOMORROW),
    ("2020-01-07,,10,11,9,10,5", "instrument", ""),
    ("2020-01-07,../x,10,11,9,10,5", "instrument", "../x"),
    ("2020-01-07,..,10,11,9,10,5", "instrument", ".."),
    ("2020-01-07,A B,10,11,9,10,5", "instrument", "A B"),
    (f"2020-01-07,{'A' * 33},10,11,9,10,5", "instrument", "A" * 33),
    ("2020-01-07,NA,10,11,9,10,5", "instrument", "NA"),
    ("2020-01-07,aaa,10,11,9,10,5", "instrument", "aaa"),
    ("2020-01-07,AAA,,11,9,10,5", "open", ""),
    ("2020-01-07,AAA,10,11,9,nan,5", "close", "nan"),
    ("2020-01-07,AAA,10,inf,9,10,5", "high", "inf"),
    ("2020-01-07,AAA,10,11,9,ten,5", "close", "ten"),
    ('2020-01-07,AAA,10,"1,100",9,10,5', "high", "1,100"),
    ("2020-01-07,AAA,10,11,0,10,5", "low", "0"),
    ("2020-01-07,AAA,10,11,-9,10,5", "low", "-9"),
    ("2020-01-07,AAA,10,11,9,10,-5", "volume", "-5"),
    ("2020-01-07,AAA,10,11,9,10,", "volume", ""),
    ("2020-01-07,AAA,10,9.9,9,10,5", "high", "9.9"),
    ("2020-01-07,AAA,10,11,9.9,9.8,5", "low", "9.9"),
    ("2020-01-07,AAA,1e35,1e35,1e35,1e35,5", "close", "1e35"),
    ("2020-01-03,AAA,10,11,9,10,5", "date", "2020-01-03"),
    ("2020-01-07,AAA,10,11,9", "", ""),
]


@pytest.mark.parametrize(("row", "column", "value"), BAD_ROWS, ids=[row[0] for row in BAD_ROWS])
def test_a_bad_row_is_refused_by_its_line_and_column(
    run: Import, tmp_path: Path, row: str, column: str, value: str
) -> None:
    good = [GOOD[0], "", *GOOD[1:]]  # an empty line counts as a line
    outcome = run(write(tmp_path / "bars.csv", [*good[:4], row, *good[4:]]))

    assert outcome.code == 1
    fault = next(one for one in outcome.messages if one["type"] == "fault")
    assert (fault["file"], fault["row"], fault["column"]) == ("bars.csv", 6, column)
    assert fault["value"] == (value if column else row)
    assert fault["message"]
    assert fault["cure"]
    assert len(outcome.faults) == 1
    assert outcome.last["code"] == "market_refused"
    assert versions(tmp_path) == []


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("factor", "0"),
        ("factor", ""),
        ("factor", "-1"),
        ("amount", "-1"),
        ("amount", "x"),
        ("vwap", "0"),
        ("vwap", ""),
        ("change", "much"),
        ("change", "inf"),
    ],
)
def test_a_bad_optional_cell_is_refused(
    run: Import, tmp_path: Path, column: str, cell: str
) -> None:
    fine = {"factor": "1", "amount": "10400", "vwap": "10.4", "change": ""}[column]
    rows = [f"{GOOD[0]},{fine}", f"{GOOD[1]},{cell}"]

    outcome = run(write(tmp_path / "bars.csv", rows, f"{HEADER},{column}"))

    assert outcome.faults == [(3, column, cell)]


def test_all_faults_are_listed_in_the_order_of_the_rows_up_to_a_limit(
    run: Import, tmp_path: Path
) -> None:
    rows = [f"2020-01-02,N{number},10,11,-1,0,5" for number in range(300)]

    outcome = run(write(tmp_path / "bars.csv", rows))

    assert outcome.faults[:3] == [(2, "low", "-1"), (2, "close", "0"), (3, "low", "-1")]
    assert len(outcome.faults) == market.FAULTS_LISTED
    assert outcome.last["error"].startswith("600 faults in the files; the first 200 are listed.")


def test_parquet_rows_are_counted_from_one(run: Import, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "Symbol": pd.Categorical(["A", "A", None]),
            "DateTime": pd.to_datetime(["2020-01-02", "2020-01-03", "2020-01-06"]),
            **{name: [1.0, float("inf"), 1.0] for name in ("Open", "High", "Low", "Close")},
            "Volume": [1, 2, 3],
        }
    )
    frame.to_parquet(tmp_path / "bars.parquet")

    outcome = run(tmp_path / "bars.parquet")

    assert {row for row, _, _ in outcome.faults} == {2, 3}
    assert (3, "instrument", "") in outcome.faults
    assert (2, "high", "inf") in outcome.faults


def test_drop_bad_leaves_the_rows_out_and_lists_them(run: Import, tmp_path: Path) -> None:
    bad = ["2020-01-07,AAA,10,11,9,ten,-5", "2020-01-02,AAA,10,11,9,10,5", "2020-01-07,AAA"]
    clean = run(write(tmp_path / "clean.csv", GOOD))
    clean_bins = bin_of(clean.version, "aaa/close")
    clean.version.rename(tmp_path / "clean")

    outcome = run("--drop-bad", write(tmp_path / "bars.csv", [*GOOD[:2], *bad, *GOOD[2:]]))

    assert outcome.code == 0
    assert outcome.last["dropped_count"] == 3
    dropped = pd.read_csv(outcome.version / "dropped_rows.csv", keep_default_na=False)
    assert sorted(dropped["row"].unique()) == [4, 5, 6]
    assert outcome.manifest["rows"] == 4
    assert outcome.version.name == clean.last["version"]
    assert bin_of(outcome.version, "aaa/close") == clean_bins


def test_dropping_every_row_is_refused(run: Import, tmp_path: Path) -> None:
    outcome = run("--drop-bad", write(tmp_path / "bars.csv", ["2020-01-07,AAA,0,0,0,0,0"]))

    assert outcome.last["error"] == "No bar is left to import."


# ── Files that are no bars ──────────────────────────────────────────────────────────────
def test_what_is_no_table_of_bars_is_refused_by_a_reason(run: Import, tmp_path: Path) -> None:
    places = {
        name: tmp_path / name for name in ("empty", "header", "binary", "latin", "torn", "columns")
    }
    places["empty"].write_bytes(b"")
    places["header"].write_text(f"{HEADER}\n")
    places["binary"].write_bytes(bytes(range(256)) * 10)
    places["latin"].write_bytes(f"{HEADER}\n{GOOD[0]}\ncaf\u00e9\n".encode("latin-1"))
    places["torn"].write_bytes(b"PAR1 and then nothing of a Parquet file")
    places["columns"].write_text("date,instrument,open\n2020-01-02,A,1\n")

    reasons = {name: run(path).last["error"] for name, path in places.items()}

    assert reasons["empty"].startswith("empty is empty")
    assert reasons["header"].startswith("header has no rows")
    assert reasons["binary"].startswith("binary, line 1: this is not UTF-8 text")
    assert reasons["latin"].startswith("latin, line 3: this is not UTF-8 text")
    assert reasons["torn"].startswith("torn is neither a CSV nor a Parquet table")
    assert "has no column high, low, close, volume (found: date" in reasons["columns"]
    assert "can't be read: No such file" in run(tmp_path / "missing").last["error"]
    assert "can't be read: Is a directory" in run(tmp_path).last["error"]


def test_two_columns_of_one_meaning_are_refused(run: Import, tmp_path: Path) -> None:
    rows = [f"{row},A" for row in GOOD]

    outcome = run(write(tmp_path / "bars.csv", rows, f"{HEADER},Symbol"))

    assert "'instrument' and 'Symbol' both name instrument" in outcome.last["error"]


def test_columns_of_a_wrong_kind_are_refused(run: Import, tmp_path: Path) -> None:
    columns = ("date", "instrument", "open", "high", "low", "close", "volume")
    pd.DataFrame({name: [True] for name in columns}).to_parquet(tmp_path / "bars.parquet")

    assert "column date holds bool" in run(tmp_path / "bars.parquet").last["error"]


def test_amounts_in_other_units_than_volumes_are_refused(run: Import, tmp_path: Path) -> None:
    rows = [f"{row},10.4" for row in GOOD[:2]]

    outcome = run(write(tmp_path / "bars.csv", rows, f"{HEADER},amount"))

    assert "different units" in outcome.last["error"]


def test_a_benchmark_without_a_common_day_is_refused(run: Import, tmp_path: Path) -> None:
    bars = write(tmp_path / "bars.csv", GOOD)
    benchmark = write(tmp_path / "index.csv", ["2019-01-02,^GSPC,1,1,1,1,0"])

    outcome = run("--benchmark", benchmark, bars)

    assert outcome.last["error"].startswith("Benchmark ^GSPC has no day in common")


def test_a_name_in_market_and_benchmark_is_refused(run: Import, tmp_path: Path) -> None:
    bars = write(tmp_path / "bars.csv", GOOD)
    benchmark = write(tmp_path / "index.csv", ["2020-01-02,AAA,1,1,1,1,0"])

    outcome = run("--benchmark", benchmark, bars)

    assert [one[:2] for one in outcome.faults if one[1] == "instrument"] == [
        (2, "instrument"),
        (3, "instrument"),
    ]


@pytest.mark.parametrize("name", ["../x", "A", "", "x" * 33, ".x"])
def test_an_unfit_name_of_a_market_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert market.main(["demo", "--name", name, "--out", str(tmp_path / "out")]) == 1

    assert "is no fit name" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "x").exists()


# ── The store ───────────────────────────────────────────────────────────────────────────
def test_the_store_has_adjusted_bars_on_the_calendar(run: Import, tmp_path: Path) -> None:
    rows = [f"{row},{factor}" for row, factor in zip(GOOD, ["0.5", "1", "1", "1"], strict=True)]

    version = run(write(tmp_path / "bars.csv", rows[::-1], f"{HEADER},factor")).version

    day_lines = (version / "calendars/day.txt").read_text().split()
    future = (version / "calendars/day_future.txt").read_text().split()
    assert day_lines == ["2020-01-02", "2020-01-03", "2020-01-06"]
    assert future[:4] == [*day_lines, "2020-01-07"]
    assert len(future) >= len(day_lines) + 10
    assert (version / "instruments/all.txt").read_text() == (
        "AAA\t2020-01-02\t2020-01-03\nBRK.B\t2020-01-02\t2020-01-06\n"
    )
    assert bin_of(version, "aaa/close") == [0, 5.25, np.float32(10.7)]
    assert bin_of(version, "aaa/volume") == [0, 2000, 1100]
    assert bin_of(version, "aaa/change")[2] == pytest.approx(10.7 / 5.25 - 1, rel=1e-7)
    assert np.isnan(bin_of(version, "aaa/change")[1])
    gap = bin_of(version, "brk.b/close")
    assert np.isnan(gap[2])
    assert gap[3] == 21.5
    assert bin_of(version, "brk.b/change")[3] == pytest.approx(21.5 / 21 - 1, rel=1e-6)


@pytest.mark.parametrize(
    ("column", "cells", "expected", "how"),
    [
        ("", ["", ""], [31 / 3, 63 / 3], market.assemble.__globals__["VWAP_TYPICAL"]),
        ("amount", ["10400", "0"], [10.4, 21.5], market.assemble.__globals__["VWAP_FROM_AMOUNT"]),
        ("vwap", ["10.3", ""], [10.3, 21.5], market.assemble.__globals__["VWAP_FROM_FILE"]),
    ],
)
def test_vwap_is_taken_or_made_and_the_manifest_says_how(
    run: Import, tmp_path: Path, column: str, cells: list[str], expected: list[float], how: str
) -> None:
    rows = ["2020-01-02,AAA,10,11,9.5,10.5,1000", "2020-01-06,AAA,20,21.5,20,21.5,0"]
    if column:
        rows = [f"{row},{cell}" for row, cell in zip(rows, cells, strict=True)]

    outcome = run(write(tmp_path / "bars.csv", rows, f"{HEADER},{column}".rstrip(",")))

    assert bin_of(outcome.version, "aaa/vwap")[1:] == [np.float32(value) for value in expected]
    assert outcome.manifest["vwap"] == how


def test_the_same_data_is_the_same_version_whatever_its_form(run: Import, tmp_path: Path) -> None:
    csv_file = write(tmp_path / "bars.csv", GOOD)
    first = run(csv_file)
    semicolons = tmp_path / "other.txt"
    semicolons.write_text(
        "\ufeff" + "\n".join(row.replace(",", ";") for row in [HEADER.upper(), *GOOD[::-1]])
    )
    frame = pd.read_csv(csv_file, parse_dates=["date"]).rename(columns={"instrument": "Ticker"})
    frame.assign(date=frame["date"].dt.tz_localize("America/New_York")).to_parquet(
        tmp_path / "zoned"
    )
    frame.assign(date=frame["date"].dt.strftime("%Y%m%d").astype(int)).to_parquet(
        tmp_path / "integers"
    )

    others = [run(semicolons), run(tmp_path / "zoned"), run(tmp_path / "integers")]

    assert [one.last.get("version") for one in others] == [first.last["version"]] * 3
    assert versions(tmp_path) == [first.last["version"]]


def test_one_changed_price_is_another_version_and_the_old_one_stays(
    run: Import, tmp_path: Path
) -> None:
    first = run(write(tmp_path / "bars.csv", GOOD))
    changed = [GOOD[0].replace("10.5", "10.6"), *GOOD[1:]]
    second = run(write(tmp_path / "bars.csv", changed))

    assert versions(tmp_path) == sorted([first.last["version"], second.last["version"]])


def test_named_markets_and_their_times_stand_in_the_store(run: Import, tmp_path: Path) -> None:
    bars = write(tmp_path / "bars.csv", GOOD)
    members = tmp_path / "members"
    members.write_text("# mine\nBRK.B\t2010-01-01\t2020-01-03\n\nAAA\n")

    outcome = run("--market", f"mine={members}", bars)

    assert (outcome.version / "instruments/mine.txt").read_text() == (
        "AAA\t2020-01-02\t2020-01-03\nBRK.B\t2020-01-02\t2020-01-03\n"
    )
    assert outcome.manifest["markets"]["mine"] == ["AAA", "BRK.B"]
    members.write_text("AAA\nGONE\n")
    refused = run("--market", f"mine={members}", bars)
    assert refused.last["error"] == "members, line 2: the files have no bar of 'GONE'."
    assert run("--market", f"all={members}", bars).code == 1


def test_the_benchmark_is_readable_but_not_in_the_market(run: Import, tmp_path: Path) -> None:
    bars = write(tmp_path / "bars.csv", GOOD)
    index = [
        "2020-01-02,^GSPC,1,1,1,1,0",
        "2020-01-03,^GSPC,1,1,1,1,0",
        "2020-01-04,^GSPC,1,1,1,1,0",
    ]

    outcome = run("--benchmark", write(tmp_path / "index.csv", index), bars)

    manifest = outcome.manifest
    assert manifest["benchmarks"] == ["^GSPC"]
    assert manifest["instrument_rows"] == {"AAA": 2, "BRK.B": 2}
    assert manifest["rows"] == 6
    assert list(manifest["instruments"]) == manifest["markets"]["all"] == ["AAA", "BRK.B"]
    assert bin_of(outcome.version, "^gspc/close") == [0, 1, 1]
    assert outcome.last["warnings"] == [
        "Benchmark ^GSPC lacks 1 of 3 trading days.",
        "Left out 1 bars of ^GSPC on days without any stock's bar.",
    ]


@pytest.mark.parametrize(
    ("names", "region"),
    [(("SH600000", "SZ000001"), "cn"), (("2330.TW", "2317.TW"), "tw"), (("SH600000", "A"), "us")],
)
def test_the_region_is_told_by_the_symbols(
    run: Import, tmp_path: Path, names: tuple[str, ...], region: str
) -> None:
    rows = [f"2020-01-02,{name},1,1,1,1,1" for name in names]

    outcome = run(write(tmp_path / "bars.csv", rows))

    assert outcome.manifest["region"] == region


def test_the_demo_market_is_always_the_same_and_says_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for place in ("one", "two"):
        market.main(["demo", "--name", "demo", "--out", str(tmp_path / place)])
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        found.append(json.loads(Path(last["manifest_path"]).read_text()))

    assert found[0]["fingerprint"] == found[1]["fingerprint"]
    assert found[0]["synthetic"] is True
    assert "Synthetic" in found[0]["description"]
    assert found[0]["benchmarks"] == ["DEMOIDX"]
    assert len(found[0]["instruments"]) == 60


def test_the_demo_market_would_pass_the_checks_of_an_import() -> None:
    files, _ = market.demo_bars()

    assert market_checks.check(files) == []


# ── Trouble ─────────────────────────────────────────────────────────────────────────────
def start_demo(out: Path, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "training.engine.market", "demo", "--name=test", f"--out={out}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_killed_import_leaves_nothing_and_the_old_version(run: Import, tmp_path: Path) -> None:
    old = run(write(tmp_path / "bars.csv", GOOD))
    before = {path: path.read_bytes() for path in old.version.rglob("*") if path.is_file()}

    with start_demo(tmp_path / "out") as process:
        assert process.stdout is not None
        # The first instrument is written: the store is half there.
        next(line for line in process.stdout if '"Writing"' in line)
        process.send_signal(signal.SIGSTOP)
        partial = [name for name in versions(tmp_path) if name.startswith(".partial-")]
        process.kill()

    assert len(partial) == 1
    assert partial[0] in versions(tmp_path)
    again = run(tmp_path / "bars.csv")
    assert again.last["version"] == old.last["version"]
    assert versions(tmp_path) == [old.last["version"]]
    assert {path: path.read_bytes() for path in before} == before


def test_a_second_import_of_the_same_market_is_refused(run: Import, tmp_path: Path) -> None:
    with start_demo(tmp_path / "out") as process:
        assert process.stdout is not None
        next(iter(process.stdout))  # it has begun, so it holds the lock
        process.send_signal(signal.SIGSTOP)
        outcome = run(write(tmp_path / "bars.csv", GOOD))
        process.kill()

    assert outcome.last["error"].startswith("Another import of 'test' is running")


def test_a_failing_disk_leaves_nothing(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))

    with start_demo(tmp_path / "out", preexec_fn=limit) as process:
        said, _ = process.communicate(timeout=60)

    last = json.loads(said.splitlines()[-1])
    assert process.returncode == 1
    assert last["code"] == "market_not_written"
    assert "larger than the limit" in last["error"]
    assert versions(tmp_path) == []


def test_a_full_disk_is_told_as_such(
    run: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "day.bin")

    monkeypatch.setattr(Path, "write_bytes", full)

    outcome = run(write(tmp_path / "bars.csv", GOOD))

    assert "the disk is full" in outcome.last["error"]
    assert versions(tmp_path) == []


def test_nobody_listening_ends_the_import_quietly(tmp_path: Path) -> None:
    with start_demo(tmp_path / "out", stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        trouble = process.stderr.read()

    assert process.returncode == 1
    assert trouble == ""
    assert versions(tmp_path) == []


# ── Real prices, read back by Qlib ──────────────────────────────────────────────────────
@pytest.mark.qlib
@pytest.mark.skipif(MARKET_DATA is None, reason="MARKET_DATA names no folder of real prices")
def test_qlib_reads_back_the_real_market_to_the_last_bit(run: Import, tmp_path: Path) -> None:
    source = Path(str(MARKET_DATA))
    began = time.monotonic()
    outcome = run("--benchmark", source / "benchmark.parquet", source / "sp500_6yr.parquet")
    took_s = time.monotonic() - began

    names = ["^GSPC", "BRK.B", "ALL", "A", "AAPL", "LIN"]
    script = ROOT / "tests/engine/read_market.py"
    subprocess.run(
        [sys.executable, script, outcome.version, tmp_path, ",".join(names)],
        check=True,
        timeout=200,
        cwd=tmp_path,
    )

    assert took_s < 60
    assert outcome.manifest["rows"] == 728_515 + 3_010
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["days"] == 1_505
    assert facts["future_days"] >= 1_515
    assert len(facts["all"]) == 496
    assert not {"^GSPC", "SPY"} & set(facts["all"])
    assert {"ALL", "BRK.B"} <= set(facts["all"])
    assert facts["benchmark_days"] == 1_505
    read = pd.read_parquet(tmp_path / "features.parquet")
    for name in names:
        assert_same_bars(read[read["instrument"] == name], real_bars(source, name))


def real_bars(source: Path, name: str) -> Any:
    file = "benchmark" if name == "^GSPC" else "sp500_6yr"
    frame = pd.read_parquet(source / f"{file}.parquet", filters=[("instrument", "==", name)])
    return frame.assign(date=pd.to_datetime(frame["date"])).set_index("date").sort_index()


def assert_same_bars(read: Any, bars: Any) -> None:
    """Every bar bit for bit, and NaN on days without one."""
    read = read.set_index("datetime")
    on = read.loc[bars.index]
    for field in ("open", "high", "low", "close"):
        expected = (bars[field] * bars["factor"]).astype(np.float32)
        assert on[f"${field}"].astype(np.float32).tolist() == expected.tolist()
    shares = (bars["volume"] / bars["factor"]).astype(np.float32)
    assert on["$volume"].astype(np.float32).tolist() == shares.tolist()
    assert on["$factor"].tolist() == bars["factor"].astype(np.float32).tolist()
    assert read.drop(index=bars.index)["$close"].isna().all()
