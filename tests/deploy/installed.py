"""What systemd does with an installed platform: on a machine of its own, as root, after install.sh.

    /opt/qlib-platform/current/.venv/bin/python -m tests.deploy.installed     # in the checkout

A task runs to its end; a worker is restarted under a task, and killed under one; the web process is
started by a request, and restarted under requests. Prints what was seen. Raises AssertionError. It
makes a user and tasks, so nobody wants it on a machine that serves people.
"""

import json
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e import market, workflows
from tests.e2e.waiting import until

WORKER, WEB = "qlib-worker@cpu-1.service", "qlib-web@1.service"
PAUSE_S = 0.1
"""Three clients: well below what nginx lets one address ask."""
RESTARTS = 5


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def manage(*words: str, **environment: str) -> str:
    told = [f"{name}={value}" for name, value in environment.items()]
    command = ["env", *told, "qlib-manage", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Client:
    """Speaks to nginx on this machine, each time by a new connection."""

    def __init__(self) -> None:
        name = f"user-{uuid.uuid4().hex[:8]}"
        named = ("--username", name, "--email", "user@example.org")
        manage("createsuperuser", "--noinput", *named, DJANGO_SUPERUSER_PASSWORD="unused-9x")
        self.token = manage("create_token", name).strip().splitlines()[-1]
        self.context = ssl.create_default_context(cafile="/etc/qlib-platform/tls.crt")
        # The certificate has the machine's public name, and we come by another.
        self.context.check_hostname = False

    def call(self, method: str, path: str, text: str = "") -> Any:
        """The answer's JSON. Raises: urllib.error.URLError."""
        request = urllib.request.Request(
            f"https://localhost{path}",
            method=method,
            data=text.encode() if text else None,
            headers={
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/yaml",
            },
        )
        # The address is our own.
        opened = urllib.request.urlopen(request, timeout=60, context=self.context)  # noqa: S310
        with opened as answer:
            return json.load(answer)

    def submit(self, text: str) -> str:
        return str(self.call("POST", "/api/train", text)["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/api/tasks/{task_id}"))

    def reasons(self, task_id: str) -> list[str]:
        """Why it was given back, each time."""
        events = self.call("GET", f"/api/tasks/{task_id}/events")["results"]
        return [one["data"]["reason"] for one in events if one["type"] == "requeued"]

    def fits(self, task_id: str, *, attempt: int) -> None:
        """Wait until this attempt trains."""

        def look() -> bool:
            task = self.task(task_id)
            return (task["stage"], task["attempt"]) == ("fit", attempt)

        until(look, what=f"the fit of attempt {attempt}", within_s=180, every_s=0.2)

    def completed(self, task_id: str, *, finish: bool = False) -> dict[str, Any]:
        if finish:
            self.call("POST", f"/api/tasks/{task_id}/finish")

        def look() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["completed_at"] else None

        task = dict(until(look, what="its end", within_s=240, every_s=0.2))
        assert task["status"] == "completed", task["error"]
        return task


def processes(unit: str) -> set[int]:
    """All of the unit's, by its control group."""
    group = systemctl("show", "--property=ControlGroup", "--value", unit)
    roots = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")]
    files = [root / group.strip("/") / "cgroup.procs" for root in roots]
    return {int(pid) for file in files if file.exists() for pid in file.read_text().split()}


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def main_pid(unit: str) -> int:
    return int(systemctl("show", "--property=MainPID", "--value", unit))


def say(what: str, **figures: Any) -> None:
    print(json.dumps({"seen": what, **figures}), flush=True)  # noqa: T201


# ── What is tried ───────────────────────────────────────────────────────────────────────


def run_one(client: Client, texts: dict[str, str]) -> None:
    begun = time.monotonic()
    task = client.completed(client.submit(texts["short"]))
    took_s = round(time.monotonic() - begun, 1)
    say("a task", worker=task["worker"], seconds=took_s, metrics=len(task["result"]["metrics"]))


def restart_worker(client: Client, texts: dict[str, str]) -> None:
    """With one attempt only: a stop must not use it up."""
    task_id = client.submit(texts["endless once"])
    client.fits(task_id, attempt=1)
    begun, before = time.monotonic(), processes(WORKER)
    systemctl("restart", WORKER)
    restarted_s = time.monotonic() - begun
    left = [pid for pid in before if is_alive(pid)]
    client.fits(task_id, attempt=2)
    again_s = time.monotonic() - begun
    task = client.completed(task_id, finish=True)
    reasons = client.reasons(task_id)
    assert (left, reasons) == ([], ["shutdown"])
    say(
        "systemctl restart of the worker under a task of one attempt",
        restart_s=round(restarted_s, 1),
        trains_again_s=round(again_s, 1),
        status=task["status"],
        reasons=reasons,
    )


def kill_worker(client: Client, texts: dict[str, str], *, whom: str) -> None:
    """SIGKILL to the main process alone, or to all: nothing is left, and systemd starts anew."""
    task_id = client.submit(texts["endless"])
    client.fits(task_id, attempt=1)
    before, pid = processes(WORKER), main_pid(WORKER)
    assert len(before) >= 3, before
    begun = time.monotonic()
    systemctl("kill", f"--kill-whom={whom}", "--signal=KILL", WORKER)
    gone = until(
        lambda: not any(is_alive(one) for one in before), what="the end of all", within_s=30
    )
    gone_s = time.monotonic() - begun
    until(lambda: main_pid(WORKER) not in (0, pid), what="a new worker", within_s=60)
    client.fits(task_id, attempt=2)
    again_s = time.monotonic() - begun
    task = client.completed(task_id, finish=True)
    reasons = client.reasons(task_id)
    assert gone
    assert reasons == ["worker_lost"], reasons
    say(
        f"systemctl kill -s KILL, {whom}",
        processes=len(before),
        all_gone_s=round(gone_s, 2),
        trains_again_s=round(again_s, 1),
        status=task["status"],
        reasons=reasons,
    )


def start_web_by_a_request(client: Client) -> None:
    systemctl("stop", WEB)
    assert systemctl("is-active", WEB) == "inactive"
    begun = time.monotonic()
    client.call("GET", "/api/tasks")
    took_s = time.monotonic() - begun
    assert systemctl("is-active", WEB) == "active"
    say("a request to a web process that was stopped", answered_s=round(took_s, 1))


def restart_web(client: Client) -> None:
    """Requests one after the other in three threads, over all restarts."""
    told: Counter[str] = Counter()
    slowest = [0.0]
    over = threading.Event()

    def ask() -> None:
        while not over.wait(PAUSE_S):
            begun = time.monotonic()
            try:
                client.call("GET", "/api/tasks")
                told["answered"] += 1
            except (urllib.error.URLError, OSError) as error:
                told[str(error)] += 1
            slowest[0] = max(slowest[0], time.monotonic() - begun)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(RESTARTS):
            time.sleep(3)
            systemctl("restart", WEB)
        time.sleep(5)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    say(f"{RESTARTS} restarts of the web", requests=dict(told), slowest_s=round(slowest[0], 1))
    assert set(told) == {"answered"}


def main() -> None:
    manage("build_demo_market")
    place = market.facts(has_real_prices=False)
    small: Callable[..., str] = workflows.small
    texts = {
        "short": small(place),
        "endless": small(place, instruments=4, rounds=100_000),
        "endless once": small(place, instruments=4, rounds=100_000, max_attempts=1),
    }
    client = Client()
    run_one(client, texts)
    restart_worker(client, texts)
    kill_worker(client, texts, whom="main")
    kill_worker(client, texts, whom="all")
    start_web_by_a_request(client)
    restart_web(client)
    say("the doctor", told=manage("doctor").splitlines())
    say("the audit", told=manage("audit").strip().splitlines()[-1])


if __name__ == "__main__":
    main()
