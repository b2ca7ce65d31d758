"""What verified pairs mean: receipts, and the reasons of refusals. Pure; who verified them is elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from adapters.kit.amount import units_of
from adapters.kit.contract import Outcome, Receipt, Step
from adapters.kit.protocols.form_sign.settings import reason_of
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapters.kit.protocols.form_sign.settings import Settings

_NUMBER_MAX: Final = 64


def unknown(detail: str) -> Receipt:
    """The receipt of a call whose outcome nothing trustworthy tells."""
    return Receipt(outcome=Outcome.UNKNOWN, detail=detail)


def receipt_of(
    pairs: Mapping[str, str], settings: Settings, *, reference: str, step: Step, scale: int
) -> Receipt:
    """What an answer says about one call.

    Args:
        pairs: Verified.
        settings: The merchant's words.
        reference: The call asked about; an answer about another one says nothing.
        step: The step of that call.
        scale: Decimal places of the merchant's own figures.
    """
    code = pairs.get(settings.fields.code, "")
    if code == settings.success:
        return outcome_of(pairs, settings, reference=reference, step=step, scale=scale)
    reason = reason_of(settings, code)
    if reason is None:
        return unknown("The gateway answered with a code that decides nothing")
    return Receipt(outcome=Outcome.REFUSED, reason=reason)


def outcome_of(
    pairs: Mapping[str, str], settings: Settings, *, reference: str, step: Step, scale: int
) -> Receipt:
    """What became of one call, as an answer or a notification states it; as for `receipt_of`."""
    names, states = settings.fields, settings.states
    if pairs.get(names.reference) != reference:
        return unknown("The gateway answered about another call")
    state = pairs.get(names.state, "")
    if state == states.failed:
        reason = reason_of(settings, pairs.get(names.why, "")) or Reason.MERCHANT_REFUSED
        return Receipt(outcome=Outcome.REFUSED, reason=reason)
    if state == states.pending:
        return Receipt(outcome=Outcome.UNKNOWN, expected=True, detail="A notification will tell")
    if state != states.done:
        return unknown("The gateway named a state that decides nothing")
    number = pairs.get(names.number, "")[:_NUMBER_MAX]
    amount = pairs.get(names.amount)
    if amount is None:
        return Receipt(outcome=Outcome.DONE, number=number)
    try:
        units = units_of(amount, scale)
    except ValueError:
        return unknown("The gateway named an amount that cannot be read")
    if units == 0 and step is Step.RELEASE:
        return Receipt(outcome=Outcome.DONE, number=number, detail="There was nothing to give back")
    return Receipt(outcome=Outcome.DONE, number=number, units=units)
