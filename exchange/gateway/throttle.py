"""Quotas of callers, and the header fields that tell of them.

`RateLimit-Policy` and `RateLimit` are as draft-ietf-httpapi-ratelimit-headers-11 has them: lists (RFC 9651) whose
items are named after the policy, `q` units in `w` seconds, of which `r` are left and one more comes in `t` seconds.
A request that is not let in is answered 429 with `Retry-After`; nothing was decided or stored, so it may be sent again
as it is.

The quotas hold for each gateway process: a merchant whose connections are spread over two processes may have twice as
much. Sharing them would put a question to the writer before every request, which is what they shall spare it.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from exchange.core.quota import UNLIMITED, USUAL, Bucket, Limits, Policy, Quota
from schemas.values.ids import HOUSE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

POLICY_FIELD: Final = "RateLimit-Policy"
LIMIT_FIELD: Final = "RateLimit"
AT_ONCE_MAX: Final = 1024
"""Requests of one merchant that a gateway handles at once, a quarter of all; those of the fast lane do not count, since
they are there whole when they begin."""


class QuotaExceeded(Exception):  # noqa: N818 - it is the caller's state
    """A quota is used up.

    Attributes:
        retry_after_seconds: When there is a unit again.
    """

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        """Say which."""
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Allowance:
    """The quotas of one caller in this process."""

    __slots__ = ("_buckets", "_now_ns", "_policies", "at_once", "limits")

    def __init__(self, limits: Limits, now_ns: Callable[[], int]) -> None:
        """Begin with whole quotas."""
        self.limits = limits
        self.at_once = 0
        self._now_ns = now_ns
        quotas: dict[Policy, Quota | None] = {"orders": limits.orders, "requests": limits.requests}
        self._buckets = {name: (Bucket(quota), quota) for name, quota in quotas.items() if quota}
        self._policies = ", ".join(
            f'"{name}";q={quota.units};w={quota.window_seconds}'
            for name, (_, quota) in self._buckets.items()
        )

    def take(self, policy: Policy, units: int = 1) -> None:
        """Take units of a quota.

        Raises:
            QuotaExceeded: None is left.
        """
        found = self._buckets.get(policy)
        if found is None:
            return
        bucket, quota = found
        now_ns = self._now_ns()
        if not bucket.take(units, now_ns):
            detail = f"The quota `{policy}` is used up: {quota.units} in {quota.window_seconds} s for each gateway."
            raise QuotaExceeded(detail, max(1, bucket.left(now_ns)[1]))

    def enter(self, at_once_max: int) -> None:
        """Begin one more request; `leave` ends it, also where this raises.

        Raises:
            QuotaExceeded: Too many were begun and have not ended.
        """
        self.at_once += 1
        if self.at_once > at_once_max:
            raise QuotaExceeded(f"At most {at_once_max} requests of a merchant at once.", 1)

    def leave(self) -> None:
        """End a request."""
        self.at_once -= 1

    def fields(self, policy: Policy) -> dict[str, str]:
        """Header fields of an answer; none for whom nothing is limited."""
        if not self._policies:
            return {}
        told = {POLICY_FIELD: self._policies}
        found = self._buckets.get(policy)
        if found is not None:
            left, seconds = found[0].left(self._now_ns())
            told[LIMIT_FIELD] = f'"{policy}";r={left};t={seconds}'
        return told


class Throttle:
    """The quotas of everybody who called this process."""

    def __init__(self, now_ns: Callable[[], int] = monotonic_ns) -> None:
        """Begin with nobody.

        Args:
            now_ns: Clock that never runs back, nanoseconds.
        """
        self._now_ns = now_ns
        self._allowances: dict[int, Allowance] = {}

    def allowance(self, merchant_no: int, limits: Mapping[int, Limits]) -> Allowance:
        """The quotas of a caller; whole again where its limits were changed.

        Args:
            merchant_no: Whose; 0 for the house.
            limits: What was set, by merchant.
        """
        found = self._allowances.get(merchant_no)
        wanted = limits.get(merchant_no) or (UNLIMITED if merchant_no == HOUSE else USUAL)
        # Compared by identity first: a snapshot that was read anew holds equal limits nearly always.
        if found is None or (found.limits is not wanted and found.limits != wanted):
            found = self._allowances[merchant_no] = Allowance(wanted, self._now_ns)
        return found
