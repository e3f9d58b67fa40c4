"""The catalogue: whole, in step with the installed Qlib, and every parameter has a meaning."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training import catalogue
from training import catalogue_meaning as meaning
from training.workflow.shape import known_kinds
from training.workflow.values import is_plain

ROOT = Path(__file__).resolve().parents[2]


def test_every_parameter_has_a_rule_that_the_check_knows():
    entries = [entry for slot in catalogue.load().slots.values() for entry in slot]

    kinds = {p.rule.kind for entry in entries for p in entry.parameters.values()}

    assert {kind for kind in kinds if not is_plain(kind) and kind not in known_kinds()} == set()


def test_every_offered_class_is_in_the_data():
    data = json.loads(catalogue.DATA.read_text())

    for slot, paths in meaning.OFFERED.items():
        found = [f"{entry['module']}.{entry['class']}" for entry in data["slots"][slot]]
        assert found == paths


def test_the_default_of_every_model_parameter_passes_its_own_rule():
    from training.workflow.findings import Findings
    from training.workflow.values import check_plain

    for entry in catalogue.load().slots["model"]:
        for parameter in entry.parameters.values():
            if parameter.default is None or not is_plain(parameter.rule.kind):
                continue
            findings = Findings()
            check_plain(findings, (entry.name, parameter.name), parameter.default, parameter.rule)
            assert findings.faults == []


def test_two_models_of_one_name_are_told_apart_by_their_module():
    lstm = catalogue.load().find("model", "LSTM", "qlib.contrib.model.pytorch_lstm_ts")

    assert lstm is not None
    assert lstm.module.endswith("_ts")
    assert catalogue.load().find("model", "LSTM", None) is None


@pytest.mark.qlib
def test_the_data_match_the_installed_qlib():
    pytest.importorskip("qlib")
    command = [sys.executable, "-m", "training.engine.build_catalogue", "--check"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)

    assert done.returncode == 0, done.stderr[-500:]


def test_the_check_loads_neither_qlib_nor_pandas_nor_django():
    code = (
        "import sys, training.workflow, training.engine.recipe; training.workflow.check;"
        "print(sorted({'qlib', 'pandas', 'numpy', 'django', 'torch'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert done.stdout.strip() == "[]"
