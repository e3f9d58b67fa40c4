"""Where a training asks its leader for shared columns of features, and hands over what it made.

A thread, like the ledger: neither a slow database nor a slow disk may stop the leader from
watching its training. Questions are served before files are taken in. Whatever goes wrong here,
the training computes for itself what it can't have: only time is lost.

The training is not trusted. It names expressions and how it loads them; the dataset's version in
the key, the checksum and the copy are the leader's.
"""

import hashlib
import itertools
import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from . import columnfile, features
from .ledger import forget_connection
from .models import TrainingTask

log = logging.getLogger(__name__)

KEY_FORMAT = 1
"""Part of every key: another meaning of the rest makes other keys."""

MAX_CLAIMS = 20_000
"""Columns of one attempt: a training that went mad must not fill the database."""

PUBLISHED_AT_ONCE = 100
LET_GO_EVERY_S = 2.0
"""How often claims that could not be let go of are tried again: others wait for them."""

ORPHAN_AGE_S = 3600.0
"""A file without a row may belong to a leader that will write it now; not for so long."""

_QUESTION, _FILE, _END = range(3)

Message = dict[str, Any]


class Desk(threading.Thread):
    """Answers one attempt's questions, and puts its columns into the store."""

    def __init__(self, task: TrainingTask, *, home: Path) -> None:
        """home: the training's scratch home, which it writes as it likes."""
        super().__init__(name=f"desk of {task.id}", daemon=True)
        self.maker = features.Maker(task.id, task.attempt)
        self._dataset_version = task.dataset_version
        self._source = home / columnfile.FOLDER
        self._store: Path = settings.FEATURES_DIR
        self._answer: Callable[[Message], None] = lambda message: None
        self._inbox: queue.PriorityQueue[tuple[int, int, Any]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._rows: dict[str, int] = {}
        self._given: dict[str, int] = {}
        self._handed_over: set[str] = set()
        self._left_to_take = 0
        self._unpublished: dict[str, features.Kept] = {}
        self._written_bytes = 0
        self._damaged = 0
        self._waited_for: set[str] = set()
        self._off = "" if settings.FEATURES_MAX_BYTES else "sharing of features is switched off"
        self._must_let_go = False
        self._hurry = False

    # ── told by the leader ──────────────────────────────────────────────────────────────

    def open(self, answer: Callable[[Message], None]) -> None:
        """Begin; `answer` sends a message to the training."""
        self._answer = answer
        self.start()

    def hear(self, message: Message) -> None:
        """A message of type `columns` came from the training."""
        self._put(_QUESTION, message)

    def said(self) -> list[str]:
        """Lines for the run's log since the last call."""
        lines = []
        while not self._said.empty():
            lines.append(self._said.get())
        return lines

    def close(self, *, hurry: bool) -> None:
        """Take in what was handed over, unless in a hurry; let go of the rest. Idempotent."""
        self._hurry = self._hurry or hurry
        self._put(_END, None)
        if self.ident is not None:
            self.join()

    def figures(self) -> dict[str, Any]:
        """For the task's result; after `close`. Empty if the training asked for nothing."""
        if not self._given and not self._rows:
            return {}
        return {
            "hits": len(self._given),
            "misses": len(self._rows),
            "bytes_read": sum(self._given.values()),
            "bytes_written": self._written_bytes,
            "damaged": self._damaged,
            "waited_for": sorted(self._waited_for),
        }

    def _put(self, rank: int, item: Any) -> None:
        self._inbox.put((rank, next(self._numbers), item))

    # ── the thread ──────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Serve until closed."""
        try:
            while (item := self._next()) is not None:
                self._serve(item)
            self._settle()
        finally:
            connection.close()

    def _next(self) -> Any:
        """The next question or file; None at the end. Tries to let go of claims meanwhile."""
        while True:
            try:
                return self._inbox.get(timeout=LET_GO_EVERY_S if self._must_let_go else None)[2]
            except queue.Empty:
                self._let_go()

    def _serve(self, item: Message | str) -> None:
        try:
            if isinstance(item, str):
                self._take_in(item)
            else:
                self._act_on(item)
        except (DatabaseError, InterfaceError) as error:
            self._switch_off(f"the database failed: {error}")
            forget_connection()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._switch_off(f"a question was not understood: {error!r}")

    def _act_on(self, message: Message) -> None:
        op = message["op"]
        if op == "claim":
            self._answer({"answer": self._answer_to(message)})
        elif op == "made":
            self._receive(_texts(message["keys"]))
        elif op == "damaged":
            for key in _texts(message["keys"]):
                self._look_at_damage(key)
        elif op == "given_up":
            keys = [key for key in _texts(message["keys"]) if key in self._rows]
            features.give_up(self.maker, keys)
        else:
            raise ValueError(op)

    def _switch_off(self, why: str) -> None:
        """From now on the training computes for itself, and nobody waits for it."""
        if not self._off:
            self._off = why
            self._said.put(f"features are not shared any more: {why}")
            log.warning("%s: features are not shared any more: %s", self.maker.task_id, why)
        self._must_let_go = True

    def _let_go(self) -> None:
        try:
            features.give_up(self.maker)
            self._must_let_go = False
        except (DatabaseError, InterfaceError):
            # Next time; and a claim ends with its task at the latest.
            forget_connection()

    # ── questions ───────────────────────────────────────────────────────────────────────

    def _answer_to(self, message: Message) -> Message:
        """The answer to a claim; also where it fails: the training waits for one."""
        if not self._off:
            try:
                return self._claim(message)
            except (DatabaseError, InterfaceError) as error:
                self._switch_off(f"the database failed: {error}")
                forget_connection()
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._switch_off(f"a question was not understood: {error!r}")
        return {"off": self._off}

    def _claim(self, message: Message) -> Message:
        """For each expression its key and state: ready (with its checksum), make, or wait."""
        expressions, rows = _texts(message["expressions"]), int(message["rows"])
        keys = self._keys(message["load"], expressions)
        if rows < 0 or len(self._rows) + len(self._given) + len(keys) > MAX_CLAIMS:
            raise ValueError(f"{len(keys)} columns of {rows} rows are too many")
        claims = features.claim(keys, maker=self.maker)
        # Handed over, but not in the store yet: the training finds soon what it made itself.
        claims.make -= self._handed_over
        self._rows.update(dict.fromkeys(claims.make, rows))
        self._given.update(
            (key, one.bytes) for key, one in claims.ready.items() if key not in self._rows
        )
        makers = {task for task in claims.wait.values() if task}
        self._waited_for |= makers
        return {
            "store": str(self._store),
            "columns": [_told(key, claims) for key in keys],
            "waiting_for": sorted(makers),
        }

    def _keys(self, load: Message, expressions: list[str]) -> list[str]:
        parts = [KEY_FORMAT, self._dataset_version, load]
        common = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        base = hashlib.sha256(common.encode())
        keys = []
        for expression in expressions:
            one = base.copy()
            one.update(b"\0" + expression.encode())
            keys.append(one.hexdigest())
        return keys

    def _look_at_damage(self, key: str) -> None:
        """The training found a column that is not what was recorded: forget it, if that is so."""
        if key not in self._given and key not in self._rows:
            return
        checksum = features.recorded(key)
        path = columnfile.place(self._store, key)
        if checksum is None or columnfile.is_as_recorded(path, checksum):
            return
        if features.drop(key, checksum=checksum):
            self._given.pop(key, None)
            self._damaged += 1
            self._said.put(f"a shared column of features was damaged or gone: {path.name}")
            log.warning("the feature column %s is damaged or gone; it is made anew", path)

    # ── files ───────────────────────────────────────────────────────────────────────────

    def _receive(self, keys: list[str]) -> None:
        """The training has made these: take them in, one after the other, if there is room."""
        mine = [key for key in keys if key in self._rows and key not in self._handed_over]
        needed = sum(columnfile.size(self._rows[key]) for key in mine)
        fits, gone = (False, []) if self._off else features.make_room(needed)
        for key in gone:
            self._remove(key)
        if not fits:
            self._switch_off("the store is full of what running tasks use")
            self._let_go()
            return
        self._handed_over.update(mine)
        self._left_to_take += len(mine)
        for key in mine:
            self._put(_FILE, key)

    def _remove(self, key: str) -> None:
        try:
            columnfile.place(self._store, key).unlink(missing_ok=True)
        except OSError as error:
            log.warning("a feature column could not be removed: %s", error)

    def _take_in(self, key: str) -> None:
        self._left_to_take -= 1
        if not self._off and not self._hurry:
            self._copy(key)
        if not self._left_to_take or len(self._unpublished) >= PUBLISHED_AT_ONCE:
            self._publish()

    def _copy(self, key: str) -> None:
        rows = self._rows[key]
        part = f".{key}.{self.maker.task_id}-{self.maker.attempt}.part"
        target = columnfile.place(self._store, key)
        try:
            checksum = columnfile.take(
                f"{key}.npy", source=self._source, target=target, rows=rows, part=part
            )
        except (OSError, columnfile.NotAColumn) as error:
            self._switch_off(f"a column could not be kept: {error}")
            return
        self._unpublished[key] = features.Kept(columnfile.size(rows), checksum)

    def _publish(self) -> None:
        kept, self._unpublished = self._unpublished, {}
        features.publish(kept, maker=self.maker)
        self._written_bytes += sum(one.bytes for one in kept.values())
        self._handed_over -= kept.keys()

    def _settle(self) -> None:
        """The last of it: claims that are left, and the totals."""
        try:
            self._publish()
            features.give_up(self.maker)
            told = self.figures()
            told.pop("waited_for", None)
            features.count(**told)
        except (DatabaseError, InterfaceError) as error:
            # The claims end with the task, and the figures are no promise.
            log.warning("%s: the desk could not settle: %s", self.maker.task_id, error)


def sweep(store: Path) -> None:
    """Remove files that no row speaks of: what leaders that were killed have left."""
    oldest = time.time() - ORPHAN_AGE_S
    for folder in store.glob("[0-9a-f][0-9a-f]"):
        old = [path for path in folder.iterdir() if path.lstat().st_mtime < oldest]
        known = features.known(path.stem for path in old)
        for path in old:
            if path.stem not in known:
                path.unlink(missing_ok=True)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError("a list of texts was expected")
    return value


def _told(key: str, claims: features.Claims) -> Message:
    if key in claims.make:
        return {"key": key, "state": "make"}
    if one := claims.ready.get(key):
        return {"key": key, "state": "ready", "checksum": one.checksum}
    return {"key": key, "state": "wait"}
