"""A dataset's coverage: counted from its manifest."""

from datetime import date

from training import coverage


def changed(dataset, **manifest):
    dataset.refresh_from_db()
    dataset.manifest |= manifest
    dataset.save(update_fields=["manifest"])
    return dataset


def test_instruments_are_counted_between_their_first_and_last_day(dataset):
    days = ["2020-01-01", "2020-01-02", "2020-01-03"]
    spans = {"A": [days[0], days[2]], "B": [days[1], days[1]], "C": [days[2], days[2]]}
    rows = {"A": 1, "B": 1, "C": 1}
    changed(dataset, days=days, instruments=spans, instrument_rows=rows)

    found = coverage.of(dataset)

    assert found["by_day"] == {"days": days, "instruments": [1, 2, 2]}
    assert found["completeness"] == 3 / 5
    assert (found["gaps"], found["gappy"]) == (2, [{"instrument": "A", "days": 2}])
    assert found["ended"] == 1
    notes = {note["code"]: note["message"] for note in found["health"]}
    assert notes["holes"].startswith("40.0 % of the rows")


def test_rows_that_no_import_counted_make_no_completeness(dataset):
    found = coverage.of(changed(dataset))

    assert (found["completeness"], found["gaps"], found["gappy"]) == (None, None, [])
    assert "holes" not in {note["code"] for note in found["health"]}


def test_a_long_pause_and_an_old_last_day_are_told(dataset):
    days = ["2020-01-01", "2020-01-02", "2020-02-03"]
    changed(dataset, days=days, instruments={"A": [days[0], days[2]]})
    dataset.synthetic = False
    dataset.last_day = date(2020, 2, 3)

    found = coverage.of(dataset, today=date(2020, 2, 13))

    assert found["pauses"] == [
        {"last_before": "2020-01-02", "first_after": "2020-02-03", "days": 32}
    ]
    assert found["age_days"] == 10
    assert {note["code"] for note in found["health"]} == {"files_missing", "stale", "pauses"}


def test_versions_are_those_whose_files_are_here(api, dataset, settings):
    for name in ("0" * 16, "f" * 16, "not-a-version"):
        (settings.DATASETS_DIR / "demo" / name).mkdir(parents=True)
    (settings.DATASETS_DIR / "demo" / ("0" * 16) / "manifest.json").write_text('{"rows": 1234}')
    dataset.version = "f" * 16
    dataset.save(update_fields=["version"])

    told = api.get("/api/datasets/demo?points=10").json()

    found = {one["version"]: (one["current"], one["rows"]) for one in told["coverage"]["versions"]}
    assert found == {"0" * 16: (False, 1234), "f" * 16: (True, None)}
    assert len(told["coverage"]["by_day"]["days"]) == 10
    assert [note["code"] for note in told["coverage"]["health"]] == ["synthetic"]
    assert told["name"] == "demo"
