"""Redis is away at the moment when a task ends: RQ's loop has unguarded words for it then."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e import checks, market, workflows
from tests.e2e.client import Subscriber
from tests.e2e.platform_processes import running

pytestmark = [pytest.mark.e2e, pytest.mark.qlib, pytest.mark.redis, pytest.mark.timeout(400)]


def test_a_worker_outlives_a_redis_that_is_away_when_its_task_ends(tmp_path: Path):
    with running(database_url=None, datasets_dir=tmp_path) as platform:
        text = workflows.small(market.import_into(platform), instruments=4, test_days=40, rounds=5)
        platform.start(workers=1)
        client, worker = platform.client, platform.processes["worker-1"]
        first = client.submit(text)
        heard = Subscriber(client, first)
        heard.wait_for("stage", stage="backtest", within_s=120)

        platform.kill("redis")
        told = client.final(first, within_s=120)
        # What RQ does next would raise within a second: its tries are short.
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(timeout=3)
        platform.start_redis()
        second = client.final(client.submit(text), within_s=120)

        heard.wait_for_end()
        heard.leave()
        folder = platform.state_dir / "artifacts"
        assert (told["status"], second["status"]) == ("completed", "completed")
        assert checks.faults_of(client, told, heard=heard, artifacts_dir=folder) == []
