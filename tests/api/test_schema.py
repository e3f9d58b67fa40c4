"""The OpenAPI document is valid, complete, and true to what is answered."""

import re

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from tests.api.result_files import TEST_2018, completed, keep_outcomes
from tests.factories import make_worker


@pytest.fixture
def document(api):
    return api.get("/api/schema").json()


def test_the_document_is_valid_openapi_3_1(document):
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_every_route_is_in_the_document(document):
    from training.api.urls import urlpatterns

    told = {re.sub(r"\{.*?\}", "{}", path).strip("/") for path in document["paths"]}
    unsaid = {"schema", "docs", "docs-asset", "nowhere"}
    ours = {
        re.sub(r"<.*?>", "{}", str(one.pattern)) for one in urlpatterns if one.name not in unsaid
    }

    assert ours <= told


def test_every_call_is_described_and_names_its_errors(document):
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            assert call.get("description"), (method, path)
            codes = set(call["responses"])
            if path not in {"/healthz"} and not path.startswith("/api/schema"):
                assert "401" in codes, (method, path)


def test_the_page_asks_nothing_of_another_server(api):
    page = api.get("/api/docs").content.decode()
    script = api.get("/api/docs?script=").content.decode()

    assert "/api/docs/swagger-ui-bundle.js" in page
    assert "/api/schema" in script
    assert re.findall(r"(?:https?:)?//[a-z]", page + script) == []
    for asset in re.findall(r'"(/api/docs/[\w.-]+)"', page):
        assert api.get(asset).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/tasks",
        "/api/tasks/{task_id}",
        "/api/tasks/{task_id}/events",
        "/api/tasks/{task_id}/metrics",
        "/api/tasks/{task_id}/artifacts",
        "/api/tasks/{task_id}/report",
        "/api/tasks/{task_id}/predictions",
        "/api/tasks/{task_id}/positions",
        "/api/datasets",
        "/api/features",
        "/api/presets",
        "/api/workers",
        "/api/leaderboard",
        "/api/compare",
        "/api/datasets/{name}",
        "/api/queues",
        "/healthz",
        "/readyz",
    ],
)
def test_what_is_answered_has_the_shape_that_the_document_tells(
    api, owner, dataset, document, path
):
    make_worker()
    task = completed(owner, tags=["t"], **TEST_2018)
    keep_outcomes(task, scores=[["AAA", 0.5, None]], positions=[["AAA", 1, 2, 0.5]])

    other = completed(owner, **TEST_2018)
    query = f"?task={task.id}&task={other.id}" if path == "/api/compare" else ""
    address = path.replace("{task_id}", task.id).replace("{name}", "demo")

    answer = api.get(address + query)

    shape = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
    schema = {**strict(document), **shape["schema"]}
    assert answer.status_code == 200
    faults = [error.message for error in OAS31Validator(schema).iter_errors(answer.json())]
    assert faults == []


def strict(document):
    """The document's components; an object may have no more than its named properties."""
    components = document["components"]["schemas"]
    closed = {
        name: {**schema, "additionalProperties": False} if "properties" in schema else schema
        for name, schema in components.items()
    }
    return {"components": {"schemas": closed}}


def test_errors_have_the_shape_that_the_document_tells(api, dataset, document):
    answer = api.post("/api/train", {"task": 1}, format="json")

    shape = document["paths"]["/api/train"]["post"]["responses"]["400"]["content"]
    schema = {**strict(document), **shape["application/json"]["schema"]}
    assert answer.status_code == 400
    assert [error.message for error in OAS31Validator(schema).iter_errors(answer.json())] == []
