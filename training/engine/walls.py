"""What a training process may not do: resource limits, no new privileges, Landlock.

Landlock fences files (reads code, data and its dataset; writes its scratch folder), TCP (from
kernel ABI 4), signals to and abstract sockets of others (ABI 6). It does not cover: unix sockets
that have a path, UDP, and what was open already. Those need file permissions, another user, or a
network namespace, which is the deployment's part.
"""

import ctypes
import glob
import os
import resource
import site
import struct
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

SYS_CREATE_RULESET = 444
SYS_ADD_RULE = 445
SYS_RESTRICT_SELF = 446
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in (13, 14, 15))
FILE_RIGHTS_BY_ABI = {1: REFER - 1, 2: TRUNCATE - 1, 3: IOCTL_DEV - 1, 5: 2 * IOCTL_DEV - 1}
# The rights that make sense for a single file; the kernel refuses the others on one.
FILE_ONLY = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READ = EXECUTE | READ_FILE | READ_DIR
TCP_BIND_AND_CONNECT = 0b11
SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

SYSTEM_FILES = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt/intel", "/opt/nvidia", "/sys"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload"),
    *("/etc/localtime", "/etc/timezone", "/etc/os-release", "/etc/mime.types", "/etc/alternatives"),
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/hosts"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg"),
    *("/proc/filesystems", "/proc/version", "/proc/uptime", "/proc/sys/kernel", "/proc/sys/vm"),
    *("/dev/urandom", "/dev/random", "/dev/zero"),
)
# /dev/shm: semaphores and shared arrays of multiprocessing and joblib live there, by name.
WRITABLE_DEVICES = ("/dev/null", "/dev/full", "/dev/shm", "/dev/nvidia*")  # noqa: S108

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Fence:
    """What Landlock holds back in this process; `said` is for the log."""

    abi: int
    said: str


def forbid_inspection() -> None:
    """Closes this process's environ and memory to others of its user; for holders of secrets.

    Children inherit it over fork, not over exec. Root is not held back by it.
    """
    _prctl(PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Makes this process the new parent of descendants whose own parent died, instead of init."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    """No setuid program gains anything from here on; Landlock asks for it too."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(signal_number: int) -> None:
    """A second line beside the life line; it reaches this process only, not its children."""
    _prctl(PR_SET_PDEATHSIG, signal_number)


def limit_resources(limits: Mapping[str, int]) -> None:
    """Sets limits by name without RLIMIT_, e.g. {"CPU": seconds}; never above the hard one.

    CPU keeps a gap between soft and hard: at the soft limit comes SIGXCPU, which tells its reason,
    at the hard one a bare SIGKILL.
    """
    for name, wanted in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, ceiling = resource.getrlimit(kind)
        hard = wanted + 5 if name == "CPU" else wanted
        if ceiling != resource.RLIM_INFINITY:
            wanted, hard = min(wanted, ceiling), min(hard, ceiling)
        resource.setrlimit(kind, (wanted, hard))


def code_paths() -> list[str]:
    """Interpreter, libraries and this package: what must stay readable to run engine code."""
    package = str(Path(__file__).resolve().parents[1])
    stdlib = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    shared = sysconfig.get_config_var("LIBDIR")
    paths = [package, *stdlib, *site.getsitepackages(), shared, sys.executable]
    paths += [os.path.realpath(sys.executable), os.path.join(sys.prefix, "pyvenv.cfg")]
    # Compiled kernels of the features, for a training whose host did not load them.
    paths.append(os.path.join(sys.prefix, "kernels"))
    paths += os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return [path for path in paths if path]


def fence(*, readable: Iterable[str], writable: Iterable[str]) -> Fence:
    """Restricts this process and its children, for good, to code, `readable` and `writable` paths.

    Descriptors that are open stay usable. On a kernel without Landlock nothing is restricted and
    the result says so. Raises: OSError, if a kernel that has Landlock refuses.
    """
    abi = _landlock_abi()
    if abi < 1:
        return Fence(0, f"Landlock is not available ({os.strerror(-abi)}): no fence")
    rights = max(mask for since, mask in FILE_RIGHTS_BY_ABI.items() if since <= abi)
    ruleset = _create_ruleset(abi, rights)
    try:
        for path in (*SYSTEM_FILES, *code_paths(), *readable):
            _allow(ruleset, path, rights & READ)
        for pattern in WRITABLE_DEVICES:
            for path in glob.glob(pattern):
                _allow(ruleset, path, rights)
        for path in writable:
            # No execution from what the training itself wrote.
            _allow(ruleset, path, rights & ~(EXECUTE | IOCTL_DEV))
        _restrict_self(ruleset)
    finally:
        os.close(ruleset)
    return Fence(abi, _describe(abi))


def _describe(abi: int) -> str:
    held = ["files"]
    held += ["TCP"] if abi >= 4 else []
    held += ["signals", "abstract sockets"] if abi >= 6 else []
    return (
        f"Landlock ABI {abi} fences {', '.join(held)}; not covered: unix sockets with a path, UDP"
        + ("" if abi >= 4 else ", TCP")
    )


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def _syscall(number: int, *arguments: object) -> int:
    """The result, or minus errno."""
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    return result if result >= 0 else -ctypes.get_errno()


def _landlock_abi() -> int:
    """The kernel's Landlock version; 0 or minus errno where there is none."""
    version = ctypes.c_uint(CREATE_RULESET_VERSION)
    return _syscall(SYS_CREATE_RULESET, None, ctypes.c_size_t(0), version)


def _create_ruleset(abi: int, rights: int) -> int:
    """The ruleset's descriptor. The attribute grew with the ABI: files, network, then scopes."""
    fields = [rights]
    fields += [TCP_BIND_AND_CONNECT] if abi >= 4 else []
    fields += [SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS] if abi >= 6 else []
    attribute = struct.pack(f"={len(fields)}Q", *fields)
    size = ctypes.c_size_t(len(attribute))
    return _checked(_syscall(SYS_CREATE_RULESET, attribute, size, ctypes.c_uint(0)), "create")


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Adds a rule for the path and all beneath it; a path that does not exist needs none."""
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= FILE_ONLY
        rule = struct.pack("=Qi", rights, target)
        kind = ctypes.c_int(RULE_PATH_BENEATH)
        result = _syscall(SYS_ADD_RULE, ctypes.c_int(ruleset), kind, rule, ctypes.c_uint(0))
        _checked(result, f"allow {path}")
    finally:
        os.close(target)


def _restrict_self(ruleset: int) -> None:
    result = _syscall(SYS_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    _checked(result, "restrict")


def _checked(result: int, doing: str) -> int:
    if result < 0:
        raise OSError(-result, f"Landlock, {doing}: {os.strerror(-result)}")
    return result
