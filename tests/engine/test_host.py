"""Host, training and handle with real processes: starts, orders, kills, limits, walls."""

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from training.engine import handle, keeper, openmp
from training.engine.handle import HostBusy, HostLost, Training
from training.engine.keeper import EngineHost
from training.engine.verdict import Limits, classify

PROBES = Path(__file__).with_name("probes.py")
LIMITS = Limits(memory_bytes=10**9, wall_s=30)
DEADLINE_S = 60.0
GONE_S = 20.0
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="makes a private mount namespace: root")

Start = Callable[..., Training]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    """A bare host, shared by this module's tests; whoever kills it is followed by a restart."""
    runtime_dir = tmp_path_factory.mktemp("run")
    host = EngineHost.start(runtime_dir=runtime_dir, cores=1, preload=False, probes=PROBES)
    yield host
    host.stop()


@pytest.fixture
def start(host: EngineHost, tmp_path: Path) -> Iterator[Start]:
    """Starts probes by name; what a test leaves running is closed."""
    host.ensure_alive()
    with contextlib.ExitStack() as stack:

        def start_probe(probe: str, limits: Limits = LIMITS, **job: Any) -> Training:
            return stack.enter_context(start_training(host, tmp_path, probe, limits, **job))

        yield start_probe


def start_training(
    host: EngineHost,
    folder: Path,
    probe: str,
    limits: Limits = LIMITS,
    *,
    is_wanted: Callable[[], bool] = lambda: True,
    **job: Any,
) -> Training:
    return Training.start(
        socket_path=host.socket_path,
        host_pidfd=host.pidfd,
        job={"probe": probe, **job},
        scratch_dir=folder / "scratch",
        log_path=folder / "log.txt",
        limits=limits,
        start_timeout_s=DEADLINE_S,
        is_wanted=is_wanted,
    )


def follow(training: Training, until: str | None = None) -> list[dict[str, Any]]:
    """All messages up to the first of type `until`, or to the training's end."""
    received: list[dict[str, Any]] = []
    deadline = time.monotonic() + DEADLINE_S
    while training.ended is None and not training.host_lost:
        assert time.monotonic() < deadline, f"no end in {DEADLINE_S} s; got {received[-3:]}"
        received += training.messages(0.5)
        if until is not None and any(message["type"] == until for message in received):
            break
    return received


def last_word(messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((m for m in reversed(messages) if m["type"] in ("done", "failed")), None)


def result_of(training: Training) -> dict[str, Any]:
    final = last_word(follow(training))
    assert final is not None
    assert final["type"] == "done", final
    result: dict[str, Any] = final["result"]
    return result


def assert_within(seconds: float, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        select.select([], [], [], 0.005)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def pids_told(messages: list[dict[str, Any]]) -> list[int]:
    """The children that `raise_a_family` named in its stage's message."""
    stage = next(message for message in messages if message["type"] == "stage")
    return [int(pid) for pid in stage["message"].split()]


def test_a_job_arrives_unchanged_and_its_result_comes_back(start):
    training = start("echo", text="naïve", numbers=[1, 2.5, None])

    messages = follow(training)

    assert [message["type"] for message in messages] == ["hello", "done", "exit"]
    assert messages[1]["result"]["job"]["text"] == "naïve"
    assert messages[1]["result"]["job"]["numbers"] == [1, 2.5, None]
    assert training.ended is not None
    assert (training.ended["code"], training.ended["signal"]) == (0, 0)
    assert training.messages(0) == []


def test_a_training_finds_its_scratch_folder_and_nothing_of_the_workers(
    start, tmp_path, monkeypatch
):
    monkeypatch.setenv("PLATFORM_SECRET", "hunter2")

    found = result_of(start("describe"))

    assert found["cwd"] == found["home"] == str((tmp_path / "scratch").resolve())
    assert not [name for name in found["environment"] if name.startswith("PLATFORM_")]
    assert "hunter2" not in str(found["environment"])
    # 0-2, the channel, two life lines, and the listing itself.
    assert found["descriptors"] == [0, 1, 2, 3, 4, 5, 6]
    assert found["gc"] is True
    assert found["group_is_own"] is True
    assert found["threads"] == 1
    assert not {"django", "rq", "redis"} & set(found["modules"])


def test_two_trainings_have_different_random_states(start):
    first, second = result_of(start("describe")), result_of(start("describe"))

    assert first["random"] != second["random"]


def test_output_and_traceback_go_to_the_log_and_the_failure_to_the_leader(start, tmp_path):
    messages = follow(start("fail"))

    final = last_word(messages)
    assert final is not None
    assert (final["type"], final["code"]) == ("failed", "training_error")
    assert final["error"].startswith("ValueError: no such column: clse")
    log = (tmp_path / "log.txt").read_text()
    assert "Traceback" in log
    assert "fences" in log or "Landlock is not available" in log


def test_finish_ends_early_with_a_result_and_abort_without(start):
    finishing = start("wait_for_orders")
    follow(finishing, until="progress")
    finishing.order("finish")
    finished = last_word(follow(finishing))
    aborting = start("wait_for_orders")
    follow(aborting, until="progress")
    aborting.order("abort")
    aborted = last_word(follow(aborting))

    assert finished is not None
    assert aborted is not None
    assert (finished["type"], finished["stopped"]) == ("done", "finish")
    assert (aborted["type"], aborted["code"]) == ("failed", "cancelled")


def test_an_order_to_a_training_that_is_gone_raises_nothing(start):
    training = start("echo")
    follow(training)

    training.order("abort")
    training.kill()
    training.close()
    training.close()


def test_last_words_come_before_the_end_even_if_the_training_is_killed_right_after(start):
    training = start("talk_and_die", count=2000)
    # The end is there to read before anything else was read, and the words need several reads.
    assert_within(DEADLINE_S, training._host.is_ready, "the host has reported the end")

    messages = follow(training)

    points = [point for m in messages if m["type"] == "metrics" for point in m["points"]]
    assert len(points) == 2000
    assert [message["type"] for message in messages][-1] == "exit"
    assert messages[-1]["signal"] == signal.SIGKILL


def test_nonsense_from_a_training_ends_it_with_a_sentence(start):
    training = start("talk_nonsense")

    final = last_word(follow(training))

    assert final is not None
    assert "unreadable" in final["error"]
    assert_within(GONE_S, training.group_is_empty, "the group is gone")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_is_told_by_its_name(start, number):
    training = start("die_by", signal=number)
    final = last_word(follow(training))

    outcome = classify(
        final=final, ended=training.ended, killed_because=None, peak_memory_bytes=0, limits=LIMITS
    )

    assert (outcome.kind, outcome.code) == ("failed", "training_killed")
    assert number.name in outcome.error


def test_an_exit_without_a_word_is_told_with_its_code(start):
    training = start("exit_without_a_word")
    follow(training)

    assert training.ended is not None
    assert training.ended["code"] == 7


def test_a_training_stuck_in_native_code_is_killed_with_all_its_children(start):
    training = start("raise_a_family", setsid=True)
    children = pids_told(follow(training, until="stage"))
    assert len(children) == 3
    assert all(map(is_running, children))

    training.kill()
    messages = follow(training)

    assert messages[-1]["signal"] == signal.SIGKILL
    assert messages[-1]["swept"] >= 3
    assert training.group_is_empty()
    assert not any(map(is_running, children))


def test_memory_is_measured_and_what_grows_too_fast_meets_the_backstop(start):
    limits = Limits(memory_bytes=300 * 10**6, wall_s=30)
    slow = start("grow", limits, step_bytes=20 * 10**6)
    while slow.memory_bytes() < limits.memory_bytes and not last_word(slow.messages(0.05)):
        pass
    slow.kill()
    follow(slow)
    fast = start("grow", limits, step_bytes=600 * 10**6)
    final = last_word(follow(fast))

    assert 300 * 10**6 <= slow.peak_memory_bytes < 420 * 10**6
    assert final is not None
    assert final["code"] == "out_of_memory"
    assert fast.ended is not None
    assert fast.ended["max_rss_bytes"] < limits.memory_bytes


def test_the_cpu_limit_tells_its_reason(start):
    limits = Limits(memory_bytes=10**9, wall_s=30, cpu_s=1)
    training = start("burn", limits)
    follow(training)

    outcome = classify(
        final=None, ended=training.ended, killed_because=None, peak_memory_bytes=0, limits=limits
    )

    assert training.ended is not None
    assert training.ended["signal"] == signal.SIGXCPU
    assert outcome.code == "timed_out"


def test_a_stopped_and_continued_training_is_told(start):
    training = start("wait_for_orders")
    follow(training, until="progress")

    os.kill(training.pid, signal.SIGSTOP)
    stopped = follow(training, until="stopped")
    os.kill(training.pid, signal.SIGCONT)
    continued = follow(training, until="continued")

    assert stopped[-1]["signal"] == signal.SIGSTOP
    assert continued
    assert training.ended is None


def test_a_training_dies_with_its_leader_children_and_native_code_and_all(host, tmp_path):
    told, tell = os.pipe()
    leader = os.fork()
    if leader == 0:
        training = start_training(host, tmp_path, "raise_a_family")
        pids = [training.pid, *pids_told(follow(training, until="stage"))]
        os.write(tell, " ".join(map(str, pids)).encode())
        signal.pause()
    pids = [int(pid) for pid in os.read(told, 100).split()]
    assert all(map(is_running, pids))

    os.kill(leader, signal.SIGKILL)
    os.waitpid(leader, 0)

    assert_within(GONE_S, lambda: not any(map(is_running, pids)), "training and children are gone")
    for descriptor in (told, tell):
        os.close(descriptor)


def test_a_training_dies_with_its_host_and_the_leader_is_told(host, start):
    training = start("raise_a_family")
    pids = [training.pid, *pids_told(follow(training, until="stage"))]

    os.kill(host.pid, signal.SIGKILL)
    follow(training)

    assert training.host_lost
    assert training.ended is None
    assert training.messages(1) == []
    assert_within(GONE_S, lambda: not any(map(is_running, pids)), "training and children are gone")
    assert training.group_is_empty()


def test_a_killed_training_is_gone_even_under_a_stopped_host(host, start):
    training = start("raise_a_family")
    pids = pids_told(follow(training, until="stage"))
    os.kill(host.pid, signal.SIGSTOP)

    training.kill()

    assert_within(GONE_S, training.group_is_empty, "the group is gone")
    assert not any(map(is_running, pids))
    os.kill(host.pid, signal.SIGCONT)
    assert follow(training)[-1]["type"] == "exit"


def test_a_silent_host_is_given_up_after_a_while(host, start, monkeypatch):
    monkeypatch.setattr(handle, "EXIT_REPORT_TIMEOUT_S", 0.2)
    training = start("wait_for_orders")
    follow(training, until="progress")
    os.kill(host.pid, signal.SIGSTOP)

    training.kill()
    follow(training)

    assert training.host_lost
    os.kill(host.pid, signal.SIGCONT)


def test_a_dead_host_is_replaced_behind_the_same_path(host, start):
    first_pid, path = host.pid, host.socket_path
    os.kill(first_pid, signal.SIGKILL)
    assert_within(GONE_S, lambda: not host.is_alive(), "the host's death is seen")

    assert host.ensure_alive() is True
    assert host.ensure_alive() is False

    assert (host.pid != first_pid, host.socket_path) == (True, path)
    assert result_of(start("echo"))


def spare_of(host: EngineHost) -> int:
    """The pid of the fork that waits to be the next training."""
    children = Path(f"/proc/{host.pid}/task/{host.pid}/children")
    deadline = time.monotonic() + DEADLINE_S
    while not (pids := children.read_text().split()):
        assert time.monotonic() < deadline, "the host has no spare"
        select.select([], [], [], 0.005)
    (pid,) = map(int, pids)
    return pid


def test_the_next_training_waits_already_and_a_new_spare_follows_it(host, start):
    assert result_of(start("echo"))
    waiting = spare_of(host)
    training = start("wait_for_orders")

    assert training.pid == waiting
    training.kill()
    follow(training)

    assert spare_of(host) != waiting


def test_a_spare_that_has_died_is_replaced(host, start):
    assert result_of(start("echo"))
    waiting = spare_of(host)
    os.kill(waiting, signal.SIGKILL)
    assert_within(GONE_S, lambda: not is_running(waiting), "the spare is dead")

    training = start("echo")

    assert training.pid != waiting
    assert result_of(training)


@pytest.mark.parametrize("ending", [signal.SIGKILL, None], ids=["killed", "stopped in order"])
def test_a_spare_ends_with_its_host(tmp_path, ending):
    host = EngineHost.start(runtime_dir=tmp_path, cores=1, preload=False, probes=PROBES)
    waiting = spare_of(host)
    if ending:
        os.kill(host.pid, ending)
    else:
        host.stop()

    assert_within(GONE_S, lambda: not is_running(waiting), "the spare is gone")
    host.stop()


def test_a_leader_in_the_backlog_of_a_dying_host_is_told(host, start, tmp_path):
    start("wait_for_orders")
    os.kill(host.pid, signal.SIGSTOP)
    pidfd, pid = host.pidfd, host.pid
    killer = os.fork()
    if killer == 0:
        select.select([], [], [], 0.2)
        os.kill(pid, signal.SIGKILL)
        os._exit(0)

    with pytest.raises(HostLost):
        Training.start(
            socket_path=host.socket_path,
            host_pidfd=pidfd,
            job={"probe": "echo"},
            scratch_dir=tmp_path / "second",
            log_path=tmp_path / "second.txt",
            limits=LIMITS,
        )

    os.waitpid(killer, 0)


def test_a_second_training_waits_for_the_first_and_gives_up_in_time(host, start, tmp_path):
    first = start("wait_for_orders")
    wanted = {
        "socket_path": host.socket_path,
        "host_pidfd": host.pidfd,
        "job": {"probe": "echo"},
        "scratch_dir": tmp_path / "second",
        "log_path": tmp_path / "second.txt",
        "limits": LIMITS,
    }

    with pytest.raises(HostBusy):
        Training.start(**wanted, start_timeout_s=0.2)
    first.kill()
    follow(first)

    with Training.start(**wanted) as second:
        assert result_of(second)


def test_who_waits_for_a_host_leaves_once_the_training_is_not_wanted_any_more(host, tmp_path):
    os.kill(host.pid, signal.SIGSTOP)
    asked = []

    begun = time.monotonic()
    try:
        with pytest.raises(HostBusy, match="called off"):
            Training.start(
                socket_path=host.socket_path,
                host_pidfd=host.pidfd,
                job={"probe": "echo"},
                scratch_dir=tmp_path / "scratch",
                log_path=tmp_path / "log.txt",
                limits=LIMITS,
                is_wanted=lambda: asked.append(1) or len(asked) < 3,
            )
    finally:
        os.kill(host.pid, signal.SIGCONT)

    assert time.monotonic() - begun < GONE_S


def test_a_host_that_is_not_there_is_lost(tmp_path):
    with pytest.raises(HostLost, match="no engine host"):
        Training.start(
            socket_path=tmp_path / "none.sock",
            host_pidfd=None,
            job={},
            scratch_dir=tmp_path / "scratch",
            log_path=tmp_path / "log.txt",
            limits=LIMITS,
        )


@pytest.mark.qlib
def test_a_host_without_probes_runs_none(tmp_path):
    host = EngineHost.start(runtime_dir=tmp_path / "run", cores=1, preload=False)
    try:
        with start_training(host, tmp_path, "echo") as training:
            final = last_word(follow(training))
    finally:
        host.stop()

    assert final is not None
    assert final["type"] == "failed"


def test_stop_ends_host_and_training_and_removes_the_socket(tmp_path):
    host = EngineHost.start(runtime_dir=tmp_path / "run", cores=1, preload=False, probes=PROBES)
    with start_training(host, tmp_path, "wait_for_orders") as training:
        pid = host.pid

        host.stop(timeout_s=0.2)
        host.stop()

        assert not is_running(pid)
        assert_within(GONE_S, training.group_is_empty, "the training went with its host")
    assert not host.socket_path.exists()


def fill_queue(host: EngineHost) -> None:
    """Leaders that have gone again: they stay in the queue until the host has looked at them."""
    while True:
        with socket.socket(socket.AF_UNIX) as one:
            one.setblocking(False)
            try:
                one.connect(str(host.socket_path))
            except BlockingIOError:
                return


def test_a_full_queue_is_waited_for(tmp_path):
    host = EngineHost.start(runtime_dir=tmp_path / "run", cores=1, preload=False, probes=PROBES)
    with start_training(host, tmp_path, "echo") as training:
        last_word(follow(training))
    os.kill(host.pid, signal.SIGSTOP)
    fill_queue(host)
    asked = []

    def is_wanted() -> bool:
        asked.append(True)
        if len(asked) == 3:
            os.kill(host.pid, signal.SIGCONT)
        return True

    try:
        with start_training(host, tmp_path, "echo", is_wanted=is_wanted) as training:
            final = last_word(follow(training))
    finally:
        host.stop()

    assert final is not None
    assert final["type"] == "done"


@pytest.mark.parametrize("end", ["called off", "died"])
def test_a_full_queue_is_not_waited_for_in_vain(tmp_path, end):
    host = EngineHost.start(runtime_dir=tmp_path / "run", cores=1, preload=False, probes=PROBES)
    with start_training(host, tmp_path, "echo") as training:
        last_word(follow(training))
    os.kill(host.pid, signal.SIGSTOP)
    fill_queue(host)

    def is_wanted() -> bool:
        if end == "died":
            os.kill(host.pid, signal.SIGKILL)
        return end == "died"

    try:
        with pytest.raises(HostLost if end == "died" else HostBusy, match=end):
            start_training(host, tmp_path, "echo", is_wanted=is_wanted)
    finally:
        host.stop(timeout_s=0)


def test_a_host_that_still_imports_is_not_waited_for(tmp_path):
    host = EngineHost.start(runtime_dir=tmp_path / "run", cores=1)

    host.stop()

    assert host._process.returncode == -signal.SIGTERM


def test_a_host_that_cannot_start_says_why(tmp_path):
    host = EngineHost.start(
        runtime_dir=tmp_path / "run", cores=1, preload=False, probes=tmp_path / "absent.py"
    )

    with pytest.raises(HostLost):
        start_training(host, tmp_path, "echo")

    assert "absent.py" in host.last_words()
    host.stop()


def test_a_socket_path_that_is_too_long_is_refused_with_its_cure(tmp_path):
    with pytest.raises(ValueError, match="shorter runtime folder"):
        EngineHost.start(runtime_dir=tmp_path / ("x" * 120), cores=1, preload=False)


def test_walls_hold_what_a_training_must_not_and_let_through_what_it_needs(start, tmp_path):
    state = tmp_path / "var"
    dataset = state / "datasets" / "demo"
    dataset.mkdir(parents=True)
    (dataset / "day.txt").write_text("2020-01-02")
    (state / "secret.key").write_text("hunter2")
    listener = socket.create_server(("127.0.0.1", 0))

    found = result_of(
        start(
            "try_everything",
            secret=str(state / "secret.key"),
            dataset={"path": str(dataset)},
            port=listener.getsockname()[1],
            leader=os.getpid(),
        )
    )
    listener.close()

    allowed = {name for name, ending in found.items() if ending == "done"}
    assert allowed == {
        *("read_dataset", "write_scratch", "run_a_program", "import_a_module", "make_a_semaphore"),
    }, found
    assert {ending for name, ending in found.items() if name not in allowed} == {"PermissionError"}


def test_a_training_cannot_have_the_host_start_another(host, start, tmp_path):
    training = start("ask_for_another_training", socket=str(host.socket_path))
    follow(training)

    again = result_of(start("echo"))

    assert again
    assert (tmp_path / "scratch" / "other.log").read_text() == ""


def test_only_the_worker_and_its_own_forks_are_served(host, tmp_path):
    refused = 3
    fork = os.fork()
    if fork == 0:
        grandchild = os.fork()
        if grandchild == 0:
            # Hard exits: this copy of the test run must never reach the end of the test.
            try:
                start_training(host, tmp_path, "echo")
            except HostLost:
                os._exit(refused)
            os._exit(0)
        _, status = os.waitpid(grandchild, 0)
        os._exit(os.waitstatus_to_exitcode(status))

    _, status = os.waitpid(fork, 0)

    assert os.waitstatus_to_exitcode(status) == refused


@pytest.mark.qlib
def test_the_loaded_host_has_one_thread_and_forks_with_qlib_warm(tmp_path):
    host = EngineHost.start(runtime_dir=tmp_path / "run", cores=1, probes=PROBES)
    training = Training.start(
        socket_path=host.socket_path,
        host_pidfd=host.pidfd,
        job={"probe": "describe"},
        scratch_dir=tmp_path / "scratch",
        log_path=tmp_path / "log.txt",
        limits=Limits(memory_bytes=2 * 10**9, wall_s=30),
    )
    with training:
        found = result_of(training)
    host.stop()

    assert found["threads"] == 1
    assert {"qlib.workflow.record_temp", "lightgbm"} <= set(found["modules"])
    assert found["numpy_random"] is not None


@ROOT_ONLY
@pytest.mark.qlib
def test_lightgbm_imports_where_the_system_has_no_libgomp(tmp_path):
    pytest.importorskip("sklearn")
    assert openmp.find_copy() is not None
    inside = f"""
import ctypes, os, pathlib, sys
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
    sys.exit(77)
for folder in ("/usr/lib", "/lib", "/usr/lib64", "/usr/local/lib"):
    for found in pathlib.Path(folder).glob("**/libgomp.so.1.*"):
        if libc.mount(b"/dev/null", os.fsencode(found.resolve()), None, MS_BIND, None):
            sys.exit(77)
if "--check" in sys.argv:
    import lightgbm
sys.orig_argv[1:] = ["-c", "import lightgbm; print(lightgbm.__version__)"]
from training.engine import openmp
openmp.ensure_findable(pathlib.Path({str(tmp_path)!r}))
"""
    import subprocess

    environment = {**keeper.host_environment(1)}
    plain = subprocess.run(
        [sys.executable, "-c", inside, "--check"], env=environment, capture_output=True, text=True
    )
    if plain.returncode == 77:
        pytest.skip("this machine allows no mount namespace")
    healed = subprocess.run(
        [sys.executable, "-c", inside], env=environment, capture_output=True, text=True
    )

    assert "libgomp.so.1" in plain.stderr
    assert healed.returncode == 0, healed.stderr
    assert healed.stdout.strip()
