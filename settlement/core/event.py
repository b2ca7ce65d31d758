"""Events of the journal and their canonical bytes.

The canonical bytes of an event are its PostgreSQL binary COPY tuple: an int16 with the number of
columns, then for each column, in the order of `settlement.event`, an int32 with the length and the
value in network byte order. One packing therefore writes the row, feeds the hash chain and is the
leaf of the Merkle tree, and `COPY … TO STDOUT (FORMAT binary)` gives the very bytes back to an audit.

Instants are `int` microseconds since 1970-01-01 UTC here; the bytes count from 2000-01-01, as
PostgreSQL does.

Source: schemas/FORMAT.md, "Event".
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

import msgspec


class Kind(IntEnum):
    """What happened; numbers are permanent.

    1 to 6 and 20 move value, 7, 8, 16 to 19, 21 and 22 points, 9 holds, 23 to 26 money; 10 to 15, 29 and 30 are
    administrative.
    """

    ACCEPTED = 1
    REFUSED = 2
    CLEARED = 3
    VOIDED = 4
    EXPIRED = 5
    ADJUSTED = 6
    ACCRUED = 7
    LAPSED = 8
    PINNED = 9
    JOINED = 10
    CAP_SET = 11
    COLLATERAL_SET = 12
    CYCLE_OPENED = 13
    CYCLE_CLOSED = 14
    CYCLE_SETTLED = 15
    TAKEN = 16
    RETURNED = 17
    CREDITED = 18
    WITHDRAWN = 19
    REVERSED = 20
    GIVEN = 21
    RECEIVED = 22
    DEPOSITED = 23
    PAID_OUT = 24
    TRANSFERRED = 25
    DISCHARGED = 26
    ARRANGEMENT_MADE = 29
    PAIR_ARRANGED = 30


ENDS: Final = frozenset({Kind.CLEARED, Kind.VOIDED, Kind.EXPIRED})
"""Kinds that end an open hold."""

LINES: Final = frozenset({Kind.CLEARED, Kind.ADJUSTED, Kind.REVERSED})
"""Kinds that stand in statements and in the signed tree."""

EPOCH_2000_US: Final = 946_684_800_000_000
COLUMNS: Final = (
    "seq", "order_seq", "at", "occurred_at", "due_at", "member_no", "units", "debit_cu",
    "value_cu", "fee_cu", "credited_units", "lot_no", "key", "body", "cycle_no", "caller",
    "issuer", "acceptor", "rate_no", "part", "kind", "step", "reason", "reference",
)  # fmt: skip
"""Columns of `settlement.event` in the order of the canonical bytes."""

_FIXED: Final = struct.Struct(">h" + "iq" * 12 + "i16s" * 2 + "ii" * 5 + "ih" * 4 + "i")

PACK: Final = _FIXED.pack
"""Everything of an event but its reference's text: the number of columns, then length and value of
each, the length of the text last. `pack_event` is the readable way to call it."""


class Event(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One row of the journal.

    Attributes:
        seq: Gap-free number within the partition.
        order_seq: Number of the order's first event; its own for a first event, 0 where no order is concerned. For
            points that were returned or withdrawn, the event that is undone.
        at_us: When it was written (business time in a ledger made for replay).
        occurred_at_us: When it happened at the till.
        due_at_us: When a hold or the lot ends; `at_us` where nothing is due.
        member_no: Random surrogate of the member; 0 where none is concerned.
        units: Smallest point units spent, accrued, lapsed, taken, returned, credited, withdrawn, given or received.
            Of a reversal these and the figures below are negative.
        debit_cu: What the issuer owes, in CU.
        value_cu: What the acceptor is credited before the fee; for an accrual, what of the discount stayed unfunded.
        fee_cu: The house's fee, in CU.
        credited_units: Points given at the acceptor by an exchange; of points that were returned, those in a new lot.
        lot_no: The lot that was made, lapsed or was withdrawn; 0 otherwise.
        key: Idempotency key, 16 bytes.
        body: First 16 bytes of the SHA-256 of the canonical request.
        cycle_no: The cycle that was open at the writing for the order's pair, or that the administrative event names;
            for every other event, the main arrangement's.
        caller: Merchant number of the sender; 0 for the house.
        issuer: Whose points; for administrative events, the merchant concerned.
        acceptor: Where the value goes.
        rate_no: The issuer's rate; 0 where none was used.
        part: Partition.
        kind: What happened.
        step: Place among the events of one request, from 0; -1 for the end of a two-phase order, -2 for its pin.
        reason: Number of the reason of a refusal; 0 otherwise.
        reference: The merchant's own reference; for a cycle's opening, the cycle's id; for points given and received,
            the household's id in hexadecimal.
    """

    seq: int
    order_seq: int
    at_us: int
    occurred_at_us: int
    due_at_us: int
    member_no: int
    units: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    credited_units: int
    lot_no: int
    key: bytes
    body: bytes
    cycle_no: int
    caller: int
    issuer: int
    acceptor: int
    rate_no: int
    part: int
    kind: int
    step: int
    reason: int
    reference: str


def pack_event(
    seq: int,
    order_seq: int,
    at_us: int,
    occurred_at_us: int,
    due_at_us: int,
    member_no: int,
    units: int,
    debit_cu: int,
    value_cu: int,
    fee_cu: int,
    credited_units: int,
    lot_no: int,
    key: bytes,
    body: bytes,
    cycle_no: int,
    caller: int,
    issuer: int,
    acceptor: int,
    rate_no: int,
    part: int,
    kind: int,
    step: int,
    reason: int,
    reference: str,
    /,
) -> bytes:
    """Pack one event into its canonical bytes; arguments as the attributes of `Event`.

    Raises:
        struct.error: A figure does not fit its column.
    """
    text = reference.encode()
    return (
        _FIXED.pack(
            24, 8, seq, 8, order_seq, 8, at_us - EPOCH_2000_US, 8, occurred_at_us - EPOCH_2000_US,
            8, due_at_us - EPOCH_2000_US, 8, member_no, 8, units, 8, debit_cu, 8, value_cu,
            8, fee_cu, 8, credited_units, 8, lot_no, 16, key, 16, body, 4, cycle_no, 4, caller,
            4, issuer, 4, acceptor, 4, rate_no, 2, part, 2, kind, 2, step, 2, reason, len(text),
        )
        + text
    )  # fmt: skip


def unpack_event(data: bytes) -> Event:
    """Read an event back from its canonical bytes.

    Raises:
        ValueError: The bytes are not one whole event in canonical form.
    """
    try:
        fields = _FIXED.unpack_from(data)
        reference = data[_FIXED.size :].decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError("not the canonical bytes of an event") from error
    values = list(fields[2::2])
    for instant in (2, 3, 4):
        values[instant] += EPOCH_2000_US
    event = msgspec.convert([*values, reference], Event)
    if repack_event(event) != data:
        raise ValueError("not the canonical bytes of an event")
    return event


def repack_event(event: Event) -> bytes:
    """Canonical bytes of an event that was read."""
    return pack_event(*msgspec.structs.astuple(event))
