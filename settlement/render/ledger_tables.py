"""Trial balance and balances as tables of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.files.report import Form, ReportCheck, ReportColumn, ReportTable
from settlement.core.balances import PARTY_CODES, Account, difference_text
from settlement.render.tables import party_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from settlement.core.balances import Balance, Ledger

_PARTY: Final = ReportColumn(name="party", chinese="参与方")
_WHERE: Final = (
    ReportColumn(name="account", chinese="科目"),
    ReportColumn(name="cycle", chinese="结算周期"),
    ReportColumn(name="state", chinese="状态"),
    _PARTY,
)
_DEBIT: Final = ReportColumn(name="debit", chinese="借方", form=Form.YUAN, summed=True)
_CREDIT: Final = ReportColumn(name="credit", chinese="贷方", form=Form.YUAN, summed=True)


def trial_balance_table(ledger: Ledger, codes: Mapping[int, str]) -> ReportTable:
    """Every account with its balance as a debit or a credit; both columns come to the same."""
    rows = [
        (*_where(ledger, one, codes), max(0, -one.cu), max(0, one.cu))
        for one in _sorted(ledger, codes)
    ]
    return ReportTable(
        name="accounts", chinese="科目余额", columns=(*_WHERE, _DEBIT, _CREDIT), rows=rows
    )


def balances_table(
    ledger: Ledger, codes: Mapping[int, str], *, party: int | None = None
) -> ReportTable:
    """Every account, or those of one party, with its balance, signed, and in two columns."""
    rows = [
        (*_where(ledger, one, codes), one.cu, max(0, -one.cu), max(0, one.cu))
        for one in _sorted(ledger, codes)
        if party in (None, one.party)
    ]
    columns = (
        *_WHERE,
        ReportColumn(name="balance", chinese="余额", form=Form.YUAN, summed=True),
        ReportColumn(name="payable", chinese="应付", form=Form.YUAN, summed=True),
        ReportColumn(name="receivable", chinese="应收", form=Form.YUAN, summed=True),
    )
    return ReportTable(name="balances", chinese="余额", columns=columns, rows=rows)


def memo_table(
    ledger: Ledger, codes: Mapping[int, str], *, party: int | None = None
) -> ReportTable:
    """What is held and what may be owed, by merchant: below the line, since nothing has moved."""
    rows = [
        (_code(merchant_no, codes), ledger.held[merchant_no], ledger.caps.get(merchant_no, 0))
        for merchant_no in sorted(
            {*ledger.caps, *(no for no, cu in ledger.held.items() if cu)},
            key=lambda no: party_order(_code(no, codes)),
        )
        if party in (None, merchant_no)
    ]
    columns = (
        _PARTY,
        ReportColumn(name="held", chinese="预占", form=Form.YUAN, summed=True),
        ReportColumn(name="cap", chinese="净借记上限", form=Form.YUAN, summed=True),
    )
    return ReportTable(name="memo", chinese="备查", columns=columns, rows=rows)


def debts_table(
    ledger: Ledger, codes: Mapping[int, str], *, party: int | None = None
) -> ReportTable:
    """What parties owe those whose money settled a cycle for them: below the line as well."""
    rows = [
        (_code(debtor, codes), _code(creditor, codes), cu)
        for (debtor, creditor), cu in sorted(ledger.debts.items())
        if cu and party in (None, debtor, creditor)
    ]
    columns = (
        ReportColumn(name="debtor", chinese="债务方"),
        ReportColumn(name="creditor", chinese="债权方"),
        ReportColumn(name="debt", chinese="欠款", form=Form.YUAN, summed=True),
    )
    return ReportTable(name="debts", chinese="欠款", columns=columns, rows=rows)


def ledger_checks(ledger: Ledger) -> tuple[ReportCheck, ...]:
    """That every cycle's positions sum to zero, and everything together."""
    differences = ledger.differences()
    whole = {name: differences.pop(name) for name in ("ledger",) if name in differences}
    return (
        ReportCheck(
            name="positions of each cycle sum to zero",
            chinese="各周期头寸合计为零",
            detail=difference_text(differences),
        ),
        ReportCheck(name="debits equal credits", chinese="借贷平衡", detail=difference_text(whole)),
    )


def _sorted(ledger: Ledger, codes: Mapping[int, str]) -> list[Balance]:
    order = list(Account)
    return sorted(
        ledger.balances(),
        key=lambda one: (
            order.index(one.account),
            one.cycle_no,
            party_order(_code(one.party, codes)),
        ),
    )


def _where(ledger: Ledger, one: Balance, codes: Mapping[int, str]) -> tuple[str, str, str, str]:
    cycle_id, state = "", ""
    if one.cycle_no:
        cycle_id, its_state = ledger.cycles[one.cycle_no]
        state = its_state.value
    return one.account.value, cycle_id, state, _code(one.party, codes)


def _code(party: int, codes: Mapping[int, str]) -> str:
    return codes.get(party) or PARTY_CODES.get(party) or str(party)
