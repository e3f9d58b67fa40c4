"""Claims on shared columns: made once, taken over from the dead, kept within the limit."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.db.models.functions import Now

from tests.factories import start
from training import features, lifecycle
from training.features import Kept, Maker
from training.models import FeatureColumn, TrainingTask
from training.states import Status

pytestmark = pytest.mark.django_db

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def running(make_task):
    """`running()`: the maker of a task that runs."""

    def begin() -> Maker:
        task = make_task(status=Status.RUNNING)
        return Maker(task.id, task.attempt)

    return begin


def keep(maker, *keys, size=100):
    features.claim(keys, maker=maker)
    features.publish({key: Kept(size, f"sum-{key[0]}") for key in keys}, maker=maker)


def age(key, *, hours):
    FeatureColumn.objects.filter(key=key).update(last_used_at=Now() - timedelta(hours=hours))


def test_of_two_that_want_the_same_columns_one_makes_and_the_other_waits_for_it(running):
    first, second = running(), running()

    ours = features.claim([A, B], maker=first)
    theirs = features.claim([B, C], maker=second)

    assert ours.make == {A, B}
    assert (theirs.make, theirs.wait, theirs.ready) == ({C}, {B: first.task_id}, {})


def test_a_column_that_was_published_is_ready_for_everybody_with_its_checksum(running):
    first, second = running(), running()
    keep(first, A)

    found = features.claim([A], maker=second)

    assert found.ready == {A: Kept(100, "sum-a")}
    assert not found.make
    assert not found.wait


def test_the_claims_of_a_task_that_ended_are_taken_over(running):
    dead, alive = running(), running()
    features.claim([A, B], maker=dead)
    keep(dead, C)
    lifecycle.fail(dead.task_id, attempt=dead.attempt, code="training_killed", error="gone")

    found = features.claim([A, B, C], maker=alive)

    assert found.make == {A, B}
    assert set(found.ready) == {C}


def test_the_claims_of_a_leader_whose_lease_is_over_are_taken_over(running):
    silent, alive = running(), running()
    features.claim([A], maker=silent)
    row = TrainingTask.objects.filter(pk=silent.task_id)
    row.update(lease_until=Now() - timedelta(seconds=1))

    assert features.claim([A], maker=alive).make == {A}


def test_a_claim_that_was_renewed_between_two_statements_is_not_taken_over(running):
    alive, other = running(), running()
    features.claim([A], maker=alive)

    features._take([], [A], maker=other)

    assert features.claim([A], maker=other).wait == {A: alive.task_id}


def test_the_next_attempt_of_a_task_takes_over_what_its_first_had_claimed(make_task):
    task = make_task(status=Status.RUNNING)
    features.claim([A], maker=Maker(task.id, task.attempt))
    lifecycle.requeue(task.id, attempt=task.attempt, reason="host_lost")
    again = start(task)

    assert features.claim([A], maker=Maker(task.id, again.attempt)).make == {A}


def test_a_maker_that_lost_its_claim_publishes_nothing(running):
    silent, alive = running(), running()
    features.claim([A], maker=silent)
    row = TrainingTask.objects.filter(pk=silent.task_id)
    row.update(lease_until=Now() - timedelta(seconds=1))
    features.claim([A], maker=alive)

    features.publish({A: Kept(100, "stale")}, maker=silent)

    assert features.recorded(A) is None
    assert features.claim([A], maker=alive).make == {A}


def test_what_was_given_up_is_free_and_the_rest_stays_claimed(running):
    first, second = running(), running()
    features.claim([A, B], maker=first)

    features.give_up(first, [A])

    found = features.claim([A, B], maker=second)
    assert (found.make, set(found.wait)) == ({A}, {B})


def test_giving_up_all_leaves_what_is_ready(running):
    first = running()
    keep(first, A)
    features.claim([B], maker=first)

    features.give_up(first)

    assert set(FeatureColumn.objects.values_list("key", flat=True)) == {A}


def test_a_damaged_column_is_dropped_once_and_then_made_anew(running):
    first, second = running(), running()
    keep(first, A)

    assert features.drop(A, checksum="sum-a")
    assert not features.drop(A, checksum="sum-a")
    assert features.claim([A], maker=second).make == {A}


def test_a_column_outlives_the_task_that_made_it(running):
    first, second = running(), running()
    keep(first, A)
    lifecycle.fail(first.task_id, attempt=first.attempt, code="training_error", error="x")

    lifecycle.delete(first.task_id)

    assert set(features.claim([A], maker=second).ready) == {A}


def test_as_many_columns_as_a_wide_handler_has_are_claimed_in_few_statements(
    running, django_assert_max_num_queries
):
    keys = [f"{number:064d}" for number in range(361)]
    maker = running()

    with django_assert_max_num_queries(9):
        found = features.claim(keys, maker=maker)
    with django_assert_max_num_queries(12):
        features.publish({key: Kept(1, "s") for key in keys}, maker=maker)
    with django_assert_max_num_queries(4):
        again = features.claim(keys, maker=maker)

    assert found.make == set(keys)
    assert set(again.ready) == set(keys)


# ── Room ────────────────────────────────────────────────────────────────────────────────


def test_the_least_recently_used_columns_go_first_and_no_more_than_needed(running, settings):
    settings.FEATURES_MAX_BYTES = 300
    ended = running()
    keep(ended, A, B, C)
    age(A, hours=2)
    age(B, hours=3)
    age(C, hours=1)
    lifecycle.fail(ended.task_id, attempt=ended.attempt, code="training_error", error="x")

    assert features.make_room(150) == (True, [B, A])
    assert set(FeatureColumn.objects.values_list("key", flat=True)) == {C}
    assert features.figures()["evicted"] == 2


def test_what_a_running_task_may_have_mapped_stays_and_nothing_new_fits(running, settings):
    settings.FEATURES_MAX_BYTES = 100
    keep(running(), A)

    assert features.make_room(1) == (False, [])
    assert features.recorded(A)


def test_a_column_is_used_again_by_whoever_asks_for_it(running, settings):
    settings.FEATURES_MAX_BYTES = 200
    first = running()
    keep(first, A, B)
    age(A, hours=3)
    age(B, hours=2)

    features.claim([A], maker=running())

    assert features.make_room(100) == (True, [B])


def test_with_room_nothing_goes(running, settings):
    settings.FEATURES_MAX_BYTES = 300
    keep(running(), A, B)

    assert features.make_room(100) == (True, [])


def test_the_figures_count_rows_and_add_up_over_tasks(running, settings):
    settings.FEATURES_MAX_BYTES = 1000
    maker = running()
    keep(maker, A, B)
    features.claim([C], maker=maker)
    features.count(hits=2, misses=1)
    features.count(hits=3)

    told = features.figures()

    assert told == {
        "columns": 2,
        "making": 1,
        "bytes": 200,
        "limit_bytes": 1000,
        "hits": 5,
        "misses": 1,
        "bytes_read": 0,
        "bytes_written": 0,
        "damaged": 0,
        "evicted": 0,
    }


@pytest.mark.django_db(transaction=True)
def test_however_many_ask_at_once_each_column_has_one_maker(running):
    makers = [running() for _ in range(6)]
    keys = [f"{number:064d}" for number in range(200)]
    start_line = threading.Barrier(len(makers))

    def ask(number: int) -> set[str]:
        mine = keys[number * 10 :] + keys[: number * 10]
        start_line.wait(20)
        try:
            while True:
                # SQLite in memory refuses where a file would wait; asking again is harmless.
                with suppress(OperationalError):
                    return features.claim(mine, maker=makers[number]).make
        finally:
            connection.close()

    with ThreadPoolExecutor(len(makers)) as pool:
        made = list(pool.map(ask, range(len(makers))))

    assert sum(len(one) for one in made) == len(keys)
    assert set().union(*made) == set(keys)
