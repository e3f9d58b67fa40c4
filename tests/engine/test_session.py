"""Threads of a training never exceed its share."""

import pytest

pytestmark = pytest.mark.qlib
session = pytest.importorskip("training.engine.session")


@pytest.mark.parametrize(
    ("key", "wanted", "given"),
    [
        ("num_threads", 20, 2),
        ("num_threads", 1, 1),
        ("thread_count", -1, 2),
        ("nthread", 0, 2),
        ("n_jobs", 20, 2),
        ("n_jobs", 0, 0),
        ("num_leaves", 210, 210),
    ],
)
def test_threads_are_capped_to_the_share(key, wanted, given):
    config = {"model": {"kwargs": {key: wanted}}, "record": [{"kwargs": {key: wanted}}]}

    capped = session.cap_threads(config, threads=2)

    assert capped["model"]["kwargs"][key] == given
    assert capped["record"][0]["kwargs"][key] == given
    assert config["model"]["kwargs"][key] == wanted
