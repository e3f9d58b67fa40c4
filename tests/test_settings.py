"""Settings that would do harm are refused; what is sent to Sentry holds no secret."""

import gzip
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BREAKS = """
import asyncio, django
django.setup()
import sentry_sdk
from qlibplatform.asgi import application
from training.api import health

def get(self, request):
    password = "LOCAL-SECRET"
    raise RuntimeError("it broke")

health.Alive.get = get
headers = {"host": "localhost", "authorization": "Bearer HEADER-SECRET", "cookie": "COOKIE-SECRET"}
scope = {
    "type": "http", "method": "GET", "path": "/healthz", "raw_path": b"/healthz",
    "query_string": b"token=QUERY-SECRET", "scheme": "http", "client": ("127.0.0.1", 1),
    "server": ("localhost", 80), "http_version": "1.1", "root_path": "",
    "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
}
told = []

async def main():
    asked = asyncio.Queue()
    asked.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    async def send(message):
        told.append(message)
    await application(scope, asked.get, send)

asyncio.run(main())
assert told[0]["status"] == 500, told
sentry_sdk.flush(10)
"""


def run(*command, **settings):
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "qlibplatform.settings",
            **settings,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def sentry():
    """A Sentry server's address, and the bodies that it was sent."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            bodies.append((gzip.decompress(body) if packed else body).decode())
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://key@127.0.0.1:{server.server_port}/1", bodies
        server.shutdown()


@pytest.mark.slow
def test_an_error_reaches_sentry_without_any_secret(sentry, tmp_path):
    address, bodies = sentry

    done = run("-c", BREAKS, PLATFORM_SENTRY_DSN=address, PLATFORM_STATE_DIR=str(tmp_path))

    assert done.returncode == 0, done.stderr
    event = next(
        json.loads(line) for body in bodies for line in body.splitlines() if "it broke" in line
    )
    assert event["exception"]["values"][0]["type"] == "RuntimeError"
    assert event["request"].keys() == {"method", "url"}
    secret = (tmp_path / "secret.key").read_text()
    for told in (*(f"{name}-SECRET" for name in ("LOCAL", "HEADER", "COOKIE", "QUERY")), secret):
        assert told not in "".join(bodies)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "KEEP_TASKS",
        "KEEP_TASKS_DAYS",
        "KEEP_ARTIFACTS_DAYS",
        "KEEP_ARTIFACTS_BYTES",
        "KEEP_PROGRESS_DAYS",
    ],
)
def test_less_than_nothing_is_not_kept(name, tmp_path):
    settings = {f"PLATFORM_{name}": "-1", "PLATFORM_STATE_DIR": str(tmp_path)}

    done = run("-c", "import qlibplatform.settings", **settings)

    assert done.returncode != 0
    assert f"PLATFORM_{name}" in done.stderr


@pytest.mark.slow
def test_migrating_takes_as_long_as_it_takes(tmp_path):
    told = "import manage, sys; sys.argv = ['manage.py', 'migrate', '--help']; manage.main()"
    name = "PLATFORM_STATEMENT_TIMEOUT_MS"
    after = f"import atexit, os; atexit.register(lambda: print(os.environ[{name!r}]))"

    done = run("-c", f"{after}; {told}", PLATFORM_STATE_DIR=str(tmp_path))

    assert done.stdout.splitlines()[-1] == "0", done.stderr
