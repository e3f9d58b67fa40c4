"""Trains Qlib's own examples of fourteen models for real, and cancels each once. Run by hand:

    python tests/benchmarks/train_examples.py --market-data DIR --examples DIR [MODEL …]

Starts a platform of its own with one worker for CPU and one for torch, imports the 50 largest names
of the S&P 500 (`sp500_top50.parquet`, `benchmark.parquet` of DIR), moves each example's dates to
2016–2018 and cuts its rounds or epochs; all else is the example's. Prints the table that stands in
`training/workflow/README.md`, a line when it is known.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from tests.e2e import market
from tests.e2e.client import Client, Subscriber
from tests.e2e.platform_processes import MANAGE, Platform, running
from tests.e2e.waiting import until
from training.workflow import parse

FIRST, LAST = "2016-07-01", "2018-06-29"
SEGMENTS = {
    "train": [FIRST, "2017-06-30"],
    "valid": ["2017-07-03", "2017-12-29"],
    "test": ["2018-01-02", LAST],
}
SEGMENTS["pretrain"], SEGMENTS["pretrain_validation"] = SEGMENTS["train"], SEGMENTS["valid"]

# Name in the table: example, what is cut, what makes the fit long enough to be cancelled.
FEW_EPOCHS = {"n_epochs": 2}
MANY_EPOCHS = {"n_epochs": 1000, "early_stop": 1000}
FEW_ROUNDS = {"num_boost_round": 60}
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Linear": ("linear_Alpha158", {}, {}),
    "LightGBM": (
        "lightgbm_Alpha158",
        FEW_ROUNDS,
        {"num_boost_round": 5000, "early_stopping_rounds": 5000},
    ),
    "XGBoost": ("xgboost_Alpha158", {"rounds": 60}, {"rounds": 5000}),
    # The example's bootstrap, Poisson, works on a GPU only.
    "CatBoost": (
        "catboost_Alpha158",
        {"rounds": 60, "bootstrap_type": "Bernoulli"},
        {"rounds": 5000},
    ),
    "DoubleEnsemble": (
        "doubleensemble_early_stop_Alpha158",
        {"num_models": 3, "epochs": 8, "sub_weights": [1, 1, 1]},
        {},
    ),
    "MLP": ("mlp_Alpha158", {"max_steps": 100, "eval_steps": 20}, {"max_steps": 100_000}),
    "LSTM": ("lstm_Alpha360", FEW_EPOCHS, MANY_EPOCHS),
    "GRU": ("gru_Alpha158", FEW_EPOCHS, MANY_EPOCHS),
    "ALSTM": ("alstm_Alpha360", FEW_EPOCHS, MANY_EPOCHS),
    "TCN": ("tcn_Alpha158", FEW_EPOCHS, MANY_EPOCHS),
    "Transformer": ("transformer_Alpha360", FEW_EPOCHS, MANY_EPOCHS),
    "TRA": ("tra_Alpha158", {"n_epochs": 1, "max_steps_per_epoch": 20}, {"n_epochs": 1000}),
    "TabNet": ("TabNet_Alpha158", {"n_epochs": 1, "pretrain_n_epochs": 1}, MANY_EPOCHS),
    "GATs": ("gats_Alpha158", FEW_EPOCHS, MANY_EPOCHS),
}
HEAD = (
    "| model | data s | fit s | all s | events | of the fit | points | IC | cancelled after "
    "| IC by round |",
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
)


def moved(text: bytes, changes: dict[str, Any], name: str) -> str:
    """The example on the other market and its dates, with some parameters of its model changed."""
    document: dict[str, Any] = parse(text, content_type="application/yaml").data
    document = yaml.safe_load(yaml.dump(document, Dumper=_NoAliases))
    task = document["task"]
    handler = task["dataset"]["kwargs"]["handler"]["kwargs"]
    train = SEGMENTS["train"]
    handler |= {"instruments": "all", "start_time": FIRST, "end_time": LAST}
    handler |= {"fit_start_time": train[0], "fit_end_time": train[1]}
    segments = task["dataset"]["kwargs"]["segments"]
    task["dataset"]["kwargs"]["segments"] = {one: SEGMENTS[one] for one in segments}
    for record in task["record"]:
        if config := record.get("kwargs", {}).get("config"):
            config["strategy"]["kwargs"] |= {"topk": 10, "n_drop": 2}
            test = {"start_time": SEGMENTS["test"][0], "end_time": LAST, "benchmark": "^GSPC"}
            config["backtest"] |= test
    kwargs = task["model"]["kwargs"]
    changes = dict(changes)
    platform = {"name": name}
    if "rounds" in changes:
        platform["rounds"] = changes.pop("rounds")
    kwargs |= changes
    # Refused where it names a file; null trains from the beginning.
    kwargs |= {"model_path": None} if "model_path" in kwargs else {}
    init = {"provider_uri": "top50", "region": "us"}
    return str(yaml.safe_dump({"qlib_init": init, "task": task, "platform": platform}))


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def trained(client: Client, text: str) -> list[str]:
    """The cells of one training, up to the IC; last, whether it was told by round."""
    began = time.monotonic()
    heard = Subscriber(client, client.submit(text))
    task = client.final(heard.task_id, within_s=600)
    took = time.monotonic() - began
    heard.wait_for_end()
    heard.leave()
    if task["status"] != "completed":
        return [f"{task['status']}: {task['error'][:120]}", *[""] * 7]
    fit = [one for one in heard.heard if _fits(one)]
    points = client.read(f"/api/tasks/{heard.task_id}/metrics").json()["results"]
    result = task["result"]
    seconds = [f"{result['timings'][stage]:.1f}" for stage in ("data", "fit")]
    ic = result["metrics"].get("ic")
    counts = [str(task["last_seq"]), str(len(fit)), str(len(points))]
    by_round = "yes" if any(point["name"].endswith("valid_ic") for point in points) else "–"
    return [*seconds, f"{took:.1f}", *counts, "" if ic is None else f"{ic:.3f}", by_round]


def cancelled(client: Client, text: str) -> str:
    """Seconds from the wish, made as the fit tells its first progress, to the end of it all."""
    heard = Subscriber(client, client.submit(text))
    try:
        until(
            lambda: [one for one in list(heard.heard) if _fits(one) or one["type"] == "failed"],
            what="the fit",
            within_s=300,
        )
        began = time.monotonic()
        client.act(heard.task_id, "cancel")
        end = heard.wait_for_end(within_s=60)
        took = time.monotonic() - began
    finally:
        heard.leave()
    return f"{took:.2f} s" if end["type"] == "cancelled" else f"not: {end['type']}"


def _fits(message: dict[str, Any]) -> bool:
    return bool(message["type"] == "progress" and message["stage"] == "fit")


def start(platform: Platform) -> None:
    """A platform with its two kinds of workers."""
    platform.start(workers=1)
    command = [*MANAGE, "worker", "torch", "--name", f"torch-{platform.state_dir.name}"]
    platform._spawn("worker-torch", command)

    def workers() -> dict[str, int]:
        queues = platform.client.read("/api/queues").json()["results"]
        return {one["name"]: one["workers"] for one in queues}

    until(lambda: workers()["torch"] == workers()["cpu"] == 1, what="both workers", within_s=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--market-data", required=True)
    parser.add_argument("--examples", type=Path, required=True)
    options = parser.parse_args()
    os.environ["MARKET_DATA"] = options.market_data
    with (
        tempfile.TemporaryDirectory() as datasets,
        running(database_url=None, datasets_dir=Path(datasets)) as platform,
    ):
        market.import_into(platform)
        start(platform)
        sys.stdout.write("\n".join(HEAD) + "\n")
        for name in options.models:
            example, few, many = MODELS[name]
            text = next(options.examples.rglob(f"workflow_config_{example}.yaml")).read_bytes()
            cells = trained(platform.client, moved(text, few, name))
            by_round = cells.pop()
            cells.append(cancelled(platform.client, moved(text, {**few, **many}, name)))
            cells.append(by_round)
            sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
