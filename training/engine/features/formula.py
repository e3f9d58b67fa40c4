"""What an expression needs before it is computed: its own one spelling, and days around the range.

Also says, for an expression as such, why Qlib has to compute it instead of us: NotCovered.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from training.expressions import Binary, Call, Field, Node, Number, Text, parse, walk

SIGNS = {
    **{"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "**": "Power", "&": "And", "|": "Or"},
    **{"<": "Lt", "<=": "Le", ">": "Gt", ">=": "Ge", "==": "Eq", "!=": "Ne"},
}
POINTWISE = frozenset({*SIGNS.values(), "Abs", "Sign", "Log", "Not", "If", "Greater", "Less"})
ELSEWHERE = {"ChangeInstrument": (0, 1), "Mask": (1, 0)}
"""Operators that read another instrument: the places of its name and of the expression."""
# Qlib fails on these where the spans of the fields differ, or reads by place instead of by day.
_SAME_SPAN = frozenset({"Lt", "Le", "Gt", "Ge", "Eq", "Ne", "And", "Or", "If", "Corr", "Cov"})


Read = tuple[str | None, str]


class NotCovered(Exception):
    """Qlib has to compute this expression; the text says why."""


@dataclass(frozen=True, slots=True)
class Formula:
    """One expression of the grammar.

    text: the same for expressions that mean the same calculation (spaces, brackets and signs as
    operators aside): what a stored column may be named by.
    back, ahead: how many days Qlib reads before and after the asked range.
    reads: the fields, each of an instrument or (None) of the one that a value is computed for.
    needs_equal_spans: whether it only makes sense where all of these have the same days.
    """

    text: str
    tree: Node
    back: int
    ahead: int
    operators: frozenset[str]
    reads: frozenset[Read]
    needs_equal_spans: bool

    @classmethod
    def read(cls, text: str, operators: Mapping[str, tuple[str, ...]]) -> "Formula":
        """Raises: BadExpression, if the grammar refuses it."""
        tree = parse(text, operators)
        back, ahead = extent(tree)
        names = frozenset(_named(tree))
        return cls(
            text=spell(tree),
            tree=tree,
            back=back,
            ahead=ahead,
            operators=names,
            reads=frozenset(_reads(tree, None)),
            needs_equal_spans=not names.isdisjoint(_SAME_SPAN),
        )


def spell(node: Node) -> str:
    """The one spelling of a tree; 1 and 1.0 stay apart, as they lead to different types."""
    if isinstance(node, Number):
        return repr(node.value)
    if isinstance(node, Field):
        return f"${node.name}"
    if isinstance(node, Text):
        return repr(node.value)
    operator, arguments = parts(node)
    return f"{operator}({','.join(spell(argument) for argument in arguments)})"


def parts(node: Binary | Call) -> tuple[str, tuple[Node, ...]]:
    """Operator and arguments; a sign is its operator."""
    if isinstance(node, Binary):
        return SIGNS[node.sign], (node.left, node.right)
    return node.operator, node.arguments


def calls(tree: Node, operator: str) -> set[str]:
    """The spelling of every call of this operator."""
    return {spell(n) for n in walk(tree) if isinstance(n, Call) and n.operator == operator}


def _named(node: Node) -> set[str]:
    if not isinstance(node, Binary | Call):
        return set()
    operator, arguments = parts(node)
    return {operator}.union(*(_named(argument) for argument in arguments))


def _reads(node: Node, instrument: str | None) -> set[Read]:
    if isinstance(node, Field):
        return {(instrument, node.name)}
    if not isinstance(node, Binary | Call):
        return set()
    operator, arguments = parts(node)
    if operator in ELSEWHERE:
        named = arguments[ELSEWHERE[operator][0]]
        instrument = named.value if isinstance(named, Text) else None
    return set[Read]().union(*(_reads(argument, instrument) for argument in arguments))


def extent(node: Node) -> tuple[int, int]:
    """Days before and after the range that Qlib loads for the whole expression.

    Running sums begin there, so that a shorter or longer reach would change last bits.
    Source: Qlib 0.9.7, qlib/data/ops.py, `get_extended_window_size` of each operator.
    """
    if not isinstance(node, Binary | Call):
        return 0, 0
    operator, arguments = parts(node)
    pairs = [extent(argument) for argument in arguments]
    back, ahead = max(b for b, _ in pairs), max(a for _, a in pairs)
    if operator in POINTWISE or operator in ELSEWHERE or operator == "TResample":
        return back, ahead
    size = _size(operator, arguments)
    if operator == "Ref":
        return max(back + int(size), back), max(ahead - int(size), ahead)
    if size == 0:
        return back, ahead
    if size < 1 and isinstance(size, float):
        size = int(math.log(1e-6) / math.log(1 - size))
    return max(back + int(size) - 1, back), ahead


def _size(operator: str, arguments: tuple[Node, ...]) -> int | float:
    place = 2 if operator in ("Corr", "Cov") else 1
    # An administrator's own operator may have fewer arguments; Qlib computes it anyway.
    size = arguments[place] if place < len(arguments) else None
    return size.value if isinstance(size, Number) else 0
