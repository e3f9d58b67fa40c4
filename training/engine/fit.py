"""One fit of any of Qlib's models: watched, with an end on request, and its rounds set."""

import inspect
import logging
from contextlib import ExitStack
from functools import partial
from typing import Any

from training.engine.progress import FitEnough, FitWatch
from training.engine.progress_boosters import keep_finished_sub_models, watched_boosters
from training.engine.progress_torch import has_epochs, observed_scores, watched_torch
from training.engine.validation_ic import ValidationIC

log = logging.getLogger(__name__)


def fit(model: Any, dataset: Any, *, watch: FitWatch, rounds: int | None = None) -> None:
    """Fit `model` in place; after a wish to finish early it holds the best so far.

    rounds: boosting rounds at most, where Qlib has no place for them in the model's config
    (XGBoost, CatBoost: always 1000).
    Raises: Cancelled; whatever the model raises.
    """
    # Models without rounds or epochs never tell more than this.
    watch.begin(f"Fitting {type(model).__name__}")
    ic = ValidationIC(dataset)
    with ExitStack() as hooks:
        hooks.enter_context(watched_boosters(model, watch, ic))
        hooks.enter_context(watched_torch(model, watch, ic))
        try:
            model.fit(dataset, **_options(model, watch=watch, rounds=rounds))
        except FitEnough:
            log.info("The fit was ended between two sub-models")
    if watch.finishing:
        log.info("The fit was finished early, as asked; the best so far is kept")
        if hasattr(model, "train_submodel"):
            keep_finished_sub_models(model)


def _options(model: Any, *, watch: FitWatch, rounds: int | None) -> dict[str, Any]:
    """What this fit accepts of what we have.

    A fresh `evals_result` each time: Qlib's default is one dict for all fits.
    """
    accepted = inspect.signature(model.fit).parameters
    options: dict[str, Any] = {}
    if "evals_result" in accepted:
        options["evals_result"] = observed_scores(watch) if has_epochs(model) else {}
    if rounds is not None and "num_boost_round" in accepted:
        options["num_boost_round"] = rounds
    return options


def plateau_scheduler() -> Any:
    """Qlib's default scheduler of DNNModelPytorch, for a torch that Qlib 0.9.7 misjudges.

    It compares versions as text ("2.13" < "2.6") and then passes an argument that torch has
    dropped. Same figures as in qlib/contrib/model/pytorch_nn.py.
    """
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    return partial(
        ReduceLROnPlateau,
        mode="min",
        factor=0.5,
        patience=10,
        threshold=0.0001,
        threshold_mode="rel",
        cooldown=0,
        min_lr=0.00001,
        eps=1e-08,
    )


def needs_plateau_scheduler(class_name: str, kwargs: dict[str, Any]) -> bool:
    """Would this model ask torch for the scheduler argument that it has dropped?"""
    if class_name != "DNNModelPytorch" or kwargs.get("scheduler", "default") != "default":
        return False
    import torch

    text = torch.__version__.split("+")[0]
    major, minor, *_ = (int(part) for part in text.split("."))
    return text <= "2.6.0" and (major, minor) >= (2, 7)
