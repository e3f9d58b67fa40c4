"""Every command and file of deploy/: parsed by what will read it; the plan of install.sh run."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.urls import Resolver404, resolve

from tests import postgres
from tests.deploy.test_nginx import make_certificate
from tests.e2e import databases

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.*"))
UNITS = [unit for unit in UNITS if unit.is_file()]
README = (DEPLOY / "README.md").read_text()
COMMANDS = [line[4:] for line in README.splitlines() if line.startswith("    ")]
SYSTEM = {
    "apt-get", "chmod", "chown", "cp", "curl", "echo", "git", "journalctl", "mkdir",
    "pg_ctlcluster", "promtool", "rm", "runuser", "scp", "sed", "systemctl",
}  # fmt: skip
NOT_EVERYWHERE = {"pg_ctlcluster", "promtool", "scp"}
INLINE = [
    text
    for line in README.splitlines()
    if not line.startswith("    ")
    for text in re.findall(r"`([^`]+)`", line)
    if re.match(r"(systemctl|deploy/install\.sh|qlib-manage|journalctl|manage\.py) \w", text)
]
UV = "/opt/qlib-platform/current/.venv/bin/uv"
UV_HERE = Path(sys.executable).parent / "uv"
INSTALLER = (DEPLOY / "install.sh").read_text()
SEARCH = import_module("training.migrations.0013_parts_of_names")
SETTINGS = set(re.findall(r'env\.\w+\(\s*"(\w+)"', (ROOT / "qlibplatform/settings.py").read_text()))


def manage(words):
    """Parse a management command's words as Django would; fails where it would."""
    command = load_command_class(get_commands()[words[0]], words[0])
    parser = command.create_parser("manage.py", words[0])
    parser.parse_args(words[1:])


def install(*words, script=DEPLOY / "install.sh", **environment):
    return subprocess.run(
        ["bash", script, *words],
        capture_output=True,
        text=True,
        check=False,
        # A python3 that the platform runs on.
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | environment,
    )


# ── README.md ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("line", COMMANDS + INLINE)
def test_every_command_of_the_readme_is_one(line):
    if re.match(r"PLATFORM_\w+=", line):
        assert line.split("=")[0].removeprefix("PLATFORM_") in SETTINGS
        return
    if line.startswith("CREATE "):
        # Of the administrator's SQL all is told by the migration that could not do it.
        assert line.removesuffix(";") in {SEARCH.EXTENSION, SEARCH.INDEX}
        return
    program, *words = shlex.split(line)
    if program == "qlib-manage":
        manage(words)
    elif program == "deploy/install.sh":
        dry = [word for word in words if word != "--dry-run"]
        done = install(*dry, "--dry-run")
        assert done.returncode == 0, done.stderr
        assert "would run" in done.stdout
    elif program == "podman-compose":
        run_in_a_container(words)
    elif program == UV:
        # With --help it looks at its words, and does nothing.
        subprocess.run([UV_HERE, *words, "--help"], check=True, capture_output=True)
    else:
        assert program in SYSTEM
        assert shutil.which(program) or program in NOT_EVERYWHERE
        if program == "runuser":
            check_postgres(words)
        for word in words:
            check_word(word)


def check_postgres(words):
    """What the user postgres is to run: a program with options that it has."""
    *_, program = [word for word in words[:6] if word in {"psql", "pg_basebackup"}]
    options = [word.split("=")[0] for word in words[words.index(program) :] if word[0] == "-"]
    told = subprocess.run(
        [f"{postgres.programs()}/{program}", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert [option for option in options if not re.search(rf"\s{option}\b", told)] == []


def run_in_a_container(words):
    """A service of the compose file, with a command of ours or its own, and a volume's folder."""
    assert words[:2] == ["-f", "deploy/compose.yml"]
    if words[2] == "build":
        assert words[3:] == ["--build-arg", "RELEASE=$(git rev-parse --short=12 HEAD)"]
        return
    if words[2:] == ["up", "-d"]:
        return
    assert words[2:4] == ["run", "--rm"]
    told = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    service = told["services"][words[4]]
    assert words[5:7] == ["python", "manage.py"]
    manage(words[7:])
    mounted = {volume.split(":")[1] for volume in service["volumes"]}
    assert {word for word in words if word.startswith("/var/")} <= mounted


def check_word(word):
    """A file of ours is there, one of the machine's is made by the installer, a unit is shipped."""
    if word.startswith("deploy/"):
        assert (ROOT / word).exists()
    elif "/etc/qlib-platform" in word:
        assert "ETC=/etc/qlib-platform" in INSTALLER
        assert word.rpartition("/")[2] in {"environment", "qlib-platform"}
    elif "/etc/redis/qlib-platform" in word:
        assert "/etc/redis/qlib-platform.{acl,conf}" in INSTALLER
    elif found := re.fullmatch(r"(qlib[\w-]*)(@[\w-]*)?(\.\w+)?", word):
        names = {unit.name for unit in UNITS}
        kinds = [found[3]] if found[3] else [".service"]
        name = found[1] + ("@" if found[2] else "")
        assert any(name + kind in names for kind in kinds), word
    elif url := re.match(r"https://qlib\.example\.org(/.*)", word):
        resolve(re.sub(r"\$\w+", "cpu-1", url[1]))


def test_every_file_that_the_readme_names_exists_and_every_file_is_named():
    named = set(re.findall(r"`(deploy/[\w./-]+)`", README))
    there = {f"deploy/{path.name}" + "/" * path.is_dir() for path in DEPLOY.iterdir()}

    # The pictures are the main README's.
    assert named == there - {"deploy/README.md", "deploy/pictures/"}


def test_every_setting_that_is_named_anywhere_is_one():
    pictures = DEPLOY / "pictures"
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.parent != pictures]
    texts = [path.read_text() for path in files]
    named = {name for text in texts for name in re.findall(r"\bPLATFORM_([A-Z0-9_]+[A-Z])\b", text)}

    assert len(named) > 10
    assert named - SETTINGS == set()


def test_every_address_that_the_readme_names_is_answered():
    for path in re.findall(r"`(/(?:api/|healthz|readyz|metrics)\w*)`", README):
        try:
            resolve(path)
        except Resolver404:
            pytest.fail(f"{path} is no address of ours")


# ── systemd ─────────────────────────────────────────────────────────────────────────────


def sections(unit):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(unit)
    return parser


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_that_there_is(unit):
    line = sections(unit).get("Service", "ExecStart", fallback="")
    found = re.search(r"manage\.py (.*)", line)
    if found:
        words = found[1].replace('"$${0%%%%-*}"', "cpu").replace('"$$0-$$(uname -n)"\' %i', "name")
        manage(shlex.split(words))
    elif unit.suffix == ".service":
        assert "-m qlibplatform.web --fd 3 qlibplatform.asgi:application" in line


SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_what_a_unit_says_is_not_undone_by_what_holds_for_all(unit):
    own = dict(sections(unit)["Service"])
    common = dict(sections(DEPLOY / "systemd/qlib-.service.d/common.conf")["Service"])
    # Of this one both hold.
    common.pop("ReadWritePaths")

    assert {**own, **common}.items() >= own.items()
    lasts = "Restart" in own
    assert own["Type"] == ("exec" if lasts else "oneshot")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_target_stops_everything_and_starts_it_again(unit):
    told = sections(unit)
    if unit.suffix not in {".service", ".socket", ".timer"}:
        return

    assert told.get("Unit", "PartOf", fallback="") == "qlib-platform.target"
    starts = unit.with_suffix(".timer").exists() or unit.with_suffix(".socket").exists()
    if unit.suffix != ".service" or not starts:
        assert "qlib-platform.target" in told["Install"]["WantedBy"].split()


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemctl")
def test_a_worker_that_another_target_wanted_comes_to_ours(tmp_path):
    units = shutil.copytree(DEPLOY / "systemd", tmp_path / "etc/systemd/system")
    worker = "qlib-worker@cpu-1.service"
    (units / "multi-user.target.wants").mkdir()
    (units / "multi-user.target.wants" / worker).symlink_to(units / "qlib-worker@.service")

    told = [words for words in ordered(plan_of("worker", tmp_path)) if "able qlib-worker" in words]
    for words in told:
        command = ["systemctl", f"--root={tmp_path}", *words.split()]
        subprocess.run(command, check=True, capture_output=True)

    assert [file.parent.name for file in units.glob("*/qlib-worker@*")] == [
        "qlib-platform.target.wants"
    ]


def test_processes_are_hidden_from_all_but_the_worker():
    """A worker's own are not to be traced, and so it would not see them itself."""
    common = (DEPLOY / "systemd/qlib-.service.d/common.conf").read_text()
    hiding = {unit.name for unit in SERVICES if "\nProtectProc=" in unit.read_text()}

    assert "ProtectProc" not in common
    assert hiding == {unit.name for unit in SERVICES} - {"qlib-worker@.service"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(tmp_path):
    """With programs that are there: the paths of a fresh machine are not on this one."""
    (tmp_path / "qlib-.service.d").mkdir()
    for path in (DEPLOY / "systemd").rglob("*.*"):
        if path.is_file():
            text = path.read_text().replace(
                "/opt/qlib-platform/current/.venv/bin/python", sys.executable
            )
            (tmp_path / path.relative_to(DEPLOY / "systemd")).write_text(text)
    names = [unit.name.replace("@.", "@1.") for unit in UNITS]
    for unit in UNITS:
        if "@." in unit.name:
            (tmp_path / unit.name.replace("@.", "@1.")).symlink_to(unit.name)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        cwd=tmp_path,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )

    ours = [line for line in done.stderr.splitlines() if "qlib" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr


# ── install.sh ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["all", "worker", "rollback", "uninstall"])
def test_a_dry_run_says_the_steps_and_touches_nothing(command, tmp_path):
    done = install(command, "--dry-run", "--purge")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n== ") >= 2 or command == "rollback"
    assert not Path("/opt/qlib-platform").exists()
    assert not Path("/etc/qlib-platform").exists()


def test_the_purge_stops_everything_before_it_drops_the_database():
    plan = install("uninstall", "--purge", "--dry-run").stdout

    stopped, dropped = plan.index("systemctl stop"), plan.index("dropdb --force")
    assert stopped < plan.index("rm -rf /opt/qlib-platform") < dropped
    # Where PostgreSQL fails, the folder with its password is there still.
    assert dropped < plan.index("rm -rf /var/lib/qlib-platform")
    for unit in UNITS:
        kind = unit.name.replace("@.", "@*.")
        assert any(
            fnmatch(kind, word.strip("'")) for word in plan[stopped:].splitlines()[0].split()
        ), kind


@pytest.mark.postgres
def test_the_purge_drops_a_database_that_somebody_is_connected_to():
    """The installer's own command, where PostgreSQL's tests have their server."""
    plan = install("uninstall", "--purge", "--dry-run").stdout
    command = re.search(r"runuser -u postgres -- (dropdb .*) qlib$", plan, flags=re.MULTILINE)
    with databases.fresh("postgresql") as url:
        place = urlsplit(url)
        options = [f"--host={parse_qs(place.query)['host'][0]}", f"--username={place.username}"]
        with psycopg.connect(url) as reconciler:
            reconciler.execute("SELECT 1")

            subprocess.run(
                [f"{postgres.programs()}/{command[1].split()[0]}", *command[1].split()[1:],
                 *options, place.path.strip("/")],
                check=True,
            )  # fmt: skip

            with pytest.raises(psycopg.OperationalError):
                reconciler.execute("SELECT 1")


def installer_of(place):
    """A copy of the installer whose settings, releases and units are in a place."""
    script = shutil.copytree(DEPLOY, place / "deploy", dirs_exist_ok=True) / "install.sh"
    text = script.read_text()
    for name, usual in {
        "OPT": "/opt/qlib-platform",
        "ETC": "/etc/qlib-platform",
        "UNITS": "/etc/systemd/system",
    }.items():
        assert f"{name}={usual}" in text
        text = text.replace(f"{name}={usual}", f"{name}={place}")
    script.write_text(text)
    (place / "RELEASE").write_text("tested")
    return script


def plan_of(command, place, *words):
    """What such a copy would do."""
    done = install(command, "--dry-run", *words, script=installer_of(place))
    assert done.returncode == 0, done.stderr
    return done.stdout


def do(place, steps, *words):
    """Let such a copy do some of its steps, and nothing else."""
    script = installer_of(place)
    functions, mark, _ = script.read_text().partition("BASE_PACKAGES=(")
    assert mark
    script.write_text(f"{functions}\n{steps}\n")
    return install("all", *words, script=script)


def enable(place, target, *units):
    (place / f"{target}.wants").mkdir()
    for unit in units:
        (place / f"{target}.wants" / unit).touch()


def ordered(plan):
    """What systemd would be told, in order."""
    return [line.split("systemctl ")[1] for line in plan.splitlines() if "run: systemctl " in line]


def test_an_upgrade_keeps_to_what_was_chosen(tmp_path):
    (tmp_path / "choices").write_text("HOST=chosen.example.org\nWORKERS=cpu-1,torch-2\n")

    plan = plan_of("all", tmp_path)

    assert "https://chosen.example.org/" in plan
    assert "start qlib-worker@cpu-1.service qlib-worker@torch-2.service" in ordered(plan)
    assert f"would write {tmp_path}/choices" in plan


@pytest.mark.parametrize("command", ["all", "rollback"])
def test_everything_that_runs_changes_its_release_the_web_one_after_the_other(tmp_path, command):
    enable(tmp_path, "sockets.target", "qlib-web@1.socket", "qlib-web@2.socket")
    (tmp_path / "choices").write_text("WEBS=2\n")

    told = ordered(plan_of(command, tmp_path))

    begin = told.index("try-restart qlib-web@1.service")
    assert told[begin : begin + 4] == [
        "try-restart qlib-web@1.service",
        "try-restart qlib-web@2.service",
        "try-restart qlib-reconcile.service qlib-export.service",
        "try-restart qlib-worker@*.service",
    ]


def test_a_worker_that_is_not_chosen_any_more_is_stopped_for_good(tmp_path):
    enable(tmp_path, "multi-user.target", "qlib-worker@cpu-1.service", "qlib-worker@cpu-2.service")
    enable(tmp_path, "qlib-platform.target", "qlib-worker@cpu-3.service")
    (tmp_path / "choices").write_text("WORKERS=cpu-1\n")

    told = ordered(plan_of("worker", tmp_path))

    assert [words for words in told if "disable --now" in words] == [
        "disable --now qlib-worker@cpu-2.service",
        "disable --now qlib-worker@cpu-3.service",
    ]
    assert {"enable --now qlib-platform.target", "enable qlib-worker@cpu-1.service"} < set(told)


def test_web_processes_are_as_many_as_chosen_and_nginx_knows_each(tmp_path):
    enable(
        tmp_path, "sockets.target", "qlib-web@1.socket", "qlib-web@2.socket", "qlib-web@3.socket"
    )
    (tmp_path / "choices").write_text("WEBS=2\n")

    plan = plan_of("all", tmp_path)

    told = ordered(plan)
    begin = told.index("enable --now qlib-web@1.socket qlib-web@2.socket")
    assert (
        begin
        < told.index("reload-or-restart nginx")
        < told.index("disable --now qlib-web@3.socket")
    )
    assert "start qlib-web@1.service qlib-web@2.service qlib-reconcile.service" in told
    assert [words for words in told if "disable --now" in words] == [
        "disable --now qlib-web@3.socket"
    ]


@pytest.mark.parametrize(
    ("chosen", "ports"), [([], ["8001"]), (["--webs", "3"], ["8001", "8002", "8003"])]
)
def test_both_upstreams_have_a_line_for_each_web_process(tmp_path, chosen, ports):
    """The site's text goes to the end of the tests' pipe, for `write` is replaced."""
    steps = "write() { cat; }; run() { :; }; systemd() { :; }; certificate() { :; }; nginx_site"

    site = do(tmp_path, steps, *chosen).stdout

    assert re.findall(r"^    server 127\.0\.0\.1:(\d+);$", site, flags=re.MULTILINE) == ports * 2


def test_a_first_installation_disables_no_worker(tmp_path):
    assert "disable --now" not in plan_of("all", tmp_path)


@pytest.mark.parametrize("command", ["all", "worker"])
def test_an_upgrade_leaves_the_release_before_it_and_no_older_one(tmp_path, command):
    for name in ("oldest", "older", "old"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "old")
    (tmp_path / "previous").symlink_to(tmp_path / "releases" / "older")

    plan = plan_of(command, tmp_path)

    gone = re.findall(r"rm -rf \S*/releases/(old\w*)", plan)
    assert gone == ["older", "oldest"]
    assert plan.rindex("systemctl") < plan.index("/releases/older") < plan.index("The doctor")


def test_the_same_release_again_keeps_the_one_before_it(tmp_path):
    for name in ("tested", "older", "oldest"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "tested")
    (tmp_path / "previous").symlink_to(tmp_path / "releases" / "older")

    plan = plan_of("all", tmp_path)

    assert "== Release tested in" in plan
    assert re.findall(r"rm -rf \S*/releases/(old\w*)", plan) == ["oldest"]


def test_servers_are_restarted_for_new_settings_only(tmp_path):
    """By the installer's own functions. What a run that is cut off owes, the next one pays."""
    functions = INSTALLER[INSTALLER.index("OWED=") : INSTALLER.index("secret() {")]
    owner = ":".join(
        subprocess.check_output(["id", flag], text=True).strip() for flag in ("-u", "-g")
    )
    settle, serve = f"settle redis {tmp_path}/file 0600 {owner} <<<", "serve redis"
    steps = [settle + "a", serve, settle + "a", serve, settle + "b", settle + "b", serve, serve]
    stand_ins = "has_systemd() { true; }; systemctl() { echo $1; }"
    script = "\n".join([f"DRY=; ETC={tmp_path}", functions, stand_ins, *steps])

    told = subprocess.check_output(["bash", "-euc", script], text=True)

    assert told.split() == ["restart", "start", "restart", "start"]
    plan = "\n".join([f"DRY=1; ETC={tmp_path}", functions, stand_ins, settle + "c", serve])
    assert "would run: systemctl restart redis" in subprocess.check_output(
        ["bash", "-euc", plan], text=True
    )
    assert "systemd restart redis" not in INSTALLER
    assert "systemd restart nginx" not in INSTALLER


def test_a_file_that_cannot_be_written_ends_the_run(tmp_path):
    functions = INSTALLER[INSTALLER.index("OWED=") : INSTALLER.index("secret() {")]
    settle = f"settle redis {tmp_path}/file 0600 nobody-of-that-name:x <<<a"
    script = "\n".join([f"DRY=; ETC={tmp_path}", functions, settle, "echo went on"])

    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert done.stdout == ""
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("words", [["everything"], ["all", "--fast"]])
def test_what_it_does_not_know_it_does_not_guess(words):
    done = install(*words)

    assert done.returncode == 2
    assert "install.sh COMMAND" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--workers", "--dry-run"],
        ["--dry-run", "--host"],
        ["--dry-run", "--host", ""],
        ["--dry-run", "--host", "a b"],
        ["--dry-run", "--host", "x;rm"],
        ["--dry-run", "--host", "https://qlib.example.org"],
        ["--dry-run", "--workers", "foo-1"],
        ["--dry-run", "--workers", "cpu"],
        ["--dry-run", "--workers", "cpu-1,,cpu-2"],
        ["--dry-run", "--webs", "0"],
        ["--dry-run", "--webs", "10"],
        ["--dry-run", "--python", "python9"],
        ["--dry-run", "--python", "/bin/true/python3"],
        ["--dry-run", "--certificate", "/nowhere.pem", "--key", "/nowhere.key"],
        ["--dry-run", "--certificate", "/etc/hostname", "--key", "/nowhere.key"],
        ["--dry-run", "--certificate", "/etc/hostname"],
        ["--dry-run", "--certificate", "/nowhere;x", "--key", "/etc/hostname"],
    ],
)
def test_a_value_that_can_not_be_right_is_refused_before_anything_is_done(words, tmp_path):
    # One of them is no dry run: if it is not refused, it comes to its first step and no further.
    (tmp_path / "env").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "env").chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    done = install("all", *words, script=installer_of(tmp_path), PATH=path)

    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert any(word in done.stderr for word in words if word)


@pytest.mark.parametrize("command", ["rollback", "uninstall"])
def test_what_is_not_used_stops_nobody_from_going_back(command, tmp_path):
    (tmp_path / "choices").write_text("PYTHON=python9\nCERTIFICATE=/nowhere\n")

    assert plan_of(command, tmp_path)


def test_the_installer_knows_the_queues(tmp_path):
    workers = ",".join(f"{queue}-1" for queue in settings.QUEUES)

    assert f"worker@{settings.QUEUES[-1]}-1.service" in plan_of(
        "worker", tmp_path, "--workers", workers
    )


@pytest.mark.parametrize("version", [(3, 10), (3, 13)])
def test_a_python_that_the_platform_does_not_run_on_is_refused_at_once(version, tmp_path):
    python = tmp_path / "python3"
    stand_in = f"import sys; sys.version_info = {version}; exec(sys.argv[2])"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{stand_in}' \"$@\"\n")
    python.chmod(0o755)

    done = install("all", "--dry-run", "--python", python, script=installer_of(tmp_path))

    assert (done.returncode, done.stdout) == (2, "")
    assert "--python" in done.stderr


def test_files_are_named_from_where_one_stands(tmp_path, monkeypatch):
    (tmp_path / "brought").mkdir()
    make_certificate(tmp_path / "brought")
    monkeypatch.chdir(tmp_path / "brought")

    plan = plan_of("all", tmp_path, "--certificate", "tls.crt", "--key", "./tls.key")

    assert "run: openssl" not in plan


def test_a_key_of_another_certificate_is_refused(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        make_certificate(tmp_path / name)
    named = ["--certificate", tmp_path / "one/tls.crt", "--key", tmp_path / "other/tls.key"]

    done = install("all", "--dry-run", *named, script=installer_of(tmp_path))

    assert (done.returncode, done.stdout) == (2, "")
    assert "is not that of" in done.stderr


def names(certificate):
    return subprocess.check_output(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", certificate], text=True
    )


def test_a_certificate_is_made_and_follows_the_host_and_its_key_stays(tmp_path):
    for host in ("a.example.org", "b.example.org", "b.example.org"):
        before = [file.read_bytes() for file in tmp_path.glob("tls.*")]
        assert do(tmp_path, "certificate", "--host", host).returncode == 0
        assert f"DNS:{host}\n" in names(tmp_path / "tls.crt")
        assert not before or (tmp_path / "tls.key").read_bytes() in before

    assert (tmp_path / "tls.crt").read_bytes() in before
    assert (tmp_path / "tls.key").stat().st_mode & 0o777 == 0o600


def test_a_release_has_the_name_of_its_commit_whoever_owns_the_checkout(tmp_path):
    script = installer_of(tmp_path)
    (tmp_path / "RELEASE").unlink()
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    git = ["git", "-C", tmp_path]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, *who, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    commit = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True).strip()

    # git's own switch for its tests: it takes every checkout for another user's.
    done = install("all", "--dry-run", script=script, GIT_TEST_ASSUME_DIFFERENT_OWNER="1")

    assert done.returncode == 0, done.stderr
    assert f"== Release {commit} in" in done.stdout


def test_files_without_a_name_are_no_release(tmp_path):
    script = installer_of(tmp_path)
    (tmp_path / "RELEASE").unlink()

    done = install("all", "--dry-run", script=script)

    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path}/RELEASE" in done.stderr


@pytest.mark.parametrize(("healthy", "code", "said"), [("true", 0, ""), ("false", 1, "cures")])
def test_an_installation_that_does_not_work_does_not_end_as_one_that_does(
    tmp_path, healthy, code, said
):
    stand_ins = f"has_systemd() {{ false; }}; qlib-manage() {{ echo $1 says; {healthy}; }}"

    done = do(tmp_path, f"{stand_ins}; doctor")

    assert (done.returncode, "doctor says" in done.stdout) == (code, True)
    assert said in done.stderr


def test_the_doctor_is_asked_again_while_workers_start(tmp_path):
    stand_ins = f"""
    has_systemd() {{ true; }}
    sleep() {{ echo x >> {tmp_path}/asked; }}
    qlib-manage() {{ [ "$(wc -l < {tmp_path}/asked)" -ge 3 ]; }}
    """

    done = do(tmp_path, f"{stand_ins}\ndoctor")

    assert (done.returncode, (tmp_path / "asked").read_text()) == (0, "x\nx\nx\n")


@pytest.mark.postgres
def test_the_role_gets_the_password_of_an_environment_that_was_made_anew(tmp_path):
    with databases.fresh("postgresql") as url:
        place = urlsplit(url)
        folder = Path(parse_qs(place.query)["host"][0])
        asks = folder / "pg_hba.conf"
        asks.write_text("local all qlib scram-sha-256\n" + asks.read_text())
        with psycopg.connect(url, autocommit=True) as server:
            server.execute("SELECT pg_reload_conf()")
            # `runuser -u postgres -- psql …`
            options = f"--host={folder} --username={place.username} --dbname=postgres"
            stand_in = f'runuser() {{ "{postgres.programs()}/$4" {options} "${{@:5}}"; }}'
            said = []
            for password in ("first", "first", "second"):
                address = f"postgresql://qlib:{password}@/qlib?host={folder}"
                (tmp_path / "environment").write_text(f"PLATFORM_DATABASE_URL={address}\n")

                done = do(tmp_path, f"{stand_in}; role")

                assert done.returncode == 0, done.stderr
                said.append("gets the password" in done.stdout)
                psycopg.connect(address).close()
            owner = server.execute(
                "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'qlib'"
            ).fetchone()

    assert (said, owner) == ([False, False, True], ("qlib",))


def test_the_installer_works_in_a_folder_that_every_user_may_enter(tmp_path):
    assert do(tmp_path, "pwd").stdout == "/\n"


@pytest.mark.parametrize(
    ("there", "allowed"),
    [
        ("PLATFORM_ALLOWED_HOSTS=old.org,localhost", "new.example.org,old.org,localhost"),
        ("PLATFORM_ALLOWED_HOSTS=localhost,new.example.org", "localhost,new.example.org"),
        ("PLATFORM_ALLOWED_HOSTS=.example.org", ".example.org"),
        ("PLATFORM_ALLOWED_HOSTS=*", "*"),
        ("PLATFORM_ALLOWED_HOSTS=", "new.example.org"),
        ("PLATFORM_HTTPS=true", "new.example.org"),
    ],
)  # fmt: skip
def test_another_host_is_allowed_too(tmp_path, there, allowed):
    file = tmp_path / "environment"
    file.write_text(f"PLATFORM_SECRET_KEY=x\n{there}\nPLATFORM_ALLOWED_ORIGINS=https://old.org\n")

    for _ in range(2):
        done = do(tmp_path, "environment", "--host", "new.example.org")
        assert done.returncode == 0, done.stderr

    told = dict(line.split("=") for line in file.read_text().splitlines())
    assert told["PLATFORM_ALLOWED_HOSTS"] == allowed
    assert told["PLATFORM_ALLOWED_ORIGINS"] == "https://new.example.org,https://old.org"
    assert told["PLATFORM_SECRET_KEY"] == "x"


def test_a_certificate_that_somebody_brought_is_never_written_over(tmp_path):
    make_certificate(tmp_path)
    subprocess.run(
        ["openssl", "req", "-new", "-key", "tls.key", "-subj", "/CN=brought", "-out", "request"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    subprocess.run(
        ["openssl", "x509", "-req", "-in", "request", "-CA", "tls.crt", "-CAkey", "tls.key",
         "-CAcreateserial", "-out", "brought.crt"], cwd=tmp_path, check=True,
    )  # fmt: skip
    brought = (tmp_path / "brought.crt").rename(tmp_path / "tls.crt").read_bytes()

    assert do(tmp_path, "certificate", "--host", "qlib.example.org").returncode == 0

    assert (tmp_path / "tls.crt").read_bytes() == brought


def test_a_key_stays_though_the_name_of_its_certificate_is_mistyped(tmp_path):
    (tmp_path / "real").mkdir()
    make_certificate(tmp_path / "real")
    key = tmp_path / "real/tls.key"
    before = key.read_bytes()
    named = ["--certificate", tmp_path / "real/tsl.crt", "--key", key]

    assert do(tmp_path, "check; certificate", *named).returncode == 2
    # Kept by a run before, and mistyped then.
    assert do(tmp_path, "certificate", *named).returncode == 0

    assert key.read_bytes() == before
    assert not (tmp_path / "real/tsl.crt").exists()


# ── The other files ─────────────────────────────────────────────────────────────────────


def test_the_environment_can_be_read_by_a_shell_and_by_systemd():
    for line in (DEPLOY / "environment").read_text().splitlines():
        assert re.fullmatch(r"#.*|PLATFORM_\w+=[^\s'\"$`\\]*", line), line


@pytest.mark.postgres
@pytest.mark.parametrize("name", ["postgresql.conf", "failover/postgresql.conf"])
def test_postgresql_takes_its_settings(name):
    with databases.fresh("postgresql") as url:
        folder = Path(parse_qs(urlsplit(url).query)["host"][0])
        file = folder / "deployed.conf"
        file.write_text((DEPLOY / name).read_text() + "cluster_name = 'has read it'\n")
        shutil.chown(file, folder.stat().st_uid, folder.stat().st_gid)
        # PostgreSQL does not run as root.
        user = ["setpriv", f"--reuid={folder.stat().st_uid}", "--clear-groups"]

        done = subprocess.run(
            [*(user if os.getuid() == 0 else []), f"{postgres.programs()}/postgres",
             "-D", folder, f"--config-file={file}", "-C", "cluster_name"],
            capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip

    assert (done.stdout.strip(), done.stderr) == ("has read it", "")


@pytest.mark.redis
def test_redis_takes_its_settings_and_its_user_may_ring_and_no_more(tmp_path):
    import redis

    from tests.e2e.platform_processes import deployed_redis, redis_server
    from tests.e2e.waiting import until

    # A short path: a unix socket's has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="qp-redis-"))
    text = deployed_redis(folder, password="secret")
    (folder / "redis.conf").write_text(
        f"port 0\nunixsocket {folder}/redis.sock\ndir {folder}\n{text}"
    )
    server = subprocess.Popen([redis_server(), folder / "redis.conf"], stdout=subprocess.DEVNULL)
    try:
        until(lambda: (folder / "redis.sock").exists(), what="Redis")
        url = f"unix://qlib:secret@{folder}/redis.sock"
        with redis.Redis.from_url(url) as client:
            assert client.rpush("rq:queue:cpu", "x") == 1
            assert client.publish("asgi__group__training.tasks", "x") == 0
            assert client.info()["maxmemory_policy"] == "noeviction"
            for denied in ("FLUSHALL", "CONFIG GET *", "SET other 1", "KEYS *"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*denied.split())
        with (
            redis.Redis(unix_socket_path=f"{folder}/redis.sock") as nobody,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            nobody.ping()
    finally:
        server.terminate()
        server.wait(timeout=10)
        shutil.rmtree(folder)


def test_the_compose_file_starts_commands_that_there_are():
    told = yaml.safe_load((DEPLOY / "compose.yml").read_text())

    for name in ("migrate", "reconcile", "worker"):
        command = told["services"][name]["command"]
        assert command[:2] == ["python", "manage.py"]
        manage(command[2:])
    assert {"database", "redis", "web"} < set(told["services"])


def test_in_containers_nothing_starts_before_there_are_tables():
    services = yaml.safe_load((DEPLOY / "compose.yml").read_text())["services"]
    ready = {"migrate": {"condition": "service_completed_successfully"}}

    for name in ("web", "reconcile", "worker"):
        assert ready.items() <= services[name]["depends_on"].items()
    assert services["migrate"]["depends_on"] == {"database": {"condition": "service_healthy"}}


def test_behind_tls_the_containers_know_their_name_and_their_release():
    platform = yaml.safe_load((DEPLOY / "compose.yml").read_text())["services"]["web"]
    told = {
        name: re.sub(
            r"\$\{(\w+)(?::-(.*?)|:\?)\}",
            lambda found: {"PUBLIC_HOST": "qlib.example.org"}.get(found[1], found[2] or "given"),
            text,
        )
        for name, text in platform["environment"].items()
    }
    wanted = "ALLOWED_HOSTS, ALLOWED_ORIGINS, HTTPS, SECURE_PROXY_SSL_HEADER"
    done = subprocess.run(
        [sys.executable, "-c", f"from qlibplatform.settings import *; print({wanted})"],
        env={**os.environ, **told}, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "'qlib.example.org'" in done.stdout
    assert "['https://qlib.example.org'] True ('HTTP_X_FORWARDED_PROTO', 'https')" in done.stdout
    (argument,) = platform["build"]["args"]
    assert f"ENV PLATFORM_RELEASE=${argument}\n" in (DEPLOY / "Containerfile").read_text()


def test_an_image_is_made_of_what_is_copied_and_of_nothing_else():
    copied = re.findall(r"^COPY (.*) \S+$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}

    assert "*" in lines
    assert let_in == {source for line in copied for source in line.split()}


def test_the_containerfile_copies_what_there_is():
    text = (DEPLOY / "Containerfile").read_text()
    for line in re.findall(r"^COPY (.*)$", text, flags=re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)
    for lock in re.findall(r"requirements/\w+\.txt", text):
        assert (ROOT / lock).exists()
