"""Each code that a task can fail by has its cure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from training import lifecycle
from training.dashboard.cures import CURES
from training.states import RequeueReason, Status

TRAINING = Path(lifecycle.__file__).parent
PLACES = [
    TRAINING / "archive.py",
    TRAINING / "runner.py",
    *(path for path in (TRAINING / "engine").rglob("*.py") if "market" not in path.name),
]
SAYS_A_CODE = {
    "TrainingFailed": 0,
    "NotKept": 0,
    "Outcome": 1,
    "_failure": 0,
    "_kill": 2,
    "_record": 2,
}
"""Which argument of a call is the code."""

NO_FAILURE = {"", "cancelled", "fenced", "completed"}


def codes_in(tree: ast.AST) -> Iterator[str]:
    """Codes that are said in a call, in a class, or in what `-> tuple[str, str]` gives."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            place = SAYS_A_CODE.get(getattr(node.func, "id", ""), len(node.args))
            yield from texts(node.args[place : place + 1])
        elif isinstance(node, ast.ClassDef):
            assigned = [one for one in node.body if isinstance(one, ast.Assign)]
            yield from texts(one.value for one in assigned if ast.unparse(one.targets[0]) == "code")
        elif isinstance(node, ast.FunctionDef) and _gives_a_code(node):
            given = [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
            yield from texts(one.elts[0] for one in given if isinstance(one, ast.Tuple))


def _gives_a_code(function: ast.FunctionDef) -> bool:
    return function.returns is not None and ast.unparse(function.returns) == "tuple[str, str]"


def texts(nodes) -> Iterator[str]:
    return (one.value for one in nodes if isinstance(one, ast.Constant))


def test_every_code_that_a_task_fails_by_has_a_cure():
    said = {code for path in PLACES for code in codes_in(ast.parse(path.read_text()))}
    lost = {reason for reason in RequeueReason.values if reason != RequeueReason.SHUTDOWN}

    assert {"record_skipped", "not_started", "not_kept", "disk_full", "timed_out"} <= said
    assert (said | lost) - NO_FAILURE == set(CURES)


@pytest.mark.parametrize("code", ["record_skipped", "anything_else"])
def test_a_failure_that_comes_again_is_not_to_be_run_again(browser, make_task, code):
    task = make_task(status=Status.RUNNING)
    lifecycle.fail(task.id, attempt=1, code=code, error="It can't be.")

    text = browser.get(f"/tasks/{task.id}").content.decode()

    assert "then run it again" not in text
