"""What our web process does otherwise than daphne; its end is in `test_web_restart.py`."""

import gc
from collections import Counter

import pytest

from qlibplatform import web


def test_connections_are_checked_in_parts_and_each_once_a_round(monkeypatch):
    checked = Counter()

    class Connection:
        def check_timeouts(self):
            checked[self] += 1

    server = web.GracefulServer.__new__(web.GracefulServer)
    server.connections = {Connection(): {} for _ in range(1_000)}
    server._unchecked, server._part = [], 1
    waits, parts = [], []
    monkeypatch.setattr(web.reactor, "callLater", lambda wait_s, _: waits.append(wait_s))

    for _ in range(web.CHECKS):
        before = checked.total()
        server.timeout_checker()
        parts.append(checked.total() - before)

    assert set(checked.values()) == {1}
    assert len(checked) == 1_000
    assert max(parts) == 1_000 // web.CHECKS
    assert sum(waits) == pytest.approx(web.CHECK_ALL_S)


def test_whole_looks_for_garbage_are_rare_and_leave_out_what_is_loaded():
    before = gc.get_threshold()
    try:
        web._look_seldom_for_garbage()

        assert gc.get_threshold() == (*before[:2], web.WHOLE_LOOKS)
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_a_connection_that_has_gone_is_not_checked(monkeypatch):
    class Gone:
        def check_timeouts(self):
            raise AssertionError("checked")

    server = web.GracefulServer.__new__(web.GracefulServer)
    server.connections, server._unchecked, server._part = {}, [Gone()], 1
    monkeypatch.setattr(web.reactor, "callLater", lambda *_: None)

    server.timeout_checker()
