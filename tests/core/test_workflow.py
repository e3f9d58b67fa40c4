"""The pre-flight check: documents read within limits, faults told all at once, meaning checked."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.workflow_cases import (
    CN,
    DEFAULTS,
    MISSING,
    changed,
    checked,
    faults,
    hints,
    market,
    warnings,
    workflow,
)
from training.errors import InvalidConfig, TooLarge
from training.workflow import Defaults, check, estimate, parse
from training.workflow.yaml12 import BadYaml, compose

# Of the fuzzing of a whole workflow; few in the plain run.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "600"))
YAML, JSON = "application/yaml", "application/json"
MODEL = "task.model.kwargs"
HANDLER = "task.dataset.kwargs.handler.kwargs"
SEGMENTS = "task.dataset.kwargs.segments"
PORTFOLIO = "task.record.2.kwargs.config"
BACKTEST = f"{PORTFOLIO}.backtest"
EXCHANGE = f"{BACKTEST}.exchange_kwargs"


def refused(body: bytes | str, content_type: str = YAML):
    data = body.encode() if isinstance(body, str) else body
    with pytest.raises(InvalidConfig) as caught:
        parse(data, content_type=content_type)
    return caught.value.faults


# ── reading ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("yes", "yes"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", 1000),
        ("2008-01-01", "2008-01-01"),
        ("2020-09-15 16:00:00", "2020-09-15 16:00:00"),
        ("1:30", "1:30"),
        ("~", None),
        ("!", ""),
        ("'1'", "1"),
        ("true", True),
        ("1min", "1min"),
    ],
)
def test_a_plain_scalar_has_its_meaning_of_yaml_1_2(text, value):
    assert parse(f"a: {text}".encode(), content_type=YAML).data == {"a": value}


def test_merge_keys_work_as_qlib_reads_them():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 5, x: 9}]}\n"

    data = parse(text.encode(), content_type=YAML).data

    assert data["b"] == {"x": 1, "y": 3}
    assert data["c"] == {"x": 1, "y": 2, "z": 5}


@pytest.mark.parametrize(
    ("text", "told", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "stands twice", 3),
        ("a: 1\nb: {{ cycler }}\n", "Jinja", 2),
        ("a: 1 # {% raw %}\n", "Jinja", 1),
        ("a:\n  b: .nan\n", "finite", 2),
        ("a:\n  - 1\n  - .inf\n", "finite", 3),
        ("a: 1e999\n", "finite", 1),
        ('a: "\\0"\n', "NUL", 1),
        ("a: !!python/object/apply:os.system [x]\n", "tags", 1),
        ("a: !include x\n", "tags", 1),
        ("%YAML 1.1\n---\na: yes\n", "directives", 1),
        ("a: 1\n---\nb: 2\n", "more than one document", 2),
        ("a: *b\n", "no anchor", 1),
        ("a: &a [*a]\n", "contains itself", 1),
        ("a: [1\n", "not readable", 2),
        ("? [1]\n: 2\n", "a key is", 1),
        ("- 1\n", "a workflow is a mapping", None),
        ("", "a workflow is a mapping", None),
        ("a: " + "9" * 30, "63 bits", 1),
        ("a: " + "9" * 5000, "no number", 1),
        ("a: 2008-02-31\n", "no number or date", 1),
    ],
)
def test_a_document_that_can_not_be_meant_is_refused_with_its_line(text, told, line):
    fault = refused(text)[0]

    assert told in fault.message
    assert fault.line == line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"a": NaN}', "finite"),
        ('{"a": -Infinity}', "finite"),
        ('{"a": "\\u0000"}', "NUL"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": "{{ x }}"}', "Jinja"),
        ("[1]", "a workflow is a mapping"),
        ("{", "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_json_is_held_to_the_same_rules(text, told):
    assert told in refused(text, JSON)[0].message


def test_what_is_not_utf8_is_refused():
    assert "UTF-8" in refused(b"a: \xff")[0].message


def _bomb() -> str:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"a: " + b"x" * (128 * 1024), YAML),
        (b'{"a": "' + b"x" * (1024 * 1024) + b'"}', JSON),
        (b"a: " + b"[" * 65 + b"]" * 65, YAML),
        (b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}", JSON),
        (b"[" * 500_000, JSON),
        (b"a: " + b"[" * 100_000, YAML),
        (b'{"a": [' + b"1," * 100_001 + b"1]}", JSON),
        (_bomb().encode(), YAML),
    ],
    ids=[
        "yaml size",
        "json size",
        "yaml deep",
        "json deep",
        "json abyss",
        "yaml abyss",
        "json wide",
        "alias bomb",
    ],
)
def test_a_document_over_a_limit_is_too_large(body, content_type):
    with pytest.raises(TooLarge):
        parse(body, content_type=content_type)


def test_aliases_up_to_the_depth_of_the_limit_are_counted():
    text = "a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 30 + "*a" + "]" * 30

    with pytest.raises(TooLarge):
        parse(text.encode(), content_type=YAML)


# fmt: off
_SCALARS = st.sampled_from(
    [
        "1", "-1", "+1", "1.5", "1e3", "1e-3", ".5", "-.5", "5.", "1_000", "0x1f", "0o17", "017",
        "0b11", "yes", "no", "on", "off", "true", "True", "TRUE", "null", "~", "2020-01-01",
        "2020-1-1", "2020-01-01T10:11:12", "1:30", "1:30:45", ".inf", ".nan", "-", "+", ".", "_1",
        "1_", "-_", "0_", "a", "'b'", '"c"', "a:b", "<x", "=", "-x", "2020-01-01x", "1e", "1e+",
        "0x", "0o", "12:30:45", "Null", "None", "Yes", "y", "n", "1.2.3", "''", "00", "-0",
        "-0.0", "1e5_0",
    ]
)
# fmt: on
_KEYS = st.sampled_from(["a", "b", "c", "d", "1", "true"])


def _flow(children):
    mapping = st.dictionaries(_KEYS, children, max_size=3).map(
        lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
    )
    listing = st.lists(children, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
    return mapping | listing


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.dictionaries(_KEYS, st.recursive(_SCALARS, _flow, max_leaves=8), min_size=1))
def test_a_generated_document_is_read_as_ruamel_reads_it_or_refused(items):
    ruamel = pytest.importorskip("ruamel.yaml")
    text = "\n".join(f"{key}: {value}" for key, value in items.items())
    try:
        ours = compose(text)
    except BadYaml:
        return
    if ours.faults:
        return

    theirs = ruamel.YAML(typ="safe", pure=True).load(text)

    assert repr(ours.value) == repr(theirs)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "ignore"))
)
def test_any_bytes_are_read_or_refused(body):
    for content_type in (YAML, JSON):
        try:
            document = parse(body, content_type=content_type)
            check(document, market=market, defaults=DEFAULTS)
        except (InvalidConfig, TooLarge):
            continue


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10**6)
    | st.floats(-1, 1)
    | st.text(max_size=8)
    | st.sampled_from(["<PRED>", "csi300", "2015-01-01", "day", "file:///x.pkl", "$close"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["class", "kwargs", "module_path", "train", "test", "feature", "a"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def _paths(value, path=""):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        here = f"{path}.{key}" if path else str(key)
        yield here
        if isinstance(item, dict | list):
            yield from _paths(item, here)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(sorted(_paths(workflow()))), _VALUES)
def test_a_workflow_with_anything_anywhere_passes_or_is_refused(path, value):
    from training.engine.recipe import task_for_qlib

    try:
        result = checked(changed(path, value))
    except (InvalidConfig, TooLarge):
        return

    stored = json.loads(json.dumps(result.config, allow_nan=False))
    task_for_qlib(stored)


# ── what comes out ──────────────────────────────────────────────────────────────────────


def test_the_canonical_config_says_what_was_left_to_defaults():
    result = checked(workflow())

    kwargs = result.config["task"]["model"]["kwargs"]
    assert kwargs["num_boost_round"] == 1000
    assert kwargs["num_threads"] == 4
    assert kwargs["bagging_seed"] == 3
    assert kwargs["force_col_wise"] is True
    assert "seed" not in kwargs
    assert result.config["qlib_init"] == {"provider_uri": "cn_data", "region": "cn"}
    assert result.config["platform"]["seed"] == 0
    assert (result.model, result.handler, result.needs) == ("LGBModel", "Alpha158", "")


def test_rounds_that_were_given_are_not_replaced_by_the_default():
    text = changed(f"{MODEL}.num_boost_round", 7)

    kwargs = checked(text).config["task"]["model"]["kwargs"]

    assert kwargs["num_boost_round"] == 7


@pytest.mark.parametrize("given", ["force_col_wise", "force_row_wise"])
def test_a_way_of_adding_up_that_was_given_is_kept(given):
    kwargs = checked(changed(f"{MODEL}.{given}", True)).config["task"]["model"]["kwargs"]

    assert [name for name in kwargs if name.startswith("force_")] == [given]


def test_lightgbms_other_seeds_are_left_to_a_seed_that_was_given():
    kwargs = checked(changed(f"{MODEL}.random_state", 7)).config["task"]["model"]["kwargs"]

    assert "bagging_seed" not in kwargs


def test_checking_the_canonical_config_again_changes_nothing():
    first = checked(workflow())

    again = checked(json.loads(json.dumps(first.config)))

    assert again.config == first.config


def test_keys_that_only_hold_anchors_are_ignored():
    data = {**workflow(), "market": "x", "data_handler_config": {"class": "os.system"}}

    assert checked(data).config == checked(workflow()).config


def test_every_fault_is_told_at_once_with_its_line_and_its_cure():
    text = json.dumps(workflow(), indent=1).replace("num_leaves", "num_leave")
    text = text.replace("Alpha158", "Alpha15").replace('"csi300"', '"csi301"')
    document = parse(text.encode(), content_type=YAML)

    with pytest.raises(InvalidConfig) as caught:
        check(document, market=market, defaults=DEFAULTS)

    told = {fault.path: fault for fault in caught.value.faults}
    leave = told["task.model.kwargs.num_leave"]
    assert leave.hint == "did you mean num_leaves?"
    assert '"num_leave"' in text.splitlines()[leave.line - 1]
    assert told["task.dataset.kwargs.handler.class"].hint == "did you mean Alpha158?"


# ── what is refused ─────────────────────────────────────────────────────────────────────

HOLES = [
    ("task.model", {"class": "os.system", "kwargs": {"command": "x"}}, "task.model.class"),
    ("task.model", {"class": "system", "module_path": "os"}, "task.model.class"),
    ("task.model", "os.system", "task.model"),
    ("task.model", "file:///x.pkl", "task.model"),
    ("task.model", {"func": "os.system"}, "task.model.func"),
    ("task.model.module_path", "evil.py", "task.model.module_path"),
    ("task.model.module_path", "/srv/evil.py", "task.model.module_path"),
    ("task.model.module_path", "qlib.contrib.model.gbdt2", "task.model.module_path"),
    ("task.dataset.kwargs.handler", "file:///x.pkl", "task.dataset.kwargs.handler"),
    ("task.dataset", "file://x", "task.dataset"),
    ("task.record.0", "file://x", "task.record.0"),
    ("task.record.0", "qlib.workflow.record_temp.SignalRecord", "task.record.0"),
    ("task.reweighter", {"class": "x"}, "task.reweighter"),
    (f"{HANDLER}.label", ["(sys.modules['os'].system)('x')"], f"{HANDLER}.label.0"),
    (f"{HANDLER}.label", ["$close.__class__"], f"{HANDLER}.label.0"),
    (
        f"{HANDLER}.filter_pipe",
        [{"filter_type": "ExpressionDFilter", "rule_expression": "__import__('os')"}],
        f"{HANDLER}.filter_pipe.0.rule_expression",
    ),
    (
        f"{HANDLER}.filter_pipe",
        [{"filter_type": "NameDFilter", "name_rule_re": "(a+)+$"}],
        f"{HANDLER}.filter_pipe.0.name_rule_re",
    ),
    (f"{HANDLER}.filter_pipe", [{"filter_type": "os"}], f"{HANDLER}.filter_pipe.0.filter_type"),
    (f"{HANDLER}.instruments", "../../x", f"{HANDLER}.instruments"),
    (f"{HANDLER}.instruments", ["../../x"], f"{HANDLER}.instruments.0"),
    (f"{HANDLER}.instruments", [".."], f"{HANDLER}.instruments.0"),
    (f"{HANDLER}.data_loader", {"class": "StaticDataLoader"}, f"{HANDLER}.data_loader"),
    (
        f"{HANDLER}.infer_processors",
        [{"class": "DropCol", "module_path": "x.py"}],
        f"{HANDLER}.infer_processors.0.module_path",
    ),
    (
        f"{HANDLER}.infer_processors",
        [{"class": "HashStockFormat"}],
        f"{HANDLER}.infer_processors.0.class",
    ),
    (f"{HANDLER}.init_data", True, f"{HANDLER}.init_data"),
    (f"{EXCHANGE}.deal_price", "$close;x", f"{EXCHANGE}.deal_price"),
    (f"{EXCHANGE}.deal_price", "__import__", f"{EXCHANGE}.deal_price"),
    (f"{EXCHANGE}.subscribe_fields", ["__import__('os')"], f"{EXCHANGE}.subscribe_fields.0"),
    (f"{EXCHANGE}.limit_threshold", ["eval('1')", "1"], f"{EXCHANGE}.limit_threshold.0"),
    (f"{EXCHANGE}.volume_threshold", ["cum", "eval('1')"], f"{EXCHANGE}.volume_threshold.1"),
    (f"{EXCHANGE}.quote_cls", "os.system", f"{EXCHANGE}.quote_cls"),
    (f"{EXCHANGE}.extra_quote", "x.pkl", f"{EXCHANGE}.extra_quote"),
    (f"{PORTFOLIO}.strategy.kwargs.signal", {"class": "x"}, f"{PORTFOLIO}.strategy.kwargs.signal"),
    (f"{PORTFOLIO}.strategy.kwargs.signal", "x.pkl", f"{PORTFOLIO}.strategy.kwargs.signal"),
    (
        f"{PORTFOLIO}.strategy",
        {
            "class": "EnhancedIndexingStrategy",
            "module_path": "qlib.contrib.strategy",
            "kwargs": {"riskmodel_root": "/"},
        },
        f"{PORTFOLIO}.strategy.class",
    ),
    (
        f"{PORTFOLIO}.strategy",
        {"class": "FileOrderStrategy", "module_path": "qlib.contrib.strategy.rule_strategy"},
        f"{PORTFOLIO}.strategy.class",
    ),
    (f"{PORTFOLIO}.executor", {"class": "NestedExecutor"}, f"{PORTFOLIO}.executor.class"),
    (f"{MODEL}.output_model", "/x", f"{MODEL}.output_model"),
    (f"{MODEL}.model_output", "/x", f"{MODEL}.model_output"),
    (f"{MODEL}.snapshot_freq", 1, f"{MODEL}.snapshot_freq"),
    (f"{MODEL}.forcedsplits_filename", "/x", f"{MODEL}.forcedsplits_filename"),
    (f"{MODEL}.machines", "1.2.3.4:5", f"{MODEL}.machines"),
    (f"{MODEL}.init_model", "/x", f"{MODEL}.init_model"),
    ("sys", {"path": "/x"}, "sys"),
    ("BASE_CONFIG_PATH", "/x", "BASE_CONFIG_PATH"),
    ("qlib_init.provider_uri", "/etc", "qlib_init.provider_uri"),
    ("qlib_init.provider_uri", "../../secret", "qlib_init.provider_uri"),
    ("qlib_init.provider_uri", "http://x/cn_data", "qlib_init.provider_uri"),
    ("qlib_init.exp_manager", {"class": "x"}, "qlib_init.exp_manager"),
    ("qlib_init.logging_config", {"()": "os.system"}, "qlib_init.logging_config"),
    ("qlib_init.redis_host", "x", "qlib_init.redis_host"),
    ("qlib_init.mount_path", "/x", "qlib_init.mount_path"),
    ("qlib_init.auto_mount", True, "qlib_init.auto_mount"),
    ("qlib_init.custom_ops", ["x"], "qlib_init.custom_ops"),
    ("qlib_init.expression_provider", "x", "qlib_init.expression_provider"),
    ("qlib_init.mongo", {"task_url": "x"}, "qlib_init.mongo"),
]


@pytest.mark.parametrize(("place", "value", "told_at"), HOLES)
def test_every_way_in_is_refused_at_its_place(place, value, told_at):
    found = faults(changed(place, value))

    assert any(path.startswith(told_at) for path in found), found


TORCH_HOLES = [
    ("pytorch_gats", "GATs", "model_path", "x.pkl"),
    ("pytorch_add", "ADD", "model_path", "x.pkl"),
    ("pytorch_igmtf", "IGMTF", "model_path", "x.pkl"),
    ("pytorch_tabnet", "TabnetModel", "pretrain_file", "x"),
    ("pytorch_nn", "DNNModelPytorch", "pt_model_uri", "os.system"),
    ("pytorch_nn", "DNNModelPytorch", "scheduler", "x"),
    ("pytorch_nn", "DNNModelPytorch", "init_model", "x"),
    ("pytorch_general_nn", "GeneralPTNN", "pt_model_uri", "os.system"),
    ("pytorch_tra", "TRAModel", "model_type", "__import__('os').system('x')"),
    ("pytorch_tra", "TRAModel", "init_state", "x.pkl"),
    ("pytorch_lstm", "LSTM", "optimizer", "__init__"),
    ("catboost_model", "CatBoostModel", "snapshot_file", "/x"),
    ("catboost_model", "CatBoostModel", "devices", "0"),
    ("xgboost", "XGBModel", "updater", "x"),
]


@pytest.mark.parametrize(("module", "name", "parameter", "value"), TORCH_HOLES)
def test_no_model_reads_or_runs_what_the_sender_names(module, name, parameter, value):
    model = {
        "class": name,
        "module_path": f"qlib.contrib.model.{module}",
        "kwargs": {parameter: value},
    }

    assert f"{MODEL}.{parameter}" in faults(changed("task.model", model))


def test_a_model_that_stops_where_no_day_has_names_enough_is_refused():
    data = changed(
        "task.model",
        {"class": "DNNModelPytorch", "module_path": "qlib.contrib.model.pytorch_nn", "kwargs": {}},
    )
    handler = data["task"]["dataset"]["kwargs"]["handler"]["kwargs"]
    segments = data["task"]["dataset"]["kwargs"]["segments"]

    handler["instruments"] = [f"SH6{number:05d}" for number in range(50)]
    assert f"{HANDLER}.instruments" not in faults(data)
    handler["instruments"][-1] = handler["instruments"][0].lower()
    assert "at least 50 names" in faults(data)[f"{HANDLER}.instruments"]
    del segments["valid"]
    assert f"{HANDLER}.instruments" not in faults(data)


@pytest.mark.parametrize("name", ["model_path", "seed"])
def test_null_passes_where_a_file_or_a_seed_is_optional(name):
    model = {
        "class": "GATs",
        "module_path": "qlib.contrib.model.pytorch_gats",
        "kwargs": {"d_feat": 6, name: None},
    }
    data = changed("task.model", model)
    data["task"]["dataset"]["kwargs"]["handler"]["class"] = "Alpha360"

    assert faults(data) == {}
    assert checked(data).config["task"]["model"]["kwargs"]["seed"] == 0


FAULTS = [
    (f"{MODEL}.num_leaves", "210", f"{MODEL}.num_leaves", "whole number"),
    (f"{MODEL}.num_leaves", 1, f"{MODEL}.num_leaves", "out of range"),
    ("platform.timeout_s", -1, "platform.timeout_s", "out of range: 1 to 31,536,000"),
    (f"{MODEL}.num_leaves", True, f"{MODEL}.num_leaves", "whole number"),
    (f"{MODEL}.loss", "msee", f"{MODEL}.loss", "one of"),
    (f"{MODEL}.num_iterations", 10, f"{MODEL}.num_iterations", "num_boost_round"),
    (f"{MODEL}.max_leaves", 10, f"{MODEL}.max_leaves", "one and the same"),
    ("task.model", MISSING, "task.model", "needs a `model`"),
    ("task", MISSING, "task", "needs a `task`"),
    ("task.dataset.kwargs.handler", MISSING, "task.dataset.kwargs.handler", "needs handler"),
    (f"{SEGMENTS}.train", ["2015-01-01", "2014-12-31"], f"{SEGMENTS}.train", "before it begins"),
    (f"{SEGMENTS}.valid", ["2014-01-01", "2016-12-31"], f"{SEGMENTS}.valid", "has ended"),
    (f"{SEGMENTS}.test", ["2030-01-01", "2031-01-01"], f"{SEGMENTS}.test", "no trading day"),
    (f"{SEGMENTS}.test", ["2020-09-01", "2021-01-01"], f"{SEGMENTS}.test", "outside"),
    (f"{SEGMENTS}.test", MISSING, f"{SEGMENTS}.test", "no segment"),
    (f"{SEGMENTS}.train", ["01.01.2008", None], f"{SEGMENTS}.train.0", "a date such as"),
    (f"{SEGMENTS}.train", 20080101, f"{SEGMENTS}.train", "a segment is"),
    (f"{HANDLER}.fit_end_time", "2015-06-01", f"{HANDLER}.fit_end_time", "after the end of train"),
    (f"{HANDLER}.instruments", "csi301", f"{HANDLER}.instruments", "no market"),
    (f"{HANDLER}.instruments", ["AAPL"], f"{HANDLER}.instruments.0", "no instrument"),
    (f"{HANDLER}.label", ["$closs"], f"{HANDLER}.label.0", "no field"),
    (f"{HANDLER}.label", ["$close", "$open"], f"{HANDLER}.label", "one label"),
    (f"{HANDLER}.freq", "1min", f"{HANDLER}.freq", "daily bars only"),
    ("task.dataset.class", "TSDatasetH", "task.dataset.class", "needs DatasetH"),
    (f"{BACKTEST}.benchmark", "SH000301", f"{BACKTEST}.benchmark", "no instrument"),
    (f"{BACKTEST}.start_time", "2021-01-01", f"{BACKTEST}.end_time", "before it begins"),
    (f"{BACKTEST}.open_cost", 0.1, f"{BACKTEST}.open_cost", "no `open_cost`"),
    (f"{PORTFOLIO}.strategy.kwargs.n_drop", 60, f"{PORTFOLIO}.strategy.kwargs.n_drop", "topk"),
    (f"{PORTFOLIO}.strategy.kwargs.topk", MISSING, f"{PORTFOLIO}.strategy.kwargs.topk", "needs"),
    ("task.record.0", {"class": "SigAnaRecord"}, "task.record.0", "SignalRecord before it"),
    ("platform.rounds", 10, "platform.rounds", "only"),
    ("platform.priority", "urgent", "platform.priority", "one of"),
    ("platform.timeout_s", 10**7, "platform.timeout_s", "at most"),
    ("qlib_init.region", "mars", "qlib_init.region", "no region"),
    ("qlib_init.provider_uri", "nasdaq", "qlib_init.provider_uri", "no dataset nasdaq"),
]


@pytest.mark.parametrize(("place", "value", "told_at", "told"), FAULTS)
def test_a_fault_is_told_at_its_place(place, value, told_at, told):
    assert told in faults(changed(place, value))[told_at]


WARNINGS = [
    (f"{EXCHANGE}.limit_threshold", 1, f"{EXCHANGE}.limit_threshold", "1.0"),
    (f"{BACKTEST}.end_time", "2025-01-01", f"{BACKTEST}.end_time", CN.last_day),
    (f"{BACKTEST}.end_time", None, f"{BACKTEST}.end_time", "open end"),
    (f"{BACKTEST}.start_time", "2016-01-01", BACKTEST, "beyond the test"),
    (f"{MODEL}.num_threads", 20, f"{MODEL}.num_threads", "set to 4"),
    ("platform.threads", 20, "platform.threads", "set to 4"),
    ("qlib_init.kernels", 1, "qlib_init.kernels", "settled"),
    ("qlib_init.region", "us", "qlib_init.region", "other rules"),
    ("task.record", [], "task.record", "nothing is evaluated"),
    (f"{PORTFOLIO}.strategy.kwargs.topk", 400, f"{PORTFOLIO}.strategy.kwargs.topk", "300"),
    (f"{SEGMENTS}.train", ["2004-01-01", "2014-12-31"], f"{SEGMENTS}.train.0", "begin on"),
]


@pytest.mark.parametrize(("place", "value", "told_at", "told"), WARNINGS)
def test_what_runs_otherwise_than_expected_is_a_warning(place, value, told_at, told):
    assert told in warnings(changed(place, value))[told_at]


def test_labels_that_reach_into_the_next_segment_are_a_warning_until_days_lie_between():
    close = warnings(workflow())
    apart = warnings(changed(f"{SEGMENTS}.valid", ["2015-01-05", "2016-12-28"]))

    assert "label looks 2 days ahead" in close[f"{SEGMENTS}.train.1"]
    assert f"{SEGMENTS}.train.1" not in apart


def test_future_data_in_a_feature_is_a_warning_and_in_a_label_none():
    loader = {
        "class": "QlibDataLoader",
        "kwargs": {
            "config": {
                "feature": ["Ref($close, -1)/$close", "$close/$open"],
                "label": ["Ref($close, -2)/Ref($close, -1) - 1"],
            }
        },
    }
    handler = {
        "class": "DataHandlerLP",
        "module_path": "qlib.data.dataset.handler",
        "kwargs": {"instruments": "csi300", "data_loader": loader},
    }

    told = warnings(changed("task.dataset.kwargs.handler", handler))

    place = f"{HANDLER}.data_loader.kwargs.config"
    assert "1 days into the future" in told[f"{place}.feature.0"]
    assert f"{place}.label.0" not in told


def test_a_width_that_does_not_fit_the_columns_is_told_with_the_right_one():
    model = {
        "class": "GRU",
        "module_path": "qlib.contrib.model.pytorch_gru_ts",
        "kwargs": {"d_feat": 6},
    }
    data = changed("task.model", model)
    data["task"]["dataset"]["class"] = "TSDatasetH"

    assert hints(data)[f"{MODEL}.d_feat"] == "d_feat: 158"


def test_tcn_of_series_wants_as_many_steps_as_columns():
    kwargs = {"d_feat": 158, "GPU": 0}
    model = {"class": "TCN", "module_path": "qlib.contrib.model.pytorch_tcn_ts", "kwargs": kwargs}
    data = changed("task.model", model)
    data["task"]["dataset"]["class"] = "TSDatasetH"
    place = "task.dataset.kwargs.step_len"

    assert hints(data) == {place: "step_len: 158"}
    data["task"]["dataset"]["kwargs"]["step_len"] = 158
    assert faults(data) == {}


def test_rounds_that_qlib_fixes_are_set_by_the_platform():
    data = changed(
        "task.model",
        {"class": "XGBModel", "module_path": "qlib.contrib.model.xgboost", "kwargs": {"eta": 0.1}},
    )
    data["platform"] = {"rounds": 20}

    result = checked(data)

    assert result.config["platform"]["rounds"] == 20
    assert result.config["task"]["model"]["kwargs"] == {"eta": 0.1, "nthread": 4, "seed": 0}
    assert result.needs == "xgboost"


def test_a_workflow_without_qlib_init_takes_the_default_dataset():
    data = workflow()
    del data["qlib_init"]

    assert checked(data).dataset == "cn_data"
    with pytest.raises(InvalidConfig):
        check(
            parse(json.dumps(data).encode(), content_type=JSON),
            market=lambda name: None,
            defaults=Defaults(),
        )


def test_names_and_tags_are_taken_over():
    data = changed("platform", {"name": "mine", "tags": ["a", "b", "a"], "priority": "high"})

    result = checked(data)

    assert (result.name, result.tags, result.priority) == ("mine", ("a", "b"), "high")


def test_the_posted_text_is_kept_as_it_came(tmp_path: Path):
    text = "# mine\n" + json.dumps(workflow())

    result = check(parse(text.encode(), content_type=YAML), market=market, defaults=DEFAULTS)

    assert result.posted == text


def test_the_estimate_counts_days_times_instruments_of_what_the_handler_loads():
    result = estimate(checked(workflow()), CN)

    days = CN.days_between("2008-01-01", "2020-08-01")
    assert result.rows == 300 * days
    assert result.columns == 158
    assert result.memory_bytes == 300 * 1024 * 1024 + 5_500 * result.rows


def test_the_estimate_of_named_instruments_counts_these_only():
    codes = ["SH600000", "sh600001"]

    result = estimate(checked(changed(f"{HANDLER}.instruments", codes)), CN)

    assert result.rows == 2 * CN.days_between("2008-01-01", "2020-08-01")
