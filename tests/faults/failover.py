"""Fail-over with real processes, as deploy/README.md has it.

    python -m tests.faults.failover [redis] [postgresql]     # as root; redis needs haproxy (Debian)

Redis: two servers, three Sentinels, HAProxy before them. PostgreSQL: a primary and a synchronous
standby, promoted by hand. What takes writes is killed while a task runs and others are posted; what
was killed comes back as the other's replica, and then the other is killed. Afterwards each answered
task must be there and have one end, sockets have heard each event once, the audit finds nothing.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import redis
import requests

from tests import postgres
from tests.e2e import checks, market, process_tree, workflows
from tests.e2e.client import FINAL, Client, Subscriber
from tests.e2e.platform_processes import (
    CHECKOUT,
    Platform,
    deployed_redis,
    free_port,
    redis_server,
)
from tests.e2e.waiting import until
from tests.faults.partition import DATABASE_USER, describe, faults_of, wait_for_fit

HERE = "127.0.0.1"
DEPLOY = CHECKOUT / "deploy"
PASSWORD = "secret"
NUMBERS = (1, 2)
POST_EVERY_S = 2.0


# ── Redis ───────────────────────────────────────────────────────────────────────────────


class BehindProxy(Platform):
    """Its Redis is whichever of two takes writes, by the files of deploy/failover/."""

    def __init__(self, state_dir: Path, **settings: Any) -> None:
        self.ports = {number: free_port() for number in NUMBERS}
        self.sentinel_ports = [free_port() for _ in range(3)]
        self.proxy_port = free_port()
        url = f"redis://qlib:{PASSWORD}@{HERE}:{self.proxy_port}/0"
        super().__init__(state_dir, REDIS_URL=url, **settings)

    def start_redis(self) -> None:
        """Two servers, three Sentinels and the proxy; those that run are left alone."""
        for number in NUMBERS:
            self.start_server(number)
        for number, port in enumerate(self.sentinel_ports, start=1):
            folder = self.folder(f"sentinel-{number}")
            if not (folder / "sentinel.conf").exists():
                text = self._at_home("failover/sentinel.conf").replace("26379", str(port))
                text = text.replace("/var/lib/redis", str(folder))
                (folder / "sentinel.conf").write_text(f"bind {HERE}\n{text}")
            command = [redis_server(), str(folder / "sentinel.conf"), "--sentinel"]
            self._spawn(f"sentinel-{number}", command)
        file = self.state_dir / "haproxy.cfg"
        text = self._at_home("failover/haproxy.cfg").replace("6380", str(self.proxy_port))
        file.write_text(text)
        self._spawn("haproxy", [haproxy(), "-db", "-f", str(file)])
        until(self.takes_rings, what=f"Redis\n{self.last_words()}")
        until(lambda: self.follows(2), what="the replica", within_s=60)
        until(self.all_sentinels_agree, what="three Sentinels", within_s=60, every_s=0.5)

    def start_server(self, number: int) -> None:
        """The settings are written once: they are the server's and the Sentinels' afterwards."""
        folder = self.folder(f"redis-{number}")
        file = folder / "redis.conf"
        if not file.exists():
            text = deployed_redis(folder, password=PASSWORD)
            with (folder / "users.acl").open("a") as users:
                users.write(self._at_home("failover/redis.acl"))
            # As Debian has it: our file is included, what comes after it is the machine's own.
            (folder / "qlib-platform.conf").write_text(text)
            master = f"replicaof {HERE} {self.ports[1]}\n" if number == 2 else ""
            place = f"bind {HERE}\nport {self.ports[number]}\ndir {folder}\n"
            include = f"include {folder}/qlib-platform.conf\n"
            file.write_text(place + include + self._at_home("failover/redis.conf") + master)
        self._spawn(f"redis-{number}", [redis_server(), str(file)])

    def folder(self, name: str) -> Path:
        folder = self.state_dir / name
        folder.mkdir(exist_ok=True)
        return folder

    def _at_home(self, name: str) -> str:
        text = (DEPLOY / name).read_text()
        for number in NUMBERS:
            address = f"10.0.0.{number}"
            text = text.replace(f"{address}:6379", f"{HERE}:{self.ports[number]}")
            text = text.replace(f"{address} 6379", f"{HERE} {self.ports[number]}")
        text = text.replace("@FAILOVER_PASSWORD@", PASSWORD)
        return text.replace("@REDIS_PASSWORD@", PASSWORD)

    # ── Looking ──

    def takes_rings(self) -> bool:
        """What the proxy leads to is a master."""
        return self.role(self.proxy_port) == "master"

    def role(self, port: int) -> str:
        return str(self.replication(port).get("role", ""))

    def replication(self, port: int) -> dict[str, Any]:
        """What the server says of it; nothing, if it says nothing."""
        named = {"username": "qlib", "password": PASSWORD, "socket_timeout": 2}
        with (
            suppress(redis.RedisError, OSError),
            redis.Redis(HERE, port, **named) as connection,
        ):
            return dict(connection.info("replication"))
        return {}

    def follows(self, number: int) -> bool:
        told = self.replication(self.ports[number])
        return told.get("role") == "slave" and told.get("master_link_status") == "up"

    def all_sentinels_agree(self) -> bool:
        """Each knows the other two, and a replica."""
        for port in self.sentinel_ports:
            with redis.Redis(HERE, port, decode_responses=True) as connection:
                told = connection.sentinel_master("qlib-platform")
            if (told["num-other-sentinels"], told["num-slaves"]) != (2, 1):
                return False
        return True

    def masters(self) -> list[int]:
        return [number for number in NUMBERS if self.role(self.ports[number]) == "master"]


def haproxy() -> str:
    return shutil.which("haproxy") or "/usr/sbin/haproxy"


def of_redis() -> None:
    state_dir = Path(tempfile.mkdtemp(prefix="qp-", dir="/tmp"))
    url = f"sqlite:///{state_dir / 'db.sqlite3'}"
    platform = BehindProxy(state_dir, database_url=url, datasets_dir=state_dir / "datasets")
    with started(platform) as texts:
        for _ in NUMBERS:
            (master,) = platform.masters()

            def kill(name: str = f"redis-{master}") -> str:
                platform.kill_tree(name)
                return name

            def mend(number: int = master) -> None:
                platform.start_server(number)
                until(lambda: platform.follows(number), what="the old master as a replica")

            play(platform, texts, kill=kill, is_back=platform.takes_rings, mend=mend)


# ── PostgreSQL ──────────────────────────────────────────────────────────────────────────


class Pair:
    """A primary and its standby. The first server is the primary at first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = Path(postgres.programs())
        self.ports = {number: free_port() for number in NUMBERS}
        self.servers: dict[int, subprocess.Popen[bytes]] = {}
        shutil.chown(folder, DATABASE_USER, DATABASE_USER)

    @property
    def url(self) -> str:
        """As deploy/README.md names both."""
        servers = ",".join(f"{HERE}:{port}" for port in self.ports.values())
        return f"postgresql://qlib@{servers}/platform?target_session_attrs=read-write"

    def start(self) -> None:
        """The primary with an empty database, then the standby."""
        self._run("initdb", "-D", self._data(1), "-U", "qlib")
        (self.folder / "1/pg_hba.conf").write_text(
            f"host all all {HERE}/32 trust\nhost replication replica {HERE}/32 trust\n"
        )
        self.start_server(1)
        self._ask(1, "CREATE DATABASE platform")
        self._ask(1, of_readme("CREATE ROLE replica"))
        self.add_standby(2, of_primary=1)

    def add_standby(self, number: int, *, of_primary: int) -> None:
        """By the command of deploy/README.md; then commits of the primary wait for it."""
        shutil.rmtree(self.folder / str(number), ignore_errors=True)
        command = shlex.split(of_readme("pg_basebackup "))
        program, *words = command[command.index("pg_basebackup") :]
        data = f"--pgdata={self._data(number)}"
        told = [
            data if word.startswith("--pgdata=") else word.replace("10.0.0.1", HERE)
            for word in words
        ]
        self._run(program, *told, f"--port={self.ports[of_primary]}", "--checkpoint=fast")
        self.start_server(number)
        shutil.copy(DEPLOY / "failover/postgresql.conf", self._settings(of_primary))
        self._ask(of_primary, "SELECT pg_reload_conf()")

        def is_synchronous() -> bool:
            told = self._ask(of_primary, "SELECT sync_state FROM pg_stat_replication")
            return told == [("sync",)]

        until(is_synchronous, what="the standby", within_s=60, every_s=0.2)

    def start_server(self, number: int) -> None:
        """Settings lie beside the data, as Debian has it: a standby does not take them over."""
        self._settings(number).unlink(missing_ok=True)
        (self.folder / f"{number}/postgresql.conf").write_text(
            f"include_dir = '{self._settings(number).parent}'\n"
        )
        options = ["-h", HERE, "-p", str(self.ports[number]), "-k", "", "-c", "fsync=off"]
        with (self.folder / f"{number}.log").open("ab") as log:
            self.servers[number] = subprocess.Popen(
                [*as_user(), self.programs / "postgres", "-D", self._data(number), *options],
                stdout=log,
                stderr=log,
                cwd="/",
            )
        until(lambda: self._answers(number), what=f"server {number}", within_s=60, every_s=0.2)

    def kill(self, number: int) -> None:
        """`kill -9` of the server and all its children."""
        server = self.servers[number]
        process_tree.kill(process_tree.with_descendants([server.pid]))
        server.wait()

    def promote(self, number: int) -> None:
        self._run("pg_ctl", "promote", "-D", self._data(number))

    def stop(self) -> None:
        for number in self.servers:
            self.kill(number)

    def takes_writes(self) -> int | None:
        """Which one does."""
        for number in NUMBERS:
            with suppress(psycopg.Error):
                if self._ask(number, "SELECT pg_is_in_recovery()") == [(False,)]:
                    return number
        return None

    def _answers(self, number: int) -> bool:
        with suppress(psycopg.Error):
            return bool(self._ask(number, "SELECT 1"))
        return False

    def _ask(self, number: int, sql: str) -> list[tuple[Any, ...]]:
        named = {"host": HERE, "port": self.ports[number], "user": "qlib", "dbname": "postgres"}
        with psycopg.connect(**named, autocommit=True, connect_timeout=3) as connection:
            answer = connection.execute(sql.encode())
            return answer.fetchall() if answer.description else []

    def _data(self, number: int) -> str:
        return str(self.folder / str(number))

    def _settings(self, number: int) -> Path:
        folder = self.folder / f"conf.d-{number}"
        folder.mkdir(exist_ok=True)
        return folder / "failover.conf"

    def _run(self, program: str, *words: str) -> None:
        command = [*as_user(), str(self.programs / program), *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"


def as_user() -> list[str]:
    """PostgreSQL does not run as root."""
    user = ["--reuid", DATABASE_USER, "--regid", DATABASE_USER, "--clear-groups"]
    return ["setpriv", *user]


def of_readme(part: str) -> str:
    """The command of deploy/README.md that has this in it; of SQL the statement."""
    lines = (DEPLOY / "README.md").read_text().splitlines()
    (line,) = [line.strip() for line in lines if line.startswith("    ") and part in line]
    return line.split('"')[1] if '"' in line else line


def of_postgresql() -> None:
    state_dir = Path(tempfile.mkdtemp(prefix="qp-", dir="/tmp"))
    folder = Path(tempfile.mkdtemp(prefix="qp-pair-", dir="/tmp"))
    # A backup wants pg_dump as new as the server.
    os.environ["PATH"] = f"{postgres.programs()}:{os.environ['PATH']}"
    pair = Pair(folder)
    try:
        pair.start()
        platform = Platform(state_dir, database_url=pair.url, datasets_dir=state_dir / "datasets")
        with started(platform) as texts:
            for primary, standby in ((1, 2), (2, 1)):

                def kill(old: int = primary, new: int = standby) -> str:
                    pair.kill(old)
                    # Somebody has to notice, and to decide.
                    time.sleep(5)
                    pair.promote(new)
                    return f"server {old}, and 5 s later the other promoted"

                def mend(old: int = primary, new: int = standby) -> None:
                    pair.add_standby(old, of_primary=new)

                def is_back(new: int = standby) -> bool:
                    return pair.takes_writes() == new

                play(platform, texts, kill=kill, is_back=is_back, mend=mend)
                platform.manage("doctor")
                platform.manage("backup", str(state_dir / "backups"))
    finally:
        pair.stop()
        shutil.rmtree(folder, ignore_errors=True)


# ── One fail-over ───────────────────────────────────────────────────────────────────────


class Posts(threading.Thread):
    """Posts a short task again and again; each with a key, until it is answered."""

    def __init__(self, client: Client, text: str) -> None:
        super().__init__(daemon=True)
        self.client, self.text = client, text
        self.answered: list[tuple[float, str]] = []
        self.slowest_s = 0.0
        self.unanswered: list[str] = []
        self._stop_asked = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._stop_asked.wait(POST_EVERY_S):
            begun = time.monotonic()
            task_id = self._insist(f"post-{begun}")
            self.answered.append((begun, task_id))
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)

    def _insist(self, key: str) -> str:
        while True:
            try:
                return self.client.submit(self.text, key=key)
            except requests.RequestException as error:
                self.unanswered.append(str(error)[:200])
                time.sleep(0.3)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(timeout=120)
        assert not self.is_alive(), "a post was never answered"

    def since(self, moment: float) -> list[str]:
        return [task_id for begun, task_id in list(self.answered) if begun > moment]


def play(
    platform: Platform,
    texts: dict[str, str],
    *,
    kill: Callable[[], str],
    is_back: Callable[[], bool],
    mend: Callable[[], None],
) -> None:
    """One fail-over under load; prints what became of it. Raises: AssertionError."""
    client = platform.client
    long_id = client.submit(texts["endless"])
    heard = Subscriber(client, long_id)
    wait_for_fit(client, long_id, after_attempt=0)
    posts = Posts(client, texts["short"])
    until(lambda: len(posts.answered) >= 2, what="two tasks", within_s=60)
    killed_at = time.monotonic()
    what = kill()
    until(is_back, what=f"the other one\n{platform.last_words()}", within_s=60, every_s=0.1)
    back_s = time.monotonic() - killed_at

    def ran() -> str | None:
        posted = posts.since(killed_at)
        return next((i for i in posted if client.task(i)["status"] == "completed"), None)

    until(ran, what=f"a task posted since\n{platform.last_words()}", within_s=180, every_s=0.3)
    ran_s = time.monotonic() - killed_at
    mend()
    posts.stop()
    seen = client.task(long_id)["last_seq"]
    until(
        lambda: client.task(long_id)["last_seq"] > seen or client.task(long_id)["status"] in FINAL,
        what="news of the running task",
        within_s=60,
        every_s=0.3,
    )
    assert client.act(long_id, "finish").status_code == 202
    long = client.final(long_id, within_s=240)
    tasks = [client.final(task_id, within_s=240) for _, task_id in posts.answered]
    heard.wait_for_end(within_s=60)
    until(lambda: heard.heard[-1]["seq"] == long["last_seq"], what="the last event")
    heard.leave()
    artifacts = platform.state_dir / "artifacts"
    faults = checks.faults_of(client, long, heard=heard, artifacts_dir=artifacts)
    faults += [fault for task in tasks for fault in faults_of(client, task)]
    assert faults == [], faults
    assert {task["status"] for task in (long, *tasks)} == {"completed"}
    assert "every invariant holds" in platform.manage("audit", "--grace", "30")
    told = {
        "killed": what,
        "writes_again_s": round(back_s, 1),
        "a_task_posted_since_has_completed_s": round(ran_s, 1),
        "running": describe(client, long),
        "posted": len(tasks),
        "tries_without_answer": len(posts.unanswered),
        "slowest_answer_s": round(posts.slowest_s, 1),
        "connections_of_the_socket": heard.connected_count,
    }
    print(json.dumps(told), flush=True)  # noqa: T201


@contextmanager
def started(platform: Platform) -> Iterator[dict[str, str]]:
    """Ready, with two workers; the workflows to post."""
    try:
        platform.prepare()
        place = market.import_into(platform)
        platform.start(workers=2)
        yield {
            "endless": workflows.small(place, instruments=4, rounds=100_000),
            "short": workflows.small(place, instruments=4, fit_days=200, rounds=5),
        }
    finally:
        platform.stop()
        shutil.rmtree(platform.state_dir, ignore_errors=True)


def main(wanted: list[str]) -> None:
    known = {"redis": of_redis, "postgresql": of_postgresql}
    if unknown := set(wanted) - set(known):
        raise SystemExit(f"no fail-over of {', '.join(sorted(unknown))}")
    for name in wanted or known:
        known[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
