"""Expressions as one graph: every step once, however many expressions contain it.

A step has an operator, the steps that it reads, and fixed parameters. The operators of the language
are broken down here into the steps that `steps.py` can compute.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from training.engine.features.formula import ELSEWHERE, NotCovered, parts
from training.expressions import Field, Node, Number, Text

Parameter = int | float | str
EXPANDING = 1 << 40
"""The size of a window that never loses a row."""
FLOAT, INTEGER, TRUTH = "float", "integer", "truth"

_COMPARISONS = frozenset({"Lt", "Le", "Gt", "Ge", "Eq", "Ne"})
_LOGIC = frozenset({"And", "Or"})
_PAIRS = frozenset({"Add", "Sub", "Mul", "Div", "Power", "Greater", "Less"})
_UNARY = frozenset({"Abs", "Sign", "Log"})
_WINDOWS = frozenset(
    [
        *("Mean", "Sum", "Std", "Var", "Skew", "Kurt", "Max", "Min", "IdxMax", "IdxMin"),
        *("Med", "Mad", "WMA", "Rank"),
    ]
)
_LINES = frozenset({"Slope", "Rsquare", "Resi"})
_ROLLING = {
    **{"mean": "Mean", "sum": "Sum", "std": "Std", "var": "Var", "skew": "Skew", "kurt": "Kurt"},
    **{"max": "Max", "min": "Min", "median": "Med"},
}
_COVERED = frozenset(
    [
        *(ELSEWHERE.keys() | _COMPARISONS | _LOGIC | _PAIRS | _UNARY | _WINDOWS | _LINES),
        *("Not", "If", "Corr", "Cov", "Ref", "Delta", "EMA", "Count", "Quantile", "Rolling"),
    ]
)
# The shortest windows that pandas takes; Qlib raises for others.
_SHORTEST = {"Skew": 3, "Kurt": 4}


class Step(NamedTuple):
    operator: str
    inputs: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What it takes to compute some steps.

    uses: how often each step's result is read. together: by (input, size), the steps that need the
    same sorted window.
    """

    uses: Counter[int]
    together: dict[tuple[int, Parameter], list[int]]


@dataclass
class Graph:
    """Grows by `add`; a step's number is its place in `steps`."""

    steps: list[Step] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    _known: dict[str, int] = field(default_factory=dict)

    def add(self, tree: Node) -> int:
        """The step of the tree's result. Raises: NotCovered."""
        if isinstance(tree, Field):
            return self._step(FLOAT, "field", (), tree.name)
        if isinstance(tree, Number):
            kind = INTEGER if isinstance(tree.value, int) else FLOAT
            return self._step(kind, "number", (), tree.value)
        if isinstance(tree, Text):
            raise NotCovered("a text has no values")
        return self._operation(*parts(tree))

    def plan(self, roots: Sequence[int]) -> Plan:
        """The steps below `roots`, each counted once for each reader; a root has one more."""
        uses, together = Counter(roots), dict[tuple[int, Parameter], list[int]]()
        seen, stack = set[int](), list(roots)
        while stack:
            number = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            step = self.steps[number]
            if step.operator == "elsewhere":
                continue
            uses.update(step.inputs)
            stack += step.inputs
            if step.operator in ("Rank", "Quantile", "Med"):
                together.setdefault((step.inputs[0], step.parameters[0]), []).append(number)
        return Plan(uses, together)

    def _step(
        self, kind: str, operator: str, inputs: tuple[int, ...], *parameters: Parameter
    ) -> int:
        # By spelling: 1, 1.0 and True are equal to Python, and so are 0.0 and -0.0.
        key = repr((operator, inputs, parameters))
        if key not in self._known:
            self._known[key] = len(self.steps)
            self.steps.append(Step(operator, inputs, parameters))
            self.kinds.append(kind)
        return self._known[key]

    def _operation(self, operator: str, arguments: tuple[Node, ...]) -> int:
        if operator not in _COVERED:
            raise NotCovered(f"the operator {operator}")
        if operator in ELSEWHERE:
            name, expression = (arguments[place] for place in ELSEWHERE[operator])
            child = self.add(expression)
            return self._step(self.kinds[child], "elsewhere", (child,), _text(name))
        if operator in _COMPARISONS | _LOGIC | _PAIRS:
            return self._pair(operator, self.add(arguments[0]), self.add(arguments[1]))
        if operator == "If":
            return self._choice([self.add(argument) for argument in arguments])
        child = self.add(arguments[0])
        if operator in _UNARY or operator == "Not":
            return self._unary(operator, child)
        if operator in ("Corr", "Cov"):
            return self._pair_window(operator, child, self.add(arguments[1]), _size(arguments[2]))
        return self._window(operator, child, arguments)

    def _pair(self, operator: str, left: int, right: int) -> int:
        kinds = {self.kinds[left], self.kinds[right]}
        if operator in _COMPARISONS:
            return self._step(TRUTH, operator, (left, right))
        if operator in _LOGIC:
            if kinds != {TRUTH}:
                raise NotCovered(f"{operator} of something else than comparisons")
            return self._step(TRUTH, operator, (left, right))
        if FLOAT not in kinds and (kinds == {TRUTH} or operator == "Power"):
            raise NotCovered(f"{operator} of comparisons or whole numbers")
        kind = FLOAT if FLOAT in kinds or operator == "Div" else INTEGER
        return self._step(kind, operator, (left, right))

    def _choice(self, inputs: list[int]) -> int:
        kinds = {self.kinds[number] for number in inputs[1:]}
        kind = kinds.pop() if len(kinds) == 1 else FLOAT if FLOAT in kinds else INTEGER
        return self._step(kind, "If", tuple(inputs))

    def _unary(self, operator: str, child: int) -> int:
        kind = self.kinds[child]
        if (operator == "Not" and kind != TRUTH) or (operator == "Log" and kind == TRUTH):
            raise NotCovered(f"{operator} of {kind} values")
        return self._step(FLOAT if operator in ("Sign", "Log") else kind, operator, (child,))

    def _window(self, operator: str, child: int, arguments: tuple[Node, ...]) -> int:
        size = _size(arguments[1])
        if operator == "Rolling":
            operator = _ROLLING[_text(arguments[2])]
        if operator in ("Ref", "Delta"):
            return self._shifted(operator, child, size)
        if operator == "EMA":
            return self._decayed(child, size)
        if 0 < size < _SHORTEST.get(operator, 0):
            raise NotCovered(f"{operator} over {size} days")
        window = size or EXPANDING
        if operator == "Count":
            return self._sum_of("present", child, window)
        if operator == "Quantile":
            return self._quantile(child, window, _size(arguments[2]))
        if operator in _LINES:
            return self._line(operator, child, size)
        return self._step(FLOAT, operator, (self._observed(child),), window)

    def _observed(self, child: int) -> int:
        return self._step(FLOAT, "observed", (child,))

    def _sum_of(self, what: str, child: int, window: int | float) -> int:
        return self._step(FLOAT, "Sum", (self._step(FLOAT, what, (child,)),), window)

    def _shifted(self, operator: str, child: int, size: int | float) -> int:
        if self.kinds[child] == TRUTH:
            raise NotCovered(f"{operator} of a comparison")
        if operator == "Delta" and size == 0:
            raise NotCovered("Delta over 0 days")
        earlier = self._step(FLOAT, "Ref", (child,), size)
        return earlier if operator == "Ref" else self._step(FLOAT, "Sub", (child, earlier))

    def _decayed(self, child: int, size: int | float) -> int:
        if size == 0:
            raise NotCovered("EMA over 0 days")
        # pandas goes by way of the centre of mass, which costs the last bit of some decays.
        centre = (size - 1) / 2 if isinstance(size, int) else (1 - size) / size
        return self._step(FLOAT, "EMA", (self._observed(child),), 1.0 / (1.0 + centre))

    def _quantile(self, child: int, window: int | float, level: int | float) -> int:
        seen = self._observed(child)
        if level in (0, 1):
            return self._step(FLOAT, "Max" if level else "Min", (seen,), window)
        return self._step(FLOAT, "Quantile", (seen,), window, float(level))

    def _line(self, operator: str, child: int, size: int | float) -> int:
        inputs: tuple[int, ...] = (self._step(FLOAT, "double", (child,)),)
        if operator == "Rsquare" and size:
            inputs += (self._step(FLOAT, "Std", (self._observed(child),), size),)
        return self._step(FLOAT, operator, inputs, size)

    def _pair_window(self, operator: str, left: int, right: int, size: int | float) -> int:
        """Of the days on which both sides have a number, as pandas reckons it."""
        if size == 0:
            raise NotCovered(f"{operator} over 0 days")
        if TRUTH in (self.kinds[left], self.kinds[right]):
            raise NotCovered(f"{operator} of a comparison")
        x = self._observed(self._step(FLOAT, "where_both", (left, right)))
        y = self._observed(self._step(FLOAT, "where_both", (right, left)))
        product = self._step(FLOAT, "Mul", (x, y))
        inputs = [self._step(FLOAT, "Mean", (side,), size) for side in (product, x, y)]
        inputs.append(self._sum_of("present", self._step(FLOAT, "Add", (x, y)), size))
        if operator == "Corr":
            inputs += [self._step(FLOAT, "Var", (side,), size) for side in (x, y)]
            own = (self._observed(side) for side in (left, right))
            inputs += [self._step(FLOAT, "Std", (side,), size) for side in own]
        return self._step(FLOAT, operator, tuple(inputs))


def _size(argument: Node) -> int | float:
    if not isinstance(argument, Number):
        raise NotCovered("a size that is no number")
    return argument.value


def _text(argument: Node) -> str:
    if not isinstance(argument, Text):
        raise NotCovered("a name that is no text")
    return argument.value
