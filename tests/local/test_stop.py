"""The signals that stop a local start, wherever they fall."""

import io
import os
import signal
import sys

import pytest

from qlibplatform.local import __main__ as local


class Interrupted(io.RawIOBase):
    """A terminal at which somebody presses Ctrl-C in the middle of a line."""

    pressed = False

    def writable(self):
        return True

    def write(self, data):
        if not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)
        return len(data)


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.signal(number, local._stop) for number in local.STOPPING_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_stop_in_the_middle_of_a_line_is_a_stop(monkeypatch, capfd):
    terminal = io.TextIOWrapper(io.BufferedWriter(Interrupted()), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", terminal)

    with pytest.raises(local.Stop):
        print("a line", flush=True)  # noqa: T201

    monkeypatch.undo()
    assert "Stopping" in capfd.readouterr().out


def test_a_stop_without_a_terminal_is_a_stop(monkeypatch):
    def gone(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(local.os, "write", gone)

    with pytest.raises(local.Stop):
        os.kill(os.getpid(), signal.SIGHUP)
