"""The figures of settlement cycles as people read them: what netting saved, and who pays and receives what."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.values.amounts import fen_text, yuan_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from settlement.core.netting import Netting


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyFigure:
    """One party in one cycle, CU: `net = credit - fee - debit`."""

    party: str
    debit_cu: int
    credit_cu: int
    fee_cu: int
    net_cu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleFigures:
    """One cycle.

    Attributes:
        cycle_id: Its id.
        orders: Orders cleared in it.
        gross_cu: What would move if every order were paid alone.
        bilateral_cu: What would move if each pair paid its difference.
        multilateral_cu: What moves.
        parties: Every party's path to its figure.
        payments: What the bank moves for each party, fen, and what it carries on, CU; empty before the cut.
    """

    cycle_id: str
    orders: int
    gross_cu: int
    bilateral_cu: int
    multilateral_cu: int
    parties: Sequence[PartyFigure]
    payments: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def figures_of_package(folder: Path) -> CycleFigures:
    """Read the figures of a package from its own files.

    Raises:
        SchemaError: A file is malformed; a package that verifies has none.
        OSError: A file cannot be read.
    """
    from schemas.files.manifest import read_manifest
    from schemas.files.tables import in_all, read_instructions

    manifest = read_manifest((folder / "manifest.json").read_bytes())
    rows = read_instructions((folder / "instructions.csv").read_bytes())
    return CycleFigures(
        cycle_id=manifest.cycle.id,
        orders=manifest.counts.orders,
        gross_cu=int(manifest.totals.bilateral_net_cu) + int(manifest.netting.saved_bilateral_cu),
        bilateral_cu=int(manifest.totals.bilateral_net_cu),
        multilateral_cu=int(manifest.totals.multilateral_net_cu),
        parties=[
            PartyFigure(
                party=each.party,
                debit_cu=int(each.debit_cu),
                credit_cu=int(each.credit_cu),
                fee_cu=int(each.fee_cu),
                net_cu=int(each.net_cu),
            )
            for each in manifest.netting.parties
        ],
        payments={
            party: (together.pay_fen, together.carry_after_cu)
            for party in {row.party: None for row in rows}
            for together in (in_all(party, rows),)
        },
    )


def figures_of_netting(cycle_id: str, netting: Netting, codes: Mapping[int, str]) -> CycleFigures:
    """The figures of a cycle whose package is not cut yet."""
    parties = [
        PartyFigure(
            party=codes[path.party],
            debit_cu=path.debit_cu,
            credit_cu=path.credit_cu,
            fee_cu=path.fee_cu,
            net_cu=path.net_cu,
        )
        for path in netting.paths
    ]
    return CycleFigures(
        cycle_id=cycle_id,
        orders=netting.orders,
        gross_cu=netting.gross_cu,
        bilateral_cu=netting.bilateral_net_cu,
        multilateral_cu=netting.multilateral_net_cu,
        parties=sorted(parties, key=lambda each: (":" in each.party, each.party)),
    )


def figures_json(figures: CycleFigures) -> dict[str, object]:
    """One cycle's figures for a program; amounts as strings."""
    return {
        "cycle": figures.cycle_id,
        "orders": figures.orders,
        "gross_cu": str(figures.gross_cu),
        "bilateral_net_cu": str(figures.bilateral_cu),
        "multilateral_net_cu": str(figures.multilateral_cu),
        "parties": [
            {
                "party": each.party,
                "debit_cu": str(each.debit_cu),
                "credit_cu": str(each.credit_cu),
                "fee_cu": str(each.fee_cu),
                "net_cu": str(each.net_cu),
            }
            for each in figures.parties
        ],
        "payments": [
            {"party": party, "pay_fen": str(pay_fen), "carry_cu": str(carry_cu)}
            for party, (pay_fen, carry_cu) in figures.payments.items()
        ],
    }


def print_cycles(console: Console, cycles: Sequence[CycleFigures]) -> None:
    """Print what each step of netting saved, cycle by cycle."""
    from rich.table import Table

    table = Table(
        title="What netting saves 轧差节省 (yuan 元)", title_justify="left", title_style="bold"
    )
    table.add_column("cycle\n周期", no_wrap=True)
    for heading in (
        "orders\n笔数",
        "gross\n总额",
        "bilateral net\n双边净额",
        "multilateral net\n多边净额",
        "saved\n节省",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in cycles:
        table.add_row(
            each.cycle_id,
            f"{each.orders:,}",
            *(yuan_text(cu) for cu in (each.gross_cu, each.bilateral_cu, each.multilateral_cu)),
            percent_text(each.gross_cu - each.multilateral_cu, each.gross_cu),
        )
    if len(cycles) > 1:
        gross_cu = sum(each.gross_cu for each in cycles)
        multilateral_cu = sum(each.multilateral_cu for each in cycles)
        table.add_section()
        table.add_row(
            "all 合计",
            f"{sum(each.orders for each in cycles):,}",
            yuan_text(gross_cu),
            yuan_text(sum(each.bilateral_cu for each in cycles)),
            yuan_text(multilateral_cu),
            percent_text(gross_cu - multilateral_cu, gross_cu),
        )
    console.print(table)


def print_parties(console: Console, cycles: Sequence[CycleFigures]) -> None:
    """Print what each party owes, is owed, pays in and is paid, over all of `cycles`."""
    from rich.table import Table

    debit: defaultdict[str, int] = defaultdict(int)
    credit: defaultdict[str, int] = defaultdict(int)
    net: defaultdict[str, int] = defaultdict(int)
    pays: defaultdict[str, int] = defaultdict(int)
    receives: defaultdict[str, int] = defaultdict(int)
    carry: dict[str, int] = {}
    for each in cycles:
        for party in each.parties:
            debit[party.party] += party.debit_cu
            credit[party.party] += party.credit_cu - party.fee_cu
            net[party.party] += party.net_cu
        for name, (pay_fen, carry_cu) in each.payments.items():
            pays[name] += max(0, -pay_fen)
            receives[name] += max(0, pay_fen)
            carry[name] = carry_cu
    table = Table(
        title="Who pays and who receives 应付与应收 (yuan 元)",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("merchant\n商户", no_wrap=True)
    cut = bool(carry)
    bank_headings = ("pays in\n应付款", "is paid\n应收款", "carry\n结转") if cut else ()
    for heading in ("owes\n应付总额", "is owed\n应收总额", "net\n净额", *bank_headings):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in sorted({*net, *carry}, key=lambda name: (name.startswith("HOUSE"), name)):
        figures = [yuan_text(each[name]) if name in net else "" for each in (debit, credit, net)]
        bank = [fen_text(each[name]) if each[name] else "" for each in (pays, receives)]
        bank.append(yuan_text(carry[name]) if name in carry else "")
        table.add_row(name, *figures, *(bank if cut else ()))
    table.add_section()
    totals = [yuan_text(sum(each.values())) for each in (debit, credit, net)]
    if cut:
        totals += [fen_text(sum(each.values())) for each in (pays, receives)]
        totals.append(yuan_text(sum(carry.values())))
    table.add_row("all 合计", *totals)
    console.print(table)


def percent_text(part: int, whole: int) -> str:
    """Write a share as a percentage with one decimal, rounded half up; `–` of nothing.

    A figure for people's eyes: no amount is derived from it.
    """
    if whole <= 0:
        return "–"
    tenths = (2000 * part + whole) // (2 * whole)
    return f"{tenths // 10}.{tenths % 10}%"
