"""A work-horse in advance: what it does before and after it is told, and when nobody tells it."""

import gc
import os
import select
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from rq.worker import Worker as RqWorker
from rq.worker import WorkerStatus

from training.work import spare, worker

DEADLINE_S = 20.0


def wait_for(look, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def fork(tmp_path):
    """Forks a spare that leaves a file behind for each thing that it does."""
    forked = []

    def work(told):
        (tmp_path / "told").write_text(f"{told['job']} in group {os.getpgrp()}")
        os._exit(0)

    def stop(*_):
        (tmp_path / "stopped").touch()

    def fork_one() -> spare.Spare:
        forked.append(spare.fork((tmp_path / "warm").touch, work, stop))
        return forked[-1]

    yield fork_one
    for one in forked:
        if is_running(one.pid):
            os.kill(one.pid, signal.SIGKILL)


def test_it_warms_up_waits_and_does_what_it_is_told_in_a_group_of_its_own(fork, tmp_path):
    one = fork()
    wait_for((tmp_path / "warm").exists, "the spare warms up")
    assert os.getpgid(one.pid) == os.getpgrp()

    assert one.tell({"job": "a"})

    assert os.waitpid(one.pid, 0)[1] == 0
    assert (tmp_path / "told").read_text() == f"a in group {one.pid}"


def test_signals_for_the_worker_do_not_end_it(fork, tmp_path):
    one = fork()
    wait_for((tmp_path / "warm").exists, "the spare warms up")

    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(one.pid, number)

    assert one.tell({"job": "a"})
    assert os.waitpid(one.pid, 0)[1] == 0
    assert (tmp_path / "told").exists()


def test_a_stop_that_comes_before_its_work_is_not_lost(fork, tmp_path):
    one = fork()
    wait_for((tmp_path / "warm").exists, "the spare warms up")

    os.kill(one.pid, signal.SIGTERM)

    assert one.tell({"job": "a"})
    os.waitpid(one.pid, 0)
    assert (tmp_path / "stopped").exists()


def test_a_worker_told_to_stop_in_the_middle_of_a_fork_hears_it(monkeypatch):
    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    def fork_while_told(*told):
        # To this thread: a worker has no other, the test run may.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        return fork_one(*told)

    fork_one = spare.fork
    monkeypatch.setattr(spare, "fork", fork_while_told)
    monkeypatch.setattr(worker, "_warm_up", lambda: None)
    one = object.__new__(worker.TrainingWorker)
    one._spare = None
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Stopped):
            one._prepare_spare()
    finally:
        signal.signal(signal.SIGTERM, before)
        gc.unfreeze()

    # Not lost either: what it holds would keep the engine host from leaving.
    assert is_running(one._spare.pid)
    one._dismiss_spare()


def test_one_that_has_died_says_so_and_is_no_zombie(fork):
    one = fork()
    os.kill(one.pid, signal.SIGKILL)
    wait_for(lambda: not is_running(one.pid), "the spare is dead")

    assert one.tell({"job": "a"}) is False
    with pytest.raises(ChildProcessError):
        os.waitpid(one.pid, 0)


def test_one_that_is_dismissed_has_done_nothing(fork, tmp_path):
    one = fork()

    one.dismiss()

    assert not is_running(one.pid)
    assert not (tmp_path / "told").exists()


def test_one_that_hangs_as_it_warms_up_is_dismissed_too():
    one = spare.fork(lambda: time.sleep(3600), lambda told: None, lambda *_: None)

    one.dismiss()

    assert not is_running(one.pid)


@pytest.mark.parametrize("has_spare", [True, False])
def test_a_stop_that_comes_before_there_is_a_horse_reaches_it(monkeypatch, has_spare):
    told = []
    one = object.__new__(worker.TrainingWorker)
    one._host, one._horse_pid, one._stop_requested = None, 0, True
    one.executions = {"e": SimpleNamespace(id="e")}
    ready = SimpleNamespace(pid=4321, tell=lambda _: True)
    one._spare = ready if has_spare else None
    monkeypatch.setattr(
        RqWorker, "fork_work_horse", lambda self, *_: setattr(self, "_horse_pid", 4321)
    )
    monkeypatch.setattr(os, "kill", lambda *what: told.append(what))

    one.fork_work_horse(SimpleNamespace(id="j"), SimpleNamespace(name="cpu"))

    gc.unfreeze()
    assert told == [(4321, signal.SIGTERM)]


def test_a_stop_is_taken_also_where_redis_is_away(monkeypatch):
    def away(self):
        raise RedisConnectionError("away")

    monkeypatch.setattr(RqWorker, "set_shutdown_requested_date", away)
    one = object.__new__(worker.TrainingWorker)
    one._horse_pid, one._stop_requested, one.scheduler = 0, False, None
    one._state, one.log, one.name = WorkerStatus.BUSY, worker.log, "w"

    one._shutdown()

    assert one._stop_requested


def fork_in_another(tmp_path, *does, told=None) -> tuple[int, int]:
    """A worker that has forked a spare, and told it something; both process ids."""
    pid_file = tmp_path / "pid"
    parent = os.fork()
    if parent == 0:
        one = spare.fork(*does, lambda *_: None)
        if told:
            one.tell(told)
        pid_file.write_text(str(one.pid))
        select.select([], [], [], DEADLINE_S)
        os._exit(0)
    wait_for(lambda: pid_file.exists() and pid_file.read_text(), "the spare is forked")
    return parent, int(pid_file.read_text())


@pytest.mark.parametrize("warm_up", [lambda: None, lambda: time.sleep(3600)])
def test_it_leaves_when_its_worker_is_killed(tmp_path, warm_up):
    parent, pid = fork_in_another(tmp_path, warm_up, lambda told: None)
    assert is_running(pid)

    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)

    try:
        wait_for(lambda: not is_running(pid), "the spare leaves")
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_once_at_work_it_goes_on_without_its_worker(tmp_path):
    def work(told):
        (tmp_path / "begun").touch()
        wait_for((tmp_path / "go").exists, "the worker is gone")
        (tmp_path / "done").touch()

    parent, _ = fork_in_another(tmp_path, lambda: None, work, told={"job": "a"})
    wait_for((tmp_path / "begun").exists, "it works")

    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    (tmp_path / "go").touch()

    wait_for((tmp_path / "done").exists, "it has gone on")
