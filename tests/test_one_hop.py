"""HTTP in one hop: a whole request on one thread; clients that leave, that send too much."""

import asyncio
import contextvars
import threading
from urllib.parse import urlsplit

import pytest
from django.core.signals import request_finished
from django.db import connection, connections
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.utils import translation

from qlibplatform.one_hop import BODY_MAX_BYTES, OneHop

DEADLINE_S = 10
CALLER = contextvars.ContextVar("CALLER", default="nobody")
GATE = threading.Event()
ran: list[str] = []
closed: list[str] = []


def where(request):
    told = f"{threading.current_thread().name} {CALLER.get()} {translation.get_language()}"
    translation.activate("de")
    return HttpResponse(told)


def size(request):
    return HttpResponse(str(len(request.body)))


def wait(request, name):
    GATE.wait(DEADLINE_S)
    ran.append(name)
    return HttpResponse(name)


def parts(request, count):
    def made():
        try:
            for number in range(count):
                ran.append(threading.current_thread().name)
                yield f"{number} ".encode()
        finally:
            closed.append("stream")

    return StreamingHttpResponse(made())


async def _async_parts():
    for number in range(3):
        yield f"{number} ".encode()


def async_parts(request):
    return StreamingHttpResponse(_async_parts())


def file(request):
    return FileResponse(open(__file__, "rb"))


def broken(request):
    raise RuntimeError("a mistake")


def database(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("read")


urlpatterns = [
    path("where", where),
    path("size", size),
    path("wait/<str:name>", wait),
    path("parts/<int:count>", parts),
    path("async-parts", async_parts),
    path("file", file),
    path("broken", broken),
    path("database", database),
]


class Client:
    """One request, by hand."""

    def __init__(self, application, url, *, body=(b"",), headers=()):
        self.sent = []
        self._leaves = asyncio.Event()
        self._body = list(body)
        parts = urlsplit(url)
        scope = {
            "type": "http",
            "method": "POST" if any(body) else "GET",
            "path": parts.path,
            "query_string": parts.query.encode(),
            "headers": [(b"host", b"localhost"), *headers],
        }
        self.task = asyncio.ensure_future(application(scope, self._receive, self._send))

    async def _receive(self):
        if self._body:
            part = self._body.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._body)}
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.sent.append(message)
        await asyncio.sleep(0)

    def leave(self):
        self._leaves.set()

    async def answer(self):
        await asyncio.wait_for(self.task, DEADLINE_S)
        return self.status, self.content

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def content(self):
        return b"".join(message.get("body", b"") for message in self.sent)


@pytest.fixture
def application(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    settings.HTTP_THREADS = 1
    for told in (GATE, ran, closed):
        told.clear()
    made = OneHop()
    yield made
    GATE.set()
    made._pool.submit(connections.close_all).result()
    made._pool.shutdown()


async def until(look):
    async with asyncio.timeout(DEADLINE_S):
        while not look():
            await asyncio.sleep(0.005)


async def test_a_request_runs_on_a_thread_of_the_pool_with_the_callers_context(application):
    CALLER.set("somebody")

    assert await Client(application, "/where").answer() == (200, b"http_0 somebody en")


async def test_what_one_request_sets_the_next_on_the_thread_does_not_see(application):
    first = await Client(application, "/where").answer()
    second = await Client(application, "/where").answer()

    assert first == second


async def test_a_body_in_parts_arrives_whole(application):
    assert await Client(application, "/size", body=[b"x" * 70_000] * 3).answer() == (
        200,
        b"210000",
    )


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ([b"x"], [(b"content-length", b"2097153")]),
        ([b"x" * BODY_MAX_BYTES, b"x"], []),
    ],
)
async def test_a_body_over_the_limit_is_refused_unread(application, body, headers):
    client = Client(application, "/size", body=body, headers=headers)

    status, content = await client.answer()

    assert status == 413
    assert b'"code": "too_large"' in content


async def test_a_client_that_leaves_before_its_turn_is_not_served(application):
    first = Client(application, "/wait/first")
    second = Client(application, "/wait/second")
    third = Client(application, "/wait/third")
    await asyncio.sleep(0.05)
    second.leave()
    await asyncio.wait_for(second.task, DEADLINE_S)
    GATE.set()

    assert await first.answer() == (200, b"first")
    assert await third.answer() == (200, b"third")
    assert ran == ["first", "third"]
    assert second.sent == []


async def test_a_stream_is_made_on_the_threads_part_by_part(application):
    assert await Client(application, "/parts/4").answer() == (200, b"0 1 2 3 ")
    assert set(ran) == {"http_0"}
    assert closed == ["stream"]


async def test_a_stream_ends_when_its_client_leaves(application):
    client = Client(application, "/parts/1000000")
    await until(lambda: client.content)
    client.leave()
    await asyncio.wait_for(client.task, DEADLINE_S)

    assert closed == ["stream"]
    assert len(ran) < 1_000_000


async def test_a_stream_of_an_asynchronous_maker_is_sent_too(application):
    assert await Client(application, "/async-parts").answer() == (200, b"0 1 2 ")


async def test_a_file_is_sent_whole(application):
    with open(__file__, "rb") as source:
        assert await Client(application, "/file").answer() == (200, source.read())


async def test_a_view_that_breaks_is_a_500_and_the_next_request_is_served(application, caplog):
    assert (await Client(application, "/broken").answer())[0] == 500
    assert (await Client(application, "/where").answer())[0] == 200


@pytest.mark.parametrize("url", ["/where", "/parts/3", "/async-parts", "/broken"])
async def test_each_request_is_told_to_be_finished_once(application, url):
    told = []
    receiver = lambda **_: told.append(threading.current_thread().name)  # noqa: E731
    request_finished.connect(receiver, weak=False)
    try:
        await Client(application, url).answer()
    finally:
        request_finished.disconnect(receiver)

    assert told == ["http_0"]


@pytest.mark.django_db(transaction=True)
async def test_a_connection_that_the_database_has_cut_costs_no_request(application):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite cuts no connections")
    assert (await Client(application, "/database").answer())[1] == b"read"
    kept = await asyncio.wrap_future(application._pool.submit(lambda: connection.connection))
    await asyncio.to_thread(_end, kept.info.backend_pid)

    assert (await Client(application, "/database").answer())[1] == b"read"
    assert kept.closed


def _end(pid):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    connection.close()


async def test_the_platform_serves_this_way():
    from qlibplatform import asgi

    told = []
    receiver = lambda **_: told.append(threading.current_thread().name)  # noqa: E731
    request_finished.connect(receiver, weak=False)
    try:
        status, _ = await Client(asgi.application, "/healthz").answer()
    finally:
        request_finished.disconnect(receiver)

    assert status == 200
    assert [name.partition("_")[0] for name in told] == ["http"]
