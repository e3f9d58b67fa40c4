"""Workers, queues and datasets."""

import re
from datetime import timedelta

from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from tests.api.result_files import TEST_2018, completed
from tests.factories import make_dataset, make_worker, move
from training.models import Worker
from training.states import Status


def test_workers_tell_whether_they_live_and_what_they_run(browser, make_task):
    make_worker("worker-1")
    make_worker("worker-2")
    Worker.objects.filter(name="worker-2").update(seen_at=Now() - timedelta(hours=2))
    move(make_task(name="in work"), Status.RUNNING)
    make_task(queue="gpu")

    text = browser.get("/workers").content.decode()

    assert "1 alive" in text
    assert "in work" in text
    assert "gone" in text
    assert "no worker" in text


def test_a_foreign_task_on_a_worker_is_not_named(browser_of, stranger, make_task):
    make_worker("worker-1")
    move(make_task(name="secret"), Status.RUNNING)

    assert "secret" not in browser_of(stranger).get("/workers").content.decode()


def test_the_staff_drains_a_worker_and_nobody_else(browser_of, owner, staff):
    make_worker("worker-1")

    told = browser_of(owner).post("/workers/worker-1/drain", {"draining": "yes"}, follow=True)
    assert "by the staff" in told.content.decode()
    assert not Worker.objects.get().draining
    assert "Drain" not in browser_of(owner).get("/workers").content.decode()
    told = browser_of(staff).post("/workers/worker-1/drain", {"draining": "yes"}, follow=True)
    assert "Resume" in told.content.decode()
    assert Worker.objects.get().draining
    browser_of(staff).post("/workers/worker-1/drain", {"draining": "no"})
    assert not Worker.objects.get().draining


def test_a_dataset_shows_its_reach_and_its_holes(browser, settings):
    row = make_dataset("holey", version="9cac2c50da6190f9")
    days = [day for day in row.manifest["days"] if not "2012-03-01" <= day <= "2012-03-20"]
    row.manifest["days"] = days
    row.save(update_fields=["manifest"])
    (settings.DATASETS_DIR / "holey" / row.version).mkdir(parents=True)

    text = browser.get("/datasets").content.decode()

    assert "worth a look" in text
    assert "between 2012-02-29 and 2012-03-21 (21 days)" in text
    assert "synthetic prices" in text
    assert f"<code>{row.version}</code>" in text


def counted(name, *, gaps=0):
    """A dataset whose import counted the rows of each instrument; its benchmark has some too."""
    row = make_dataset(name)
    days = len(row.manifest["days"])
    row.manifest["instrument_rows"] = dict.fromkeys(row.manifest["instruments"], days)
    row.manifest["instrument_rows"]["BBB"] -= gaps
    row.rows += days - gaps
    row.save(update_fields=["rows", "manifest"])
    return row


def test_a_dataset_without_a_gap_is_covered_whole(browser):
    counted("whole")

    assert "<strong>100 %</strong>" in browser.get("/datasets").content.decode()


def test_a_single_gap_is_no_hundred_percent_and_its_instrument_is_named(browser):
    counted("gappy", gaps=1)

    text = browser.get("/datasets").content.decode()

    assert "<strong>99.98 %</strong>, 1 gap<" in text
    assert re.search(r'<th scope="row">BBB</th><td class="number">1<', text)


def test_nothing_is_said_of_completeness_where_rows_were_not_counted(browser):
    make_dataset("old")

    text = browser.get("/datasets").content.decode()

    assert "Completeness" not in text
    assert '<polygon points="0.0,80.0 0.0,0.0' in text, "the curve of instruments is known"
    assert "2,607" in text, "trading days have a separator"


def test_synthetic_prices_are_named_beside_every_result_by_one_query(browser, owner):
    make_dataset("demo")
    done = [completed(owner, name=f"n{number}", **TEST_2018) for number in range(3)]
    ids = ",".join(task.id for task in done)

    for path, count in {
        "/": 3,
        f"/tasks/{done[0].id}": 1,
        "/leaderboard": 1,
        f"/compare?tasks={ids}": 3,
        "/compare": 3,
    }.items():
        with CaptureQueriesContext(connection) as asked:
            text = browser.get(path).content.decode()
        assert text.count('<span class="tag">synthetic</span>') == count, path
        assert sum('WHERE "training_dataset"."synthetic"' in one["sql"] for one in asked) == 1, path
