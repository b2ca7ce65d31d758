"""Whose the money at the bank is, what cycles need of it, and what blocks releases."""

from typing import Annotated, Literal

import msgspec

from schemas.wire.fields import SignedCu

Alert = Literal["", "below_level", "missing", "overdue", "below_zero"]
SignedFen = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A-?[0-9]{1,19}\Z",
        description="Fen: positive is paid out (应收), negative is paid in (应付).",
        examples=["-80000"],
    ),
]
UNBOOKED_MAX = 100


class FundsView(msgspec.Struct, frozen=True, kw_only=True):
    """One merchant's money, as the books have it.

    Attributes:
        code: The merchant.
        funds_cu: Its settlement account.
        collateral_cu: Its collateral.
        default_fund_cu: Its share of the default fund.
        needs_cu: What closed, unsettled cycles will take of its funds.
        missing_cu: What it must pay in for them; less than one fen is carried.
        owes_cu: What it owes others after a default.
        level_cu: Below which funds it is told; null where nobody said.
        alert: Why it is told: funds are `below_zero`, a payment is `overdue`, money is `missing`, or funds are
            `below_level`; empty where all is well.
    """

    code: str
    funds_cu: SignedCu
    collateral_cu: SignedCu
    default_fund_cu: SignedCu
    needs_cu: SignedCu
    missing_cu: SignedCu
    owes_cu: SignedCu
    level_cu: SignedCu | None
    alert: Alert


class DueView(msgspec.Struct, frozen=True, kw_only=True):
    """An instruction that the bank has not shown yet.

    Attributes:
        payment: What the payment is called, in bank files and as its remark.
        counterparty: With whom it is settled, in a bilateral cycle; null where that is everybody.
        pay_fen: What moves.
        due_at: When it is due.
    """

    payment: str
    counterparty: str | None
    pay_fen: SignedFen
    due_at: str


class CycleFundsView(msgspec.Struct, frozen=True, kw_only=True):
    """What a cycle does to a merchant's funds.

    Attributes:
        cycle: Its id.
        arrangement: Whose cycle it is.
        state: An open cycle's figure still moves; a settled one has moved the funds already.
        figure_cu: What settling it moves: positive into the funds, negative out of them.
        due_at: When whoever pays must have paid in; null while it is open.
        instructions: Payments of the merchant for it that the bank has not shown.
    """

    cycle: str
    arrangement: str
    state: Literal["open", "closed", "settled"]
    figure_cu: SignedCu
    due_at: str | None
    instructions: list[DueView]


class FundsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A merchant's money, and what cycles need of it.

    Attributes:
        funds: The money.
        cycles: Open cycles, closed ones that are not settled, and those with a payment that is due; oldest first.
        next: Cursor of the next page of cycles; null on the last.
    """

    funds: FundsView
    cycles: list[CycleFundsView]
    next: str | None


class UnbookedView(msgspec.Struct, frozen=True, kw_only=True):
    """A movement of the bank that is in no account of the books.

    Attributes:
        entry: How it is named: number of the statement here, and of the entry in it.
        statement: What the bank calls the statement.
        amount_fen: What came in; negative what went out.
        reference: What was written to it.
        party_name: Who the bank says paid, or was paid.
    """

    entry: str
    statement: str
    amount_fen: SignedFen
    reference: str
    party_name: str


class HouseFundsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody's money, and whether books and bank agree.

    Attributes:
        merchants: By code.
        house: The house's own accounts by name: its share of the default fund, money in transit, and others.
        bank_fen: Closing balance of the bank's last statement.
        books_cu: What the books say that the bank holds.
        unbooked: Movements that block releases, oldest first, at most 100.
        unbooked_count: How many there are.
        blocked: Why nothing is paid out now; empty where books and bank agree.
        next: Cursor of the next page of merchants; null on the last.
    """

    merchants: list[FundsView]
    house: dict[str, SignedCu]
    bank_fen: SignedFen
    books_cu: SignedCu
    unbooked: list[UnbookedView]
    unbooked_count: int
    blocked: str
    next: str | None
