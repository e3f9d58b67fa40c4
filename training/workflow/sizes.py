"""Numbers of one model that must agree with each other; Qlib finds out after loading the data."""

from typing import Any

from training import catalogue_meaning as meaning
from training.workflow.document import Path
from training.workflow.findings import Findings

_MODEL: Path = ("task", "model", "kwargs")
_DATASET: Path = ("task", "dataset", "kwargs")


def check(model: dict[str, Any], dataset: dict[str, Any] | None, findings: Findings) -> None:
    """Tells each disagreement within the model, and between TRA and its dataset."""
    kwargs = model["kwargs"]
    if model["class"] == "LinearModel":
        _check_linear(kwargs, findings)
    elif model["class"] == "DEnsembleModel":
        _check_ensemble(kwargs, findings)
    elif model["module_path"] in meaning.FIXED_SIZE:
        _check_fixed(model["class"], kwargs, findings)
    elif model["class"] in ("TransformerModel", "LocalformerModel"):
        _check_heads(kwargs, findings)
    elif model["class"] == "TRAModel" and dataset is not None:
        _check_tra(kwargs, dataset["kwargs"], findings)
    elif "pt_model_uri" in kwargs:
        _check_network(kwargs, findings)
    elif model["module_path"] in meaning.SQUARE and dataset is not None:
        _check_square(model["class"], kwargs, dataset["kwargs"], findings)


def _check_linear(kwargs: dict[str, Any], findings: Findings) -> None:
    if kwargs["alpha"] != 0 and kwargs["estimator"] not in ("ridge", "lasso"):
        findings.fault(
            (*_MODEL, "alpha"), f"alpha is for ridge and lasso, not {kwargs['estimator']}"
        )


def _check_ensemble(kwargs: dict[str, Any], findings: Findings) -> None:
    for name, count in (("sample_ratios", "bins_fs"), ("sub_weights", "num_models")):
        given = kwargs.get(name)
        default = 5 if name == "sample_ratios" else kwargs[count]
        length = default if given is None else len(given)
        if length != kwargs[count]:
            message = f"{name} has {length} values, {count} is {kwargs[count]}"
            findings.fault((*_MODEL, name), message)


def _check_fixed(name: str, kwargs: dict[str, Any], findings: Findings) -> None:
    for key, size in (("d_feat", 6), ("hidden_size", 64), ("num_layers", 2)):
        if kwargs[key] != size:
            message = f"{name} of Qlib 0.9.7 works with {key} {size} only"
            findings.fault((*_MODEL, key), message, hint=f"{key}: {size}")


def _check_square(
    name: str, kwargs: dict[str, Any], dataset: dict[str, Any], findings: Findings
) -> None:
    """Qlib's model turns its series over while it learns, and forgets to when it predicts."""
    steps, width = dataset.get("step_len", 30), kwargs["d_feat"]
    if steps != width:
        message = f"{name} of Qlib 0.9.7 predicts only where step_len ({steps}) is d_feat ({width})"
        findings.fault((*_DATASET, "step_len"), message, hint=f"step_len: {width}")


def _check_heads(kwargs: dict[str, Any], findings: Findings) -> None:
    if kwargs["d_model"] % kwargs["nhead"]:
        message = f"d_model {kwargs['d_model']} is no multiple of nhead {kwargs['nhead']}"
        findings.fault((*_MODEL, "d_model"), message)


def _check_network(kwargs: dict[str, Any], findings: Findings) -> None:
    """The parameters are of the network that is named beside them."""
    flat = {"input_dim", "output_dim", "layers", "act"}
    is_flat = kwargs["pt_model_uri"].endswith(".Net")
    for name in kwargs["pt_model_kwargs"]:
        if (name in flat) != is_flat or (
            name == "rnn_type" and "ALSTM" not in kwargs["pt_model_uri"]
        ):
            message = f"{kwargs['pt_model_uri'].rpartition('.')[2]} has no parameter {name}"
            findings.fault((*_MODEL, "pt_model_kwargs", name), message)
    if is_flat and "input_dim" not in kwargs["pt_model_kwargs"]:
        findings.fault((*_MODEL, "pt_model_kwargs", "input_dim"), "Net needs input_dim")


def _check_tra(kwargs: dict[str, Any], dataset: dict[str, Any], findings: Findings) -> None:
    states = kwargs["tra_config"].get("num_states", 1)
    if states != dataset.get("num_states", 0) and states > 1:
        message = f"num_states is {states} in tra_config, {dataset.get('num_states', 0)} here"
        findings.fault((*_DATASET, "num_states"), message)
    if dataset.get("memory_mode", "sample") != kwargs["memory_mode"]:
        message = f"memory_mode is {kwargs['memory_mode']} in the model, another one here"
        findings.fault((*_DATASET, "memory_mode"), message)
    batch = dataset.get("batch_size", -1)
    if batch == 0 or (kwargs["memory_mode"] == "daily" and batch > 0):
        message = "batch_size is not 0, and below 0 where memory_mode is daily"
        findings.fault((*_DATASET, "batch_size"), message)
    width, given = kwargs["model_config"].get("input_size", 16), dataset.get("input_size")
    if given is not None and given != width:
        message = f"input_size is {given}, in model_config it is {width}"
        findings.fault((*_DATASET, "input_size"), message)
