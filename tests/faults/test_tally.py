"""What the fault log counts, so that rounds go on where they stopped."""

import json
from pathlib import Path

from tests.faults import tally


def test_rounds_are_counted_by_fault_and_database_and_shown_with_what_was_wrong(tmp_path: Path):
    log = tmp_path / "faults.jsonl"
    line = {"fault": "web", "database": "sqlite", "seconds": 12.4, "violations": []}
    ends = ["completed, attempt 1, 30 events", "failed worker_lost, attempt 2, 9 events"]
    rounds = [{**line, "ends": ends}, {**line, "ends": ends[:1], "violations": ["it is lost"]}]
    log.write_text("".join(json.dumps(one) + "\n" for one in rounds))

    done = tally.count([log, tmp_path / "not made yet"])
    shown = list(tally.table(tally.rounds_of([log])))

    assert done == {("web", "sqlite"): 2}
    assert "| web | sqlite | 2 | 1 | 2 completed, 1 failed worker_lost | 12 s |" in shown
    assert "| web | postgresql | 0 | 0 |  | – |" in shown
