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

from training.expressions.horizon import reach
from training.expressions.parser import MAX_DEPTH, MAX_LENGTH, MAX_REACH, Operators, parse
from training.expressions.tokens import MAX_NODES, MAX_TOKENS
from training.expressions.tree import (
    BadExpression,
    Binary,
    Call,
    Field,
    Node,
    Number,
    Text,
    fields,
    instruments,
    walk,
)

__all__ = [
    "MAX_DEPTH",
    "MAX_LENGTH",
    "MAX_NODES",
    "MAX_REACH",
    "MAX_TOKENS",
    "BadExpression",
    "Binary",
    "Call",
    "Field",
    "Node",
    "Number",
    "Operators",
    "Text",
    "fields",
    "instruments",
    "parse",
    "reach",
    "walk",
]
