"""How values are said."""

import pytest

from training.dashboard import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (134_217.4, "134,217"),
        (-1_000.0, "−1,000"),
        (123.44, "123.4"),
        (12.345, "12.35"),
        (0.00234, "0.0023"),
        (0.0, "0.0000"),
        (1e-05, "1e−05"),
        (3e20, "3e+20"),
        (None, "–"),
    ],
)
def test_a_figure_has_about_four_digits_and_separators(value, said):
    assert words.figure(value) == said


def test_a_share_is_said_in_percent():
    assert words.figure(-0.0512, "return") == "−5.12 %"
    assert words.figure(12.5, "turnover") == "1,250.00 %"


@pytest.mark.parametrize(("share", "said"), [(1.0, "100 %"), (0.999_99, "99.99 %"), (0.5, "50 %")])
def test_only_what_has_no_gap_is_whole(share, said):
    assert words.completeness(share) == said
