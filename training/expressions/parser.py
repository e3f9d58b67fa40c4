"""Recursive descent over the tokens; the grammar is in the package's own words."""

from collections.abc import Mapping
from difflib import get_close_matches

from training.expressions.arguments import check_argument, check_operands
from training.expressions.constants import fold, read_number
from training.expressions.horizon import reach
from training.expressions.tokens import MAX_NODES, Token, tokens
from training.expressions.tree import BadExpression, Binary, Call, Field, Node, Number, Text

MAX_LENGTH = 4000
MAX_DEPTH = 40
# Nested windows add up: Mean(Ref($close, 2000), 2000) reads 4,000 days back.
MAX_REACH = 5000

Operators = Mapping[str, tuple[str, ...]]

_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
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


class _Parser:
    """One pass, recursive descent; counts nodes and depth so that no input is expensive."""

    def __init__(self, text: str, operators: Operators) -> None:
        self._tokens = tokens(text)
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
    def _here(self) -> Token:
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
            return Number(fold(sign, left.value, right.value, column=column))
        return self._count(Binary(sign, left, right))

    def _atom(self) -> Node:
        token = self._here
        if token.kind == "number":
            self._place += 1
            return self._count(read_number(token))
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
            check_argument(call, kind, argument, column=token.column)
        check_operands(call, kinds, column=token.column)
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

    def _bare_name(self, token: Token) -> BadExpression:
        if token.text in _TRAPS:
            return BadExpression(_TRAPS[token.text], column=token.column)
        if token.text in self._operators:
            return BadExpression(f"{token.text} wants arguments in brackets", column=token.column)
        return BadExpression(
            f"`{token.text}` is neither a field nor an operator",
            column=token.column,
            hint=f"did you mean ${token.text}?",
        )

    def _unknown_operator(self, token: Token) -> BadExpression:
        near = get_close_matches(token.text, self._operators, n=1, cutoff=0.6)
        return BadExpression(
            f"there is no operator {token.text}",
            column=token.column,
            hint=f"did you mean {near[0]}?" if near else None,
        )
