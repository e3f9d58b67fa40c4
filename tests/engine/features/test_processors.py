"""The twins of Qlib's processors, and handlers with fewer copies: the same frames in every bit."""

import pickle
import threading

import numpy as np
import pandas as pd
import pytest

pytestmark = [pytest.mark.qlib, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("qlib")

import qlib.data.dataset.processor as qlibs  # noqa: E402
from qlib.contrib.data.handler import Alpha158, Alpha360  # noqa: E402
from qlib.data.dataset.handler import DataHandlerLP  # noqa: E402

from tests.engine.features.against_qlib import differences, open_with_qlib  # noqa: E402
from tests.engine.features.dirty_store import write_dirty_store  # noqa: E402
from training.engine.features.columns import ScratchColumns  # noqa: E402
from training.engine.features.lean_handler import lean_handlers  # noqa: E402
from training.engine.features.loader import Evaluator, fast_loading  # noqa: E402
from training.engine.features.processors import fast_processors, twin_of  # noqa: E402

START, END = "2015-03-02", "2016-06-30"
FIT = {"fit_start_time": "2020-01-20", "fit_end_time": "2020-04-10"}
CASES = [
    ("ProcessInf", {}),
    ("ZScoreNorm", FIT),
    ("ZScoreNorm", FIT | {"fields_group": "feature"}),
    ("RobustZScoreNorm", FIT),
    ("RobustZScoreNorm", FIT | {"fields_group": "feature", "clip_outlier": False}),
    ("Fillna", {}),
    ("Fillna", {"fields_group": "feature", "fill_value": 2}),
    ("Fillna", {"fill_value": 0.1}),
    ("DropnaLabel", {}),
    ("CSZScoreNorm", {}),
    ("CSZScoreNorm", {"fields_group": "label"}),
    ("CSZScoreNorm", {"fields_group": ["feature", "label"]}),
    ("CSZScoreNorm", {"method": "robust"}),
]


def make_frame(*, dirty=True, seed=0):
    """150 names over 80 days, so that sums over a day and over the range pair up by parts."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=80), [f"S{k:03d}" for k in range(150)]],
        names=["datetime", "instrument"],
    )
    index = index[rng.random(len(index)) > 0.05]
    scales = 10.0 ** rng.integers(-3, 6, size=(12, 1))
    values = (rng.normal(size=(12, len(index))) * scales).astype("f4")
    values[3] = 1.5
    if dirty:
        values[rng.random(values.shape) < 0.03] = np.nan
        values[4, rng.random(len(index)) < 0.01] = np.inf
        values[5, rng.random(len(index)) < 0.01] = -np.inf
        values[6, :400] = np.inf
        values[7] = np.nan
    names = [("feature", f"F{k}") for k in range(11)] + [("label", "LABEL0")]
    return pd.DataFrame(values.T, index=index, columns=pd.MultiIndex.from_tuples(names), copy=False)


def assert_same(ours, theirs):
    assert ours.columns.equals(theirs.columns)
    names = ["/".join(map(str, name)) if isinstance(name, tuple) else name for name in ours.columns]
    assert differences(ours.set_axis(names, axis=1), theirs.set_axis(names, axis=1)) == {}


@pytest.mark.parametrize("dirty", [False, True])
@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_a_twin_gives_what_its_original_gives(name, kwargs, dirty):
    original = getattr(qlibs, name)
    mine, plain = twin_of(original, threads=2)(**kwargs), original(**kwargs)
    frame, other = make_frame(dirty=dirty), make_frame(dirty=dirty)

    mine.fit(frame)
    plain.fit(other)

    assert_same(mine(frame), plain(other))
    for attribute, value in vars(plain).items():
        np.testing.assert_array_equal(getattr(mine, attribute), value)


@pytest.mark.parametrize(("name", "kwargs"), CASES[1:])
def test_a_twin_leaves_other_frames_to_its_original(name, kwargs):
    original = getattr(qlibs, name)
    mine, plain = twin_of(original, threads=1)(**kwargs), original(**kwargs)
    frame, other = make_frame().astype("f8"), make_frame().astype("f8")
    mine.fit(frame)
    plain.fit(other)

    ours, theirs = mine(frame), plain(other)

    pd.testing.assert_frame_equal(ours, theirs)


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_a_twin_pickles_as_its_original(name, kwargs):
    mine = twin_of(getattr(qlibs, name), threads=1)(**kwargs)
    mine.fit(make_frame())

    kept = pickle.loads(pickle.dumps(mine))  # noqa: S301

    assert type(kept) is getattr(qlibs, name)
    assert set(vars(kept)) == {name for name in vars(mine) if not name.startswith("_")}


def test_the_twins_are_in_force_inside_the_block_alone():
    original = qlibs.ProcessInf

    with fast_processors(1):
        assert issubclass(qlibs.ProcessInf, original)
        assert qlibs.ProcessInf is not original

    assert qlibs.ProcessInf is original


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = write_dirty_store(tmp_path_factory.mktemp("dirty"), instruments=8, days=380)
    open_with_qlib(folder)
    return folder


PROCESSORS = {"infer_processors": [], "learn_processors": ["DropnaLabel"]}
NORMS = [
    {"class": "RobustZScoreNorm", "kwargs": {"fields_group": "feature", "clip_outlier": True}},
    {"class": "Fillna", "kwargs": {"fields_group": "feature"}},
]


DROP = {"class": "DropCol", "kwargs": {"col_list": ["KMID"]}}


class Doubled(qlibs.Processor):
    """An administrator's own, which writes to what it is given."""

    def __call__(self, df):
        df *= 2
        return df


@pytest.mark.parametrize(
    ("handler", "options"),
    [
        (Alpha158, {}),
        (Alpha158, {"infer_processors": NORMS}),
        (Alpha158, PROCESSORS | {"process_type": DataHandlerLP.PTYPE_I}),
        (Alpha158, {"infer_processors": [Doubled()], "learn_processors": [Doubled()]}),
        (Alpha158, {"learn_processors": [DROP, Doubled()]}),
        # Qlib's ProcessInf takes half a millisecond for each day and column.
        (Alpha360, {"end_time": "2015-03-20", "fit_end_time": "2015-03-12"}),
    ],
)
def test_a_handler_has_the_same_three_frames(store, tmp_path, handler, options):
    arguments = {"end_time": END, "fit_start_time": START, "fit_end_time": "2015-12-31", **options}
    evaluator = Evaluator(ScratchColumns(tmp_path), threads=2, on_block=lambda done, total: None)

    # A test runner's own threads are there before.
    before = threading.active_count()
    with fast_loading(evaluator), fast_processors(2), lean_handlers(2):
        ours = handler("all", START, **arguments)
    after = threading.active_count()
    theirs = handler("all", START, **arguments)

    for name in ("_data", "_infer", "_learn"):
        assert_same(getattr(ours, name), getattr(theirs, name))
    assert after == before
