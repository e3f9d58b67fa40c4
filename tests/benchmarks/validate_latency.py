"""Times POST /api/validate in a web process of its own. Run by hand:

    python tests/benchmarks/validate_latency.py --examples DIR

Registers `cn_data` (calendar and 800 codes, no prices: the check needs no more), posts Qlib's
LightGBM example over one connection, then the largest hostile documents while another client reads
its tasks every 10 ms. Prints milliseconds, statuses and the process's memory.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import requests

from tests.core.workflow_cases import cn_manifest, workflow
from tests.e2e.platform_processes import Platform, running

CALLS, WARM_UP = 400, 40
YAML, JSON = "application/yaml", "application/json"
REGISTER = """
import json, pathlib
from training.models import Dataset
m = json.loads(pathlib.Path({path!r}).read_text())
Dataset.objects.create(name=m["name"], region=m["region"], version="v1", fingerprint="f" * 64,
    rows=1, first_day=m["days"][0], last_day=m["days"][-1],
    instrument_count=len(m["instruments"]), manifest=m)
"""


def hostile() -> dict[str, tuple[bytes, str]]:
    """Documents at the limits, made to be slow."""
    yaml_bytes, json_bytes = 128 * 1024, 1024 * 1024
    wide = {**workflow(), "x": ["$close"] * 90_000}
    wrong = workflow()
    wrong["task"]["model"]["kwargs"] = {f"num_leave{n}": n for n in range(30_000)}
    deep = "Mean(" * 30 + "$close" + ", 5)" * 30
    loader = {"class": "QlibDataLoader", "kwargs": {"config": {"feature": [deep] * 3_000}}}
    slow = workflow()
    slow["task"]["dataset"]["kwargs"]["handler"] = {
        "class": "DataHandlerLP",
        "module_path": "qlib.data.dataset.handler",
        "kwargs": {"data_loader": loader},
    }
    anchors = "".join(f"a{n}: &a{n} [{'*a' + str(n - 1) if n else 1}]\n" for n in range(60))
    return {
        "YAML: flow lists": (b"a: [" + b"1," * (yaml_bytes // 2 - 3) + b"]", YAML),
        "YAML: many keys": (
            "".join(f"k{n}: {n}\n" for n in range(9_000)).encode()[: yaml_bytes - 8],
            YAML,
        ),
        "YAML: one quoted text": (b'a: "' + b"\\x41" * (yaml_bytes // 4 - 2) + b'"', YAML),
        "YAML: anchors": (anchors.encode(), YAML),
        "YAML: deep": (b"a: " + b"[" * (yaml_bytes - 4), YAML),
        "YAML: over the size": (b" " * (yaml_bytes + 1), YAML),
        "JSON: many nodes": (json.dumps(wide).encode()[:json_bytes], JSON),
        "JSON: many unknown parameters": (json.dumps(wrong).encode()[:json_bytes], JSON),
        "JSON: many deep expressions": (json.dumps(slow).encode()[:json_bytes], JSON),
        "JSON: deep": (b"[" * json_bytes, JSON),
        "JSON: over the size": (b" " * (json_bytes + 1), JSON),
    }


def milliseconds(act: Any) -> tuple[float, Any]:
    begun = time.perf_counter()
    answer = act()
    return (time.perf_counter() - begun) * 1000, answer


def spread(times: list[float]) -> str:
    times = sorted(times)
    p99 = times[min(int(len(times) * 0.99), len(times) - 1)]
    return f"p50 {statistics.median(times):.1f} ms, p99 {p99:.1f} ms of {len(times)}"


class Reader(threading.Thread):
    """Another client, that reads its tasks every 10 ms."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.url, self.headers = url, headers
        self.times: list[float] = []
        self.statuses: set[int] = set()
        self.leaving = threading.Event()

    def run(self) -> None:
        with requests.Session() as session:
            while not self.leaving.wait(0.01):
                took, answer = milliseconds(lambda: session.get(self.url, headers=self.headers))
                self.times.append(took)
                self.statuses.add(answer.status_code)


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def measure(platform: Platform, example: bytes) -> None:
    say = sys.stdout.write
    url = f"http://{platform.client.address}"
    headers = platform.client.headers
    pid = platform.processes["web"].pid
    session = requests.Session()

    def validate(body: bytes, kind: str) -> requests.Response:
        told = {**headers, "Content-Type": kind}
        return session.post(f"{url}/api/validate", data=body, headers=told)

    assert validate(example, YAML).json()["valid"]
    before = memory_mb(pid)
    times = [milliseconds(lambda: validate(example, YAML))[0] for _ in range(CALLS)][WARM_UP:]
    say(f"LightGBM example: {spread(times)}\n")
    maps = Path(f"/proc/{pid}/maps").read_text()
    loaded = [name for name in ("qlib", "pandas", "numpy", "lightgbm") if f"/{name}/" in maps]
    say(f"memory {before:.0f} → {memory_mb(pid):.0f} MB; loaded of Qlib's: {loaded or 'nothing'}\n")
    calm = Reader(f"{url}/api/tasks", headers)
    calm.start()
    time.sleep(3)
    calm.leaving.set()
    calm.join()
    say(f"another client, alone: {spread(calm.times)}\n")
    other = Reader(f"{url}/api/tasks", headers)
    other.start()
    for name, (body, kind) in hostile().items():
        took, answer = milliseconds(lambda body=body, kind=kind: validate(body, kind))
        faults = len(answer.json().get("faults", []))
        say(f"{name}: {len(body):,} bytes, {answer.status_code}, {faults} faults, {took:.0f} ms\n")
    other.leaving.set()
    other.join()
    say(f"the other client meanwhile: {spread(other.times)}, statuses {other.statuses}\n")
    say(f"memory after all: {memory_mb(pid):.0f} MB\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=Path, required=True)
    options = parser.parse_args()
    example = next(options.examples.rglob("workflow_config_lightgbm_Alpha158.yaml")).read_bytes()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(database_url=None, datasets_dir=Path(folder)) as platform,
    ):
        file = Path(folder, "manifest.json")
        file.write_text(json.dumps(cn_manifest()))
        platform.manage("shell", "-c", REGISTER.format(path=str(file)))
        platform.start_redis()
        platform.start_web()
        measure(platform, example)


if __name__ == "__main__":
    main()
