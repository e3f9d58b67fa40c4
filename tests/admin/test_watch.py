"""The admin: what staff sees, and that nothing is written past the services."""

import re

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.dashboard.conftest import TERMINAL
from tests.factories import events_of, make_worker
from training import tokens
from training.api.submit import EXAMPLE
from training.models import TaskEvent, TrainingTask
from training.states import Status

TASKS = "/admin/training/trainingtask/"
USERS = "/admin/auth/user/"


def act(client, action, *tasks, **more):
    data = {"action": action, "_selected_action": [task.id for task in tasks], **more}
    return client.post(TASKS, data, follow=True)


def said(response):
    return [str(message) for message in response.context["messages"]]


@pytest.mark.parametrize("model", ["trainingtask", "taskevent", "dataset", "worker"])
def test_staff_reads_every_list_and_changes_none(admin, make_task, dataset, model):
    task = make_task(status=Status.RUNNING)
    make_worker()
    row = {"trainingtask": task, "taskevent": task.events.first(), "dataset": dataset}.get(model)
    pk = row.pk if row else "worker-1"
    base = f"/admin/training/{model}/"

    assert admin.get(base).status_code == 200
    assert admin.get(f"{base}{pk}/change/").status_code == 200
    assert admin.post(f"{base}{pk}/change/", {"status": "failed"}).status_code == 403
    assert admin.get(f"{base}add/").status_code == 403
    assert admin.post(f"{base}{pk}/delete/", {"post": "yes"}).status_code == 403
    task.refresh_from_db()
    assert task.status == Status.RUNNING


def test_others_see_nothing_of_it(admin_of, owner, make_task):
    make_task(name="hidden")
    response = admin_of(owner).get(TASKS)

    assert response.status_code == 302
    assert response["Location"].startswith(reverse("admin:login"))


def test_the_list_shows_a_bar_that_the_script_finds(admin, make_task):
    task = make_task(status=Status.COMPLETED)
    page = admin.get(TASKS).content.decode()

    assert f'<progress data-task="{task.id}" max="100" value="100.0"></progress>' in page
    assert 'src="/static/training/admin.js"' in page


def test_the_list_shows_names_as_short_plain_text_and_rounds_figures(admin, make_task):
    task = make_task(name=f"{TERMINAL}{'x' * 150}")
    TrainingTask.objects.filter(pk=task.pk).update(ic=0.0123456789)

    page = admin.get(TASKS).content.decode()

    assert re.findall('<td class="field-title">(.*?)</td>', page) == [f"redreversed{'x' * 48}…"]
    assert ">0.0123<" in page


def test_the_list_asks_as_often_for_many_as_for_one_and_not_for_what_is_large(
    admin, make_task, stranger
):
    make_task()
    with CaptureQueriesContext(connection) as few:
        admin.get(TASKS)
    for _ in range(4):
        make_task(owner=stranger)
    with CaptureQueriesContext(connection) as many:
        admin.get(TASKS)

    # The filter by owner names one more person; it is still one question.
    assert len(many) == len(few)
    assert not any('"posted"' in query["sql"] for query in many)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("q=nomatch", 0),
        ("q=momen", 1),
        ("q=task-", 2),
        ("q=%25", 0),
        ("q=a+b+c", 0),
        ("status__exact=completed", 1),
        ("created_at__year=2001", 0),
    ],
)
def test_search_and_filters_find(admin, make_task, query, count):
    make_task(name="Momentum")
    make_task(name="other", status=Status.COMPLETED)

    page = admin.get(f"{TASKS}?{query}")

    assert page.status_code == 200
    assert page.context["cl"].result_count == count


def test_the_list_is_filtered_by_owner(admin, make_task, stranger):
    make_task()
    theirs = make_task(owner=stranger)

    page = admin.get(f"{TASKS}?owner__id__exact={stranger.pk}")

    assert [task.id for task in page.context["cl"].result_list] == [theirs.id]


def test_a_search_for_nul_does_not_fall_over(admin, make_task):
    make_task()

    assert admin.get(f"{TASKS}?q=%00").status_code == 400


def test_the_page_of_a_task_has_its_events_and_its_log(admin, make_task):
    task = make_task(status=Status.RUNNING, name="<script>alert(1)</script>")
    page = admin.get(f"{TASKS}{task.id}/change/").content.decode()

    assert "started on worker-1" in page
    assert f'href="/api/tasks/{task.id}/log"' in page
    assert "<script>alert(1)" not in page


def test_the_page_of_a_task_keeps_the_lines_of_its_workflow_and_leads_to_all_actions(
    admin, make_task
):
    task = make_task(posted="task:\n  model: {}\n", config={"task": {"model": 1}}, name=TERMINAL)

    page = admin.get(f"{TASKS}{task.id}/change/").content.decode()

    assert "<pre>task:\n  model: {}\n</pre>" in page
    assert "<pre>task:\n  model: 1\n</pre>" in page
    assert "<pre>redreversed</pre>" in page
    assert f'<a href="/tasks/{task.id}">with curves' in page
    assert f'<progress data-task="{task.id}"' in page


def test_figures_of_events_and_workers_are_said_as_people_say_them(admin, make_task):
    task = make_task()
    TaskEvent.objects.filter(task=task).update(progress=99.28736847013477, message=TERMINAL)
    make_worker()

    events = admin.get("/admin/training/taskevent/").content.decode()
    workers = admin.get("/admin/training/worker/").content.decode()

    assert ">99.3 %<" in events
    assert f">{task.id[5:13]}<" in events
    assert ">redreversed<" in events
    assert ">4.0 GiB<" in workers


def test_what_one_may_not_do_is_said_on_a_page_of_ours(admin, admin_of, root):
    told = admin.get(USERS)

    assert told.status_code == 403
    assert "You may not do this" in told.content.decode()
    index = admin.get("/admin/").content.decode()
    assert "Qlib Platform" in index
    assert "are for superusers" in index
    assert "are for superusers" not in admin_of(root).get("/admin/").content.decode()
    assert admin.get("/favicon.ico").url == "/static/training/mark.svg"


def test_who_has_tasks_is_not_deleted_and_the_tasks_are_named(admin_of, root, owner, make_task):
    for number in range(22):
        make_task(name=f"of the owner {number}")
    address = f"{USERS}{owner.pk}/delete/"

    told = admin_of(root).get(address).content.decode()
    admin_of(root).post(address, {"post": "yes"})

    assert told.count("of the owner ") == 20
    assert "and 2 more" in told
    assert "permission" not in told
    assert User.objects.filter(pk=owner.pk).exists()


def test_actions_go_through_the_services_and_name_each_refusal(admin, make_task, rings, dataset):
    pending = make_task(name="open one")
    final = make_task(name="done", status=Status.COMPLETED, config=EXAMPLE)

    cancelled = said(act(admin, "cancel", pending, final))
    retried = said(act(admin, "retry", final))

    assert len(cancelled) == 2
    assert any(one.startswith("done: ") and "completed already" in one for one in cancelled)
    assert any(one.startswith("1 cancelled") for one in cancelled)
    assert events_of(pending) == ["created", "cancelled"]
    assert retried == ["1 submitted again"]
    assert TrainingTask.objects.get(retry_of=final).status == Status.PENDING
    assert rings == ["cpu"]


def test_a_pin_holds_a_task_until_it_is_let_go(admin, make_task):
    task = make_task(status=Status.COMPLETED)

    act(admin, "pin", task)
    refused = said(act(admin, "delete", task, confirmed="yes"))
    act(admin, "unpin", task)
    asked = act(admin, "delete", task)
    still_there = TrainingTask.objects.filter(pk=task.pk).exists()
    done = said(act(admin, "delete", task, confirmed="yes"))

    assert "pinned" in refused[0]
    assert "do not come back" in asked.content.decode()
    assert still_there
    assert done == ["1 deleted"]
    assert not TrainingTask.objects.exists()


def test_djangos_own_delete_action_is_not_offered(admin, make_task):
    task = make_task(status=Status.COMPLETED)

    act(admin, "delete_selected", task, post="yes")

    assert TrainingTask.objects.filter(pk=task.pk).exists()
    assert 'value="delete_selected"' not in admin.get(TASKS).content.decode()


# ── Tokens ──────────────────────────────────────────────────────────────────────────────


def tokens_in(response):
    return re.findall(r"<code>(qp_\w+)</code>", response.content.decode())


def test_a_superuser_makes_a_token_that_is_shown_once_and_works(admin_of, root, owner):
    client = admin_of(root)
    data = {"action": "create_token", "_selected_action": [owner.pk]}

    response = client.post(USERS, data)
    later = client.get(USERS)

    (token,) = tokens_in(response)
    assert tokens.user_of(token) == owner
    assert "no-store" in response["Cache-Control"]
    assert token not in str(client.cookies) + later.content.decode()
    assert token not in str(apps.get_model("knox", "AuthToken").objects.values())


def test_who_may_change_users_makes_no_token_of_another_user(admin_of, staff, root):
    from django.contrib.auth.models import Permission

    staff.user_permissions.set(Permission.objects.filter(content_type__model="user"))
    client = admin_of(staff)

    refused = client.post(USERS, {"action": "create_token", "_selected_action": [root.pk]})
    own = client.post(USERS, {"action": "create_token", "_selected_action": [staff.pk]})

    assert refused.status_code == 302
    assert tokens.user_of(tokens_in(own)[0]) == staff
    assert apps.get_model("knox", "AuthToken").objects.count() == 1


def test_a_token_is_revoked_but_neither_made_nor_read_in_its_list(admin_of, root, owner):
    token = tokens.create(owner)
    client, base = admin_of(root), "/admin/knox/authtoken/"
    row = apps.get_model("knox", "AuthToken").objects.get()

    page = client.get(base).content.decode()
    assert client.get(f"{base}add/").status_code == 403
    client.post(f"{base}{row.pk}/delete/", {"post": "yes"})

    assert token not in page
    assert tokens.user_of(token) is None


def test_the_command_prints_a_working_token_and_nothing_else(owner, capsys):
    call_command("create_token", "owner")

    assert tokens.user_of(capsys.readouterr().out.strip()) == owner


def test_the_command_makes_none_for_who_is_not_there_or_shut_out(owner):
    User.objects.filter(pk=owner.pk).update(is_active=False)

    for name in ("owner", "nobody"):
        with pytest.raises(CommandError):
            call_command("create_token", name)
