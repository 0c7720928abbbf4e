"""Numbers as text: signs, digits, units, and a dash for what is not there."""

import pytest

from colocate import formats as f


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1302552, "1,302,552"),
        (1234.6, "1235"),
        (0.123456, "0.123"),
        (-0.5, "−0.500"),
        (1.234e-5, "1.23 × 10^−5"),
        (float("nan"), "–"),
        (None, "–"),
        ("as it is", "as it is"),
        (float("inf"), "∞"),
    ],
)
def test_number(value, text):
    assert f.number(value) == text


def test_signs_and_intervals():
    assert f.fixed(-0.305, 1, sign=True) == "−0.3"
    assert f.fixed(0.305, 1, sign=True) == "+0.3"
    assert f.fixed(-0.04, 1, sign=True) == "0.0"
    assert f.interval(-0.5, 0.25) == "−0.50 to 0.25"
    assert f.interval(None, 0.25) == "–"


def test_a_small_p_is_never_zero():
    assert f.p_value(1.66e-6) == "< 0.001"
    assert f.p_value(0.0123) == "0.012"
    assert f.p_value(1.0) == "1.00"
    assert f.p_value(float("nan")) == "–"


def test_units():
    assert f.percent(0.1254) == "12.5 %"
    assert [f.duration(s) for s in (2.34, 42, 90, 7200)] == ["2.3 s", "42 s", "1.5 min", "2.0 h"]
    assert f.scaled(1.35e8) == "135 M"
    assert f.scaled(1.94e13, "FLOP") == "19.4 TFLOP"
    assert f.scaled(500, "J") == "500 J"


def test_layers_join_runs():
    assert f.layers([0, 1, 2, 3, 6, 7, 20]) == "0–3, 6, 7, 20"
    assert f.layers([]) == "none"
