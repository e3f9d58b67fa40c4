"""The training process: from the fork, through its wait as a spare, to the engine's first line, and
the way back.

Nothing here returns into the host: every road ends in `os._exit`. So nothing runs at exit, and
whatever must be on disk is flushed here first.
"""

import errno
import faulthandler
import gc
import io
import logging
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from training.engine import walls
from training.engine.protocol import Channel, Malformed, Message, arm_life_line
from training.engine.reporter import Cancelled, Reporter
from training.errors import TrainingError

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_NEVER_STARTED = 70
JOB_TIMEOUT_S = 30
MAX_ERROR_CHARACTERS = 2000
FIRST_KEPT = 3
# Above every descriptor that the host may hold, so that moving them to 3, 4, 5 overwrites none.
PARKING = 200

Train = Callable[[Message, Reporter], Message]


def wait_to_train(line: int, host_line: int, *, find_train: Any) -> NoReturn:
    """Turns this fork into a spare: it waits on `line` for a request, then becomes its training.

    host_line: the life line that the host holds.
    """
    try:
        walls.die_with_parent(signal.SIGKILL)
        _keep(line, host_line)
        channel = Channel(socket.socket(fileno=FIRST_KEPT))
        while not channel.is_closed:
            for request in channel.receive():
                control, log, leader_line = channel.descriptors
                channel.descriptors.clear()
                channel.close()
                lines = (leader_line, FIRST_KEPT + 1)
                become_training(
                    request, control=control, log=log, life_lines=lines, find_train=find_train
                )
    finally:
        os._exit(EXIT_NEVER_STARTED)


def become_training(
    request: Message, *, control: int, log: int, life_lines: Sequence[int], find_train: Any
) -> NoReturn:
    """Turns this fork into a training process, runs one job and exits.

    request: the host's, see `handle.Training`. find_train(job) names the function to run.
    """
    code = EXIT_NEVER_STARTED
    try:
        os.setpgid(0, 0)
        channel = _keep_only(control, log, life_lines)
        fence = _enter(request)
        code = run_job(channel, fence, find_train)
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def run_job(channel: Channel, fence: walls.Fence, find_train: Callable[[Message], Train]) -> int:
    """Says hello, receives the job, runs it, and says the last word. Returns the exit code."""
    channel.send({"type": "hello", "pid": os.getpid(), "fence": fence.said})
    job = channel.receive_one(JOB_TIMEOUT_S)
    if job is None:
        return EXIT_NEVER_STARTED
    reporter = Reporter(channel)
    try:
        reporter.done(find_train(job)(job, reporter))
    except BaseException as error:
        _log(error)
        _say_failed(reporter, error)
        return EXIT_FAILED
    return EXIT_DONE


def _log(error: BaseException) -> None:
    """Where it was raised; of a wish to stop nothing, for nothing went wrong."""
    # The log may lie on the very disk that is full.
    with suppress(OSError):
        if not isinstance(error, Cancelled):
            traceback.print_exception(error)
        _flush()


def _say_failed(reporter: Reporter, error: BaseException) -> None:
    code, sentence = explain(error)
    try:
        reporter.failed(code=code, error=sentence)
    except Cancelled:
        # The leader is gone, and so is everyone who could be told.
        sys.stderr.write("The leader is gone; the last word was not delivered.\n")


def explain(error: BaseException) -> tuple[str, str]:
    """The stable code of an error that ended a training, and a sentence for people."""
    if isinstance(error, Cancelled):
        return "cancelled", "The training was cancelled."
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        return "out_of_memory", "The training ran out of memory."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full", "The disk is full: free some space, then retry this task."
    if isinstance(error, Malformed):
        return "training_error", f"The job could not be read: {error}."
    if isinstance(error, TrainingError):
        return error.code, error.message[:MAX_ERROR_CHARACTERS]
    detail = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]
    return "training_error", f"{detail} (the traceback is in the log)"


def _keep_only(control: int, log: int, life_lines: Sequence[int]) -> Channel:
    """Arranges descriptors: null, log, log, control, life lines; closes others; arms the lines."""
    os.dup2(log, 1)
    os.dup2(log, 2)
    _keep(control, *life_lines)
    for place in range(len(life_lines)):
        arm_life_line(FIRST_KEPT + 1 + place, os.getpid())
    return Channel(socket.socket(fileno=FIRST_KEPT))


def _keep(*descriptors: int) -> None:
    """Moves them to 3, 4, 5 … behind null, output and errors; closes all others."""
    kept = [os.dup2(one, PARKING + place, False) for place, one in enumerate(descriptors)]
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    for place, one in enumerate(kept, FIRST_KEPT):
        os.dup2(one, place, False)
    os.closerange(FIRST_KEPT + len(kept), resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _enter(request: Message) -> walls.Fence:
    """Puts up the walls and makes the process its own: signals, folder, random state, gc."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    walls.die_with_parent(signal.SIGKILL)
    walls.forbid_new_privileges()
    _be_first_to_go()
    walls.limit_resources(request["limits"])
    _move_into(request["scratch_dir"])
    _speak_to_log()
    _reseed()
    # The host froze and disabled it to keep its pages shared; a training must collect again.
    gc.enable()
    writable = [request["scratch_dir"], *request["writable"]]
    fence = walls.fence(readable=request["readable"], writable=writable)
    sys.stderr.write(f"{fence.said}\n")
    return fence


def _be_first_to_go() -> None:
    """When the machine runs out of memory, the kernel takes the training, never the worker."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _move_into(scratch_dir: str) -> None:
    os.umask(0o077)
    os.chdir(scratch_dir)
    for name in ("HOME", "TMPDIR", "JOBLIB_TEMP_FOLDER", "MPLCONFIGDIR"):
        os.environ[name] = scratch_dir
    # tempfile remembers the folder it found before.
    tempfile.tempdir = None


def _speak_to_log() -> None:
    """Text streams on the log's descriptor, also for log handlers that were made in the host."""
    old = {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}
    sys.stdout = _text_stream(1)
    sys.stderr = _text_stream(2)
    faulthandler.enable(file=2)
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        handler = reference()
        if isinstance(handler, logging.StreamHandler) and handler.stream in old:
            handler.setStream(sys.stderr)


def _text_stream(descriptor: int) -> TextIO:
    raw = io.FileIO(descriptor, "w", closefd=False)
    buffer = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, "utf-8", errors="backslashreplace", line_buffering=True)


def _reseed() -> None:
    """Fresh random states: every fork starts with a copy of the host's, the same in each."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # The log's disk is full: nowhere left to say so, and the process ends next.
            return
