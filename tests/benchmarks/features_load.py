"""Times the loading of features, and the whole data stage, beside Qlib's; says if both are equal.

    python tests/benchmarks/features_load.py STORE [--handler Alpha158] [--threads 2] [--rounds 3]

STORE: a Qlib store's folder. Each figure is a fresh process that does nothing else, its seconds
without imports; the rounds go platform, Qlib, platform, Qlib … so that a busy machine is busy for
both. Processor time, which a busy machine stretches far less, stands beside. `--whole` builds the
handler with its default processors instead of loading alone. Memory is the peak: anonymous (what
the machine must have) and of all, mapped files too.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any


class Peak:
    """The most memory this process and its children had, looked at twenty times a second."""

    def __init__(self) -> None:
        self.anonymous = self.all = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> dict[str, int]:
        self._stop.set()
        self._thread.join()
        return {"anonymous_mb": self.anonymous // 1024, "all_mb": self.all // 1024}

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            family = _family()
            sums = [_own(pid) if len(family) == 1 else _share(pid) for pid in family]
            self.anonymous = max(self.anonymous, sum(anonymous for anonymous, _ in sums))
            self.all = max(self.all, sum(everything for _, everything in sums))


def _family() -> list[int]:
    found, left = [], [os.getpid()]
    while left:
        pid = left.pop()
        found.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                children = Path(f"/proc/{pid}/task/{task}/children").read_text()
                left += [int(child) for child in children.split()]
        except OSError:
            # It has ended meanwhile.
            continue
    return found


def _cpu_s() -> float:
    """Processor time of this process and its living children, so far."""
    ticks = 0
    for pid in _family():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _own(pid: int) -> tuple[int, int]:
    """kB of a process that shares nothing: anonymous, and all.

    Nobody walks its pages for it: of 6 GB, twenty times a second, that took more than the load.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    return sizes["RssAnon"], sizes["VmRSS"]


def _share(pid: int) -> tuple[int, int]:
    """kB: anonymous, and all, shared pages by their share."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
    return sizes["Pss_Anon"], sizes["Pss"]


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """One load or one handler in this process."""
    import pandas as pd
    import qlib
    from qlib.contrib.data.handler import Alpha158, Alpha360

    import training.engine.features.loader as fast
    from training.engine.features.columns import ScratchColumns
    from training.engine.features.lean_handler import lean_handlers
    from training.engine.features.processors import fast_processors

    threads = spec["threads"]
    qlib.init(
        provider_uri=spec["store"],
        region="us",
        kernels=threads,
        logging_level=50,
        expression_cache=None,
        dataset_cache=None,
    )
    handler_class = {"Alpha158": Alpha158, "Alpha360": Alpha360}[spec["handler"]]
    days = {"start_time": spec["start"], "end_time": spec["end"]}
    fit = {"fit_start_time": spec["start"], "fit_end_time": spec["fit_end"]}
    options = {} if spec["whole"] else {"infer_processors": [], "learn_processors": []}

    def build() -> Any:
        return handler_class("all", **days, **fit, **options)

    peak = Peak()
    begun, cpu_s = time.monotonic(), _cpu_s()
    if spec["evaluator"] == "qlib":
        handler = build()
    else:
        evaluator = fast.Evaluator(ScratchColumns(Path(spec["scratch"])), threads, lambda *_: None)
        with fast.fast_loading(evaluator), fast_processors(threads), lean_handlers(threads):
            handler = build()
    seconds = time.monotonic() - begun
    told = {"seconds": seconds, "cpu_s": _cpu_s() - cpu_s, **peak.end()}
    frames = ("_data", "_infer", "_learn") if spec["digest"] else ()
    for name in frames:
        frame = getattr(handler, name)
        values = frame.fillna(-12345.678).to_numpy("f4")
        told[name] = hashlib.sha256(values.tobytes()).hexdigest()[:16]
        told[name] += hashlib.sha256(pd.util.hash_pandas_object(frame.index).values).hexdigest()[:8]
    return {**told, "rows": len(handler._data)}


def in_fresh_process(spec: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=spec["scratch"]) as folder:
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                __file__,
                "--one",
                json.dumps({**spec, "scratch": folder}),
            ],
            check=True,
            capture_output=True,
            text=True,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                "OMP_WAIT_POLICY": "PASSIVE",
                "OMP_NUM_THREADS": str(spec["threads"]),
                "OPENBLAS_NUM_THREADS": str(spec["threads"]),
                "LOKY_MAX_CPU_COUNT": str(spec["threads"]),
            },
        )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    """The rounds, then medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", nargs="?")
    parser.add_argument("--handler", default="Alpha158", choices=["Alpha158", "Alpha360"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="with the default processors")
    parser.add_argument("--alone", action="store_true", help="the platform only")
    parser.add_argument("--digest", action="store_true", help="compare the frames, bit by bit")
    parser.add_argument("--start", default="2013-01-02")
    parser.add_argument("--end", default="2018-12-21")
    parser.add_argument("--fit-end", default="2016-12-30")
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(json.loads(options.one))))  # noqa: T201
        return
    spec = {**vars(options), "store": str(Path(options.store).absolute())}
    kinds = ("platform",) if options.alone else ("platform", "qlib")
    told: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        for kind in kinds:
            told[kind].append(in_fresh_process({**spec, "evaluator": kind}))
            print(number + 1, kind, told[kind][-1], flush=True)  # noqa: T201
    middle = {
        kind: {
            name: statistics.median(one[name] for one in runs)
            for name in ("seconds", "cpu_s", "anonymous_mb", "all_mb")
        }
        for kind, runs in told.items()
    }
    print(json.dumps(middle))  # noqa: T201
    if not options.alone:
        ratios = {name: middle["platform"][name] / middle["qlib"][name] for name in middle["qlib"]}
        print({name: round(ratio, 3) for name, ratio in ratios.items()})  # noqa: T201


if __name__ == "__main__":
    main()
