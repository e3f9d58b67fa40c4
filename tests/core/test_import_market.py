"""The commands around an import: the pointer is flipped last, and only to what is there."""

import io
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from training import datasets
from training.errors import NotFound
from training.models import Dataset

HEADER = "date,instrument,open,high,low,close,volume\n"
ROW = "2020-01-02,AAA,10,11,9,10.5,1000\n"
BENCHMARK = "2020-01-02,^GSPC,10,11,9,10.5,0\n"


def manifest(version: str = "0123456789abcdef", **changes: Any) -> dict[str, Any]:
    return {
        "name": "prices",
        "region": "us",
        "version": version,
        "fingerprint": version * 4,
        "rows": 1,
        "first_day": "2020-01-02",
        "last_day": "2020-01-02",
        "instruments": {"AAA": ["2020-01-02", "2020-01-02"]},
        "markets": {"all": ["AAA"]},
        "benchmarks": [],
        "synthetic": False,
        **changes,
    }


def finished(version: str = "0123456789abcdef") -> dict[str, Any]:
    """A manifest, written where the engine writes it."""
    place = datasets.directory("prices", version)
    place.mkdir(parents=True)
    (place / "manifest.json").write_text(json.dumps(manifest(version)))
    return manifest(version)


# ── The pointer ─────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_registering_makes_a_version_the_current_one(settings: Any) -> None:
    datasets.register(finished(), version="0123456789abcdef")

    dataset = datasets.register(finished("f" * 16), version="f" * 16)

    assert Dataset.objects.get() == dataset
    assert dataset.version == "f" * 16
    assert datasets.directory("prices", dataset.version).is_dir()
    assert (dataset.region, dataset.synthetic, dataset.rows) == ("us", False, 1)
    assert (dataset.fingerprint, dataset.instrument_count) == ("f" * 64, 1)
    assert dataset.first_day == dataset.last_day == date(2020, 1, 2)


@pytest.mark.django_db
def test_a_version_that_is_not_there_never_becomes_current() -> None:
    datasets.register(finished(), version="0123456789abcdef")

    with pytest.raises(NotFound):
        datasets.register(manifest("f" * 16), version="f" * 16)

    assert Dataset.objects.get().version == "0123456789abcdef"


@pytest.mark.django_db
def test_a_manifest_of_another_version_is_refused() -> None:
    finished("f" * 16)

    with pytest.raises(ValueError, match="is of version"):
        datasets.register(manifest(), version="f" * 16)

    assert not Dataset.objects.exists()


@pytest.mark.parametrize(
    ("name", "version"), [("../x", "f" * 16), ("x", "../x"), (".", "f" * 16), ("x", "")]
)
def test_no_path_is_made_of_what_is_no_name(name: str, version: str) -> None:
    with pytest.raises(ValueError, match="no version of a market"):
        datasets.directory(name, version)


# ── The commands, with the engine as a process ──────────────────────────────────────────
@pytest.fixture
def bars(tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow", reason="the engine's packages are not installed here")
    path = tmp_path / "bars.csv"
    path.write_text(HEADER + ROW)
    return path


def said_by(*command: Any, **options: Any) -> str:
    out = io.StringIO()
    call_command(*command, stdout=out, **options)
    return out.getvalue()


@pytest.mark.django_db
def test_an_import_ends_with_a_current_dataset(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index.csv").write_text(HEADER + BENCHMARK)
    (tmp_path / "mine.txt").write_text("AAA\n")
    monkeypatch.chdir(tmp_path)  # the paths are the caller's, not the engine's

    said = said_by(
        "import_market", "prices", "bars.csv", "--benchmark=index.csv", "--market=mine=mine.txt"
    )

    dataset = Dataset.objects.get()
    kept = datasets.manifest("prices", dataset.version)
    assert dataset.manifest == kept
    assert (dataset.name, dataset.rows, dataset.instrument_count) == ("prices", 2, 1)
    assert kept["markets"] == {"all": ["AAA"], "mine": ["AAA"]}
    assert kept["benchmarks"] == ["^GSPC"]
    assert "The market prices is ready: 1 instruments, 2 bars" in said


@pytest.mark.slow
@pytest.mark.django_db
def test_bad_rows_are_told_and_the_old_version_stays_current(bars: Path) -> None:
    said_by("import_market", "prices", str(bars))
    before = Dataset.objects.get().version
    bars.write_text(HEADER + ROW + "2020-01-03,AAA,10,11,9,ten,1000\n")
    out = io.StringIO()

    with pytest.raises(CommandError, match="1 fault in the files. Nothing was imported"):
        call_command("import_market", "prices", str(bars), stdout=out)

    assert "bars.csv, row 3, close 'ten': is missing or not a finite number" in out.getvalue()
    assert Dataset.objects.get().version == before
    assert [path.name for path in datasets.directory("prices", before).parent.glob("[!.]*")] == [
        before
    ]
    assert "1 bad rows were left out" in said_by(
        "import_market", "prices", str(bars), drop_bad=True
    )


@pytest.mark.django_db
def test_a_path_that_looks_like_an_option_is_a_path(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars.rename(tmp_path / "--drop-bad.csv")
    monkeypatch.chdir(tmp_path)

    said_by("import_market", "prices", "./--drop-bad.csv")

    assert Dataset.objects.get().rows == 1


@pytest.mark.django_db
def test_the_engine_sees_no_secret(bars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = bars.parent / "environment"
    monkeypatch.setenv("PLATFORM_SECRET_KEY", "not for the engine")
    python = bars.parent / "python"
    python.write_text(f"#!/bin/sh\nenv > {seen}\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))

    with pytest.raises(CommandError, match="broke off, nothing was imported: it ended with 3"):
        said_by("import_market", "prices", str(bars))

    assert "PATH=" in seen.read_text()
    assert "not for the engine" not in seen.read_text()
    assert os.environ["PLATFORM_SECRET_KEY"] == "not for the engine"
    assert not Dataset.objects.exists()


@pytest.mark.django_db
def test_a_killed_import_leaves_the_old_version_current(
    bars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said_by("import_market", "prices", str(bars))
    before = Dataset.objects.get().version
    python = bars.parent / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))

    with pytest.raises(CommandError, match="it ended with -9"):
        said_by("import_market", "prices", str(bars))

    assert Dataset.objects.get().version == before


@pytest.mark.slow
@pytest.mark.django_db
def test_the_demo_market_is_built_once_and_named_as_synthetic(bars: Path) -> None:
    said = said_by("build_demo_market")
    first = Dataset.objects.get()
    said_by("build_demo_market")

    assert first.name == "demo"
    assert first.synthetic
    assert "The synthetic market demo is ready: 60 instruments" in said
    assert Dataset.objects.get().version == first.version
