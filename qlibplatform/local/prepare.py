"""What a start needs of the machine, looked at before anything is started.

Every refusal is a `CannotStart`: what is wrong, and the cure.
"""

import fcntl
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

CHECKOUT = Path(__file__).resolve().parent.parent.parent
RUNTIME_PATH_MAX_BYTES = 60
"""A unix socket's path has at most 107 bytes; the rest is for the sockets' own names."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


class CannotStart(Exception):
    """One sentence or two for the person at the terminal."""


@dataclass(frozen=True)
class Place:
    """Where this start listens and keeps its things."""

    state_dir: Path
    runtime_dir: Path
    host: str
    port: int

    @property
    def log_dir(self) -> Path:
        """The children's logs."""
        return self.state_dir / "log"

    @property
    def address(self) -> str:
        """What programs on this machine connect to."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"{_in_a_url(host)}:{self.port}"

    @property
    def url(self) -> str:
        """The platform's page, from this machine."""
        return f"http://{self.address}"


COMMENT = re.compile(r"\s[#;]")


def place_from(environ: Mapping[str, str]) -> Place:
    """The place that the environment asks for: HOST, PORT, PLATFORM_STATE_DIR.

    Raises: CannotStart, if PORT is not a port, or a path can't be written in a configuration.
    """
    port = environ.get("PORT", "8000")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise CannotStart(f"PORT={port} is not a port: name a number from 1 to 65535.")
    state_dir = Path(environ.get("PLATFORM_STATE_DIR") or CHECKOUT / "var").absolute()
    for path in (CHECKOUT, state_dir):
        if COMMENT.search(str(path)):
            raise CannotStart(
                f"{path}: a blank before # or ; begins a comment in the process runner's "
                "configuration. Rename the folder, or name another: PLATFORM_STATE_DIR=/path"
            )
    given = environ.get("PLATFORM_RUNTIME_DIR")
    return Place(
        state_dir=state_dir,
        runtime_dir=Path(given).absolute() if given else _runtime_dir(state_dir),
        host=environ.get("HOST") or LOOPBACK[0],
        port=int(port),
    )


def _runtime_dir(state_dir: Path) -> Path:
    """`run/` in the state directory, or a short temporary one where sockets would not fit."""
    usual = state_dir / "run"
    if len(os.fsencode(usual)) <= RUNTIME_PATH_MAX_BYTES:
        return usual
    mark = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:8]
    name = f"qlib-platform-{os.getuid()}-{mark}"
    short = Path(tempfile.gettempdir()) / name
    fits = len(os.fsencode(short)) <= RUNTIME_PATH_MAX_BYTES
    return short if fits else Path("/tmp") / name  # noqa: S108 - private, see make_folders


def make_folders(place: Place) -> None:
    """Make the folders; nobody else may enter the one of sockets. Raises: CannotStart."""
    try:
        for folder in (place.state_dir, place.log_dir, place.state_dir / "redis"):
            # The database, with sessions and workflows in it, is no matter of other users.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = place.state_dir / f"write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CannotStart(
            f"Cannot write to {place.state_dir} ({error.strerror}). Make it writable, or name "
            "another place: PLATFORM_STATE_DIR=/path make run"
        ) from error
    _make_private(place.runtime_dir)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.lstat()
        # In a shared temporary directory somebody else may have been there first.
        if about.st_uid != os.getuid() or not stat.S_ISDIR(about.st_mode):
            raise CannotStart(f"{folder} belongs to somebody else. Remove it, and start again.")
        folder.chmod(0o700)
    except OSError as error:
        raise CannotStart(f"Cannot make {folder} for sockets ({error.strerror}).") from error


@contextmanager
def hold(place: Place) -> Iterator[None]:
    """Keep a second start off the same state. Raises: CannotStart, if this is the second."""
    with (place.state_dir / "run.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotStart(
                f"The platform runs already on this state ({place.state_dir}), {lock.read()}.\n"
                "Stop it first with Ctrl-C in its terminal, or give this one its own: "
                f"PLATFORM_STATE_DIR=/path PORT={place.port + 1} make run"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} at {place.url}")
        lock.flush()
        try:
            yield
        finally:
            # A short directory of our own choice is outside the state: nothing of it may stay.
            if place.runtime_dir == _runtime_dir(place.state_dir) != place.state_dir / "run":
                shutil.rmtree(place.runtime_dir, ignore_errors=True)


def check_port(place: Place) -> None:
    """Raises: CannotStart, if nobody can listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind(address)
            attempt.listen()
    except socket.gaierror as error:
        raise CannotStart(f"HOST={place.host} is no address of this machine.") from error
    except PermissionError as error:
        raise CannotStart(
            f"Port {place.port} is for administrators only. Choose another: PORT=8000 make run"
        ) from error
    except OSError as error:
        raise CannotStart(
            f"Port {place.port} of {place.host} cannot be had ({error.strerror}). "
            f"Choose another: PORT={_next_port(place.port)} make run"
        ) from error


def _next_port(port: int) -> int:
    return port + 1 if port < 65535 else 8000


def settings_for(place: Place, environ: Mapping[str, str]) -> dict[str, str]:
    """What the environment needs besides, to tell the platform's processes of this place."""
    settings = {
        "DJANGO_SETTINGS_MODULE": "qlibplatform.settings",
        "PLATFORM_STATE_DIR": str(place.state_dir),
        "PLATFORM_RUNTIME_DIR": str(place.runtime_dir),
        "PYTHONUNBUFFERED": "1",
    }
    given = environ.get("PLATFORM_ALLOWED_HOSTS", "")
    names = given.split(",") if given else _names_of(place.host)
    settings["PLATFORM_ALLOWED_HOSTS"] = ",".join(dict.fromkeys([*LOCAL_NAMES, *names]))
    return settings


def _names_of(host: str) -> list[str]:
    """The names under which other machines know this one when it listens on `host`."""
    if host not in {"0.0.0.0", "::"}:  # noqa: S104
        return [_in_a_url(host)]
    found = [one for addresses in psutil.net_if_addrs().values() for one in addresses]
    addresses = [one.address for one in found if one.family in {socket.AF_INET, socket.AF_INET6}]
    # One of a single link is written with its interface, and so in no URL.
    usable = [_in_a_url(address) for address in addresses if "%" not in address]
    return [socket.gethostname(), socket.getfqdn(), *usable]


def _in_a_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
