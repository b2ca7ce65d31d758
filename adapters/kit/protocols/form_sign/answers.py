"""What verified pairs mean: receipts, and the reasons of refusals. Pure; who verified them is elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.kit.amount import units_of
from adapters.kit.contract import Outcome, Receipt, Step
from adapters.kit.protocols.moves import stated, unknown
from adapters.kit.protocols.words import reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapters.kit.protocols.form_sign.settings import Settings


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
    names = settings.fields
    return stated(
        pairs,
        names,
        settings.states,
        reference=reference,
        step=step,
        refusal=reason_of(settings, pairs.get(names.why, "")),
        read_units=lambda text: units_of(text, scale),
        who="The gateway",
    )
