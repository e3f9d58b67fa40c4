"""What a start refuses, and what it says then."""

import os
import socket
import stat
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from qlibplatform.local import install, prepare
from qlibplatform.local.prepare import CannotStart

Address = namedtuple("Address", "family address")


def place_in(folder, **environ):
    return prepare.place_from({"PLATFORM_STATE_DIR": str(folder), **environ})


def test_it_listens_on_this_machine_alone_unless_told_otherwise(tmp_path):
    assert place_in(tmp_path).url == "http://127.0.0.1:8000"
    assert place_in(tmp_path, HOST="0.0.0.0", PORT="8001").host == "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "٨٠"])
def test_what_is_no_port_is_refused(tmp_path, port):
    with pytest.raises(CannotStart, match="is not a port"):
        place_in(tmp_path, PORT=port)


def test_a_port_in_use_is_named_with_the_command_that_takes_another(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        place = place_in(tmp_path, PORT=str(port))

        with pytest.raises(CannotStart, match=rf"Port {port} .*PORT={port + 1} make run"):
            prepare.check_port(place)


def test_a_free_port_is_taken_also_while_old_connections_still_time_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()
            client.recv(1)

    prepare.check_port(place_in(tmp_path, PORT=str(port)))


def test_a_host_that_is_not_of_this_machine_is_refused(tmp_path):
    with pytest.raises(CannotStart, match=r"192\.0\.2\.1"):
        prepare.check_port(place_in(tmp_path, HOST="192.0.2.1"))


def test_a_state_directory_that_cannot_be_written_is_named_with_the_cure(tmp_path):
    (tmp_path / "file").touch()
    place = place_in(tmp_path / "file" / "var")

    with pytest.raises(CannotStart, match="PLATFORM_STATE_DIR=/path make run"):
        prepare.make_folders(place)


def test_the_folder_of_sockets_is_for_its_owner_alone(tmp_path):
    place = place_in(tmp_path / "var")

    prepare.make_folders(place)

    assert stat.S_IMODE(place.runtime_dir.stat().st_mode) == 0o700


def test_a_state_directory_that_is_made_is_private_and_one_that_is_there_stays_as_it_is(tmp_path):
    (tmp_path / "there").mkdir(mode=0o755)

    for name in ("made", "there"):
        prepare.make_folders(place_in(tmp_path / name))

    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("made", "there")]
    assert modes == [0o700, 0o755]


def test_the_installer_makes_the_place_of_the_state_private_too(tmp_path, monkeypatch):
    monkeypatch.setattr(install, "CHECKOUT", tmp_path)
    monkeypatch.setattr(install, "LOG", tmp_path / "var" / "log" / "install.log")

    with install._alone():
        assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700


def test_the_first_command_makes_a_private_state_directory_too(tmp_path):
    subprocess.run(
        [sys.executable, "-c", "import qlibplatform.settings"],
        cwd=prepare.CHECKOUT,
        env={"PATH": os.environ["PATH"], "PLATFORM_STATE_DIR": str(tmp_path / "var")},
        check=True,
    )

    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700


def test_a_path_too_long_for_a_socket_gets_a_short_private_folder(tmp_path):
    deep = tmp_path / ("long" * 20) / ("path" * 20)
    place = place_in(deep)

    prepare.make_folders(place)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place.runtime_dir / ("x" * 40)))
    assert not place.runtime_dir.is_relative_to(deep)
    assert stat.S_IMODE(place.runtime_dir.stat().st_mode) == 0o700
    with prepare.hold(place):
        pass
    assert not place.runtime_dir.exists()


def test_the_folder_of_sockets_in_the_state_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "RUNTIME_PATH_MAX_BYTES", 1000)
    place = place_in(tmp_path)
    prepare.make_folders(place)

    with prepare.hold(place):
        pass

    assert place.runtime_dir.exists()


def test_two_long_paths_do_not_share_a_folder(tmp_path):
    deep = tmp_path / ("long" * 20)

    assert place_in(deep / "a").runtime_dir != place_in(deep / "b").runtime_dir


def test_a_link_in_place_of_the_folder_of_sockets_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    place = place_in(tmp_path / "var", PLATFORM_RUNTIME_DIR=str(tmp_path / "link"))

    with pytest.raises(CannotStart, match="belongs to somebody else"):
        prepare.make_folders(place)


def test_a_second_start_on_the_same_state_is_told_of_the_first(tmp_path):
    place = place_in(tmp_path)
    prepare.make_folders(place)

    with (
        prepare.hold(place),
        pytest.raises(CannotStart, match=rf"process {os.getpid()} at http"),
        prepare.hold(place),
    ):
        pass

    with prepare.hold(place):
        pass


def test_the_processes_are_told_of_the_same_places(tmp_path):
    place = place_in(tmp_path)

    settings = prepare.settings_for(place, {})

    assert Path(settings["PLATFORM_STATE_DIR"]) == place.state_dir
    assert Path(settings["PLATFORM_RUNTIME_DIR"]) == place.runtime_dir
    assert settings["PLATFORM_ALLOWED_HOSTS"] == "localhost,127.0.0.1,[::1]"


def test_listening_to_other_machines_allows_the_names_that_they_use(tmp_path):
    assert socket.gethostname() in allowed(tmp_path, HOST="0.0.0.0")  # noqa: S104
    assert "*" not in allowed(tmp_path, HOST="0.0.0.0")  # noqa: S104
    assert "10.1.2.3" in allowed(tmp_path, HOST="10.1.2.3")
    assert "[fd00::3]" in allowed(tmp_path, HOST="fd00::3")


def allowed(folder, environ=None, **where):
    settings = prepare.settings_for(place_in(folder, **where), environ or {})
    return settings["PLATFORM_ALLOWED_HOSTS"].split(",")


def test_listening_everywhere_allows_the_addresses_of_all_interfaces(tmp_path, monkeypatch):
    cards = {
        "lo": [Address(socket.AF_INET, "127.0.0.1")],
        "eth0": [
            Address(socket.AF_INET, "192.0.2.7"),
            Address(socket.AF_INET6, "2001:db8::7"),
            Address(socket.AF_INET6, "fe80::1%eth0"),
            Address(socket.AF_PACKET, "00:00:5e:00:53:01"),
        ],
    }
    monkeypatch.setattr(prepare.psutil, "net_if_addrs", lambda: cards)

    names = allowed(tmp_path, HOST="::")

    assert {"192.0.2.7", "[2001:db8::7]"} < set(names)
    assert [name for name in names if "fe80" in name or "5e:00" in name] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_names_that_are_given_stay_and_this_machine_may_come_too(tmp_path, host):
    names = allowed(tmp_path, {"PLATFORM_ALLOWED_HOSTS": "qlib.lan,127.0.0.1"}, HOST=host)

    assert names == ["localhost", "127.0.0.1", "[::1]", "qlib.lan"]
