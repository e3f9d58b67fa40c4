"""Qlib's DataHandlerLP with fewer copies of its frames, and the same frames in the end.

Qlib copies the whole frame before each list of processors that may write. Here the copy waits for
the first processor that does, and is not made at all where one before it made a new frame anyway.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from qlib.data.dataset.handler import DataHandlerLP
from qlib.log import TimeInspector

from training.engine.features import frames


@contextmanager
def lean_handlers(threads: int) -> Iterator[None]:
    """Handlers process their data like this inside the block."""
    original: Callable[..., None] = DataHandlerLP.process_data

    def process_data(handler: Any, with_fit: bool = False) -> None:
        _process(handler, with_fit=with_fit, threads=threads)

    DataHandlerLP.process_data = process_data
    try:
        yield
    finally:
        DataHandlerLP.process_data = original


def _process(handler: Any, *, with_fit: bool, threads: int) -> None:
    """Source of the order: Qlib 0.9.7, qlib/data/dataset/handler.py, `process_data`."""
    kinds = (DataHandlerLP.PTYPE_I, DataHandlerLP.PTYPE_A)
    if handler.process_type not in kinds:
        raise NotImplementedError(f"process_type is {handler.process_type!r}, not one of {kinds}")

    def run(frame: Any, processors: Sequence[Any], *, for_infer: bool) -> Any:
        return _run(frame, processors, with_fit=with_fit, for_infer=for_infer, threads=threads)

    shared = run(handler._data, handler.shared_processors, for_infer=True)
    handler._infer = run(shared, handler.infer_processors, for_infer=True)
    base = shared if handler.process_type == DataHandlerLP.PTYPE_I else handler._infer
    handler._learn = run(base, handler.learn_processors, for_infer=False)
    if handler.drop_raw:
        del handler._data


def _run(
    frame: Any, processors: Sequence[Any], *, with_fit: bool, for_infer: bool, threads: int
) -> Any:
    """The frame after all processors; the given one is never written to."""
    given = frame
    for processor in processors:
        if for_infer and not processor.is_for_infer():
            name = type(processor).__name__
            raise TypeError(f"{name} is not for inference: name it among the learn_processors")
        if not processor.readonly() and _may_share(frame, given):
            frame = frames.copied(frame, threads=threads)
        with TimeInspector.logt(type(processor).__name__):
            if with_fit:
                processor.fit(frame)
            frame = processor(frame)
    return frame


def _may_share(frame: Any, given: Any) -> bool:
    """Whether writing to one may change the other; in doubt yes."""
    if not isinstance(frame, pd.DataFrame) or not isinstance(given, pd.DataFrame):
        return True
    one, other = frames.table_of(frame), frames.table_of(given)
    return one is None or other is None or np.may_share_memory(one, other)
