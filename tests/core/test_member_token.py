"""Member tokens: different for every merchant, read back by one key alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.member_token import PREFIX, MemberTokens

KEY = bytes(range(32))
MEMBERS = st.integers(1, 2**63 - 1)
MERCHANTS = st.integers(0, 2**31 - 1)


def test_a_known_token():
    """The form is fixed: a token given out stays one (AES-256 of 00000003 000000000000002a 00000000)."""
    token = MemberTokens(KEY).token_of(42, merchant_no=3)
    assert token == "mt_l4fnz6rw3wtdtbka2j6cdpsmwu"
    assert MemberTokens(KEY).member_of(token, merchant_no=3) == 42


@given(member_no=MEMBERS, merchants=st.lists(MERCHANTS, min_size=2, max_size=2, unique=True))
def test_each_merchant_has_its_own(member_no, merchants):
    """A token names the member to its merchant, and nobody to another one."""
    tokens = MemberTokens(KEY)
    mine, other = (tokens.token_of(member_no, merchant_no=each) for each in merchants)
    assert mine != other
    assert tokens.member_of(mine, merchant_no=merchants[0]) == member_no
    assert tokens.member_of(mine, merchant_no=merchants[1]) is None


@given(
    member_no=MEMBERS,
    merchant_no=MERCHANTS,
    place=st.integers(0, 28),
    letter=st.sampled_from("abz27"),
)
def test_an_altered_token_is_none(member_no, merchant_no, place, letter):
    """Whatever letter is changed, the token names nobody; also the last, of which base32 uses three bits."""
    tokens = MemberTokens(KEY)
    token = tokens.token_of(member_no, merchant_no=merchant_no)
    altered = token[:place] + letter + token[place + 1 :]
    assert altered == token or tokens.member_of(altered, merchant_no=merchant_no) is None


@pytest.mark.parametrize(
    "text", ["", PREFIX, "anna", PREFIX + 25 * "a", PREFIX + 26 * "A", PREFIX + 26 * "1"]
)
def test_what_is_no_token(text):
    """Text of another form names nobody."""
    assert MemberTokens(KEY).member_of(text, merchant_no=0) is None


def test_another_key_reads_nothing():
    """A token of another house names nobody."""
    token = MemberTokens(KEY).token_of(42, merchant_no=3)
    assert MemberTokens(bytes(32)).member_of(token, merchant_no=3) is None
