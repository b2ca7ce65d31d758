"""Accounting vouchers (记账凭证) of a batch: what a party enters into its own books, in whole fen.

The entries of a voucher are made once, and written as CSV in the columns that Chinese ledgers import
and as a transaction of Beancount.

Source: settlement/RULES.md, rules F4 and F5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.files.csv_text import BOM, LINE_END, text_field
from schemas.files.parties import Chart
from schemas.files.statement import ISSUER
from schemas.values.amounts import fen_text
from settlement.core.fen import FenRun
from settlement.core.instruction import HOUSE_LEG_CODE

if TYPE_CHECKING:
    from schemas.files.parties import LedgerAccount
    from settlement.render.batch import Batch
    from settlement.render.rows import Survey

VOUCHER_COLUMNS: Final = (
    "凭证日期", "会计年度", "会计期间", "凭证字", "凭证号", "附单据数", "分录号", "摘要", "科目编码", "科目名称",
    "币别", "汇率", "借方金额", "贷方金额", "往来单位", "部门", "核算主体", "结算批次", "清单摘要",
)  # fmt: skip
"""Chinese alone: the ledgers that import it know the columns by these names."""
_WORD: Final = "转"
"""A transfer voucher: no money moves by it; the bank's own entry follows when it does."""
_PAID: Final = "逐笔已结清变动"
"""What lines of a gross cycle moved on the settlement account themselves (rule F12)."""
_PLUGIN: Final = "beancount.plugins.auto_accounts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a voucher.

    Attributes:
        account: Account of the ledger.
        fen: Debit (借) if positive, credit (贷) if negative.
        summary: What it is.
        counterparty: Code of the other party.
        outlet: Outlet that it belongs to; empty if none.
        entity: Legal entity that it belongs to; empty if that is the party itself.
    """

    account: LedgerAccount
    fen: int
    summary: str
    counterparty: str
    outlet: str = ""
    entity: str = ""


def merchant_entries(batch: Batch, merchant: str, survey: Survey) -> list[Entry]:
    """Entries of a merchant: points that others honoured, points that it honoured, fees, and the payment.

    Args:
        batch: The signed batch.
        merchant: Code of the merchant.
        survey: Sums of its statement.

    Returns:
        Entries other than 0; debits and credits add up to the same.

    Source: settlement/RULES.md, rule F4.
    """
    chart = _chart(batch)
    run = FenRun(batch.first_carry(merchant))
    entries = []
    for cell, sums in sorted(survey.cells.items()):
        figures = (
            ((chart.points, sums.gross_cu, "积分在他方兑付"),)
            if cell.role == ISSUER
            else (
                (chart.redemptions, sums.gross_cu, "受理他方积分"),
                (chart.fees, sums.fee_cu, "清算手续费(含税)"),
            )
        )
        entries += [
            Entry(
                account=account, fen=-run.take(cu), summary=summary,
                counterparty=cell.counterparty, outlet=cell.outlet, entity=cell.entity,
            )
            for account, cu, summary in figures
        ]  # fmt: skip
    entries += [
        Entry(
            account=chart.settlement,
            fen=leg.pay_fen,
            summary="本期清算应收" if leg.pay_fen >= 0 else "本期清算应付",
            counterparty=leg.counterparty or HOUSE_LEG_CODE,
        )
        for leg in batch.legs_of(merchant)
    ]
    beside = batch.beside_lines(merchant)
    entries.append(
        Entry(
            account=chart.settlement if batch.gross else chart.carries,
            fen=-beside,
            summary=_PAID if batch.gross else "逐对结转尾数变动",
            counterparty=HOUSE_LEG_CODE,
        )
    )
    return _balanced(entries)


def house_entries(batch: Batch) -> list[Entry]:
    """Entries of the house: what each merchant pays or is paid, fees, remainders, and carries.

    Source: settlement/RULES.md, rule F5.
    """
    chart = _chart(batch)
    nets = {one.party: int(one.net_cu) for one in batch.manifest.netting.parties}
    merchants = [one for one in batch.legs if one.party != HOUSE_LEG_CODE]
    carried = sum(one.carry_after_cu - one.carry_before_cu for one in merchants)
    run = FenRun()
    entries = [
        Entry(
            account=chart.merchants,
            fen=-one.pay_fen,
            summary="应付商户清算款" if one.pay_fen >= 0 else "应收商户清算款",
            counterparty=one.party,
        )
        for one in merchants
    ]
    # What lines of a gross cycle moved themselves, the house owes each merchant more or less since.
    moved = [one.party for one in merchants] if batch.gross else []
    for account, cu, summary, counterparty in (
        *((chart.merchants, batch.figure(code), _PAID, code) for code in moved),
        (chart.income, nets.get("HOUSE:fees", 0), "清算手续费收入(含税)", ""),
        (chart.remainders, nets.get("HOUSE:rounding", 0), "兑换尾差", ""),
        (chart.carries, carried, "商户结转尾数变动", ""),
    ):
        fen = -run.take(cu)
        entries.append(Entry(account=account, fen=fen, summary=summary, counterparty=counterparty))
    return _balanced(entries)


def vouchers_csv(batch: Batch, entries: list[Entry]) -> bytes:
    """Write a voucher as CSV: one row an entry, debit and credit in two columns."""
    day = batch.last_day
    rows = [",".join(VOUCHER_COLUMNS)]
    rows += [
        ",".join(
            map(
                text_field,
                (
                    f"{day:%Y-%m-%d}", f"{day:%Y}", f"{day:%-m}", _WORD,
                    str(batch.manifest.sequence), "1", str(number),
                    f"通兑清算 {batch.manifest.cycle.id} {entry.summary}", entry.account.code,
                    entry.account.name, "人民币", "1", fen_text(max(0, entry.fen)),
                    fen_text(max(0, -entry.fen)), entry.counterparty, entry.outlet, entry.entity,
                    batch.batch_id, batch.manifest_sha256,
                ),
            )
        )
        for number, entry in enumerate(entries, 1)
    ]  # fmt: skip
    return (BOM + LINE_END.join([*rows, ""])).encode()


def beancount(batch: Batch, party: str, entries: list[Entry]) -> bytes:
    """Write a voucher as a file of Beancount (version 2 and 3) that stands by itself.

    Accounts open by themselves, so that the files of many cycles can be included in one ledger.
    """
    cycle = batch.manifest.cycle.id
    lines = [
        f"; {batch.source}",
        f'option "title" {_quoted(f"Tongdui {party} {cycle}")}',
        'option "operating_currency" "CNY"',
        f'plugin "{_PLUGIN}"',
        "",
        f'{batch.last_day:%Y-%m-%d} * "Tongdui 通兑" {_quoted(f"Settlement 清算 {cycle}")} ^{batch.batch_id}',
        f'  manifest: "{batch.manifest_sha256}"',
        f"  party: {_quoted(party)}",
    ]
    for entry in entries:
        lines.append(f"  {entry.account.beancount}  {fen_text(entry.fen)} CNY")
        lines += [
            f"    {name}: {_quoted(value)}"
            for name, value in (
                ("summary", entry.summary),
                ("counterparty", entry.counterparty),
                ("outlet", entry.outlet),
                ("entity", entry.entity),
            )
            if value
        ]
    return "\n".join([*lines, ""]).encode()


def _chart(batch: Batch) -> Chart:
    """The accounts to name: those of the parties' file, else the usual ones."""
    return Chart() if batch.parties is None else batch.parties.ledger


def _balanced(entries: list[Entry]) -> list[Entry]:
    """Leave out what is 0, and refuse what does not balance."""
    if sum(entry.fen for entry in entries) != 0:
        raise ValueError(f"a voucher that does not balance: {entries}")
    return [entry for entry in entries if entry.fen]


def _quoted(text: str) -> str:
    """Write a string of Beancount."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
