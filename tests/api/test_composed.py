"""What is composed once gives what the query would give, each time."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from training.api.composed import Composed
from training.api.tasks import SHOWN
from training.models import TrainingTask
from training.states import Status

pytestmark = pytest.mark.django_db


def test_it_gives_the_rows_of_the_query(make_task, owner, stranger):
    old = make_task(status=Status.COMPLETED)
    tasks = [old, make_task(status=Status.RUNNING, retry_of=old, tags=["a"])]
    columns = SHOWN.values()
    composed = Composed(
        # Their order in the SQL is Django's to choose.
        lambda owner, pk: (
            TrainingTask.objects.filter(owner_id=owner).filter(pk=pk).values_list(*columns)
        ),
        0,
        "task",
    )

    for task in tasks:
        wanted = TrainingTask.objects.filter(pk=task.pk).values_list(*columns)
        assert composed.ask(owner.pk, task.pk) == list(wanted)
        assert composed.ask(stranger.pk, task.pk) == []


def test_it_asks_the_database_once_and_composes_nothing(make_task, django_assert_num_queries):
    task = make_task()
    asked = []

    def rows(pk):
        asked.append(pk)
        return TrainingTask.objects.filter(pk=pk).values_list("name")

    composed = Composed(rows, "task")
    composed.ask(task.pk)

    with django_assert_num_queries(1):
        assert composed.ask(task.pk) == [(task.name,)]
    assert asked == ["task"]


@pytest.mark.django_db(transaction=True)
def test_other_threads_ask_by_their_own_connection(make_task):
    task = make_task()
    composed = Composed(lambda pk: TrainingTask.objects.filter(pk=pk).values_list("config"), "task")
    here = composed.ask(task.pk)

    def there():
        try:
            return composed.ask(task.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(there).result() == here == [(task.config,)]
