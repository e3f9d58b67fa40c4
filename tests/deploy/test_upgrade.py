"""An upgrade from an earlier release while requests come in and tasks run; and the way back.

    UPGRADE_FROM=a502145 pytest tests/deploy/test_upgrade.py      # minutes; any commit with workers

As deploy/README.md has it: tables first, by the new release; a web process of the new release
beside the old one, nginx turned to it; reconciler and workers restarted. Back: the web process is
restarted on the socket that is held for it, the rest as before; tables stay.
"""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager

import psutil
import pytest
import requests

from tests.deploy.test_nginx import configuration, free_port, make_certificate
from tests.e2e import databases, market, workflows
from tests.e2e.client import FINAL, Client, Subscriber
from tests.e2e.platform_processes import CHECKOUT, running
from tests.e2e.waiting import until

FROM = os.environ.get("UPGRADE_FROM", "")
LOG = os.environ.get("UPGRADE_LOG")
LEFT_AT_THE_END = 4
"""Pending tasks that are run to their end; the rest is cancelled, to save time."""

pytestmark = [
    pytest.mark.redis,
    pytest.mark.qlib,
    pytest.mark.postgres,
    pytest.mark.timeout(1_500),
    pytest.mark.skipif(not FROM, reason="UPGRADE_FROM names no commit (takes minutes)"),
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx (Debian: nginx)"),
]


class Load:
    """Requests of three kinds, each in a thread of its own, until told to stop."""

    EVERY_S = {"list": 0.25, "task": 0.25, "submit": 4.0}

    def __init__(self, client, market, task_id):
        self.client = client
        self.workflow = workflows.small(market, instruments=4, fit_days=200, rounds=5)
        self.task_id = task_id
        self.phase = "before"
        self.accepted = []
        self.counts = Counter()
        self.failures = []
        self.slowest_s = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(kind,), daemon=True)
            for kind in self.EVERY_S
        ]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, kind):
        while not self._stop.wait(self.EVERY_S[kind]):
            phase, begun = self.phase, time.monotonic()
            try:
                answer = getattr(self, f"_{kind}")()
                if answer.status_code not in (200, 201):
                    self.failures.append((phase, kind, answer.status_code, answer.text[:200]))
            except requests.RequestException as error:
                self.failures.append((phase, kind, "no answer", str(error)))
            self.counts[phase, kind] += 1
            took_s = time.monotonic() - begun
            self.slowest_s[phase] = max(took_s, self.slowest_s.get(phase, 0))

    def _list(self):
        return self.client.call("GET", "/api/tasks")

    def _task(self):
        return self.client.call("GET", f"/api/tasks/{self.task_id}")

    def _submit(self):
        headers = {"Content-Type": "application/yaml"}
        answer = self.client.call("POST", "/api/train", data=self.workflow, headers=headers)
        if answer.status_code == 201:
            self.accepted.append(answer.json()["task_id"])
        return answer


class Front:
    """nginx as deploy/ has it, but for TLS, before one web process or another."""

    def __init__(self, folder, *, web_port):
        self.folder, self.port = folder, free_port()
        # Not used, but read.
        make_certificate(folder)
        self._write(web_port)
        self.process = subprocess.Popen(["nginx", "-c", folder / "nginx.conf"])

    def turn_to(self, web_port):
        """Reload, and wait until what the old workers of nginx had begun is done."""
        before = psutil.Process(self.process.pid).children()
        self._write(web_port)
        subprocess.run(["nginx", "-c", self.folder / "nginx.conf", "-s", "reload"], check=True)
        until(
            lambda: not [one for one in before if one.is_running()],
            what="the end of nginx's old workers",
            within_s=60,
        )

    def _write(self, web_port):
        text = configuration(self.folder, port=self.port, web=web_port)
        text = text.replace(f":{self.port} ssl http2;", f":{self.port};")
        # Sockets hold an old worker for an hour else; their clients come back.
        (self.folder / "nginx.conf").write_text(f"worker_shutdown_timeout 5s;\n{text}")

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)


@contextmanager
def release(commit, folder):
    """The files of a commit, as they were."""
    archive = subprocess.run(
        ["git", "archive", commit], cwd=CHECKOUT, stdout=subprocess.PIPE, check=True
    )
    subprocess.run(["tar", "x", "-C", folder], input=archive.stdout, check=True)
    yield folder


def module_of(checkout):
    """What the release's unit starts."""
    return "qlibplatform.web" if (checkout / "qlibplatform/web.py").exists() else "daphne"


def restart(platform, *names):
    """What is not web: one after the other, as install.sh does."""
    for name in names:
        platform.terminate(name)
        if name == "reconcile":
            platform.start_reconciler()
        else:
            platform.start_worker(name)


def serves(port):
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=20).ok
    except requests.RequestException:
        return False


def test_up_and_back_no_request_fails_and_no_task_is_lost(tmp_path_factory):
    old_files, nginx_files = tmp_path_factory.mktemp("old"), tmp_path_factory.mktemp("nginx")
    data = tmp_path_factory.mktemp("datasets")
    with (
        databases.fresh("postgresql") as url,
        release(FROM, old_files) as old,
        socket.create_server(("127.0.0.1", 0), backlog=4096) as first,
        socket.create_server(("127.0.0.1", 0), backlog=4096) as second,
        running(database_url=url, datasets_dir=data, checkout=old) as platform,
        ExitStack() as ends,
    ):
        ports = [held.getsockname()[1] for held in (first, second)]
        platform.start_redis()
        the_market = market.import_into(platform)
        platform.start_web_on(first, name="web-1", module=module_of(old))
        platform.port = ports[0]
        platform.start_reconciler()
        for name in ("worker-1", "worker-2"):
            platform.start_worker(name)
        until(platform._is_ready, what=f"readiness\n{platform.last_words()}", within_s=120)
        front = Front(nginx_files, web_port=ports[0])
        ends.callback(front.stop)
        client = Client(f"127.0.0.1:{front.port}", platform.token)
        until(lambda: serves(front.port), what="nginx")
        long_id = client.submit(workflows.small(the_market, instruments=4, rounds=100_000))
        heard = Subscriber(client, long_id)
        heard.wait_for("stage", stage="fit", within_s=120)
        load = Load(client, the_market, long_id)
        try:
            until(lambda: len(load.accepted) >= 2, what="two tasks", within_s=60)

            load.phase = "upgrade"
            platform.checkout = CHECKOUT
            platform.manage("migrate", "--noinput")
            platform.start_web_on(second, name="web-2", module=module_of(CHECKOUT))
            until(lambda: serves(ports[1]), what="the new web", within_s=60)
            front.turn_to(ports[1])
            platform.terminate("web-1")
            restart(platform, "reconcile", "worker-1", "worker-2")
            wait_for_attempt(client, long_id, of_worker=2)

            load.phase = "new release"
            until(lambda: len(load.accepted) >= 8, what="eight tasks", within_s=120)

            load.phase = "restart"
            platform.terminate("web-2")
            platform.start_web_on(second, name="web-2", module=module_of(CHECKOUT))
            until(lambda: serves(ports[1]), what="the new web again", within_s=60)

            load.phase = "rollback"
            platform.checkout = old
            platform.terminate("web-2")
            platform.start_web_on(second, name="web-2", module=module_of(old))
            until(lambda: serves(ports[1]), what="the old web", within_s=60)
            restart(platform, "reconcile", "worker-1", "worker-2")
            wait_for_attempt(client, long_id, of_worker=3)

            load.phase = "old release"
            seen = len(load.accepted)
            until(lambda: len(load.accepted) >= seen + 2, what="more tasks", within_s=60)
        finally:
            load.stop()
        tasks = end_all(client, load.accepted, long_id)
        heard.wait_for_end(within_s=60)
        last = client.task(long_id)["last_seq"]
        until(lambda: heard.heard[-1]["seq"] == last, what="the last event")
        heard.leave()
        platform.checkout = CHECKOUT
        told = platform.manage("audit")
        log(load, tasks, heard)

    assert load.failures == []
    assert set(Counter(task["status"] for task in tasks)) <= {"completed", "cancelled"}
    assert tasks[0]["status"] == "completed"
    assert "every invariant holds" in told
    assert heard.faults == []


def wait_for_attempt(client, task_id, *, of_worker):
    """Both workers were stopped, so a task that one of them ran runs again."""

    def runs():
        task = client.task(task_id)
        return task["status"] == "running" and task["attempt"] >= of_worker

    until(runs, what=f"attempt {of_worker}", within_s=180, every_s=0.5)


def end_all(client, accepted, long_id):
    """Every task, final: the long one ended early, the newest pending ones cancelled."""
    until(lambda: client.task(long_id)["stage"] == "fit", what="a fit", within_s=120, every_s=0.5)
    assert client.act(long_id, "finish").status_code == 202
    states = {task_id: client.task(task_id)["status"] for task_id in accepted}
    waiting = [task_id for task_id, status in states.items() if status not in FINAL]
    for task_id in waiting[LEFT_AT_THE_END:]:
        client.act(task_id, "cancel")
    return [client.final(task_id, within_s=300) for task_id in (long_id, *accepted)]


def log(load, tasks, heard):
    """The figures, for the documentation."""
    if LOG:
        told = {
            "requests": {f"{phase}: {kind}": count for (phase, kind), count in load.counts.items()},
            "failed": load.failures,
            "slowest_s": {phase: round(took, 1) for phase, took in load.slowest_s.items()},
            "tasks": dict(Counter(task["status"] for task in tasks)),
            "attempts_of_the_long_one": tasks[0]["attempt"],
            "connections_of_the_socket": heard.connected_count,
            "events_heard": len(heard.heard),
        }
        with open(LOG, "w") as file:
            json.dump(told, file, indent=1)
