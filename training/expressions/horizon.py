"""How far an expression looks back and ahead."""

from training.expressions.tree import Binary, Call, Node, Number

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
