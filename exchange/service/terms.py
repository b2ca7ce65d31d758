"""A merchant's terms as they come over the wire, checked against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.service.onboarding import MerchantTerms
from schemas.values.faults import SchemaError
from schemas.values.rate import Rate

if TYPE_CHECKING:
    from schemas.wire.merchants import MerchantRequest


def merchant_terms(wanted: MerchantRequest, *, at: str = "$") -> MerchantTerms:
    """What a merchant joins with.

    Args:
        wanted: As it was sent.
        at: Path of it in the request.

    Raises:
        SchemaError: The maximum is below the minimum, or the issue rate below the spend rate.
    """
    if int(wanted.units_max) < int(wanted.units_min):
        raise SchemaError(f"{at}.units_max", "Expected no less than `units_min`")
    spend = Rate(num=int(wanted.spend.cu), den=int(wanted.spend.units))
    issue = wanted.issue
    try:
        return MerchantTerms(
            code=wanted.code,
            name=wanted.name,
            hosted=wanted.hosted,
            unit=wanted.unit,
            scale=wanted.scale,
            spend=spend,
            issue=spend if issue is None else Rate(num=int(issue.cu), den=int(issue.units)),
            earn=(int(wanted.earn_units), int(wanted.earn_fen)),
            valid_days=wanted.valid_days,
            cap_cu=int(wanted.cap_cu),
            units_min=int(wanted.units_min),
            units_max=int(wanted.units_max),
            own_names=wanted.own_names,
        )
    except ValueError as error:
        raise SchemaError(f"{at}.issue", str(error)) from None
