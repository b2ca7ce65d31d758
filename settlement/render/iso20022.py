"""What banks read, as ISO 20022 messages: payments to be made (pain.001.001.09) and notices (camt.054.001.08).

Every message names the digest of the manifest that it was made from, in the text that travels with the
payment. Instants are those of the cycle, so making a message again gives the same bytes.

Source: ISO 20022 message definitions CustomerCreditTransferInitiationV09 and
BankToCustomerDebitCreditNotificationV08; settlement/RULES.md, rules F7 and F8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lxml import etree

from schemas.values.amounts import fen_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from schemas.files.parties import BankAccount
    from settlement.render.batch import Batch
    from settlement.render.payments import Payment

PAIN_001: Final = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
CAMT_054: Final = "urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"
_CURRENCY: Final = "CNY"
_CLEARING: Final = "CNAPS"
"""China National Advanced Payment System (ExternalClearingSystemIdentification1Code)."""


def pain_001(
    batch: Batch,
    *,
    message_id: str,
    debtor: BankAccount,
    debtor_tax_no: str,
    payments: Sequence[Payment],
    execute_on: date,
) -> bytes:
    """Write the order of one payer to its bank.

    Args:
        batch: The signed batch.
        message_id: Id of the message, at most 35 characters.
        debtor: The account that is debited.
        debtor_tax_no: Unified social credit code of the payer.
        payments: What to pay; at least one.
        execute_on: When.

    Raises:
        ValueError: There is nothing to pay.
    """
    if not payments:
        raise ValueError("an order to a bank without a payment")
    total = fen_text(sum(one.fen for one in payments))
    root = etree.Element(f"{{{PAIN_001}}}Document", nsmap={None: PAIN_001})  # type: ignore[dict-item]  # the stubs know no default namespace
    order = _add(root, "CstmrCdtTrfInitn")
    head = _add(order, "GrpHdr")
    _add(head, "MsgId", message_id)
    _add(head, "CreDtTm", _instant(batch))
    _add(head, "NbOfTxs", str(len(payments)))
    _add(head, "CtrlSum", total)
    initiating = _add(head, "InitgPty")
    _add(initiating, "Nm", debtor.holder)
    _other_id(_add(initiating, "Id"), "OrgId", debtor_tax_no)
    of = _add(order, "PmtInf")
    _add(of, "PmtInfId", message_id)
    _add(of, "PmtMtd", "TRF")
    _add(of, "BtchBookg", "false")
    _add(of, "NbOfTxs", str(len(payments)))
    _add(of, "CtrlSum", total)
    _add(_add(of, "ReqdExctnDt"), "Dt", execute_on.isoformat())
    _add(_add(of, "Dbtr"), "Nm", debtor.holder)
    account = _add(of, "DbtrAcct")
    _account(account, debtor.number)
    _add(account, "Ccy", _CURRENCY)
    _bank(_add(of, "DbtrAgt"), debtor)
    _add(of, "ChrgBr", "DEBT")
    for one in payments:
        transfer = _add(of, "CdtTrfTxInf")
        ids = _add(transfer, "PmtId")
        _add(ids, "InstrId", one.end_to_end_id)
        _add(ids, "EndToEndId", one.end_to_end_id)
        _amount(_add(transfer, "Amt"), "InstdAmt", one.fen)
        _bank(_add(transfer, "CdtrAgt"), one.creditor)
        _add(_add(transfer, "Cdtr"), "Nm", one.creditor.holder)
        _account(_add(transfer, "CdtrAcct"), one.creditor.number)
        _add(_add(transfer, "RmtInf"), "Ustrd", remittance(batch))
    return _bytes(root)


def camt_054(batch: Batch, *, merchant: str, end_to_end_id: str, fen: int) -> bytes:
    """Write the house's notice to a merchant of what is due on its settlement account.

    The entry is pending (PDNG): the batch says what is to be paid, the bank's statement that it was.

    Args:
        batch: The signed batch.
        merchant: Its code, which names its settlement account.
        end_to_end_id: Id of the payment.
        fen: What the merchant is paid; below 0 what it pays.

    Raises:
        ValueError: Nothing is paid.
    """
    if not fen:
        raise ValueError("a notice of no payment")
    credit = fen > 0
    root = etree.Element(f"{{{CAMT_054}}}Document", nsmap={None: CAMT_054})  # type: ignore[dict-item]  # as above
    message = _add(root, "BkToCstmrDbtCdtNtfctn")
    head = _add(message, "GrpHdr")
    _add(head, "MsgId", end_to_end_id)
    _add(head, "CreDtTm", _instant(batch))
    notice = _add(message, "Ntfctn")
    _add(notice, "Id", end_to_end_id)
    _add(notice, "ElctrncSeqNb", str(batch.manifest.sequence))
    _add(notice, "CreDtTm", _instant(batch))
    account = _add(notice, "Acct")
    _account(account, batch.settlement_account(merchant))
    _add(account, "Ccy", _CURRENCY)
    entry = _add(notice, "Ntry")
    _add(entry, "NtryRef", end_to_end_id)
    _amount(entry, "Amt", abs(fen))
    _add(entry, "CdtDbtInd", "CRDT" if credit else "DBIT")
    _add(_add(entry, "Sts"), "Cd", "PDNG")
    domain = _add(_add(entry, "BkTxCd"), "Domn")
    _add(domain, "Cd", "PMNT")
    family = _add(domain, "Fmly")
    _add(family, "Cd", "RCDT" if credit else "ICDT")
    _add(family, "SubFmlyCd", "DMCT")
    transaction = _add(_add(entry, "NtryDtls"), "TxDtls")
    references = _add(transaction, "Refs")
    _add(references, "EndToEndId", end_to_end_id)
    _amount(transaction, "Amt", abs(fen))
    _add(transaction, "CdtDbtInd", "CRDT" if credit else "DBIT")
    _add(_add(transaction, "RmtInf"), "Ustrd", remittance(batch))
    return _bytes(root)


def remittance(batch: Batch) -> str:
    """The text that travels with a payment: batch and digest; at most 140 characters."""
    return f"{batch.batch_id} manifest {batch.manifest_sha256}"


def _instant(batch: Batch) -> str:
    """When the cycle closed, with its offset."""
    return batch.closed_at.isoformat(timespec="milliseconds")


def _add(parent: etree._Element, name: str, text: str | None = None) -> etree._Element:
    """Add an element of the parent's namespace."""
    child = etree.SubElement(parent, f"{{{etree.QName(parent).namespace}}}{name}")
    child.text = text
    return child


def _amount(parent: etree._Element, name: str, fen: int) -> None:
    """Add an amount with its currency."""
    _add(parent, name, fen_text(fen)).set("Ccy", _CURRENCY)


def _account(parent: etree._Element, number: str) -> None:
    """Add an account that is no IBAN."""
    _add(_add(_add(parent, "Id"), "Othr"), "Id", number)


def _other_id(parent: etree._Element, kind: str, number: str) -> None:
    """Add an identification in a scheme of the country's own."""
    other = _add(_add(parent, kind), "Othr")
    _add(other, "Id", number)
    _add(_add(other, "SchmeNm"), "Prtry", "USCC")


def _bank(parent: etree._Element, account: BankAccount) -> None:
    """Add the branch that keeps an account."""
    institution = _add(parent, "FinInstnId")
    member = _add(institution, "ClrSysMmbId")
    _add(_add(member, "ClrSysId"), "Cd", _CLEARING)
    _add(member, "MmbId", account.cnaps)
    _add(institution, "Nm", account.bank)


def _bytes(root: etree._Element) -> bytes:
    """Write a document for people, too."""
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)
