"""A bank's statement of one account, whatever file it came in.

Readers of each format (`camt053`, `mt940`, `bank_csv`) make these records; what must add up is checked here,
once for all of them.

Source: schemas/FORMAT.md, "Bank statements"; settlement/RULES.md, rules X1 to X4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.values.amounts import AMOUNT_LIMIT, CU_PER_FEN, fen_text
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

CURRENCY: Final = "CNY"
"""The one currency that is settled in."""
FEN_LIMIT: Final = AMOUNT_LIMIT // CU_PER_FEN

_AMOUNT = re.compile(r"([0-9]{1,13})(?:\.([0-9]{0,2})0{0,3})?", re.ASCII)
_CALLED_CNY = frozenset({CURRENCY, "RMB", "CNH", "人民币"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BankEntry:
    """One movement on an account.

    Attributes:
        place: Where it stands in its file, such as `line 14`.
        amount_fen: Signed fen: positive was credited to the account, negative debited from it.
        booked_on: Day on which the bank booked it.
        reference: What the payer wrote, so that the payee knows what it is for; empty when nothing.
        bank_reference: What the bank calls it; empty when the bank does not say.
        party_name: Who paid or was paid; empty when the bank does not say.
        party_account: Their account; empty when the bank does not say.
        is_return: The bank takes an earlier movement back.
    """

    place: str
    amount_fen: int
    booked_on: date
    reference: str = ""
    bank_reference: str = ""
    party_name: str = ""
    party_account: str = ""
    is_return: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BankStatement:
    """What happened on one account between two balances.

    Attributes:
        account: The account's number or IBAN, without blanks.
        number: What the bank calls this statement; unique for the account.
        opened_on: Day of the opening balance.
        closed_on: Day of the closing balance.
        opening_fen: Balance before the first entry, signed.
        closing_fen: Balance after the last entry, signed.
        entries: Booked movements, in the file's order.
        unbooked: How many movements the bank only announces; they are not among the entries.
    """

    account: str
    number: str
    opened_on: date
    closed_on: date
    opening_fen: int
    closing_fen: int
    entries: tuple[BankEntry, ...]
    unbooked: int = 0

    def __post_init__(self) -> None:
        """Check what every statement must hold.

        Raises:
            SchemaError: The balances are not explained by the entries, or the days run backwards.
        """
        moved = sum(entry.amount_fen for entry in self.entries)
        if self.opening_fen + moved != self.closing_fen:
            raise SchemaError(
                f"statement {self.number}, closing balance",
                f"is {fen_text(self.closing_fen)}, but the opening balance {fen_text(self.opening_fen)} and "
                f"{len(self.entries)} entries come to {fen_text(self.opening_fen + moved)}",
            )
        if self.closed_on < self.opened_on:
            raise SchemaError(
                f"statement {self.number}, closing balance",
                f"is of {self.closed_on}, before the opening balance of {self.opened_on}",
            )


def amount_fen(text: str, path: str) -> int:
    """Read an amount without a sign: digits with at most two decimal places that are not zero.

    Args:
        text: Such as `1234.50`, `1234.5` or `7`.
        path: Where it stands.

    Raises:
        SchemaError: It is anything else, or as large as `FEN_LIMIT` or larger.
    """
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise SchemaError(
            path, f"expected an amount in yuan with two decimal places, found {text[:40]!r}"
        )
    fen = int(found[1]) * 100 + int((found[2] or "").ljust(2, "0"))
    if fen >= FEN_LIMIT:
        raise SchemaError(path, f"{text[:40]} is more than any account here may hold")
    return fen


def check_currency(text: str, path: str) -> None:
    """See that a currency is yuan.

    Raises:
        SchemaError: It is another one.
    """
    if text not in _CALLED_CNY:
        raise SchemaError(path, f"expected {CURRENCY}, found {text[:10]!r}")


def account_number(text: str, path: str) -> str:
    """Read an account's number: letters and digits; blanks, dashes and the like between them are left out.

    Raises:
        SchemaError: It is empty, longer than 34 characters, or something else.
    """
    number = re.sub(r"[ \-/]", "", text)
    if not re.fullmatch(r"[0-9A-Za-z]{1,34}", number, re.ASCII):
        raise SchemaError(path, f"expected an account's number, found {text[:40]!r}")
    return number.upper()


def check_account(statements: Iterable[BankStatement], *, account: str) -> None:
    """See that statements are of the account that is expected.

    Args:
        statements: What a file held.
        account: The account's number or IBAN.

    Raises:
        SchemaError: A statement is of another account.
    """
    expected = account_number(account, "account")
    for statement in statements:
        if statement.account != expected:
            raise SchemaError(
                f"statement {statement.number}, account",
                f"expected {expected}, found {statement.account}",
            )
