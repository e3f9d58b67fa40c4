"""Numbers, and arithmetic of two of them."""

from training.expressions.tokens import Token
from training.expressions.tree import BadExpression, Number

MAX_NUMBER = 1e18


def read_number(token: Token) -> Number:
    """The number that a token writes down; an int stays one. Raises: BadExpression."""
    text = token.text
    if len(text) > 40:
        raise BadExpression("a number has at most 40 characters", column=token.column)
    value: int | float = int(text) if text.isdigit() else float(text)
    return Number(_bounded(value, column=token.column))


def _bounded(value: int | float, *, column: int) -> int | float:
    if not abs(value) <= MAX_NUMBER:
        raise BadExpression("a number lies between -1e18 and 1e18", column=column)
    return value


def fold(sign: str, left: int | float, right: int | float, *, column: int) -> int | float:
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
