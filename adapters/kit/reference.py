"""References of calls: one for each step of each order, the same for every repeat.

An order's id is 16 bytes. Written in Crockford-free base 32 (RFC 4648 §6, without padding) it takes
26 letters and digits; the step's letter makes 27, which fits the narrowest field met (32 characters)
and needs no escaping in any protocol.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Final

from adapters.kit.contract import Step

REFERENCE_LENGTH: Final = 27
_PADDING: Final = "======"
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS: Final = [one + other for one in _LETTERS for other in _LETTERS]
_SHIFTS: Final = tuple(range(120, -1, -10))


def reference_of(order: uuid.UUID, step: Step) -> str:
    """Reference of one step of one order: 27 characters of A–Z and 2–7."""
    # Ten bits at a time: `base64.b32encode` takes four times as long, and every call has one or two.
    bits = order.int << 2
    return "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS]) + step.value


def step_of(reference: str) -> tuple[uuid.UUID, Step]:
    """Read a reference back.

    Raises:
        ValueError: It is not one of ours.
    """
    if len(reference) != REFERENCE_LENGTH:
        raise ValueError("a reference has 27 characters")
    try:
        order = uuid.UUID(bytes=base64.b32decode(reference[:-1] + _PADDING))
        step = Step(reference[-1])
    except (binascii.Error, ValueError) as error:
        raise ValueError("not a reference of a step") from error
    if reference_of(order, step) != reference:
        raise ValueError("not a reference in canonical form")
    return order, step
