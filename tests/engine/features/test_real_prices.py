"""Qlib's own sets of features on real prices, in two ranges: all fields equal in every bit."""

import os
from pathlib import Path

import pytest

MARKET_DATA = os.environ.get("MARKET_DATA")
pytestmark = [
    pytest.mark.qlib,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(MARKET_DATA is None, reason="MARKET_DATA names no folder of real prices"),
]
pytest.importorskip("qlib")

from qlib.contrib.data.loader import Alpha158DL, Alpha360DL  # noqa: E402

from tests.engine.features.against_qlib import (  # noqa: E402
    by_qlib,
    by_us,
    differences,
    open_with_qlib,
)
from tests.engine.small_store import write_store  # noqa: E402

LABEL = "Ref($close, -2)/Ref($close, -1) - 1"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("market") / "store"
    write_store(Path(str(MARKET_DATA)), folder)
    open_with_qlib(folder)
    return folder


@pytest.mark.parametrize("days", [("2013-01-02", "2018-12-21"), ("2014-06-02", "2018-06-29")])
@pytest.mark.parametrize(("fields", "count"), [(Alpha158DL, 159), (Alpha360DL, 361)])
def test_every_field_of_qlibs_sets_is_equal(store, fields, count, days):
    expressions = [*fields.get_feature_config()[0], LABEL]

    ours, reasons = by_us(store, expressions, *days, threads=2)

    assert reasons == {}
    assert ours.shape[1] == count
    assert differences(ours, by_qlib(expressions, *days)) == {}
