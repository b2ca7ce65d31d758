"""Payments that should move, movements that did, and what differs between them.

Source: settlement/RULES.md, rules X3 and X11 to X14.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from settlement.core.matching import BreakKind, Item
from settlement.core.payment_id import PaymentName, read_payment_name, written_again

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

_HOUSE: Final = "HOUSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What should move for one party and one batch.

    Attributes:
        cycle_no: Number of the cycle.
        party_no: Number of the party; `HOUSE_LEG` for the house.
        code: Its code.
        payment_id: What the payment is called in bank files.
        amount_fen: Signed fen on the house's account: positive is paid in.
        due_on: Day on which the cycle closed, in Beijing.
        counterparty_no: Whom it is settled with in a bilateral cycle, as `party_no`; 0 in a multilateral one.
    """

    cycle_no: int
    party_no: int
    code: str
    payment_id: str
    amount_fen: int
    due_on: date
    counterparty_no: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """What did move: an entry of an imported statement.

    Attributes:
        statement_no: Number of the statement here.
        entry_no: Number of the entry in it, from 1.
        statement: What the bank calls the statement.
        place: Where the entry stood in its file.
        amount_fen: Signed fen.
        booked_on: Day of booking.
        reference: What was written with it.
        party_name: Who paid or was paid.
        party_account: Their account.
    """

    statement_no: int
    entry_no: int
    statement: str
    place: str
    amount_fen: int
    booked_on: date
    reference: str
    party_name: str
    party_account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A difference that somebody must look at.

    Attributes:
        kind: What it is.
        owner: Code of the merchant that must act, or `HOUSE`.
        age_days: Days since the payment was due, or the movement booked.
        payments: What should have moved.
        movements: What did.
        candidates: How many others it could belong to as well.
        match_no: The match in which it lies; None for what is not matched.
    """

    kind: BreakKind
    owner: str
    age_days: int
    payments: tuple[Payment, ...]
    movements: tuple[Movement, ...]
    candidates: int = 0
    match_no: int | None = None


def plain_account(text: str) -> str:
    """An account's number without blanks and dashes, in capital letters."""
    return "".join(filter(str.isalnum, text)).upper()


def items(
    payments: Sequence[Payment],
    movements: Sequence[Movement],
    holders: Mapping[str, str],
    *,
    closed: Sequence[Payment] = (),
) -> tuple[list[Item], list[Item]]:
    """Put both sides in the same words: payments by their id, parties by their code.

    Args:
        payments: What should move.
        movements: What did.
        holders: Code of the merchant behind each account that is known, as `plain_account` writes it.
        closed: Payments that have moved already, and that movements may name once more.

    Source: settlement/RULES.md, rule X11.
    """
    of_batch = _only_payments([*payments, *closed])
    by_batch: dict[str, list[Payment]] = {}
    for each in payments:
        by_batch.setdefault(_batch_of(each), []).append(each)
    ours = [
        Item(
            amount=one.amount_fen,
            day=one.due_on.toordinal(),
            reference=one.payment_id,
            party=one.code,
        )
        for one in payments
    ]
    theirs = []
    for one in movements:
        party = holders.get(plain_account(one.party_account), "")
        name = read_payment_name(one.reference)
        reference = "" if name is None else _named(name, one, party, of_batch, by_batch)
        theirs.append(
            Item(
                amount=one.amount_fen,
                day=one.booked_on.toordinal(),
                reference=reference,
                # What names one payment is no sum of others, whoever sent it.
                party="" if reference else party,
            )
        )
    return ours, theirs


def _only_payments(payments: Sequence[Payment]) -> dict[tuple[str, str], str]:
    """Batch and party to the payment, where the party has no other one in the batch."""
    found: dict[tuple[str, str], str] = {}
    several = set()
    for one in payments:
        key = (_batch_of(one), one.code)
        if found.get(key, one.payment_id) != one.payment_id:
            several.add(key)
        found[key] = one.payment_id
    return {key: payment for key, payment in found.items() if key not in several}


def _batch_of(payment: Payment) -> str:
    name = read_payment_name(payment.payment_id)
    return "" if name is None else name.batch_id


def _named(
    name: PaymentName,
    movement: Movement,
    party: str,
    of_batch: Mapping[tuple[str, str], str],
    by_batch: Mapping[str, Sequence[Payment]],
) -> str:
    """The payment that a name means: told whole, or by the batch and who paid; empty when it may be several.

    A batch in which nothing of this amount is open is a name too, of nothing that is open: so money that was sent for
    one batch once more is not taken for another batch's.
    """
    if name.party_no is not None:
        return written_again(name)
    if (name.batch_id, party) in of_batch:
        return of_batch[name.batch_id, party]
    amounts = [
        each.amount_fen for each in by_batch.get(name.batch_id, ()) if party in {"", each.code}
    ]
    may_be_several = movement.amount_fen in (*amounts, sum(amounts) if party else 0)
    return "" if may_be_several else name.batch_id


def name_break(
    kind: BreakKind,
    payments: Sequence[Payment],
    movements: Sequence[Movement],
    today: date,
    *,
    candidates: int = 0,
    match_no: int | None = None,
) -> Break:
    """Name a break, and who must act: the merchant that has not paid in or paid otherwise, else the house (X14)."""
    payers = [one.code for one in payments if one.amount_fen > 0 and one.party_no > 0]
    is_payers = kind in {BreakKind.MISSING, BreakKind.AMOUNT} and payers
    days = [one.due_on for one in payments] + [one.booked_on for one in movements]
    return Break(
        kind=kind,
        owner=payers[0] if is_payers else _HOUSE,
        age_days=max(0, (today - min(days)).days),
        payments=tuple(payments),
        movements=tuple(movements),
        candidates=candidates,
        match_no=match_no,
    )
