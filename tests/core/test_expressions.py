"""Qlib's field language: what passes, what does not, and that nothing is ever evaluated."""

import os
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import catalogue, expressions
from training.expressions import BadExpression, Binary, Call, Field, Number, parse, reach

OPERATORS = catalogue.load().operators
# Of either kind of fuzzing; few in the plain run. 100,000 mutations take some seconds.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2000"))


@pytest.mark.parametrize("handler", ["Alpha158", "Alpha158DL", "Alpha360"])
def test_every_column_of_qlibs_handlers_passes(handler):
    columns = catalogue.load().columns[handler]

    trees = [parse(text, OPERATORS) for text in columns.values()]

    assert len(trees) == {"Alpha158": 158, "Alpha158DL": 158, "Alpha360": 360}[handler]
    assert all(reach(tree)[1] == 0 for tree in trees)


def test_an_expression_becomes_a_tree_with_pythons_precedence():
    tree = parse("Mean($close, 5)/$open-1 > 0", OPERATORS)

    mean = Call("Mean", (Field("close"), Number(5)))
    quotient = Binary("/", mean, Field("open"))
    assert tree == Binary(">", Binary("-", quotient, Number(1)), Number(0))


def test_a_power_binds_tighter_than_a_sign_before_a_number():
    assert parse("$close ** -2", OPERATORS) == Binary("**", Field("close"), Number(-2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ref($close, -2)/Ref($close, -1) - 1", (0, 2)),
        ("Mean(Ref($close, 3), 5)", (7, 0)),
        ("Mean(Ref($close, -3), 5)", (4, 3)),
        ("Ref(Ref($close, -3), 3)", (3, 0)),
        ("Delta($close, -2)", (0, 2)),
        ("Power($close, 2)", (0, 0)),
    ],
)
def test_reach_tells_how_far_back_and_ahead_an_expression_reads(text, expected):
    assert reach(parse(text, OPERATORS)) == expected


ESCAPES = [
    "__import__('os').system('touch x')",
    "(sys.modules['os'].system)('touch x')",
    "().__class__.__bases__[0].__subclasses__()",
    "$close.__class__",
    "[x for x in ().__class__]",
    "(lambda: 1)()",
    "eval('1')",
    "open('x')",
    "Operators.Ref($close, 1)",
    "Ref.__init__($close, 1)",
    "Feature('close')",
    "Ref($close, 1) if 1 else 2",
    "Ref(*[$close, 1])",
    "Ref(**{})",
    "Ref($close, N=1)",
    "$close; import os",
    "$close\nimport os",
    "f'{1}'",
    "'a'.join('b')",
    "Ref($close, __import__)",
    "Ref($close, (lambda:1)())",
    "9**9**9",
    "Power(9, 9)",
    "Ref($close, 10**12)",
    "Ref($close, 999999999)",
    "Mean($close, -5)",
    "Mean($close, 1.5)",
    "ChangeInstrument('../../x', $close)",
    "TResample($close, '1d', '__class__')",
    "Rolling($close, 5, 'apply')",
    "$close := 1",
    "$close @ $open",
    "$close // 2",
    "$close % 2",
    "~$close",
    "-$close",
    "$close and $open",
    "not $close",
    "1 < $close < 2",
    "$$roewa_q",
    "$ｃlose",
    "Mean（$close，5）",
    "Ref($close, 1)#",
    "\\x24close",
    "$close\x00",
    "1",
    "'close'",
    "close",
    "Meen($close, 5)",
    "Mean($close)",
    "Mean(5, 5)",
    "If(1, $close, $open)",
    "(" * 100 + "$close" + ")" * 100,
    "+".join(["$close"] * 500),
    "Mean(" * 60 + "$close" + ", 5)" * 60,
    "Ref(Ref(Ref($close, 2000), 2000), 2000)",
    "",
    "   ",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(BadExpression):
        parse(text, OPERATORS)


def test_an_unknown_operator_is_told_with_its_nearest_neighbour():
    with pytest.raises(BadExpression) as refused:
        parse("Meen($close, 5)", OPERATORS)

    assert refused.value.hint == "did you mean Mean?"
    assert refused.value.column == 1


# fmt: off
_PIECES = st.sampled_from(
    [
        "$close", "$open", "Mean", "Ref", "Std", "If", "Corr", "Power", "(", ")", ",", "+", "-",
        "*", "/", "**", "&", "|", "<", ">", "==", "1", "5", "0.5", "-1", "'x'", "os", "__class__",
        ".", "[", "]", "{", "}", "lambda", ":", ";", "eval", "import", "\\", "\n", "#", "@", "=",
        "1e9", "$$x", "and", "not",
    ]
)
# fmt: on


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(_PIECES, max_size=25).map(" ".join) | st.text(max_size=60))
def test_whatever_passes_is_made_of_listed_operators_only(text):
    try:
        tree = parse(text, OPERATORS)
    except BadExpression:
        return

    names = set(re.findall(r"(?<!\$)\b[A-Za-z_]\w*", re.sub(r"\$\w+|'[^']*'", " ", text)))
    assert {name for name in names if not re.fullmatch(r"[eE]\d*", name)} <= set(OPERATORS)
    assert expressions.fields(tree)
    assert max(reach(tree)) <= expressions.MAX_REACH


REAL = [text for columns in catalogue.load().columns.values() for text in columns.values()]
MARKS = [
    *"$()[]{}.,+-*/<>=&|'\"_0159aeflnot \\\n#@:;",
    "lambda",
    "Mean",
    "Ref",
    "$close",
    "__class__",
]


def mutated(chance):
    """One of Qlib's own expressions with up to four pieces put in, taken out or replaced."""
    text = list(chance.choice(REAL))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(text) + 1)
        text[place : place + chance.randint(0, 1)] = chance.choice([*MARKS, ""])
    return "".join(text)


def test_a_mutation_of_qlibs_own_expressions_is_refused_or_made_of_listed_operators():
    chance = random.Random(2026)  # noqa: S311
    passed = 0
    for _ in range(EXAMPLES):
        text = mutated(chance)
        try:
            tree = parse(text, OPERATORS)
        except BadExpression:
            continue
        passed += 1
        assert named(text) <= set(OPERATORS), text
        assert expressions.fields(tree), text
        assert max(reach(tree)) <= expressions.MAX_REACH, text

    assert EXAMPLES // 100 < passed < EXAMPLES // 2


def named(text):
    """Every word of the text that is no field, text in quotes or exponent of a number."""
    left = re.sub(r"\$\w+|'[^']*'|\"[^\"]*\"|\b[0-9.]+[eE][-+]?\d+", " ", text)
    return set(re.findall(r"[A-Za-z_]\w*", left))
