"""What an expression is once it is read: a frozen tree, and what can be asked of it."""

from collections.abc import Iterator
from dataclasses import dataclass


class BadExpression(ValueError):
    """The text is no expression of this language; `column` is 1-based within it."""

    def __init__(self, message: str, *, column: int = 1, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Number:
    value: int | float


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the store, without its `$`, lower case as Qlib reads it from disk."""

    name: str


@dataclass(frozen=True, slots=True)
class Text:
    value: str


@dataclass(frozen=True, slots=True)
class Binary:
    """`sign` is one of + - * / ** & | < <= > >= == !=."""

    sign: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Call:
    operator: str
    arguments: tuple["Node", ...]


Node = Number | Field | Text | Binary | Call

# Which argument names an instrument.
_NAMES_INSTRUMENT = {"ChangeInstrument": 0, "Mask": 1}


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    stack = [node]
    while stack:
        here = stack.pop()
        yield here
        if isinstance(here, Binary):
            stack += (here.left, here.right)
        elif isinstance(here, Call):
            stack += here.arguments


def fields(node: Node) -> frozenset[str]:
    """The names of all fields that the expression reads."""
    return frozenset(part.name for part in walk(node) if isinstance(part, Field))


def instruments(node: Node) -> frozenset[str]:
    """The instruments that the expression names itself."""
    named = (
        part.arguments[_NAMES_INSTRUMENT[part.operator]]
        for part in walk(node)
        if isinstance(part, Call) and part.operator in _NAMES_INSTRUMENT
    )
    return frozenset(argument.value for argument in named if isinstance(argument, Text))
