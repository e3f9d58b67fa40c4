"""`manage.py remove_dataset`: what no task refers to goes, row and files; anything else stays."""

import builtins
import os
import shutil
import time

import pytest
from django.core.management import CommandError, call_command

from tests.factories import make_dataset
from training import datasets
from training.models import Dataset

VERSIONS = ("a" * 16, "b" * 16)


@pytest.fixture
def market(settings, db):
    """A dataset with two versions."""
    dataset = make_dataset(version=VERSIONS[1])
    for version in VERSIONS:
        place = datasets.directory(dataset.name, version)
        place.mkdir(parents=True)
        (place / "manifest.json").write_text("{}")
    (settings.DATASETS_DIR / "other").mkdir()
    return dataset


def left(settings):
    return sorted(path.name for path in settings.DATASETS_DIR.iterdir())


def test_a_dataset_goes_with_all_its_versions_and_no_other(market, settings):
    make_dataset("other")

    call_command("remove_dataset", market.name, yes=True)

    assert list(Dataset.objects.values_list("name", flat=True)) == ["other"]
    assert left(settings) == ["other"]


def test_one_that_tasks_refer_to_stays_and_their_number_is_told(market, make_task, settings):
    make_task(dataset=market.name, dataset_version=VERSIONS[0])

    with pytest.raises(CommandError, match="1 tasks refer to demo"):
        call_command("remove_dataset", market.name, yes=True)

    assert not datasets.remove(market.name)
    assert Dataset.objects.exists()
    assert left(settings) == ["demo", "other"]


@pytest.mark.parametrize("answer", ["n", "", None])
def test_it_asks_and_takes_only_a_yes(market, settings, monkeypatch, answer):
    def reply(_):
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr(builtins, "input", reply)

    with pytest.raises(CommandError, match="nothing was removed"):
        call_command("remove_dataset", market.name)

    assert left(settings) == ["demo", "other"]
    monkeypatch.setattr(builtins, "input", lambda _: "y")
    call_command("remove_dataset", market.name)
    assert left(settings) == ["other"]


def test_what_is_not_there_is_told(db):
    with pytest.raises(CommandError, match="there is no dataset demo"):
        call_command("remove_dataset", "demo", yes=True)


@pytest.mark.parametrize("cut_off", ["rename", "rmtree"])
def test_the_files_of_a_removal_that_was_cut_short_go_with_the_next_cleaning(
    market, settings, monkeypatch, cut_off
):
    def dies(path, *_, **__):
        if path.exists():
            raise KeyboardInterrupt

    owner = datasets.Path if cut_off == "rename" else datasets.shutil
    with monkeypatch.context() as patch:
        patch.setattr(owner, cut_off, dies)
        with pytest.raises(KeyboardInterrupt):
            datasets.remove(market.name)
    assert not Dataset.objects.exists()
    for version in settings.DATASETS_DIR.glob("*/*"):
        os.utime(version, (time.time() - 2 * 86_400,) * 2)

    call_command("maintain", "--apply")

    assert list(settings.DATASETS_DIR.rglob("manifest.json")) == []


def test_the_rest_of_an_older_removal_is_in_nobodys_way(market, settings):
    shutil.copytree(settings.DATASETS_DIR / "demo", settings.DATASETS_DIR / ".demo.gone")

    call_command("remove_dataset", market.name, yes=True)

    assert left(settings) == ["other"]
