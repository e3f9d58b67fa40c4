"""Reads daily bars from CSV or Parquet files: typed columns beside the cells they came from.

What is unreadable becomes NaN or NaT here and a finding in `market_checks`; a file that is no
table of bars at all is refused here.
"""

import codecs
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from training.errors import TrainingError

PRICES = ("open", "high", "low", "close")
NEEDED = ("date", "instrument", *PRICES, "volume")
OPTIONAL = ("factor", "amount", "vwap", "change")
ALIASES = {
    "datetime": "date",
    "day": "date",
    "trade_date": "date",
    "symbol": "instrument",
    "ticker": "instrument",
    "code": "instrument",
    "ts_code": "instrument",
    "vol": "volume",
    "money": "amount",
}
DAY_FORMS = re.compile(
    r"(\d{4})[-/]?(\d{2})[-/]?(\d{2})(?:[ T]00:00(?::00(?:\.0+)?)?)?", flags=re.ASCII
)
NUMBER_FORM = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
PARQUET_MAGIC = b"PAR1"

Floats = np.ndarray[Any, np.dtype[np.float64]]
Progress = Callable[[int, int, str], None]


class MarketError(TrainingError):
    """A market could not be imported; the message says which file, why and what would be right."""

    code = "market_refused"


@dataclass(frozen=True)
class BarFile:
    """One file's rows, in the file's order.

    rows: the row's number as an editor shows it: the line of a CSV (its header is line 1), counted
    from 1 in Parquet. days: datetime64[D], NaT where unreadable. instruments: text or None.
    values: column → float64, NaN where missing or unreadable. torn: line → what stood there, of
    CSV lines with another number of cells than the header.
    """

    name: str
    sha256: str
    is_benchmark: bool
    table: pa.Table
    rows: np.ndarray[Any, np.dtype[np.int64]]
    days: np.ndarray[Any, np.dtype[np.datetime64]]
    instruments: np.ndarray[Any, np.dtype[np.object_]]
    values: dict[str, Floats]
    ignored: tuple[str, ...]
    torn: dict[int, str] = field(default_factory=dict)

    def cell(self, position: int, column: str) -> str:
        """The cell as it stands in the file, empty where there is none."""
        value = self.table[column][position].as_py() if column in self.table.column_names else None
        return "" if value is None else str(value)

    def has_text(self, column: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Where a column of text is not empty; nowhere in a column of numbers."""
        cells = self.table[column]
        filled = cells.is_valid() if _is_text(cells.type) else np.zeros(len(cells), dtype=bool)
        return np.asarray(filled, dtype=bool)


def read_bars(path: Path, *, is_benchmark: bool, progress: Progress) -> BarFile:
    """Read one file, told apart by its first bytes, not by its name.

    Raises: MarketError, if it is missing, empty, unreadable or lacks columns.
    """
    raw, lines, torn = _read_table(path, progress)
    table, ignored = _with_known_names(raw, path.name)
    if not table.num_rows and not torn:
        raise MarketError(f"{path.name} has no rows below its header; give a file with bars.")
    numeric = [name for name in table.column_names if name not in {"date", "instrument"}]
    return BarFile(
        name=path.name,
        sha256=_sha256(path),
        is_benchmark=is_benchmark,
        table=table,
        rows=lines,
        days=_days(table["date"], path.name),
        instruments=_texts(table["instrument"], path.name, "instrument"),
        values={name: _numbers(table[name], path.name, name) for name in numeric},
        ignored=ignored,
        torn=torn,
    )


def _read_table(
    path: Path, progress: Progress
) -> tuple[pa.Table, np.ndarray[Any, np.dtype[np.int64]], dict[int, str]]:
    try:
        with path.open("rb") as source:
            head = source.read(4)
        if not head:
            raise MarketError(f"{path.name} is empty; give a CSV or Parquet file with bars.")
        if head == PARQUET_MAGIC:
            return _read_parquet(path, progress)
        return _read_csv(path, progress)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MarketError(f"{path.name} can't be read: {reason}.") from error
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise MarketError(
            f"{path.name} is neither a CSV nor a Parquet table that can be read: {reason}"
        ) from error


def _read_parquet(
    path: Path, progress: Progress
) -> tuple[pa.Table, np.ndarray[Any, np.dtype[np.int64]], dict[int, str]]:
    groups = []
    with pa.parquet.ParquetFile(path) as source:
        count = source.num_row_groups
        for number in range(count):
            groups.append(source.read_row_group(number))
            progress(number + 1, count, f"Reading {path.name}")
        table = pa.concat_tables(groups) if groups else source.schema_arrow.empty_table()
    return table, np.arange(1, table.num_rows + 1, dtype=np.int64), {}


def _read_csv(
    path: Path, progress: Progress
) -> tuple[pa.Table, np.ndarray[Any, np.dtype[np.int64]], dict[int, str]]:
    """Read every cell as text, so that a fault can be shown as it stands."""
    _refuse_other_than_text(path)
    with path.open("rb") as source:
        header = source.readline(65_536).decode("utf-8-sig")
    separator = max(",;\t|", key=header.count)
    columns = [name.strip().strip('"') for name in header.rstrip("\r\n").split(separator)]
    torn: dict[int, str] = {}

    def note(line: Any) -> str:
        torn[line.number] = line.text
        return "skip"

    batches = []
    total, done = path.stat().st_size, 0
    with pa.csv.open_csv(
        path,
        # One thread: only then does Arrow tell the number of a torn line.
        read_options=pa.csv.ReadOptions(use_threads=False, column_names=columns, skip_rows=1),
        parse_options=pa.csv.ParseOptions(
            delimiter=separator, ignore_empty_lines=False, invalid_row_handler=note
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        ),
    ) as reader:
        for batch in reader:
            batches.append(batch)
            done = min(done + batch.nbytes, total)
            progress(done, total, f"Reading {path.name}")
        table = pa.Table.from_batches(batches, schema=reader.schema)
    lines = np.arange(2, table.num_rows + len(torn) + 2, dtype=np.int64)
    lines = lines[~np.isin(lines, list(torn))]
    # Arrow makes a row without any cell of an empty line; so its number is counted.
    filled = np.zeros(table.num_rows, dtype=bool)
    for column in table.columns:
        filled |= column.is_valid().to_numpy()
    return table.filter(pa.array(filled)), lines[filled], torn


def _refuse_other_than_text(path: Path) -> None:
    """Raises: MarketError, naming the line. Arrow itself drops torn lines that it can't decode."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            end = len(block)
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                end = error.start
            if b"\0" in block:
                end = min(end, block.index(b"\0"))
            line += block.count(b"\n", 0, end)
            if end < len(block):
                raise MarketError(
                    f"{path.name}, line {line}: this is not UTF-8 text; "
                    "give a Parquet file or a CSV in UTF-8."
                )


def _with_known_names(raw: pa.Table, file: str) -> tuple[pa.Table, tuple[str, ...]]:
    """The table with our column names; beside it the columns that we have no use for."""
    places: dict[str, int] = {}
    ignored = []
    for place, given in enumerate(raw.column_names):
        lowered = given.strip().lower().lstrip("$")
        name = ALIASES.get(lowered, lowered)
        if name not in {*NEEDED, *OPTIONAL}:
            ignored.append(given)
        elif name in places:
            other = raw.column_names[places[name]]
            raise MarketError(f"{file}: '{other}' and '{given}' both name {name}; keep one.")
        else:
            places[name] = place
    missing = [name for name in NEEDED if name not in places]
    if missing:
        found = ", ".join(raw.column_names[:12]) or "none"
        raise MarketError(
            f"{file} has no column {', '.join(missing)} (found: {found}). Needed are "
            f"{', '.join(NEEDED)}; {', '.join(OPTIONAL)} may be there too."
        )
    columns = [_plain(raw.column(place)) for place in places.values()]
    return pa.Table.from_arrays(columns, names=list(places)), tuple(ignored)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _texts(column: pa.ChunkedArray, file: str, name: str) -> np.ndarray[Any, np.dtype[np.object_]]:
    if pa.types.is_null(column.type) or pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    if not _is_text(column.type):
        raise MarketError(f"{file}: column {name} holds {column.type}; it must hold text.")
    texts: np.ndarray[Any, np.dtype[np.object_]] = pc.utf8_trim_whitespace(column).to_numpy()
    return texts


def _days(column: pa.ChunkedArray, file: str) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    kind = column.type
    if pa.types.is_date(kind):
        return np.asarray(column.cast(pa.date32()).to_numpy(), dtype="datetime64[D]")
    if pa.types.is_timestamp(kind):
        # A day with a time zone is meant as the day on the wall there.
        wall = pc.local_timestamp(column) if kind.tz else column
        instants = np.asarray(wall.cast(pa.timestamp("us"), safe=False).to_numpy())
        days = instants.astype("datetime64[D]")
        return np.where(days == instants, days, np.datetime64("NaT", "D"))
    encoded = pc.dictionary_encode(pa.array(_texts(column, file, "date"), type=pa.string()))
    known = np.array(
        [_day(text) for text in encoded.dictionary.to_pylist()] or [None], dtype="datetime64[D]"
    )
    places = encoded.indices.fill_null(-1).to_numpy()
    return np.where(places >= 0, known[places], np.datetime64("NaT", "D"))


def _day(text: str) -> date | None:
    match = DAY_FORMS.fullmatch(text)
    if not match:
        return None
    try:
        return date(*map(int, match.groups()))
    except ValueError:
        return None


def _numbers(column: pa.ChunkedArray, file: str, name: str) -> Floats:
    kind = column.type
    if _is_text(kind):
        trimmed = pc.utf8_trim_whitespace(column)
        fits = pc.match_substring_regex(trimmed, NUMBER_FORM)
        column = pc.if_else(fits, trimmed, pa.scalar(None, kind))
    elif not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    ):
        raise MarketError(f"{file}: column {name} holds {kind}; it must hold numbers.")
    numbers = column.cast(pa.float64(), safe=False).to_numpy()
    return np.array(numbers, dtype=np.float64)


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
