"""The engine host as its worker keeps it: started, watched, replaced, ended.

Standard library only: no Django, no Qlib.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from training.engine.protocol import is_readable

ROOT = Path(__file__).resolve().parents[2]
MAX_SOCKET_PATH_BYTES = 107
BACKLOG = 8
# The only setting that the engine reads: which classes beside Qlib's own may be used.
_PASSED_ON = ("PLATFORM_OWN_CLASSES",)
LAST_WORDS_BYTES = 2000


class EngineHost:
    """The host process as its worker holds it. The listening socket stays here: a host that died is
    replaced behind the same path, and leaders wait in the backlog."""

    def __init__(
        self, *, listener: socket.socket, socket_path: Path, command: list[str], cores: int
    ) -> None:
        self.socket_path = socket_path
        self._listener = listener
        self._command = command
        self._environment = host_environment(cores)
        self._log_path = socket_path.with_suffix(".log")
        self._life_line: int
        self._pidfd: int
        self._process: subprocess.Popen[bytes]
        self._spawn()

    @classmethod
    def start(
        cls,
        *,
        runtime_dir: Path,
        cores: int,
        python: str = sys.executable,
        preload: bool = True,
        probes: Path | None = None,
    ) -> Self:
        """Starts a host; returns at once, while it still imports (seconds): trainings wait for it.

        runtime_dir: made if absent. preload, probes: for tests; probes is a file of functions that
        a job may then name under "probe".
        Raises: ValueError, if the socket's path would be too long for the kernel.
        """
        runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = runtime_dir.resolve() / f"engine-{os.getpid()}.sock"
        listener = _listen(path)
        command = [python, "-P", "-s", "-m", "training.engine.host", str(listener.fileno())]
        command += ["--runtime-dir", str(path.parent)]
        command += [] if preload else ["--no-preload"]
        command += ["--probes", str(probes)] if probes else []
        return cls(listener=listener, socket_path=path, command=command, cores=cores)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pidfd(self) -> int:
        """Readable once the host is dead; forks of the worker hold it too. A restart changes it."""
        return self._pidfd

    def is_alive(self) -> bool:
        """Also right in a fork of the worker, whose child the host is not."""
        return not is_readable(self._pidfd)

    def ensure_alive(self) -> bool:
        """Restarts a dead host; True if it was restarted. For the worker, between two jobs."""
        if self.is_alive():
            return False
        self._release()
        self._spawn()
        return True

    def last_words(self) -> str:
        """The end of what the host wrote: why it could not start, for example."""
        try:
            written = self._log_path.read_bytes()
        except FileNotFoundError:
            return ""
        return written[-LAST_WORDS_BYTES:].decode("utf-8", "replace").strip()

    def stop(self, timeout_s: float = 5) -> None:
        """Asks the host to leave, kills it when it does not, and removes its socket. Idempotent."""
        if self._listener.fileno() < 0:
            return
        os.close(self._life_line)
        self._life_line = -1
        # Heard only by a host that still imports.
        self._process.terminate()
        if not is_readable(self._pidfd, timeout_s):
            self._process.kill()
        self._release()
        self._listener.close()
        self.socket_path.unlink(missing_ok=True)

    def _spawn(self) -> None:
        life_line, self._life_line = os.pipe()
        # What the host writes is kept of its newest life only.
        log = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            # Our own interpreter and module; no part of it comes from a user.
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                env=self._environment,
                cwd="/",
                stdin=life_line,
                stdout=log,
                stderr=log,
                pass_fds=[self._listener.fileno()],
                start_new_session=True,
            )
        finally:
            os.close(life_line)
            os.close(log)
        self._pidfd = os.pidfd_open(self._process.pid)

    def _release(self) -> None:
        self._process.wait()
        os.close(self._pidfd)
        if self._life_line >= 0:
            os.close(self._life_line)


def host_environment(cores: int) -> dict[str, str]:
    """All that the host and its trainings find in their environment: nothing of the worker's."""
    one = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "NUMEXPR")}
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "GIT_DIR": "/nonexistent",
        "MPLBACKEND": "Agg",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        # Else importing pyarrow starts a thread; so does OpenBLAS with more than one.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        # Read when libgomp is loaded, so fixed per host. ACTIVE makes two trainings 30 x slower.
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(cores),
        "NUMBA_NUM_THREADS": str(cores),
        "LOKY_MAX_CPU_COUNT": str(cores),
        **one,
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    }


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(
            f"The socket path {path} is longer than {MAX_SOCKET_PATH_BYTES} bytes: "
            "choose a shorter runtime folder."
        )
    # Left by a worker with our pid that was killed; no living one has it.
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(BACKLOG)
    return listener
