"""Every operator against Qlib, to the last bit, on a store full of faults."""

from itertools import pairwise

import numpy as np
import pytest

pytestmark = [pytest.mark.qlib, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("qlib")

from tests.engine.features.against_qlib import by_qlib, by_us, differences, open_with_qlib  # noqa: E402
from tests.engine.features.dirty_store import write_dirty_store  # noqa: E402
from training.engine.features import steps  # noqa: E402

RANGES = [("2015-01-01", "2016-08-10"), ("2015-09-01", "2016-05-02")]
SIZES = (0, 1, 2, 5, 30, 300)

POINTWISE = [
    *("$close", "$absent", "$rare", "$rare/$close", "$close-$rare", "Greater($rare, $close)"),
    *("$close+$open", "2*$close", "1/$close", "2-$close", "$close/0", "0/$volume", "$close*-0.0"),
    *("$close**2", "$close**0.5", "$close**-1", "Power($close, 3)", "2**Log($close)"),
    *("Power($close/$open, $high/$low)", "Greater($close, $open)", "Less($close, 50)"),
    *("Abs($close-$open)", "Log($volume)", "Sign($close-$open)", "Log($volume+1)"),
    *("$close>$open", "$close>=50", "$close<$open", "$close<=$open", "$close==$open"),
    *("$close!=$open", "($close>$open)&($high>$low)", "($close>$open)|($high==$low)"),
    *("Not($close>$open)", "If($close>$open, $high, $low)", "If($close>$open, 1, 0)"),
    *("If($close>$open, $high, 0)", "If($close, 1.5, $low)", "If($close>$open,1,0)+1"),
    *("($close>$open)+1", "($close>$open)*$close", "If($close>$open,1,0)/If($low>50,2,3)"),
    *("Sign($close>$open)", "Abs(If($close>$open,1,-1))", "Add($close, 1)", "Sub(1, $close)"),
    *("$late-$close", "Mean($late, 5)/$close", "Sum($rare, 3)+$close", "Std($absent, 5)"),
]
WINDOWED = [
    *("Mean", "Sum", "Std", "Var", "Skew", "Kurt", "Max", "Min", "IdxMax", "IdxMin", "Med", "Mad"),
    *("WMA", "Rank", "Count", "Slope", "Rsquare", "Resi", "Ref", "Delta"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = write_dirty_store(tmp_path_factory.mktemp("dirty"))
    open_with_qlib(folder)
    return folder


def window_expressions(name):
    shortest = {"Skew": 3, "Kurt": 4, "Delta": 1}.get(name, 0)
    sizes = [size for size in SIZES if size >= shortest or (size == 0 and name != "Delta")]
    sizes += [-2] if name in ("Ref", "Delta") else []
    inputs = (
        ("$close", "$volume/$close", "$close>$open")
        if name not in ("Ref", "Delta")
        else ("$close", "$volume/$close", "If($close>$open,1,0)")
    )
    return [f"{name}({one}, {size})" for size in sizes for one in inputs]


def assert_equal(store, expressions, *, refused=()):
    for start, end in RANGES:
        ours, reasons = by_us(store, expressions, start, end)
        theirs = by_qlib(list(ours.columns), start, end)
        assert differences(ours, theirs) == {}
        assert set(reasons) == set(refused)


def test_pointwise_operators(store):
    assert_equal(store, POINTWISE)


@pytest.mark.parametrize("name", WINDOWED)
def test_an_operator_over_windows(store, name):
    assert_equal(store, window_expressions(name))


def test_quantiles(store):
    levels = (0, 0.2, 0.37, 0.5, 0.8, 1)
    assert_equal(store, [f"Quantile($close, {n}, {q})" for n in SIZES for q in levels])


def test_decays(store):
    assert_equal(store, [f"EMA($volume/$close, {n})" for n in (1, 2, 12, 0.1, 0.37, 0.99)])


@pytest.mark.parametrize("size", [1, 2, 5, 30, 300])
def test_pairs_over_windows(store, size):
    pairs = [
        "$close, $volume",
        "$close/$open, $volume/$close",
        "$high, $high",
        "$low, Log($volume)",
    ]
    assert_equal(store, [f"{name}({p}, {size})" for name in ("Corr", "Cov") for p in pairs])


def test_other_instruments(store):
    assert_equal(
        store,
        [
            "ChangeInstrument('SYM01', Mean($close, 5))",
            "Mask($close, 'sym02')",
            "$close/ChangeInstrument('SYM01', $close)",
            "Mask(Mask($close, 'SYM03')/$close, 'SYM04')",
            "ChangeInstrument('CON', $close)",
            "ChangeInstrument('NOBODY', $close)",
        ],
    )


def test_what_qlib_refuses_for_other_days_is_left_to_it(store):
    for expression in ("$rare>$close", "If($close>$open, $late, $close)", "Cov($late, $close, 5)"):
        ours, reasons = by_us(store, [expression], *RANGES[0])

        assert ours.empty
        assert "different days" in reasons[expression]


def _in_float32(values, bounds, size, out):
    """Sums in float32: what a fast library might do."""
    for first, end in pairwise(bounds):
        sums = np.cumsum(values[first:end].astype(np.float32), dtype=np.float32)
        before = np.concatenate([np.zeros(size, np.float32), sums])[: len(sums)]
        out[first:end] = (sums - before) / np.minimum(np.arange(1, len(sums) + 1), size)


def test_the_comparison_notices_sums_in_float32(store, monkeypatch):
    monkeypatch.setitem(steps._WINDOWS, "Mean", _in_float32)
    expressions = ["Mean($volume/$close, 20)", "Mean($close, 5)"]

    ours, _ = by_us(store, expressions, *RANGES[0])

    assert set(differences(ours, by_qlib(expressions, *RANGES[0]))) == set(expressions)
