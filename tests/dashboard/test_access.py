"""Who sees which page, and what a page may do in a browser."""

import pytest
from django.urls import reverse

from tests.dashboard.conftest import NASTY, TERMINAL
from training import lifecycle
from training.lifecycle import News
from training.models import TrainingTask
from training.states import Status

PAGES = [
    "page-tasks",
    "page-new",
    "page-leaderboard",
    "page-compare",
    "page-workers",
    "page-datasets",
]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_who_one_is(name, browser_of, owner, dataset):
    answer = browser_of(None).get(reverse(name))

    assert answer.status_code == 302
    assert answer.url.startswith("/sign-in?next=")
    assert browser_of(owner).get(reverse(name)).status_code == 200


@pytest.mark.parametrize(("who", "expected"), [("owner", 200), ("staff", 200), ("stranger", 404)])
def test_a_task_page_is_for_its_owner_and_staff(who, expected, request, browser_of, make_task):
    task = make_task(name="mine")
    browser = browser_of(request.getfixturevalue(who))

    assert browser.get(reverse("page-task", args=[task.id])).status_code == expected
    listed = browser.get(reverse("page-tasks")).content.decode()
    assert (task.id in listed) == (expected == 200)


def test_a_stranger_can_do_nothing_to_a_task(browser_of, stranger, make_task):
    task = make_task()
    browser = browser_of(stranger)

    for deed in ("cancel", "finish", "retry", "pin", "unpin", "delete"):
        url = reverse("page-deed", args=[task.id, deed])
        assert browser.post(url, {"sure": "yes"}).status_code == 404, deed
    browser.post(reverse("page-act"), {"deed": "cancel", "task": task.id, "sure": "yes"})

    assert TrainingTask.objects.get(pk=task.id).status == Status.PENDING
    assert TrainingTask.objects.count() == 1


def test_signing_in_leads_back_and_out_again(browser_of, owner, dataset):
    browser = browser_of(None)

    page = browser.post("/sign-in", {"username": "owner", "password": "wrong"})
    assert "correct username" in page.content.decode()
    for way in ("make run", "qlib-manage createsuperuser"):
        assert way in page.content.decode()
    answer = browser.post(
        "/sign-in?next=/datasets",
        {"username": "owner", "password": "owner-secret", "next": "/datasets"},
    )
    assert answer.url == "/datasets"
    assert browser.post("/sign-out").url == "/sign-in"
    assert browser.get("/").status_code == 302


@pytest.mark.parametrize(
    ("deed", "page"),
    [
        ("/tasks/{}/cancel", "/tasks/{}"),
        ("/tasks/act", "/"),
        ("/workers/worker-1/drain", "/workers"),
    ],
)
def test_who_was_signed_out_before_a_deed_comes_back_to_its_page(
    browser_of, owner, make_task, deed, page
):
    task = make_task()
    browser = browser_of(None)
    deed, page = deed.format(task.id), page.format(task.id)

    asked = browser.post(deed)
    form = {"username": "owner", "password": "owner-secret", "next": deed}
    back = browser.post(asked.url, form, follow=True)

    assert back.redirect_chain == [(deed, 302), (page, 302)]
    assert "nothing was done" in back.content.decode()
    assert TrainingTask.objects.get(pk=task.id).status == Status.PENDING


def test_every_answer_forbids_foreign_and_inline_code(browser, make_task):
    task = make_task()
    for url in ("/", "/new", "/sign-in", "/nowhere", f"/tasks/{task.id}", "/api/tasks", "/admin/"):
        answer = browser.get(url)
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe-inline" not in policy, url
        assert "unsafe-eval" not in policy, url
        assert "default-src 'none'" in policy, url
        if answer.headers.get("Content-Type", "").startswith("text/html") and url != "/admin/":
            text = answer.content.decode()
            assert " style=" not in text, url
            assert " onclick=" not in text, url
            assert "<script>" not in text, url


NUL = [
    "/?q=%00",
    "/compare?tasks=%00",
    "/new?like=%00",
    "/new?dataset=demo%00",
    "/new?preset=%00",
    "/leaderboard?dataset=%00",
    "/datasets/%00",
    "/sign-in?next=%00",
    "/admin/training/trainingtask/?dataset=%00",
]


@pytest.mark.parametrize("address", NUL)
def test_an_address_with_nul_is_refused_whatever_the_database_makes_of_it(
    address, browser_of, staff, dataset
):
    assert browser_of(staff).get(address).status_code in (400, 404)


def test_what_people_and_trainings_write_stays_text(browser, make_task):
    task = make_task(
        name=NASTY, tags=[NASTY], posted=NASTY + TERMINAL, config={"task": {"a": NASTY + TERMINAL}}
    )
    running = lifecycle._claim(task.id, worker="w")
    lifecycle.report(
        task.id,
        News(message=NASTY + TERMINAL, log=NASTY + TERMINAL + "\n"),
        attempt=running.attempt,
    )
    lifecycle.fail(task.id, attempt=running.attempt, code="training_error", error=NASTY + TERMINAL)

    for url in ("/", f"/tasks/{task.id}", f"/new?like={task.id}", "/workers"):
        text = browser.get(url).content.decode()
        assert NASTY not in text, url
        assert "\x1b" not in text.partition("<textarea")[0], url
        assert "\u202e" not in text.partition("<textarea")[0], url
    assert "&lt;script&gt;" in browser.get(f"/tasks/{task.id}").content.decode()


def test_an_address_that_is_none_gets_a_page(browser):
    answer = browser.get("/tasks/task-nothing")

    assert answer.status_code == 404
    assert "There is nothing here" in answer.content.decode()
