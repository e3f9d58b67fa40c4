"""A web process that is told to end answers what it has begun; the next one takes what waited."""

import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def held():
    """A listening socket, as systemd holds one for the unit."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server


@contextmanager
def web_on(held):
    """A web process on the socket; told to end at the end."""
    descriptor = held.fileno()
    with subprocess.Popen(
        [sys.executable, "-m", "qlibplatform.web", "--fd", str(descriptor),
         "tests.slow_application:application"],
        cwd=ROOT,
        pass_fds=[descriptor],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()


class Asker(threading.Thread):
    """One request in a thread of its own; what came of it."""

    def __init__(self, held, path):
        super().__init__(daemon=True)
        self.url = f"http://127.0.0.1:{held.getsockname()[1]}{path}"
        self.outcome = None
        self.start()

    def run(self):
        try:
            self.outcome = requests.post(self.url, timeout=30).text
        except requests.RequestException as error:
            self.outcome = error

    def wait(self):
        self.join(timeout=40)
        return self.outcome


def test_a_restart_fails_neither_the_request_under_way_nor_the_next_one(held):
    with web_on(held) as web:
        slow = Asker(held, "/slow")
        assert web.stdout.readline() == b"asked\n"

        web.terminate()
        waiting = Asker(held, "/")
        assert web.wait(timeout=15) == 0

    with web_on(held):
        assert slow.wait() == "answered"
        assert waiting.wait() == "answered"


def test_interrupted_it_ends_at_once(held):
    with web_on(held) as web:
        slow = Asker(held, "/slow")
        assert web.stdout.readline() == b"asked\n"

        web.send_signal(signal.SIGINT)

        assert web.wait(timeout=15) == 0
        assert isinstance(slow.wait(), requests.ConnectionError)
