"""What the fault log says: rounds and violations by fault and database.

python -m tests.faults.tally FILE…               # a table, as the README has it
python -m tests.faults.tally --of 50 FILE…       # "n of 50" by row
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .faults import FAULTS

Row = tuple[str, str]
"""The names of a fault and of a database."""


def rounds_of(logs: list[Path]) -> list[dict[str, Any]]:
    """The rounds in the logs; a log that does not exist yet has none."""
    lines = (line for log in logs if log.exists() for line in log.read_text().splitlines())
    return [json.loads(line) for line in lines if line.strip()]


def count(logs: list[Path]) -> Counter[Row]:
    """How many rounds of each row are done."""
    return Counter((one["fault"], one["database"]) for one in rounds_of(logs))


def rows() -> list[Row]:
    """Every fault on each database that it is for."""
    return [(fault.name, database) for fault in FAULTS for database in fault.databases]


def table(rounds: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: rounds, violations, the ends of all tasks, the slowest round."""
    yield "| fault | database | rounds | violations | tasks ended | slowest |"
    yield "|---|---|---|---|---|---|"
    for fault, database in rows():
        own = [one for one in rounds if (one["fault"], one["database"]) == (fault, database)]
        ends = Counter(end.split(",")[0] for one in own for end in one["ends"])
        told = ", ".join(f"{number} {end}" for end, number in ends.most_common())
        wrong = sum(bool(one["violations"]) for one in own)
        slowest = f"{max(one['seconds'] for one in own):.0f} s" if own else "–"
        yield f"| {fault} | {database} | {len(own)} | {wrong} | {told} | {slowest} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", type=int, help="how many rounds are wanted of each row")
    parser.add_argument("logs", nargs="+", type=Path)
    given = parser.parse_args()
    if given.of is None:
        print("\n".join(table(rounds_of(given.logs))))  # noqa: T201
        return
    done = count(given.logs)
    for fault, database in rows():
        print(f"{fault} on {database}: {done[fault, database]} of {given.of}")  # noqa: T201


if __name__ == "__main__":
    main()
