"""The far store: where artifacts lie when hosts share no folder, such as S3.

A worker puts an attempt's files there before its row speaks of them; another host fetches them when
it needs them, and `ARTIFACTS_DIR` is then what it has fetched. Any storage of Django's will do.
Without one (the default) that folder is all there is.
"""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.core.files.storage import Storage, storages

from .errors import StoreAway

ALIAS = "artifacts"


def is_used() -> bool:
    """Whether there is one: `STORAGES["artifacts"]`."""
    return ALIAS in settings.STORAGES


def put(name: str, folder: Path, *, last: str) -> None:
    """Copy the folder's files under the name; the file `last` says that all are there.

    Raises: StoreAway.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    store = _store()
    try:
        for path in sorted(files, key=lambda path: path.name == last):
            with path.open("rb") as opened:
                store.save(f"{name}/{path.relative_to(folder).as_posix()}", File(opened))
    except Exception as error:
        # Each storage has errors of its own.
        raise StoreAway(f"the store of artifacts did not take {name}: {error}") from error


def fetch(name: str, folder: Path, *, last: str) -> None:
    """Bring the files to the folder, which is absent, if all of them are there. Raises: OSError."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}-{threading.get_ident()}.part")
    store = _store()
    try:
        names = list(_names(store, name))
        if f"{name}/{last}" not in names:
            return
        for one in names:
            _copy(store, one, _inside(beside, one.removeprefix(f"{name}/")))
        beside.rename(folder)
    except FileExistsError:
        pass  # somebody else was quicker: a folder of this name is always whole
    except OSError:
        if not folder.is_dir():
            raise
    except Exception as error:
        raise StoreAway(f"the store of artifacts did not give {name}: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def remove(name: str) -> bool:
    """Remove all that is under the name; whether there was any. Raises: StoreAway."""
    store = _store()
    try:
        names = list(_names(store, name))
        for one in names:
            store.delete(one)
    except Exception as error:
        raise StoreAway(f"the store of artifacts did not remove {name}: {error}") from error
    return bool(names)


def tasks() -> list[str]:
    """The names on the first level: ids of tasks. Raises: StoreAway."""
    try:
        return sorted(_listdir(_store(), "")[0])
    except Exception as error:
        raise StoreAway(f"the store of artifacts can't be listed: {error}") from error


def size(name: str) -> int:
    """Bytes under the name. Raises: StoreAway."""
    store = _store()
    try:
        return sum(store.size(one) for one in _names(store, name))
    except Exception as error:
        raise StoreAway(f"the store of artifacts does not tell of {name}: {error}") from error


def changed_at(name: str) -> float:
    """When something was last put under the name, in seconds since 1970; 0: nothing is there.

    Raises: StoreAway.
    """
    store = _store()
    try:
        times = [store.get_modified_time(one).timestamp() for one in _names(store, name)]
    except Exception as error:
        raise StoreAway(f"the store of artifacts does not tell of {name}: {error}") from error
    return max(times, default=0.0)


def _store() -> Storage:
    return storages[ALIAS]


def _names(store: Storage, name: str) -> Iterator[str]:
    """All files under the name, by their whole names."""
    folders, files = _listdir(store, name)
    yield from (f"{name}/{one}" for one in files if one)
    for one in folders:
        yield from _names(store, f"{name}/{one}")


def _listdir(store: Storage, name: str) -> tuple[list[str], list[str]]:
    try:
        return store.listdir(name)
    except FileNotFoundError:
        return [], []


def _inside(folder: Path, name: str) -> Path:
    """Where a file goes. Raises: StoreAway, for a name that leads elsewhere."""
    path = folder / name
    if ".." in path.parts or not path.is_relative_to(folder):
        raise StoreAway(f"the store of artifacts has a file of the name {name!r}")
    return path


def _copy(store: Storage, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    with store.open(name, "rb") as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1024**2)
    target.chmod(0o640)
