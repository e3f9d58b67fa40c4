"""One platform for the end-to-end tests of a file, with the small market."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import checks, market, workflows
from .client import Subscriber
from .platform_processes import Platform, running


@dataclass(frozen=True)
class Ground:
    """A platform and the market that it has."""

    platform: Platform
    market: workflows.Market


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    datasets = tmp_path_factory.mktemp("datasets")
    with running(database_url=None, datasets_dir=datasets) as platform:
        yield Ground(platform, market.import_into(platform))


@pytest.fixture
def platform(ground: Ground) -> Platform:
    """The platform with one worker, whatever the test before has done to it."""
    for name in ground.platform.workers()[1:]:
        ground.platform.terminate(name)
        del ground.platform.processes[name]
    ground.platform.start(workers=1)
    return ground.platform


@pytest.fixture
def watch(platform: Platform) -> Iterator[Callable[[str], Subscriber]]:
    """`watch(task_id)`: a subscriber from the first event on."""
    started: list[Subscriber] = []

    def start(task_id: str) -> Subscriber:
        started.append(Subscriber(platform.client, task_id))
        return started[-1]

    yield start
    for one in started:
        one.leave()


@pytest.fixture
def faults_of(platform: Platform) -> Callable[[dict[str, Any], Subscriber], list[str]]:
    """`faults_of(task, heard)`: what is wrong with a final task."""
    folder: Path = platform.state_dir / "artifacts"

    def look(task: dict[str, Any], heard: Subscriber) -> list[str]:
        heard.wait_for_end()
        return checks.faults_of(platform.client, task, heard=heard, artifacts_dir=folder)

    return look
