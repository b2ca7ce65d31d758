"""Purchases and programmes as files: what is read, and how a bad field is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from schemas.files.programmes import parse_programmes
from schemas.files.purchases import COLUMNS, parse_purchases
from schemas.values.faults import SchemaError

HEADER = ",".join(COLUMNS) + "\n"
GOOD = "2017-01-01T11:53:26,H900,PASTRY,50,0\n"
PROGRAMMES = """
[house]
fee_bps = 50
[[programme]]
code = "air"
unit = "mile"
scale = 0
value_num = 600
value_den = 1
earn_num = 1
earn_den = 100
valid_days = 540
cap_cu = 2_000_000
"""


def test_a_line_is_read_with_its_week():
    """Times are UTC, the week is its Monday's date, amounts are whole fen, lines count from the header."""
    [first, second] = parse_purchases([HEADER, GOOD, "2017-01-02T00:00:00,H1,A-B,1,2"])
    assert astuple(first) == (2, 1_483_271_606_000_000, "2016-12-26", "H900", "PASTRY", 50, 0)
    assert astuple(second) == (3, 1_483_315_200_000_000, "2017-01-02", "H1", "A-B", 1, 2)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("2017-01-01 11:53:26,H900,PASTRY,50,0", "line 3, occurred_at"),
        ("2017-02-30T11:53:26,H900,PASTRY,50,0", "line 3, occurred_at"),
        ("2017-01-01T11:53:25,H900,PASTRY,50,0", "line 3, occurred_at"),
        ("2017-01-01T24:00:00,H900,PASTRY,50,0", "line 3, occurred_at"),
        ("2017-01-01T11:53:60,H900,PASTRY,50,0", "line 3, occurred_at"),
        ("٢017-01-01T11:53:26,H900,PASTRY,50,0", "line 3, occurred_at"),
        ("2017-01-01T11:53:26,,PASTRY,50,0", "line 3, member"),
        ("2017-01-01T11:53:26,H\u3000900,PASTRY,50,0", "line 3, member"),
        ("2017-01-01T11:53:26,H 900,PASTRY,50,0", "line 3, member"),
        ("2017-01-01T11:53:26,H900,,50,0", "line 3, merchant"),
        ("2017-01-01T11:53:26,H900,PASTRY,-50,0", "line 3, amount_fen"),
        ("2017-01-01T11:53:26,H900,PASTRY,5.0,0", "line 3, amount_fen"),
        ("2017-01-01T11:53:26,H900,PASTRY,٥,0", "line 3, amount_fen"),
        ("2017-01-01T11:53:26,H900,PASTRY,50,", "line 3, discount_fen"),
        ("2017-01-01T11:53:26,H900,PASTRY,50,12345678901234", "line 3, discount_fen"),
        ("2017-01-01T11:53:26,H900,PASTRY,50", "line 3, discount_fen"),
        ("", "line 3, member"),
        ("2017-01-01T11:53:26,H900,PASTRY,50,0,0", "line 3, discount_fen"),
    ],
)
def test_a_malformed_line_is_named_by_number_and_field(line, path):
    """Whatever is wrong with a line, the fault says which line and which field; the line before it is read."""
    lines = parse_purchases([HEADER, GOOD, line])
    next(lines)
    with pytest.raises(SchemaError) as caught:
        next(lines)
    assert caught.value.path == path


def test_another_header_is_refused():
    """A file of other columns is refused before anything is read."""
    with pytest.raises(SchemaError, match="line 1, header"):
        list(parse_purchases(["a,b\n", GOOD]))


@given(st.text(max_size=60))
def test_no_text_makes_the_reader_fail_otherwise(text):
    """Any text either is a purchase or raises a SchemaError that names line 2."""
    paths = []
    try:
        list(parse_purchases([HEADER, text]))
    except SchemaError as error:
        paths.append(error.path)
    assert all(path.startswith("line 2, ") for path in paths)


def test_programmes_are_read():
    """Fees and terms stand as they do in the file; a programme is hosted unless it says otherwise."""
    parsed = parse_programmes(PROGRAMMES)
    assert parsed.house.fee_bps == 50
    [programme] = parsed.programme
    assert (programme.code, programme.value_num, programme.cap_cu, programme.hosted) == (
        "air",
        600,
        2_000_000,
        True,
    )


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("fee_bps = 50", "fee_bps = 10001"), "$.house.fee_bps"),
        (("value_den = 1", "value_den = 0"), "$.programme[0].value_den"),
        (("cap_cu = 2_000_000", "cap_cu = -1"), "$.programme[0].cap_cu"),
        (('code = "air"', 'code = "a/r"'), "$.programme[0].code"),
        (("scale = 0", "scale = 0.5"), "$.programme[0].scale"),
        (("scale = 0", "scale = 0\nspare = 1"), "$.programme[0]"),
        (("[house]", "[house"), "$"),
    ],
)
def test_a_bad_programme_names_its_field(change, path):
    """Missing, unknown and out-of-range fields of a programmes file are named by their path."""
    with pytest.raises(SchemaError) as caught:
        parse_programmes(PROGRAMMES.replace(*change))
    assert caught.value.path == path


def test_a_code_that_stands_twice_is_refused():
    """Two programmes of one merchant would make two merchants of it."""
    twice = PROGRAMMES + PROGRAMMES[PROGRAMMES.index("[[programme]]") :]
    with pytest.raises(SchemaError) as caught:
        parse_programmes(twice)
    assert caught.value.path == "$.programme[1].code"
