"""Quotas: what is let in, what is left, and when there is more."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.quota import Bucket, Quota

SECOND = 1_000_000_000


class NaiveBucket:
    """The same in fractions, told from the other side: tokens that come in, up to the quota."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.tokens = Fraction(quota.units)
        self.at_ns = 0

    def wait_until(self, now_ns: int) -> None:
        """Let tokens come in."""
        came = Fraction(
            (now_ns - self.at_ns) * self.quota.units, self.quota.window_seconds * SECOND
        )
        self.tokens = min(Fraction(self.quota.units), self.tokens + came)
        self.at_ns = now_ns

    def take(self, units: int) -> bool:
        """Take them if one is there."""
        if self.tokens < 1:
            return False
        self.tokens -= units
        return True


@given(
    quota=st.builds(Quota, units=st.integers(1, 50), window_seconds=st.integers(1, 30)),
    asked=st.lists(st.tuples(st.integers(0, 4 * SECOND), st.integers(1, 20)), max_size=60),
)
def test_it_lets_in_what_a_naive_bucket_lets_in(quota: Quota, asked: list[tuple[int, int]]):
    """Each request, what is left after it, and the wait for one more are those of tokens counted in fractions."""
    bucket, naive, now_ns = Bucket(quota), NaiveBucket(quota), 0
    for pause_ns, units in asked:
        now_ns += pause_ns
        naive.wait_until(now_ns)
        assert bucket.take(units, now_ns) is naive.take(units)
        left, seconds = bucket.left(now_ns)
        assert left == max(0, naive.tokens // 1)
        assert (seconds == 0) is (naive.tokens == quota.units)
        if seconds:
            assert bucket.left(now_ns + seconds * SECOND)[0] > left
            assert bucket.left(now_ns + (seconds - 1) * SECOND)[0] <= left


@given(
    quota=st.builds(Quota, units=st.integers(1, 50), window_seconds=st.integers(1, 30)),
    pauses=st.lists(st.integers(0, 2 * SECOND), min_size=1, max_size=80),
)
def test_no_stretch_of_time_lets_in_more_than_its_share(quota: Quota, pauses: list[int]):
    """Of single requests any stretch of time lets in the quota and what drains meanwhile, and not one more."""
    bucket, now_ns, let_in = Bucket(quota), 0, []
    for pause_ns in pauses:
        now_ns += pause_ns
        if bucket.take(1, now_ns):
            let_in.append(now_ns)
    for first, start in enumerate(let_in):
        for last in range(first, len(let_in)):
            drained = Fraction((let_in[last] - start) * quota.units, quota.window_seconds * SECOND)
            assert last - first + 1 <= quota.units + drained


def test_a_large_request_is_let_in_and_owed():
    """A request larger than the quota passes when anything is left; the next waits until all of it has drained."""
    bucket = Bucket(Quota(units=10, window_seconds=10))
    assert bucket.take(25, 0)
    assert bucket.left(0) == (0, 16)
    assert not bucket.take(1, 16 * SECOND - 1)
    assert bucket.take(1, 16 * SECOND)


@pytest.mark.parametrize(("units", "seconds"), [(0, 1), (1, 0), (-1, 1)])
def test_a_quota_lets_something_in(units: int, seconds: int):
    """A quota of nothing, or over no time, cannot be made."""
    with pytest.raises(ValueError, match="lets something in"):
        Quota(units=units, window_seconds=seconds)
