"""The demo's bank: carries out the orders that it is handed (`pain.001`) and states what moved (`camt.053`).

It knows nothing of the project: it reads the files that payers hand in and writes the file that a bank gives out. Every
payer's balance suffices, and every order is booked on the day for which it was given.

Source: ISO 20022 message definitions pain.001.001.09 and camt.053.001.08.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lxml import etree

if TYPE_CHECKING:
    from collections.abc import Iterable

    Element = etree._Element  # noqa: SLF001 - lxml's stubs name their element so

_ORDER: Final = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
_STATEMENT: Final = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"
_P: Final = f"{{{_ORDER}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Movement:
    """What one order moved on the account, in fen; below 0 what was debited."""

    fen: int
    day: str
    reference: str
    party_name: str
    party_account: str


@dataclass(slots=True, kw_only=True)
class Bank:
    """One account at the demo's bank.

    Attributes:
        account: Its number.
        balance_fen: What lies in it, fen.
    """

    account: str
    balance_fen: int = 0
    _moved: list[_Movement] = field(default_factory=list)
    _statements: int = 0
    _stated_fen: int = 0

    def execute(self, orders: Iterable[bytes]) -> None:
        """Carry out orders of any payers; those that do not touch the account leave no trace here."""
        for order in orders:
            for batch in etree.fromstring(order).iter(f"{_P}PmtInf"):
                payer = _text(batch, "DbtrAcct/Id/Othr/Id")
                for transfer in batch.iter(f"{_P}CdtTrfTxInf"):
                    payee = _text(transfer, "CdtrAcct/Id/Othr/Id")
                    if payee == self.account:
                        self._book(batch, transfer, 1, _text(batch, "Dbtr/Nm"), payer)
                    if payer == self.account:
                        self._book(batch, transfer, -1, _text(transfer, "Cdtr/Nm"), payee)

    def state(self, day: str) -> bytes:
        """The statement of what moved since the last one, up to and with `day` (`YYYY-MM-DD`)."""
        self._statements += 1
        root = etree.Element(f"{{{_STATEMENT}}}Document", nsmap={None: _STATEMENT})  # type: ignore[dict-item]  # the stubs know no default namespace
        message = _add(root, "BkToCstmrStmt")
        head = _add(message, "GrpHdr")
        _add(head, "MsgId", f"DEMO-{self._statements}")
        _add(head, "CreDtTm", f"{day}T23:59:59Z")
        statement = _add(message, "Stmt")
        _add(statement, "Id", f"DEMO-{self._statements:06d}")
        _add(statement, "CreDtTm", f"{day}T23:59:59Z")
        account = _add(statement, "Acct")
        _add(_add(_add(account, "Id"), "Othr"), "Id", self.account)
        _add(account, "Ccy", "CNY")
        days = sorted({moved.day for moved in self._moved} | {day})
        _balance(statement, "OPBD", self._stated_fen, days[0])
        _balance(statement, "CLBD", self.balance_fen, days[-1])
        for number, moved in enumerate(self._moved, 1):
            _entry(statement, moved, f"B{self._statements:04d}{number:04d}")
        self._moved = []
        self._stated_fen = self.balance_fen
        return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)

    def _book(self, batch: Element, transfer: Element, sign: int, name: str, account: str) -> None:
        whole, _, part = _text(transfer, "Amt/InstdAmt").partition(".")
        fen = sign * (int(whole) * 100 + int(part.ljust(2, "0")))
        self.balance_fen += fen
        self._moved.append(
            _Movement(
                fen=fen,
                day=_text(batch, "ReqdExctnDt/Dt"),
                reference=_text(transfer, "PmtId/EndToEndId"),
                party_name=name,
                party_account=account,
            )
        )


def _text(element: Element, path: str) -> str:
    """Text of the one element at `path`, of an order."""
    found = element.find("/".join(f"{_P}{name}" for name in path.split("/")))
    if found is None or not found.text:
        raise ValueError(f"an order without {path}")
    return found.text


def _add(parent: Element, name: str, text: str | None = None) -> Element:
    made = etree.SubElement(parent, f"{{{_STATEMENT}}}{name}")
    made.text = text
    return made


def _amount(parent: Element, fen: int) -> None:
    whole, part = divmod(abs(fen), 100)
    _add(parent, "Amt", f"{whole}.{part:02d}").set("Ccy", "CNY")
    _add(parent, "CdtDbtInd", "CRDT" if fen >= 0 else "DBIT")


def _balance(statement: Element, kind: str, fen: int, day: str) -> None:
    balance = _add(statement, "Bal")
    _add(_add(_add(balance, "Tp"), "CdOrPrtry"), "Cd", kind)
    _amount(balance, fen)
    _add(_add(balance, "Dt"), "Dt", day)


def _entry(statement: Element, moved: _Movement, bank_reference: str) -> None:
    entry = _add(statement, "Ntry")
    _amount(entry, moved.fen)
    _add(_add(entry, "Sts"), "Cd", "BOOK")
    _add(_add(entry, "BookgDt"), "Dt", moved.day)
    _add(entry, "AcctSvcrRef", bank_reference)
    family = _add(_add(entry, "BkTxCd"), "Domn")
    _add(family, "Cd", "PMNT")
    family = _add(family, "Fmly")
    _add(family, "Cd", "RCDT" if moved.fen > 0 else "ICDT")
    _add(family, "SubFmlyCd", "DMCT")
    transaction = _add(_add(entry, "NtryDtls"), "TxDtls")
    _add(_add(transaction, "Refs"), "EndToEndId", moved.reference)
    _amount(transaction, moved.fen)
    parties = _add(transaction, "RltdPties")
    side = "Dbtr" if moved.fen > 0 else "Cdtr"
    _add(_add(_add(parties, side), "Pty"), "Nm", moved.party_name)
    _add(_add(_add(_add(parties, f"{side}Acct"), "Id"), "Othr"), "Id", moved.party_account)
