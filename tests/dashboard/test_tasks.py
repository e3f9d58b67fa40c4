"""The list: filters and order in the address, pages by cursor, bulk deeds after a question."""

import re
from html import escape

import pytest

from training.events import instant
from training.models import TrainingTask
from training.states import Status


def names(answer) -> list[str]:
    return re.findall(r'<td class="name"><a [^>]*>([^<]*)<', answer.content.decode())


def test_filters_in_the_address_narrow_the_list(browser, make_task):
    make_task(name="alpha one", tags=["keep"])
    make_task(name="beta two", status=Status.COMPLETED, model="XGBModel")

    for query, expected in {
        "": ["beta two", "alpha one"],
        "?q=alpha": ["alpha one"],
        "?status=completed&status=failed": ["beta two"],
        "?model=XGBModel": ["beta two"],
        "?tag=keep": ["alpha one"],
        "?dataset=other": [],
        "?created_after=2020-01-01&created_before=2100-01-01": ["beta two", "alpha one"],
        "?created_after=2100-01-01": [],
        "?created_before=2020-01-01": [],
        "?ordering=created_at": ["alpha one", "beta two"],
        "?ordering=-ic": ["beta two", "alpha one"],
    }.items():
        assert names(browser.get("/" + query)) == expected, query


def test_a_narrowed_list_says_too_how_new_the_newest_task_is(browser, make_task, stranger):
    make_task(name="old")
    mine = make_task(name="new")
    make_task(name="foreign", owner=stranger)

    text = browser.get("/?q=old").content.decode()

    assert f'data-newest="{instant(mine.created_at)}"' in text


def test_the_filters_offer_what_there_is_and_show_what_is_asked(browser, make_task):
    page = browser.get("/?created_after=2026-01-02&model=GoneModel").content.decode()

    assert "<option>LGBModel</option>" in page
    assert "<option selected>GoneModel</option>" in page
    assert 'type="date" name="created_after" value="2026-01-02"' in page


def test_a_task_is_found_by_its_id_as_the_list_shows_it(browser, make_task):
    task = make_task(name="sought", id="task-9ae50d3b-4f6d-4c8e-9d5c-0c8f5d1b2a3c")
    make_task(name="2020 and on")
    shown = task.id[5:13]
    assert f'<span class="mono">{shown}</span>' in browser.get("/").content.decode()

    for text in (shown, task.id[5:], task.id, task.id[:9]):
        assert names(browser.get(f"/?q={text}")) == ["sought"], text
    assert names(browser.get("/?q=2020")) == ["2020 and on"], "a number in a name is found too"


def test_a_filter_without_sense_is_told_and_left_out(browser, make_task):
    make_task(name="here")

    answer = browser.get("/?status=weird&ordering=posted")

    assert names(answer) == ["here"]
    assert "Left out" in answer.content.decode()


def test_pages_show_every_task_once(browser, make_task, monkeypatch):
    from training.dashboard import task_list

    monkeypatch.setattr(task_list, "PAGE", 2)
    for number in range(5):
        make_task(name=f"task {number}")
    url, seen = "/", []

    while url:
        answer = browser.get(url)
        seen += names(answer)
        following = re.search(r'href="(\?[^"]*)" rel="next"', answer.content.decode())
        url = "/" + following[1].replace("&amp;", "&") if following else ""

    assert seen == [f"task {number}" for number in (4, 3, 2, 1, 0)]


def test_a_bad_cursor_and_empty_fields_leave_the_address_and_nothing_else(browser, make_task):
    asked = "status=completed&status=failed&dataset=demo"

    assert browser.get(f"/?{asked}&cursor=zzz").url == f"/?{asked}"
    assert browser.get(f"/?q=&{asked}&model=&tag=").url == f"/?{asked}"
    assert browser.get("/?q=&model=").url == "/"
    assert browser.get(f"/?{asked}").status_code == 200


@pytest.mark.parametrize(
    ("deed", "status"), [("cancel", Status.PENDING), ("delete", Status.FAILED)]
)
def test_a_bulk_deed_asks_first_and_tells_of_what_was_refused(browser, make_task, deed, status):
    good, bad = make_task(status=status), make_task(status=Status.COMPLETED, pinned=True)
    asked = {"deed": deed, "task": [good.id, bad.id]}

    question = browser.post("/tasks/act", asked)
    assert "Yes, " + deed in question.content.decode()
    assert TrainingTask.objects.get(pk=good.id).status == status
    told = browser.post("/tasks/act", {**asked, "sure": "yes"}, follow=True).content.decode()

    assert "1 " in told
    assert 'class="error"' in told
    left = TrainingTask.objects.filter(pk=good.id).first()
    assert left is None if deed == "delete" else left.status == Status.CANCELLED
    assert TrainingTask.objects.get(pk=bad.id).status == Status.COMPLETED


def test_a_question_leads_back_to_where_it_was_asked(browser, make_task):
    task = make_task(status=Status.FAILED)
    listed = "/?status=failed&dataset=demo"
    assert f'name="next" value="{escape(listed)}"' in browser.get(listed).content.decode()
    asked = {"deed": "delete", "task": task.id, "next": listed}

    from_list = browser.post("/tasks/act", asked).content.decode()
    from_task = browser.post(f"/tasks/{task.id}/delete").content.decode()
    answer = browser.post("/tasks/act", {**asked, "sure": "yes"})

    assert f'href="{escape(listed)}">No' in from_list
    assert f'name="next" value="{escape(listed)}"' in from_list
    assert f'href="/tasks/{task.id}">No' in from_task
    assert answer.url == listed


@pytest.mark.parametrize("place", ["https://evil.example/", "//evil.example", "javascript:x", ""])
def test_a_form_leads_nowhere_but_here(browser, make_task, place):
    asked = {"deed": "cancel", "task": make_task().id, "next": place, "sure": "yes"}

    assert browser.post("/tasks/act", asked).url == "/"


def test_a_question_counts_its_tasks(browser, make_task):
    one, two = make_task(), make_task()

    def question(*tasks):
        asked = {"deed": "cancel", "task": [task.id for task in tasks]}
        return browser.post("/tasks/act", asked).content.decode()

    assert "Cancel this task?" in question(one)
    assert "Cancel these tasks?" in question(one, two)


@pytest.mark.parametrize("deed", ["compare", "cancel"])
def test_too_few_chosen_tasks_are_told(browser, make_task, deed):
    chosen = [make_task().id] if deed == "compare" else []

    told = browser.post("/tasks/act", {"deed": deed, "task": chosen, "next": "/?q=x"}, follow=True)

    assert told.redirect_chain == [("/?q=x", 302)]
    assert "Too few tasks are chosen" in told.content.decode()
