"""Which columns of features the shared store has, who makes which, what may go; the figures.

Rows only: the files are `columnfile.py`'s, and `desk.py` does both for one training. A claim
needs no lease of its own: it holds while its task runs and renews the task's. Every change is one
guarded statement, so that two leaders that want the same columns make each of them once.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, F, Min, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Now

from .models import FeatureColumn, FeatureTotal, TrainingTask
from .states import ColumnState, Status

KEYS_AT_ONCE = 400
"""Keys in one statement: more parameters than SQLite takes would fail."""

TOTALS = ("hits", "misses", "bytes_read", "bytes_written", "damaged", "evicted")


@dataclass(frozen=True)
class Maker:
    """An attempt that may hold claims."""

    task_id: str
    attempt: int


@dataclass(frozen=True)
class Kept:
    """A file that a leader has put into the store."""

    bytes: int
    checksum: str


@dataclass
class Claims:
    """What has become of the keys that were asked for; each is in one of the three.

    ready: checksum by key; make: the asker's to make; wait: the task that makes it, by key.
    """

    ready: dict[str, Kept] = field(default_factory=dict)
    make: set[str] = field(default_factory=set)
    wait: dict[str, str] = field(default_factory=dict)


# ── Asked and told by a leader ──────────────────────────────────────────────────────────


def claim(keys: Iterable[str], *, maker: Maker) -> Claims:
    """Find the columns, and claim for the maker what nobody has and nobody living makes."""
    claims = Claims()
    for some in _pieces(keys):
        rows = _read(some)
        free = [key for key in some if key not in rows]
        left = [key for key, row in rows.items() if _is_left(row)]
        if free or left:
            _take(free, left, maker=maker)
            rows = _read(some)
        _sort_into(claims, some, rows, maker=maker)
    return claims


def _read(keys: list[str]) -> dict[str, FeatureColumn]:
    rows = FeatureColumn.objects.filter(key__in=keys).annotate(is_held=_held())
    return {row.key: row for row in rows}


def _held() -> Exists:
    """Whether the attempt that claimed the column runs and renews its lease."""
    return Exists(
        TrainingTask.objects.filter(
            id=OuterRef("made_by"),
            attempt=OuterRef("made_attempt"),
            status=Status.RUNNING,
            lease_until__gte=Now(),
        )
    )


def _is_left(row: FeatureColumn) -> bool:
    return row.state == ColumnState.MAKING and not row.is_held  # type: ignore[attr-defined]


def _take(free: list[str], left: list[str], *, maker: Maker) -> None:
    """Claim keys without a row, and those whose maker is gone; others may do the same now."""
    mine = {"made_by_id": maker.task_id, "made_attempt": maker.attempt}
    if free:
        # In order: two inserts of the same keys then can't wait for each other.
        rows = [FeatureColumn(key=key, **mine) for key in sorted(free)]
        FeatureColumn.objects.bulk_create(rows, ignore_conflicts=True)
    if left:
        making = FeatureColumn.objects.filter(key__in=left, state=ColumnState.MAKING)
        making.filter(~Q(_held())).update(**mine)


def _sort_into(
    claims: Claims, keys: list[str], rows: Mapping[str, FeatureColumn], *, maker: Maker
) -> None:
    for key in keys:
        row = rows.get(key)
        if row is None:
            # Given up by its maker between two statements: the next question finds it free.
            claims.wait[key] = ""
        elif row.state == ColumnState.READY:
            claims.ready[key] = Kept(row.bytes, row.checksum)
        elif (row.made_by_id, row.made_attempt) == (maker.task_id, maker.attempt):
            claims.make.add(key)
        else:
            claims.wait[key] = row.made_by_id or ""
    ready = [key for key in keys if key in claims.ready]
    FeatureColumn.objects.filter(key__in=ready).update(last_used_at=Now())


def publish(kept: Mapping[str, Kept], *, maker: Maker) -> None:
    """So many columns, KEYS_AT_ONCE at most, are in the store. A lost claim stays as it is."""
    rows = [
        FeatureColumn(key=key, bytes=one.bytes, checksum=one.checksum) for key, one in kept.items()
    ]
    claimed = _claimed_by(maker)
    with transaction.atomic():
        claimed.bulk_update(rows, ["bytes", "checksum"], batch_size=100)
        claimed.filter(key__in=kept).update(
            state=ColumnState.READY, made_at=Now(), last_used_at=Now()
        )


def give_up(maker: Maker, keys: Iterable[str] | None = None) -> None:
    """Let go of the maker's claims, all or some: who waits for them may make them."""
    claimed = _claimed_by(maker)
    if keys is None:
        claimed.delete()
        return
    for some in _pieces(keys):
        claimed.filter(key__in=some).delete()


def _claimed_by(maker: Maker) -> QuerySet[FeatureColumn]:
    return FeatureColumn.objects.filter(
        state=ColumnState.MAKING, made_by=maker.task_id, made_attempt=maker.attempt
    )


def recorded(key: str) -> str | None:
    """The checksum of a column that is ready; None if there is none."""
    row = FeatureColumn.objects.filter(key=key, state=ColumnState.READY)
    return row.values_list("checksum", flat=True).first()


def drop(key: str, *, checksum: str) -> bool:
    """Forget a column whose file is not what was recorded; False if somebody did already."""
    row = FeatureColumn.objects.filter(key=key, state=ColumnState.READY, checksum=checksum)
    return bool(row.delete()[0])


# ── Room ────────────────────────────────────────────────────────────────────────────────


def used_bytes() -> int:
    """What the store's columns take."""
    ready = FeatureColumn.objects.filter(state=ColumnState.READY)
    return ready.aggregate(total=Sum("bytes"))["total"] or 0


def make_room(needed_bytes: int) -> tuple[bool, list[str]]:
    """Take out the columns that were not used for longest; whether there is room now, and the
    keys whose files may be removed.

    What was used since the oldest running task began may be mapped by one and stays: on a shared
    file system a removed file would be gone under its reader.
    """
    over = used_bytes() + needed_bytes - settings.FEATURES_MAX_BYTES
    if over <= 0:
        return True, []
    idle = FeatureColumn.objects.filter(state=ColumnState.READY)
    running = TrainingTask.objects.filter(status=Status.RUNNING)
    if since := running.aggregate(since=Min("started_at"))["since"]:
        idle = idle.filter(last_used_at__lt=since)
    chosen: list[str] = []
    for key, size_bytes in idle.order_by("last_used_at", "key").values_list("key", "bytes"):
        if over <= 0:
            break
        chosen.append(key)
        over -= size_bytes
    for some in _pieces(chosen):
        idle.filter(key__in=some).delete()
    kept = known(chosen)
    gone = [key for key in chosen if key not in kept]
    count(evicted=len(gone))
    return over <= 0, gone


def known(keys: Iterable[str]) -> set[str]:
    """Those of the keys that have a row."""
    return {
        key
        for some in _pieces(keys)
        for key in FeatureColumn.objects.filter(key__in=some).values_list("key", flat=True)
    }


# ── Figures ─────────────────────────────────────────────────────────────────────────────


def count(**more: int) -> None:
    """Add to the totals; names as in TOTALS."""
    for name, value in more.items():
        if not value:
            continue
        row = FeatureTotal.objects.filter(name=name)
        added = row.update(value=F("value") + value)
        if not added:
            FeatureTotal.objects.bulk_create([FeatureTotal(name=name)], ignore_conflicts=True)
            row.update(value=F("value") + value)


def figures() -> dict[str, int]:
    """The store now (columns, making, bytes, limit_bytes), and TOTALS since it began."""
    totals = dict(FeatureTotal.objects.values_list("name", "value"))
    ready = Q(state=ColumnState.READY)
    now = FeatureColumn.objects.aggregate(
        columns=Count("key", filter=ready),
        making=Count("key", filter=~ready),
        bytes=Sum("bytes", filter=ready),
    )
    return {
        "columns": now["columns"],
        "making": now["making"],
        "bytes": now["bytes"] or 0,
        "limit_bytes": settings.FEATURES_MAX_BYTES,
        **{name: totals.get(name, 0) for name in TOTALS},
    }


def _pieces(keys: Iterable[str]) -> Iterator[list[str]]:
    every = list(dict.fromkeys(keys))
    for start in range(0, len(every), KEYS_AT_ONCE):
        yield every[start : start + KEYS_AT_ONCE]
