"""The API under calls that schemathesis makes up from its own description: no 5xx, ever.

`FUZZ_EXAMPLES` sets the calls per operation; few by default.
"""

import json
import os
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
import yaml
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.models import TrainingTask
from training.states import Status

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
DOCUMENT = json.loads(json.dumps(SchemaGenerator().get_schema(public=True), default=str))
OPERATIONS = {
    f"{one.ok().method.upper()} {one.ok().path}": one.ok()
    for one in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
}


def send(api: Any, case: Any, *, task_id: str | None) -> Any:
    """The made-up call, on a real task where an id is wanted and given."""
    parameters = {name: str(value) for name, value in (case.path_parameters or {}).items()}
    if task_id and "task_id" in parameters:
        parameters["task_id"] = task_id
    path = case.path
    for name, value in parameters.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    headers = {f"HTTP_{name.upper().replace('-', '_')}": v for name, v in case.headers.items()}
    query = {name: value for name, value in (case.query or {}).items() if value is not None}
    body, kind = _body(case)
    query_string = "&".join(f"{quote(str(k))}={quote(str(v))}" for k, v in query.items())
    extra = {"QUERY_STRING": query_string, **{k: str(v) for k, v in headers.items()}}
    return api.generic(case.method.upper(), path, body, content_type=kind, **extra)


def _body(case: Any) -> tuple[bytes, str]:
    kind = case.media_type or "application/json"
    if type(case.body).__name__ == "NotSet":
        return b"", kind
    if isinstance(case.body, bytes):
        return case.body, kind
    text = yaml.dump(case.body) if "yaml" in kind else json.dumps(case.body)
    return text.encode("utf-8", "surrogatepass"), kind


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_no_made_up_call_is_answered_with_5xx(api, dataset, make_task, name):
    task_id = make_task(status=Status.COMPLETED).id
    make_task()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[name].as_strategy(), real=st.booleans())
    def call(case: Any, real: bool) -> None:
        answer = send(api, case, task_id=task_id if real else None)

        # 503 of /readyz is an answer: no worker is there.
        assert answer.status_code < 500 or name == "GET /readyz", answer.content[:500]
        told = answer.get("Content-Type", "")
        if (
            answer.status_code >= HTTPStatus.BAD_REQUEST
            and "json" in told
            and "/readyz" not in name
        ):
            assert answer.json()["error"]["code"]

    call()
    assert TrainingTask.objects.count() >= 1


def test_every_call_of_the_description_is_tried():
    described = {
        f"{method.upper()} {path}" for path, calls in DOCUMENT["paths"].items() for method in calls
    }

    assert set(OPERATIONS) == described
    assert {"POST /api/train", "POST /api/validate"} <= described
