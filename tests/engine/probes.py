"""What a training does in the tests of host and walls. A real host never loads it."""

import ctypes
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from training.engine.reporter import Reporter

Job = dict[str, Any]


def echo(job: Job, reporter: Reporter) -> Job:
    return {"job": job}


def describe(job: Job, reporter: Reporter) -> Job:
    """The surroundings a training finds itself in."""
    return {
        "cwd": os.getcwd(),
        "home": os.environ["HOME"],
        "environment": dict(os.environ),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "gc": gc.isenabled(),
        "random": random.random(),  # noqa: S311
        "group_is_own": os.getpgrp() == os.getpid(),
        "modules": sorted(sys.modules),
        "threads": len(os.listdir("/proc/self/task")),
        "numpy_random": sys.modules["numpy"].random.random() if "numpy" in sys.modules else None,
    }


def wait_for_orders(job: Job, reporter: Reporter) -> Job:
    """Runs until it is told to finish; `progress` raises when it is told to abort."""
    reporter.stage("fit", "waiting")
    for step in range(100_000):
        reporter.progress(step, None, unit="step")
        if reporter.order() == "finish":
            return {"steps": step}
        time.sleep(0.005)
    raise TimeoutError("nobody gave an order")


def talk(job: Job, reporter: Reporter) -> Job:
    """Many points and much progress, then the end."""
    reporter.stage("fit")
    for step in range(job["count"]):
        reporter.metrics([("loss", step, float("nan") if step == 3 else step / 2)])
        reporter.progress(step + 1, job["count"], unit="step")
    return {}


def talk_and_die(job: Job, reporter: Reporter) -> Job:
    reporter.metrics(("loss", step, 1.0) for step in range(job["count"]))
    reporter.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def talk_nonsense(job: Job, reporter: Reporter) -> Job:
    os.write(3, b"this is no JSON\n")
    return wait_for_orders(job, reporter)


def fail(job: Job, reporter: Reporter) -> Job:
    raise ValueError("no such column: clse")


def exit_without_a_word(job: Job, reporter: Reporter) -> Job:
    os._exit(7)


def die_by(job: Job, reporter: Reporter) -> Job:
    os.kill(os.getpid(), job["signal"])
    return wait_for_orders(job, reporter)


def grow(job: Job, reporter: Reporter) -> Job:
    """Takes memory in steps of `step_bytes`, up to 4 GB."""
    kept = []
    while len(kept) * job["step_bytes"] < 4 * 10**9:
        kept.append(b"x" * job["step_bytes"])
        reporter.progress(len(kept), None, unit="step")
        time.sleep(0.02)
    return {}


def burn(job: Job, reporter: Reporter) -> Job:
    while True:
        pass


def hang_in_native_code(job: Job, reporter: Reporter) -> Job:
    """Sleeps in C with the interpreter lock held and all signals blocked that can be."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    reporter.stage("fit")
    ctypes.PyDLL(None).sleep(60)
    return {}


def raise_a_family(job: Job, reporter: Reporter) -> Job:
    """A child in the group, and one that left it, then native code that never comes back."""
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    if job.get("setsid"):
        children.append(subprocess.Popen(["sleep", "60"], start_new_session=True))
    reporter.stage("fit", " ".join(str(child.pid) for child in children))
    return hang_in_native_code(job, reporter)


def try_everything(job: Job, reporter: Reporter) -> Job:
    """Each attempt by name, with "done" or the error's name."""
    attempts = {
        "read_secret": lambda: Path(job["secret"]).read_text(),
        "list_state": lambda: os.listdir(Path(job["secret"]).parent),
        "write_beside": lambda: Path(job["secret"]).with_name("new").write_text("x"),
        "read_dataset": lambda: Path(job["dataset"]["path"], "day.txt").read_text(),
        "write_dataset": lambda: Path(job["dataset"]["path"], "new").write_text("x"),
        "write_scratch": lambda: Path("artifact").write_text("x"),
        "connect_tcp": lambda: socket.create_connection(("127.0.0.1", job["port"]), 2).close(),
        "signal_leader": lambda: os.kill(job["leader"], 0),
        "read_leader_environment": lambda: Path(f"/proc/{job['leader']}/environ").read_bytes(),
        "read_leader_memory": lambda: open(f"/proc/{job['leader']}/mem", "rb").close(),
        "run_a_program": lambda: subprocess.run(["true"], check=True),
        "import_a_module": lambda: __import__("xml.dom.minidom"),
        "make_a_semaphore": lambda: __import__("multiprocessing").Semaphore(),
    }
    return {name: _try(attempt) for name, attempt in attempts.items()}


def ask_for_another_training(job: Job, reporter: Reporter) -> Job:
    """Sends the host a request of its own, as a leader would, and tells whether it was heard."""
    from training.engine.protocol import Channel

    connection = socket.socket(socket.AF_UNIX)
    connection.connect(job["socket"])
    channel = Channel(connection)
    log = os.open("other.log", os.O_WRONLY | os.O_CREAT)
    ours, theirs = socket.socketpair()
    request = {
        "type": "start",
        "scratch_dir": os.getcwd(),
        "limits": {},
        "readable": ["/"],
        "writable": ["/"],
    }
    channel.send(request, [theirs.fileno(), log, os.pipe()[0]])
    subprocess.Popen(["sleep", "60"], start_new_session=True)
    return {}


def _try(attempt: Any) -> str:
    try:
        attempt()
    except Exception as error:
        return type(error).__name__
    return "done"
