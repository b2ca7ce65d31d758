"""Bank statements as SWIFT MT940.

The package `mt-940` knows the form of each field. It takes what many banks send, so what must be exact here
(amounts, currency, days, pages that follow one another) is checked field by field, with the line.

Source: SWIFT standards MT940, fields 25, 28C, 60a, 61, 62a and 86; schemas/FORMAT.md, "Bank statements".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

import mt940

from schemas.files.bank_statement import (
    BankEntry,
    BankStatement,
    account_number,
    amount_fen,
    check_currency,
    remark,
)
from schemas.values.amounts import fen_text
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TAG = re.compile(r":([0-9]{2}[A-Z]?|NS):(.*)")
_ENVELOPE = re.compile(r"\x01?\{[1-5]:.*|\x01|\x03")
_END = re.compile(r"-(\}.*|\s*\x03?)")
"""A line that ends a message; what stands between messages is the bank's own."""
_AMOUNT = re.compile(r"[0-9]{1,12},[0-9]{0,2}", re.ASCII)
_SIGNS: Final = {"C": 1, "D": -1, "RC": -1, "RD": 1}
"""`RC` takes a credit back, so it is a debit; `RD` the other way round."""
_NO_REFERENCE: Final = frozenset({"", "NONREF"})
_GRAMMAR: Final[dict[str, mt940.tags.Tag]] = {
    "28": mt940.tags.StatementNumber(),
    "28C": mt940.tags.StatementNumber(),
    "60F": mt940.tags.FinalOpeningBalance(),
    "60M": mt940.tags.IntermediateOpeningBalance(),
    "61": mt940.tags.Statement(),
    "62F": mt940.tags.FinalClosingBalance(),
    "62M": mt940.tags.IntermediateClosingBalance(),
}
_OTHERS: Final = frozenset({"13D", "20", "21", "25", "34F", "64", "65", "86", "90C", "90D", "NS"})
_DETAIL = re.compile(r"\?(2[0-9]|3[0-3]|6[0-3])([^?]*)")
"""Numbered parts of a field 86: 20 to 29 and 60 to 63 the text, 31 the account, 32 and 33 the name."""
_LABEL = re.compile(
    r"(EREF|KREF|MREF|CRED|DEBT|COAM|OAMT|SVWZ|ABWA|ABWE|IBAN|BIC|PURP)(?=\+)", re.ASCII
)
"""Labels inside the text, which begin wherever the one before ended."""
_ACCOUNT_CURRENCY = re.compile(r"[ /]?(CNY|RMB)", re.ASCII)


class _Field(NamedTuple):
    line_no: int
    tag: str
    value: str

    @property
    def path(self) -> str:
        return f"line {self.line_no}, :{self.tag}:"


class _Balance(NamedTuple):
    path: str
    is_last: bool
    fen: int
    day: date


@dataclass(slots=True, kw_only=True)
class _Page:
    """One message: a whole statement, or one page of it."""

    path: str
    account: str = ""
    also_called: tuple[str, ...] = ()
    number: str = ""
    opening: _Balance | None = None
    closing: _Balance | None = None
    entries: list[BankEntry] = field(default_factory=list)


def read_mt940(lines: Iterable[str]) -> list[BankStatement]:
    """Read every statement of one file.

    Args:
        lines: The file's lines; envelopes (`{1:…}{4:` and `-}`) may stand around each message.

    Raises:
        SchemaError: A field is unknown, missing, out of place or malformed, the currency is not yuan, pages do
            not follow one another, or the balances do not add up. The path names line and field.
    """
    statements: list[BankStatement] = []
    pages: list[_Page] = []
    for message in _messages(lines):
        page = _page(message)
        if pages:
            _check_follows(pages[-1], page)
        elif page.opening is None or not page.opening.is_last:
            raise SchemaError(page.path, "its first page is missing: it does not begin with :60F:")
        pages.append(page)
        if page.closing is not None and page.closing.is_last:
            statements.append(_statement(pages))
            pages = []
    if pages:
        raise SchemaError(pages[-1].path, "its last page is missing: nothing ends with :62F:")
    if not statements:
        raise SchemaError("line 1, :20:", "there is no statement in this file")
    return statements


def _messages(lines: Iterable[str]) -> Iterator[list[_Field]]:
    """Divide a file into messages; each begins with field 20."""
    number = 0

    def message_of(each: _Field) -> int:
        nonlocal number
        number += each.tag == "20"
        return number

    for begun, fields in groupby(_fields(lines), message_of):
        message = list(fields)
        if not begun:
            raise SchemaError(message[0].path, "expected :20:, which begins a statement")
        yield message


def _fields(lines: Iterable[str]) -> Iterator[_Field]:
    """Divide a file into fields; a line without a tag goes on with the field before it."""
    begun: tuple[int, str, list[str]] | None = None
    for line_no, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        found = _TAG.fullmatch(text)
        is_field = found is not None and (found[1] in _GRAMMAR or found[1] in _OTHERS)
        if found is not None and not is_field and (begun is None or begun[1] != "86"):
            raise SchemaError(f"line {line_no}, :{found[1]}:", "no field of MT940")
        if is_field or _END.fullmatch(text):
            if begun is not None:
                yield _Field(begun[0], begun[1], "\n".join(begun[2]))
            begun = (line_no, found[1], [found[2]]) if found is not None else None
        elif begun is not None and text.strip() and not _ENVELOPE.fullmatch(text):
            begun[2].append(text)
    if begun is not None:
        yield _Field(begun[0], begun[1], "\n".join(begun[2]))


def _page(message: list[_Field]) -> _Page:
    """Read one message, and see that it holds what every one must."""
    page = _Page(path=message[0].path)
    last_entry: str | None = None
    for each in message:
        if each.tag == "25":
            page.account, page.also_called = _account(each)
        elif each.tag in {"28", "28C"}:
            page.number = _groups(each)["statement_number"]
        elif each.tag in {"60F", "60M"}:
            page.opening = _balance(each)
        elif each.tag in {"62F", "62M"}:
            page.closing = _balance(each)
        elif each.tag == "61":
            if page.opening is None or page.closing is not None:
                raise SchemaError(each.path, "an entry stands outside its balances")
            page.entries.append(_entry(each))
        elif each.tag == "86" and last_entry == "61":
            page.entries[-1] = _with_details(page.entries[-1], each.value)
        if each.tag not in {"86", "NS"}:
            last_entry = each.tag
    for tag, value in (
        ("25", page.account), ("28C", page.number), ("60", page.opening), ("62", page.closing)
    ):  # fmt: skip
        if not value:
            raise SchemaError(page.path, f"the field :{tag}: is missing")
    return page


def _check_follows(before: _Page, page: _Page) -> None:
    """See that a page goes on where the one before it ended."""
    opening, closing = page.opening, before.closing
    if opening is None or closing is None:
        raise AssertionError("a page without balances was let through")
    if opening.is_last or (page.account, page.number) != (before.account, before.number):
        raise SchemaError(
            before.path,
            f"its last page is missing: another statement begins at {opening.path.partition(',')[0]}",
        )
    if opening.fen != closing.fen:
        raise SchemaError(
            opening.path,
            f"begins with {fen_text(opening.fen)}, but the page before ended with {fen_text(closing.fen)}",
        )


def _statement(pages: list[_Page]) -> BankStatement:
    """Join the pages of one statement."""
    opening, closing = pages[0].opening, pages[-1].closing
    if opening is None or closing is None:
        raise AssertionError("a page without balances was let through")
    return BankStatement(
        account=pages[0].account,
        also_called=pages[0].also_called,
        number=pages[0].number,
        opened_on=opening.day,
        closed_on=closing.day,
        opening_fen=opening.fen,
        closing_fen=closing.fen,
        entries=tuple(entry for page in pages for entry in page.entries),
    )


def _groups(each: _Field) -> dict[str, str]:
    """The parts of a field, as its grammar names them; what is left out is empty."""
    found = _GRAMMAR[each.tag].re.match(each.value.rstrip())
    if found is None:
        raise SchemaError(each.path, f"malformed: {each.value[:40]!r}")
    return found.groupdict(default="")


def _balance(each: _Field) -> _Balance:
    """A balance: mark, day, currency, amount."""
    parts = _groups(each)
    check_currency(parts["currency"], each.path)
    whole = f"{parts['status']}{parts['year']}{parts['month']}{parts['day']}{parts['currency']}{parts['amount']}"
    if whole != each.value.strip():
        raise SchemaError(each.path, f"malformed: {each.value[:40]!r}")
    day = _day(parts["year"], parts["month"], parts["day"], each.path)
    fen = _fen(parts["amount"], each.path) * _sign(parts["status"], each.path)
    return _Balance(each.path, each.tag.endswith("F"), fen, day)


def _entry(each: _Field) -> BankEntry:
    """A statement line; a reference that is longer than SWIFT allows goes on to the line's end."""
    first, _, supplement = each.value.partition("\n")
    parts = _groups(each._replace(value=first))
    booked_on = _day(parts["year"], parts["month"], parts["day"], each.path)
    if parts["entry_month"].strip():
        booked_on = _entry_day(booked_on, parts["entry_month"], parts["entry_day"], each.path)
    reference, bank_reference = parts["customer_reference"], parts["bank_reference"]
    if bank_reference:
        bank_reference += parts["extra_details"]
    else:
        longer, _, bank_reference = parts["extra_details"].partition("//")
        reference += longer
    return BankEntry(
        place=each.path,
        amount_fen=_fen(parts["amount"], each.path) * _sign(parts["status"], each.path),
        booked_on=booked_on,
        reference=remark("" if reference.strip() in _NO_REFERENCE else reference, supplement),
        bank_reference=bank_reference.strip(),
        is_return=parts["status"].upper().startswith("R"),
    )


def _with_details(entry: BankEntry, value: str) -> BankEntry:
    """An entry with what the field 86 behind it tells: free text, or numbered parts."""
    text = value.replace("\n", "")
    parts = dict[str, str]()
    for number, part in _DETAIL.findall(text):
        name = {"3": {"31": "account", "32": "name", "33": "name"}.get(number, "bank")}.get(
            number[0], "text"
        )
        parts[name] = parts.get(name, "") + part
    told = _LABEL.sub(r" \1", parts.get("text", "")) if parts else value.replace("\n", " ")
    return replace(
        entry,
        reference=remark(entry.reference, told),
        party_name=entry.party_name or parts.get("name", "").strip(),
        party_account=entry.party_account or parts.get("account", "").strip(),
    )


def _account(each: _Field) -> tuple[str, tuple[str, ...]]:
    """The account, and what else it may be called: without the bank before it, without a currency behind it."""
    text = each.value.partition("\n")[0].strip()
    behind = text.rpartition("/")[2]
    plain = (re.sub(_ACCOUNT_CURRENCY.pattern + "$", "", one) for one in (text, behind))
    others = (account_number(one, each.path) for one in (behind, *plain) if one)
    return account_number(text, each.path), tuple(dict.fromkeys(others))


def _fen(text: str, path: str) -> int:
    """An amount with its comma, which SWIFT asks for."""
    if not _AMOUNT.fullmatch(text):
        raise SchemaError(
            path, f"expected an amount with a comma and at most two decimals, found {text[:20]!r}"
        )
    return amount_fen(text.replace(",", "."), path)


def _sign(mark: str, path: str) -> int:
    sign = _SIGNS.get(mark)
    if sign is None:
        raise SchemaError(path, f"expected the mark C, D, RC or RD, found {mark!r}")
    return sign


def _day(year: str, month: str, day: str, path: str) -> date:
    try:
        return date(2000 + int(year), int(month), int(day))
    except ValueError:
        raise SchemaError(path, f"there is no day {year}{month}{day}") from None


def _entry_day(value_day: date, month: str, day: str, path: str) -> date:
    """The day of booking, told without its year: the one that is nearest to the value day."""
    days = []
    for year in (value_day.year - 1, value_day.year, value_day.year + 1):
        try:
            days.append(date(year, int(month), int(day)))
        except ValueError:
            continue
    if not days:
        raise SchemaError(path, f"there is no day {month}{day}")
    return min(days, key=lambda each: abs(each - value_day))
