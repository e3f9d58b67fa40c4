"""The API's calls a second beside Django as usual and other servers, turn by turn in one run.

    python tests/postgres.py python -m tests.benchmarks.rates --rounds 3 --seconds 5 \
        --peer "prefect one GET http://127.0.0.1:4200/api/flow_runs/ID" \
        --peer 'prefect list POST http://127.0.0.1:4200/api/flow_runs/filter {"limit":20}'

Sixteen connections of `wrk`, a bearer token with each call; "usual" is `usual.py` under daphne, on
the same database. A peer is a running server of yours: name, call, method, address and, if need
be, a JSON body. Prints the median of the rounds, the answers that were no 2xx, and, of our web
process, the processor time of a call.
"""

import argparse
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qlibplatform.settings")

import django

django.setup(set_prefix=False)

from tests.live.conftest import free_port  # noqa: E402
from training.api.submit import EXAMPLE  # noqa: E402

TASKS = 1_000
CONNECTIONS = 16


@dataclass(frozen=True)
class Call:
    """One kind of request to one server; pid: whose processor time is told."""

    server: str
    name: str
    method: str
    url: str
    authorization: str = ""
    body: str = ""
    pid: int = 0


def main() -> None:
    """The rounds, then a line for each call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--peer", action="append", default=[])
    asked = parser.parse_args()
    with _served() as calls:
        calls += [
            Call(*told.split(" ", 4)[:4], body="".join(told.split(" ", 4)[4:]))
            for told in asked.peer
        ]
        rounds: dict[Call, list[dict[str, float]]] = {call: [] for call in calls}
        for _ in range(asked.rounds):
            for call in calls:
                rounds[call].append(measure(call, seconds=asked.seconds))
    for call, found in rounds.items():
        median = {
            name: round(statistics.median(one[name] for one in found), 2) for name in found[0]
        }
        print(json.dumps({"server": call.server, "call": call.name, **median}))  # noqa: T201


@contextlib.contextmanager
def _served() -> Iterator[list[Call]]:
    """Our web process and Django as usual, on one database."""
    command = [sys.executable, "-m", "tests.benchmarks.served", "daphne", "--tasks", str(TASKS)]
    served = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert served.stdout is not None
    told = json.loads(served.stdout.readline())
    port = free_port()
    endpoint = f"tcp:port={port}:interface=127.0.0.1:backlog=1024"
    usual = subprocess.Popen(
        [sys.executable, "-m", "daphne", "-e", endpoint, "tests.benchmarks.usual:application"],
        env={**os.environ, **told["env"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        ours = f"http://{told['address'].removeprefix('http://')}"
        there = f"http://127.0.0.1:{port}"
        yield [
            *_calls("ours", ours, told, pid=told["web_pid"]),
            *_calls("usual", there, told, pid=usual.pid),
        ]
    finally:
        # It would wait for what it has not answered.
        usual.kill()
        usual.wait()
        served.communicate()


def _calls(server: str, address: str, told: dict[str, Any], *, pid: int) -> list[Call]:
    urls = {"one": f"/api/tasks/{told['tasks'][5]}", "list": "/api/tasks", "post": "/api/train"}
    posts = {"ours": EXAMPLE, "usual": _row_of(EXAMPLE)}
    return [
        Call(
            server,
            name,
            "POST" if name == "post" else "GET",
            address + path,
            f"Bearer {told['token']}",
            json.dumps(posts[server]) if name == "post" else "",
            pid,
        )
        for name, path in urls.items()
    ]


def _row_of(workflow: dict[str, Any]) -> dict[str, Any]:
    """What a server that checks nothing must be told, as it finds out nothing by itself."""
    told = {"dataset": "demo", "dataset_version": "v1", "model": "LGBModel", "queue": "cpu"}
    return {**told, "posted": json.dumps(workflow), "config": workflow, "name": "my first"}


def measure(call: Call, *, seconds: int) -> dict[str, float]:
    """One run of the load. Raises: subprocess.CalledProcessError, if it could not connect."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "{call.method}"\n')
        script.write('wrk.headers["Content-Type"] = "application/json"\n')
        if call.authorization:
            script.write(f'wrk.headers["Authorization"] = "{call.authorization}"\n')
        if call.body:
            script.write(f"wrk.body = [==[{call.body}]==]\n")
        script.flush()
        before = _cpu_s(call.pid)
        done = subprocess.run(
            ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script.name, call.url],
            check=True,
            capture_output=True,
            text=True,
        )
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])  # type: ignore[index]
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    cpu_ms = 1e3 * (_cpu_s(call.pid) - before) / max(rate * seconds, 1)
    return {"per_s": rate, "not_2xx": float(refused[1]) if refused else 0.0, "cpu_ms": cpu_ms}


def _cpu_s(pid: int) -> float:
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("the usual server does not start")


if __name__ == "__main__":
    main()
