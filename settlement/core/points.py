"""Events of points that move without value: earned, expired unused, moved by a call or inside a household."""

from __future__ import annotations

from typing import TYPE_CHECKING

from settlement.core.event import Kind

if TYPE_CHECKING:
    from settlement.core.books import Books
    from settlement.core.command import Command, Entry


def accrue(
    books: Books,
    command: Command,
    step: int,
    merchant_no: int,
    member_no: int,
    units: int,
    lot_no: int,
    expires_at_us: int,
    occurred_at_us: int,
    unfunded_cu: int = 0,
    reference: str = "",
    /,
) -> Entry:
    """Write down points earned (possibly none), and what of a discount stayed unfunded."""
    return books.write(
        command, step, Kind.ACCRUED, 0, -1, occurred_at_us, expires_at_us, member_no, units,
        0, unfunded_cu, 0, 0, lot_no, merchant_no, merchant_no, 0, reference,
    )  # fmt: skip


def lapse(
    books: Books,
    command: Command,
    step: int,
    merchant_no: int,
    member_no: int,
    units: int,
    lot_no: int,
    expires_at_us: int,
    worth_cu: int,
    rate_no: int,
    /,
) -> Entry:
    """Write down breakage: the points of a lot that expired unused, and what they were worth."""
    return books.write(
        command, step, Kind.LAPSED, 0, -1, 0, expires_at_us, member_no, units,
        0, worth_cu, 0, 0, lot_no, merchant_no, 0, rate_no, "",
    )  # fmt: skip


def move(
    books: Books,
    command: Command,
    kind: Kind,
    merchant_no: int,
    member_no: int,
    units: int,
    /,
    *,
    of_seq: int = 0,
    first: bool = False,
    step: int = 0,
    fresh_units: int = 0,
    lot_no: int = 0,
    due_at_us: int = 0,
    reference: str = "",
) -> Entry:
    """Write down points that moved without value, by a call on a hosted programme or inside a household.

    Args:
        books: The books.
        command: The call, or the transfer.
        kind: What happened to them: `TAKEN`, `RETURNED`, `CREDITED`, `WITHDRAWN`, `GIVEN` or `RECEIVED`.
        merchant_no: Whose points.
        member_no: The member's surrogate.
        units: Smallest point units; 0 if there was nothing to return.
        of_seq: The order's first event, or the event that is undone; 0 for none.
        first: Whether this is the first event of an order.
        step: Place among the events of one request.
        fresh_units: Units that are returned into a new lot.
        lot_no: The lot that was made or withdrawn.
        due_at_us: When the new lot expires; 0 without one.
        reference: The call's reference; the household.
    """
    return books.write(
        command, step, kind, 0, 0 if first else of_seq or -1, 0, due_at_us, member_no, units, 0, 0, 0, fresh_units,
        lot_no, merchant_no, 0, 0, reference,
    )  # fmt: skip
