"""A task in MLflow's terms: nothing lost within its limits, and the same each time."""

import re

import pytest

from training import archive
from training.export import records
from training.sanitise import CUT_MARK

LEGAL = re.compile(r"[/\w.\- :]{1,250}")


def test_a_config_becomes_flat_parameters():
    config = {
        "task": {
            "model": {"class": "LGBModel", "kwargs": {"lr": 0.1, "flag": True, "text": ""}},
            "record": [{"class": "A"}, {"class": "B", "kwargs": {}}],
            "train": ["2010-01-01", None],
        }
    }

    assert records.params(config) == {
        "task.model.class": "LGBModel",
        "task.model.kwargs.lr": "0.1",
        "task.model.kwargs.flag": "true",
        "task.model.kwargs.text": '""',
        "task.record.0.class": "A",
        "task.record.1.class": "B",
        "task.record.1.kwargs": "{}",
        "task.train": '["2010-01-01", null]',
    }


def test_a_long_value_is_cut_where_mlflow_would_refuse_it():
    told = records.params({"text": "x" * 6_001, "fits": "y" * 6_000})

    assert len(told["text"]) == 6_000
    assert told["text"].endswith(CUT_MARK)
    assert told["fits"] == "y" * 6_000


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/a", "a/", "a//b", "a/../b", "x" * 300, "l2@5", "a$%\n", "😀"]
)
def test_every_name_becomes_one_that_mlflow_takes(name):
    chosen = records.legal_names([name])[name]

    assert LEGAL.fullmatch(chosen)
    assert ".." not in chosen
    assert "//" not in chosen
    assert chosen.strip("/") == chosen


def test_two_names_never_become_one():
    names = ["l2@5", "l2_5", "l2%5", "x" * 300, "x" * 301]

    chosen = records.legal_names(names)

    assert len(set(chosen.values())) == len(names)
    assert chosen["l2@5"] == "l2_5"


def test_batches_of_parameters_keep_both_limits_and_every_parameter():
    many = {f"k{number}": "v" for number in range(250)}
    large = {f"k{number}": "v" * 6_000 for number in range(50)}

    for every in (many, large):
        batches = list(records.param_batches(every))
        assert {name: value for batch in batches for name, value in batch.items()} == every
        assert all(len(batch) <= 100 for batch in batches)
        assert all(sum(map(len, [*b, *b.values()])) <= 120_000 for b in batches)


@pytest.mark.django_db
def test_points_are_the_curves_without_gaps_and_then_the_metrics(completed):
    task = completed()

    points = records.points(task)

    assert len(points) == 2 * 3 + 2
    assert points[0] == records.Point("train.l2_5", 1.0, 1767323045000, 1)
    assert {point.name for point in points[-2:]} == {"ic", "max_drawdown"}
    assert points[-1].at_ms == round(task.completed_at.timestamp() * 1000)
    assert len(set(points)) == len(points)


@pytest.mark.django_db
def test_only_named_files_are_sent_and_a_missing_one_is_told(completed):
    task = completed()

    assert records.files(task) == [
        "curves.json",
        "log.txt",
        "portfolio_analysis/report.pkl",
        "pred.pkl",
    ]
    (archive.folder(task) / "pred.pkl").unlink()
    with pytest.raises(FileNotFoundError, match=r"pred\.pkl"):
        records.files(task)


@pytest.mark.django_db
def test_a_name_that_leads_out_of_the_folder_sends_nothing(completed):
    task = completed()
    (archive.folder(task).parent / "secret").write_text("secret")
    task.result["artifacts"].append({"path": "../secret"})

    with pytest.raises(FileNotFoundError):
        records.files(task)


@pytest.mark.django_db
def test_tags_say_where_a_result_comes_from(completed):
    task = completed()

    tags = records.tags(task)

    assert tags["qlib_platform.task_id"] == task.id
    assert tags["qlib_platform.owner"] == "owner"
    assert tags["qlib_platform.tags"] == "a, b"
    assert tags["qlib_platform.fingerprint"] == "f" * 64
    assert tags["qlib_platform.version.qlib"] == "0.9.7"
    assert all(tags.values())
