"""A text becomes signs, names and numbers, each with its column; strangers are refused."""

import re
from dataclasses import dataclass

from training.expressions.tree import BadExpression

MAX_NODES = 400
MAX_TOKENS = 4 * MAX_NODES

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
_NO_SIGN = "Qlib's expressions know no '{}'"


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    column: int


def tokens(text: str) -> tuple[Token, ...]:
    """All tokens of a text; the last is of kind `end`. Raises: BadExpression."""
    found = []
    place, end = 0, len(text.rstrip(" \t"))
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise _stranger(text, place)
        kind = match.lastgroup
        found.append(Token(kind, match[kind], match.start(kind) + 1))
        if len(found) > MAX_TOKENS:
            raise BadExpression(f"the expression has more than {MAX_NODES} parts")
        place = match.end()
    found.append(Token("end", "", end + 1))
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
