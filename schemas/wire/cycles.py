"""Cycles and positions."""

from typing import Annotated, Literal

import msgspec

from schemas.wire.fields import Count, CuDigits, Instant, SignedCu

CycleId = Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z][0-9A-Za-z_.-]{0,39}\Z")]


class CloseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which cycle to close, and what comes after it.

    Attributes:
        cycle: Id of the cycle that is believed to be open; null to open the first. Left out: whichever is open.
        next_id: Id of the next cycle; from the calendar where left out.
        at: Business time, in a ledger made for replay only.
    """

    cycle: CycleId | msgspec.UnsetType | None = msgspec.UNSET
    next_id: CycleId | None = None
    at: Instant | None = None


class CloseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A fence was set.

    Attributes:
        closed: Id of the cycle that was closed; null if the first was opened.
        opened: Id of the cycle that is open now.
        at: Instant of the fence.
    """

    closed: str | None
    opened: str
    at: str


class SettleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A closed cycle counts as funded and paid.

    Attributes:
        cycle: Its id.
        at: When that was written.
    """

    cycle: str
    at: str


class PositionView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One party's figure in a cycle.

    Attributes:
        party: Merchant code, or an account of the house.
        net_cu: Positive is to receive (应收), negative to pay (应付).
        cap_cu: Net debit cap; left out for the house.
        collateral_cu: What a bank holds for the merchant.
        held_cu: Open holds against it.
        headroom_cu: What an order that clears at once may still debit; only in the open cycle.
    """

    party: str
    net_cu: SignedCu
    cap_cu: CuDigits | None = None
    collateral_cu: CuDigits | None = None
    held_cu: CuDigits | None = None
    headroom_cu: SignedCu | None = None


class PositionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Positions of a cycle: a merchant sees its own, the house sees all, and they sum to zero.

    Attributes:
        cycle: The cycle's id.
        state: The cycle's state.
        positions: By party.
        next: Cursor of the next page; null on the last.
    """

    cycle: str
    state: Literal["open", "closed", "settled"]
    positions: list[PositionView]
    next: str | None


class CycleView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One settlement cycle.

    Attributes:
        cycle: Its id.
        number: Its number.
        state: Open, closed or settled.
        opened_at: Instant of its first event.
        cut_off_at: When it is planned to close.
        closed_at: Instant of its fence.
        settled_at: When it counted as paid.
        package: Whether its signed package can be downloaded.
        orders: Orders that cleared in it; only the house sees this and the gross.
        gross_cu: Sum of the issuers' debits.
        arrangement: Whose cycle it is; several arrangements have their cycles side by side.
    """

    cycle: str
    number: int
    state: Literal["open", "closed", "settled"]
    opened_at: str
    package: bool
    cut_off_at: str | None = None
    closed_at: str | None = None
    settled_at: str | None = None
    orders: Count | None = None
    gross_cu: Count | None = None
    arrangement: str = "main"


class CyclesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of cycles.

    Attributes:
        cycles: Oldest first.
        next: Cursor of the next page; null on the last.
    """

    cycles: list[CycleView]
    next: str | None
