"""How a training ends that can't go on: one code, one sentence; the traceback is in the log."""

from training.errors import TrainingError

_NO_MEMORY = ("bad_alloc", "bad allocation", "can't allocate memory", "out of memory")

# What Qlib says (in part) -> what a person can do about it.
_SENTENCES = {
    "Empty data from dataset": (
        "A segment has no rows left after the processors: check the dates of train and valid "
        "against the dataset's and the handler's range."
    ),
    "instrument not exists": (
        "The market named in `instruments` is not in this dataset: use one that it has."
    ),
    # Where it has no day to compute, Qlib calls for a debugger.
    "No module named 'ipdb'": (
        "DNNModelPytorch computes its IC on days with at least 50 instruments, and the validation "
        "segment has none: use a larger market or another model."
    ),
    "Length of values": "The model's label and features have different numbers of rows.",
    "No objects to concatenate": (
        "No prices were found for these instruments and dates: check them against the dataset."
    ),
}


class TrainingFailed(TrainingError):
    """A training that can't go on. `code` is part of the contract, `message` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def explain(error: Exception, *, stage: str) -> Exception:
    """What to raise in place of `error`: itself if it has a code already, else a TrainingFailed."""
    if isinstance(error, TrainingError):
        return error
    if _is_out_of_memory(error):
        return TrainingFailed("out_of_memory", f"Not enough memory in stage {stage!r}: {error}")
    return TrainingFailed("training_error", _sentence(error, stage=stage))


def record_skipped(record_name: str) -> TrainingFailed:
    """Qlib only warns and goes on where a record can't be made; for us that is a failure."""
    return TrainingFailed(
        "record_skipped",
        f"{record_name} made no result: it needs a SignalRecord before it in `task.record`, "
        "a handler with `drop_raw: false`, and labels in the test segment.",
    )


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _NO_MEMORY)


def _sentence(error: Exception, *, stage: str) -> str:
    text = " ".join(str(error).split())
    for sign, sentence in _SENTENCES.items():
        if sign in text:
            return sentence
    if stage == "backtest" and isinstance(error, IndexError):
        return (
            "The backtest ran past the dataset's last day: let `backtest.end_time` be "
            "at least one trading day before it."
        )
    return f"Stage {stage!r} failed: {type(error).__name__}: {text}"[:1000]
