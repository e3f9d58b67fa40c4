"""Are the tests of the lifecycle worth anything? Each mutant breaks one expression of it.

    python -m tests.faults.mutants            # all of them; exit code 1 if one survives
    python -m tests.faults.mutants claim-twice lease-never-over

A copy of the code gets the mutant, then the model and the lifecycle's tests run on it.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path("training/lifecycle.py")
# Not all of `test_model.py`: that a mutant has its place fails on every mutant, and kills none.
TESTS = (
    # The quicker one first: the first failure is the answer.
    "tests/core/test_lifecycle.py",
    "tests/faults/test_model.py::test_the_lifecycle_does_what_the_model_says_in_any_order",
)

MUTANTS = {
    # name: (what stands there once, what stands there instead)
    "claim-twice": (
        "Q(status=Status.PENDING),\n        EventKind.STARTED",
        "Q(),\n        EventKind.STARTED",
    ),
    "attempt-stays": ('"attempt": F("attempt") + 1', '"attempt": F("attempt")'),
    "priority-ignored": ('.order_by("priority", "created_at"', '.order_by("created_at"'),
    "progress-kept-by-the-next-attempt": ('"progress": 0.0', '"progress": F("progress")'),
    "old-attempts-report": (
        "status=Status.RUNNING, attempt=attempt)\n\n\ndef _get",
        "status=Status.RUNNING)\n\n\ndef _get",
    ),
    "ended-tasks-report": (
        "pk=task_id, status=Status.RUNNING, attempt=attempt)",
        "pk=task_id, attempt=attempt)",
    ),
    "progress-falls": ('Greatest(F("progress"), Value(percent))', "Value(percent)"),
    "done-while-running": ("min(max(news.progress, 0.0), BELOW_DONE)", "max(news.progress, 0.0)"),
    "old-attempts-end": (
        "guard = Q(status=Status.RUNNING, attempt=attempt)",
        "guard = Q(status=Status.RUNNING)",
    ),
    "ends-twice": (
        "guard = Q(status=Status.RUNNING, attempt=attempt)",
        "guard = Q(attempt=attempt)",
    ),
    "old-attempts-give-back": (
        "held = Q(status=Status.RUNNING, attempt=attempt)",
        "held = Q(status=Status.RUNNING)",
    ),
    "renewal-overlooked": ("lease_until=lease_until,\n        lease_until__lt", "lease_until__lt"),
    "lease-never-over": ("        lease_until__lt=Now(),\n", ""),
    "shutdown-counts": ("counts = reason != RequeueReason.SHUTDOWN", "counts = True"),
    "one-attempt-too-many": ('losses__lt=F("max_attempts") - 1', 'losses__lt=F("max_attempts")'),
    "wish-to-cancel-lost": ("held & Q(cancel_requested_at__isnull=False)", 'held & Q(pk="")'),
    "wish-to-finish-kept": ('        "finish_requested_at": None,\n', ""),
    "cancel-told-twice": (
        "unasked = running & Q(cancel_requested_at__isnull=True)",
        "unasked = running",
    ),
    "finish-after-cancel": (
        "Q(finish_requested_at__isnull=True, cancel_requested_at__isnull=True)",
        "Q(finish_requested_at__isnull=True)",
    ),
    "number-skipped": ('last_seq=F("last_seq") + 1', 'last_seq=F("last_seq") + 2'),
    "number-given-twice": (
        'F("last_seq") + len(kinds)}',
        'F("last_seq") + len(kinds) - 1}',
    ),
    "pin-ignored": ("if task.pinned:", "if task.pinned is None:"),
}


def mutated(name: str) -> str:
    """The lifecycle with the mutant in it. Raises: ValueError, if its place is not there once."""
    old, new = MUTANTS[name]
    text = (ROOT / TARGET).read_text()
    if text.count(old) != 1:
        raise ValueError(f"{name}: {old!r} stands {text.count(old)} times in {TARGET}")
    return text.replace(old, new)


def killed_by(name: str) -> str:
    """The test that fails on the mutant; empty if none does."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as place:
        for part in ("training", "qlibplatform", "tests"):
            shutil.copytree(
                ROOT / part, Path(place, part), ignore=shutil.ignore_patterns("__pycache__")
            )
        for part in ("manage.py", "pyproject.toml"):
            shutil.copy(ROOT / part, place)
        Path(place, TARGET).write_text(mutated(name))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS]
        done = subprocess.run(
            command,
            cwd=place,
            env={**os.environ, "MODEL_SHRINK": "0", "PLATFORM_STATE_DIR": f"{place}/var"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the tests could not run on {name}: {done.stdout}{done.stderr}")
    failed = re.search(r"^FAILED \S+::(\w+)", done.stdout, re.MULTILINE)
    return failed[1] if failed else ""


def main(names: list[str]) -> int:
    survivors = []
    for name in names or MUTANTS:
        killer = killed_by(name)
        print(f"{name}: {f'killed by {killer}' if killer else 'SURVIVED'}", flush=True)  # noqa: T201
        survivors += [] if killer else [name]
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
