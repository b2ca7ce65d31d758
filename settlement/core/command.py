"""Commands that wait in the writer's queue, and the entries that answer them.

Both cross the socket between gateway and writer as msgpack arrays, so they are msgspec structs.
Everything that changes headroom is a command; commands that also change hosted lots are defined by
the rider that owns the lots, and inherit from `Command`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

import msgspec

from settlement.core.event import Kind

if TYPE_CHECKING:
    from schemas.values.reason import Reason


KEY_BYTES: Final = 16


class Command(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What every command carries.

    Attributes:
        caller: Merchant number of the sender; 0 for the house.
        key: Idempotency key, 16 bytes.
        body: First 16 bytes of the SHA-256 of the canonical request.
    """

    caller: int
    key: bytes
    body: bytes


def key_name(caller: int, key: bytes) -> bytes:
    """What a key is known by in the writer: itself and its sender; bytes, which no garbage collector walks.

    Raises:
        ValueError: The key has not 16 bytes: the gateway let it through.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes")
    return key + caller.to_bytes(4, "big")


class Order(Command, frozen=True, gc=False, array_like=True, tag=1):
    """Spend points of an issuer for value at an acceptor.

    Attributes:
        issuer: Merchant whose points are spent.
        acceptor: Merchant where the value goes.
        member_no: The member's surrogate.
        units: Smallest point units to spend.
        debit_cu: What the issuer owes, CU.
        value_cu: What the acceptor is credited before the fee, CU.
        fee_cu: The house's fee, CU.
        rate_no: The issuer's rate.
        occurred_at_us: Till time; 0 for now.
        hold_us: How long a two-phase order may stay accepted; 0 for an order that clears at once.
        credited_units: Points given at the acceptor by an exchange; 0 for a redemption.
        reason: Number of a refusal that was found before the queue; 0 for none. It is written down
            all the same, since a refusal is final for its key.
        hosted: Whether the issuer's lots are kept here, so that the rider spends them.
        reference: The merchant's own reference, at most 35 characters.
    """

    issuer: int
    acceptor: int
    member_no: int
    units: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    rate_no: int
    occurred_at_us: int = 0
    hold_us: int = 0
    credited_units: int = 0
    reason: int = 0
    hosted: bool = False
    reference: str = ""


class End(Command, frozen=True, gc=False, array_like=True, tag=2):
    """Clear or void an accepted order; `key` is the order's id.

    Attributes:
        order_seq: Number of the order's first event.
        kind: `Kind.CLEARED` or `Kind.VOIDED`.
        proven: Whether the acceptor has proven that it did not credit and never will; without that
            a pinned hold is not voided.
    """

    order_seq: int
    kind: int
    proven: bool = False


class Pin(Command, frozen=True, gc=False, array_like=True, tag=9):
    """Keep an accepted order's hold, because its credit may be sent now; `key` is the order's id.

    From the answer on, the hold does not expire, and is voided only by an `End` that is `proven`.

    Attributes:
        order_seq: Number of the order's first event.
    """

    order_seq: int


class Reverse(Command, frozen=True, gc=False, array_like=True, tag=10):
    """Take a cleared order back, in part or whole, in the open cycle; only its acceptor or the house may.

    Attributes:
        order_seq: Number of the order's first event.
        units: Units to take back; 0 for all that are left.
        reference: The sender's own reference; the order's where it is empty.
        reason: Number of a refusal that was found before the queue, of an order that the sender may take
            back; 0 for none.
        issuer_member: Who the member is at the issuer's own system, where that is to give the points back: a
            journey is written with it; empty where nobody is to be asked.
    """

    order_seq: int
    units: int = 0
    reference: str = ""
    reason: int = 0
    issuer_member: str = ""


class Adjust(Command, frozen=True, gc=False, array_like=True, tag=37):
    """Correct what one merchant owes another by an entry of the open cycle.

    Only the house may, but for a merchant that obliges itself and names no order.

    The figures are owed like an order's, all of them 0 or above, or taken back like a reversal's, all of them 0
    or below.

    Attributes:
        order_seq: Number of the first event of the order that is corrected; 0 where none is.
        issuer: Who owes, or gets back; of an order that is named, its issuer.
        acceptor: Who is credited, or gives back; of an order that is named, its acceptor.
        debit_cu: What the issuer owes more (above 0) or less (below 0), CU.
        value_cu: What the acceptor is credited before the fee, likewise.
        fee_cu: The house's fee, likewise.
        reference: What the correction is known by: a case, a file, a quarter.
    """

    order_seq: int
    issuer: int
    acceptor: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    reference: str = ""


class ExpireHolds(Command, frozen=True, gc=False, array_like=True, tag=3):
    """End every hold whose time has come, at most `limit` of them.

    Attributes:
        limit: Most holds to end in this command.
        at_us: Business time in a ledger made for replay; 0 for now.
    """

    limit: int = 10_000
    at_us: int = 0


class Join(Command, frozen=True, gc=False, array_like=True, tag=4):
    """Open the account of a merchant.

    Attributes:
        merchant_no: The new merchant.
        cap_cu: Net debit cap, CU.
    """

    merchant_no: int
    cap_cu: int


class SetCap(Command, frozen=True, gc=False, array_like=True, tag=5):
    """Change a net debit cap; a cut is never refused and may leave the merchant in breach.

    Attributes:
        merchant_no: The merchant.
        cap_cu: New cap, CU.
    """

    merchant_no: int
    cap_cu: int


class SetCollateral(Command, frozen=True, gc=False, array_like=True, tag=6):
    """Mirror the collateral that a bank holds for a merchant; a withdrawal is tested against the cap.

    Attributes:
        merchant_no: The merchant.
        collateral_cu: New total, CU.
    """

    merchant_no: int
    collateral_cu: int


class CloseCycle(Command, frozen=True, gc=False, array_like=True, tag=7):
    """Fence the open cycle and open the next; on a new ledger (cycle 0) only open the first.

    Attributes:
        cycle_no: The cycle that the sender believes to be open.
        next_id: Id of the cycle to open.
        next_cut_off_us: When that cycle is planned to close; 0 for not planned.
        at_us: Business time in a ledger made for replay; 0 for now.
        arrangement_no: The arrangement whose cycle it is; 0 for the main one.
    """

    cycle_no: int
    next_id: str
    next_cut_off_us: int = 0
    at_us: int = 0
    arrangement_no: int = 0


class SettleCycle(Command, frozen=True, gc=False, array_like=True, tag=8):
    """Move the positions of a closed cycle into the parties' funds, so that they no longer weigh on caps.

    Attributes:
        cycle_no: The closed cycle.
        funded: Whether the money must be there; without it somebody answers for the payers, whose funds may
            go below zero: refused where funds are kept (rule U13).
    """

    cycle_no: int
    funded: bool = False


class Pot(IntEnum):
    """Where a party's money is counted; numbers are permanent."""

    FUNDS = 0
    COLLATERAL = 1
    DEFAULT_FUND = 2


class Deposit(Command, frozen=True, gc=False, array_like=True, tag=31):
    """Book money that the bank says came in.

    Attributes:
        party: Whose it is: a merchant, the house (0, in the default fund), or one of the house's own parties.
        pot: Where it is counted; see `Pot`.
        cu: Amount, CU; above 0.
        reference: Where the bank says so: number of the statement and of its entry.
    """

    party: int
    pot: int
    cu: int
    reference: str = ""


class PayOut(Command, frozen=True, gc=False, array_like=True, tag=32):
    """Book money that the bank says went out; a fact, so no need is looked at.

    Attributes:
        party: Whose it was, as for `Deposit`.
        pot: Where it was counted.
        cu: Amount, CU; above 0.
        reference: Where the bank says so.
    """

    party: int
    pot: int
    cu: int
    reference: str = ""


class Transfer(Command, frozen=True, gc=False, array_like=True, tag=33):
    """Count money that lies at the bank for somebody else, or in another pot.

    Attributes:
        giver: Whose it was.
        giver_pot: Where it was counted.
        taker: Whose it is to be.
        taker_pot: Where it is to be counted.
        cu: Amount, CU; above 0.
        cycle_no: The closed cycle that it helps to settle, which makes the taker the giver's debtor; 0 for none.
        reference: What it is for.
    """

    giver: int
    giver_pot: int
    taker: int
    taker_pot: int
    cu: int
    cycle_no: int = 0
    reference: str = ""


class Discharge(Command, frozen=True, gc=False, array_like=True, tag=34):
    """Settle what some pairs of merchants owe each other in a closed cycle, before the rest of it.

    Attributes:
        cycle_no: The closed cycle.
        pairs: For each pair: the two merchants, the lower number first, and what the pair comes to for the
            one, the other, the house's fees and its rounding, CU.
    """

    cycle_no: int
    pairs: tuple[tuple[int, int, int, int, int, int], ...]


class Unwind(Command, frozen=True, gc=False, array_like=True, tag=35):
    """Settle a closed cycle though its debtor lacks money: some are paid less, and what they lack is owed to them.

    Attributes:
        cycle_no: The closed cycle.
        debtor: Who lacks the money.
        shares: For each creditor that is paid less: its number, and how much less, CU.
    """

    cycle_no: int
    debtor: int
    shares: tuple[tuple[int, int], ...]


FundsCommand = Deposit | PayOut | Transfer | Discharge
"""Commands that `settlement.core.funds` decides."""


class MakeArrangement(Command, frozen=True, gc=False, array_like=True, tag=41):
    """Make an arrangement that pairs of merchants can be given; its first cycle is still to be opened.

    Attributes:
        code: Its name, at most 20 characters.
        model: `settlement.core.arrangement.Model`.
    """

    code: str
    model: int


class ArrangePair(Command, frozen=True, gc=False, array_like=True, tag=42):
    """Give a pair of merchants an arrangement, from the turn of the cycle that is open for it.

    Attributes:
        one: A merchant.
        other: The other one.
        arrangement_no: The arrangement; 0 for the main one.
    """

    one: int
    other: int
    arrangement_no: int


BooksCommand = (
    Order
    | End
    | Pin
    | Adjust
    | ExpireHolds
    | Join
    | SetCap
    | SetCollateral
    | CloseCycle
    | SettleCycle
    | FundsCommand
    | Unwind
    | MakeArrangement
    | ArrangePair
)
"""Commands that the books decide without a rider."""

UNKEYED = frozenset({End, Pin})
"""Those of them that name an accepted order instead of carrying a key: a repeat is answered by what the
order is by then."""

ADMINISTRATIVE = (
    *(Adjust, ExpireHolds, Join, SetCap, SetCollateral, CloseCycle, SettleCycle),
    *(Deposit, PayOut, Transfer, Discharge, Unwind),
    *(MakeArrangement, ArrangePair),
)
"""Those of them that carry a key and are no orders."""


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One event as the sender of a command gets it back; figures as in `settlement.core.event.Event`.

    `seq` is 0 for an answer that is not stored: a conflict of keys, or a repeated end of an order.
    """

    seq: int
    order_seq: int
    kind: int
    reason: int
    at_us: int
    due_at_us: int
    cycle_no: int
    issuer: int
    acceptor: int
    units: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    credited_units: int
    lot_no: int
    rate_no: int


Answer = list[Entry]
"""What one command did, in order; empty only for a run that found nothing to do."""


def unstored_refusal(reason: Reason, order_seq: int = 0) -> Entry:
    """A refusal that leaves no event, because the key or the order already has its final one."""
    return Entry(0, order_seq, Kind.REFUSED, reason.number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
