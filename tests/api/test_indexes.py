"""Lists of many tasks are read from indexes; seen in the plans of both databases."""

import pytest
from django.db import connection

from training.models import HEADLINES, TrainingTask
from training.task_lists import Order, wanted

pytestmark = pytest.mark.django_db


@pytest.fixture
def _as_if_there_were_many():
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL's plans")
    with connection.cursor() as cursor:
        # With few rows any other way is quicker.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")


def plan(tasks):
    return tasks[:51].explain()


@pytest.mark.usefixtures("_as_if_there_were_many")
@pytest.mark.parametrize("metric", HEADLINES)
@pytest.mark.parametrize("sign", ["", "-"])
def test_the_best_and_the_worst_by_a_metric_come_sorted_from_its_index(metric, sign):
    for part in Order.parse(f"{sign}{metric}").parts(TrainingTask.objects.all(), None):
        told = plan(part)

        assert f"task_best_{metric} " in told
        assert "Sort" not in told


@pytest.mark.usefixtures("_as_if_there_were_many")
@pytest.mark.parametrize("column", ["model", "dataset"])
def test_the_newest_of_a_kind_come_sorted_from_its_index(column):
    tasks = TrainingTask.objects.filter(**{column: "x"})

    (part,) = Order.parse("-created_at").parts(tasks, None)

    told = plan(part)

    assert f"task_newest_of_{column} " in told
    assert "Sort" not in told


@pytest.mark.parametrize("metric", HEADLINES)
@pytest.mark.parametrize("sign", ["", "-"])
def test_sqlite_too_sorts_no_list_by_itself(metric, sign):
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's plans")
    tasks = TrainingTask.objects.select_related("owner")

    for part in Order.parse(f"{sign}{metric}").parts(tasks, None):
        told = plan(part)

        assert f"USING INDEX task_best_{metric}" in told
        assert "TEMP B-TREE" not in told


def test_a_part_of_a_name_comes_from_an_index():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite reads every name")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
        if not cursor.fetchone():
            pytest.skip("this PostgreSQL has no pg_trgm")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_indexscan = off")

    told = plan(TrainingTask.objects.filter(wanted({"q": "nightly"})))

    assert "task_part_of_name" in told


def test_sqlite_looks_for_a_part_of_a_name_in_an_index_and_not_in_every_task():
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's plan")
    (part,) = Order.parse("-created_at").parts(
        TrainingTask.objects.filter(wanted({"q": "nightly"})), None
    )

    told = plan(part)

    assert "USING INDEX task_newest_named" in told
    assert "TEMP B-TREE" not in told
