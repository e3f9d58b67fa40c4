"""nginx as deploy/ has it, before a real platform: TLS, limits, sockets, a file of 2 GiB."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests
from websockets.sync.client import connect

from tests.e2e.platform_processes import CHECKOUT, Platform, running
from tests.e2e.waiting import until

DEPLOY = CHECKOUT / "deploy"
SIZE = 2 * 1024**3
MAKE = """
import json
from django.contrib.auth.models import User
from django.conf import settings
from tests.factories import make_task
file = {"path": "big.bin", "bytes": %d, "sha256": "0" * 64}
task = make_task(User.objects.get(), status="completed", result={"artifacts": [file]})
place = settings.ARTIFACTS_DIR / task.id / "1"
place.mkdir(parents=True)
with (place / "big.bin").open("wb") as opened:
    opened.truncate(file["bytes"])
    opened.seek(-4, 2)
    opened.write(b"end.")
print(task.id)
"""

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx (Debian: nginx)"),
]


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Front:
    """nginx with TLS before a platform."""

    platform: Platform
    folder: Path
    port: int
    task_id: str

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    @property
    def signed(self):
        return {"Authorization": f"Bearer {self.platform.token}"}

    def get(self, path, **options):
        return self._ask("GET", path, **options)

    def post(self, path, **options):
        return self._ask("POST", path, **options)

    def _ask(self, method, path, **options):
        certificate = str(self.folder / "tls.crt")
        address = f"{self.url}{path}"
        return requests.request(method, address, verify=certificate, timeout=60, **options)


def configuration(folder, *, port, web):
    """Our site inside the least that nginx wants around it."""
    site = (DEPLOY / "nginx.conf").read_text()
    for mark, value in {
        "@HOST@": "127.0.0.1",
        "@CERTIFICATE@": folder / "tls.crt",
        "@CERTIFICATE_KEY@": folder / "tls.key",
        "@STATE_DIR@": folder,
        "/var/log/nginx/access.log": folder / "access.log",
        "127.0.0.1:8001": f"127.0.0.1:{web}",
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
    }.items():
        assert mark in site
        site = site.replace(mark, str(value))
    site = re.sub(r".*listen \[::\].*\n", "", site)
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.getuid() == 0 else ""
    return (
        f"{user} daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 1024; }}\n"
        f"http {{ access_log off; {temporary}\n{site}\n}}\n"
    )


def make_certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
         folder / "tls.key", "-out", folder / "tls.crt"],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    data = tmp_path_factory.mktemp("datasets")
    options = {"ACCEL_PREFIX": "/artifacts-of-tasks/", "HTTPS": "true"}
    with running(database_url=None, datasets_dir=data, **options) as platform:
        platform.start_redis()
        platform.start_web()
        folder, port = platform.state_dir, free_port()
        make_certificate(folder)
        told = platform.manage("shell", "-v0", "-c", MAKE % SIZE)
        file = folder / "nginx.conf"
        file.write_text(configuration(folder, port=port, web=platform.port))
        subprocess.run(["nginx", "-t", "-c", file], check=True, capture_output=True)
        nginx = subprocess.Popen(["nginx", "-c", file])
        try:
            until(lambda: _listens(port), what="nginx")
            yield Front(platform, folder, port, told.split()[-1])
        finally:
            nginx.terminate()
            nginx.wait(timeout=10)


def test_it_speaks_tls_and_names_the_request(front):
    answer = front.get("/healthz")

    assert answer.json() == {"status": "alive"}
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert "max-age" in answer.headers["Strict-Transport-Security"]


def test_its_log_names_the_request(front):
    named = front.get("/healthz").headers["X-Request-ID"]

    def is_logged():
        lines = (front.folder / "access.log").read_text().splitlines()
        return any('"GET /healthz ' in line and line.endswith(f" {named}") for line in lines)

    until(is_logged, what="the line")


@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
def test_who_comes_through_nginx_is_not_from_this_machine(front, path):
    assert front.get(path).status_code == 401
    assert front.get(path, headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401
    assert front.get(path, headers=front.signed).status_code in {200, 503}


def test_a_file_of_two_gibibytes_comes_whole_and_not_through_python(front):
    address = f"/api/tasks/{front.task_id}/artifacts/big.bin"
    web = psutil.Process(front.platform.processes["web"].pid)
    web = next(iter(web.children(recursive=True)), web)
    before = web.memory_info().rss

    size, last = 0, b""
    with front.get(address, headers=front.signed, stream=True) as answer:
        for block in answer.iter_content(1024**2):
            size, last = size + len(block), block
    tail = front.get(address, headers={**front.signed, "Range": "bytes=-4"})

    assert (size, last[-4:]) == (SIZE, b"end.")
    assert answer.headers["Content-Disposition"].endswith("big.bin")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (tail.status_code, tail.content) == (206, b"end.")
    assert web.memory_info().rss - before < 20e6


def test_a_file_is_not_to_be_had_without_the_application(front):
    inside = f"/artifacts-of-tasks/{front.task_id}/1/big.bin"
    address = f"/api/tasks/{front.task_id}/artifacts/big.bin"

    assert front.get(inside, headers=front.signed).status_code == 404
    assert front.get(address).status_code == 401
    assert front.get(f"{address}/../../../../secret", headers=front.signed).status_code == 404


def test_a_body_that_is_too_large_does_not_reach_the_application(front):
    answer = front.post("/api/train", data=b"x" * 3_000_000, headers=front.signed)

    assert answer.status_code == 413
    assert "nginx" in answer.text


def test_passwords_are_guessed_slowly_and_nobody_else_waits(front):
    # Django's own answer to a form without its token is 403.
    guesses = [front.post("/sign-in", data={"password": "guess"}) for _ in range(10)]
    more = [front.post(path) for path in ("/sign-in", "/admin/login/", "/sign-in", "/admin/login/")]

    assert {answer.status_code for answer in guesses} == {403}
    assert 429 in {answer.status_code for answer in more[::2]}
    assert 429 in {answer.status_code for answer in more[1::2]}
    assert {front.get("/sign-in").status_code for _ in range(20)} == {200}
    assert front.post("/api/validate", json={}, headers=front.signed).status_code != 429


def test_a_socket_works_through_it(front):
    context = ssl.create_default_context(cafile=str(front.folder / "tls.crt"))
    address = f"wss://127.0.0.1:{front.port}/ws/train/{front.task_id}"

    with connect(address, ssl=context, additional_headers=front.signed, proxy=None) as client:
        first = json.loads(client.recv(timeout=20))
        client.send('{"type": "ping"}')
        second = json.loads(client.recv(timeout=20))

    assert (first["type"], first["status"], second["type"]) == ("snapshot", "completed", "pong")
