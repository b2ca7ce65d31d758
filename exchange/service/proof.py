"""Orders whose member's agreement the writer looks at (settlement/RULES.md, rules A1 to A6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exchange.core.code import Binding, code_digest, unseal_code
from exchange.programme.core.command import MemberOrder
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from exchange.service.quote_keys import QuoteKeys
    from settlement.core.command import Order


def with_proof(order: Order, code: str | None, quote_keys: QuoteKeys) -> MemberOrder:
    """Make an order one that the writer decides under its issuer's rules for members.

    What the seal of a code does not cover is refused here: the reason travels in the order. Whether the
    code was used or is too old, and whether one is needed, the writer says.
    """
    terms = msgspec.structs.asdict(order)
    if code is None or order.reason:
        return MemberOrder(**terms)
    binding = Binding(order.issuer, order.acceptor, order.member_no)
    said = unseal_code(code, binding, quote_keys.for_token(code))
    if said is None or not said.covers(units=order.units, value_cu=order.value_cu):
        return MemberOrder(**terms | {"reason": Reason.MEMBER_NOT_AUTHORISED.number})
    return MemberOrder(**terms, code=code_digest(code), code_until_us=said.deadline_us)
