"""Artifacts are whole or absent, stay inside their folder, and are known by their hash."""

import hashlib
import os

import pytest

from training.engine.artifacts import ArtifactFolder


@pytest.fixture
def folder(tmp_path):
    return ArtifactFolder(tmp_path / "artifacts")


def test_an_artifact_is_listed_with_its_path_size_and_hash(folder):
    folder.write("sig_analysis/ic.pkl", lambda part: part.write_bytes(b"four"))

    (listed,) = folder.list()
    expected = {
        "path": "sig_analysis/ic.pkl",
        "bytes": 4,
        "sha256": hashlib.sha256(b"four").hexdigest(),
    }
    assert listed.as_dict() == expected
    assert (folder.root / "sig_analysis" / "ic.pkl").read_bytes() == b"four"


def test_a_writer_that_fails_leaves_the_older_file_and_nothing_else(folder):
    folder.write("params.pkl", lambda part: part.write_bytes(b"old"))

    def fail_half_way(part):
        part.write_bytes(b"ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        folder.write("params.pkl", fail_half_way)

    assert os.listdir(folder.root) == ["params.pkl"]
    assert (folder.root / "params.pkl").read_bytes() == b"old"
    assert folder.list()[0].bytes == 3


def test_the_name_appears_only_when_the_file_is_whole(folder):
    seen = []

    def write_and_look(part):
        part.write_bytes(b"whole")
        seen.append((folder.root / "pred.pkl").exists())

    folder.write("pred.pkl", write_and_look)

    assert seen == [False]
    assert (folder.root / "pred.pkl").exists()


def test_a_later_write_of_the_same_name_replaces_the_earlier(folder):
    folder.write("a", lambda part: part.write_bytes(b"1"))
    folder.write("a", lambda part: part.write_bytes(b"22"))

    assert [artifact.bytes for artifact in folder.list()] == [2]


def test_who_reads_the_older_file_reads_it_to_its_end_unchanged(folder):
    folder.write("report.json", lambda part: part.write_bytes(b"old"))

    with (folder.root / "report.json").open("rb") as reader:
        folder.write("report.json", lambda part: part.write_bytes(b"new"))

        assert reader.read() == b"old"
    assert (folder.root / "report.json").read_bytes() == b"new"


@pytest.mark.parametrize("path", ["../out", "a/../../out", "/etc/out", "", ".", "half.part"])
def test_a_path_out_of_the_folder_is_refused_and_nothing_written(folder, path):
    with pytest.raises(ValueError, match="no file name inside"):
        folder.write(path, lambda part: part.write_bytes(b"x"))

    assert list(folder.root.iterdir()) == []
    assert folder.list() == []


def test_json_with_a_number_that_json_lacks_is_refused(folder):
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json("report.json", {"ic": [float("nan")]})

    assert folder.list() == []
