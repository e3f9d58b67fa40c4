"""The admin where it manages: presets, workers, rings; and dates over many rows."""

import re
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from tests.factories import WORKER, make_dataset, make_worker
from training import presets
from training.admin.dates import indexed
from training.models import Preset, TaskEvent, Worker
from training.work import queue

PRESETS = "/admin/training/preset/"
WORKERS = "/admin/training/worker/"


# ── Presets ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def linear(db):
    presets.load_shipped()
    return Preset.objects.get(name="linear-alpha158")


def form_of(text, **changes):
    return {
        "name": "ours",
        "title": "Ours",
        "description": "",
        "position": 5,
        "workflow": text,
    } | changes


def test_staff_adds_changes_and_removes_presets(admin, linear, dataset):
    admin.post(f"{PRESETS}add/", form_of(linear.workflow))
    admin.post(f"{PRESETS}ours/change/", form_of(linear.workflow, title="Better"))
    titles = list(Preset.objects.values_list("title", flat=True))
    admin.post(f"{PRESETS}ours/delete/", {"post": "yes"})

    assert titles[0] == "Better", "it is listed by its position"
    assert not Preset.objects.filter(name="ours").exists()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("estimator: ols", "estimater: ols", "task.model.kwargs.estimater"),
        ("class: LinearModel", "class: os.system", "task.model.class"),
        ("class: Alpha158", "klass: Alpha158", "task.dataset.kwargs.handler.class"),
        ("model:", "model: [", "workflow"),
    ],
)
def test_a_preset_that_could_not_run_is_refused_with_its_faults(
    admin, linear, dataset, old, new, told
):
    text = linear.workflow.replace(old, new, 1)

    answer = admin.post(f"{PRESETS}add/", form_of(text))

    assert answer.status_code == 200
    assert answer.context["errors"]
    assert told in str(answer.context["adminform"].form.errors)
    assert not Preset.objects.filter(name="ours").exists()


def test_a_torch_preset_can_be_kept_before_a_torch_worker_is_there(admin, linear, dataset):
    make_worker()
    text = Preset.objects.get(name="lstm-alpha360").workflow

    admin.post(f"{PRESETS}add/", form_of(text))

    assert Preset.objects.filter(name="ours").exists()


def test_a_preset_over_the_limit_is_refused_not_broken(admin, linear, dataset):
    answer = admin.post(f"{PRESETS}add/", form_of(linear.workflow + "#" * 131_072))

    assert answer.status_code == 200
    assert "larger than 128 KiB" in answer.content.decode()
    assert not Preset.objects.filter(name="ours").exists()


def test_a_preset_is_checked_on_the_default_dataset(admin, linear, dataset, settings):
    own = make_dataset("own")
    own.manifest["markets"]["little"] = ["AAA"]
    own.save()
    text = re.sub(
        "( +)infer_processors:", r"\1instruments: little\n\1infer_processors:", linear.workflow
    )

    refused = admin.post(f"{PRESETS}add/", form_of(text))
    settings.DEFAULT_DATASET = "own"
    admin.post(f"{PRESETS}add/", form_of(text))

    assert "little" in refused.content.decode()
    assert Preset.objects.filter(name="ours").exists()


def test_presets_are_no_business_of_others(admin_of, owner, linear):
    answer = admin_of(owner).post(f"{PRESETS}linear-alpha158/delete/", {"post": "yes"})

    assert answer.status_code == 302
    assert Preset.objects.filter(pk=linear.pk).exists()


# ── Workers and rings ───────────────────────────────────────────────────────────────────


def test_staff_drains_and_resumes_workers(admin, rings):
    make_worker()
    chosen = {"_selected_action": [WORKER]}

    admin.post(WORKERS, {"action": "drain", **chosen})
    drained = Worker.objects.get().draining
    admin.post(WORKERS, {"action": "resume", **chosen})

    assert drained
    assert not Worker.objects.get().draining
    assert rings == ["cpu"]


def test_rings_are_shown_to_superusers_only_and_change_nothing(
    admin_of, staff, owner, root, monkeypatch
):
    seen = {"name": "cpu", "waiting": 2, "started": 0, "failed": 1, "workers": ["w (idle)"]}
    monkeypatch.setattr(queue, "overview", lambda: [{**seen, "failures": ["<b>broke</b>"]}])

    pages = {user: admin_of(user).get(f"{WORKERS}rings/") for user in (root, staff, owner)}

    assert [page.status_code for page in pages.values()] == [200, 403, 302]
    page = pages[root].content.decode()
    assert "w (idle)" in page
    assert "&lt;b&gt;broke" in page
    inside = page[page.index("Rings only wake workers") : page.index("&lt;b&gt;broke")]
    assert "<form" not in inside
    assert admin_of(root).post(f"{WORKERS}rings/").status_code == 405
    assert b"rings/" in admin_of(root).get(WORKERS).content
    assert b"rings/" not in admin_of(staff).get(WORKERS).content


# ── Dates ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["year", "month", "day"])
def test_dates_by_index_are_those_that_django_finds(make_task, kind):
    task = make_task()
    days = [(2024, 2, 29), (2024, 2, 1), (2024, 12, 31), (2025, 1, 1), (2027, 6, 15)]
    for number, day in enumerate(days, start=10):
        TaskEvent.objects.create(
            task=task,
            seq=number,
            attempt=1,
            kind="log",
            status="pending",
            stage="queued",
            progress=0,
            at=datetime(*day, 23, 59, 59, 999_000, tzinfo=UTC),
        )
    rows = TaskEvent.objects.filter(kind="log")

    found = indexed(rows).datetimes("at", kind)

    assert found == list(QuerySet.datetimes(rows, "at", kind))
    assert indexed(rows.none()).datetimes("at", kind) == []


def test_lists_never_look_at_every_row(admin, make_task):
    """No list of different values, and no first and last in one: on SQLite both read it all."""
    make_task()

    with CaptureQueriesContext(connection) as asked:
        for model in ("trainingtask", "taskevent"):
            assert admin.get(f"/admin/training/{model}/").status_code == 200

    told = [query["sql"] for query in asked]
    ours = [sql for sql in told if "training_task" in sql or "training_training" in sql]
    assert ours
    assert not [sql for sql in ours if "DISTINCT" in sql]
    assert not [sql for sql in ours if "MIN(" in sql and "MAX(" in sql]


@pytest.mark.parametrize(
    "part", [slice(5), slice(13), slice(40), slice(41), slice(5, 13), slice(5, 41)]
)
def test_a_task_and_its_events_are_found_by_the_start_of_the_id(admin, make_task, part):
    task, other = make_task(), make_task()
    start = task.id[part]

    for model in ("trainingtask", "taskevent"):
        page = admin.get(f"/admin/training/{model}/?q={start}")
        found = {getattr(row, "task_id", row.pk) for row in page.context["cl"].result_list}
        assert task.id in found
        assert (other.id in found) == other.id.startswith((start, f"task-{start}"))


def test_the_journal_is_looked_through_by_date(admin, make_task):
    make_task()

    page = admin.get("/admin/training/taskevent/?at__year=2026")

    assert page.status_code == 200
