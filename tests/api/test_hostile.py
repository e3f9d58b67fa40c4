"""The known ways into Qlib, and more, against the API: each refused at its place, none touched."""

import copy
import json

import pytest

from tests.core.workflow_cases import checked, cn_manifest, workflow
from tests.hostile import Bait, ways, with_way
from training.engine.recipe import RefusedConfig, task_for_qlib
from training.models import Dataset, TrainingTask


@pytest.fixture
def bait(tmp_path):
    return Bait(tmp_path / "bait")


@pytest.fixture
def cn_data(db):
    manifest = cn_manifest()
    days = manifest["days"]
    return Dataset.objects.create(
        name="cn_data",
        region="cn",
        version="v1",
        fingerprint="f" * 64,
        rows=1,
        first_day=days[0],
        last_day=days[-1],
        instrument_count=len(manifest["instruments"]),
        manifest=manifest,
    )


def post(api, path, data):
    return api.generic("POST", path, json.dumps(data), content_type="application/json")


def test_the_bait_is_real(bait):
    assert bait.works()
    assert len(ways(bait)) >= 41


def test_the_workflow_without_a_way_in_passes(api, cn_data):
    assert post(api, "/api/train", workflow()).status_code == 201


def test_the_api_refuses_every_way_in_at_its_place_and_nothing_is_touched(api, cn_data, bait):
    wrong = {}
    for way in ways(bait):
        data = with_way(workflow(), way)
        answer = post(api, "/api/train", data)
        told = post(api, "/api/validate", data).json()
        places = [fault["path"] for fault in answer.json().get("error", {}).get("fields", [])]
        # A template is refused wherever it stands, as the text is read.
        at_place = way.name == "a template" or any(one.startswith(way.place) for one in places)
        if answer.status_code != 400 or told["valid"] or not at_place:
            wrong[way.name] = (answer.status_code, places)

    assert wrong == {}
    assert not bait.touched.exists()
    assert not TrainingTask.objects.exists()


def test_the_second_check_refuses_every_way_in_too(bait):
    stored = json.loads(json.dumps(checked(workflow()).config))
    task_for_qlib(copy.deepcopy(stored))
    passed = []
    for way in ways(bait):
        if way.posted_only:
            continue
        try:
            task_for_qlib(with_way(stored, way))
        except RefusedConfig:
            continue
        passed.append(way.name)

    assert passed == []
    assert not bait.touched.exists()
