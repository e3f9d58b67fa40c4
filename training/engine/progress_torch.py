"""How far a torch model of Qlib is, and its early end with the best weights.

Qlib's models have an epoch loop of their own without callbacks. Three places are watched: the
instance's epoch methods (shadowed for the time of the fit), torch's hook after every optimizer
step, and the `evals_result` that most fits fill.

Finish early: the epoch under way is left, later epochs are not computed, their validation score
is NaN. NaN is never better, so Qlib's loop takes its own "no improvement" way, stops
(`early_stop` is -1) and restores the best weights. The first epoch's score is always real, so that
there is a best.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from training.engine.progress import FitWatch
from training.engine.validation_ic import ValidationIC

_EPOCH_METHODS = ("train_epoch", "train_AdaRNN", "pretrain_epoch")
NAN = math.nan


@contextmanager
def watched_torch(model: Any, watch: FitWatch, ic: ValidationIC) -> Iterator[None]:
    """Inside the block the model reports epochs or steps and obeys a finish or a cancel."""
    torch = sys.modules.get("torch")
    loop = _loop_of(model, watch, ic)
    if torch is None or loop is None:
        yield
        return
    # The module is loaded with torch itself.
    hook = sys.modules["torch.optim.optimizer"].register_optimizer_step_post_hook(loop.after_step)
    before = dict(vars(model))
    vars(model).update(loop.shadows())
    try:
        yield
    finally:
        hook.remove()
        _restore(model, before, [*loop.shadows(), *loop.CHANGED])


def has_epochs(model: Any) -> bool:
    """Does the model's fit go by epochs? Boosters and DNNModelPytorch (steps) do not."""
    return any(hasattr(model, name) for name in _EPOCH_METHODS)


def observed_scores(watch: FitWatch) -> dict[str, Any]:
    """An `evals_result` whose lists report what Qlib appends to them.

    Scores are Qlib's: for most models the higher the better (the negative loss by default), for
    GeneralPTNN the lower the better.
    """
    return _ObservedScores(watch)


def _loop_of(model: Any, watch: FitWatch, ic: ValidationIC) -> "_StepLoop | _EpochLoop | None":
    if hasattr(model, "max_steps"):
        return _StepLoop(model, watch, ic)
    if has_epochs(model):
        return _EpochLoop(model, watch, ic)
    return None


def _restore(model: Any, before: Mapping[str, Any], names: list[str]) -> None:
    """Leave the instance as a fit without us would: its pickle holds no callback of ours."""
    for name in names:
        if name in before:
            setattr(model, name, before[name])
        else:
            vars(model).pop(name, None)


class _StepLoop:
    """DNNModelPytorch: one batch a step, the validation set every `eval_steps` steps."""

    CHANGED = ("early_stop_rounds", "eval_steps")

    def __init__(self, model: Any, watch: FitWatch, ic: ValidationIC) -> None:
        self._model = model
        self._watch = watch
        self._ic = ic
        self._step = 0
        self._measured_step = 0

    def shadows(self) -> dict[str, Any]:
        metric = getattr(self._model, "get_metric", None)
        return {} if metric is None else {"get_metric": self._noted(metric)}

    def _noted(self, metric: Callable[..., Any]) -> Callable[..., Any]:
        def noted(predicted: Any, label: Any, index: Any) -> Any:
            # Asked for the validation rows first, then perhaps for those of the training.
            if self._measured_step != self._step:
                self._measured_step = self._step
                batches = [_copied(predicted, label)] if self._ic.is_wanted else []
                self._watch.curves.add(self._step, _ic_of(self._ic, batches))
            return metric(predicted, label, index)

        return noted

    def after_step(self, *_: Any) -> None:
        """torch calls this after every optimizer step."""
        self._step += 1
        if self._watch.tick(self._step, self._model.max_steps, unit="step"):
            self._end_soon()

    def _end_soon(self) -> None:
        """Qlib restores the best weights at the end, so there has to be an evaluation first."""
        if self._model.best_step is None:
            self._model.eval_steps = 1
        else:
            self._model.early_stop_rounds = -1


class _EpochEnough(Exception):
    """Leaves the epoch under way; caught around it."""


class _EpochLoop:
    """All models with epochs; a pre-training's epochs count on in the same row."""

    CHANGED = ("early_stop", "lowest_valid_performance")

    def __init__(self, model: Any, watch: FitWatch, ic: ValidationIC) -> None:
        self._model = model
        self._watch = watch
        self._ic = ic
        self._batches: list[tuple[Any, ...]] = []  # predictions and labels of a validation
        self._total = _epoch_total(model)
        self._epochs_done = 0
        self._step = 0
        self._steps_per_epoch: int | None = None
        self._breakable = False
        self._scored: set[int] = set()  # epochs whose evaluation was real
        self._tests = 0  # evaluations since the last epoch
        self._gives_pairs = False
        self._is_noting = False
        self._shadows = self._make_shadows()

    def shadows(self) -> dict[str, Any]:
        return self._shadows

    def after_step(self, *_: Any) -> None:
        """torch calls this after every optimizer step."""
        self._step += 1
        of = f" of {self._steps_per_epoch}" if self._steps_per_epoch else ""
        message = f"Epoch {self._epochs_done + 1}, step {self._step}{of}"
        if self._tick(message) and self._breakable:
            raise _EpochEnough

    def _tick(self, message: str) -> bool:
        finishing = self._watch.tick(self._epochs_done, self._total, unit="epoch", message=message)
        if finishing:
            self._model.early_stop = -1
            if hasattr(self._model, "lowest_valid_performance"):
                # TCTS begins anew until it is below this.
                self._model.lowest_valid_performance = math.inf
        return finishing

    def _make_shadows(self) -> dict[str, Any]:
        shadows: dict[str, Any] = {}
        for name in _EPOCH_METHODS:
            if hasattr(self._model, name):
                shadows[name] = self._watched_epoch(getattr(self._model, name), name)
        if hasattr(self._model, "test_epoch"):
            shadows["test_epoch"] = self._watched_test(self._model.test_epoch)
        if hasattr(self._model, "metric_fn"):
            shadows["metric_fn"] = self._noted(self._model.metric_fn)
        return shadows

    def _noted(self, metric: Callable[..., Any]) -> Callable[..., Any]:
        def noted(predicted: Any, label: Any, *args: Any, **kwargs: Any) -> Any:
            if self._is_noting:
                self._batches.append(_copied(predicted, label))
            return metric(predicted, label, *args, **kwargs)

        return noted

    def _watched_epoch(self, epoch: Callable[..., Any], name: str) -> Callable[..., Any]:
        # train_AdaRNN hands its result on to the next epoch: it has to come to its end.
        breakable = name != "train_AdaRNN"

        def watched(*args: Any, **kwargs: Any) -> Any:
            is_late = self._scored or name == "pretrain_epoch"
            if self._watch.finishing and breakable and is_late:
                self._epochs_done += 1
                return None
            self._step, self._breakable, result = 0, breakable, None
            try:
                result = epoch(*args, **kwargs)
                self._steps_per_epoch = self._step
            except _EpochEnough:
                pass  # the wish to finish: what follows the epoch is Qlib's own way out
            self._breakable = False
            self._epochs_done += 1
            self._tests = 0
            self._tick(f"Epoch {self._epochs_done}")
            return result

        return watched

    def _watched_test(self, test: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            has_best = any(epoch < self._epochs_done for epoch in self._scored)
            if self._watch.finishing and has_best:
                return (NAN, NAN) if self._gives_pairs else _without_score(test(*args, **kwargs))
            # Evaluations after an epoch: of the training rows, then of the validation rows.
            self._is_noting = self._tests == 1 and self._ic.is_wanted
            result = test(*args, **kwargs)
            self._is_noting = False
            self._tests += 1
            self._scored.add(self._epochs_done)
            self._show_loss(result)
            self._watch.curves.add(len(self._scored), _ic_of(self._ic, self._batches))
            self._batches = []
            return result

        return watched

    def _show_loss(self, result: Any) -> None:
        """After each epoch Qlib evaluates train first, then valid; most give (loss, score)."""
        self._gives_pairs = isinstance(result, tuple) and not isinstance(result[0], Mapping)
        segment = {1: "train", 2: "valid"}.get(self._tests)
        if self._gives_pairs and segment:
            self._watch.curves.add(len(self._scored), {f"{segment}.loss": float(result[0])})


def _copied(*tensors: Any) -> tuple[Any, ...]:
    """Flat arrays of their own: a label is a view that would keep its whole batch, and the batch
    an open file of its loader. A model of an administrator's may have arrays at once."""
    arrays = (one.detach().cpu().numpy() if hasattr(one, "detach") else one for one in tensors)
    return tuple(np.array(one).ravel() for one in arrays)


def _ic_of(ic: ValidationIC, batches: list[tuple[Any, ...]]) -> dict[str, float]:
    if not batches:
        return {}
    return ic.of(*(partial(np.concatenate, part) for part in zip(*batches, strict=True)))


def _without_score(result: Any) -> Any:
    """The same shape, with NaN for every score: metrics, or (metrics, predictions, …)."""
    if isinstance(result, Mapping):
        return dict.fromkeys(result, NAN)
    if isinstance(result, tuple):
        return (_without_score(result[0]), *result[1:])
    return NAN


class _ObservedScores(dict[str, Any]):
    def __init__(self, watch: FitWatch) -> None:
        super().__init__()
        self._watch = watch

    def __setitem__(self, name: str, value: Any) -> None:
        if value == []:
            value = _ObservedList(lambda epoch, score: self._show(name, epoch, score))
        super().__setitem__(name, value)

    def _show(self, name: str, epoch: int, score: Any) -> None:
        if isinstance(score, Mapping):
            values = {f"{name}.{metric}": float(value) for metric, value in score.items()}
        else:
            values = {f"{name}.score": float(score)}
        self._watch.curves.add(epoch, values)


class _ObservedList(list[Any]):
    def __init__(self, show: Callable[[int, Any], None]) -> None:
        super().__init__()
        self._show = show

    def append(self, value: Any) -> None:
        super().append(value)
        self._show(len(self), value)


def _epoch_total(model: Any) -> int | None:
    """Epochs at most; None where a model may begin anew (TCTS)."""
    if hasattr(model, "lowest_valid_performance") or not hasattr(model, "n_epochs"):
        return None
    pretraining = getattr(model, "pretrain_n_epochs", 0) if getattr(model, "pretrain", False) else 0
    return int(model.n_epochs) + int(pretraining)
