"""A posted document: read within limits, with the place of everything in it.

No meaning here: that is `check`. Nothing is rendered, resolved or imported.
"""

import datetime
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from training.errors import Fault, InvalidConfig, TooLarge
from training.workflow.yaml12 import MAX_LEVELS, MAX_NODES, BadYaml, Places, compose

MAX_JSON_BYTES = 1024 * 1024
MAX_YAML_BYTES = 128 * 1024
MAX_TEXT = 20_000
MAX_FAULTS = 100

Path = tuple[str | int, ...]

_JINJA = re.compile(r"\{\{|\{%|\{#")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")


@dataclass(frozen=True)
class Document:
    """What was posted: `data` as plain values (dates as ISO texts), `posted` as it came."""

    data: dict[str, Any]
    posted: str
    places: Places = field(default_factory=dict, repr=False)
    roots: Any = None

    def place(self, path: Path) -> tuple[int, int] | None:
        """Line and column of the key or item, or of the nearest thing above that has one."""
        found, here = None, self.roots
        for step in path:
            table = self.places.get(id(here))
            if table is None or step not in table:
                break
            found = table[step]
            here = here[step]
        return found


def parse(body: bytes, *, content_type: str) -> Document:
    """Reads a posted workflow, YAML 1.2 or JSON by its content type.

    Raises: TooLarge, over a limit of size, levels or nodes; InvalidConfig, if it can't be read.
    """
    is_yaml = content_type.partition(";")[0].strip().lower() in _YAML_TYPES
    limit = MAX_YAML_BYTES if is_yaml else MAX_JSON_BYTES
    if len(body) > limit:
        name = "YAML" if is_yaml else "JSON"
        raise TooLarge(f"The workflow is larger than {limit // 1024} KiB of {name}.")
    text = _decoded(body)
    _refuse_jinja(text)
    return _from_yaml(text) if is_yaml else _from_json(text)


def from_data(data: dict[str, Any]) -> Document:
    """A document that was a value all along, as when a finished task is tried again."""
    return Document(_normal(data), json.dumps(data))


def _decoded(body: bytes) -> str:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidConfig([Fault("", f"not UTF-8: byte {error.start} does not fit")]) from error
    if "\x00" in text:
        raise InvalidConfig([Fault("", "the text contains a NUL character")])
    return text


def _refuse_jinja(text: str) -> None:
    match = _JINJA.search(text)
    if match is None:
        return
    line = text.count("\n", 0, match.start()) + 1
    column = match.start() - (text.rfind("\n", 0, match.start()) + 1) + 1
    message = f"`{match[0]}` would be a Jinja template, which could read and run anything"
    hint = "write the value itself"
    raise InvalidConfig([Fault("", message, hint, line=line, column=column)])


def _from_yaml(text: str) -> Document:
    try:
        composed = compose(text)
    except BadYaml as error:
        raise InvalidConfig([error.fault]) from error
    document = Document({}, text, composed.places, composed.value)
    faults = [*composed.faults, *_faults_in(document, composed.value)]
    if faults:
        raise InvalidConfig(faults[:MAX_FAULTS])
    return Document(_normal(composed.value), text, composed.places, composed.value)


def _from_json(text: str) -> Document:
    doubled: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            doubled.extend(sorted({name for name in names if names.count(name) > 1}))
        return content

    try:
        data = json.loads(text, object_pairs_hook=mapping)
    except RecursionError as error:
        raise TooLarge(f"The document is deeper than {MAX_LEVELS} levels.") from error
    except json.JSONDecodeError as error:
        fault = Fault("", f"not JSON: {error.msg}", line=error.lineno, column=error.colno)
        raise InvalidConfig([fault]) from error
    except ValueError as error:
        raise InvalidConfig([Fault("", f"not JSON: {error}")]) from error
    _bound(data)
    document = Document({}, text)
    faults = [Fault(name, f"the key `{name[:80]}` stands twice") for name in doubled]
    faults += _faults_in(document, data)
    if faults:
        raise InvalidConfig(faults[:MAX_FAULTS])
    return Document(_normal(data), text)


def _bound(data: Any) -> None:
    nodes, stack = 0, [(data, 1)]
    while stack:
        value, level = stack.pop()
        nodes += 1
        if level > MAX_LEVELS:
            raise TooLarge(f"The document is deeper than {MAX_LEVELS} levels.")
        if isinstance(value, dict):
            nodes += len(value)
            stack.extend((item, level + 1) for item in value.values())
        elif isinstance(value, list):
            stack.extend((item, level + 1) for item in value)
        if nodes > MAX_NODES:
            raise TooLarge(f"The document has more than {MAX_NODES:,} nodes.")


def _faults_in(document: Document, data: Any) -> Iterator[Fault]:
    if not isinstance(data, dict):
        yield Fault("", "a workflow is a mapping with `qlib_init` and `task`")
        return
    seen: set[int] = set()
    stack: list[tuple[Path, Any]] = [((), data)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict | list):
            if id(value) in seen:
                continue
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                here = (*path, key)
                if message := _fault_of_key(key) or _fault_of_scalar(item):
                    yield _fault_at(document, here, message)
                stack.append((here, item))


def _fault_at(document: Document, path: Path, message: str) -> Fault:
    line, column = document.place(path) or (None, None)
    shown = ".".join(str(step)[:80] for step in path)
    return Fault(_SURROGATE.sub("?", shown).replace("\x00", "?"), message, None, line, column)


def _fault_of_key(key: Any) -> str | None:
    if isinstance(key, str):
        return _fault_of_text(key)
    return None if isinstance(key, int) else "a key is a text"


def _fault_of_scalar(value: Any) -> str | None:
    if isinstance(value, str):
        return _fault_of_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "not a finite number"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a whole number has at most 63 bits"
    return None


def _fault_of_text(text: str) -> str | None:
    if "\x00" in text:
        return "the text contains a NUL character"
    if _SURROGATE.search(text):
        return "the text contains half a character (a lone surrogate)"
    return f"the text is longer than {MAX_TEXT} characters" if len(text) > MAX_TEXT else None


def _normal(value: Any) -> Any:
    """Dates as ISO texts, keys as texts; shared values stay shared."""
    return _normalised(value, {})


def _normalised(value: Any, done: dict[int, Any]) -> Any:
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        result: Any = {}
        done[id(value)] = result
        for key, item in value.items():
            result[key if isinstance(key, str) else str(key)] = _normalised(item, done)
        return result
    if isinstance(value, list):
        result = []
        done[id(value)] = result
        result.extend(_normalised(item, done) for item in value)
        return result
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    return value.isoformat() if isinstance(value, datetime.date) else value
