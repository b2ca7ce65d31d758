"""How often a merchant may ask."""

from typing import Annotated

import msgspec


class QuotaTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most so many units in a window.

    Attributes:
        units: How many.
        window_seconds: Length of the window.
    """

    units: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    window_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)]


class LimitsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a merchant may ask from now on; null is no limit.

    Attributes:
        orders: Commands to the books: orders and their ends, reversals, parts of baskets, purchases, accruals,
            transfers; each element of a large request counts.
        requests: All other requests.
    """

    orders: QuotaTerms | None
    requests: QuotaTerms | None


class LimitsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a merchant may ask of each gateway process; null is no limit.

    Attributes:
        merchant: Its code; HOUSE for the house.
        orders: Commands to the books.
        requests: All other requests.
    """

    merchant: str
    orders: QuotaTerms | None
    requests: QuotaTerms | None
