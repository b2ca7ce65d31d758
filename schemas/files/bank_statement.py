"""A bank's statement of one account, whatever file it came in.

Readers of each format (`camt053`, `mt940`, `bank_csv`) make these records; what must add up is checked here,
once for all of them.

Source: schemas/FORMAT.md, "Bank statements"; settlement/RULES.md, rules X1 to X4.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from schemas.values.amounts import AMOUNT_LIMIT, CU_PER_FEN, fen_text
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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
        also_called: The account in other spellings, where its field holds more than the number.
    """

    account: str
    number: str
    opened_on: date
    closed_on: date
    opening_fen: int
    closing_fen: int
    entries: tuple[BankEntry, ...]
    unbooked: int = 0
    also_called: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what every statement must hold.

        Raises:
            SchemaError: The balances are not explained by the entries, the days run backwards, or a text holds a
                character that is none.
        """
        for entry in self.entries:
            texts = (entry.reference, entry.bank_reference, entry.party_name, entry.party_account)
            if any("\0" in text for text in texts):
                raise SchemaError(entry.place, "holds a character that is none (NUL)")
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
    """Read an account's number: letters and digits; blanks, dashes, dots and slashes between them are left out.

    Raises:
        SchemaError: It is empty, longer than 34 characters, or something else.
    """
    number = re.sub(r"[ \-/.]", "", text)
    if not re.fullmatch(r"[0-9A-Za-z]{1,34}", number, re.ASCII):
        raise SchemaError(path, f"expected an account's number, found {text[:40]!r}")
    return number.upper()


def of_account(statements: Iterable[BankStatement], *, account: str) -> list[BankStatement]:
    """See that statements are of the account that is expected; give them under its number.

    Args:
        statements: What a file held.
        account: The account's number or IBAN.

    Raises:
        SchemaError: A statement is of another account.
    """
    expected = account_number(account, "account")
    found = list(statements)
    for statement in found:
        if expected not in (statement.account, *statement.also_called):
            raise SchemaError(
                f"statement {statement.number}, account",
                f"expected {expected}, found {statement.account}",
            )
    return [replace(statement, account=expected, also_called=()) for statement in found]


def in_order(
    statements: Iterable[BankStatement], closing_fen: int | None
) -> Iterator[BankStatement]:
    """Give statements oldest first; those of the same days so that each begins where the one before ended.

    Args:
        statements: Of one account, in any order.
        closing_fen: Balance with which the account's last statement ended; None for its first ones.
    """
    left = sorted(statements, key=lambda one: (one.opened_on, one.closed_on))
    while left:
        days = (left[0].opened_on, left[0].closed_on)
        group = [one for one in left if (one.opened_on, one.closed_on) == days]
        if closing_fen is None:
            ends = {one.closing_fen for one in group if one.closing_fen != one.opening_fen}
            closing_fen = next(
                (one for one in group if one.opening_fen not in ends), group[0]
            ).opening_fen
        following = min(
            group,
            key=lambda one: (one.opening_fen != closing_fen, one.closing_fen != one.opening_fen),
        )
        left = [one for one in left if one is not following]
        closing_fen = following.closing_fen
        yield following


def content_sha256(statement: BankStatement) -> bytes:
    """Digest of what a statement says, whatever file it stood in."""
    entries = [
        (
            one.amount_fen, one.booked_on, one.reference, one.bank_reference, one.party_name, one.party_account,
            one.is_return,
        )
        for one in statement.entries
    ]  # fmt: skip
    whole = (
        statement.account, statement.number, statement.opened_on, statement.closed_on, statement.opening_fen,
        statement.closing_fen, entries,
    )  # fmt: skip
    return hashlib.sha256(msgspec.msgpack.encode(whole)).digest()


def remark(*texts: str) -> str:
    """Join what several fields say about a movement, each thing once: a payment's name may stand in any of them."""
    told: list[str] = []
    for text in map(str.strip, texts):
        if text and not any(text in each for each in told):
            told = [*(each for each in told if each not in text), text]
    return " | ".join(told)
