"""The first file that runs must run, and say what is wrong, under a Python that is too old."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from qlibplatform.local import choose_python

SCRIPT = Path(choose_python.__file__)


def test_the_script_keeps_to_the_syntax_of_python_3_6():
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))


@pytest.mark.parametrize(
    ("version", "fits"),
    [((2, 7), False), ((3, 10), False), ((3, 11), True), ((3, 12), True), ((3, 13), False)],
)
def test_a_python_fits_if_the_locked_packages_have_builds_for_it(version, fits):
    assert choose_python.fits(version) is fits


def test_another_python_on_the_path_is_found_though_one_before_it_does_not_run(
    tmp_path, monkeypatch
):
    broken, good = tmp_path / "broken", tmp_path / "good"
    for folder, body in ((broken, "exit 127"), (good, 'echo "3 11"')):
        folder.mkdir()
        (folder / "python3.11").write_text(f"#!/bin/sh\n{body}\n")
        (folder / "python3.11").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{good}")
    monkeypatch.setattr(sys, "version_info", (3, 8, 0))

    assert choose_python.find() == str(good / "python3.11")


def test_without_a_fitting_python_it_names_the_version_and_the_cure(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "version_info", (3, 8, 0))

    with pytest.raises(SystemExit, match=r"is Python 3\.8 .*\n.*apt install python3\.11"):
        choose_python.main(["install.py"])


def test_with_a_fitting_python_the_script_is_run_with_its_arguments(tmp_path):
    script = tmp_path / "told.py"
    script.write_text("import sys; print(sys.argv[1:])")

    told = subprocess.run(
        [sys.executable, SCRIPT, script, "a", "b"], capture_output=True, text=True, check=True
    )

    assert told.stdout == "['a', 'b']\n"
