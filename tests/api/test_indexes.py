"""Lists of a million tasks are read from indexes; seen in the plans of PostgreSQL."""

import pytest
from django.db import connection

from training.models import HEADLINES, TrainingTask
from training.task_lists import Order

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _as_if_there_were_many():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no index with its nulls last")
    with connection.cursor() as cursor:
        # With few rows any other way is quicker.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")


def plan(tasks):
    return tasks[:51].explain()


@pytest.mark.parametrize("metric", HEADLINES)
def test_the_best_by_a_metric_come_sorted_from_its_index(metric):
    told = plan(Order.parse(f"-{metric}").apply(TrainingTask.objects.all()))

    assert f"task_best_{metric} " in told
    assert "Sort" not in told


@pytest.mark.parametrize("column", ["model", "dataset"])
def test_the_newest_of_a_kind_come_sorted_from_its_index(column):
    told = plan(Order.parse("-created_at").apply(TrainingTask.objects.filter(**{column: "x"})))

    assert f"task_newest_of_{column} " in told
    assert "Sort" not in told
