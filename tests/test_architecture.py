"""Rules of the house that a type checker and the import contracts can't hold."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "training").rglob("*.py"))


_WRITERS = {"update", "create", "update_or_create", "TrainingTask", "TaskEvent"}


def _status_writes(tree: ast.AST) -> list[int]:
    """Lines that write a column `status`: `x.status = …`, `update(status=…)`, a row made so."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [
                part
                for target in targets
                for part in ast.walk(target)
                if isinstance(part, ast.Attribute) and part.attr == "status"
            ]
            lines += [name.lineno for name in names]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if called in _WRITERS and any(word.arg == "status" for word in node.keywords):
                lines.append(node.lineno)
    return lines


def test_only_the_lifecycle_and_the_maker_of_events_write_a_status():
    writers = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if "engine" not in path.parts and _status_writes(ast.parse(path.read_text()))
    }

    assert writers == {"training/lifecycle.py", "training/events.py"}


def test_the_search_for_writers_finds_them():
    tree = ast.parse(
        "task.status = 1\nT.objects.filter(a=1).update(status='x')\nTaskEvent(status=1)"
    )

    assert _status_writes(tree) == [1, 2, 3]


@pytest.mark.parametrize("module", ["qlibplatform.asgi", "qlibplatform.urls"])
def test_the_web_process_loads_no_qlib_pandas_or_mlflow(module):
    code = (
        f"import django, importlib, sys; django.setup(); importlib.import_module('{module}');"
        "heavy = {'qlib', 'pandas', 'mlflow', 'lightgbm', 'numpy', 'torch'} & set(sys.modules);"
        "engine = [m for m in sys.modules if m.startswith('training.engine')];"
        "print(sorted(heavy), engine)"
    )

    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"DJANGO_SETTINGS_MODULE": "qlibplatform.settings", "PLATFORM_SECRET_KEY": "x" * 50},
    )

    assert told.stdout.split("\n")[-2] == "[] []"


def test_no_file_is_named_for_nothing():
    names = {path.stem for path in SOURCES}

    assert not names & {"utils", "helpers", "common", "misc"}
