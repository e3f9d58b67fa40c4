"""What the terminal shows of a training: only what was told or measured."""

import io

import pytest
from rich.console import Console

from qlibplatform.local import prepare
from qlibplatform.local.terminal import Pace, Watch, show_ready, show_result


def event(kind="progress", stage="fit", progress=50.0, message="", **data):
    return {
        "type": kind,
        "stage": stage,
        "progress": progress,
        "message": message,
        "data": {"stage": stage, **data},
    }


def lines_of(events, *, is_terminal=False):
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_terminal, width=120)
    Watch(console).follow(events)
    return output.getvalue()


def test_no_time_left_is_told_before_it_was_measured():
    pace = Pace()

    pace.hear(event(done=1, total=100), now=10.0)

    assert pace.text(10.5) == ""


def test_the_time_left_of_a_stage_ticks_and_says_nothing_of_the_next():
    pace = Pace()
    pace.hear(event(done=20, total=100, stage_eta_s=40.0), now=15.0)

    assert pace.text(15.0) == "up to 40 s left in fit"
    assert pace.text(18.0) == "up to 37 s left in fit"
    pace.hear(event(stage="predict"), now=19.0)
    assert pace.text(19.0) == ""


def test_the_platforms_own_estimate_is_taken_for_the_whole():
    pace = Pace()

    pace.hear(event(done=1, total=100, stage_eta_s=9.0, eta_s=30.0), now=10.0)

    assert pace.text(14.0) == "26 s left"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_fit_shows_its_round_and_its_newest_metric(is_terminal):
    points = [{"name": "valid.l2", "step": 12, "value": 0.98765, "at": "2026-01-01T00:00:00Z"}]

    text = lines_of(
        [
            event("progress", done=12, total=300, unit="iteration", stage="fit"),
            event("metric", points=points, progress=60.0),
        ],
        is_terminal=is_terminal,
    )

    assert "iteration 12 of 300, valid.l2 0.98765" in text


def test_a_metric_without_a_value_is_not_shown():
    points = [{"name": "valid.l2", "step": 1, "value": None, "at": "2026-01-01T00:00:00Z"}]

    assert "valid.l2" not in lines_of([event("metric", points=points)])


def test_without_a_terminal_there_is_a_line_per_stage_and_tenth():
    events = [event(progress=float(percent)) for percent in range(40, 60)]

    assert len(lines_of(events).splitlines()) == 2


def test_what_a_message_says_is_text_and_no_markup():
    assert "[red]x" in lines_of([event(message="[red]x")], is_terminal=True)


def result_of(**task):
    output = io.StringIO()
    whole = {"name": "", "id": "task-1", "model": "LGBModel", "dataset": "demo", **task}
    show_result(Console(file=output, width=100), whole)
    return output.getvalue()


def test_a_metric_that_was_not_computed_is_absent():
    text = result_of(status="completed", result={"metrics": {"ic": 0.0312}, "timings": {}})

    assert "0.0312" in text
    assert "Rank IC" not in text


def test_a_failed_training_shows_its_error_and_no_table():
    text = result_of(status="failed", error="out of memory", result={})

    assert text == "The demo training failed: out of memory\n"


@pytest.mark.parametrize("token", ["qp_secret", None])
def test_what_is_to_be_pasted_stands_whole_whatever_is_in_the_address(tmp_path, token):
    place = prepare.place_from({"HOST": "::1", "PLATFORM_STATE_DIR": str(tmp_path / "of [x]")})
    output = io.StringIO()

    console = Console(file=output, width=40)
    show_ready(console, place, after_s=2.0, token=token, task_id=None)

    text = output.getvalue()
    assert "Ready at http://[::1]:8000/ (up in 2 s)" in text
    assert f"Logs: {place.log_dir}. Ctrl-C" in text
    assert f"export TOKEN={token or '…'}" in text
