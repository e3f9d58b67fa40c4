"""The report: a final task's series, what follows from them, fewer points on request."""

import pytest

from tests.api.result_files import completed, report_of, waves, weekdays
from training import archive, reports
from training.states import Status


def test_a_report_comes_as_the_training_left_it_with_its_source(api, owner):
    config = {"task": {"record": [{"class": "SignalRecord"}, {"class": "HFSignalRecord"}]}}
    task = completed(owner, report=report_of([0.01, -0.02]), config=config)

    report = api.get(f"/api/tasks/{task.id}/report").json()

    assert report["portfolio"]["days"] == ["2018-01-01", "2018-01-02"]
    assert report["portfolio"]["excess_with_cost"] == pytest.approx([0.01, -0.01])
    assert report["feature_importance"]["features"] == ["A"]
    assert report["feature_importance"]["unit"] == "splits"
    assert report["data"] == {"dataset": "demo", "fingerprint": "f" * 64}
    assert report["label_is_return"] is False, "no handler says what the label is"
    assert report["computed_by"] == {
        "portfolio": "PortAnaRecord",
        "ic": "HFSignalRecord",
        "groups": "SignalRecord",
    }


def test_months_and_years_are_sums_of_their_days(api, owner):
    excess = [0.001] * 300
    task = completed(owner, report=report_of(excess))
    days = weekdays(300)

    monthly = api.get(f"/api/tasks/{task.id}/report").json()["monthly"]

    january = sum(day.startswith("2018-01") for day in days)
    assert monthly["months"][0] == "2018-01"
    assert monthly["excess_with_cost"][0] == pytest.approx(0.001 * january)
    assert monthly["return_with_cost"][0] == pytest.approx(0.002 * january)
    assert monthly["years"]["years"] == ["2018", "2019"]
    assert sum(monthly["years"]["excess_with_cost"]) == pytest.approx(0.3)


def test_a_day_without_a_value_adds_nothing_to_its_month():
    portfolio = {
        "days": weekdays(3),
        "return_with_cost": [0.1, None, 0.3],
        "benchmark": [None, None, None],
        "excess_with_cost": [0.1, 0.2, 0.3],
    }

    table = reports.months(portfolio)

    assert table["return_with_cost"] == pytest.approx([0.3])
    assert table["benchmark"] == [0.0]


def test_the_distribution_counts_every_day_once(api, owner):
    task = completed(owner, report=report_of([0.0] * 5, ic=[-0.4, 0.4, 0.1, 0.11, None]))

    found = api.get(f"/api/tasks/{task.id}/report").json()["ic"]["distribution"]

    assert sum(found["ic"]) == 4
    assert (found["ic"][0], found["ic"][-1]) == (1, 1)
    assert found["edges"][0] == -found["edges"][-1] == pytest.approx(-0.4)
    assert len(found["edges"]) == len(found["ic"]) + 1


def test_no_ic_at_all_has_an_empty_distribution():
    assert reports.distribution({"ic": [None], "rank_ic": [None]})["edges"] == []


def test_a_thinned_report_keeps_spikes_ends_and_one_length(api, owner):
    excess = waves(1_000)
    excess[500] = -0.9
    task = completed(owner, report=report_of(excess))

    report = api.get(f"/api/tasks/{task.id}/report?points=100").json()

    portfolio = report["portfolio"]
    assert {len(values) for values in portfolio.values()} == {len(portfolio["days"])}
    assert len(portfolio["days"]) <= 100
    assert -0.9 in report["ic"]["ic"]
    assert (portfolio["days"][0], portfolio["days"][-1]) == (weekdays(1)[0], weekdays(1_000)[-1])
    assert len(report["groups"]["groups"]["5"]) == len(report["groups"]["days"]) <= 100
    # Months and counts are of all days.
    assert sum(report["ic"]["distribution"]["ic"]) == 1_000
    assert sum(report["monthly"]["excess_with_cost"]) == pytest.approx(sum(excess))


def test_a_summary_as_long_as_the_days_is_not_thinned():
    report = report_of(waves(reports.BINS))
    ic = report["ic"] | {"distribution": reports.distribution(report["ic"])}

    assert reports.thinned(ic, 10)["distribution"] == ic["distribution"]


def test_an_open_task_has_no_report_yet_and_a_failed_one_never(api, make_task):
    answers = {
        status: api.get(f"/api/tasks/{make_task(status=status).id}/report") for status in Status
    }

    codes = {status: answer.status_code for status, answer in answers.items()}
    assert codes == {
        Status.PENDING: 409,
        Status.RUNNING: 409,
        Status.COMPLETED: 404,
        Status.FAILED: 404,
        Status.CANCELLED: 404,
    }
    assert answers[Status.RUNNING].json()["error"]["code"] == "not_finished"
    assert "not on this server" in answers[Status.COMPLETED].json()["error"]["message"]


def test_a_report_is_read_once_and_not_sent_to_those_who_have_it(api, owner):
    task = completed(owner)
    url = f"/api/tasks/{task.id}/report?points=50"

    first = api.get(url)
    (archive.folder(task) / "report.json").unlink()
    again = api.get(url)
    known = api.get(url, HTTP_IF_NONE_MATCH=first["ETag"])
    other = api.get(f"/api/tasks/{task.id}/report?points=60", HTTP_IF_NONE_MATCH=first["ETag"])

    assert again.json() == first.json()
    assert (known.status_code, known.content) == (304, b"")
    assert other.status_code == 404, "another width is another answer, and its file is gone"


def test_a_stranger_with_the_right_etag_is_told_nothing(client_of, owner, stranger):
    task = completed(owner)
    url = f"/api/tasks/{task.id}/report"
    etag = client_of(owner).get(url)["ETag"]

    assert client_of(stranger).get(url, HTTP_IF_NONE_MATCH=etag).status_code == 404


@pytest.mark.parametrize("points", ["9", "10001", "x", "-1"])
def test_a_width_out_of_range_is_refused(api, owner, points):
    task = completed(owner)

    answer = api.get(f"/api/tasks/{task.id}/report?points={points}")

    assert answer.status_code == 400
    assert answer.json()["error"]["fields"][0]["path"] == "points"
