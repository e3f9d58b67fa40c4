"""Two hosts that lose each other: PostgreSQL, Redis and web on one, two workers on the other.

    python -m tests.faults.partition [CASE …]      # as root; needs iproute2 and nftables

Each host is a network namespace of its own, with one link between them. Packets are dropped without
a word, as a broken switch does it, for some seconds while two tasks run and a third waits; then the
link is healed. Afterwards each task must have one end, numbers without gaps, and `manage.py audit`
must find nothing. Datasets and artifacts are shared, as two machines would by NFS on another link.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import postgres
from tests.e2e import market, workflows
from tests.e2e.client import FINAL, Client
from tests.e2e.platform_processes import Platform, deployed_redis, redis_server
from tests.e2e.waiting import until
from tests.faults import slow_link

INSIDE = "PARTITION_INSIDE"
DATABASE_USER = "pgserver"
"""PostgreSQL does not run as root; the wheel's own user, see `tests/postgres.py`."""

HERE, THERE = "10.213.0.1", "10.213.0.2"
POSTGRES, REDIS = 5432, 6379
PASSWORD = "secret"
LOSS_PERCENT, DELAY_S = 5, 0.1
"""Each way, so a round trip takes 200 ms more."""


@dataclass(frozen=True)
class Case:
    """What is wrong with the link, and for how long."""

    name: str
    seconds: float
    rule: str = "drop"
    port: int | None = None
    is_slow: bool = False


CASES = [
    Case("all, 5 s", 5),
    Case("all, 30 s", 30),
    Case("all, 90 s", 90),
    Case("Redis only, 30 s", 30, port=REDIS),
    Case("PostgreSQL only, 5 s", 5, port=POSTGRES),
    Case("PostgreSQL only, 30 s", 30, port=POSTGRES),
    Case(
        f"{2_000 * DELAY_S:.0f} ms and {LOSS_PERCENT} % loss, 60 s",
        60,
        rule=f"numgen random mod 100 < {LOSS_PERCENT} drop",
        is_slow=True,
    ),
]


# ── Two hosts ───────────────────────────────────────────────────────────────────────────


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def two_hosts(first: str, second: str) -> Iterator[None]:
    """Namespaces with a link between them; all of it goes with the block."""
    try:
        for name in (first, second):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        pair = f"link add link0 netns {first} type veth peer name link0 netns {second}"
        ip(*pair.split())
        for name, address in ((first, HERE), (second, THERE)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "link0")
            ip("-n", name, "link", "set", "link0", "up")
        yield
    finally:
        for name in (first, second):
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


def nft(text: str) -> None:
    """Change the first host's filter: it is where we are."""
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


@contextmanager
def trouble(case: Case) -> Iterator[None]:
    """The link as the case has it, inside the block."""
    ports = ("dport", "sport") if case.port else ("",)
    wanted = [f"tcp {port} {case.port} " if port else "" for port in ports]
    chains = [
        f"chain {hook} {{ type filter hook {hook} priority 0; "
        + "".join(f'{side} "link0" {one}{case.rule}; ' for one in wanted)
        + "}"
        for hook, side in (("input", "iifname"), ("output", "oifname"))
    ]
    nft("\n".join(["table inet trouble {", *chains, "}"]))
    try:
        yield
    finally:
        nft("delete table inet trouble")


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """PostgreSQL on the first host's address; the URL of an empty database."""
    programs = Path(postgres.programs())
    shutil.chown(folder, DATABASE_USER, DATABASE_USER)
    as_user = ["setpriv", "--reuid", DATABASE_USER, "--regid", DATABASE_USER, "--clear-groups"]
    data = str(folder / "data")
    quiet = {"stdout": subprocess.DEVNULL, "check": True, "cwd": "/"}
    subprocess.run([*as_user, programs / "initdb", "-D", data, "-U", "qlib"], **quiet)
    (folder / "data/pg_hba.conf").write_text("host all all 10.213.0.0/24 trust\n")
    options = ["-h", HERE, "-p", str(POSTGRES), "-k", "", "-c", "fsync=off"]
    with (folder / "postgres.log").open("wb") as log:
        server = subprocess.Popen(
            [*as_user, programs / "postgres", "-D", data, *options],
            stdout=log,
            stderr=log,
            cwd="/",
        )
    try:
        until(lambda: answers(HERE, POSTGRES), what="PostgreSQL", within_s=60)
        place = ["-h", HERE, "-p", str(POSTGRES), "-U", "qlib"]
        until(lambda: created(programs, place), what="the database", within_s=60, every_s=0.3)
        yield f"postgresql://qlib@{HERE}:{POSTGRES}/platform"
    finally:
        # Fast shutdown: nobody is waited for.
        server.send_signal(2)
        server.wait(timeout=60)


def created(programs: Path, place: list[str]) -> bool:
    command = [programs / "createdb", *place, "platform"]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


def answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


class TwoHosts(Platform):
    """Workers run on the second host; all else here, on the first."""

    relay = False

    def _spawn(self, name: str, command: list[str], **more: Any) -> bool:
        if name.startswith(("worker", "relay")):
            command = ["ip", "netns", "exec", os.environ[INSIDE], *self._addresses(name), *command]
        return super()._spawn(name, command, **more)

    def _addresses(self, name: str) -> list[str]:
        """Through the slow link of the second host, where there is one."""
        if not self.relay or name == "relay":
            return []
        far = {"DATABASE_URL": self.database_url, "REDIS_URL": str(self.settings["REDIS_URL"])}
        near = {name: url.replace(HERE, "127.0.0.1") for name, url in far.items()}
        return ["env", *(f"PLATFORM_{name}={url}" for name, url in near.items())]

    def start_redis(self) -> None:
        """As deploy/ has it, so with its user and password, and open to the other host."""
        folder = self.state_dir / "redis"
        folder.mkdir(exist_ok=True)
        text = deployed_redis(folder, password=PASSWORD)
        place = f"bind {HERE}\nport {REDIS}\ndir {folder}\n"
        (folder / "redis.conf").write_text(place + text)
        if self._spawn("redis", [redis_server(), str(folder / "redis.conf")]):
            until(lambda: answers(HERE, REDIS), what="Redis")

    def start_relay(self) -> None:
        """A slow link before PostgreSQL and Redis, for the workers that start from now on."""
        ports = [str(POSTGRES), str(REDIS)]
        module = [sys.executable, "-m", slow_link.__name__, str(DELAY_S), HERE, *ports]
        self._spawn("relay", module)
        self.relay = True

    def restart_workers(self) -> None:
        for name in self.workers():
            self.terminate(name)
            self.start_worker(name)


# ── One case ────────────────────────────────────────────────────────────────────────────


def play(case: Case, platform: TwoHosts, texts: dict[str, str]) -> dict[str, Any]:
    """Tasks over the trouble; what became of them. Raises: AssertionError."""
    client = platform.client
    if case.is_slow:
        platform.start_relay()
        platform.restart_workers()
    running = [client.submit(texts["endless"]) for _ in range(2)]
    for task_id in running:
        wait_for_fit(client, task_id, after_attempt=0)
    with trouble(case):
        waiting = client.submit(texts["short"])
        time.sleep(case.seconds)
    healed = time.monotonic()
    before = {task_id: client.task(task_id)["last_seq"] for task_id in running}
    for task_id in running:
        until(
            lambda one=task_id: has_news(client, one, before[one]),
            what=f"news of {task_id}\n{platform.last_words()}",
            within_s=240,
            every_s=0.5,
        )
    again_s = time.monotonic() - healed
    told = [end(client, task_id) for task_id in running] + [client.final(waiting, within_s=240)]
    faults = [fault for task in told for fault in faults_of(client, task)]
    assert "every invariant holds" in platform.manage("audit", "--grace", "30")
    assert faults == [], faults
    return {
        "case": case.name,
        "running": [describe(client, task) for task in told[:2]],
        "waiting": told[2]["status"],
        "works_again_s": round(again_s, 1),
    }


def wait_for_fit(client: Client, task_id: str, *, after_attempt: int) -> None:
    def fits() -> bool:
        task = client.task(task_id)
        return task["stage"] == "fit" and task["attempt"] > after_attempt

    until(fits, what=f"the fit of {task_id}", within_s=240, every_s=0.3)


def has_news(client: Client, task_id: str, seq: int) -> bool:
    """It is final, or its training (perhaps another attempt) has told something since."""
    task = client.task(task_id)
    if task["status"] in FINAL:
        return True
    return task["stage"] == "fit" and task["last_seq"] > seq


def end(client: Client, task_id: str) -> dict[str, Any]:
    """Ask the fit to end, unless the task has ended; the final task."""
    if client.task(task_id)["status"] not in FINAL:
        assert client.act(task_id, "finish").status_code in (202, 409)
    return client.final(task_id, within_s=240)


def faults_of(client: Client, task: dict[str, Any]) -> Iterator[str]:
    events = client.events(task["id"])
    numbers = [event["seq"] for event in events]
    ends = [event["type"] for event in events if event["type"] in FINAL]
    if numbers != list(range(1, task["last_seq"] + 1)):
        yield f"{task['id']}: numbered {numbers}, newest {task['last_seq']}"
    if ends != [task["status"]] or events[-1]["type"] != task["status"]:
        yield f"{task['id']}: is {task['status']}, ended as {ends}"


def describe(client: Client, task: dict[str, Any]) -> str:
    events = client.events(task["id"])
    reasons = [one["data"]["reason"] for one in events if one["type"] == "requeued"]
    return f"{task['status']} in attempt {task['attempt']}" + "".join(f", {one}" for one in reasons)


# ── All ─────────────────────────────────────────────────────────────────────────────────


def inside(wanted: list[str]) -> None:
    """On the first host: everything but the workers."""
    folder = Path(tempfile.mkdtemp(prefix="qp-net-", dir="/tmp"))
    (folder / "database").mkdir()
    folder.chmod(0o711)
    with database(folder / "database") as url:
        platform = TwoHosts(
            Path(tempfile.mkdtemp(prefix="qp-", dir="/tmp")),
            database_url=url,
            datasets_dir=folder / "datasets",
            REDIS_URL=f"redis://qlib:{PASSWORD}@{HERE}:{REDIS}/0",
            # As shipped: here seconds count.
            LEASE_S=15,
            LEASE_RENEW_S=4,
        )
        try:
            platform.prepare()
            place = market.import_into(platform)
            platform.start(workers=2)
            texts = {
                "endless": workflows.small(place, instruments=4, rounds=100_000, max_attempts=3),
                "short": workflows.small(place, instruments=4, fit_days=200, rounds=5),
            }
            for case in CASES:
                if not wanted or any(word in case.name for word in wanted):
                    print(json.dumps(play(case, platform, texts)), flush=True)  # noqa: T201
        finally:
            platform.stop()
            shutil.rmtree(platform.state_dir, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def main(wanted: list[str]) -> int:
    """Make the hosts and go to the first."""
    if unknown := [word for word in wanted if not any(word in case.name for case in CASES)]:
        raise SystemExit(f"no case is called like {', '.join(unknown)}")
    if os.environ.get(INSIDE):
        inside(wanted)
        return 0
    names = f"qp{os.getpid() % 10_000}a", f"qp{os.getpid() % 10_000}b"
    with two_hosts(*names):
        command = [sys.executable, "-m", "tests.faults.partition", *wanted]
        environment = {**os.environ, INSIDE: names[1]}
        return subprocess.run(
            ["ip", "netns", "exec", names[0], *command], env=environment, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
