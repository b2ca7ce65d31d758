"""Bank statements as ISO 20022 `camt.053`, versions 02 to 13.

The elements that are read are the same in all of these versions but for three: newer versions put the code of the
status and the amount of the net total into elements of their own, and wrap a party's name in `Pty`. Each is read
in both forms, so no version needs code of its own, and one that a bank comes with tomorrow is refused by its
name rather than misread.

Source: ISO 20022 message definition camt.053.001; schemas/FORMAT.md, "Bank statements".
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Final

from lxml import etree

from schemas.files.bank_statement import (
    BankEntry,
    BankStatement,
    account_number,
    amount_fen,
    check_currency,
    remark,
)
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    Element = etree._Element  # noqa: SLF001 - lxml's stubs name their element so

_NAMESPACE = re.compile(r"urn:iso:std:iso:20022:tech:xsd:camt\.053\.001\.(0[2-9]|1[0-3])")
_SIGNS: Final = {"CRDT": 1, "DBIT": -1}
_TRUE: Final = frozenset({"true", "1"})
_NO_REFERENCES: Final = frozenset({"NOTPROVIDED", "NOT PROVIDED", "NOTAVAILABLE", "NONREF"})
_OPENING: Final = ("OPBD", "PRCD")
"""Balances that open a statement: its own, or the one that the statement before ended with."""
_CLOSING: Final = ("CLBD",)
_BETWEEN: Final = "ITBD"
"""The balance between two pages of a statement."""
_TOLD: Final = (
    "RmtInf/Strd/CdtrRefInf/Ref",
    "RmtInf/Strd/RfrdDocInf/Nb",
    "RmtInf/Strd/AddtlRmtInf",
    "AddtlTxInf",
)
"""Where else a payer's words may stand than in `EndToEndId` and `Ustrd`."""


def read_camt053(file: IO[bytes]) -> list[BankStatement]:
    """Read every statement of one file.

    Args:
        file: The file's bytes, from its beginning.

    Raises:
        SchemaError: It is not XML or not one of the versions read, an element is missing or malformed, the
            currency is not yuan, or totals, counts and balances do not add up. The path names
            line and element.

    No entity is expanded and nothing is fetched.
    """
    statements: list[BankStatement] = []
    try:
        for element, page in _statements(file):
            statements.append(_statement(element, page))
            element.clear()
    except etree.XMLSyntaxError as error:
        raise SchemaError(f"line {error.lineno or 1}", f"not XML: {error.msg}") from None
    if not statements:
        raise SchemaError("line 1, BkToCstmrStmt/Stmt", "there is no statement in this file")
    return statements


def _statements(file: IO[bytes]) -> Iterator[tuple[Element, str]]:
    """Give each statement when it has been read whole, after the document's name was checked, and its page's number.

    The number is empty where the file is no page of several.
    """
    parsed = etree.iterparse(
        file, events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False
    )
    named, page = False, ""
    for event, element in parsed:
        name = _name(element)
        if not named:
            namespace = element.nsmap.get(element.prefix)
            if name != "Document" or not _NAMESPACE.fullmatch(namespace or ""):
                raise SchemaError(
                    f"line {element.sourceline}, {name}",
                    f"expected camt.053.001.02 to .13, found the namespace {namespace or 'of nothing'}",
                )
            if element.getroottree().docinfo.doctype:
                raise SchemaError("line 1", "a document type is not allowed")
            named = True
        if event == "end" and name == "MsgPgntn":
            page = _page(element)
        if event == "end" and name == "Stmt":
            own = _one(element, "StmtPgntn")
            yield element, page if own is None else _page(own)


def _page(element: Element) -> str:
    """The number of a page; empty where there is but one."""
    number = _text(element, "PgNb")
    is_last = _text(element, "LastPgInd") in _TRUE
    return "" if is_last and number.lstrip("0") == "1" else number


def _statement(statement: Element, page: str) -> BankStatement:
    """Read one statement, or one page of it, and check its own totals."""
    number = _text(statement, "Id") + (f"/{page}" if page else "")
    account = _account(statement)
    balances = [(_text(one, "Tp/CdOrPrtry/Cd", default=""), one) for one in _all(statement, "Bal")]
    between = [one for kind, one in balances if page and kind == _BETWEEN]
    opening, closing = _balance(balances, _OPENING), _balance(balances, _CLOSING)
    if between and opening is None:
        opening = between[0]
    if between and closing is None:
        closing = between[-1]
    if opening is None or closing is None or opening is closing:
        missing = "OPBD" if opening is None else "CLBD"
        raise SchemaError(_path(statement, "Bal"), f"the balance {missing} is missing")
    entries: list[BankEntry] = []
    booked: list[int] = []
    unbooked = 0
    for entry in _all(statement, "Ntry"):
        if _either(entry, "Sts/Cd", "Sts") != "BOOK":
            unbooked += 1
            continue
        read = list(_entries(entry, account))
        booked.append(sum(one.amount_fen for one in read))
        entries.extend(read)
    if not page:
        _check_totals(statement, booked, unbooked)
    return BankStatement(
        account=account,
        number=number,
        opened_on=_day(opening, "Dt"),
        closed_on=_day(closing, "Dt"),
        opening_fen=_signed(opening),
        closing_fen=_signed(closing),
        entries=tuple(entries),
        unbooked=unbooked,
    )


def _balance(balances: list[tuple[str, Element]], kinds: tuple[str, ...]) -> Element | None:
    """The one balance of the first of these kinds that there is."""
    for wanted in kinds:
        found = [one for kind, one in balances if kind == wanted]
        if len(found) > 1:
            raise SchemaError(_path(found[1]), f"the balance {wanted} stands here twice")
        if found:
            return found[0]
    return None


def _account(statement: Element) -> str:
    """The account's number; its currency, when said, is yuan."""
    currency = _one(statement, "Acct/Ccy")
    if currency is not None:
        check_currency(currency.text or "", _path(currency))
    for name in ("Acct/Id/IBAN", "Acct/Id/Othr/Id"):
        found = _one(statement, name)
        if found is not None:
            return account_number(found.text or "", _path(found))
    raise SchemaError(_path(statement, "Acct/Id"), "the account's number is missing")


def _entries(entry: Element, account: str) -> Iterator[BankEntry]:
    """One entry, or the movements that it gathers when the bank tells each with its amount."""
    whole_fen = _signed(entry)
    has_value_day_alone = _one(entry, "BookgDt") is None and _one(entry, "ValDt") is not None
    booked_on = _day(entry, "ValDt" if has_value_day_alone else "BookgDt")
    is_return = _text(entry, "RvslInd", default="false") in _TRUE
    bank_reference = _text(entry, "AcctSvcrRef", default="")
    details = _all(entry, "NtryDtls/TxDtls")
    if len(details) <= 1 or not any(_part(told) is not None for told in details):
        yield BankEntry(
            place=_path(entry),
            amount_fen=whole_fen,
            booked_on=booked_on,
            is_return=is_return,
            bank_reference=bank_reference,
            reference=remark(
                *(_reference(told) for told in details), _text(entry, "AddtlNtryInf", default="")
            ),
            **(
                _other_side(details[0], account, is_credit=whole_fen > 0, is_return=is_return)
                if len(details) == 1
                else {}
            ),
        )
        return
    sum_fen = 0
    for told in details:
        part_fen = _part_fen(told, whole_is_credit=whole_fen > 0)
        sum_fen += part_fen
        yield BankEntry(
            place=_path(told),
            amount_fen=part_fen,
            booked_on=booked_on,
            is_return=is_return,
            bank_reference=_text(told, "Refs/AcctSvcrRef", default=bank_reference),
            reference=_reference(told),
            **_other_side(told, account, is_credit=part_fen > 0, is_return=is_return),
        )
    if sum_fen != whole_fen:
        raise SchemaError(_path(entry, "Amt"), f"its {len(details)} movements do not add up to it")


def _part_fen(told: Element, *, whole_is_credit: bool) -> int:
    """Signed amount of one movement of several."""
    found = _part(told)
    if found is None:
        raise SchemaError(_path(told, "Amt"), "one movement of several tells no amount")
    fen = _fen(found)
    sign = _text(told, "CdtDbtInd", default="CRDT" if whole_is_credit else "DBIT")
    return fen * _sign(told, sign)


def _part(told: Element) -> Element | None:
    """Where the amount of one movement of several stands; a bank tells it in one of these places."""
    places = ("Amt", "AmtDtls/TxAmt/Amt", "AmtDtls/InstdAmt/Amt")
    return next((one for one in (_one(told, name) for name in places) if one is not None), None)


def _reference(told: Element) -> str:
    """Everything that the payer wrote with a movement: many a bank's customer cannot choose the `EndToEndId`."""
    end_to_end = _text(told, "Refs/EndToEndId", default="")
    lines = (each.text or "" for each in _all(told, "RmtInf/Ustrd"))
    others = (each.text or "" for name in _TOLD for each in _all(told, name))
    return remark(
        "" if end_to_end.upper() in _NO_REFERENCES else end_to_end, " ".join(lines), *others
    )


def _other_side(told: Element, account: str, *, is_credit: bool, is_return: bool) -> dict[str, str]:
    """Who is on the other side: who paid a credit, who got a debit.

    Of a movement that is taken back, most banks name the parties as in the first one, and some as of the reversal.
    """
    side, other = ("Dbtr", "Cdtr") if is_credit else ("Cdtr", "Dbtr")
    if not is_return:
        return _party(told, side)
    named = [_party(told, each) for each in (other, side)]
    foreign = (
        one
        for one in named
        if any(one.values())
        and "".join(filter(str.isalnum, one["party_account"])).upper() != account
    )
    return next(foreign, named[0])


def _party(told: Element, side: str) -> dict[str, str]:
    place = f"RltdPties/{side}"
    return {
        "party_name": _text(told, f"{place}/Nm", default="")
        or _text(told, f"{place}/Pty/Nm", default=""),
        "party_account": _text(told, f"{place}Acct/Id/IBAN", default="")
        or _text(told, f"{place}Acct/Id/Othr/Id", default=""),
    }


def _check_totals(statement: Element, booked: list[int], unbooked: int) -> None:
    """Compare what the bank counted with what it sent.

    Args:
        statement: Where the totals stand, when the bank tells any.
        booked: Signed fen of each booked entry.
        unbooked: Number of other entries; with any of them, nothing says whether totals count them,
            so the totals are not compared then: the balances are.
    """
    if unbooked:
        return
    credits_, debits = [fen for fen in booked if fen > 0], [-fen for fen in booked if fen <= 0]
    counted = {
        "TtlNtries/NbOfNtries": len(booked),
        "TtlCdtNtries/NbOfNtries": len(credits_),
        "TtlDbtNtries/NbOfNtries": len(debits),
    }
    for name, count in counted.items():
        found = _one(statement, f"TxsSummry/{name}")
        if found is not None and (found.text or "").strip() != str(count):
            raise SchemaError(_path(found), f"says {found.text}, but there are {count} entries")
    sums = {
        "TtlNtries/Sum": sum(credits_) + sum(debits),
        "TtlCdtNtries/Sum": sum(credits_),
        "TtlDbtNtries/Sum": sum(debits),
        "TtlNtries/TtlNetNtryAmt": abs(sum(booked)),
        "TtlNtries/TtlNetNtry/Amt": abs(sum(booked)),
    }
    for name, fen in sums.items():
        found = _one(statement, f"TxsSummry/{name}")
        if found is not None and amount_fen((found.text or "").strip(), _path(found)) != fen:
            raise SchemaError(
                _path(found),
                f"says {found.text}, but the entries come to {fen // 100}.{fen % 100:02d}",
            )


# --- elements ---


def _steps(path: str) -> str:
    """A path of local names, whatever their namespace."""
    return "/".join(f"{{*}}{step}" for step in path.split("/"))


def _all(parent: Element, path: str) -> list[Element]:
    return parent.findall(_steps(path))


def _one(parent: Element, path: str) -> Element | None:
    return parent.find(_steps(path))


def _text(parent: Element, path: str, *, default: str | None = None) -> str:
    """Text of an element below another one.

    Raises:
        SchemaError: There is none, and no default.
    """
    found = _one(parent, path)
    text = (found.text or "").strip() if found is not None else ""
    if text:
        return text
    if default is None:
        raise SchemaError(_path(parent, path), "is missing or empty")
    return default


def _either(parent: Element, newer: str, older: str) -> str:
    """Text of an element that an older version wrote in another place."""
    return _text(parent, newer, default="") or _text(parent, older)


def _signed(parent: Element) -> int:
    """Signed fen of an element with `Amt` and `CdtDbtInd`."""
    found = _one(parent, "Amt")
    if found is None:
        raise SchemaError(_path(parent, "Amt"), "is missing")
    return _fen(found) * _sign(parent, _text(parent, "CdtDbtInd"))


def _fen(amount: Element) -> int:
    check_currency(amount.get("Ccy") or "", f"{_path(amount)}/@Ccy")
    return amount_fen((amount.text or "").strip(), _path(amount))


def _sign(parent: Element, text: str) -> int:
    sign = _SIGNS.get(text)
    if sign is None:
        raise SchemaError(_path(parent, "CdtDbtInd"), f"expected CRDT or DBIT, found {text[:10]!r}")
    return sign


def _day(parent: Element, name: str) -> date:
    """The day of an element that holds `Dt` or `DtTm`."""
    text = _text(parent, f"{name}/Dt", default="") or _text(parent, f"{name}/DtTm", default="")
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise SchemaError(_path(parent, name), f"expected a day, found {text[:40]!r}") from None


def _path(element: Element, below: str = "") -> str:
    """Line and name of an element, and of what should stand below it."""
    return f"line {element.sourceline}, {_name(element)}{'/' if below else ''}{below}"


def _name(element: Element) -> str:
    """Local name of an element; a broken file's may hold what no name may."""
    return str(element.tag).rpartition("}")[2]
