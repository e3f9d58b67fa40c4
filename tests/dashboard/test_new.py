"""The editor's page without JavaScript: check and start are two buttons of one form."""

import re

import pytest

from tests.factories import make_dataset
from training import presets
from training.models import Preset, TrainingTask


def test_every_preset_fills_the_editor(browser, dataset):
    # As a migration leaves them; another test may have emptied the tables.
    presets.load_shipped()
    names = list(Preset.objects.values_list("name", flat=True))

    assert len(names) >= 12
    for name in names:
        text = browser.get(f"/new?preset={name}").content.decode()
        assert "provider_uri: demo" in text, name
        assert 'aria-current="true"' in text, name
    assert browser.get("/new?preset=../settings").status_code == 404
    assert browser.get("/new?dataset=nowhere").status_code == 404


def test_without_a_dataset_the_page_says_how_to_get_one(browser):
    assert "import_market" in browser.get("/new").content.decode()


def test_a_default_dataset_that_is_none_is_told_as_such(browser, dataset, settings):
    settings.DEFAULT_DATASET = "gone"

    text = browser.get("/new").content.decode()

    assert "names gone, which is not here" in text
    assert "There is no dataset yet" not in text
    assert 'href="/new?dataset=demo"' in text


def test_without_a_preset_that_runs_the_page_asks_for_a_workflow(browser, dataset):
    Preset.objects.all().delete()

    assert "Paste a Qlib workflow" in browser.get("/new").content.decode()


@pytest.mark.parametrize("deed", ["check", "start"])
def test_faults_stand_beside_the_text_that_has_them(browser, dataset, deed):
    text = WORKFLOW.replace("num_leaves:", "num_leave:")

    answer = browser.post("/new", {"workflow": text.replace("\n", "\r\n"), "deed": deed})

    shown = answer.content.decode()
    assert answer.status_code == 400
    assert "line 3<" in shown
    assert "did you mean num_leaves" in shown
    assert "{num_leave: 8}" in shown
    assert not TrainingTask.objects.exists()


def test_the_presets_stay_those_of_the_dataset_in_the_address(browser, dataset):
    make_dataset("other")

    page = browser.get("/new?dataset=other").content.decode()
    checked = browser.post("/new?dataset=other", {"workflow": "task: {}", "deed": "check"})

    assert '<form method="post" id="new">' in page, "without an action: to its own address"
    for text in (page, checked.content.decode()):
        assert 'Presets for <span class="mono">other<' in text


def test_the_presets_beside_a_clone_are_those_of_its_dataset(browser, make_task):
    make_dataset("demo")
    make_dataset("other")
    task = make_task(dataset="other", posted=WORKFLOW)
    for_gone = make_task(dataset="gone", posted=WORKFLOW)

    def offered(task):
        text = browser.get(f"/new?like={task.id}").content.decode()
        return re.search('Presets for <span class="mono">(.*?)<', text)[1]

    assert offered(task) == "other"
    assert offered(for_gone) == "demo"


def test_what_is_started_is_what_was_typed(browser, dataset, owner, rings):
    text = WORKFLOW

    answer = browser.post("/new", {"workflow": text, "deed": "start"})

    task = TrainingTask.objects.get()
    assert answer.url == f"/tasks/{task.id}"
    assert task.owner == owner
    assert task.posted == text
    assert rings == ["cpu"]


WORKFLOW = """\
qlib_init: {provider_uri: demo, region: us}
task:
  model: {class: LGBModel, module_path: qlib.contrib.model.gbdt, kwargs: {num_leaves: 8}}
  dataset:
    class: DatasetH
    module_path: qlib.data.dataset
    kwargs:
      handler:
        class: Alpha158
        module_path: qlib.contrib.data.handler
        kwargs: {instruments: all}
      segments:
        train: [2013-01-01, 2016-12-30]
        valid: [2017-01-02, 2017-12-29]
        test: [2018-01-01, 2018-12-31]
  record:
    - {class: SignalRecord, module_path: qlib.workflow.record_temp, kwargs: {}}
"""
