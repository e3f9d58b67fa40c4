"""A full disk ends a task clearly: no half artifact, no lost log, no leader that dies of it.

`/dev/full` refuses every byte as a full disk does; a limit of the process on file sizes does so
in the middle of a copy.
"""

import errno
import os
import shutil
from pathlib import Path

import pytest

from training import archive, lifecycle, runner
from training.models import LogChunk
from training.runlog import RunLog
from training.states import Status

pytestmark = pytest.mark.django_db

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_that_can_not_be_written_here_is_still_reported(tmp_path: Path):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    runlog = RunLog(tmp_path)
    runlog.raw.write_bytes(b"of the training\n")

    said = runlog.add("of the leader"), runlog.rest()
    runlog._source.close()
    with pytest.raises(OSError, match="No space left"):
        runlog._kept.close()

    assert "of the leader" in said[0]
    assert "of the training" in said[1]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """What a training has left: one artifact, and the log."""
    place = tmp_path / "attempt"
    (place / archive.HOME / "artifacts").mkdir(parents=True)
    (place / archive.HOME / "artifacts" / "pred.bin").write_bytes(b"x" * 100_000)
    (place / archive.LOG).write_text("a line\n")
    return place


def test_a_copy_that_does_not_fit_leaves_no_half(make_task, scratch, monkeypatch):
    task = make_task(status=Status.RUNNING)

    def other_disk(source: Path, target: Path) -> Path:
        if source.name == "kept":
            raise OSError(errno.EXDEV, "another file system")
        os.rename(source, target)
        return target

    def half(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "pred.bin").write_bytes(b"x")
        raise shutil.Error([("pred.bin", "pred.bin", str(NO_SPACE))])

    monkeypatch.setattr(Path, "rename", other_disk)
    monkeypatch.setattr(shutil, "copytree", half)

    with pytest.raises(archive.NotKept) as raised:
        archive.keep(task, scratch, final=None, kind="completed", points=[])
    monkeypatch.undo()

    assert raised.value.code == "disk_full"
    assert list(archive.folder(task).parent.iterdir()) == []
    assert not archive.holds(task)


def test_no_room_to_start_in_fails_the_task_with_its_cure(make_task, tmp_path, monkeypatch):
    task = make_task(status=Status.RUNNING)

    def no_room(scratch: Path) -> RunLog:
        raise NO_SPACE

    monkeypatch.setattr(runner, "_make_room", no_room)

    runner.lead(task, engine=None, scratch=tmp_path, stop_asked=lambda: False)

    task.refresh_from_db()
    assert (task.status, task.error_code) == (Status.FAILED, "disk_full")
    assert "free some space" in task.error


def test_what_was_kept_is_known_from_what_was_not(make_task, scratch):
    task = make_task(status=Status.RUNNING)
    lifecycle.report(task.id, lifecycle.News(log="a line\n"), attempt=1)
    before = archive.holds(task)

    archive.keep(task, scratch, final=None, kind="failed", points=[])

    assert (before, archive.holds(task)) == (False, True)
    assert LogChunk.objects.count() == 1
