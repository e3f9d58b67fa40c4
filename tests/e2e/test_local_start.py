"""`make run` from the start to the end: what it shows, what it leaves, what it finds again."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.qlib, pytest.mark.redis, pytest.mark.timeout(600)]

CHECKOUT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 120.0
TRAINED_WITHIN_S = 400.0
STOPPED_WITHIN_S = 20.0


class Start:
    """One `make run` without the installing, on a state directory of its own."""

    def __init__(self, state_dir: Path, log: Path, *, evaluator: str) -> None:
        self.state_dir = state_dir
        self.port = _free_port()
        self._log = log
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(state_dir.parent),
            "PLATFORM_STATE_DIR": str(state_dir),
            "PLATFORM_EVALUATOR": evaluator,
            "PORT": str(self.port),
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "qlibplatform.local"],
                cwd=CHECKOUT,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def text(self) -> str:
        return self._log.read_text()

    def wait_for(self, pattern: str, *, within_s: float) -> re.Match[str]:
        """The first match in what was shown."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if found := re.search(pattern, self.text()):
                return found
            assert self.process.poll() is None, self.text()
            time.sleep(0.1)
        raise AssertionError(f"no {pattern!r} within {within_s} s in:\n{self.text()}")

    def processes(self) -> set[int]:
        """All that belong to this start: by the state directory in their environment."""
        mark = f"PLATFORM_STATE_DIR={self.state_dir}".encode()
        return {pid for pid in _pids() if mark in _environment(pid)} - {os.getpid()}

    def stop(self, number: signal.Signals) -> float:
        """Seconds until it was gone, exit code 0 and all."""
        started = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(timeout=STOPPED_WITHIN_S) == 0, self.text()
        return time.monotonic() - started


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        # Gone meanwhile; or a worker, which lets nobody read its memory.
        return b""


@pytest.fixture
def start(tmp_path):
    starts = []

    def make(evaluator="platform"):
        log = tmp_path / f"start-{len(starts)}.log"
        one = Start(tmp_path / "var", log, evaluator=evaluator)
        starts.append(one)
        return one

    yield make
    for one in starts:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(timeout=30)


def test_the_first_start_trains_the_demo_and_shows_its_result(start):
    first = start()

    first.wait_for("Ctrl-C stops everything", within_s=READY_WITHIN_S + TRAINED_WITHIN_S)

    text = first.text()
    assert re.search(r"password +\S{12,}", text)
    # In a line to keep, and in one to paste.
    assert len(re.findall(r"qp_\w+", text)) == 2
    assert len(set(re.findall(r"qp_\w+", text))) == 1
    assert re.search(r"fit +\d", text)
    assert re.search(r"│ IC +│ +-?0\.\d{4} │", text)
    assert "synthetic" in text
    assert f'curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:{first.port}/api' in text
    assert re.search(rf"wscat .* -c ws://127\.0\.0\.1:{first.port}/ws/train/task-[0-9a-f-]+", text)
    # SIGTERM as a service manager or a closing terminal would.
    first.stop(signal.SIGTERM)
    assert first.processes() == set()


def test_a_training_that_ctrl_c_interrupts_is_finished_by_the_second_start(start):
    # Our own loading is over before one could interrupt it.
    first = start(evaluator="qlib")
    token = first.wait_for(r"qp_\w+", within_s=READY_WITHIN_S)[0]
    task_id = first.wait_for(r"task-[0-9a-f-]{36}", within_s=READY_WITHIN_S)[0]
    first.wait_for("Loading data", within_s=TRAINED_WITHIN_S)

    first.stop(signal.SIGINT)

    assert "Traceback" not in first.text()
    assert first.processes() == set()
    second = start()
    second.wait_for("Ctrl-C stops everything", within_s=READY_WITHIN_S)
    assert "qp_" not in second.text()
    task = _wait_until_final(second, task_id, token)
    assert (task["status"], task["attempt"]) == ("completed", 2)


def test_nothing_outlives_the_kill_of_the_start(start):
    first = start(evaluator="qlib")
    first.wait_for("Loading data", within_s=READY_WITHIN_S + TRAINED_WITHIN_S)
    assert len(first.processes()) > 4

    first.process.kill()
    first.process.wait()

    until = time.monotonic() + STOPPED_WITHIN_S
    while first.processes() and time.monotonic() < until:
        time.sleep(0.1)
    assert first.processes() == set()


def test_a_second_start_on_the_same_state_is_refused_and_harms_nothing(start):
    first = start()
    first.wait_for("qp_", within_s=READY_WITHIN_S)

    second = start()

    assert second.process.wait(timeout=30) == 1
    assert f"at http://127.0.0.1:{first.port}" in second.text()
    assert first.process.poll() is None


def _wait_until_final(platform: Start, task_id: str, token: str) -> dict[str, object]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{platform.port}/api/tasks/{task_id}",
        headers={"Authorization": f"Bearer {token}"},
    )
    until = time.monotonic() + TRAINED_WITHIN_S
    while time.monotonic() < until:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            task: dict[str, object] = json.load(answer)
        if task["status"] not in {"pending", "running"}:
            return task
        time.sleep(0.5)
    raise AssertionError(f"{task_id} is {task['status']} still")
