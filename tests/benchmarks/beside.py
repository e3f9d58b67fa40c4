"""Our sockets beside a peer's, turn by turn in one run: latency, deliveries, memory, connects.

    python -m tests.benchmarks.beside --rows ten,one --rounds 3 --load "PYTHON LOAD_CLIENT" \
        --peer "PYTHON -m uvicorn peer:app" --servers daphne,uvicorn --out results.jsonl

The load client takes the options that `_measure` gives and prints one line of JSON; the peer serves
`/ws/train/{task}` and publishes by itself when POST /internal/emit asks it to. Every row has a
fresh server where its memory counts, else one server for all rounds. Prints the medians.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.live.conftest import _answers, free_port

PEER = "peer"


@dataclass(frozen=True)
class Row:
    """One load: sockets over tasks, updates a second over all tasks (0: no pause)."""

    sockets: int
    tasks: int
    rate: int
    count: int
    fresh: bool = False
    commit: bool = False


ROWS = {
    "ten": Row(1_000, 10, 20, 200),
    "hundred": Row(100, 1, 20, 200),
    "one": Row(1, 1, 20, 200),
    "sustained": Row(100, 1, 0, 4_000),
    "many": Row(9_900, 100, 50, 500, fresh=True),
    "commit": Row(2_000, 100, 200, 2_000, commit=True),
}

TOLD = (
    "lat_p50_us", "lat_p99_us", "delivered_per_s", "server_cpu_us_per_msg", "connect_per_s",
    "rss_per_socket_kb", "connected", "connect_fails", "lost", "gaps", "dup", "publisher",
)  # fmt: skip


@dataclass
class Server:
    """A running server and how it is made to publish."""

    name: str
    process: "subprocess.Popen[str]"
    address: str
    web_pid: int
    tasks: list[str]
    token: str
    env: dict[str, str]


@contextlib.contextmanager
def serving(name: str, row: Row, peer: str) -> Iterator[Server]:
    """The server, until the end of the block."""
    server = _peer(peer, row) if name == PEER else _ours(name, row)
    try:
        yield server
    finally:
        if server.process.stdin:
            server.process.stdin.close()
        else:
            server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=60)


def _peer(command: str, row: Row) -> Server:
    port = free_port()
    process = subprocess.Popen([*shlex.split(command), "--port", str(port)], text=True)
    while not _answers(("127.0.0.1", port)):
        time.sleep(0.05)
    tasks = [f"t{number}" for number in range(row.tasks)]
    return Server(PEER, process, f"127.0.0.1:{port}", process.pid, tasks, "", {})


def _ours(name: str, row: Row) -> Server:
    command = [sys.executable, "-m", "tests.benchmarks.served", name, "--tasks", str(row.tasks)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    told = json.loads(process.stdout.readline())
    return Server(
        name, process, told["address"], told["web_pid"], told["tasks"], told["token"], told["env"]
    )


def measure(server: Server, row: Row, load: str) -> dict[str, Any]:
    """One load on one server, as the load client tells it."""
    command = [*shlex.split(load), "--url", f"ws://{server.address}/ws/train/{{task}}"]
    command += ["--tasks", ",".join(server.tasks), "-n", str(row.sockets)]
    command += ["--rate", str(row.rate), "--count", str(row.count), "--warmup", "0.1"]
    command += ["--server-pid", str(server.web_pid), "--settle", "2.5" if row.fresh else "1"]
    if server.name == PEER:
        command += ["--emit-http", f"http://{server.address}/internal/emit"]
    else:
        publisher = f"{sys.executable} -m tests.benchmarks.publisher --tasks {{tasks}}"
        publisher += " --rate {rate} --count {count}" + (" --commit" if row.commit else "")
        command += ["--header", f"Authorization: Bearer {server.token}", "--emit-cmd", publisher]
    env = {**os.environ, **server.env}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def run(name: str, asked: argparse.Namespace) -> None:
    """All rounds of one row, turn by turn; each line goes to the file at once."""
    row = ROWS[name]
    servers = asked.servers.split(",")
    if row.commit and PEER in servers:
        servers.remove(PEER)
    found: dict[str, list[dict[str, Any]]] = {one: [] for one in servers}
    with contextlib.ExitStack() as stack:
        kept: dict[str, Server] = {}
        for turn in range(asked.rounds):
            for one in servers:
                with contextlib.ExitStack() as here:
                    if row.fresh:
                        server = here.enter_context(serving(one, row, asked.peer))
                    elif one not in kept:
                        server = kept[one] = stack.enter_context(serving(one, row, asked.peer))
                    else:
                        server = kept[one]
                    told = measure(server, row, asked.load)
                found[one].append(told)
                line = {"row": name, "server": one, "round": turn}
                line |= {key: told.get(key) for key in TOLD}
                _tell(line, asked.out)
    for one, all_told in found.items():
        middle = {key: _median(all_told, key) for key in TOLD[:6]}
        _tell({"row": name, "server": one, "median": middle}, asked.out)


def _median(all_told: list[dict[str, Any]], key: str) -> float | None:
    values = [told[key] for told in all_told if told.get(key) is not None]
    return round(statistics.median(values), 2) if values else None


def _tell(line: dict[str, Any], out: str) -> None:
    text = json.dumps(line) + "\n"
    sys.stdout.write(text)
    sys.stdout.flush()
    if out:
        with Path(out).open("a") as file:
            file.write(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--servers", default=f"{PEER},daphne,uvicorn")
    parser.add_argument("--load", required=True)
    parser.add_argument("--peer", default="")
    parser.add_argument("--out", default="")
    asked = parser.parse_args()
    # So that a time limit from outside leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for name in asked.rows.split(","):
        run(name, asked)


if __name__ == "__main__":
    main()
