"""The locks: hashed, of no index in particular, and each set without what it must not have."""

import re
from pathlib import Path

import pytest

LOCKS = Path(__file__).resolve().parents[2] / "requirements"
SETS = ("bootstrap", "installer", "base", "worker", "s3", "models", "dev")
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)


def pins(name):
    return dict(PIN.findall((LOCKS / f"{name}.txt").read_text()))


def left_out():
    lines = (LOCKS / "left_out.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def test_the_web_set_has_neither_qlib_nor_the_libraries_it_computes_with():
    heavy = {"pyqlib", "pandas", "numpy", "scipy", "lightgbm", "mlflow", "mlflow-skinny", "torch"}

    assert not heavy & set(pins("base"))


@pytest.mark.parametrize("name", SETS)
def test_no_lock_has_a_notebook_or_a_plot_in_it(name):
    assert left_out()
    assert not left_out() & set(pins(name))


@pytest.mark.parametrize("name", SETS)
def test_every_package_of_a_lock_has_a_hash(name):
    entries = [
        entry
        for entry in re.split(r"\n(?=\S)", (LOCKS / f"{name}.txt").read_text())
        if not entry.startswith("#")
    ]

    assert entries
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("name", SETS)
def test_no_lock_names_an_index_or_a_place_of_one_machine(name):
    text = (LOCKS / f"{name}.txt").read_text()

    assert not re.search(r"://|--index|--find-links|/home/|/tmp/", text)


def test_sets_installed_together_agree_on_every_version():
    versions = {}
    for name in ("base", "worker", "s3", "models", "dev"):
        for package, version in pins(name).items():
            versions.setdefault(package, set()).add(version)
    # cbor2 differs by interpreter, inside one lock.
    versions.pop("cbor2")

    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def test_torch_is_in_no_lock():
    assert not any("torch" in pins(name) for name in SETS)
