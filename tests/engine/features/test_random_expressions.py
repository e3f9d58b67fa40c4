"""Random expressions on a store full of faults: equal to Qlib in every bit, or left to it.

FEATURES_EXAMPLES=2000 in the environment takes so many, other ones each time; a plain run takes
few, and always the same.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.qlib, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("qlib")

from tests.engine.features.against_qlib import (  # noqa: E402
    by_qlib,
    by_us,
    differences,
    open_with_qlib,
)
from tests.engine.features.dirty_store import write_dirty_store  # noqa: E402
from training.expressions import BadExpression  # noqa: E402

EXAMPLES = os.environ.get("FEATURES_EXAMPLES")
RANGES = [("2015-01-01", "2015-08-10"), ("2015-04-01", "2015-07-02")]
SIZES = [0, 1, 2, 3, 5, 10, 30, 60, 300]

plain = st.sampled_from(["$close", "$open", "$high", "$low", "$volume", "$close", "$volume"])
faulty = st.sampled_from(["$rare", "$late", "$absent"])
fields = st.one_of(plain, plain, plain, plain, plain, faulty)
numbers = st.sampled_from(["0", "1", "2", "-1", "0.5", "1e-12", "100", "3.7", "-0.0"])
sizes = st.sampled_from(SIZES)
steps = st.sampled_from([-5, -1, 0, 1, 2, 7, 60])
others = st.sampled_from(["SYM01", "SYM04", "CON", "NOBODY"])
signs = st.sampled_from(["+", "-", "*", "/"])
compared = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
windows = st.sampled_from(
    [
        *("Mean", "Sum", "Std", "Var", "Skew", "Kurt", "Max", "Min", "IdxMax", "IdxMin", "Med"),
        *("Mad", "WMA", "Rank", "Count", "Slope", "Rsquare", "Resi"),
    ]
)


def larger(inner):
    """Expressions one level above `inner`."""
    sides = st.one_of(inner, numbers)
    truth = st.builds("({}{}{})".format, inner, compared, sides)
    truths = st.one_of(
        truth,
        st.builds("({}{}{})".format, truth, st.sampled_from("&|"), truth),
        st.builds("Not({})".format, truth),
    )
    return st.one_of(
        st.builds("({}{}{})".format, inner, signs, sides),
        st.builds("({}{}{})".format, sides, signs, inner),
        st.builds("({}**{})".format, inner, st.sampled_from(["2", "0.5", "-1", "3"])),
        st.builds("{}({})".format, st.sampled_from(["Abs", "Log", "Sign"]), inner),
        st.builds("{}({},{})".format, st.sampled_from(["Greater", "Less"]), inner, sides),
        st.builds("If({},{},{})".format, truths, sides, sides),
        st.builds("{}({},{})".format, windows, st.one_of(inner, inner, truths), sizes),
        st.builds("Quantile({},{},{})".format, inner, sizes, st.sampled_from([0, 0.2, 0.73, 1])),
        st.builds("EMA({},{})".format, inner, st.sampled_from([1, 2, 12, 0.1, 0.77])),
        st.builds("{}({},{})".format, st.sampled_from(["Ref", "Delta"]), inner, steps),
        st.builds("{}({},{},{})".format, st.sampled_from(["Corr", "Cov"]), inner, inner, sizes),
        st.builds("ChangeInstrument('{}',{})".format, others, inner),
        truths,
    )


expressions = st.recursive(fields, larger, max_leaves=6)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = write_dirty_store(tmp_path_factory.mktemp("dirty"), instruments=12, days=160, seed=3)
    open_with_qlib(folder)
    return folder


@settings(
    max_examples=int(EXAMPLES or 25),
    derandomize=EXAMPLES is None,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(expression=expressions, days=st.sampled_from(RANGES))
def test_a_random_expression_is_equal_or_left_to_qlib(store, expression, days):
    try:
        ours, reasons = by_us(store, [expression], *days)
    except BadExpression:
        # Two constants, or more days than are allowed: refused at the submission.
        return
    if reasons:
        return

    theirs = by_qlib([expression], *days)

    assert differences(ours, theirs) == {}
