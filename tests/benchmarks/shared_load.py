"""Times the loading of features that another task has made, beside making them and Qlib's own.

    python tests/benchmarks/shared_load.py STORE [--handler Alpha158] [--threads 2] [--rounds 3]

STORE: a Qlib store's folder. A leader with its desk, on an SQLite file, and for each figure a fresh
process that loads and asks it over a socket, as in a worker; the rounds go made, shared, Qlib, made
… Each round begins with an empty store. Seconds are the handler's, without processors and imports;
CPU seconds, with Qlib's init, mean something on a busy machine too.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("made", "shared", "qlib")


class _NoPeak:
    def end(self) -> dict[str, int]:
        return {}


def load_in_child(spec: dict[str, Any]) -> dict[str, Any]:
    """One load in this process, whose working directory is its scratch home."""
    import features_load
    import qlib.contrib.data.handler  # noqa: F401

    import training.engine.features.columns as columns
    from training.engine.features.shared import SharedColumns
    from training.engine.protocol import Channel
    from training.engine.reporter import Reporter

    reporter = Reporter(Channel(socket.socket(fileno=spec["socket"])))
    # Where that benchmark computes into scratch memory, this one asks a leader.
    columns.ScratchColumns = lambda _: SharedColumns(reporter, threads=spec["threads"])
    # Its looks at the memory would count as the load's own work.
    features_load.Peak = _NoPeak
    begun = time.process_time()
    told = features_load.measure(spec)
    return {**told, "cpu_s": time.process_time() - begun}


def with_leader(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One load by a fresh process, and what the desk says of it."""
    from django.contrib.auth.models import User

    from tests.factories import make_task
    from training.desk import Desk
    from training.engine.protocol import Channel
    from training.states import Status

    owner, _ = User.objects.get_or_create(username="bench")
    task = make_task(owner, status=Status.RUNNING)
    home = folder / task.id
    home.mkdir()
    desk = Desk(task, home=home)
    mine, theirs = socket.socketpair()
    leader = Channel(mine)
    desk.open(leader.send)
    ear = threading.Thread(target=_pass_on, args=(leader, desk))
    ear.start()
    with theirs:
        told = _child({**spec, "socket": theirs.fileno()}, home)
    ear.join()
    desk.close(hurry=False)
    leader.close()
    return {**told, **desk.figures()}


def _pass_on(leader: Any, desk: Any) -> None:
    while not leader.is_closed:
        for message in leader.receive():
            desk.hear(message)


def _child(spec: dict[str, Any], home: Path) -> dict[str, Any]:
    threads = str(spec["threads"])
    limits = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), threads
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--one", json.dumps(spec)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=home,
        pass_fds=[spec["socket"]],
        env={**os.environ, **limits, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"},
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    """The rounds, then medians and their ratios to Qlib."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", nargs="?")
    parser.add_argument("--handler", default="Alpha158", choices=["Alpha158", "Alpha360"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--start", default="2013-01-02")
    parser.add_argument("--end", default="2018-12-21")
    parser.add_argument("--fit-end", default="2016-12-30")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(load_in_child(json.loads(options.one))))  # noqa: T201
        return
    with tempfile.TemporaryDirectory() as state:
        os.environ |= {"PLATFORM_STATE_DIR": state}
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qlibplatform.settings")
        sys.path.insert(0, str(ROOT))
        _rounds(options, Path(state))


def _rounds(options: argparse.Namespace, state: Path) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    base = {**vars(options), "store": str(Path(options.store).absolute()), "scratch": "."}
    told: dict[str, list[float]] = {kind: [] for kind in KINDS}
    cpu: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(options.rounds):
        shutil.rmtree(state / "features", ignore_errors=True)
        for kind in KINDS:
            evaluator = "qlib" if kind == "qlib" else "platform"
            spec = {**base, "evaluator": evaluator, "whole": False, "digest": False}
            one = with_leader(spec, state)
            told[kind].append(one["seconds"])
            cpu[kind].append(one["cpu_s"])
            print(number + 1, kind, one, flush=True)  # noqa: T201
    for name, taken in (("seconds", told), ("CPU seconds", cpu)):
        middle = {kind: statistics.median(values) for kind, values in taken.items()}
        print(name, {kind: round(value, 2) for kind, value in middle.items()})  # noqa: T201
        for kind in ("made", "shared"):
            ratios = [a / b for a, b in zip(taken[kind], taken["qlib"], strict=True)]
            print(f"  {kind} ÷ Qlib: 1/{1 / statistics.median(ratios):.0f}")  # noqa: T201


if __name__ == "__main__":
    main()
