"""Qlib's field language, read by a grammar and never evaluated.

Qlib turns an expression such as `Mean($close, 5)/$close` into Python and calls `eval` on it. What
passes here is a small subset of Python in which nothing but fields, numbers, listed operators and
arithmetic can be said, and in which Python's `eval` would read the same meaning:

    comparison = either [("<" | "<=" | ">" | ">=" | "==" | "!=") either]
    either     = both {"|" both}            both   = sum {"&" sum}
    sum        = product {("+" | "-") product}
    product    = signed {("*" | "/") signed}
    signed     = {"+" | "-"} power          power  = atom ["**" signed]
    atom       = number | "$" name | Operator "(" arguments ")" | "(" comparison ")"

The result is a frozen tree that can be walked: by the check, by the search for future data, and by
whoever evaluates it. No Qlib, no pandas, no Django here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

MAX_LENGTH = 4000
MAX_NODES = 400
MAX_TOKENS = 4 * MAX_NODES
MAX_DEPTH = 40
MAX_WINDOW = 2000
# Nested windows add up: Mean(Ref($close, 2000), 2000) reads 4,000 days back.
MAX_REACH = 5000
MAX_NUMBER = 1e18

# What an argument may be; the catalogue gives each operator one of these per place.
SERIES, VALUE, WINDOW, SHIFT, DECAY = "series", "value", "window", "shift", "decay"
QUANTILE, INSTRUMENT, FREQUENCY, FUNCTION = "quantile", "instrument", "frequency", "function"

FUNCTIONS = frozenset({"mean", "sum", "std", "var", "skew", "kurt", "max", "min", "median"})
RESAMPLERS = frozenset({"mean", "sum", "std", "var", "max", "min", "median", "first", "last"})


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
Operators = Mapping[str, tuple[str, ...]]

_TOKEN = re.compile(
    r"[ \t]*(?:"
    r"(?P<number>(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)"
    r"|(?P<field>\$[A-Za-z_][A-Za-z0-9_]{0,63})"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]{0,63})"
    r"|(?P<text>'[A-Za-z0-9_.^\-]{1,32}'|\"[A-Za-z0-9_.^\-]{1,32}\")"
    r"|(?P<sign>\*\*|<=|>=|==|!=|[-+*/&|<>(),])"
    r")",
    re.ASCII,
)
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_NO_SIGN = "Qlib's expressions know no '{}'"
_TRAPS = {
    "and": "Python's `and` does not work on series: write `&`",
    "or": "Python's `or` does not work on series: write `|`",
    "not": "Python's `not` does not work on series: write `Not(…)`",
}


def parse(text: object, operators: Operators) -> Node:
    """Reads one expression; `operators` maps each known operator to its kinds of argument.

    Raises: BadExpression, with the column of the first thing that does not belong.
    """
    if not isinstance(text, str) or not text.strip():
        raise BadExpression("an expression is a text such as `Mean($close, 5)`")
    if len(text) > MAX_LENGTH:
        raise BadExpression(f"the expression is longer than {MAX_LENGTH} characters")
    return _Parser(text, operators).whole()


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


def reach(node: Node) -> tuple[int, int]:
    """How many days the expression reads (back, ahead) of the day it stands for.

    Expanding windows (N = 0) count as 0 back: Qlib reads from the start of what was loaded.
    """
    if isinstance(node, Binary):
        return _widest((node.left, node.right))
    if isinstance(node, Call):
        return _reach_of_call(node)
    return (0, 0)


def _widest(nodes: tuple[Node, ...]) -> tuple[int, int]:
    pairs = [reach(node) for node in nodes]
    return max(back for back, _ in pairs), max(ahead for _, ahead in pairs)


def _reach_of_call(call: Call) -> tuple[int, int]:
    back, ahead = _widest(call.arguments)
    steps = [part.value for part in call.arguments if isinstance(part, Number)]
    if call.operator == "Ref" and steps:
        step = int(steps[-1])
        return max(back + step, 0), max(ahead - step, 0)
    if call.operator == "Delta" and steps:
        step = int(steps[-1])
        return back + max(step, 0), ahead + max(-step, 0)
    if call.operator in _POINTWISE or not steps:
        return back, ahead
    window = next((step for step in steps if isinstance(step, int)), 0)
    return back + max(window - 1, 0), ahead


# Which argument names an instrument.
_NAMES_INSTRUMENT = {"ChangeInstrument": 0, "Mask": 1}

_POINTWISE = frozenset(
    [
        "Abs",
        "Sign",
        "Log",
        "Not",
        "Mask",
        "ChangeInstrument",
        "Power",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Greater",
        "Less",
        "Gt",
        "Ge",
        "Lt",
        "Le",
        "Eq",
        "Ne",
        "And",
        "Or",
        "If",
        "TResample",
    ]
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


def _tokens(text: str) -> tuple[_Token, ...]:
    found = []
    place, end = 0, len(text.rstrip(" \t"))
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise _stranger(text, place)
        kind = match.lastgroup
        found.append(_Token(kind, match[kind], match.start(kind) + 1))
        if len(found) > MAX_TOKENS:
            raise BadExpression(f"the expression has more than {MAX_NODES} parts")
        place = match.end()
    found.append(_Token("end", "", end + 1))
    return tuple(found)


def _stranger(text: str, place: int) -> BadExpression:
    while text[place] in " \t":
        place += 1
    mark = text[place]
    column = place + 1
    if text.startswith("$$", place):
        return BadExpression("point-in-time fields (`$$…`) are not in the datasets", column=column)
    if mark in "\r\n":
        return BadExpression("an expression stands on one line", column=column)
    if mark in "%^~@!" or text.startswith("//", place):
        return BadExpression(_NO_SIGN.format(mark), column=column)
    return BadExpression(f"{mark!r} can't stand in an expression", column=column)


class _Parser:
    """One pass, recursive descent; counts nodes and depth so that no input is expensive."""

    def __init__(self, text: str, operators: Operators) -> None:
        self._tokens = _tokens(text)
        self._place = 0
        self._nodes = 0
        self._depth = 0
        self._operators = operators

    def whole(self) -> Node:
        node = self._comparison()
        if self._here.kind != "end":
            raise self._unexpected()
        if isinstance(node, Number | Text):
            raise BadExpression("a constant alone is no expression: name a field such as `$close`")
        if max(reach(node)) > MAX_REACH:
            raise BadExpression(f"its windows add up to more than {MAX_REACH} days")
        return node

    @property
    def _here(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, *signs: str) -> str | None:
        token = self._here
        if token.kind == "sign" and token.text in signs:
            self._place += 1
            return token.text
        return None

    def _unexpected(self) -> BadExpression:
        token = self._here
        if token.kind == "end":
            return BadExpression("the expression breaks off", column=token.column)
        if token.text in _TRAPS:
            return BadExpression(_TRAPS[token.text], column=token.column)
        return BadExpression(f"`{token.text}` is not expected here", column=token.column)

    def _count(self, node: Node) -> Node:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise BadExpression(f"the expression has more than {MAX_NODES} parts")
        return node

    def _comparison(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadExpression(f"the expression nests deeper than {MAX_DEPTH} levels")
        left = self._either()
        column = self._here.column
        if sign := self._take(*_COMPARISONS):
            left = self._join(sign, left, self._either(), column=column)
            if self._here.kind == "sign" and self._here.text in _COMPARISONS:
                raise BadExpression(
                    "Python reads a chain of comparisons as its last one only: "
                    "write `(a < b) & (b < c)`",
                    column=self._here.column,
                )
        self._depth -= 1
        return left

    def _either(self) -> Node:
        left = self._both()
        while (column := self._here.column) and self._take("|"):
            left = self._join("|", left, self._both(), column=column)
        return left

    def _both(self) -> Node:
        left = self._sum()
        while (column := self._here.column) and self._take("&"):
            left = self._join("&", left, self._sum(), column=column)
        return left

    def _sum(self) -> Node:
        left = self._product()
        while (column := self._here.column) and (sign := self._take("+", "-")):
            left = self._join(sign, left, self._product(), column=column)
        return left

    def _product(self) -> Node:
        left = self._signed()
        while (column := self._here.column) and (sign := self._take("*", "/")):
            left = self._join(sign, left, self._signed(), column=column)
        return left

    def _signed(self) -> Node:
        column, minus, signed = self._here.column, False, False
        while sign := self._take("+", "-"):
            signed, minus = True, minus != (sign == "-")
        node = self._power()
        if not signed:
            return node
        if not isinstance(node, Number):
            raise BadExpression(
                "Qlib has no sign before a series: write `0 - …` or `-1 * …`", column=column
            )
        return Number(-node.value) if minus else node

    def _power(self) -> Node:
        base = self._atom()
        column = self._here.column
        if not self._take("**"):
            return base
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadExpression(f"the expression nests deeper than {MAX_DEPTH} levels")
        exponent = self._signed()
        self._depth -= 1
        return self._join("**", base, exponent, column=column)

    def _join(self, sign: str, left: Node, right: Node, *, column: int) -> Node:
        for side in (left, right):
            if isinstance(side, Text):
                raise BadExpression("a text in quotes can't be reckoned with", column=column)
        if isinstance(left, Number) and isinstance(right, Number):
            return Number(_fold(sign, left.value, right.value, column=column))
        return self._count(Binary(sign, left, right))

    def _atom(self) -> Node:
        token = self._here
        if token.kind == "number":
            self._place += 1
            return self._count(_number(token))
        if token.kind == "field":
            self._place += 1
            return self._count(Field(token.text[1:].lower()))
        if token.kind == "name":
            return self._call()
        if self._take("("):
            inside = self._comparison()
            if not self._take(")"):
                raise self._unexpected()
            return inside
        raise self._unexpected()

    def _call(self) -> Node:
        token = self._here
        following = self._tokens[self._place + 1]
        if token.text in _TRAPS or following.text != "(" or following.kind != "sign":
            raise self._bare_name(token)
        kinds = self._operators.get(token.text)
        if kinds is None:
            raise self._unknown_operator(token)
        self._place += 2
        arguments = self._arguments()
        if len(arguments) != len(kinds):
            raise BadExpression(
                f"{token.text} takes {len(kinds)} arguments, not {len(arguments)}",
                column=token.column,
            )
        call = Call(token.text, tuple(arguments))
        for kind, argument in zip(kinds, arguments, strict=True):
            _check_argument(call, kind, argument, column=token.column)
        _check_operands(call, kinds, column=token.column)
        return self._count(call)

    def _arguments(self) -> list[Node]:
        arguments = [self._argument()]
        while self._take(","):
            arguments.append(self._argument())
        if not self._take(")"):
            raise self._unexpected()
        return arguments

    def _argument(self) -> Node:
        token = self._here
        if token.kind == "text":
            self._place += 1
            return self._count(Text(token.text[1:-1]))
        return self._comparison()

    def _bare_name(self, token: _Token) -> BadExpression:
        if token.text in _TRAPS:
            return BadExpression(_TRAPS[token.text], column=token.column)
        if token.text in self._operators:
            return BadExpression(f"{token.text} wants arguments in brackets", column=token.column)
        return BadExpression(
            f"`{token.text}` is neither a field nor an operator",
            column=token.column,
            hint=f"did you mean ${token.text}?",
        )

    def _unknown_operator(self, token: _Token) -> BadExpression:
        near = get_close_matches(token.text, self._operators, n=1, cutoff=0.6)
        return BadExpression(
            f"there is no operator {token.text}",
            column=token.column,
            hint=f"did you mean {near[0]}?" if near else None,
        )


def _number(token: _Token) -> Number:
    text = token.text
    if len(text) > 40:
        raise BadExpression("a number has at most 40 characters", column=token.column)
    value: int | float = int(text) if text.isdigit() else float(text)
    return Number(_bounded(value, column=token.column))


def _bounded(value: int | float, *, column: int) -> int | float:
    if not abs(value) <= MAX_NUMBER:
        raise BadExpression("a number lies between -1e18 and 1e18", column=column)
    return value


def _fold(sign: str, left: int | float, right: int | float, *, column: int) -> int | float:
    """Arithmetic of two constants; Python would do it too, so no power and nothing large."""
    if sign == "+":
        return _bounded(left + right, column=column)
    if sign == "-":
        return _bounded(left - right, column=column)
    if sign == "*":
        return _bounded(left * right, column=column)
    if sign == "/" and right != 0:
        return _bounded(left / right, column=column)
    raise BadExpression(f"`{sign}` of two constants is not accepted", column=column)


def _check_argument(call: Call, kind: str, argument: Node, *, column: int) -> None:
    fault = _fault_of_argument(call.operator, kind, argument)
    if fault is not None:
        raise BadExpression(f"{call.operator} {fault}", column=column)


def _fault_of_argument(operator: str, kind: str, argument: Node) -> str | None:
    if kind in _TEXT_KINDS:
        return _fault_of_text(operator, kind, argument)
    if isinstance(argument, Text):
        return "takes no text in quotes there"
    if kind == SERIES and isinstance(argument, Number):
        return "wants a series there, not a number"
    if kind in (WINDOW, SHIFT, DECAY, QUANTILE):
        return _fault_of_constant(kind, argument)
    return None


_TEXT_KINDS = (INSTRUMENT, FREQUENCY, FUNCTION)
_FREQUENCY = re.compile(r"[1-9][0-9]{0,2}(?:d|D|W|M|min|h)|[dDWM]|day|week|month", re.ASCII)


def _fault_of_text(operator: str, kind: str, argument: Node) -> str | None:
    if not isinstance(argument, Text):
        return f"wants {'an' if kind == INSTRUMENT else 'a'} {kind} in quotes there"
    if kind == FREQUENCY and not _FREQUENCY.fullmatch(argument.value):
        return "wants a frequency such as '1d' or '1W'"
    known = RESAMPLERS if operator == "TResample" else FUNCTIONS
    if kind == FUNCTION and argument.value not in known:
        return f"knows only {', '.join(sorted(known))}"
    return None


def _fault_of_constant(kind: str, argument: Node) -> str | None:
    if not isinstance(argument, Number):
        return f"wants a constant as its {kind}"
    value = argument.value
    if kind == QUANTILE:
        return None if 0 <= value <= 1 else "wants a quantile between 0 and 1"
    if kind == DECAY and isinstance(value, float):
        return None if 0 < value < 1 else "wants a whole window or a decay between 0 and 1"
    if not isinstance(value, int):
        return f"wants a whole number as its {kind}"
    low = -MAX_WINDOW if kind == SHIFT else 0
    return None if low <= value <= MAX_WINDOW else f"wants a {kind} of {low} to {MAX_WINDOW} days"


def _check_operands(call: Call, kinds: tuple[str, ...], *, column: int) -> None:
    """Two constants make no series: Qlib fails on `Add(1, 2)` only when the data is loaded."""
    values = [a for a, kind in zip(call.arguments, kinds, strict=True) if kind == VALUE]
    if values and SERIES not in kinds and all(isinstance(value, Number) for value in values):
        raise BadExpression(f"{call.operator} wants at least one series", column=column)
