"""What must hold of every finished task, whatever has happened. Each finds faults, as sentences."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .client import FINAL, Client, Subscriber


def faults_of(
    client: Client, task: dict[str, Any], *, heard: Subscriber, artifacts_dir: Path
) -> list[str]:
    """All that is wrong with a final task; an empty list is what a test wants."""
    events = client.events(task["id"])
    found = [
        *_of_numbers(task, events),
        *_of_ends(task, events),
        *_of_progress(events),
        *_of_listener(events, heard),
    ]
    if task["status"] == "completed":
        found += _of_artifacts(task, artifacts_dir / task["id"] / str(task["attempt"]))
    return [f"{task['id']}: {one}" for one in found]


def _of_numbers(task: dict[str, Any], events: list[dict[str, Any]]) -> Iterator[str]:
    numbers = [event["seq"] for event in events]
    if numbers != list(range(1, task["last_seq"] + 1)):
        yield f"events are numbered {numbers}, the task's newest is {task['last_seq']}"


def _of_ends(task: dict[str, Any], events: list[dict[str, Any]]) -> Iterator[str]:
    ends = [event["type"] for event in events if event["type"] in FINAL]
    if ends != [task["status"]] or events[-1]["type"] != task["status"]:
        yield f"it is {task['status']}, its ends are {ends}, its last is {events[-1]['type']}"


def _of_progress(events: list[dict[str, Any]]) -> Iterator[str]:
    last = (0, 0.0)
    for event in events:
        # A new attempt, and a task that waits again, begin anew.
        now = (event["attempt"], event["progress"])
        if now[0] == last[0] and now[1] < last[1] and event["type"] != "requeued":
            yield f"progress falls from {last} to {now} at {event['seq']}"
        if (event["progress"] == 100.0) != (event["type"] == "completed"):
            yield f"progress is {event['progress']} at {event['seq']}, {event['type']}"
        last = now


def _of_listener(events: list[dict[str, Any]], heard: Subscriber) -> Iterator[str]:
    yield from heard.faults
    by_number = {event["seq"]: event for event in events}
    for message in heard.heard:
        told = {name: value for name, value in message.items() if name != "from_seq"}
        if told != by_number.get(message["seq"]):
            yield f"heard {message}, the event is {by_number.get(message['seq'])}"
    last = heard.heard[-1]["seq"] if heard.heard else 0
    if last != len(events):
        yield f"heard up to {last} of {len(events)}"


def _of_artifacts(task: dict[str, Any], folder: Path) -> Iterator[str]:
    listed = {one["path"]: one for one in task["result"]["artifacts"]}
    present = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    if listed.keys() != present.keys() or not listed:
        yield f"artifacts {sorted(listed)}, files {sorted(present)}"
    for name in listed.keys() & present.keys():
        data = present[name].read_bytes()
        if (len(data), hashlib.sha256(data).hexdigest()) != (
            listed[name]["bytes"],
            listed[name]["sha256"],
        ):
            yield f"the artifact {name} is not what the manifest says"
