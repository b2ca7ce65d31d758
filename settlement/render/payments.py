"""Who pays whom in a batch, and the form in which banks take many payments at once (批量付款模板).

Source: settlement/RULES.md, rule F7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.files.csv_text import BOM, LINE_END, text_field
from schemas.values.amounts import fen_text
from settlement.core.instruction import HOUSE_LEG_CODE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.files.parties import BankAccount, Parties
    from settlement.render.batch import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One payment of a batch.

    Attributes:
        party: Code of the merchant that pays or is paid, or of the house's own leg.
        end_to_end_id: The same in every file that names the payment.
        fen: What is paid; above 0.
        creditor: Who is paid.
    """

    party: str
    end_to_end_id: str
    fen: int
    creditor: BankAccount


BANK_COLUMNS: Final = ("户名", "账号", "开户行", "联行号", "金额(元)", "附言")
"""Chinese alone: banks' forms know the columns by these names."""


def payments_in(batch: Batch, parties: Parties, party: str) -> list[Payment]:
    """What a party pays to the house's settlement account; empty if it pays nothing."""
    return [
        Payment(
            party=party,
            end_to_end_id=batch.payment_id(party, leg.counterparty),
            fen=-leg.pay_fen,
            creditor=parties.house.account,
        )
        for leg in batch.legs_of(party)
        if leg.pay_fen < 0
    ]


def payments_out(batch: Batch, parties: Parties) -> list[Payment]:
    """What the house pays out of its settlement account: to merchants, and its own leg to its own account.

    Raises:
        LookupError: A merchant that is paid is not among the parties.
    """
    payments = []
    for one in batch.legs:
        if one.pay_fen <= 0:
            continue
        party = parties.find(one.party)
        if one.party == HOUSE_LEG_CODE:
            creditor = parties.house.own_account
        elif party is not None:
            creditor = party.account
        else:
            raise LookupError(one.party)
        payments.append(
            Payment(
                party=one.party,
                end_to_end_id=batch.payment_id(one.party, one.counterparty),
                fen=one.pay_fen,
                creditor=creditor,
            )
        )
    return payments


def bank_form(batch: Batch, payments: Sequence[Payment]) -> bytes:
    """Write payments in the columns of banks' forms; the remark (附言) is the batch's id."""
    rows = [",".join(BANK_COLUMNS)]
    rows += [
        ",".join(
            (
                text_field(one.creditor.holder), text_field(one.creditor.number),
                text_field(one.creditor.bank), one.creditor.cnaps, fen_text(one.fen), batch.batch_id,
            )
        )
        for one in payments
    ]  # fmt: skip
    return (BOM + LINE_END.join([*rows, ""])).encode()
