"""A task's page, as the server makes it."""

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.utils import timezone

from tests import factories
from tests.api import result_files
from training import lifecycle
from training.api.submit import EXAMPLE
from training.lifecycle import News
from training.models import TrainingTask, Worker
from training.states import Priority, RequeueReason, Stage, Status
from training.workflow import parse

AT = datetime(2026, 1, 1, tzinfo=UTC)


def page(browser, task) -> str:
    return browser.get(f"/tasks/{task.id}").content.decode()


def test_a_running_task_shows_where_it_is(browser, make_task):
    task = make_task(status=Status.RUNNING)
    lifecycle.report(
        task.id,
        News(
            progress=41.5,
            message="Round 7",
            stages=((Stage.FIT, "fit"),),
            points=(("valid.l2", 7, 0.25, AT),),
            log="first line\nsecond line\n",
            detail={"stage": "fit", "stage_eta_s": 40.0, "eta_s": 95.0},
        ),
        attempt=1,
    )

    text = page(browser, task)

    assert 'data-seq="' + str(TrainingTask.objects.get(pk=task.id).last_seq) in text
    assert 'data-stage="fit" data-state="now"' in text
    assert "41.5 %" in text
    assert "1 m 35 s left" in text
    assert "second line" in text
    assert 'data-log-next="23"' in text
    assert "valid.l2" in text


def test_of_a_first_run_the_time_is_told_that_is_left_in_the_stage(browser, make_task):
    task = make_task(status=Status.RUNNING)
    detail = {"stage": "fit", "stage_eta_s": 180.4}
    news = News(progress=10.0, stages=((Stage.FIT, "fit"),), detail=detail)
    lifecycle.report(task.id, news, attempt=1)

    assert "up to 3 m 00 s left in fit</span>" in page(browser, task)


def test_what_was_left_in_a_stage_is_not_told_in_the_next(browser, make_task):
    task = make_task(status=Status.RUNNING)
    detail = {"stage": "fit", "stage_eta_s": 180.4, "eta_s": 190.0}
    news = News(progress=50.0, stages=((Stage.PREDICT, "predict"),), detail=detail)
    lifecycle.report(task.id, news, attempt=1)

    assert " left" not in page(browser, task).partition('id="eta"')[2].partition("</p>")[0]


def test_the_stage_that_runs_says_for_how_long(browser, make_task):
    task = make_task(status=Status.RUNNING)
    lifecycle.report(task.id, News(stages=((Stage.FIT, "fit"),)), attempt=1)
    task.events.filter(kind="stage").update(at=timezone.now() - timedelta(seconds=75))

    running = page(browser, task).partition('data-stage="fit"')[2].partition("</li>")[0]

    assert "<small>1 m 15 s</small>" in running


def test_the_time_until_an_engine_is_there_is_a_step_where_it_took_over_a_second(
    browser, make_task
):
    def start_of(text):
        return text.partition('data-stage="start"')[2].partition("</li>")[0]

    task = make_task(status=Status.RUNNING)
    begun = timezone.now() - timedelta(seconds=60)
    TrainingTask.objects.filter(pk=task.pk).update(started_at=begun)
    assert 'data-state="now"' in start_of(page(browser, task))

    lifecycle.report(task.id, News(stages=((Stage.DATA, "data"),)), attempt=1)
    task.events.filter(kind="stage").update(at=begun + timedelta(seconds=23))
    told = start_of(page(browser, task))
    assert 'data-state="done"' in told
    assert "<small>23 s</small>" in told
    assert "hidden" not in told

    task.events.filter(kind="stage").update(at=begun + timedelta(seconds=0.5))
    assert " hidden" in start_of(page(browser, task))
    assert " hidden" in start_of(page(browser, make_task()))


def test_no_time_is_told_that_was_not_measured(browser, make_task):
    task = make_task(status=Status.RUNNING)
    lifecycle.report(task.id, News(progress=10.0, message="Loading data"), attempt=1)

    assert " left</span>" not in page(browser, task)


def wait_of(browser, task) -> str:
    return page(browser, task).partition('id="waits"')[2].partition("</div>")[0]


def test_a_pending_task_tells_its_place_and_who_serves_its_queue(browser, make_task, stranger):
    make_task(owner=stranger)
    make_task(owner=stranger, queue="gpu", priority=Priority.HIGH)
    make_task(owner=stranger, priority=Priority.LOW)
    task = make_task()
    make_task(owner=stranger, priority=Priority.HIGH)

    assert "Number 3 in queue <strong>cpu</strong>" in wait_of(browser, task)
    assert "no worker serves this queue." in wait_of(browser, task)

    worker = factories.make_worker()
    assert "worker" not in wait_of(browser, task)
    Worker.objects.filter(name=worker.name).update(draining=True)
    assert "its worker is draining" in wait_of(browser, task)
    demanding = make_task(needs="torch")
    assert "no worker serves this queue with torch." in wait_of(browser, demanding)


def test_a_task_without_a_log_shows_no_empty_one(browser, make_task):
    task = make_task()
    assert 'id="log-panel" hidden' in page(browser, task)

    lifecycle.report(factories.start(task).id, News(log="a line\n"), attempt=1)
    assert 'id="log-panel">' in page(browser, task)


def test_a_lost_attempt_is_told_of_with_its_log(browser, make_task):
    task = make_task(status=Status.RUNNING)
    news = News(stages=((Stage.DATA, "data"), (Stage.FIT, "fit")))
    lifecycle.report(task.id, news, attempt=1)
    lifecycle.requeue(task.id, attempt=1, reason=RequeueReason.WORKER_LOST)

    waiting = page(browser, task)
    factories.start(task)
    running = page(browser, task)

    for text in (waiting, running):
        told = " ".join(text.partition('id="waits"')[2].partition("</div>")[0].split())
        assert re.search(r"Attempt 1 was lost at \d{4}-", told)
        assert "the worker stopped answering (<code>worker_lost</code>)" in told
        assert f'href="/api/tasks/{task.id}/log?attempt=1"' in told
    # What the lost attempt took is no time of this one.
    assert " s</small>" not in waiting.partition('class="stages"')[2].partition("</ol>")[0]


def test_a_cancelled_task_looks_stopped_and_not_broken(browser, make_task):
    task = make_task(status=Status.RUNNING)
    detail = {"stage": "fit", "stage_eta_s": 9.0}
    news = News(progress=5.0, stages=((Stage.FIT, "fit"),), detail=detail)
    lifecycle.report(task.id, news, attempt=1)
    lifecycle.request_cancel(task.id)

    assert " left in fit" not in page(browser, task)
    lifecycle.cancel_running(task.id, attempt=1)
    text = page(browser, task)

    assert 'data-stage="fit" data-state="stopped"' in text
    assert "broken" not in text


def test_no_curve_is_the_models_doing_only_after_its_fit(browser, make_task):
    silent, early = "This model told of no curve.", "It ended before the fit told of a round."

    for task in (make_task(status=Status.CANCELLED), make_task(status=Status.FAILED)):
        assert early in page(browser, task)
        assert silent not in page(browser, task)
    fitted = make_task(status=Status.COMPLETED, result={"timings": {"fit": 1.0}})
    assert silent in page(browser, fitted)
    assert early not in page(browser, fitted)


def test_a_failed_task_says_what_happened_and_what_to_do(browser, make_task):
    task = make_task(status=Status.RUNNING)
    log = "".join(f"line {n}\n" for n in range(40))
    lifecycle.report(task.id, News(log=log), attempt=1)
    lifecycle.fail(task.id, attempt=1, code="out_of_memory", error="It ran out of memory.")

    text = page(browser, task)

    assert "It ran out of memory." in text
    assert "PLATFORM_TRAINING_MEMORY_BYTES" in text
    last_words = text.partition("The last lines of its log")[2].partition("</pre>")[0]
    assert "line 39" in last_words
    assert "line 20" not in last_words


def test_a_completed_task_shows_its_numbers_with_their_source(browser, make_task):
    result = {
        "metrics": {"ic": 0.0123, "annualized_return": -0.05, "max_drawdown": -0.1},
        "data": {"dataset": "demo", "fingerprint": "abcdef0123456789", "first_day": "2020-01-02"},
        "timings": {"fit": 75.0},
        "versions": {"qlib": "0.9.7"},
        "artifacts": [{"path": "pred.pkl", "bytes": 2048, "sha256": "0" * 64}],
    }
    asked = {
        "strategy": {"class": "TopkDropoutStrategy", "kwargs": {"topk": 50, "n_drop": 5}},
        "backtest": {
            "benchmark": "SH000300",
            "exchange_kwargs": {"open_cost": 0.0005, "close_cost": 0.0015, "min_cost": 5},
        },
    }
    record = [{"class": "PortAnaRecord", "kwargs": {"config": asked}}]
    task = make_task(status=Status.COMPLETED, result=result, config={"task": {"record": record}})

    text = page(browser, task)

    for expected in (
        "TopkDropoutStrategy, topk 50, n_drop 5; benchmark <strong>SH000300</strong>",
        "costs 0.05 % to buy and 0.15 % to sell, 5 at least",
        "Max drawdown",
        "0.0123",
        "−5.00 %",
        "abcdef012345",
        "1 m 15 s",
        "0.9.7",
        "2.0 KiB",
    ):
        assert expected in text, expected


def environment_of(browser, task) -> dict[str, str]:
    panel = page(browser, task).partition('id="environment"')[2].partition("</section>")[0]
    row = re.compile(r'<th scope="row">([^<]*)</th><td class="number">([^<]*)</td>')
    return {name: unescape(value) for name, value in row.findall(panel)}


def test_the_environment_of_every_task_tells_what_is_known(browser, make_task):
    asked = {"threads": 3, "timeout_s": 3_600, "priority": Priority.HIGH}
    pending = environment_of(browser, make_task(**asked))
    factories.make_worker()
    Worker.objects.update(started_at=timezone.now() - timedelta(hours=1))
    failed = environment_of(browser, make_task(status=Status.FAILED))
    Worker.objects.update(started_at=timezone.now() + timedelta(hours=1))
    result = {"timings": {"fit": 75.0}, "versions": {"qlib": "0.9.7", "evaluator": "platform 1"}}
    completed = environment_of(browser, make_task(status=Status.COMPLETED, result=result))

    assert pending["Queue"] == "cpu"
    assert pending["Priority"] == "high"
    assert pending["Threads"] == "3"
    assert pending["Time limit"] == "1 h 00 m"
    assert "Started" not in pending
    assert {"Waited", "Started", "Ended"} <= failed.keys()
    assert failed["Memory limit"] == "4.0 GiB"
    assert "Memory limit" not in completed
    assert completed["Time in fit"] == "1 m 15 s"
    assert completed["Features computed by"] == "this platform's evaluator, version 1"


def test_a_fit_that_was_ended_early_is_told_of(browser, make_task):
    early = make_task(status=Status.COMPLETED, result={"stopped": "finish"})
    whole = make_task(status=Status.COMPLETED, result={"stopped": None})

    assert "Its fit was ended early by “Finish now”" in page(browser, early)
    assert "Finish now”" not in page(browser, whole)


def test_the_records_are_named_that_computed_the_numbers(browser, owner):
    whole = result_files.report_of(result_files.waves(30))
    mine = {"task": {"record": [{"class": "SignalRecord"}, {"class": "HFSignalRecord"}]}}
    no_backtest = {name: whole[name] for name in whole if name != "portfolio"}
    task = result_files.completed(owner, report=no_backtest, config=mine)

    told = page(browser, task).partition('aria-label="Result"')[2].partition("</section>")[0]

    assert "IC figures by Qlib's HFSignalRecord." in told
    assert "SigAnaRecord" not in told
    assert "PortAnaRecord" not in told
    full = page(browser, result_files.completed(owner, report=whole, config={"task": {}}))
    assert "by Qlib's PortAnaRecord, of the excess return" in full


def test_deeds_lead_where_one_wants_to_be(browser, make_task, dataset, tmp_path):
    task = make_task(config=EXAMPLE)

    cancel = f"/tasks/{task.id}/cancel"
    sure = {"sure": "yes"}

    assert "Yes, cancel" in browser.post(cancel).content.decode()
    assert TrainingTask.objects.get(pk=task.id).status == Status.PENDING
    told = browser.post(cancel, sure, follow=True).content.decode()
    assert "cancelled, or asked to stop" in told
    again = browser.post(cancel, sure, follow=True).content.decode()
    assert "already" in again
    made = browser.post(f"/tasks/{task.id}/retry")
    retried = TrainingTask.objects.exclude(pk=task.id).get()
    assert made.url == f"/tasks/{retried.id}"
    assert retried.retry_of_id == task.id
    assert "Yes, delete" in browser.post(f"/tasks/{task.id}/delete").content.decode()
    browser.post(f"/tasks/{task.id}/delete", {"sure": "yes"})
    assert not TrainingTask.objects.filter(pk=task.id).exists()
    assert browser.post(f"/tasks/{retried.id}/explode").status_code == 404


def test_a_clone_is_edited_as_it_was_posted(browser, make_task):
    as_yaml = make_task(posted="# my words\ntask: {}\n")
    as_json = make_task(posted='{"task": {"model": {"class": "LGBModel"}}}')

    assert "# my words" in browser.get(f"/new?like={as_yaml.id}").content.decode()
    assert "    class: LGBModel" in browser.get(f"/new?like={as_json.id}").content.decode()


@pytest.mark.parametrize("indent", [None, "\t"])
def test_a_clone_of_json_is_yaml_that_says_the_same(browser, make_task, indent):
    said = {
        "name": "rocket \N{ROCKET}",
        "texts": ["1e-3", "010", "1_000", "0o7", "yes", "null", "~", "<<", "=", "", "a: b", ".5"],
        "days": ["2018-01-02", "2018-01-02 10:00:00"],
        "numbers": [1e-3, 1e-05, 10, True, None],
    }
    task = make_task(posted=json.dumps(said, indent=indent))

    answer = browser.get(f"/new?like={task.id}")

    text = answer.context["text"]
    assert parse(text.encode(), content_type="application/yaml").data == said


def test_a_report_has_its_table_of_months_and_a_day_that_one_chooses(browser, owner):
    config = {"task": {"dataset": {"kwargs": {"handler": {"class": "Alpha158", "kwargs": {}}}}}}
    task = result_files.completed(owner, config=config)
    scores = [["AAA", 0.5, 0.01], ["BBB", 0.1, -0.02]]
    held = [["AAA", 134_217.4, 5.0, 0.4]]
    result_files.keep_outcomes(task, scores=scores, positions=held, days=3)

    text = page(browser, task)
    assert 'data-chart="return"' in text
    assert '<th scope="row">2018</th>' in text
    assert "Held at the end of 2018-01-03" in text
    assert "40.00 %" in text
    assert "−2.00 %" in text
    assert "the return that came" in text
    assert "worth 1,000, 100.0 of it in cash" in text
    assert '<td class="number">134,217</td>' in text, "an amount has separators, no exponent"
    # A Sunday: the last day before it that there is.
    asked = browser.get(f"/tasks/{task.id}?day=2018-01-07").content.decode()
    assert "Held at the end of 2018-01-03" in asked
    asked = browser.get(f"/tasks/{task.id}?day=2018-01-02").content.decode()
    assert "Held at the end of 2018-01-02" in asked
    assert browser.get(f"/tasks/{task.id}?day=nonsense").status_code == 200


def test_a_label_that_is_no_return_is_no_percentage(browser, owner):
    handler = {"class": "Alpha158", "kwargs": {"label": [["Ref($close,-5)"], ["LABEL0"]]}}
    config = {"task": {"dataset": {"kwargs": {"handler": handler}}}}
    task = result_files.completed(owner, config=config)
    result_files.keep_outcomes(task, scores=[["AAA", 0.5, 31.25]])

    text = page(browser, task)

    assert "the label that came" in text
    assert '<td class="number">31.25</td>' in text


def test_scores_that_do_not_vary_have_no_ic_to_draw(browser, owner):
    varied = result_files.completed(owner)
    constant = result_files.completed(
        owner, report=result_files.report_of(result_files.waves(5), ic=[None] * 5)
    )

    assert 'data-chart="ic"' in page(browser, varied)
    text = page(browser, constant)
    assert "IC cannot be computed" in text
    for chart in ("ic", "months", "distribution"):
        assert f'data-chart="{chart}"' not in text
