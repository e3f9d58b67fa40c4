"""Make `.venv` and install the locked sets into it: `python3.11 install.py base worker …`.

Runs before anything is installed: standard library only, no import of ours. Everything it writes is
in the checkout: `.venv`, `.venv-bootstrap`, and caches and its log in `var/`.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
LOCKS = CHECKOUT / "requirements"
VENV = CHECKOUT / ".venv"
PYTHON = VENV / "bin" / "python"
BOOTSTRAP = CHECKOUT / ".venv-bootstrap"
STAMP = VENV / "installed.json"
UNFINISHED = VENV / "unfinished"
"""There while something is installed. Whoever is killed meanwhile leaves packages without some of
their files, which the next installer would take for whole."""
LOG = CHECKOUT / "var" / "log" / "install.log"
# Locks are complete and hashed: nothing may be looked up beside them, not even to build gym.
LOCKED = ["--no-deps", "--require-hashes"]
TORCH = "torch==2.13.0"


class CannotInstall(Exception):
    """One sentence or two for the person at the terminal: what is wrong, and the cure."""


def main(wanted: list[str]) -> None:
    """Install what is wanted and not there yet; say nothing if that is nothing."""
    try:
        with _alone():
            _install(wanted)
    except CannotInstall as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("\nStopped while installing; the next start goes on.")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the installation's lock: two starts at once install one after the other."""
    try:
        # It will be the state's place, and is private as such.
        (CHECKOUT / "var").mkdir(mode=0o700, exist_ok=True)
        LOG.parent.mkdir(exist_ok=True)
        lock = (CHECKOUT / "var" / "install.lock").open("w")
    except OSError as error:
        raise CannotInstall(
            f"Cannot write to {CHECKOUT / 'var'} ({error.strerror}): the platform keeps everything "
            "in its checkout. Make the folder writable, or clone to a place of your own."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(wanted: list[str]) -> None:
    if "torch" in wanted:
        _install_torch()
        return
    have = _installed()
    if UNFINISHED.exists() or not _venv_works():
        _make_venv()
        have = dict.fromkeys(have, "")
    sets = [name for name in ("base", "worker", "s3", "models", "dev") if name in {*wanted, *have}]
    due = [name for name in sets if have.get(name) != _lock_hash(name)]
    if due:
        _install_sets(due)
        have = {**have, **{name: _lock_hash(name) for name in due}}
        _write_stamp(have)
    if "worker" in sets and have.get("kernels") != _kernels_hash():
        _compile_kernels()
        _write_stamp({**have, "kernels": _kernels_hash()})


def _install_sets(due: Iterable[str]) -> None:
    locks = [f"-r{LOCKS / f'{name}.txt'}" for name in due]
    with _marked_unfinished():
        _pip("Installing the installer", [*LOCKED, f"-r{LOCKS / 'installer.txt'}"])
        _uv_or_pip(f"Installing {', '.join(due)}", [*LOCKED, "--no-build-isolation", *locks])


@contextlib.contextmanager
def _marked_unfinished() -> Iterator[None]:
    UNFINISHED.touch()
    yield
    UNFINISHED.unlink()


def _compile_kernels() -> None:
    """Compile what computes features; the first training would wait for it otherwise."""
    command = [str(PYTHON), "-m", "training.engine.features"]
    if _run("Compiling kernels", command, {"PYTHONPATH": str(CHECKOUT)}) != 0:
        raise CannotInstall(f"The kernels of the features did not compile:\n{_end_of_log()}")


def _kernels_hash() -> str:
    """Of everything that the compiled kernels follow from, this machine's processor aside."""
    sources = sorted((CHECKOUT / "training" / "engine" / "features").glob("*.py"))
    told = hashlib.sha256(_lock_hash("worker").encode())
    for source in sources:
        told.update(source.read_bytes())
    return told.hexdigest()


def _install_torch() -> None:
    """Add torch's build for CPU, from torch's own index: see requirements/README.md."""
    if not (VENV / "bin" / "uv").exists():
        raise CannotInstall("Torch comes on top of an installation: run `make install` first.")
    title = "Installing torch for CPU"
    with _marked_unfinished():
        if _run(title, [*_uv(), "--torch-backend", "cpu", TORCH], _uv_settings()) != 0:
            # Where torch's own index is out of reach, another that pip was told of may have the
            # build. With "+cpu" it is that one or none, never PyPI's gigabytes for CUDA.
            _pip(title, [f"{TORCH}+cpu"])


def _lock_hash(name: str) -> str:
    return hashlib.sha256((LOCKS / f"{name}.txt").read_bytes()).hexdigest()


def _installed() -> dict[str, str]:
    """The hash of each lock that was wholly installed, by the set's name."""
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp


def _write_stamp(installed: dict[str, str]) -> None:
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(json.dumps(installed, indent=1))
    fresh.rename(STAMP)


def _venv_works() -> bool:
    """Whether `.venv` has a Python that still runs, with pip: a system's upgrade may break it."""
    if not PYTHON.exists():
        return False
    answer = subprocess.run([PYTHON, "-c", "import pip"], capture_output=True, check=False)
    return answer.returncode == 0


def _make_venv() -> None:
    """Make `.venv`; without Python's own means (Debian parts them off), by virtualenv."""
    title = "Making the virtual environment"
    own = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    complete = all(importlib.util.find_spec(name) for name in ("ensurepip", "venv"))
    if complete and _run(title, own) == 0:
        return
    _fetch_virtualenv()
    kept = [sys.executable, "-m", "virtualenv", "--clear", "--no-download", str(VENV)]
    if _run(title, kept, {"PYTHONPATH": str(BOOTSTRAP)}) != 0:
        raise CannotInstall(f"No virtual environment could be made.\n{_end_of_log()}")


def _fetch_virtualenv() -> None:
    if importlib.util.find_spec("pip") is None:
        raise CannotInstall(
            "This Python has neither venv nor pip, so nothing can be installed with it.\n"
            "Install one of them, such as by `apt install python3.11-venv`."
        )
    target = ["--target", str(BOOTSTRAP), "--upgrade"]
    lock = [*LOCKED, f"-r{LOCKS / 'bootstrap.txt'}"]
    _pip("Fetching virtualenv, as Python's venv is missing", [*target, *lock], sys.executable)


def _pip(title: str, arguments: list[str], python: str = str(PYTHON)) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    if _run(title, [python, "-m", "pip", "install", *quiet, *arguments]) != 0:
        raise CannotInstall(
            f"{title} failed. Is the network there? The end of {_shown(LOG)}:\n{_end_of_log()}"
        )


def _uv_or_pip(title: str, arguments: list[str]) -> None:
    """Install by uv, ten times as fast; by pip where uv does not run or does not get through."""
    uv = _uv()
    if os.access(uv[0], os.X_OK) and _run(title, [*uv, *arguments], _uv_settings()) == 0:
        return
    print("uv could not do it; pip takes over, which takes a few minutes.", flush=True)
    _pip(title, arguments)


def _uv() -> list[str]:
    return [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(PYTHON)]


def _uv_settings() -> dict[str, str]:
    """What pip is told of index and certificates, told to uv: it does not read pip's files."""
    settings = {"UV_SYSTEM_CERTS": "true"}
    for option, variable in (("index-url", "UV_DEFAULT_INDEX"), ("cert", "SSL_CERT_FILE")):
        if value := _pip_option(option):
            settings.setdefault(variable, value)
    return {name: os.environ.get(name, value) for name, value in settings.items()}


def _pip_option(option: str) -> str:
    """One option of pip's own configuration, files and environment alike; "" if it is not set."""
    listing = subprocess.run(
        [PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    values = dict(line.split("=", 1) for line in listing.stdout.splitlines() if "=" in line)
    for scope in (":env:", "install", "user", "global"):
        if f"{scope}.{option}" in values:
            return values[f"{scope}.{option}"].strip("'\"")
    return ""


def _run(title: str, command: list[str], environment: dict[str, str] | None = None) -> int:
    """Run it with its words in the log and one line at the terminal; answer its exit code."""
    caches = CHECKOUT / "var" / "cache"
    places = {
        "PIP_CACHE_DIR": str(caches / "pip"),
        "UV_CACHE_DIR": str(caches / "uv"),
        "VIRTUALENV_OVERRIDE_APP_DATA": str(caches / "virtualenv"),
    }
    started = time.monotonic()
    with LOG.open("a") as log:
        log.write(f"\n$ {' '.join(command)}\n")
        log.flush()
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**places, **os.environ, **(environment or {})}
        )
        return _watch(process, title, started)


def _watch(process: subprocess.Popen[bytes], title: str, started: float) -> int:
    on_terminal = sys.stdout.isatty()
    while True:
        elapsed = f"{title} … {time.monotonic() - started:.0f} s"
        try:
            code = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            if on_terminal:
                print(f"\r{elapsed}", end="", flush=True)
            continue
        except KeyboardInterrupt:
            process.wait()
            raise
        print(f"\r{elapsed}" if on_terminal else elapsed, flush=True)
        return code


def _end_of_log(lines: int = 15) -> str:
    """What the last command said."""
    said = LOG.read_text(errors="replace").rpartition("\n$ ")[2]
    return "\n".join(said.splitlines()[1:][-lines:])


def _shown(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


if __name__ == "__main__":
    main(sys.argv[1:])
