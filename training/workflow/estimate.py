"""How large a run will be: rows, columns and memory, before anything is loaded."""

from dataclasses import dataclass

from training.catalogue import load
from training.workflow.columns import columns_of
from training.workflow.facts import MarketFacts, Workflow
from training.workflow.findings import Findings
from training.workflow.market_shapes import codes_of

_BASE_BYTES = 300 * 1024 * 1024
# Peak of the whole data stage, measured with Qlib 0.9.7 on 300 instruments × 1,500 days.
_BYTES_PER_ROW = {"Alpha158": 5_500, "Alpha360": 16_000}
_BYTES_PER_CELL = 40


@dataclass(frozen=True)
class Estimate:
    """rows: day × instrument, an upper bound; memory_bytes: the peak; None is unknown."""

    rows: int
    columns: int | None
    memory_bytes: int | None


def estimate(workflow: Workflow, facts: MarketFacts) -> Estimate:
    """The size of the data that the workflow's handler loads."""
    handler = workflow.config["task"]["dataset"]["kwargs"]["handler"]
    kwargs = handler["kwargs"]
    # Qlib's own handlers take csi500 where no market is named, DataHandlerLP takes all.
    default = None if handler["class"] == "DataHandlerLP" else "csi500"
    named = kwargs.get("instruments", default)
    market = codes_of(named if named is not None else "all", facts.markets)
    codes = facts.markets[market] if market else tuple(facts.instruments)
    if isinstance(named, list):
        by_name = facts.by_lower_name
        codes = tuple(by_name[code.lower()] for code in named if code.lower() in by_name)
    rows = facts.rows(codes, kwargs.get("start_time"), kwargs.get("end_time"))
    columns = columns_of(handler, load(), Findings())
    if columns is None:
        return Estimate(rows, None, None)
    count = max(len(columns.for_fit), len(columns.for_predict))
    own = _BYTES_PER_ROW.get(handler["class"].removesuffix("vwap"))
    per_row = own if own is not None else count * _BYTES_PER_CELL
    return Estimate(rows, count, _BASE_BYTES + rows * per_row)
