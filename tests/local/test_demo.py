"""The first training's client: misses nothing when a connection breaks, and gives up if it must."""

import json
import threading
from contextlib import contextmanager

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.sync.server import serve

from qlibplatform.local import demo, prepare
from qlibplatform.local.demo import Client
from qlibplatform.local.prepare import CannotStart


@contextmanager
def platform(handler, **options):
    """A platform's socket that `handler` serves; a client of it."""
    with serve(handler, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            port = server.socket.getsockname()[1]
            yield Client(prepare.place_from({"PORT": str(port)}), "qp_secret")
        finally:
            server.shutdown()
            thread.join()


def message(seq, status="running"):
    return json.dumps({"seq": seq, "status": status, "type": "progress"})


def test_it_comes_back_after_a_loss_and_asks_for_what_followed():
    asked = []

    def handler(socket):
        asked.append((socket.request.path, socket.request.headers["Authorization"]))
        if len(asked) == 1:
            socket.send(message(1))
            socket.send(message(2))
            socket.close(1001)
        else:
            socket.send(message(3, "completed"))
            socket.recv()

    with platform(handler) as client:
        events = client.events("task-1", look=lambda: None)
        seen = [event["seq"] for event in events if event]

    assert seen == [1, 2, 3]
    bearer = "Bearer qp_secret"
    assert asked == [("/ws/train/task-1", bearer), ("/ws/train/task-1?after=2", bearer)]


@pytest.mark.parametrize("code", [4401, 4404])
def test_a_refusal_that_would_come_again_ends_it(code):
    with platform(lambda socket: socket.close(code)) as client, pytest.raises(CannotStart):
        list(client.events("task-1", look=lambda: None))


def test_a_refused_handshake_ends_it():
    def refuse(connection, request):
        return Response(403, "Forbidden", connection.respond(403, "no").headers, b"no")

    with (
        platform(lambda socket: None, process_request=refuse) as client,
        pytest.raises(CannotStart, match="403"),
    ):
        list(client.events("task-1", look=lambda: None))


def test_while_nothing_comes_it_looks_after_the_processes():
    class Died(Exception):
        pass

    def look():
        raise Died

    with platform(lambda socket: socket.recv()) as client, pytest.raises(Died):
        list(client.events("task-1", look=look))


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for exemption in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(exemption, raising=False)

    def always_ready(_connection, _request):
        return Response(200, "OK", Headers({"Content-Length": "0"}), b"")

    with platform(lambda socket: None, process_request=always_ready) as client:
        demo.wait_until_ready(client.place, look=lambda: None, deadline_s=5)
