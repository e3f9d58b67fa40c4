"""JSON answers: what orjson can't write, the framework's own renderer does."""

import json
from datetime import UTC, datetime

import pytest
from django.utils.translation import gettext_lazy
from rest_framework.exceptions import ErrorDetail

from training.api.rendering import FastJSONRenderer


def rendered(data):
    return json.loads(FastJSONRenderer().render(data))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"a": "é\u2028", "b": [1, None, True]}, {"a": "é\u2028", "b": [1, None, True]}),
        ({"n": 2**70}, {"n": 2**70}),
        ({1: "a key that is no text"}, {"1": "a key that is no text"}),
        ({"e": ErrorDetail("wrong", code="invalid")}, {"e": "wrong"}),
        ({"t": gettext_lazy("Today")}, {"t": "Today"}),
        ({"x": float("nan")}, {"x": None}),
        ({"at": datetime(2026, 1, 2, tzinfo=UTC).isoformat()}, {"at": "2026-01-02T00:00:00+00:00"}),
    ],
)
def test_what_is_told_arrives(data, told):
    assert rendered(data) == told


def test_nothing_is_an_empty_body():
    assert FastJSONRenderer().render(None) == b""
