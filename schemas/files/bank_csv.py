"""Bank statements as CSV, in the columns that the bank happens to write.

A mapping file in TOML says which column is what. A bank's CSV has no totals of its own, so the running balance
is what proves it: every line must be explained by the line before.

Source: schemas/FORMAT.md, "Bank statements".
"""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from schemas.files.bank_statement import (
    BankEntry,
    BankStatement,
    account_number,
    amount_fen,
    check_currency,
)
from schemas.files.mapped_csv import check_dialect, mapped_rows, plain_digits, read_mapping
from schemas.values.amounts import fen_text
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from typing import IO


class Columns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Headings of the columns, as the bank writes them. An amount stands in two columns, or in one with its sign.

    Attributes:
        booked_on: Day of booking.
        balance: Balance after this line, signed.
        credit: What came in; empty or 0 where something went out.
        debit: What went out; empty or 0 where something came in.
        amount: Signed amount, instead of the two.
        currency: Currency of the line.
        reference: Text of the payer.
        bank_reference: The bank's number of the movement.
        party_name: The other side.
        party_account: Their account.
    """

    booked_on: str
    balance: str
    credit: str | None = None
    debit: str | None = None
    amount: str | None = None
    currency: str | None = None
    reference: str | None = None
    bank_reference: str | None = None
    party_name: str | None = None
    party_account: str | None = None


class CsvMapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a bank writes its CSV.

    Attributes:
        account: The account that the files are of; they do not say it themselves.
        columns: Headings.
        encoding: Such as `utf-8`, `gb18030`.
        delimiter: One character.
        skip_lines: Lines above the headings.
        day_format: Of `strftime`, such as `%Y-%m-%d` or `%Y%m%d`; what stands behind it is left out.
        order: Whether the oldest line is the first or the last one.
    """

    account: str
    columns: Columns
    encoding: str = "utf-8"
    delimiter: str = ","
    skip_lines: int = 0
    day_format: str = "%Y-%m-%d"
    order: Literal["oldest-first", "newest-first"] = "oldest-first"


def parse_mapping(text: str) -> CsvMapping:
    """Read a mapping file.

    Raises:
        SchemaError: It is not TOML, a field is missing or unknown, or amounts are told in no column or twice.
    """
    mapping = read_mapping(text, CsvMapping)
    check_dialect(mapping.encoding, mapping.delimiter)
    columns = mapping.columns
    two = columns.credit is not None and columns.debit is not None
    if two == (columns.amount is not None) or (columns.credit is None) != (columns.debit is None):
        raise SchemaError("$.columns", "name either credit and debit, or amount")
    account_number(mapping.account, "$.account")
    return mapping


def read_bank_csv(file: IO[bytes], mapping: CsvMapping, *, number: str) -> BankStatement:
    """Read one file.

    Args:
        file: The file's bytes, from its beginning.
        mapping: What its columns are.
        number: What this statement shall be called, as such files have no number: a digest of the file does.

    Raises:
        SchemaError: It cannot be decoded, a column is missing, a field malformed, the currency not yuan, there is no
            line, or a balance is not explained by the line before. The path names line and column.
    """
    rows = list(
        mapped_rows(
            file,
            [name for name in msgspec.structs.asdict(mapping.columns).values() if name is not None],
            encoding=mapping.encoding,
            delimiter=mapping.delimiter,
            skip_lines=mapping.skip_lines,
        )
    )
    if mapping.order == "newest-first":
        rows.reverse()
    if not rows:
        raise SchemaError(f"line {mapping.skip_lines + 2}", "there is no movement in this file")
    entries = [_entry(line_no, row, mapping) for line_no, row in rows]
    balances = [_signed(line_no, row, mapping.columns.balance) for line_no, row in rows]
    opening_fen = balances[0] - entries[0].amount_fen
    before_fen = opening_fen
    for (line_no, _), entry, balance_fen in zip(rows, entries, balances, strict=True):
        if before_fen + entry.amount_fen != balance_fen:
            raise SchemaError(
                f"line {line_no}, {mapping.columns.balance}",
                f"is {fen_text(balance_fen)}, but {fen_text(before_fen)} before it and "
                f"{fen_text(entry.amount_fen)} come to {fen_text(before_fen + entry.amount_fen)}",
            )
        before_fen = balance_fen
    for (line_no, _), entry, earlier in zip(rows[1:], entries[1:], entries, strict=False):
        if entry.booked_on < earlier.booked_on:
            raise SchemaError(f"line {line_no}, {mapping.columns.booked_on}", "days run backwards")
    return BankStatement(
        account=account_number(mapping.account, "$.account"),
        number=number,
        opened_on=entries[0].booked_on,
        closed_on=entries[-1].booked_on,
        opening_fen=opening_fen,
        closing_fen=balances[-1],
        entries=tuple(entries),
    )


def _entry(line_no: int, row: dict[str, str], mapping: CsvMapping) -> BankEntry:
    """One line."""
    columns = mapping.columns

    def told(name: str | None) -> str:
        return row[name].lstrip("'\t") if name else ""

    if columns.currency:
        check_currency(row[columns.currency], f"line {line_no}, {columns.currency}")
    return BankEntry(
        place=f"line {line_no}",
        amount_fen=_amount(line_no, row, columns),
        booked_on=_day(line_no, row, mapping),
        reference=told(columns.reference),
        bank_reference=told(columns.bank_reference),
        party_name=told(columns.party_name),
        party_account=told(columns.party_account),
    )


def _amount(line_no: int, row: dict[str, str], columns: Columns) -> int:
    """Signed fen of a line."""
    if columns.amount is not None:
        return _signed(line_no, row, columns.amount)
    if columns.credit is None or columns.debit is None:
        raise AssertionError("a mapping without amounts was let through")
    credit_fen, debit_fen = (
        _plain(line_no, row, name) if row[name] else 0 for name in (columns.credit, columns.debit)
    )
    if credit_fen and debit_fen:
        raise SchemaError(
            f"line {line_no}, {columns.debit}", f"{columns.credit} holds an amount as well"
        )
    return credit_fen - debit_fen


def _signed(line_no: int, row: dict[str, str], name: str) -> int:
    text = row[name]
    sign = -1 if text.startswith("-") else 1
    return sign * _plain(line_no, {name: text.lstrip("+-")}, name)


def _plain(line_no: int, row: dict[str, str], name: str) -> int:
    """An amount; commas may stand between thousands, and nowhere else."""
    text = plain_digits(row[name])
    return amount_fen(text, f"line {line_no}, {name}")


def _day(line_no: int, row: dict[str, str], mapping: CsvMapping) -> date:
    name = mapping.columns.booked_on
    length = len(date(2000, 12, 31).strftime(mapping.day_format))
    try:
        return datetime.strptime(row[name][:length], mapping.day_format).date()  # noqa: DTZ007 - a bank's day has no zone
    except ValueError:
        raise SchemaError(
            f"line {line_no}, {name}",
            f"expected a day as {mapping.day_format}, found {row[name][:20]!r}",
        ) from None
