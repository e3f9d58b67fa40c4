"""The frame writer against the real protocol and transport: right, or not used at all."""

import socket
from functools import partial

import pytest
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory
from twisted.internet.tcp import Connection
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from training.live import daphne_socket

LIMIT = 65_536


class Reactor:
    """Takes note of who wants to write, and lets them when told to."""

    def __init__(self):
        self.writers = []

    def addWriter(self, writer):  # noqa: N802
        self.writers.append(writer)

    def removeWriter(self, writer):  # noqa: N802
        self.writers.clear()


@pytest.fixture
def pair():
    """The server's protocol on a connected transport, and the client's end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    protocol = WebSocketFactory(Server(None, endpoints=["tcp:0"])).buildProtocol(None)
    protocol.transport = Connection(ours, protocol, Reactor())
    protocol.transport.connected = 1
    protocol.state, protocol.send_queue = protocol.STATE_OPEN, []
    protocol._perMessageCompress = None
    yield protocol, theirs
    ours.close()
    theirs.close()


def write(protocol, frames, *, limit_bytes=LIMIT):
    return daphne_socket.write(protocol, frames, limit_bytes=limit_bytes)


def heard(data):
    """The texts that a client of another library makes of the bytes."""
    client = ClientProtocol(parse_uri("ws://localhost"))
    client.state = client.state.OPEN
    client.parser = client.parse()
    next(client.parser)
    client.receive_data(data)
    return [frame.data.decode() for frame in client.events_received()]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_frames_are_what_another_library_reads(size):
    texts = ["é" * (size // 2) + "x" * (size % 2), "next"]

    assert heard(daphne_socket.frames(texts)) == texts


def test_the_pinned_versions_are_tried_ones(pair):
    protocol, _ = pair

    assert daphne_socket.is_known()
    assert (
        daphne_socket.protocol_of(partial(Server(None, endpoints=["tcp:0"]).handle_reply, protocol))
        is protocol
    )


@pytest.mark.parametrize("name", daphne_socket.TRIED)
def test_with_another_version_the_plain_way_is_taken_and_said(pair, monkeypatch, caplog, name):
    monkeypatch.setitem(daphne_socket.TRIED, name, "0.")
    daphne_socket.is_known.cache_clear()
    protocol, _ = pair
    try:
        assert (
            daphne_socket.protocol_of(
                partial(Server(None, endpoints=["tcp:0"]).handle_reply, protocol)
            )
            is None
        )
        assert (
            daphne_socket.protocol_of(
                partial(Server(None, endpoints=["tcp:0"]).handle_reply, protocol)
            )
            is None
        )
    finally:
        monkeypatch.undo()
        daphne_socket.is_known.cache_clear()

    assert len(caplog.records) == 1
    assert name in caplog.text


def test_an_idle_socket_is_written_to_at_once(pair):
    protocol, client = pair

    assert write(protocol, b"frames")

    assert client.recv(100) == b"frames"
    assert daphne_socket.unsent_bytes(protocol) == 0
    assert protocol.transport.reactor.writers == []


def test_the_request_is_let_go(pair):
    protocol, _ = pair

    class Channel:
        """As twisted.web leaves one behind: to be paused while much is unsent."""

    protocol.transport.registerProducer(Channel(), True)
    protocol.clean_headers = [(b"authorization", b"Bearer secret")]

    daphne_socket.forget_request(protocol)

    assert protocol.transport.producer is None
    assert protocol.clean_headers == []
    assert protocol.transport.connected


def test_what_the_kernel_does_not_take_follows_in_order(pair):
    protocol, client = pair
    parts = [bytes([65 + number]) * 30_000 for number in range(20)]
    taken = [part for part in parts if write(protocol, part)]

    assert 0 < daphne_socket.unsent_bytes(protocol) <= LIMIT
    assert 0 < len(taken) < len(parts)
    got = b""
    while len(got) < sum(map(len, taken)):
        got += client.recv(1_000_000)
        for writer in list(protocol.transport.reactor.writers):
            writer.doWrite()
    assert got == b"".join(taken)


def closing(protocol):
    protocol.state = protocol.STATE_CLOSING


def leaving(protocol):
    protocol.transport.disconnecting = 1


def compressing(protocol):
    protocol._perMessageCompress = object()


def encrypted(protocol):
    protocol.transport.TLS = True


def queueing(protocol):
    protocol.send_queue.append((b"before", True))


@pytest.mark.parametrize("state", [closing, leaving, compressing, encrypted, queueing])
def test_nothing_is_written_where_it_would_be_wrong(pair, state):
    protocol, client = pair
    state(protocol)

    assert not write(protocol, b"frames")

    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_a_client_that_has_gone_is_left_to_twisted(pair):
    protocol, client = pair
    client.close()

    assert write(protocol, b"frames")

    assert protocol.transport.reactor.writers
