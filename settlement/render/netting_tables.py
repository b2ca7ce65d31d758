"""Fees and savings of netting as tables of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.files.report import Form, ReportColumn, ReportTable
from settlement.core.balances import PARTY_CODES
from settlement.core.savings import moved, pair_fees, party_savings
from settlement.render.tables import party_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from settlement.core.netting import Netting, Obligation

_CYCLE: Final = ReportColumn(name="cycle", chinese="结算周期")
_STATE: Final = ReportColumn(name="state", chinese="状态")
_MERCHANT: Final = ReportColumn(name="merchant", chinese="商户")


class NettedCycle(NamedTuple):
    """One cycle with what it owes and how that nets; `model` says which of the figures is paid."""

    cycle_id: str
    state: str
    model: str
    obligations: Sequence[Obligation]
    netting: Netting

    @property
    def moved_cu(self) -> int:
        """What the cycle moves by its model, CU."""
        figures = self.netting
        return moved(
            self.model, figures.gross_cu, figures.bilateral_net_cu, figures.multilateral_net_cu
        )


def _yuan(name: str, chinese: str) -> ReportColumn:
    return ReportColumn(name=name, chinese=chinese, form=Form.YUAN, summed=True)


def _count(name: str, chinese: str) -> ReportColumn:
    return ReportColumn(name=name, chinese=chinese, form=Form.COUNT, summed=True)


def fees_table(cycles: Sequence[NettedCycle], codes: Mapping[int, str]) -> ReportTable:
    """Fees of each cycle by pair; the acceptor bears them."""
    rows = [
        (
            cycle.cycle_id, cycle.state, codes[one.issuer], codes[one.acceptor], one.orders,
            one.reversals, one.gross_cu, one.charged_cu, one.given_back_cu, one.fee_cu,
            one.remainder_cu,
        )
        for cycle in cycles
        for one in sorted(
            pair_fees(cycle.obligations), key=lambda one: (codes[one.issuer], codes[one.acceptor])
        )
    ]  # fmt: skip
    columns = (
        _CYCLE,
        _STATE,
        ReportColumn(name="issuer", chinese="发行方"),
        ReportColumn(name="acceptor", chinese="受理方"),
        _count("orders", "笔数"),
        _count("reversals", "冲正笔数"),
        _yuan("gross", "总额"),
        _yuan("charged", "收取手续费"),
        _yuan("given_back", "退还手续费"),
        _yuan("fee", "手续费净额"),
        _yuan("remainder", "尾差"),
    )
    return ReportTable(name="fees", chinese="手续费", columns=columns, rows=rows)


def fees_by_merchant_table(cycles: Sequence[NettedCycle], codes: Mapping[int, str]) -> ReportTable:
    """What each merchant bears in each cycle."""
    rows = [
        (cycle.cycle_id, codes[path.party], path.accepted_orders, path.credit_cu, path.fee_cu)
        for cycle in cycles
        for path in sorted(cycle.netting.paths, key=lambda path: codes.get(path.party, ""))
        if path.party > 0 and path.accepted_orders
    ]
    columns = (
        _CYCLE,
        _MERCHANT,
        _count("lines", "受理笔数"),
        _yuan("value", "受理金额"),
        _yuan("fee", "手续费净额"),
    )
    return ReportTable(name="merchants", chinese="按商户", columns=columns, rows=rows)


def savings_table(cycles: Sequence[NettedCycle]) -> ReportTable:
    """What each cycle would move gross and bilaterally, what it moves, and what that saves."""
    rows = [
        (
            cycle.cycle_id, cycle.state, cycle.model, net.orders, net.gross_cu, net.bilateral_net_cu,
            net.multilateral_net_cu, cycle.moved_cu, net.gross_cu - cycle.moved_cu,
            _percent(net.gross_cu - cycle.moved_cu, net.gross_cu),
        )
        for cycle in cycles
        for net in (cycle.netting,)
    ]  # fmt: skip
    columns = (
        _CYCLE,
        _STATE,
        ReportColumn(name="model", chinese="模式"),
        _count("lines", "笔数"),
        _yuan("gross", "总额"),
        _yuan("bilateral", "双边净额"),
        _yuan("multilateral", "多边净额"),
        _yuan("moved", "实际收付"),
        _yuan("saved", "节省"),
        ReportColumn(name="share", chinese="节省比例"),
    )
    return ReportTable(name="cycles", chinese="按周期", columns=columns, rows=rows)


def savings_by_merchant_table(
    cycles: Sequence[NettedCycle], codes: Mapping[int, str]
) -> ReportTable:
    """What each party would pay in each cycle, and what it pays."""
    names = {**codes, **PARTY_CODES}
    rows = [
        (
            cycle.cycle_id,
            names[one.party],
            one.gross_cu,
            one.bilateral_cu,
            one.multilateral_cu,
            one.moved_cu(cycle.model),
            one.gross_cu - one.moved_cu(cycle.model),
        )
        for cycle in cycles
        for one in sorted(
            party_savings(cycle.obligations, cycle.netting),
            key=lambda one: party_order(names[one.party]),
        )
    ]
    columns = (
        _CYCLE,
        ReportColumn(name="party", chinese="参与方"),
        _yuan("gross", "逐笔应付"),
        _yuan("bilateral", "双边应付"),
        _yuan("multilateral", "多边应付"),
        _yuan("moved", "实际应付"),
        _yuan("saved", "节省"),
    )
    return ReportTable(name="parties", chinese="按参与方", columns=columns, rows=rows)


def _percent(part: int, whole: int) -> str:
    """A share with one decimal, rounded half up; nothing of nothing."""
    tenths = (2000 * part + whole) // (2 * whole) if whole else 0
    return f"{tenths // 10}.{tenths % 10} %" if whole else ""
