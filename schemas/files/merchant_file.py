"""Merchants' own files: what a merchant's books say about the orders of a cycle.

Two forms give the same lines: CSV with a mapping in TOML, which says which column is what, and msgpack in a
form of our own. Both are read line by line. What is wrong in one line, or in the totals at the end, refuses the
file whole; so whoever stores the lines reads the file to its end first.

Source: schemas/FORMAT.md, "Merchants' own files"; settlement/RULES.md, rules X15 to X17.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from schemas.files.bank_statement import check_currency
from schemas.files.mapped_csv import (
    check_dialect,
    check_time_format,
    mapped_rows,
    plain_digits,
    read_mapping,
)
from schemas.values.amounts import AMOUNT_LIMIT, CU_PER_FEN, CU_PER_YUAN, yuan_text
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

TEXT_MAX: Final = 1_000
"""Characters of an order, a reference or a counterparty."""
BEIJING: Final = timezone(timedelta(hours=8))
_YUAN: Final = re.compile(r"([0-9]{1,13})(?:\.([0-9]{0,4})0*)?", re.ASCII)
_WHOLE: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_HOURS: Final = ("%H", "%I", "%T", "%X", "%c", "%s")

Figure = Literal["net", "gross"]
Clock = Literal["till", "cleared"]
Rounding = Literal["none", "toward_zero", "half_away"]


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """Which of our figures and instants the lines of a file are to be held against.

    Attributes:
        figure: `net`, value less fee and minus the debit; or `gross`, before the fee.
        clock: When it happened at the till, or when it cleared.
        rounding: How the merchant's books make whole fen of our figures; `none` where they hold them exactly.
    """

    figure: Figure = "net"
    clock: Clock = "till"
    rounding: Rounding = "none"


class FileLine(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One line.

    Attributes:
        place: Where it stands in its file, such as `line 14`.
        order: Our id of the order, as the merchant has it; empty when it is not told.
        reference: The merchant's own reference; empty when it is not told.
        day: Day in Beijing.
        amount_cu: CU; positive is to receive, as in our statements.
        units: Points, without a sign; None when it is not told.
        counterparty: Code of the other merchant; empty when it is not told.
    """

    place: str
    order: str
    reference: str
    day: date
    amount_cu: int
    units: int | None
    counterparty: str


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the records: what is not named here may not stand there."""


class MerchantColumns(_Record, frozen=True, kw_only=True):
    """Headings of the columns. Amounts stand in one column with their sign, in one beside a column of signs, or in two.

    Attributes:
        time: Instant or day.
        order: Our id of the order.
        reference: The merchant's own reference.
        amount: Amount: with its sign, or without one where `sign` is named.
        sign: Word that says which way an amount goes; see `SignWords`.
        received: What is to be received, instead of `amount`; empty or 0 in the other lines.
        paid: What is to be paid, likewise.
        units: Points.
        currency: Currency of the line.
        merchant: Whose line it is; must be the merchant whose file it is.
        counterparty: Code of the other merchant.
    """

    time: str
    order: str | None = None
    reference: str | None = None
    amount: str | None = None
    sign: str | None = None
    received: str | None = None
    paid: str | None = None
    units: str | None = None
    currency: str | None = None
    merchant: str | None = None
    counterparty: str | None = None


class SignWords(_Record, frozen=True, kw_only=True):
    """What stands in the column `sign`."""

    receive: Annotated[tuple[str, ...], Meta(min_length=1)] = ("+", "C", "收")
    pay: Annotated[tuple[str, ...], Meta(min_length=1)] = ("-", "D", "付")


class TotalsRow(_Record, frozen=True, kw_only=True):
    """The last line, where a file ends with its totals.

    Attributes:
        mark: What its first field holds.
        count: Heading of the column in which the number of lines stands.
        amount: Heading of the column with the signed sum.
        received: Heading of the column with the sum of what is to be received.
        paid: Likewise of what is to be paid.
    """

    mark: Annotated[str, Meta(min_length=1)]
    count: str | None = None
    amount: str | None = None
    received: str | None = None
    paid: str | None = None


class MerchantMapping(_Record, frozen=True, kw_only=True):
    """How a merchant writes its CSV.

    Attributes:
        columns: Headings.
        unit: What an amount of 1 is: a yuan (with up to four decimals), a fen, a CU.
        time_format: Of `strptime`.
        time_zone: IANA name of the zone of times that tell none.
        encoding: Such as `utf-8`, `gb18030`.
        delimiter: One character.
        skip_lines: Lines above the headings.
        signs: Words of the column `sign`.
        totals: The last line; None where the file ends without totals.
        figure: See `Basis`.
        clock: See `Basis`.
        rounding: See `Basis`.
    """

    columns: MerchantColumns
    unit: Literal["yuan", "fen", "cu"]
    time_format: str = "%Y-%m-%d %H:%M:%S"
    time_zone: str = "Asia/Shanghai"
    encoding: str = "utf-8"
    delimiter: str = ","
    skip_lines: Annotated[int, Meta(ge=0, le=1_000)] = 0
    signs: SignWords = SignWords()
    totals: TotalsRow | None = None
    figure: Figure = "net"
    clock: Clock = "till"
    rounding: Rounding = "none"

    @property
    def basis(self) -> Basis:
        """Which of our figures and instants its lines are held against."""
        return Basis(figure=self.figure, clock=self.clock, rounding=self.rounding)


def parse_merchant_mapping(text: str) -> MerchantMapping:
    """Read a mapping file.

    Raises:
        SchemaError: It is not TOML, a field is missing, unknown or malformed, or amounts are told in no way or in two.
    """
    mapping = read_mapping(text, MerchantMapping)
    check_dialect(mapping.encoding, mapping.delimiter)
    columns, totals = mapping.columns, mapping.totals
    two = columns.received is not None and columns.paid is not None
    if two == (columns.amount is not None) or (columns.received is None) != (columns.paid is None):
        raise SchemaError("$.columns", "name either received and paid, or amount")
    if columns.sign is not None and columns.amount is None:
        raise SchemaError("$.columns.sign", "stands beside amount alone")
    if set(mapping.signs.receive) & set(mapping.signs.pay):
        raise SchemaError("$.signs", "one word says both ways")
    if totals is not None and not any((totals.count, totals.amount, totals.received, totals.paid)):
        raise SchemaError("$.totals", "name at least one total")
    check_time_format(mapping.time_format, "$.time_format")
    try:
        ZoneInfo(mapping.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise SchemaError("$.time_zone", "no time zone is called so") from None
    return mapping


def read_merchant_csv(
    file: IO[bytes], mapping: MerchantMapping, *, merchant: str
) -> Iterator[FileLine]:
    """Stream the lines of one file.

    Args:
        file: The file's bytes, from its beginning.
        mapping: What its columns are.
        merchant: Code of the merchant whose file it is.

    Raises:
        SchemaError: It cannot be decoded, a column is missing, a field malformed, the currency not yuan, the merchant
            another one, there is no line, or the totals are not those of the lines. The path names line and column.
    """
    reading = _Csv(mapping, merchant)
    totals_at = 0
    names = [*msgspec.structs.asdict(mapping.columns).values()]
    if mapping.totals is not None:
        names += [*msgspec.structs.asdict(mapping.totals).values()][1:]
    rows = mapped_rows(
        file,
        dict.fromkeys(name for name in names if name is not None),
        encoding=mapping.encoding,
        delimiter=mapping.delimiter,
        skip_lines=mapping.skip_lines,
    )
    line_no = mapping.skip_lines + 1
    for line_no, row in rows:
        if totals_at:
            raise SchemaError(f"line {line_no}", f"stands behind the totals of line {totals_at}")
        if mapping.totals is not None and next(iter(row.values())) == mapping.totals.mark:
            reading.check_totals(line_no, row, mapping.totals)
            totals_at = line_no
        else:
            yield reading.line(line_no, row)
    if not reading.count:
        raise SchemaError(f"line {line_no + 1}", "there is no line in this file")
    if mapping.totals is not None and not totals_at:
        raise SchemaError(
            f"line {line_no}", f"the file ends without its totals ({mapping.totals.mark!r})"
        )


class _Csv:
    """One reading of a CSV file: how to read its fields, and what they came to so far."""

    def __init__(self, mapping: MerchantMapping, merchant: str) -> None:
        self._mapping, self._merchant = mapping, merchant
        self._zone = ZoneInfo(mapping.time_zone)
        self._day_alone = not any(each in mapping.time_format for each in _HOURS)
        self._day = lru_cache(maxsize=4_096)(self._read_day)
        self.count = self.received_cu = self.paid_cu = 0

    def line(self, line_no: int, row: dict[str, str]) -> FileLine:
        """Read a line, and count it."""
        columns = self._mapping.columns
        if columns.currency is not None:
            check_currency(row[columns.currency], f"line {line_no}, {columns.currency}")
        if columns.merchant is not None and row[columns.merchant] != self._merchant:
            raise SchemaError(
                f"line {line_no}, {columns.merchant}",
                f"expected {self._merchant}, found {row[columns.merchant][:48]!r}",
            )
        line = FileLine(
            place=f"line {line_no}",
            order=self._text(line_no, row, columns.order).lower(),
            reference=self._text(line_no, row, columns.reference),
            day=self._told_day(line_no, row),
            amount_cu=self._amount_cu(line_no, row),
            units=self._units(line_no, row),
            counterparty=self._text(line_no, row, columns.counterparty),
        )
        self.count += 1
        if line.amount_cu > 0:
            self.received_cu += line.amount_cu
        else:
            self.paid_cu -= line.amount_cu
        return line

    def check_totals(self, line_no: int, row: dict[str, str], totals: TotalsRow) -> None:
        """Hold the last line against what the others came to."""
        if totals.count is not None:
            told = row[totals.count]
            if not _WHOLE.fullmatch(told) or int(told) != self.count:
                raise SchemaError(
                    f"line {line_no}, {totals.count}",
                    f"is {told[:40]!r}, but there are {self.count} lines",
                )
        for name, sum_cu in (
            (totals.amount, self.received_cu - self.paid_cu),
            (totals.received, self.received_cu),
            (totals.paid, self.paid_cu),
        ):
            if name is not None:
                told_cu = self._signed(line_no, row, name)
                if told_cu != sum_cu:
                    raise SchemaError(
                        f"line {line_no}, {name}",
                        f"is {yuan_text(told_cu)}, but {self.count} lines come to {yuan_text(sum_cu)} yuan",
                    )

    def _amount_cu(self, line_no: int, row: dict[str, str]) -> int:
        """Signed CU of a line."""
        columns, signs = self._mapping.columns, self._mapping.signs
        if columns.amount is None:
            if columns.received is None or columns.paid is None:
                raise AssertionError("a mapping without amounts was let through")
            received_cu, paid_cu = (
                self._plain(line_no, row[name], name) if row[name] else 0
                for name in (columns.received, columns.paid)
            )
            if received_cu and paid_cu:
                raise SchemaError(
                    f"line {line_no}, {columns.paid}", f"{columns.received} holds an amount as well"
                )
            return received_cu - paid_cu
        if columns.sign is None:
            return self._signed(line_no, row, columns.amount)
        word = row[columns.sign]
        if word not in signs.receive and word not in signs.pay:
            known = ", ".join((*signs.receive, *signs.pay))
            raise SchemaError(
                f"line {line_no}, {columns.sign}", f"expected one of {known}, found {word[:20]!r}"
            )
        amount_cu = self._plain(line_no, row[columns.amount], columns.amount)
        return amount_cu if word in signs.receive else -amount_cu

    def _signed(self, line_no: int, row: dict[str, str], name: str) -> int:
        text = row[name]
        negative = text.startswith("-")
        plain = text[1:] if text[:1] in {"-", "+"} else text
        amount_cu = self._plain(line_no, plain, name)
        return -amount_cu if negative else amount_cu

    def _plain(self, line_no: int, text: str, name: str) -> int:
        """An amount without a sign."""
        digits, amount_cu = plain_digits(text), 0
        if self._mapping.unit == "yuan":
            found = _YUAN.fullmatch(digits)
            if found is not None:
                amount_cu = int(found[1]) * CU_PER_YUAN + int((found[2] or "").ljust(4, "0"))
        else:
            found = _WHOLE.fullmatch(digits)
            if found is not None:
                amount_cu = int(digits) * (CU_PER_FEN if self._mapping.unit == "fen" else 1)
        if found is None:
            wanted = (
                "an amount in yuan with at most four decimals"
                if self._mapping.unit == "yuan"
                else f"a whole number of {self._mapping.unit}"
            )
            raise SchemaError(
                f"line {line_no}, {name}", f"expected {wanted} and no sign, found {text[:40]!r}"
            )
        if amount_cu >= AMOUNT_LIMIT:
            raise SchemaError(f"line {line_no}, {name}", "more than any account here may hold")
        return amount_cu

    def _units(self, line_no: int, row: dict[str, str]) -> int | None:
        name = self._mapping.columns.units
        if name is None or not row[name]:
            return None
        digits = plain_digits(row[name].removeprefix("-"))
        if not _WHOLE.fullmatch(digits) or int(digits) >= AMOUNT_LIMIT:
            raise SchemaError(
                f"line {line_no}, {name}",
                f"expected a whole number of points, found {row[name][:40]!r}",
            )
        return int(digits)

    def _text(self, line_no: int, row: dict[str, str], name: str | None) -> str:
        text = row[name] if name is not None else ""
        if len(text) > TEXT_MAX or "\0" in text:
            raise SchemaError(f"line {line_no}, {name}", f"more than {TEXT_MAX} characters, or NUL")
        return text

    def _told_day(self, line_no: int, row: dict[str, str]) -> date:
        name = self._mapping.columns.time
        day = self._day(row[name])
        if day is None:
            raise SchemaError(
                f"line {line_no}, {name}",
                f"expected a time as {self._mapping.time_format}, found {row[name][:40]!r}",
            )
        return day

    def _read_day(self, text: str) -> date | None:
        """The day in Beijing of a time; None where it is none."""
        try:
            at = datetime.strptime(text, self._mapping.time_format)  # noqa: DTZ007 - the mapping tells its zone
            if self._day_alone and at.tzinfo is None:
                return at.date()
            return beijing_day(at if at.tzinfo is not None else at.replace(tzinfo=self._zone))
        except (ValueError, OverflowError):
            return None


def beijing_day(at: datetime) -> date:
    """The day of an instant in Beijing."""
    return at.astimezone(BEIJING).date()
