"""YAML 1.2 as Qlib reads it, on libyaml's events.

Qlib reads with `ruamel.yaml`, safe and pure: right and slow (tens of milliseconds for an example).
This takes the events of libyaml and gives plain scalars ruamel's YAML 1.2 meaning: `1e-3` is a
number, `yes` a text, `010` ten. A test compares both on every example and on generated documents.
Explicit tags, directives and a second document are refused rather than guessed at.
"""

import datetime
import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml._yaml import CParser

from training.errors import Fault, TooLarge

MAX_LEVELS = 64
MAX_NODES = 100_000

Place = tuple[int, int]
Places = dict[int, dict[Any, Place]]

_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_INT = re.compile(r"(?:[-+]?0b[01_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+|[-+]?0x[0-9a-fA-F_]+)\Z")
_TIME = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)"
    r"(?:(?:[Tt]|[ \t]+)(\d\d?):(\d\d):(\d\d)(?:\.(\d*))?"
    r"(?:[ \t]*(Z|([-+])(\d\d?)(?::(\d\d))?))?)?\Z",
    re.ASCII,
)
_DATE_ONLY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_NULLS = ("", "~", "null", "Null", "NULL")
_MERGE = object()


class BadYaml(ValueError):
    """The text is not a document of this dialect; line and column are 1-based."""

    def __init__(self, message: str, *, place: Place = (1, 1), hint: str | None = None) -> None:
        super().__init__(message)
        self.fault = Fault("", message, hint, line=place[0], column=place[1])


@dataclass
class _Node:
    """A finished value, how many nodes it stands for, and how many levels it is deep."""

    value: Any
    nodes: int = 1
    levels: int = 1
    place: Place = (1, 1)


@dataclass
class Composed:
    """The value; where each key and item stands; and the keys that stood twice."""

    value: Any = None
    places: Places = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def compose(text: str) -> Composed:
    """Reads one document.

    Raises: BadYaml, where it can't be read on; TooLarge, beyond the levels or nodes.
    """
    reader = _Reader(text)
    try:
        return reader.whole()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise BadYaml(f"not readable as YAML: {error.problem}", place=place) from error
    except yaml.YAMLError as error:
        raise BadYaml(f"not readable as YAML: {error}") from error
    finally:
        reader.parser.dispose()


def is_text(text: str) -> bool:
    """Whether it is read as a text where it stands without quotes."""
    try:
        return bool(_resolve(text) == text)
    except (ValueError, IndexError, OverflowError):
        return False


class _Reader:
    def __init__(self, text: str) -> None:
        self.parser = CParser(text)
        self._anchors: dict[str, _Node | None] = {}
        self._places: Places = {}
        self._faults: list[Fault] = []
        self._events = 0

    def whole(self) -> Composed:
        self.parser.get_event()
        event: Any = self.parser.get_event()
        if isinstance(event, yaml.StreamEndEvent):
            return Composed(None)
        if event.version or event.tags:
            raise BadYaml("directives (`%YAML`, `%TAG`) are not accepted")
        node = self._node(self.parser.get_event(), 1)
        self.parser.get_event()
        event = self.parser.get_event()
        if not isinstance(event, yaml.StreamEndEvent):
            raise BadYaml("more than one document", place=_place(event))
        if node.nodes > MAX_NODES:
            raise TooLarge(f"The document has more than {MAX_NODES:,} nodes.")
        return Composed(node.value, self._places, self._faults)

    def _node(self, event: Any, level: int) -> _Node:
        # Checked while reading too, so that no memory is spent on what is refused anyway.
        self._events += 1
        if level > MAX_LEVELS:
            raise TooLarge(f"The document is deeper than {MAX_LEVELS} levels.")
        if self._events > MAX_NODES:
            raise TooLarge(f"The document has more than {MAX_NODES:,} nodes.")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, level)
        if event.tag is not None and event.tag != "!":
            raise BadYaml(f"tags such as {event.tag[:40]!r} are not accepted", place=_place(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(_scalar(event), place=_place(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, level)
        else:
            node = self._mapping(event, level)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, level: int) -> _Node:
        if event.anchor not in self._anchors:
            raise BadYaml(f"no anchor `&{event.anchor}` before this", place=_place(event))
        node = self._anchors[event.anchor]
        if node is None:
            raise BadYaml(f"`*{event.anchor}` contains itself", place=_place(event))
        if level + node.levels - 1 > MAX_LEVELS:
            raise TooLarge(f"The document is deeper than {MAX_LEVELS} levels.")
        return node

    def _sequence(self, event: Any, level: int) -> _Node:
        items: list[Any] = []
        places: dict[Any, Place] = {}
        node = _Node(items, place=_place(event))
        while not isinstance(event := self.parser.get_event(), yaml.SequenceEndEvent):
            places[len(items)] = _place(event)
            item = self._node(event, level + 1)
            items.append(_plain(item))
            _add(node, item)
        self._places[id(items)] = places
        return node

    def _mapping(self, event: Any, level: int) -> _Node:
        content: dict[Any, Any] = {}
        places: dict[Any, Place] = {}
        merged: _Node | None = None
        node = _Node(content, place=_place(event))
        while not isinstance(event := self.parser.get_event(), yaml.MappingEndEvent):
            place = _place(event)
            key = self._node(event, level + 1)
            value = self._node(self.parser.get_event(), level + 1)
            _add(node, key)
            _add(node, value)
            if key.value is _MERGE:
                if merged is not None:
                    raise BadYaml("`<<` stands twice in one mapping", place=place)
                merged = value
                continue
            self._put(content, places, key.value, _plain(value), place=place)
        if merged is not None:
            self._merge(content, places, merged)
        self._places[id(content)] = places
        return node

    def _put(
        self,
        content: dict[Any, Any],
        places: dict[Any, Place],
        key: Any,
        value: Any,
        *,
        place: Place,
    ) -> None:
        if isinstance(key, dict | list):
            raise BadYaml("a key is a text or a number", place=place)
        if key in content:
            first = places[key][0]
            self._faults.append(
                Fault(
                    str(key),
                    f"the key `{key}` stands twice (first in line {first})",
                    line=place[0],
                    column=place[1],
                )
            )
            return
        content[key] = value
        places[key] = place

    def _merge(self, content: dict[Any, Any], places: dict[Any, Place], merged: _Node) -> None:
        """`<<`: keys of the mapping itself win, then those of the first mapping merged."""
        sources = merged.value if isinstance(merged.value, list) else [merged.value]
        own = dict(content)
        content.clear()
        for source in reversed(sources):
            if not isinstance(source, dict):
                raise BadYaml("`<<` merges mappings only", place=merged.place)
            content.update(source)
            for key in source:
                if key not in own:
                    places[key] = self._places[id(source)].get(key, merged.place)
        content.update(own)


def _add(node: _Node, child: _Node) -> None:
    node.nodes += child.nodes
    node.levels = max(node.levels, child.levels + 1)
    if node.nodes > MAX_NODES:
        raise TooLarge(f"The document has more than {MAX_NODES:,} nodes.")


def _place(event: Any) -> Place:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _plain(node: _Node) -> Any:
    if node.value is _MERGE:
        raise BadYaml("`<<` stands where a value should be", place=node.place)
    return node.value


def _scalar(event: Any) -> Any:
    text = event.value
    # `implicit` is (plain, quoted); a plain scalar with the tag `!` is a text.
    if not event.implicit[0] or event.style is not None and event.style != "":
        return text
    try:
        return _resolve(text)
    except (ValueError, IndexError, OverflowError) as error:
        raise BadYaml(f"{text[:40]!r} is no number or date", place=_place(event)) from error


def _resolve(text: str) -> Any:
    """A plain scalar's value by ruamel's YAML 1.2 resolvers, in their order."""
    if text in _NULLS:
        return None
    first = text[0]
    if first in "tTfF" and _BOOL.match(text):
        return text.lower() == "true"
    if first in "-+.0123456789":
        if _FLOAT.match(text):
            return _float(text)
        if first != "." and _INT.match(text):
            return _int(text)
        if first in "0123456789" and (_DATE_ONLY.match(text) or ":" in text):
            return _time(text)
        return text
    if text == "<<":
        return _MERGE
    if text == "=":
        raise ValueError("a bare `=` has a meaning of its own in YAML")
    return text


def _float(text: str) -> float:
    bare = text.replace("_", "").lower()
    if bare.endswith((".inf", ".nan")):
        return float(bare.replace(".", ""))
    return float(bare)


def _int(text: str) -> int:
    bare = text.replace("_", "")
    sign = -1 if bare[0] == "-" else 1
    bare = bare.lstrip("+-") if bare[0] in "+-" else bare
    for prefix, base in (("0b", 2), ("0x", 16), ("0o", 8)):
        if bare.startswith(prefix):
            return sign * int(bare[2:], base)
    return sign * int(bare)


def _time(text: str) -> Any:
    match = _TIME.match(text)
    if match is None:
        return text
    year, month, day, hour, minute, second, fraction, zone, sign, zone_h, zone_m = match.groups()
    if hour is None:
        return datetime.date(int(year), int(month), int(day))
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    moment = datetime.datetime(  # noqa: DTZ001 - as ruamel: UTC without saying so
        int(year), int(month), int(day), int(hour), int(minute), int(second), micros
    )
    if zone and sign:
        shift = datetime.timedelta(hours=int(zone_h), minutes=int(zone_m or 0))
        moment -= shift if sign == "+" else -shift
    return moment
