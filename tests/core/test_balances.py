"""Files with members' balances: they read back, and one wrong figure refuses the whole."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.files.balances import read_balances, write_balances
from schemas.files.csv_text import TOTAL
from schemas.values.faults import SchemaError

GOOD = f"""member,units,expires_at
m-1,1200,2099-06-30T16:00:00Z
m-1,35,
m-2,0,
{TOTAL},1235,3
"""
members = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
lots = st.tuples(
    members, st.integers(0, 10**12), st.just(0) | st.integers(10**15, 250_000_000_000_000_000)
)


@given(st.lists(lots))
def test_what_is_written_reads_back(balances):
    """Whatever members are called, a file that was written holds the same lots in the same order."""
    text = "".join(write_balances(balances))
    read = read_balances(io.StringIO(text, newline=""), now_us=0)
    assert [tuple(line[1:]) for line in read] == balances
    assert [line.line_no for line in read] == list(range(2, 2 + len(balances)))


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("member,units", "Member,units", "line 1, header"),
        ("1200,", "1200.0,", "line 2, units"),
        ("1200,", "-1200,", "line 2, units"),
        ("1200,", "1201,", "line 5, units"),
        ("m-1,35,\n", "", "line 4, units"),
        ("m-2,0,\n", "", "line 4, expires_at"),
        ("m-1,35,", "m 1,35,", "line 3, member"),
        ("m-1,35,", "m-1,35", "line 3, expires_at"),
        ("m-1,35,", "m-1,35,,", "line 3, expires_at"),
        ("T16:00:00Z", "", "line 2, expires_at"),
        ("2099-06", "1999-06", "line 2, expires_at"),
        ("2099-06", "2099-13", "line 2, expires_at"),
        (TOTAL, "total", "line 5, member"),
        (f"{TOTAL},1235,3\n", "", "line 4, member"),
        (f"{TOTAL},1235,3", f"{TOTAL},1235", "line 5, totals"),
        (GOOD, "", "line 1, header"),
        (GOOD, "member,units,expires_at\n", "line 1, member"),
    ],
)
def test_one_wrong_field_refuses_the_whole(old, new, path):
    """A malformed field, a missing line and a wrong control total are each named by line and field."""
    assert old in GOOD
    assert len(read_balances(io.StringIO(GOOD), now_us=10**15)) == 3
    with pytest.raises(SchemaError) as refused:
        read_balances(io.StringIO(GOOD.replace(old, new, 1)), now_us=10**15)
    assert refused.value.path == path
