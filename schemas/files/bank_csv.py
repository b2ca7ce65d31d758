"""Bank statements as CSV, in the columns that the bank happens to write.

A mapping file in TOML says which column is what. A bank's CSV has no totals of its own, so the running balance
is what proves it: every line must be explained by the line before.

Source: schemas/FORMAT.md, "Bank statements".
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from schemas.files.bank_statement import (
    BankEntry,
    BankStatement,
    account_number,
    amount_fen,
    check_currency,
    content_sha256,
)
from schemas.files.mapped_csv import (
    check_dialect,
    check_time_format,
    mapped_rows,
    plain_digits,
    read_mapping,
)
from schemas.values.amounts import fen_text
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from typing import IO


_NOTHING: Final = frozenset({"", "-", "--", "—", "——"})
"""What stands in a column of one way where the other one holds the amount."""


class Columns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Headings of the columns, as the bank writes them.

    An amount stands in two columns, in one with its sign, or in one beside a column that says which way it went.

    Attributes:
        booked_on: Day of booking.
        balance: Balance after this line, signed.
        credit: What came in; empty or 0 where something went out.
        debit: What went out; empty or 0 where something came in.
        amount: Amount, instead of the two: with its sign, or with the word of `sign` beside it.
        sign: Word that says which way an amount went; see `SignWords`.
        account: The account that the line is of; must be that of the mapping.
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
    sign: str | None = None
    account: str | None = None
    currency: str | None = None
    reference: str | None = None
    bank_reference: str | None = None
    party_name: str | None = None
    party_account: str | None = None


class SignWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in the column `sign`. A bank's 贷 (credit) is what came in, as on its own books."""

    credit: Annotated[tuple[str, ...], Meta(min_length=1)] = ("贷", "C", "CR", "+", "收入")
    debit: Annotated[tuple[str, ...], Meta(min_length=1)] = ("借", "D", "DR", "-", "支出")


class TotalsRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last line, where a file ends with its totals.

    Attributes:
        mark: What its first field begins with.
        count: Heading of the column in which the number of lines stands.
        credit: Heading of the column with the sum of what came in.
        debit: Likewise of what went out.
    """

    mark: Annotated[str, Meta(min_length=1)]
    count: str | None = None
    credit: str | None = None
    debit: str | None = None


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
        signs: Words of the column `sign`.
        totals: The last line; None where the file ends without totals.
    """

    account: str
    columns: Columns
    encoding: str = "utf-8"
    delimiter: str = ","
    skip_lines: Annotated[int, Meta(ge=0, le=1_000)] = 0
    day_format: str = "%Y-%m-%d"
    order: Literal["oldest-first", "newest-first"] = "oldest-first"
    signs: SignWords = SignWords()
    totals: TotalsRow | None = None


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
    if columns.sign is not None and columns.amount is None:
        raise SchemaError("$.columns.sign", "stands beside amount alone")
    if set(mapping.signs.credit) & set(mapping.signs.debit):
        raise SchemaError("$.signs", "one word says both ways")
    totals = mapping.totals
    if totals is not None and not any((totals.count, totals.credit, totals.debit)):
        raise SchemaError("$.totals", "name at least one total")
    check_time_format(mapping.day_format, "$.day_format")
    account_number(mapping.account, "$.account")
    return mapping


def read_bank_csv(file: IO[bytes], mapping: CsvMapping) -> BankStatement:
    """Read one file.

    Such files have no number, so the statement is called by a digest of what it says: the same lines again, with
    another time of export above them or in another encoding, are the same statement.

    Args:
        file: The file's bytes, from its beginning.
        mapping: What its columns are.

    Raises:
        SchemaError: It cannot be decoded, a column is missing, a field malformed, the currency not yuan, the account
            another one, there is no line, a balance is not explained by the line before, or the totals are not those
            of the lines. The path names line and column.
    """
    rows, totals = _rows(file, mapping)
    if mapping.order == "newest-first":
        rows.reverse()
    if not rows:
        raise SchemaError(f"line {mapping.skip_lines + 2}", "there is no movement in this file")
    entries = [_entry(line_no, row, mapping) for line_no, row in rows]
    if mapping.totals is not None:
        _check_totals(totals, mapping.totals, entries)
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
    statement = BankStatement(
        account=account_number(mapping.account, "$.account"),
        number="",
        opened_on=entries[0].booked_on,
        closed_on=entries[-1].booked_on,
        opening_fen=opening_fen,
        closing_fen=balances[-1],
        entries=tuple(entries),
    )
    return replace(statement, number=content_sha256(statement).hex()[:16])


_Row = tuple[int, dict[str, str]]


def _rows(file: IO[bytes], mapping: CsvMapping) -> tuple[list[_Row], _Row | None]:
    """The lines of movements, and the line of totals where one is expected."""
    names = [*msgspec.structs.asdict(mapping.columns).values()]
    if mapping.totals is not None:
        names += [mapping.totals.count, mapping.totals.credit, mapping.totals.debit]
    rows = list(
        mapped_rows(
            file,
            dict.fromkeys(name for name in names if name is not None),
            encoding=mapping.encoding,
            delimiter=mapping.delimiter,
            skip_lines=mapping.skip_lines,
        )
    )
    if mapping.totals is None:
        return rows, None
    mark = mapping.totals.mark
    if not rows or not next(iter(rows[-1][1].values())).startswith(mark):
        line_no = rows[-1][0] if rows else mapping.skip_lines + 2
        raise SchemaError(f"line {line_no}", f"the file ends without its totals ({mark!r})")
    return rows[:-1], rows[-1]


def _check_totals(row: _Row | None, totals: TotalsRow, entries: list[BankEntry]) -> None:
    """Hold the last line against what the others came to."""
    if row is None:
        raise AssertionError("a file without totals was let through")
    line_no, told = row
    if totals.count is not None and told[totals.count] != str(len(entries)):
        raise SchemaError(
            f"line {line_no}, {totals.count}",
            f"is {told[totals.count][:40]!r}, but there are {len(entries)} lines",
        )
    for name, is_credit in ((totals.credit, True), (totals.debit, False)):
        if name is not None:
            fen = sum(
                one.amount_fen if is_credit else -one.amount_fen
                for one in entries
                if (one.amount_fen > 0) == (is_credit != one.is_return)
            )
            if _signed(line_no, told, name) != fen:
                raise SchemaError(
                    f"line {line_no}, {name}",
                    f"is {told[name][:40]!r}, but the lines come to {fen_text(fen)}",
                )


def _entry(line_no: int, row: dict[str, str], mapping: CsvMapping) -> BankEntry:
    """One line."""
    columns = mapping.columns

    def told(name: str | None) -> str:
        text = _text(row[name]) if name else ""
        if "\0" in text:
            raise SchemaError(f"line {line_no}, {name}", "holds a character that is none (NUL)")
        return text

    if columns.currency:
        check_currency(row[columns.currency], f"line {line_no}, {columns.currency}")
    if columns.account:
        path = f"line {line_no}, {columns.account}"
        found, expected = (
            account_number(one, path) for one in (told(columns.account), mapping.account)
        )
        if found != expected:
            raise SchemaError(path, f"expected {expected}, found {found}")
    amount_fen, is_return = _amount(line_no, row, mapping)
    return BankEntry(
        place=f"line {line_no}",
        amount_fen=amount_fen,
        is_return=is_return,
        booked_on=_day(line_no, row, mapping),
        reference=told(columns.reference),
        bank_reference=told(columns.bank_reference),
        party_name=told(columns.party_name),
        party_account=told(columns.party_account),
    )


def _text(field: str) -> str:
    """What a field says, without what keeps spreadsheets from making a number of it: `'123` or `="123"`."""
    if field.startswith('="') and field.endswith('"'):
        field = field[2:-1]
    return field.lstrip("'\t")


def _amount(line_no: int, row: dict[str, str], mapping: CsvMapping) -> tuple[int, bool]:
    """Signed fen of a line, and whether it takes an earlier one back: below zero in a column of one way (红字)."""
    columns = mapping.columns
    if columns.amount is not None:
        amount_fen = _signed(line_no, row, columns.amount)
        if columns.sign is None:
            return amount_fen, False
        word = row[columns.sign]
        if word in mapping.signs.credit:
            return amount_fen, amount_fen < 0
        if word in mapping.signs.debit:
            return -amount_fen, amount_fen < 0
        known = ", ".join((*mapping.signs.credit, *mapping.signs.debit))
        raise SchemaError(
            f"line {line_no}, {columns.sign}", f"expected one of {known}, found {word[:20]!r}"
        )
    if columns.credit is None or columns.debit is None:
        raise AssertionError("a mapping without amounts was let through")
    credit_fen, debit_fen = (
        0 if row[name] in _NOTHING else _signed(line_no, row, name)
        for name in (columns.credit, columns.debit)
    )
    if credit_fen and debit_fen:
        raise SchemaError(
            f"line {line_no}, {columns.debit}", f"{columns.credit} holds an amount as well"
        )
    return credit_fen - debit_fen, min(credit_fen, debit_fen) < 0


def _signed(line_no: int, row: dict[str, str], name: str) -> int:
    """An amount; one sign may stand before it, commas between thousands, and nowhere else."""
    text = _text(row[name])
    plain = text[1:] if text[:1] in {"-", "+"} else text
    fen = amount_fen(plain_digits(plain), f"line {line_no}, {name}")
    return -fen if text.startswith("-") else fen


def _day(line_no: int, row: dict[str, str], mapping: CsvMapping) -> date:
    name = mapping.columns.booked_on
    told = _text(row[name])
    if " " not in mapping.day_format:  # so that `2026/3/2 09:30` is told from `2026/3/21`
        told = told.partition(" ")[0]
    length = len(date(2000, 12, 31).strftime(mapping.day_format))
    try:
        return datetime.strptime(told[:length], mapping.day_format).date()  # noqa: DTZ007 - a bank's day has no zone
    except ValueError:
        raise SchemaError(
            f"line {line_no}, {name}",
            f"expected a day as {mapping.day_format}, found {row[name][:20]!r}",
        ) from None
