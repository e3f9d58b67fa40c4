"""The installer, interrupted: a half-installed environment is never taken for a whole one."""

import pytest

from qlibplatform.local import install


@pytest.fixture
def done(tmp_path, monkeypatch):
    """What the installer does, in its order; `done.breaks` is what is interrupted."""
    venv = tmp_path / ".venv"

    class Done(list):
        breaks = ""

        def note(self, step):
            self.append(step)
            if step == self.breaks:
                raise KeyboardInterrupt

    done = Done()
    for name, path in {"VENV": venv, "STAMP": venv / "s", "UNFINISHED": venv / "u"}.items():
        monkeypatch.setattr(install, name, path)

    def make():
        done.append("venv")
        venv.mkdir(exist_ok=True)
        for left in venv.iterdir():
            left.unlink()

    monkeypatch.setattr(install, "_make_venv", make)
    monkeypatch.setattr(install, "_venv_works", venv.exists)
    monkeypatch.setattr(install, "_compile_kernels", lambda: done.append("kernels"))
    monkeypatch.setattr(install, "_pip", lambda title, *_: done.note("installer"))
    monkeypatch.setattr(install, "_uv_or_pip", lambda title, *_: done.note(title))
    return done


def test_an_installation_that_is_there_is_not_made_again(done):
    install._install(["base"])
    install._install(["base"])

    assert done == ["venv", "installer", "Installing base"]


@pytest.mark.parametrize("breaks", ["installer", "Installing base"])
def test_an_interrupted_installation_begins_anew(done, breaks):
    done.breaks = breaks
    with pytest.raises(KeyboardInterrupt):
        install._install(["base"])

    done.breaks = ""
    done.clear()
    install._install(["base"])
    install._install(["base"])

    assert done == ["venv", "installer", "Installing base"]


def test_what_was_installed_before_an_interruption_comes_again(done):
    install._install(["base", "models"])
    done.breaks = "Installing dev"
    with pytest.raises(KeyboardInterrupt):
        install._install(["dev"])

    done.breaks = ""
    done.clear()
    install._install(["base"])

    assert done == ["venv", "installer", "Installing base, models"]
