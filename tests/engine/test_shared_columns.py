"""Training and leader over a real channel: columns found, made, waited for; every fault of files.

Both sides are the real ones, each in a thread; only the evaluator is a stand-in that counts.
"""

import hashlib
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.factories import make_task as new_task
from training import columnfile, desk, features, lifecycle
from training.engine.features import shared
from training.engine.features.mapping import Columns
from training.engine.features.shared import SharedColumns
from training.engine.protocol import Channel
from training.engine.reporter import Cancelled, Reporter
from training.models import FeatureColumn
from training.states import Status

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ROWS = 5000
LOAD = {"instruments": "all", "start": "2010-01-04", "end": "2011-01-03"}
DEADLINE_S = 20.0


def values(expression: str) -> np.ndarray:
    """What the stand-in computes: random bits, NaNs among them, the same for the same text."""
    seed = int.from_bytes(hashlib.sha256(expression.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).integers(0, 2**32, ROWS, dtype=np.uint32).view(np.float32)


@dataclass
class Side:
    """A training with its leader, as far as columns go."""

    desk: desk.Desk
    reporter: Reporter
    columns: SharedColumns
    told: list[dict] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list)
    ear: threading.Thread | None = None

    def get(self, *expressions: str, rows: int = ROWS, **load: str) -> np.ndarray:
        def make(numbers, out):
            for number, array in zip(numbers, out, strict=True):
                self.made.append(expressions[number])
                array[:] = values(expressions[number])[:rows]

        return self.columns.get(expressions, load={**LOAD, **load}, rows=rows, make=make)

    def finish(self, *, hurry: bool = False) -> dict:
        """As at the end of a training: all that it said has been heard before."""
        if self.desk.is_alive():
            nothing = {"op": "claim", "expressions": [], "load": {}, "rows": 0}
            self.reporter.ask({"type": "columns", **nothing}, timeout_s=DEADLINE_S)
        self.desk.close(hurry=hurry)
        return self.desk.figures()


@pytest.fixture
def side(owner, settings, tmp_path, monkeypatch):
    """`side()`: a new running task; its training's folder becomes the current one."""
    settings.FEATURES_DIR = tmp_path / "features"
    sides: list[Side] = []

    def begin() -> Side:
        task = new_task(owner, status=Status.RUNNING)
        home = tmp_path / f"{task.id}-home"
        home.mkdir()
        mine, theirs = socket.socketpair()
        leader, training = Channel(mine), Channel(theirs)
        reporter = Reporter(training)
        columns = SharedColumns(reporter, threads=2)
        columns._folder = home / columnfile.FOLDER
        one = Side(desk.Desk(task, home=home), reporter, columns, channels=[leader, training])
        one.desk.open(leader.send)
        one.ear = threading.Thread(target=_pass_on, args=(leader, one))
        one.ear.start()
        sides.append(one)
        return one

    yield begin
    for one in sides:
        one.desk.close(hurry=True)
        one.channels[1].close()
        one.ear.join(DEADLINE_S)


def _pass_on(leader: Channel, one: Side) -> None:
    """What a leader does with messages."""
    while not leader.is_closed:
        for message in leader.receive():
            if message["type"] == "columns":
                one.desk.hear(message)
            else:
                one.told.append(message)
    leader.close()


def until(condition) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def stored(settings) -> list[Path]:
    return sorted(settings.FEATURES_DIR.glob("*/*"))


def is_right(array: np.ndarray, *expressions: str) -> bool:
    expected = np.array([values(one) for one in expressions]).view(np.uint32)
    return np.array_equal(array.view(np.uint32), expected)


# ── Right numbers, made once ────────────────────────────────────────────────────────────


def test_the_first_makes_and_the_second_finds_the_same_bits(side, settings):
    first, second = side(), side()

    made = first.get("$close", "$open")
    told = first.finish()
    found = second.get("$open", "$close")

    assert is_right(made, "$close", "$open")
    assert is_right(found, "$open", "$close")
    assert second.made == []
    size = 2 * columnfile.size(ROWS)
    assert (told["hits"], told["misses"], told["bytes_written"]) == (0, 2, size)
    told = second.finish()
    assert (told["hits"], told["misses"], told["bytes_read"]) == (2, 0, size)
    assert features.figures()["hits"] == 2
    with stored(settings)[0].open("rb") as file:
        assert np.load(file, allow_pickle=False).dtype == np.float32


def test_of_a_wider_request_only_what_is_missing_is_made(side):
    first, second = side(), side()
    first.get("$close", "$open")
    first.finish()

    found = second.get("$close", "Ref($close, -2)/Ref($close, -1)-1", "$open")

    assert second.made == ["Ref($close, -2)/Ref($close, -1)-1"]
    assert is_right(found, "$close", "Ref($close, -2)/Ref($close, -1)-1", "$open")


@pytest.mark.parametrize("other", [{"end": "2012-01-03"}, {"instruments": "some"}])
def test_another_range_or_market_shares_nothing(side, other):
    first, second = side(), side()
    first.get("$close")
    first.finish()

    second.get("$close", **other)

    assert second.made == ["$close"]


def test_another_version_of_the_dataset_or_of_a_library_shares_nothing(side, monkeypatch):
    first, second, third = side(), side(), side()
    first.get("$close")
    first.finish()
    second.desk._dataset_version = "v2"

    second.get("$close")
    monkeypatch.setattr(shared, "made_with", lambda: {"numpy": "9.9"})
    third.get("$close")

    assert second.made == third.made == ["$close"]


def test_what_a_training_writes_into_its_columns_reaches_nobody(side, settings):
    first, second = side(), side()
    made = first.get("$close")
    made[:] = 0.0
    first.finish()

    found = second.get("$close")
    assert is_right(found, "$close")
    found[:] = 1.0
    third = side()

    assert is_right(third.get("$close"), "$close")
    assert third.made == []


def test_a_training_that_asks_again_at_once_does_not_make_it_twice(side):
    only = side()

    only.get("$close", "$open")
    only.get("$open")

    assert only.made == ["$close", "$open"]


def test_an_array_stays_when_all_else_is_let_go(side):
    one = side()
    array = one.get("$close", "$open")[1:].T
    one.columns = None

    assert is_right(array.T, "$open")


def test_what_is_written_after_a_column_is_finished_does_not_reach_its_file(tmp_path):
    columns = Columns(2, ROWS)
    path = tmp_path / "column.npy"
    columns.make(1, path)
    columns.array[1] = values("$close")
    columns.finish(1, path)

    columns.array[1] = 0.0

    assert is_right(np.load(path)[None], "$close")


@pytest.mark.parametrize("there", [True, False], ids=["on disk", "no room"])
def test_a_column_for_this_process_alone_lies_in_a_nameless_file_where_one_can_be(tmp_path, there):
    columns = Columns(2, ROWS)
    folder = tmp_path / "scratch"
    if there:
        folder.mkdir()

    for number in range(2):
        columns.fill(number, folder)

    assert not columns.array.any()
    columns.array[1] = values("$close")
    assert is_right(columns.array[1:], "$close")
    assert Path("/proc/self/maps").read_text().count(str(folder)) == (2 if there else 0)
    assert not there or list(folder.iterdir()) == []


def test_no_rows_are_columns_too(side):
    first, second = side(), side()
    assert first.get("$close", rows=0).shape == (1, 0)
    first.finish()

    assert second.get("$close", rows=0).shape == (1, 0)
    assert second.made == []


# ── Waiting ─────────────────────────────────────────────────────────────────────────────


def test_who_comes_second_waits_says_so_and_gets_the_first_ones_columns(side):
    first, second = side(), side()
    begun, go_on = threading.Event(), threading.Event()

    def make(numbers, out):
        begun.set()
        assert go_on.wait(DEADLINE_S)
        out[0][:] = values("$close")

    maker = threading.Thread(
        target=lambda: first.columns.get(["$close"], load=LOAD, rows=ROWS, make=make)
    )
    maker.start()
    assert begun.wait(DEADLINE_S)
    found = {}
    waiter = threading.Thread(target=lambda: found.update(array=second.get("$close")))
    waiter.start()
    until(lambda: any("Waiting" in one["message"] for one in second.told))
    go_on.set()
    maker.join(DEADLINE_S)
    waiter.join(DEADLINE_S)

    assert is_right(found["array"], "$close")
    assert second.made == []
    words = [one["message"] for one in second.told]
    assert words[0] == f"Waiting for the same features of {first.desk.maker.task_id}"
    until(lambda: second.told[-1]["message"] == "Loading data")
    assert second.finish()["waited_for"] == [first.desk.maker.task_id]


def test_who_waits_takes_over_when_the_maker_dies(side):
    first, second = side(), side()
    maker = first.desk.maker
    first.reporter.ask(question("$close"), timeout_s=DEADLINE_S)
    found = {}
    waiter = threading.Thread(target=lambda: found.update(array=second.get("$close")))
    waiter.start()
    until(lambda: second.told)

    lifecycle.fail(maker.task_id, attempt=maker.attempt, code="training_killed", error="gone")
    waiter.join(DEADLINE_S)

    assert second.made == ["$close"]
    assert is_right(found["array"], "$close")


def test_who_waits_obeys_an_order_to_abort(side):
    first, second = side(), side()
    first.reporter.ask(question("$close"), timeout_s=DEADLINE_S)
    ended = threading.Event()

    def wait():
        with pytest.raises(Cancelled):
            second.get("$close")
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    until(lambda: second.told)
    second.channels[0].send({"op": "abort"})

    assert ended.wait(DEADLINE_S)


def test_nobody_waits_for_a_maker_for_ever(side, monkeypatch):
    first, second = side(), side()
    first.reporter.ask(question("$close"), timeout_s=DEADLINE_S)
    monkeypatch.setattr(shared, "WAIT_LIMIT_S", 0.5)

    found = second.get("$close")

    assert is_right(found, "$close")
    assert second.made == ["$close"]


def test_a_maker_that_fails_lets_the_next_one_make(side):
    first, second = side(), side()

    def broken(numbers, out):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        first.columns.get(["$close"], load=LOAD, rows=ROWS, make=broken)
    first.finish()

    second.get("$close")
    assert second.made == ["$close"]


def question(expression: str) -> dict:
    """A claim that is never made good."""
    load = {**LOAD, "made_with": shared.made_with()}
    return {
        "type": "columns",
        "op": "claim",
        "load": load,
        "expressions": [expression],
        "rows": ROWS,
    }


# ── Files that are not what they should be ──────────────────────────────────────────────


def garbage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(columnfile.HEADER_BYTES + 400)
        file.write(b"\xff" * 16)


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [Path.unlink, garbage, one_bit, shorter])
def test_a_damaged_column_is_made_anew_for_all_and_counted(side, settings, harm):
    first, second, third = side(), side(), side()
    first.get("$close", "$open")
    first.finish()
    harm(stored(settings)[0])

    found = second.get("$close", "$open")
    told = second.finish()

    assert is_right(found, "$close", "$open")
    assert len(second.made) == 1
    assert (told["damaged"], told["hits"], told["misses"]) == (1, 1, 1)
    assert is_right(third.get("$close", "$open"), "$close", "$open")
    assert third.made == []


def test_the_whole_store_may_be_deleted_under_a_running_task(side, settings):
    import shutil

    first, second = side(), side()
    first.get("$close", "$open")
    first.finish()
    found = second.get("$close", "$open")

    shutil.rmtree(settings.FEATURES_DIR)

    assert is_right(found, "$close", "$open")
    second.columns.check_unchanged()
    third = side()
    assert is_right(third.get("$close", "$open"), "$close", "$open")
    assert len(third.made) == 2


def test_a_column_that_changes_under_its_reader_is_a_clear_error_at_the_end(side, settings):
    first, second = side(), side()
    first.get("$close")
    first.finish()
    second.get("$close")
    second.columns.check_unchanged()

    garbage(stored(settings)[0])

    with pytest.raises(shared.TrainingFailed, match="changed on disk") as error:
        second.columns.check_unchanged()
    assert error.value.code == "features_changed"


def test_a_column_that_stays_unreadable_is_computed_alone(side, settings, monkeypatch):
    first, second = side(), side()
    first.get("$close")
    first.finish()
    # As with a wall that was put up before the folder was made: only the training can't read.
    monkeypatch.setattr(shared.Columns, "open", lambda *_: (_ for _ in ()).throw(OSError("wall")))

    found = second.get("$close")

    assert is_right(found, "$close")
    assert second.made == ["$close"]
    assert second.finish()["damaged"] == 0
    assert FeatureColumn.objects.get().state == "ready"


@pytest.mark.parametrize("trouble", ["a file in the way", "a folder in the way"])
def test_a_store_that_can_not_be_written_costs_only_the_sharing(side, settings, trouble):
    first, second = side(), side()
    if trouble == "a file in the way":
        settings.FEATURES_DIR.write_text("no folder")
    else:
        for number in range(256):
            (settings.FEATURES_DIR / f"{number:02x}").parent.mkdir(exist_ok=True)
            (settings.FEATURES_DIR / f"{number:02x}").write_text("no folder")

    assert is_right(first.get("$close"), "$close")
    until(lambda: first.desk._off)
    assert is_right(second.get("$close"), "$close")
    assert "could not be kept" in first.desk.said()[0]
    assert first.finish()["bytes_written"] == 0
    assert not FeatureColumn.objects.filter(state="ready").exists()


def test_a_full_scratch_disk_costs_only_the_sharing(side, monkeypatch):
    import errno
    import os

    first, second = side(), side()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert is_right(first.get("$close"), "$close")

    assert is_right(second.get("$close"), "$close")
    assert second.made == ["$close"]


def test_a_store_without_room_costs_only_the_sharing(side, settings):
    settings.FEATURES_MAX_BYTES = columnfile.size(ROWS)
    first, second = side(), side()

    assert is_right(first.get("$close", "$open"), "$close", "$open")
    until(lambda: first.desk._off)

    assert "full" in first.desk.said()[0]
    assert is_right(second.get("$open"), "$open")
    assert second.made == ["$open"]


def test_the_files_of_what_had_to_go_are_removed(side, settings):
    settings.FEATURES_MAX_BYTES = 2 * columnfile.size(ROWS)
    first = side()
    first.get("$close", "$open")
    first.finish()
    maker = first.desk.maker
    lifecycle.fail(maker.task_id, attempt=maker.attempt, code="training_error", error="x")
    second = side()

    second.get("$high")
    second.finish()

    rows = set(FeatureColumn.objects.values_list("key", flat=True))
    assert {path.stem for path in stored(settings)} == rows
    assert len(rows) == 2
    assert features.figures()["evicted"] == 1


def test_with_sharing_switched_off_no_row_and_no_file_is_made(side, settings):
    settings.FEATURES_MAX_BYTES = 0
    only = side()

    assert is_right(only.get("$close"), "$close")
    assert only.finish() == {}
    assert not FeatureColumn.objects.exists()
    assert stored(settings) == []


# ── A training that lies ────────────────────────────────────────────────────────────────


def test_a_training_can_not_replace_what_is_in_the_store(side, settings, tmp_path):
    honest, liar, third = side(), side(), side()
    honest.get("$close")
    honest.finish()
    key = FeatureColumn.objects.get().key
    liar.reporter.ask(question("$close"), timeout_s=DEADLINE_S)
    forged = columnfile.header(ROWS) + np.zeros(ROWS, np.float32).tobytes()
    liar.columns._folder.mkdir()
    (liar.columns._folder / f"{key}.npy").write_bytes(forged)

    liar.reporter.tell({"type": "columns", "op": "damaged", "keys": [key]})
    liar.reporter.tell({"type": "columns", "op": "made", "keys": [key]})
    liar.reporter.ask(question("$open"), timeout_s=DEADLINE_S)
    liar.finish()

    assert is_right(third.get("$close"), "$close")
    assert third.made == []


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe", "too short", "no header"])
def test_only_a_plain_column_file_of_its_own_is_taken_from_a_training(
    side, settings, tmp_path, kind
):
    liar = side()
    answer = liar.reporter.ask(question("$close"), timeout_s=DEADLINE_S)
    key = answer["columns"][0]["key"]
    secret = tmp_path / f"{key}.npy"
    secret.write_bytes(columnfile.header(ROWS) + b"s" * 4 * ROWS)
    folder = liar.columns._folder
    if kind == "folder link":
        folder.symlink_to(tmp_path)
    else:
        import os

        folder.mkdir()
        file = folder / f"{key}.npy"
        {
            "link": lambda: file.symlink_to(secret),
            "pipe": lambda: os.mkfifo(file),
            "too short": lambda: file.write_bytes(secret.read_bytes()[:-1]),
            "no header": lambda: file.write_bytes(b"s" * columnfile.size(ROWS)),
        }[kind]()

    liar.reporter.tell({"type": "columns", "op": "made", "keys": [key]})
    until(lambda: liar.desk._off)
    liar.finish()

    assert "could not be kept" in liar.desk.said()[0]
    assert secret.exists()
    assert not FeatureColumn.objects.exists()
    assert stored(settings) == []


def test_a_file_that_is_written_on_after_it_was_handed_over_harms_nobody(side, settings):
    liar, second = side(), side()
    answer = liar.reporter.ask(question("$close"), timeout_s=DEADLINE_S)
    key = answer["columns"][0]["key"]
    liar.columns._folder.mkdir()
    held = (liar.columns._folder / f"{key}.npy").open("w+b")
    held.write(columnfile.header(ROWS) + values("$close").tobytes())
    held.flush()
    liar.reporter.tell({"type": "columns", "op": "made", "keys": [key]})
    until(lambda: FeatureColumn.objects.filter(state="ready").exists())

    held.seek(columnfile.HEADER_BYTES)
    held.write(b"\0" * 4 * ROWS)
    held.close()

    assert is_right(second.get("$close"), "$close")
    assert second.made == []


@pytest.mark.parametrize(
    "nonsense",
    [
        {"op": "claim"},
        {"op": "claim", "expressions": "$close", "rows": 1, "load": {}},
        {"op": "claim", "expressions": [1], "rows": 1, "load": {}},
        {"op": "claim", "expressions": ["a"], "rows": -1, "load": {}},
        {"op": "claim", "expressions": ["a"], "rows": "many", "load": {}},
        {"op": "claim", "expressions": [f"${n}" for n in range(20_001)], "rows": 1, "load": {}},
    ],
)
def test_a_question_that_makes_no_sense_is_answered_and_switches_sharing_off(side, nonsense):
    only = side()

    answer = only.reporter.ask({"type": "columns", **nonsense}, timeout_s=DEADLINE_S)

    assert "not understood" in answer["off"]
    assert is_right(only.get("$close"), "$close")
    assert not FeatureColumn.objects.exists()


@pytest.mark.parametrize("op", ["made", "damaged", "given_up", "nonsense", None, 7])
def test_news_that_makes_no_sense_harms_nobody(side, op):
    first, second = side(), side()
    first.get("$close")
    first.finish()

    second.reporter.tell({"type": "columns", "op": op, "keys": ["../../etc/passwd", "x"]})
    second.reporter.tell({"type": "columns", "op": op, "keys": 7})

    assert is_right(second.get("$close"), "$close")
    third = side()
    assert is_right(third.get("$close"), "$close")
    assert third.made == []


# ── Left behind ─────────────────────────────────────────────────────────────────────────


def test_what_killed_leaders_left_goes_after_an_hour_and_nothing_else(side, settings):
    import os

    first = side()
    first.get("$close")
    first.finish()
    kept = stored(settings)[0]
    orphan = kept.with_name("f" * 64 + ".npy")
    part = kept.with_name(f".{'e' * 64}.task-x-1.part")
    fresh = kept.with_name("d" * 64 + ".npy")
    for path in (orphan, part, fresh):
        path.write_bytes(b"x")
    for path in (orphan, part, kept):
        os.utime(path, (0, 0))

    desk.sweep(settings.FEATURES_DIR)

    assert set(stored(settings)) == {kept, fresh}


def test_a_desk_in_a_hurry_drops_what_it_has_not_taken_in(side, settings):
    first, second = side(), side()
    first.desk._hurry = True
    first.get("$close")
    first.finish(hurry=True)

    assert is_right(second.get("$close"), "$close")
    assert second.made == ["$close"]


def test_the_header_is_the_one_that_numpy_writes():
    import io

    for rows in (0, 1, 728_674, 10**9):
        told = io.BytesIO()
        form = {"descr": "<f4", "fortran_order": False, "shape": (rows,)}
        np.lib.format.write_array_header_1_0(told, form)

        assert columnfile.header(rows) == told.getvalue()
