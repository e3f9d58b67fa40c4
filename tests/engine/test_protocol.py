"""What passes over a channel, and what a reporter makes of it. No process is started here."""

import errno
import json
import math
import os
import socket
from collections.abc import Iterator

import pytest

from training.engine import child, walls
from training.engine.protocol import MAX_LINE_BYTES, Channel, Malformed, clean
from training.engine.reporter import Cancelled, Reporter
from training.engine.verdict import Limits, classify

LIMITS = Limits(memory_bytes=4 * 10**9, wall_s=6 * 3600)
DONE = {"type": "done", "stopped": None, "result": {}}
CRASH_RSS = 10**9


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = (Channel(end) for end in socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def ended(*, code: int | None = None, by: int = 0, rss: int = CRASH_RSS) -> dict[str, object]:
    return {"type": "exit", "code": code, "signal": by, "max_rss_bytes": rss}


def judge(final=None, end=None, killed=None, peak=0):
    return classify(
        final=final, ended=end, killed_because=killed, peak_memory_bytes=peak, limits=LIMITS
    )


def receive_for_ever(channel: Channel) -> None:
    while True:
        channel.receive()


def everything(channel: Channel) -> list[dict[str, object]]:
    messages = []
    while channel.is_ready() and not channel.is_closed:
        messages += channel.receive()
    return messages


def test_what_json_cannot_hold_is_cleaned_at_the_source():
    dirty = {"a": math.nan, "b": [math.inf, 1.5], "c": "nul\0 lone\ud800", 4: {1, 2} and (1, None)}

    cleaned = clean(dirty)

    assert cleaned == {"a": None, "b": [None, 1.5], "c": "nul\ufffd lone?", "4": [1, None]}
    json.dumps(cleaned, allow_nan=False)


def test_numpy_scalars_become_numbers_and_arrays_text():
    numpy = pytest.importorskip("numpy")

    cleaned = clean([numpy.float32(0.5), numpy.int64(3), numpy.bool_(True), numpy.float64("nan")])

    assert cleaned == [0.5, 3, True, None]
    assert clean(numpy.zeros(1)) == "[0.]"


def test_messages_arrive_whole_and_in_order_however_the_bytes_are_cut(pair):
    ours, theirs = pair
    raw = b'{"n":1}\n{"n":2}\n{"n":3}\n'

    received = []
    for start in range(0, len(raw), 5):
        os.write(ours.fileno(), raw[start : start + 5])
        received += theirs.receive()

    assert [message["n"] for message in received] == [1, 2, 3]


def test_what_comes_in_one_read_with_the_awaited_message_is_kept(pair):
    left, right = pair
    left.send({"job": 1})
    left.send({"op": "finish"})
    left.send({"op": "abort"})

    assert right.receive_one(1) == {"job": 1}
    assert right.is_ready()
    assert right.receive() == [{"op": "finish"}, {"op": "abort"}]
    assert not right.is_ready()


def test_descriptors_travel_with_a_message(pair):
    ours, theirs = pair
    read_end, write_end = os.pipe()

    ours.send({"type": "start"}, [write_end])
    os.close(write_end)
    theirs.receive()
    os.write(theirs.descriptors[0], b"hello")

    assert os.read(read_end, 5) == b"hello"
    os.close(read_end)


def test_a_peer_killed_with_unread_data_is_an_end_and_no_error(pair):
    ours, theirs = pair
    theirs.send({"type": "unread"})
    theirs.close()

    everything(ours)
    ours.receive()

    assert ours.is_closed


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b"[" * 100_000 + b"\n"])
def test_a_line_that_is_no_json_object_is_malformed(pair, line):
    ours, theirs = pair
    os.write(ours.fileno(), line)

    with pytest.raises(Malformed):
        receive_for_ever(theirs)


def test_an_endless_line_is_refused_before_it_fills_the_memory(pair):
    ours, theirs = pair
    sent = 0
    refused = False

    while not refused and sent <= 2 * MAX_LINE_BYTES:
        sent += os.write(ours.fileno(), b"x" * 2**16)
        try:
            theirs.receive()
        except Malformed:
            refused = True

    assert refused
    assert sent <= MAX_LINE_BYTES + 2**16


def test_progress_is_thinned_but_its_end_is_always_told(pair):
    ours, theirs = pair
    reporter = Reporter(theirs)

    reporter.stage("fit")
    for done in range(1, 101):
        reporter.progress(done, 100, unit="iteration")

    told = [message["done"] for message in everything(ours) if message["type"] == "progress"]
    assert told[-1] == 100
    assert len(told) <= 4


def test_no_metric_point_is_dropped_and_they_go_in_few_messages(pair):
    ours, theirs = pair
    reporter = Reporter(theirs)

    for step in range(500):
        reporter.metrics([("l2", step, math.inf if step == 7 else step / 2)])
    reporter.done({})

    messages = everything(ours)
    points = [p for m in messages if m["type"] == "metrics" for p in m["points"]]
    assert [point["step"] for point in points] == list(range(500))
    assert (points[7]["value"], points[8]["value"]) == (None, 4.0)
    assert points[0]["at"].endswith("Z")
    assert len(messages) < 10
    assert messages[-1] == {"type": "done", "stopped": None, "result": {}}


def test_an_abort_is_raised_at_the_next_progress_and_stays(pair):
    ours, theirs = pair
    reporter = Reporter(theirs)
    reporter.progress(1, 9, unit="step")
    ours.send({"op": "finish"})
    ours.send({"op": "abort"})

    with pytest.raises(Cancelled):
        reporter.progress(2, 9, unit="step")

    ours.send({"op": "finish"})
    assert reporter.order() == "abort"


def test_finish_is_heard_without_raising_and_told_at_the_end(pair):
    ours, theirs = pair
    reporter = Reporter(theirs)

    assert reporter.order() is None
    ours.send({"op": "finish"})
    reporter.progress(1, 9, unit="step")
    reporter.done({})

    assert reporter.order() == "finish"
    assert everything(ours)[-1]["stopped"] == "finish"


def test_a_leader_that_is_gone_counts_as_an_abort(pair):
    ours, theirs = pair
    reporter = Reporter(theirs)
    ours.close()

    with pytest.raises(Cancelled):
        reporter.progress(1, 2, unit="step")


def test_a_training_that_was_done_is_completed_even_if_cancelled_a_moment_later():
    assert judge(DONE, ended(code=0), killed="cancelled").kind == "completed"
    assert judge(DONE, ended(code=0)).kind == "completed"
    assert judge(DONE, ended(by=9), killed="cancelled").kind == "cancelled"


def test_over_the_memory_limit_tells_peak_limit_and_cure():
    outcome = judge(end=ended(by=9), killed="out_of_memory", peak=5_100_000_000)

    assert (outcome.kind, outcome.code) == ("failed", "out_of_memory")
    assert outcome.error == (
        "The training used 5.1 GB of 4.0 GB memory and was stopped; "
        "use fewer instruments, features or a shorter range."
    )


def test_a_crash_near_the_memory_limit_is_out_of_memory_and_far_from_it_is_not():
    near = judge(end=ended(by=11, rss=3_900_000_000))
    killed = judge(end=ended(by=9, rss=3_900_000_000))
    far = judge(end=ended(by=11, rss=500_000_000))

    assert near.code == killed.code == "out_of_memory"
    assert far.code == "training_killed"
    assert "signal 11 (SIGSEGV); peak memory 500 MB" in far.error


@pytest.mark.parametrize(
    ("final", "end", "killed", "kind", "code", "words"),
    [
        (None, ended(by=9), "timed_out", "failed", "timed_out", "limit of 6.0 h"),
        (None, ended(by=24), None, "failed", "timed_out", "peak memory 1.0 GB"),
        (None, ended(by=9), None, "failed", "training_killed", "signal 9 (SIGKILL)"),
        (None, ended(code=70), None, "failed", "training_error", "exit code 70"),
        (None, ended(by=9), "cancelled", "cancelled", "cancelled", "was cancelled"),
        (None, ended(by=9), "shutdown", "failed", "shutdown", "(shutdown)"),
        (None, None, None, "host_lost", "host_lost", "host died"),
    ],
)
def test_every_end_has_its_kind_code_and_sentence(final, end, killed, kind, code, words):
    outcome = judge(final, end, killed)

    assert (outcome.kind, outcome.code) == (kind, code)
    assert words in outcome.error


@pytest.mark.parametrize(
    ("code", "kind"), [("training_error", "failed"), ("cancelled", "cancelled")]
)
def test_a_failure_keeps_the_code_that_the_training_gave(code, kind):
    final = {"type": "failed", "code": code, "error": "ValueError: no such column"}

    outcome = judge(final, ended(code=1))

    assert (outcome.kind, outcome.code) == (kind, code)
    assert outcome.error == (final["error"] if kind == "failed" else "The training was cancelled.")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_though_the_log_lies_on_it(pair, monkeypatch, number):
    leader, training = pair

    def train(job, reporter):
        raise OSError(number, os.strerror(number))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(child.traceback, "print_exception", full)
    leader.send({"type": "job"})

    code = child.run_job(training, walls.Fence(0, ""), lambda job: train)

    told = [message for message in everything(leader) if message["type"] == "failed"]
    assert (code, told[0]["code"]) == (child.EXIT_FAILED, "disk_full")


def test_a_training_that_was_asked_to_stop_logs_no_traceback(pair, capfd):
    leader, training = pair

    def train(job, reporter):
        raise Cancelled

    leader.send({"type": "job"})
    child.run_job(training, walls.Fence(0, ""), lambda job: train)

    assert "Traceback" not in capfd.readouterr().err
    assert [one["code"] for one in everything(leader) if one["type"] == "failed"] == ["cancelled"]
