"""Django's HTTP under ASGI in one hop: a whole request on one of a few long-lived threads.

Django's own handler changes between event loop and thread for most middleware and for the view,
a dozen times a request, and all requests of a process share one thread for it. Here the middleware
and the view run as they do under WSGI; only reading the body, sending the answer and streaming
stay with the event loop. The threads keep their database connections, so their number bounds
those too.
"""

import asyncio
import contextvars
import logging
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from tempfile import SpooledTemporaryFile
from typing import IO, Any, TypeVar

from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.db import connections
from django.http import FileResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import set_script_prefix

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

T = TypeVar("T")

BODY_MAX_BYTES = 2 * 1024 * 1024
"""More than any call takes: what is larger is refused before Django sees it."""


class BodyTooLarge(Exception):
    """The request's body is larger than any call takes."""


class OneHop(ASGIHandler):
    """The ASGI application for HTTP."""

    def __init__(self) -> None:
        # Not the parent's: it loads the middleware in its asynchronous form.
        self.load_middleware(is_async=False)
        self._pool = ThreadPoolExecutor(settings.HTTP_THREADS, thread_name_prefix="http")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; one whose client has left before its turn is not run."""
        try:
            _refuse_large(scope)
            body = await self.read_body(receive)
        except RequestAborted:
            return
        except BodyTooLarge:
            await self.send_response(_too_large(), send)
            return
        leaving = asyncio.ensure_future(self.listen_for_disconnect(receive))
        try:
            response = await self._answer(scope, body, leaving)
            if response is not None:
                await self._send_all(response, send, leaving)
        finally:
            body.close()
            leaving.cancel()
            # Its outcome is of no more use; asked for, so that nothing is logged of it.
            await asyncio.wait({leaving})
            if not leaving.cancelled():
                leaving.exception()

    async def read_body(self, receive: Receive) -> SpooledTemporaryFile[bytes]:
        """The body, of no more than the limit. Raises: RequestAborted, BodyTooLarge."""
        body = SpooledTemporaryFile(max_size=settings.FILE_UPLOAD_MAX_MEMORY_SIZE)  # noqa: SIM115
        try:
            await _read(body, receive)
        except BaseException:
            body.close()
            raise
        body.seek(0)
        return body

    # ── On a thread ─────────────────────────────────────────────────────────────────────

    async def _answer(
        self, scope: Scope, body: Any, leaving: "asyncio.Future[Any]"
    ) -> HttpResponseBase | None:
        """The response; None if the client left before a thread was free."""
        context = contextvars.copy_context()
        job = self._pool.submit(context.run, self._respond, scope, body)
        answer = asyncio.wrap_future(job)
        await asyncio.wait({answer, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done() and job.cancel():
            return None
        return await answer

    def _respond(self, scope: Scope, body: Any) -> HttpResponseBase:
        """All that Django does for one request. A response in memory is finished with."""
        _leave_cut_connections()
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, refusal = self.create_request(scope, body)
        response: Any = self.get_response(request) if request else refusal
        response._handler_class = self.__class__
        if not response.streaming:
            response.close()
        answer: HttpResponseBase = response
        return answer

    async def _on_a_thread(self, call: Callable[..., T], *args: Any) -> T:
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: context.run(call, *args)
        )

    # ── The way out ─────────────────────────────────────────────────────────────────────

    async def _send_all(
        self, response: HttpResponseBase, send: Send, leaving: "asyncio.Future[Any]"
    ) -> None:
        if not isinstance(response, StreamingHttpResponse):
            await self.send_response(response, send)
            return
        if not response.is_async:
            if isinstance(response, FileResponse):
                response.block_size = self.chunk_size
            response.streaming_content = self._blocks(iter(response))
        sending = asyncio.ensure_future(self.send_response(response, send))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                log.info("a client left while it was sent %s", response.headers)
                sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            if not sending.cancelled():
                sending.result()
        finally:
            await self._on_a_thread(response.close)

    async def _blocks(self, parts: Iterator[bytes]) -> AsyncIterator[bytes]:
        """The parts, each made on a thread when the one before is on its way."""
        while True:
            making = asyncio.ensure_future(self._on_a_thread(next, parts, None))
            try:
                part = await asyncio.shield(making)
            finally:
                # A maker that is at work can't be closed.
                await asyncio.wait({making})
            if part is None:
                return
            yield part


def _leave_cut_connections() -> None:
    """Close those of the thread's connections that PostgreSQL has ended meanwhile.

    Nothing is to be read from an idle connection but its end: looking costs no round trip.
    """
    for connection in connections.all(initialized_only=True):
        if connection.vendor == "postgresql" and connection.connection is not None:
            poll = select.poll()
            poll.register(connection.connection.fileno(), select.POLLIN)
            if poll.poll(0):
                connection.close()


def _refuse_large(scope: Mapping[str, Any]) -> None:
    """Raises: BodyTooLarge, if the header says so already."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > BODY_MAX_BYTES:
            raise BodyTooLarge


async def _read(body: IO[bytes], receive: Receive) -> None:
    is_whole = False
    while not is_whole:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestAborted
        part = message.get("body", b"")
        if body.tell() + len(part) > BODY_MAX_BYTES:
            raise BodyTooLarge
        body.write(part)
        is_whole = not message.get("more_body", False)


def _too_large() -> JsonResponse:
    message = f"The body is larger than {BODY_MAX_BYTES} bytes"
    told = {"error": {"code": "too_large", "message": message}}
    return JsonResponse(told, status=413, headers={"Connection": "close"})
