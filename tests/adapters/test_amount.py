import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.kit.amount import amount_text, units_of
from schemas.values.amounts import AMOUNT_LIMIT


@given(st.integers(0, AMOUNT_LIMIT - 1), st.integers(0, 9))
def test_what_is_written_is_read_back(units, scale):
    """For every amount and every scale, to the last unit."""
    assert units_of(amount_text(units, scale), scale) == units


@pytest.mark.parametrize(
    ("text", "scale", "units"),
    [("12.34", 2, 1_234), ("12.3", 2, 1_230), ("12", 2, 1_200), ("0.05", 2, 5), ("7", 0, 7)],
)
def test_fewer_places_than_the_scale_are_read(text, scale, units):
    """A merchant may leave zeros out."""
    assert units_of(text, scale) == units


@pytest.mark.parametrize(
    "text",
    ["", "1.", ".5", "-1", "+1", "1e3", "1,000", "01", " 1", "1\n", "0x1", "NaN", "١٢", "1.005"],
)
def test_what_is_no_plain_decimal_is_refused(text):
    """Nothing is guessed and nothing rounds."""
    with pytest.raises(ValueError, match=r"decimal"):
        units_of(text, 2)


def test_amounts_stay_below_the_limit():
    """10^15 smallest units is the first amount that is none."""
    assert units_of("9999999999999.99", 2) == AMOUNT_LIMIT - 1
    with pytest.raises(ValueError, match="smallest units"):
        units_of("10000000000000.00", 2)
    assert amount_text(-1_234, 2) == "-12.34"
