"""An ASGI application that answers late: says that it was asked, then waits."""

import asyncio

ANSWER_AFTER_S = 1.5


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/slow":
        print("asked", flush=True)  # noqa: T201 - the test waits for it
        await asyncio.sleep(ANSWER_AFTER_S)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answered"})
