"""Every HTTP request and database query, counted and timed; each request's id.

Around the whole application, not a Django middleware: those cost a change of threads each.
"""

import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any
from uuid import uuid4

from django.db.backends.signals import connection_created
from django.urls import Resolver404, resolve
from prometheus_client import Counter, Histogram

from training import tracing

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
HTTP_SECONDS = Histogram(
    "qlibplatform_http_seconds",
    "From a request's arrival to the end of its answer.",
    ["method", "route", "status"],
    buckets=BUCKETS,
)
QUERY_SECONDS = Histogram(
    "qlibplatform_database_query_seconds", "One query of this web process.", buckets=BUCKETS
)
QUERY_ERRORS = Counter(
    "qlibplatform_database_errors", "Queries of this web process that failed, by error.", ["error"]
)

METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
_ID = re.compile(r"task-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_TASK = f"task-{'0' * 8}-0000-0000-0000-{'0' * 12}"
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}", flags=re.ASCII)


def observed(application: Application) -> Application:
    """The application, with ids for its log lines, and its requests counted."""
    connection_created.connect(_time_queries, dispatch_uid="qlibplatform.observed")

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return await application(scope, receive, send)
        request_id = _request_id(scope)
        if scope["type"] == "websocket":
            # A server gives each socket a task, hence a context, of its own.
            tracing.stamp(request_id=request_id)
            return await application(scope, receive, send)
        with tracing.about(request_id=request_id):
            return await _observe(application, scope, receive, send, request_id)

    return run


async def _observe(
    application: Application, scope: Scope, receive: Receive, send: Send, request_id: str
) -> None:
    began, status = time.perf_counter(), 500

    async def send_on(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", request_id.encode()),
            ]
        await send(message)

    try:
        await application(scope, receive, send_on)
    finally:
        method = scope["method"] if scope["method"] in METHODS else "other"
        took = HTTP_SECONDS.labels(method, route_of(scope["path"]), status)
        took.observe(time.perf_counter() - began)


def route_of(path: str) -> str:
    """The route's pattern, so that the number of names stays small whatever is asked for."""
    return _route(_ID.sub(_NO_TASK, path)) if len(path) < 200 else "long"


@lru_cache(maxsize=512)
def _route(path: str) -> str:
    try:
        return f"/{resolve(path).route}"
    except Resolver404:
        return "static" if path.startswith("/static/") else "nowhere"


def _request_id(scope: Scope) -> str:
    """The proxy's or the client's, if it is one; else a new one."""
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("ascii", "replace")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _time_queries(*, connection: Any, **_: Any) -> None:
    connection.execute_wrappers.append(_timed)


def _timed(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    began = time.perf_counter()
    try:
        return execute(sql, params, many, context)
    except Exception as error:
        QUERY_ERRORS.labels(type(error).__name__).inc()
        raise
    finally:
        QUERY_SECONDS.observe(time.perf_counter() - began)
