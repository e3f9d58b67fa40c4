"""Each of Qlib's own example workflows: accepted unchanged, or refused with the true reason."""

import os
from pathlib import Path

import pytest

from tests.core.workflow_cases import DEFAULTS, market
from training.errors import InvalidConfig
from training.workflow import check, parse
from training.workflow.yaml12 import compose

FOLDER = os.environ.get("QLIB_EXAMPLES", "")
FILES = sorted(Path(FOLDER).rglob("*.yaml")) if FOLDER else []
pytestmark = pytest.mark.skipif(
    not FILES, reason="set QLIB_EXAMPLES to the folder of Qlib's example workflows"
)

REFUSED = {
    "workflow_config_gats_Alpha158.yaml": {"task.model.kwargs.model_path": "unpickled"},
    "workflow_config_hist_Alpha360.yaml": {"task.model.class": "downloads a file"},
    "workflow_config_tft_Alpha158.yaml": {"sys": "refused", "task.model.class": "TensorFlow"},
    "workflow_config_lightgbm_Alpha158_multi_freq.yaml": {
        "qlib_init.provider_uri.1min": "daily bars only",
        "task.record.2.kwargs.config.strategy.module_path": "no TopkDropoutStrategy in",
    },
    "workflow_config_High_Freq_Tree_Alpha158.yaml": {
        "qlib_init.provider_uri": "no dataset cn_data_1min",
        "task.dataset.kwargs.handler.kwargs.freq": "daily bars only",
    },
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_example_is_accepted_unchanged_or_refused_with_the_true_reason(file):
    document = parse(file.read_bytes(), content_type="application/yaml")

    if file.name not in REFUSED:
        assert check(document, market=market, defaults=DEFAULTS).dataset == "cn_data"
        return

    with pytest.raises(InvalidConfig) as refused:
        check(document, market=market, defaults=DEFAULTS)

    told = {fault.path: fault.message for fault in refused.value.faults}
    assert all(reason in told[path] for path, reason in REFUSED[file.name].items())
    assert all(fault.line for fault in refused.value.faults)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_example_is_read_as_qlib_reads_it(file):
    ruamel = pytest.importorskip("ruamel.yaml")
    text = file.read_text()

    assert compose(text).value == ruamel.YAML(typ="safe", pure=True).load(text)


README = Path(__file__).resolve().parents[2] / "training" / "workflow" / "README.md"


def told_of(file: Path) -> str:
    """The example's line in the README."""
    try:
        workflow = check(
            parse(file.read_bytes(), content_type="application/yaml"),
            market=market,
            defaults=DEFAULTS,
        )
    except InvalidConfig as refused:
        told = [f"`{fault.path}`: {fault.message}" for fault in refused.faults]
        more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
        return f"| {file.parent.name}/{file.name} | refused: {'; '.join(told[:3])}{more} |"
    needs = f", needs {workflow.needs}" if workflow.needs else ""
    return f"| {file.parent.name}/{file.name} | accepted{needs} |"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_readme_tells_of_each_example_what_becomes_of_it(file):
    assert told_of(file) in README.read_text().splitlines()
