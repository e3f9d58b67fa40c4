"""The files a training leaves: each is whole or not there, and known by its hash.

Written below one folder under a temporary name, synced, then renamed. What reads them later
(the leader, the web) never sees half a file.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PART_SUFFIX = ".part"


@dataclass(frozen=True)
class Artifact:
    """One finished file: `path` below the folder with "/", size in bytes, sha256 in hex."""

    path: str
    bytes: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class ArtifactFolder:
    """A folder that is only written through `write`; later writes of a name replace it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self._written: dict[str, Artifact] = {}

    def write(self, path: str, writer: Callable[[Path], object]) -> Artifact:
        """Let `writer` fill a temporary file, then give it its name.

        Raises: ValueError, if `path` leads out of the folder; whatever `writer` raises, and then
        nothing is left of the file.
        """
        target = self.locate(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + PART_SUFFIX)
        try:
            writer(part)
            artifact = Artifact(path, part.stat().st_size, _sync_and_hash(part))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        _sync_folder(target.parent)
        self._written[path] = artifact
        return artifact

    def write_json(self, path: str, value: Any) -> Artifact:
        """Raises: ValueError for NaN and infinities, which are no JSON."""
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return self.write(path, lambda part: part.write_text(text, encoding="utf-8"))

    def locate(self, path: str) -> Path:
        """The file's place, whether it exists or not. Raises: ValueError outside the folder."""
        target = (self.root / path).resolve()
        if self.root not in target.parents or target.name.endswith(PART_SUFFIX):
            raise ValueError(f"{path!r} is no file name inside the artifacts")
        return target

    def list(self) -> list[Artifact]:
        """All finished files, by path."""
        return [self._written[path] for path in sorted(self._written)]


def _sync_and_hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return digest


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
