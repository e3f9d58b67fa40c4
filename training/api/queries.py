"""What may stand behind the question mark of each call; anything else is refused by name."""

from functools import cache
from typing import Any, TypeVar

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from training.models import HEADLINES
from training.states import Status
from training.task_lists import ORDERINGS

MAX_INT = 2**31 - 1
MAX_OFFSET = 2**63 - 1
MAX_PAGE = 200
MAX_EVENTS = 1_000
MAX_POINTS = 10_000
MAX_COMPARED = 20

_Query = TypeVar("_Query", bound=serializers.Serializer[Any])


class NoQuery(serializers.Serializer[Any]):
    """Of a call that takes no parameters."""


class TaskListQuery(serializers.Serializer[Any]):
    """Filters, order and page of the list of tasks."""

    status = serializers.MultipleChoiceField(
        choices=Status.choices, required=False, help_text="repeat it for several"
    )
    owner = serializers.CharField(required=False, max_length=150, help_text="a username")
    dataset = serializers.CharField(required=False, max_length=64)
    model = serializers.CharField(required=False, max_length=64)
    tag = serializers.CharField(required=False, max_length=50)
    q = serializers.CharField(
        required=False,
        max_length=200,
        help_text="the start of an id, with or without `task-`, or a part of a name",
    )
    created_after = serializers.DateTimeField(required=False, help_text="at or after it")
    created_before = serializers.DateTimeField(required=False, help_text="before it")
    ordering = serializers.ChoiceField(
        choices=ORDERINGS,
        default="-created_at",
        help_text="tasks without the metric come last; equal ones newest first, or upwards oldest",
    )
    cursor = serializers.CharField(required=False, max_length=1_000, help_text="as `next` has it")
    limit = serializers.IntegerField(default=50, min_value=1, max_value=MAX_PAGE)


class EventsQuery(serializers.Serializer[Any]):
    """A part of a task's events."""

    after = serializers.IntegerField(
        default=0, min_value=0, max_value=MAX_INT, help_text="the last `seq` that was seen"
    )
    limit = serializers.IntegerField(default=MAX_EVENTS, min_value=1, max_value=MAX_EVENTS)


class LogQuery(serializers.Serializer[Any]):
    """A part of an attempt's log."""

    attempt = serializers.IntegerField(
        required=False, min_value=1, max_value=MAX_INT, help_text="the newest by default"
    )
    offset = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_OFFSET,
        help_text="a byte of the log's UTF-8 text: at most 1 MiB from there; all of it if absent",
    )


class CurvesQuery(serializers.Serializer[Any]):
    """Which curves of an attempt, and how finely."""

    attempt = serializers.IntegerField(
        required=False, min_value=1, max_value=MAX_INT, help_text="the newest by default"
    )
    name = serializers.CharField(required=False, max_length=100, help_text="one curve only")
    points = serializers.IntegerField(
        required=False,
        min_value=3,
        max_value=MAX_POINTS,
        help_text="at most so many of each curve, chosen so that it keeps its shape",
    )
    cursor = serializers.CharField(required=False, max_length=1_000, help_text="as `next` has it")


class PresetsQuery(serializers.Serializer[Any]):
    """To what presets are to be fitted."""

    dataset = serializers.CharField(
        required=False, max_length=64, help_text="the default one if absent, else the first"
    )


class CoverageQuery(serializers.Serializer[Any]):
    """How finely the coverage is wanted."""

    points = serializers.IntegerField(
        default=500, min_value=10, max_value=MAX_POINTS, help_text="at most so many days"
    )


class CompareQuery(serializers.Serializer[Any]):
    """What to lay over each other, and how finely."""

    task = serializers.ListField(
        child=serializers.CharField(max_length=41),
        min_length=2,
        max_length=MAX_COMPARED,
        help_text="an id; repeat it for each task",
    )
    points = serializers.IntegerField(
        default=500, min_value=10, max_value=MAX_POINTS, help_text="at most so many days of each"
    )


class LeaderboardQuery(serializers.Serializer[Any]):
    """Which board; of several that fit, the one with the newest task."""

    dataset = serializers.CharField(required=False, max_length=64)
    dataset_version = serializers.CharField(required=False, max_length=64)
    test_from = serializers.DateField(required=False)
    test_to = serializers.DateField(required=False)
    order = serializers.ChoiceField(choices=HEADLINES, default="information_ratio")
    limit = serializers.IntegerField(default=50, min_value=1, max_value=MAX_PAGE)


class OutcomesQuery(serializers.Serializer[Any]):
    """Which rows of the predictions or positions."""

    date = serializers.DateField(required=False, help_text="the newest, if no instrument is given")
    instrument = serializers.CharField(required=False, max_length=64)
    offset = serializers.IntegerField(default=0, min_value=0, max_value=MAX_INT)
    limit = serializers.IntegerField(default=1_000, min_value=1, max_value=MAX_POINTS)

    def get_fields(self) -> dict[str, Any]:
        """`as` is a word of Python's, so it can't be an attribute."""
        form = serializers.ChoiceField(
            choices=["json", "csv"], default="json", help_text="CSV has all rows at once"
        )
        return {**super().get_fields(), "as": form}


class ReportQuery(serializers.Serializer[Any]):
    """How finely a report is wanted."""

    points = serializers.IntegerField(
        required=False,
        min_value=10,
        max_value=MAX_POINTS,
        help_text="at most so many days of each block, chosen so that its series keep their shape",
    )


def read(request: Request, kind: type[_Query]) -> dict[str, Any]:
    """The request's parameters, checked; an empty one is one not given. Raises: ValidationError."""
    given = QueryDict(mutable=True)
    for name, values in request.query_params.lists():
        for value in filter(None, values):
            given.appendlist(name, value)
    query = _checker(kind)
    unknown = sorted(set(request.query_params) - set(query.fields))
    if unknown:
        known = ", ".join(query.fields)
        raise ValidationError(
            dict.fromkeys(unknown, f"not a parameter of this call; it takes {known}")
        )
    asked: dict[str, Any] = query.run_validation(given)
    return asked


@cache
def _checker(kind: type[_Query]) -> _Query:
    """The serializer, made once: making its fields takes longer than checking them."""
    return kind()
