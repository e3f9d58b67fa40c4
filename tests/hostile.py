"""Ways in: workflows that would run code, read or write files, or eat the machine.

Each is one place of an innocent workflow (`tests/core/workflow_cases.py`, `tests/e2e/workflows.py`)
with one hostile value. Where something would be run or unpickled it is bait that really works: it
makes the file `touched`.
"""

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "task.model"
HANDLER = "task.dataset.kwargs.handler"
PORTFOLIO = "task.record.2.kwargs.config"
EXCHANGE = f"{PORTFOLIO}.backtest.exchange_kwargs"
TORCH = "qlib.contrib.model.pytorch_"


@dataclass(frozen=True)
class Way:
    """place: dotted; posted_only: a stored config has no such part."""

    name: str
    place: str
    value: Any
    posted_only: bool = False


class Bait:
    """Files that make `touched`, if anybody runs or unpickles them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.touched = folder / "touched"
        self.command = f"touch {self.touched}"
        self.python = f"__import__('os').system('{self.command}')"
        self.pickle = folder / "bait.pkl"
        self.pickle.write_bytes(pickle.dumps(_Runs(self.command)))
        self.module = folder / "bait.py"
        self.module.write_text(f"import os\nos.system({self.command!r})\nclass Model: pass\n")
        self.folder = folder

    def works(self) -> bool:
        """Whether unpickling it does what it threatens; leaves no trace."""
        pickle.loads(self.pickle.read_bytes())  # noqa: S301
        found = self.touched.exists()
        self.touched.unlink(missing_ok=True)
        return found


class _Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        import os

        return os.system, (self.command,)


def with_way(workflow: dict[str, Any], way: Way) -> dict[str, Any]:
    """A copy of the workflow with the way's value at its place; what lies between is made."""
    result = copy.deepcopy(workflow)
    *between, last = way.place.split(".")
    here: Any = result
    for step in between:
        here = here[int(step)] if isinstance(here, list) else here.setdefault(step, {})
    if isinstance(here, list):
        here[int(last)] = way.value
    else:
        here[last] = way.value
    return result


def ways(bait: Bait) -> list[Way]:
    """The proven ways into plain Qlib, then more of them."""
    return [*_proven(bait), *_classes(bait), *_files(bait), *_expressions(bait), *_sizes()]


def _model(module: str, name: str, **kwargs: Any) -> dict[str, Any]:
    return {"class": name, "module_path": f"qlib.contrib.model.{module}", "kwargs": kwargs}


def _proven(bait: Bait) -> list[Way]:
    """The eleven that were seen to work against Qlib 0.9.7."""
    static = {"class": "StaticDataLoader", "kwargs": {"config": str(bait.pickle)}}
    factory = {"()": "os.system", "command": bait.command}
    own = {"class": "Popen", "module_path": "subprocess", "kwargs": {"args": bait.command}}
    tra = _model("pytorch_tra", "TRAModel", model_config={}, tra_config={}, model_type=bait.python)
    return [
        Way("any callable", MODEL, {"class": "os.system", "kwargs": {"command": bait.command}}),
        Way("a Python file", f"{MODEL}.module_path", str(bait.module)),
        Way("a pickle as handler", HANDLER, f"file://{bait.pickle}"),
        Way("eval of a label", f"{HANDLER}.kwargs.label", [bait.python]),
        Way("a template", "experiment_name", "{{ cycler.__init__.__globals__.os }}", True),
        Way("a pickle as data", f"{HANDLER}.kwargs.data_loader", static),
        Way("a factory of logging", "qlib_init.logging_config", {"handlers": {"x": factory}}),
        Way("a manager of experiments", "qlib_init.exp_manager", own),
        Way("a mounted folder", "qlib_init.auto_mount", True),
        Way("a market outside", f"{HANDLER}.kwargs.instruments", "../../../../etc/passwd"),
        Way("eval of a model's type", MODEL, tra),
    ]


def _classes(bait: Bait) -> list[Way]:
    popen = {"class": "Popen", "module_path": "subprocess", "kwargs": {"args": ["true"]}}
    enhanced = {
        "class": "EnhancedIndexingStrategy",
        "module_path": "qlib.contrib.strategy",
        "kwargs": {"signal": "<PRED>", "riskmodel_root": str(bait.folder)},
    }
    orders = {
        "class": "FileOrderStrategy",
        "module_path": "qlib.contrib.strategy.rule_strategy",
        "kwargs": {"file": str(bait.pickle)},
    }
    network = _model("pytorch_general_nn", "GeneralPTNN", pt_model_uri="subprocess.Popen")
    return [
        Way("a function", MODEL, {"func": "os.system", "kwargs": {"command": bait.command}}),
        Way("a class by text", MODEL, "subprocess.Popen"),
        Way("another module", f"{MODEL}.module_path", "os"),
        Way("a module of ours", f"{MODEL}.module_path", "training.engine.stages"),
        Way("a class with dots", f"{MODEL}.class", "__init__.__globals__"),
        Way("a class of another slot", f"{MODEL}.class", "SignalRecord"),
        Way("a dataset of one's own", "task.dataset", popen),
        Way("a record of one's own", "task.record.0", popen),
        Way("a reweighter", "task.reweighter", popen),
        Way("a processor", f"{HANDLER}.kwargs.infer_processors", [popen]),
        Way("a processor of instruments", f"{HANDLER}.kwargs.inst_processors", [popen]),
        Way("a strategy with files", f"{PORTFOLIO}.strategy", enhanced),
        Way("a strategy of orders", f"{PORTFOLIO}.strategy", orders),
        Way("a signal that is a class", f"{PORTFOLIO}.strategy.kwargs.signal", popen),
        Way("an executor", f"{PORTFOLIO}.executor", popen),
        Way("a quote class", f"{EXCHANGE}.quote_cls", "subprocess.Popen"),
        Way("a network by path", MODEL, network),
        Way("an optimizer", MODEL, _model("pytorch_lstm", "LSTM", optimizer="__init__")),
        Way("operators", "qlib_init.custom_ops", [popen]),
        Way("a provider", "qlib_init.expression_provider", "subprocess.Popen"),
        Way("a reference to a part", "task.record.0.kwargs.model", "<model.__class__>"),
    ]


def _files(bait: Bait) -> list[Way]:
    gats = _model("pytorch_gats", "GATs", model_path=str(bait.pickle))
    tabnet = _model("pytorch_tabnet", "TabnetModel", pretrain_file=str(bait.pickle))
    tra = _model("pytorch_tra", "TRAModel", init_state=str(bait.pickle))
    hist = _model("pytorch_hist", "HIST", stock2concept=str(bait.pickle))
    snapshot = _model("catboost_model", "CatBoostModel", snapshot_file=str(bait.touched))
    norm = {"class": "HighFreqNorm", "kwargs": {"feature_save_dir": str(bait.folder)}}
    return [
        Way("weights from a file", MODEL, gats),
        Way("a pretrained file", MODEL, tabnet),
        Way("a state from a file", MODEL, tra),
        Way("a download", MODEL, hist),
        Way("a snapshot", MODEL, snapshot),
        Way("an output of LightGBM", f"{MODEL}.kwargs.output_model", str(bait.touched)),
        Way("the same by its alias", f"{MODEL}.kwargs.model_out", str(bait.touched)),
        Way("a file of splits", f"{MODEL}.kwargs.forcedsplits_filename", "/etc/passwd"),
        Way("other machines", f"{MODEL}.kwargs.machines", "198.51.100.1:22"),
        Way("a folder of a processor", f"{HANDLER}.kwargs.learn_processors", [norm]),
        Way("an instrument outside", f"{HANDLER}.kwargs.instruments", ["../../x"]),
        Way("a benchmark outside", f"{PORTFOLIO}.backtest.benchmark", "../../x"),
        Way("codes outside", f"{EXCHANGE}.codes", ["../../x"]),
        Way("more quotes", f"{EXCHANGE}.extra_quote", str(bait.pickle)),
        Way("a base config", "BASE_CONFIG_PATH", "/etc/passwd"),
        Way("a search path", "sys", {"path": [str(bait.folder)]}),
        Way("a folder of data", "qlib_init.provider_uri", "/etc", True),
        Way("another host", "qlib_init.redis_host", "198.51.100.1"),
    ]


def _expressions(bait: Bait) -> list[Way]:
    loader = {"class": "QlibDataLoader", "kwargs": {"config": {"feature": [bait.python]}}}
    rule = {"filter_type": "ExpressionDFilter", "rule_expression": bait.python}
    slow = {"filter_type": "NameDFilter", "name_rule_re": "(a+)+$"}
    return [
        Way("eval of a feature", f"{HANDLER}.kwargs.data_loader", loader),
        Way("eval of a filter", f"{HANDLER}.kwargs.filter_pipe", [rule]),
        Way("a pattern without end", f"{HANDLER}.kwargs.filter_pipe", [slow]),
        Way("eval of a price", f"{EXCHANGE}.deal_price", f"$close + {bait.python}"),
        Way("eval of a field", f"{EXCHANGE}.subscribe_fields", [bait.python]),
        Way("eval of a limit", f"{EXCHANGE}.limit_threshold", [bait.python, "$close"]),
        Way("eval of a volume", f"{EXCHANGE}.volume_threshold", ["cum", bait.python]),
        Way("attributes", f"{HANDLER}.kwargs.label", ["$close.__class__.__mro__"]),
        Way("a function inline", f"{HANDLER}.kwargs.label", ["(lambda: 1)()"]),
        Way("an instrument's path", f"{HANDLER}.kwargs.label", ["ChangeInstrument('../x', $open)"]),
    ]


def _sizes() -> list[Way]:
    return [
        Way("a power without end", f"{HANDLER}.kwargs.label", ["$close + 9**9**9"]),
        Way("a window without end", f"{HANDLER}.kwargs.label", ["Ref($close, 1000000000000)"]),
        Way("rounds without end", f"{MODEL}.kwargs.num_boost_round", 10**12),
        Way("leaves without end", f"{MODEL}.kwargs.num_leaves", 10**12),
        Way("passes without end", "platform.rounds", 10**12),
        Way("a seed of text", "platform.seed", "x"),
    ]
