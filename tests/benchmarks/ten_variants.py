"""Times ten variants of a LightGBM workflow posted at once, beside `qrun`. Run by hand:

    python tests/benchmarks/ten_variants.py --url http://127.0.0.1:8000 --kept ten.json WORKFLOW
    python tests/benchmarks/ten_variants.py --store DIR --peers 3 --kept ten.json

TOKEN in the environment signs in. The variants differ in `num_leaves` and `learning_rate`, as a
person's would who looks for the best. The first call posts them and keeps the finished tasks; the
second gives the first of them to `qrun`, one after the other, with DIR (the version's folder of the
same dataset) as its store: their mean, ten times, is the peer. Prints the seconds of "Loading data"
as Qlib's own log tells them in both, what the shared store did, and the largest difference of
figures.
"""

import argparse
import json
import os
import re
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from against_qrun import SAME, ask, with_qrun

VARIANTS = [(leaves, rate) for leaves in (31, 63, 127, 210, 255) for rate in (0.05, 0.2)]
LOADED = re.compile(r"Time cost: ([\d.]+)s \| Loading data Done")


def variants(workflow: dict[str, Any]) -> list[bytes]:
    """The workflow's text, once for each variant."""
    texts = []
    for leaves, rate in VARIANTS:
        one = json.loads(json.dumps(workflow, default=str))
        one["task"]["model"]["kwargs"] |= {"num_leaves": leaves, "learning_rate": rate}
        one.setdefault("platform", {})["name"] = f"leaves {leaves}, rate {rate}"
        texts.append(yaml.safe_dump(one).encode())
    return texts


def all_at_once(url: str, texts: list[bytes]) -> tuple[float, list[dict[str, Any]]]:
    """Seconds from the first posting to the last end, and the finished tasks."""
    begun = time.monotonic()
    waiting = [ask(f"{url}/api/train", body=text)["task_id"] for text in texts]
    tasks = []
    while waiting:
        time.sleep(0.2)
        task = ask(f"{url}/api/tasks/{waiting[0]}")
        if task["status"] in {"pending", "running"}:
            continue
        if task["status"] != "completed":
            raise SystemExit(f"{task['id']}: {task['status']}: {task['error']}")
        tasks.append(task)
        waiting.pop(0)
    return time.monotonic() - begun, tasks


def loading_s(text: str) -> float:
    """Seconds of loading, processors not counted, as Qlib's log tells them."""
    return float(LOADED.findall(text)[0])


def log_of(url: str, task_id: str) -> str:
    """A task's log."""
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    request = urllib.request.Request(f"{url}/api/tasks/{task_id}/log", headers=headers)  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return str(answer.read().decode())


def post(url: str, workflow: Path) -> dict[str, Any]:
    """The ten on the platform; for `compare`."""
    took_s, tasks = all_at_once(url, variants(yaml.safe_load(workflow.read_text())))
    say(f"platform: ten in {took_s:.1f} s")
    for task in tasks:
        result = task["result"]
        load_s = loading_s(log_of(url, task["id"]))
        say(f"  {task['name']}: load {load_s} s, {result['timings']} {result.get('features')}")
    return {"took_s": took_s, "tasks": tasks}


def compare(kept: dict[str, Any], store: Path, *, count: int) -> None:
    """The first `count` once more, by qrun."""
    took, worst = [], 0.0
    for task in kept["tasks"][:count]:
        with tempfile.TemporaryFile("w+") as log:
            theirs_s, metrics, _ = with_qrun(task["config"], store, log=log)
            log.seek(0)
            say(f"qrun, {task['name']}: {theirs_s:.1f} s, load {loading_s(log.read())} s")
        mine = task["result"]["metrics"]
        worst = max(worst, *(abs(mine[name] - metrics[key]) for name, key in SAME.items()))
        took.append(theirs_s)
    peer_s = len(kept["tasks"]) * statistics.mean(took)
    say(f"ten qrun {peer_s:.1f} s, ten tasks {kept['took_s']:.1f} s")
    say(f"ratio {kept['took_s'] / peer_s:.2f}, largest difference {worst:.1e}")


def main() -> None:
    """Either side, as asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workflow", type=Path, nargs="?")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--peers", type=int, default=10)
    options = parser.parse_args()
    if options.workflow:
        options.kept.write_text(json.dumps(post(options.url, options.workflow)))
    if options.store:
        kept = json.loads(options.kept.read_text())
        compare(kept, options.store.absolute(), count=options.peers)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
