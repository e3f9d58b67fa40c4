"""Processes under supervisord: restarted when they die, gone when it goes, whatever ended it."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qlibplatform.local import prepare, processes, programs
from qlibplatform.local.prepare import CannotStart
from qlibplatform.local.programs import Program

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
]
FAILS = [sys.executable, "-c", "raise SystemExit('the last word')"]


@pytest.fixture
def place(tmp_path):
    place = prepare.place_from({"PLATFORM_STATE_DIR": str(tmp_path / "v")})
    prepare.make_folders(place)
    yield place
    if not place.runtime_dir.is_relative_to(tmp_path):
        for path in place.runtime_dir.iterdir():
            path.unlink()
        place.runtime_dir.rmdir()


def wait_for(look, *, deadline_s=30.0):
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come in time")


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def run_only(monkeypatch, *members):
    """Let `members` be the platform, and a sleeper its Redis."""
    monkeypatch.setattr(processes, "programs", lambda place: list(members))
    monkeypatch.setattr(processes, "redis_program", lambda place: Program("redis", SLEEP, 1))
    monkeypatch.setattr(processes, "wait_for_redis", lambda place: None)


def test_a_command_on_the_lifeline_ends_when_its_parent_is_killed(tmp_path):
    told = tmp_path / "pid"
    child = [*programs.LIFELINE, sys.executable, "-c"]
    child.append(
        f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(99)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({child!r})"], cwd=CHECKOUT
    )
    pid = int(wait_for(lambda: told.exists() and told.read_text()))

    parent.kill()
    parent.wait()

    wait_for(lambda: not alive(pid), deadline_s=5)


def test_a_process_that_dies_is_started_again(place, monkeypatch):
    run_only(monkeypatch, Program("web", SLEEP, 1))
    with processes.supervised(place, os.environ) as supervisor:
        supervisor.start_platform()
        first = wait_for(lambda: supervisor.pids().get("web"))

        os.kill(first, signal.SIGKILL)

        wait_for(lambda: supervisor.pids().get("web") not in {first, None})


def test_the_end_leaves_no_process_not_even_one_that_is_deaf(place, monkeypatch):
    run_only(monkeypatch, Program("web", SLEEP, 1), Program("worker-cpu", DEAF, 1))
    with processes.supervised(place, os.environ) as supervisor:
        supervisor.start_platform()
        pids = wait_for(lambda: len(found := supervisor.pids()) == 3 and found)
        started = time.monotonic()

    assert [name for name, pid in pids.items() if alive(pid)] == []
    assert time.monotonic() - started < processes.STOP_WITHIN_S


def test_a_process_that_dies_again_and_again_is_told_once_with_its_last_words(place, monkeypatch):
    run_only(monkeypatch, Program("web", FAILS, 1))
    with processes.supervised(place, os.environ) as supervisor:
        supervisor.start_platform()

        trouble = wait_for(supervisor.trouble)

        assert [(one.name, "the last word" in one.last_lines) for one in trouble] == [("web", True)]
        assert supervisor.trouble() == []


@pytest.mark.parametrize("victim", ["supervisor", "starter"])
def test_no_process_outlives_the_kill_of_the_one_that_watches_it(place, tmp_path, victim):
    told = tmp_path / "pids"
    code = f"""
import json, os, pathlib, time
from qlibplatform.local import prepare, processes
from qlibplatform.local.programs import Program
processes.programs = lambda place: [Program("web", {SLEEP!r}, 1)]
processes.redis_program = lambda place: Program("redis", {SLEEP!r}, 1)
processes.wait_for_redis = lambda place: None
place = prepare.place_from({{"PLATFORM_STATE_DIR": {str(place.state_dir)!r}}})
with processes.supervised(place, os.environ) as supervisor:
    supervisor.start_platform()
    while len(supervisor.pids()) < 2:
        time.sleep(0.05)
    pids = {{**supervisor.pids(), "supervisor": supervisor._process.pid}}
    pathlib.Path({str(told)!r}).write_text(json.dumps(pids))
    time.sleep(600)
"""
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT)
    pids = json.loads(wait_for(lambda: told.exists() and told.read_text()))

    os.kill(pids["supervisor"] if victim == "supervisor" else starter.pid, signal.SIGKILL)

    try:
        wait_for(lambda: not any(alive(pid) for pid in pids.values()), deadline_s=15)
    finally:
        starter.kill()
        starter.wait()


@pytest.mark.redis
def test_redis_answers_on_its_private_socket_and_on_no_port(place, monkeypatch):
    monkeypatch.setattr(processes, "programs", lambda place: [])

    with processes.supervised(place, os.environ) as supervisor:
        title = Path(f"/proc/{supervisor.pids()['redis']}/cmdline").read_text()
        mode = stat.S_IMODE((place.runtime_dir / "redis.sock").stat().st_mode)

    # Redis tells in its title where it listens: "*:6379", were it a port.
    assert f"unixsocket:{place.runtime_dir / 'redis.sock'}" in title
    assert mode == 0o700
    assert (place.state_dir / "redis" / "appendonly.aof").exists() or list(
        (place.state_dir / "redis").glob("appendonlydir/*")
    )


def test_a_redis_that_the_environment_names_is_used_and_none_is_started(place, monkeypatch):
    monkeypatch.setattr(processes, "programs", lambda place: [])
    environment = {**os.environ, "PLATFORM_REDIS_URL": "redis://localhost:1/0"}

    with processes.supervised(place, environment) as supervisor:
        assert supervisor.pids() == {}


def test_an_old_redis_on_the_path_is_passed_over(tmp_path, monkeypatch):
    old = tmp_path / "redis-server"
    old.write_text('#!/bin/sh\necho "Redis server v=5.0.3 sha=0"\n')
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert programs.find_redis() != str(old)


def test_a_new_redis_on_the_path_is_taken(tmp_path, monkeypatch):
    new = tmp_path / "redis-server"
    new.write_text('#!/bin/sh\necho "Redis server v=7.0.15 sha=0"\n')
    new.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert programs.find_redis() == str(new)


def test_paths_with_blanks_percents_and_semicolons_survive_the_configuration(tmp_path, monkeypatch):
    place = prepare.place_from({"PLATFORM_STATE_DIR": str(tmp_path / "a b;%(here)s 1%s 'c'")})
    prepare.make_folders(place)
    told = place.state_dir / "told"
    says = f"import pathlib, time; pathlib.Path({str(told)!r}).touch(); print('up', flush=True)"
    run_only(monkeypatch, Program("web", (sys.executable, "-c", f"{says}; time.sleep(99)"), 1))

    with processes.supervised(place, os.environ) as supervisor:
        supervisor.start_platform()
        wait_for(told.exists)
        wait_for(lambda: "up" in programs.log_of(place, "web").read_text())


@pytest.mark.parametrize("name", ["and #1", "c ; d"])
def test_a_path_that_would_be_a_comment_is_refused_with_the_cure(tmp_path, name):
    with pytest.raises(CannotStart, match="PLATFORM_STATE_DIR"):
        prepare.place_from({"PLATFORM_STATE_DIR": str(tmp_path / name)})


def test_what_outlived_its_parent_is_found_and_ended(tmp_path):
    """As a leader does that waits for its database, in a session of its own."""
    told = tmp_path / "pid"
    sleeper = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(99)"
    command = [sys.executable, "-c", sleeper]
    parent = f"import subprocess; subprocess.Popen({command!r}, start_new_session=True)"
    script = f"""
import subprocess, sys, time
from pathlib import Path
from qlibplatform.local import processes
processes.adopt_orphans()
subprocess.run({[sys.executable, "-c", parent]!r})
while not Path({str(told)!r}).exists() or not Path({str(told)!r}).read_text():
    time.sleep(0.05)
processes.end_orphans()
"""
    subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, check=True, timeout=60)

    wait_for(lambda: not alive(int(told.read_text())), deadline_s=5)


@pytest.mark.parametrize("reaped", [True, False])
def test_a_lifeline_to_a_parent_that_is_dead_already_runs_nothing(tmp_path, reaped):
    parent = subprocess.Popen(["true"])
    wait_for(lambda: not alive(parent.pid))
    if reaped:
        parent.wait()
    command = [*programs.LIFELINE, "touch", str(tmp_path / "ran")]

    subprocess.run(
        command, cwd=CHECKOUT, check=True, env={**os.environ, "LIFELINE_PARENT": str(parent.pid)}
    )

    assert not (tmp_path / "ran").exists()
    parent.wait()
