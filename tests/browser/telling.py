"""What a socket tells a task's page, told by the test."""

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, WebSocketRoute, expect


def mark(page: Page) -> None:
    page.evaluate("() => { window.same = true }")


def is_same(page: Page) -> bool:
    """Whether the page was never loaded anew since it was marked."""
    return bool(page.evaluate("() => window.same === true"))


def tell(page: Page, task_id: str, *made: Callable[[Page], dict[str, Any]]) -> None:
    """Load the task's page and give it these messages alone, made of the page as it stands."""
    sockets: list[WebSocketRoute] = []
    page.route_web_socket("**/ws/train/*", lambda socket: sockets.append(socket))
    page.goto(f"/tasks/{task_id}")
    expect(page.locator("#alive")).to_have_attribute("data-state", "live")
    mark(page)
    for number, make in enumerate(made):
        told = make(page)
        sockets[0].send(json.dumps({**told, "seq": told["seq"] + number}))


def state(page: Page, **changes: object) -> dict[str, Any]:
    """The message that follows what the page knows, of a task in its fit."""
    seq = int(page.locator("#task").get_attribute("data-seq") or 0)
    attempt = int(page.locator("#task").get_attribute("data-attempt") or 0)
    now = {"status": "running", "stage": "fit", "progress": 50.0, "message": ""}
    return {"seq": seq + 1, "attempt": attempt, "timestamp": "", "data": {}, **now, **changes}
