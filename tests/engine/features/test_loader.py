"""The loader that handlers get, beside Qlib's own: the same frame, whoever computed its fields."""

import pickle

import numpy as np
import pytest

pytestmark = [pytest.mark.qlib, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("qlib")

import qlib.data.dataset.loader as qlib_loaders  # noqa: E402
from qlib.contrib.data.handler import Alpha158  # noqa: E402
from qlib.data.dataset.handler import DataHandlerLP  # noqa: E402
from qlib.data.ops import Mean, Operators  # noqa: E402

from tests.engine.features.against_qlib import differences, open_with_qlib  # noqa: E402
from tests.engine.features.dirty_store import write_dirty_store  # noqa: E402
from training.engine.features.columns import ScratchColumns  # noqa: E402
from training.engine.features.frames import table_of  # noqa: E402
from training.engine.features.lean_handler import lean_handlers  # noqa: E402
from training.engine.features.loader import (  # noqa: E402
    Evaluator,
    RefusedExpression,
    fast_loading,
    loader_class,
)
from training.engine.features.processors import fast_processors  # noqa: E402
from training.engine.features.shared import SharedColumns  # noqa: E402

START, END = "2015-09-01", "2016-05-02"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = write_dirty_store(tmp_path_factory.mktemp("dirty"))
    open_with_qlib(folder)
    return folder


@pytest.fixture
def evaluator(tmp_path):
    return Evaluator(ScratchColumns(tmp_path), threads=2, on_block=lambda done, total: None)


@pytest.fixture
def load_both(store, evaluator):
    def load_both(config, *, instruments="all", start=START, end=END, **options):
        ours = loader_class(evaluator)(config, **options).load(instruments, start, end)
        theirs = qlib_loaders.QlibDataLoader(config, **options).load(instruments, start, end)
        return ours, theirs

    return load_both


def assert_same(ours, theirs):
    assert ours.columns.equals(theirs.columns)
    assert ours.index.names == theirs.index.names
    positions = range(ours.shape[1])
    assert differences(ours.set_axis(positions, axis=1), theirs.set_axis(positions, axis=1)) == {}


def test_groups_names_and_doubles_come_out_as_from_qlib(load_both, evaluator):
    config = {
        "feature": (["$close", "Mean($close, 5)", "$close"], ["A", "B", "C"]),
        "label": (["Ref($close, -2)/Ref($close,-1) - 1"], ["LABEL0"]),
    }

    assert_same(*load_both(config))
    assert evaluator.left_to_qlib == {}
    assert evaluator.computed == 3


def test_without_groups_names_are_the_expressions(load_both):
    assert_same(*load_both(["$close", "Mean( $close, 5)/$close"]))


@pytest.mark.parametrize("instruments", [["SYM01", "SYM06", "NOBODY"], None])
def test_lists_of_instruments_and_none(load_both, instruments):
    assert_same(*load_both(["$close", "Std($open, 3)"], instruments=instruments))


def test_the_whole_calendar_where_no_range_is_given(load_both):
    assert_same(*load_both(["Mean($close, 300)"], start=None, end=None))


def test_a_filter_of_instruments_is_heeded(load_both):
    times = {"filter_start_time": None, "filter_end_time": None}
    pipe = [{"filter_type": "NameDFilter", "name_rule_re": "SYM0[0-4]", **times}]

    ours, theirs = load_both(["$close"], filter_pipe=pipe)

    assert_same(ours, theirs)
    assert ours.index.get_level_values("instrument").nunique() == 5


def test_fields_that_are_not_covered_come_from_qlib_and_stand_in_their_places(load_both, evaluator):
    config = (["EMA($close, 0)", "$close", "Cov($late, $open, 5)", "$open"], ["A", "A", "B", "C"])

    assert_same(*load_both(config))
    assert set(evaluator.left_to_qlib) == {"EMA($close, 0)", "Cov($late, $open, 5)"}
    assert evaluator.computed == 2


def test_a_load_of_nothing_but_uncovered_fields_comes_from_qlib(load_both, evaluator):
    assert_same(*load_both({"feature": (["EMA($close, 0)"], ["A"])}))
    assert evaluator.computed == 0


def test_rows_of_fields_with_other_days_are_joined(load_both):
    config = {"feature": (["$late", "EMA($late, 0)"], ["A", "B"]), "label": (["$rare"], ["L"])}

    ours, theirs = load_both(config)

    assert_same(ours, theirs.sort_index())


def test_what_makes_qlib_fail_fails_by_its_words(load_both):
    with pytest.raises(ValueError, match="identically-labeled"):
        load_both(["$absent > $close"])


def test_rolling_that_qlib_confuses_is_left_to_it(load_both, evaluator):
    config = ["Rolling($close, 5, 'mean')", "Rolling($close, 5, 'sum')", "Rolling($open, 5, 'max')"]

    assert_same(*load_both(config))
    assert len(evaluator.left_to_qlib) == 2


def test_an_operator_that_shadows_a_built_in_is_the_administrators(load_both, evaluator):
    class Mine(Mean):
        def _load_internal(self, *args):
            return super()._load_internal(*args) * 0 + 7

    Mine.__name__ = "Mean"
    Operators.register([Mine])
    try:
        ours, theirs = load_both(["Mean($close, 3)", "Sum($close, 3)"])
    finally:
        Operators.register([Mean])

    assert_same(ours, theirs)
    assert set(np.unique(ours["Mean($close, 3)"].dropna())) == {7}
    assert list(evaluator.left_to_qlib) == ["Mean($close, 3)"]


def test_what_the_grammar_refuses_is_never_handed_to_qlib(store, evaluator, tmp_path):
    trap = tmp_path / "touched"
    hostile = f"__import__('pathlib').Path('{trap}').touch() or $close"

    with pytest.raises(RefusedExpression, match="not accepted"):
        loader_class(evaluator)(["$close", hostile]).load("all", START, END)

    assert not trap.exists()


def test_minute_data_is_left_to_qlib(store, evaluator):
    loader = loader_class(evaluator)(["$close"], freq="1min")

    with pytest.raises(ValueError, match="1min"):
        loader.load("all", START, END)

    assert "1min" in evaluator.left_to_qlib["every field"]


def test_a_handler_gets_the_loader_and_pickles_as_qlibs_own(store, evaluator):
    with fast_loading(evaluator):
        handler = Alpha158("all", START, END, learn_processors=[])
    plain = Alpha158("all", START, END, learn_processors=[])

    kept = pickle.loads(pickle.dumps(handler.data_loader))  # noqa: S301

    assert_same(handler._data, plain._data)
    assert evaluator.computed == 159
    assert type(kept) is qlib_loaders.QlibDataLoader
    assert kept.fields == plain.data_loader.fields


def test_blocks_are_counted_and_a_cancel_ends_the_load(store, tmp_path, monkeypatch):
    class Stop(BaseException):
        pass

    told = []

    def on_block(done, total):
        told.append((done, total))
        if len(told) == 2:
            raise Stop

    monkeypatch.setattr("training.engine.features.evaluate.BLOCK_ROWS", 1000)
    evaluator = Evaluator(ScratchColumns(tmp_path), threads=1, on_block=on_block)

    with pytest.raises(Stop):
        loader_class(evaluator)(["$close"]).load("all", START, END)

    assert told == [(told[0][0], 24), (told[1][0], 24)]
    assert 0 < told[0][0] < told[1][0] < 24


def test_scratch_columns_leave_no_file_behind(load_both, evaluator):
    load_both(["$close"])

    assert not list(evaluator.source.folder.glob("features-*"))


class Leader:
    """Answers as a leader would that shares nothing, or to whom every column is new."""

    def __init__(self, *, shares):
        self.shares = shares
        self.told = []

    def ask(self, question, *, timeout_s):
        if not self.shares:
            return {"off": "nothing is shared"}
        keys = [f"{number:064x}" for number in range(len(question["expressions"]))]
        columns = [{"state": "make", "key": key} for key in keys]
        return {"columns": columns, "store": "store", "waiting_for": []}

    def tell(self, message):
        self.told.append(message["op"])

    def say(self, message):
        raise AssertionError(message)


@pytest.mark.parametrize("shares", [False, True])
def test_a_handler_on_columns_of_the_shared_store_is_the_same(store, tmp_path, monkeypatch, shares):
    monkeypatch.chdir(tmp_path)
    leader = Leader(shares=shares)
    source = SharedColumns(leader, threads=2)
    evaluator = Evaluator(source, threads=2, on_block=lambda done, total: None)

    def build():
        config = {"feature": (["Std($close, 5)", "$open"], ["A", "B"]), "label": (["$low"], ["L"])}
        loader = {"class": "QlibDataLoader", "kwargs": {"config": config}}
        learn = [{"class": "DropnaLabel"}, {"class": "CSZScoreNorm"}]
        return DataHandlerLP("all", START, END, data_loader=loader, learn_processors=learn)

    with fast_loading(evaluator), fast_processors(2), lean_handlers(2):
        handler = build()
    plain = build()

    assert leader.told == (["made"] if shares else [])
    for name in ("_data", "_infer", "_learn"):
        assert_same(getattr(handler, name), getattr(plain, name))
    assert table_of(handler._data) is not None
