"""Times the platform against plain `qrun`, and compares what both computed. Run by hand:

    python tests/benchmarks/against_qrun.py --url http://127.0.0.1:8000 --store DIR WORKFLOW.yaml

TOKEN in the environment signs in. Each pair posts the workflow, waits for its end, then gives
the canonical config that the platform has stored to `qrun`, with an sqlite tracker and DIR (a
version's folder of the same dataset) as its store. Prints both wall times, their ratio, whether
the predictions are the same to the last bit, and the largest difference of the figures that both
have.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd

SAME = {
    "ic": "IC",
    "icir": "ICIR",
    "rank_ic": "Rank IC",
    "rank_icir": "Rank ICIR",
    "annualized_return": "1day.excess_return_with_cost.annualized_return",
    "information_ratio": "1day.excess_return_with_cost.information_ratio",
    "max_drawdown": "1day.excess_return_with_cost.max_drawdown",
    "annualized_return_without_cost": "1day.excess_return_without_cost.annualized_return",
    "information_ratio_without_cost": "1day.excess_return_without_cost.information_ratio",
    "max_drawdown_without_cost": "1day.excess_return_without_cost.max_drawdown",
}

SAME_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""A sum over two threads has other last bits, and least squares of columns that say the same make
other weights of them."""


def headers() -> dict[str, str]:
    """Signed in by TOKEN; a body is YAML."""
    return {
        "Authorization": f"Bearer {os.environ['TOKEN']}",
        "Content-Type": "application/yaml",
    }


def ask(url: str, *, body: bytes | None = None) -> Any:
    """One call of the API, as JSON."""
    request = urllib.request.Request(url, data=body, headers=headers())  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.load(answer)


def on_the_platform(url: str, workflow: bytes) -> tuple[float, dict[str, Any]]:
    """Seconds from the posting to the end, and the finished task."""
    begun = time.monotonic()
    task_id = ask(f"{url}/api/train", body=workflow)["task_id"]
    while (task := ask(f"{url}/api/tasks/{task_id}"))["status"] in {"pending", "running"}:
        time.sleep(0.1)
    if task["status"] != "completed":
        raise SystemExit(f"{task_id}: {task['status']}: {task['error']}")
    return time.monotonic() - begun, task


def scores_of(url: str, task_id: str) -> "pd.Series[float]":
    """What the platform has predicted, by day and instrument."""
    request = urllib.request.Request(  # noqa: S310
        f"{url}/api/tasks/{task_id}/artifacts/predictions.parquet", headers=headers()
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        table = pd.read_parquet(io.BytesIO(answer.read()))
    return table.set_index(["datetime", "instrument"])["score"].sort_index()


def with_qrun(
    config: dict[str, Any], store: Path, *, log: Any = subprocess.DEVNULL
) -> tuple[float, dict[str, float], "pd.Series[float]"]:
    """Seconds that qrun takes as a process, its metrics, and its predictions as `scores_of` has
    them; log: a file for what it says.
    """
    with tempfile.TemporaryDirectory() as folder:
        tracker = f"sqlite:///{folder}/mlflow.db"
        manager = {
            "class": "MLflowExpManager",
            "module_path": "qlib.workflow.expm",
            "kwargs": {"uri": tracker, "default_exp_name": "peer"},
        }
        init = {**config["qlib_init"], "provider_uri": str(store), "exp_manager": manager}
        file = Path(folder) / "workflow.json"
        file.write_text(json.dumps({"qlib_init": init, "task": config["task"]}))
        begun = time.monotonic()
        subprocess.run(
            [Path(sys.executable).with_name("qrun"), file],
            cwd=folder,
            check=True,
            stdout=log,
            stderr=log,
            env={**os.environ, **SAME_THREADS, "GIT_DIR": "/nonexistent"},
        )
        took_s = time.monotonic() - begun
        (kept,) = Path(folder).glob("mlruns/*/*/artifacts/pred.pkl")
        # Qlib's own file, which this process has just had made.
        scores = pd.read_pickle(kept)["score"].sort_index()  # noqa: S301
        return took_s, _metrics(tracker), scores


def _metrics(tracker: str) -> dict[str, float]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracker)
    experiments = [one.experiment_id for one in client.search_experiments()]
    return dict(client.search_runs(experiments)[0].data.metrics)


def main() -> None:
    """The pairs, one after the other, then their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workflow", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    ratios = []
    for number in range(options.pairs):
        ours_s, task = on_the_platform(options.url, options.workflow.read_bytes())
        theirs_s, metrics, scores = with_qrun(task["config"], options.store.absolute())
        are_equal = scores_of(options.url, task["id"]).equals(scores)
        mine = task["result"]["metrics"]
        worst = max(abs(mine[name] - metrics[key]) for name, key in SAME.items())
        ratios.append(ours_s / theirs_s)
        print(  # noqa: T201
            f"pair {number + 1}: platform {ours_s:.1f} s, qrun {theirs_s:.1f} s,"
            f" ratio {ratios[-1]:.2f}, {len(scores)} predictions equal: {are_equal},"
            f" largest difference of {len(SAME)} figures {worst:.1e}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
