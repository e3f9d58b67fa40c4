"""How far a tree booster is, by each library's own callback; and its early end.

Qlib calls `lightgbm.train`, `xgboost.train` and `catboost.CatBoost.fit` by attribute, so one more
callback can be handed in. `done` counts rounds from 1; `total` is an upper bound, since early
stopping may end before.
"""

import functools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from training.engine.progress import FitEnough, FitWatch, swapped
from training.engine.validation_ic import VALID, ValidationIC

ROUND = "iteration"


@contextmanager
def watched_boosters(model: Any, watch: FitWatch, ic: ValidationIC) -> Iterator[None]:
    """Inside the block every booster reports its rounds and obeys a finish or a cancel."""
    ensemble = _Ensemble(model, watch) if hasattr(model, "train_submodel") else None
    with ExitStack() as hooks:
        if "lightgbm" in sys.modules:
            hooks.enter_context(_watched_lightgbm(watch, ensemble, ic))
        if "xgboost" in sys.modules:
            hooks.enter_context(_watched_xgboost(watch, ic))
        if "catboost" in sys.modules:
            hooks.enter_context(_watched_catboost(watch))
        if ensemble is not None:
            hooks.enter_context(ensemble.watched())
        yield


# ── LightGBM ────────────────────────────────────────────────────────────────────────────


@contextmanager
def _watched_lightgbm(
    watch: FitWatch, ensemble: "_Ensemble | None", ic: ValidationIC
) -> Iterator[None]:
    import lightgbm

    original: Any = lightgbm.train

    @functools.wraps(original)
    def train(*args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        rounds = _LightGBMRounds(watch, ensemble, ic)
        return original(*args, callbacks=[*(callbacks or []), rounds], **kwargs)

    with swapped(lightgbm, "train", train):
        yield


class _LightGBMRounds:
    """LightGBM's callback; keeps the best round, since ending early has to name it."""

    before_iteration = False

    def __init__(self, watch: FitWatch, ensemble: "_Ensemble | None", ic: ValidationIC) -> None:
        # After the recording of the round's results (20), before early stopping (30). LightGBM asks
        # the instance alone for it: what has none there is called before all others.
        self.order = 25
        self._watch = watch
        self._ensemble = ensemble
        self._ic = ic
        self._best_score = -math.inf
        self._best: tuple[int, list[Any]] | None = None

    def __call__(self, env: Any) -> None:
        results = env.evaluation_result_list or []
        done = env.iteration - env.begin_iteration + 1
        total = env.end_iteration - env.begin_iteration
        self._keep_best(env.iteration, results)
        losses = {f"{segment}.{metric}": value for segment, metric, value, *_ in results}
        values = _lightgbm_ic(env.model, self._ic) | losses
        if self._show(done, total, values):
            raise _lightgbm_stop(*(self._best or (env.iteration, results)))

    def _show(self, done: int, total: int, values: dict[str, float]) -> bool:
        if self._ensemble is not None:
            return self._ensemble.show_round(done, total, values)
        self._watch.curves.add(done, values)
        return self._watch.tick(done, total, unit=ROUND)

    def _keep_best(self, iteration: int, results: list[Any]) -> None:
        """Best by the first metric of the validation set, or of the only set there is."""
        if not results:
            return
        judged = next((result for result in results if result[0] != "train"), results[0])
        score = judged[2] if judged[3] else -judged[2]
        if score > self._best_score:
            self._best_score, self._best = score, (iteration, results)


def _lightgbm_ic(booster: Any, ic: ValidationIC) -> dict[str, float]:
    """LightGBM evaluates its sets each round, and gives the same predictions to whoever asks."""
    if VALID not in booster.name_valid_sets:
        return {}
    number = booster.name_valid_sets.index(VALID)
    return ic.of(
        # Without a public name. Set 0 is the training set.
        lambda: booster._Booster__inner_predict(data_idx=number + 1),
        booster.valid_sets[number].get_label,
    )


def _lightgbm_stop(iteration: int, results: list[Any]) -> Exception:
    from lightgbm.callback import EarlyStopException

    stop: Exception = EarlyStopException(iteration, results)
    return stop


# ── DoubleEnsemble: several LightGBM models, and much work between them ─────────────────


class _Ensemble:
    """Counts the rounds of all sub-models together, and what is done between two of them.

    Between sub-models Qlib predicts once per tree (loss curve) and once per feature (feature
    selection), often longer than the trees took; both call the model's `get_loss` each time.
    """

    def __init__(self, model: Any, watch: FitWatch) -> None:
        self._model = model
        self._watch = watch
        self._count = int(model.num_models)
        self._rounds = (0, int(model.epochs) * self._count)
        self._step_name = ""
        self._step_done = 0

    def show_round(self, done: int, total: int, values: dict[str, float]) -> bool:
        """Reports round `done` of `total` of the current sub-model; its curves have its number."""
        number = len(self._model.ensemble) + 1
        self._rounds = ((number - 1) * total + done, self._count * total)
        curves = {f"sub_{number}.{name}": value for name, value in values.items()}
        self._watch.curves.add(done, curves)
        finishing = self._tick(f"Sub-model {number} of {self._count}")
        if finishing:
            # Qlib leaves its loop after the sub-model with this number.
            self._model.num_models = number
        return finishing

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside the block `get_loss` counts, and the two slow steps have names."""
        model = self._model
        loss_curve, selection = model.retrieve_loss_curve, model.feature_selection
        shadows = {
            "get_loss": self._counting(model.get_loss),
            "retrieve_loss_curve": self._naming("loss curve, tree", loss_curve),
            "feature_selection": self._naming("feature selection, feature", selection),
        }
        vars(model).update(shadows)
        try:
            yield
        finally:
            for name in shadows:
                del vars(model)[name]

    def _tick(self, message: str) -> bool:
        done, total = self._rounds
        return self._watch.tick(done, total, unit=ROUND, message=message)

    def _counting(self, get_loss: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._step_done += 1
            if self._step_name and self._tick(self._step_message()):
                raise FitEnough
            return get_loss(*args, **kwargs)

        return counted

    def _naming(self, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def named(*args: Any, **kwargs: Any) -> Any:
            self._step_name, self._step_done = name, 0
            try:
                return step(*args, **kwargs)
            finally:
                self._step_name = ""

        return named

    def _step_message(self) -> str:
        number = len(self._model.ensemble)
        return f"Sub-model {number} of {self._count}: {self._step_name} {self._step_done}"


def keep_finished_sub_models(model: Any) -> None:
    """Make an ensemble that ended early consistent: as many weights and features as sub-models."""
    count = len(model.ensemble)
    model.num_models = count
    model.sub_weights = model.sub_weights[:count]
    model.sub_features = model.sub_features[:count]


# ── XGBoost ─────────────────────────────────────────────────────────────────────────────


@contextmanager
def _watched_xgboost(watch: FitWatch, ic: ValidationIC) -> Iterator[None]:
    import xgboost

    original: Any = xgboost.train

    @functools.wraps(original)
    def train(*args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        valid = next((data for data, name in kwargs.get("evals") or () if name == VALID), None)
        rounds = _xgboost_rounds(watch, ic, valid=valid, total=kwargs.get("num_boost_round"))
        booster = original(*args, callbacks=[*(callbacks or []), rounds], **kwargs)
        return _best_of(booster) if watch.finishing else booster

    with swapped(xgboost, "train", train):
        yield


def _xgboost_rounds(
    watch: FitWatch, ic: ValidationIC, *, valid: Any | None, total: int | None
) -> Any:
    from xgboost.callback import TrainingCallback

    class Rounds(TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            values = {}
            if valid is not None:
                # The booster has them from the round's evaluation, and adds no tree to them.
                values = ic.of(lambda: model.predict(valid), valid.get_label)
            watch.curves.add(epoch + 1, values | _last_values(evals_log, {}))
            return watch.tick(epoch + 1, total, unit=ROUND)

    return Rounds()


def _best_of(booster: Any) -> Any:
    """Only the rounds up to the best: Qlib predicts with all rounds that a booster has."""
    try:
        return booster[: booster.best_iteration + 1]
    except AttributeError:  # no early stopping in this fit, hence no best round
        return booster


# ── CatBoost ────────────────────────────────────────────────────────────────────────────


@contextmanager
def _watched_catboost(watch: FitWatch) -> Iterator[None]:
    import catboost

    original: Any = catboost.CatBoost.fit

    @functools.wraps(original)
    def fit(self: Any, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        params = self.get_params()
        # CatBoost has no callbacks on a GPU.
        if params.get("task_type") == "GPU":
            return original(self, *args, callbacks=callbacks, **kwargs)
        rounds = _CatBoostRounds(watch, total=params.get("iterations"))
        fitted = original(self, *args, callbacks=[*(callbacks or []), rounds], **kwargs)
        rounds.raise_what_was_raised()
        return fitted

    with swapped(catboost.CatBoost, "fit", fit):
        yield


class _CatBoostRounds:
    _SEGMENTS = {"learn": "train", "validation": "valid"}

    def __init__(self, watch: FitWatch, *, total: int | None) -> None:
        self._watch = watch
        self._total = total
        self._raised: BaseException | None = None

    def after_iteration(self, info: Any) -> bool:
        """CatBoost's question after each round: go on?"""
        values = _last_values(info.metrics or {}, self._SEGMENTS)
        try:
            self._watch.curves.add(info.iteration, values)
            return not self._watch.tick(info.iteration, self._total, unit=ROUND)
        except BaseException as error:
            # CatBoost would make a CatBoostError of it, and of a cancel a failure.
            self._raised = error
            return False

    def raise_what_was_raised(self) -> None:
        if self._raised is not None:
            raise self._raised


def _last_values(history: Any, segments: dict[str, str]) -> dict[str, float]:
    """{"valid": {"rmse": [.., x]}} -> {"valid.rmse": x}, with the segments' names replaced."""
    return {
        f"{segments.get(segment, segment)}.{metric.lower()}": float(values[-1])
        for segment, metrics in history.items()
        for metric, values in metrics.items()
    }
