"""What an operator accepts in each of its places."""

import re

from training.expressions.tree import BadExpression, Call, Node, Number, Text

MAX_WINDOW = 2000

# What an argument may be; the catalogue gives each operator one of these per place.
SERIES, VALUE, WINDOW, SHIFT, DECAY = "series", "value", "window", "shift", "decay"
QUANTILE, INSTRUMENT, FREQUENCY, FUNCTION = "quantile", "instrument", "frequency", "function"

FUNCTIONS = frozenset({"mean", "sum", "std", "var", "skew", "kurt", "max", "min", "median"})
RESAMPLERS = frozenset({"mean", "sum", "std", "var", "max", "min", "median", "first", "last"})

_TEXT_KINDS = (INSTRUMENT, FREQUENCY, FUNCTION)
_FREQUENCY = re.compile(r"[1-9][0-9]{0,2}(?:d|D|W|M|min|h)|[dDWM]|day|week|month", re.ASCII)


def check_argument(call: Call, kind: str, argument: Node, *, column: int) -> None:
    """Raises: BadExpression, if the operator can't take this argument in a place of this kind."""
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


def check_operands(call: Call, kinds: tuple[str, ...], *, column: int) -> None:
    """Two constants make no series: Qlib fails on `Add(1, 2)` only when the data is loaded."""
    values = [a for a, kind in zip(call.arguments, kinds, strict=True) if kind == VALUE]
    if values and SERIES not in kinds and all(isinstance(value, Number) for value in values):
        raise BadExpression(f"{call.operator} wants at least one series", column=column)
