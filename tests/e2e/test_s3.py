"""Artifacts in an S3-compatible store: a real training, a web that shares no folder with it."""

import hashlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from . import market, workflows
from .client import Subscriber
from .platform_processes import running
from .waiting import until

boto3: Any = pytest.importorskip("boto3")
pytest.importorskip("moto")
pytest.importorskip("storages")

pytestmark = [pytest.mark.e2e, pytest.mark.qlib, pytest.mark.redis, pytest.mark.timeout(400)]

KEY, SECRET = "the-key-of-the-store", "the-secret-of-the-store"


@contextmanager
def store() -> Iterator[tuple[str, Any]]:
    """A server that speaks S3, with a bucket; its address, and a client."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: _listens(port), what="the store", within_s=60)
            url = f"http://127.0.0.1:{port}"
            client = boto3.client(
                "s3",
                endpoint_url=url,
                region_name="us-east-1",
                aws_access_key_id=KEY,
                aws_secret_access_key=SECRET,
            )
            client.create_bucket(Bucket="artifacts")
            yield url, client
        finally:
            server.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _names(client: Any) -> set[str]:
    return {one["Key"] for one in client.list_objects_v2(Bucket="artifacts").get("Contents", [])}


def test_artifacts_go_to_the_store_and_come_from_it(tmp_path: Path):
    with store() as (url, client):
        settings = {
            "ARTIFACTS_S3_BUCKET": "artifacts",
            "ARTIFACTS_S3_ENDPOINT": url,
            "ARTIFACTS_S3_KEY": KEY,
            "ARTIFACTS_S3_SECRET": SECRET,
        }
        with running(database_url=None, datasets_dir=tmp_path / "data", **settings) as platform:
            text = workflows.small(market.import_into(platform), instruments=4, rounds=100_000)
            platform.start(workers=1)
            task_id = platform.client.submit(text)
            heard = Subscriber(platform.client, task_id)
            heard.wait_for("stage", stage="fit", within_s=120)
            (training,) = platform.tree.trainings()
            environment = Path(f"/proc/{training}/environ").read_bytes()
            assert platform.client.act(task_id, "finish").status_code == 202
            task = platform.client.final(task_id, within_s=180)
            heard.leave()

            assert task["status"] == "completed", task["error"]
            listed = {one["path"]: one for one in task["result"]["artifacts"]}
            assert _names(client) == {f"{task_id}/1/{path}" for path in listed}
            assert SECRET.encode() not in environment
            # The web's machine has nothing of it, as it shares no folder with the worker's.
            (platform.state_dir / "artifacts").rename(tmp_path / "of-the-worker")
            for path, told in listed.items():
                data = platform.client.download(task_id, path)
                assert hashlib.sha256(data).hexdigest() == told["sha256"]
            assert "asked to finish" in platform.client.log(task_id)
            assert "every invariant holds" in platform.manage("audit")

            backup = platform.manage("backup", str(tmp_path / "backups"))
            assert re.search(r"verified", backup)
            assert not list((tmp_path / "backups").glob("*/artifacts"))

            told = platform.manage("maintain", "--apply", PLATFORM_KEEP_ARTIFACTS_BYTES="1")
            assert f"artifacts {task_id}" in told
            assert _names(client) == set()
