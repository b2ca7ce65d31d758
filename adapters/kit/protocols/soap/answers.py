"""What a host's answers and faults mean: receipts, and the reasons of refusals. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from adapters.kit.contract import Outcome, Receipt, Step
from adapters.kit.protocols.moves import stated, unknown
from adapters.kit.protocols.soap import wire
from adapters.kit.protocols.words import reason_of
from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml import etree

    from adapters.kit.protocols.soap.settings import Settings
    from schemas.values.reason import Reason

_NO: Final = frozenset(("false", "0"))
"""The two spellings of an xs:boolean that say no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the host said to one call: an answer, or a fault.

    Attributes:
        texts: Of the answer's children that hold text; empty for a fault.
        answer: The whole answer; None for a fault.
        fault: The fault; None for an answer.
    """

    texts: Mapping[str, str]
    answer: etree._Element | None = None
    fault: wire.Fault | None = None


def read_said(body: bytes, status: int, settings: Settings, operation: str, message: str) -> Said:
    """Read what came back.

    Args:
        body: As it came.
        status: The HTTP status.
        settings: The host's words.
        operation: What was asked, in the host's words.
        message: What we called our message, which the answer must repeat.

    Raises:
        SchemaError: It is no answer to this call that can be believed.
    """
    found = wire.read_envelope(body, settings.namespace)
    if found.header.get(settings.fields.message) != message:
        raise SchemaError(f"$.Header.{settings.fields.message}", "Not an answer to this message")
    fault = wire.read_fault(found.body, settings.namespace)
    if fault is not None:
        return Said(texts={}, fault=fault)
    if status != 200:
        raise SchemaError("$", f"An answer with the status {status}")
    if found.body.tag != f"{{{settings.namespace}}}{operation}Response":
        raise SchemaError("$.Body", "Not the answer to what was asked")
    return Said(texts=wire.texts(found.body, settings.namespace), answer=found.body)


def is_expired(said: Said, settings: Settings) -> bool:
    """Whether the session has ended, and the host says that the call was not executed."""
    fault = said.fault
    return (
        fault is not None
        and fault.detail.get(settings.fields.code) == settings.session_expired
        and not_executed(fault, settings)
    )


def not_executed(fault: wire.Fault, settings: Settings) -> bool:
    """Whether the host says, in so many words, that the call had no effect."""
    return fault.detail.get(settings.fields.executed) in _NO


def refusal_of(said: Said, settings: Settings) -> Reason | None:
    """The reason of a refusal; None for whatever else was said.

    A fault that does not say that the call was not executed refuses nothing, whatever its code.
    """
    if said.fault is None or not not_executed(said.fault, settings):
        return None
    return reason_of(settings, said.fault.detail.get(settings.fields.code, ""))


def receipt_of(said: Said | None, settings: Settings, *, reference: str, step: Step) -> Receipt:
    """What was said about one call.

    Args:
        said: None if nothing was said that can be believed.
        settings: The host's words.
        reference: The call asked about; an answer about another one says nothing.
        step: Its step.
    """
    if said is None:
        return unknown("No answer of the host to this call")
    reason = refusal_of(said, settings)
    if reason is not None:
        return Receipt(outcome=Outcome.REFUSED, reason=reason)
    if said.fault is not None:
        return unknown("The host answered with a fault that decides nothing")
    return stated(
        said.texts,
        settings.fields,
        settings.states,
        reference=reference,
        step=step,
        refusal=reason_of(settings, said.texts.get(settings.fields.code, "")),
        read_units=read_miles,
        who="The host",
    )


def read_miles(text: str) -> int:
    """Read an amount.

    Raises:
        ValueError: It is no xs:long, is negative, or is 10^15 or more.
    """
    units = wire.read_long(text)
    if not 0 <= units < AMOUNT_LIMIT:
        raise ValueError("an amount from 0 to 10^15 was expected")
    return units
