"""POST /api/validate: all that a submission would be told, and nothing made."""

import copy
import json

import pytest
import yaml
from openapi_schema_validator import OAS31Validator

from tests.api.test_submit import HOSTILE
from training.api.submit import EXAMPLE
from training.models import TrainingTask

pytestmark = pytest.mark.usefixtures("dataset")

JSON, YAML = "application/json", "application/yaml"


def ask(api, body, kind=JSON):
    if isinstance(body, dict):
        body = json.dumps(body)
    return api.generic("POST", "/api/validate", body, content_type=kind)


def test_a_workflow_that_can_run_is_valid_and_has_its_estimate(api, rings):
    answer = ask(api, EXAMPLE)

    told = answer.json()
    assert answer.status_code == 200
    assert (told["valid"], told["faults"]) == (True, [])
    assert told["estimate"]["columns"] == 158
    assert told["estimate"]["rows"] > 1000
    assert not TrainingTask.objects.exists()
    assert rings == []


def test_faults_and_warnings_come_together_and_apart(api):
    wrong = copy.deepcopy(EXAMPLE)
    wrong["task"]["model"]["kwargs"]["num_leave"] = 3
    wrong["task"]["record"] = []

    told = ask(api, wrong).json()

    assert told["valid"] is False
    assert told["estimate"] is None
    assert told["faults"] == [
        {
            "path": "task.model.kwargs.num_leave",
            "message": "LGBModel has no parameter 'num_leave'",
            "hint": "did you mean num_leaves?",
        }
    ]
    assert {"path": "task.record", "message": "without records nothing is evaluated"} in told[
        "warnings"
    ]


def test_the_same_faults_stand_in_the_refusal_of_a_submission(api):
    wrong = yaml.safe_dump({**EXAMPLE, "platform": {"priority": "urgent"}})

    told = ask(api, wrong, YAML).json()
    refused = api.generic("POST", "/api/train", wrong, content_type=YAML).json()

    assert told["faults"] == refused["error"]["fields"]
    assert told["faults"][0]["line"]


def test_what_is_no_yaml_is_one_fault_with_its_line_and_column(api):
    told = ask(api, "task: 1\nqlib_init: [1\n", YAML).json()

    assert told["valid"] is False
    assert told["faults"][0]["line"] >= 2
    assert told["faults"][0]["column"]


@pytest.mark.parametrize("kind", [JSON, YAML])
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_body_has_faults_or_is_too_large(api, body, kind):
    answer = ask(api, body, kind)

    assert answer.status_code in {200, 413}
    if answer.status_code == 200:
        assert answer.json()["faults"]


def test_the_answer_has_the_shape_that_the_schema_tells(api):
    schema = api.get("/api/schema").json()
    told = schema["paths"]["/api/validate"]["post"]["responses"]["200"]["content"]
    shape = {"components": schema["components"], **told[JSON]["schema"]}

    for body in (EXAMPLE, {"task": 1}):
        faults = OAS31Validator(shape).iter_errors(ask(api, body).json())
        assert [one.message for one in faults] == []
