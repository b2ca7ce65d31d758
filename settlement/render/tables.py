"""The three small tables of a package, from the result of netting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.files.tables import (
    InstructionRow,
    ObligationRow,
    PositionRow,
    write_instructions,
    write_obligations,
    write_positions,
)
from schemas.values.ids import HOUSE_CODES
from settlement.core.instruction import HOUSE_LEG, HOUSE_LEG_CODE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from settlement.core.instruction import Instruction
    from settlement.core.netting import Netting, Obligation


def party_codes(codes: Mapping[int, str]) -> dict[int, str]:
    """Codes of the merchants together with those of the house's parties."""
    return {**codes, **HOUSE_CODES, HOUSE_LEG: HOUSE_LEG_CODE}


def party_order(code: str) -> tuple[bool, str]:
    """Sort key of parties in every file: merchants by code, then the house's accounts."""
    return ":" in code, code


def render_positions(netting: Netting, codes: Mapping[int, str]) -> bytes:
    """Write `positions.csv`: each party's figure and how it came about."""
    rows = [
        PositionRow(
            party=codes[path.party],
            net_cu=path.net_cu,
            issued_orders=path.issued_orders,
            debit_cu=path.debit_cu,
            accepted_orders=path.accepted_orders,
            credit_cu=path.credit_cu,
            fee_cu=path.fee_cu,
        )
        for path in netting.paths
    ]
    return write_positions(sorted(rows, key=lambda row: party_order(row.party)))


def render_obligations(obligations: Iterable[Obligation], codes: Mapping[int, str]) -> bytes:
    """Write `obligations.csv`: the bilateral gross of the cycle; what was taken back follows its pair."""
    rows = [
        ObligationRow(
            issuer=codes[one.issuer],
            acceptor=codes[one.acceptor],
            orders=one.sign * one.orders,
            debit_cu=one.sign * one.debit_cu,
            value_cu=one.sign * one.value_cu,
            fee_cu=one.sign * one.fee_cu,
        )
        for one in obligations
    ]
    return write_obligations(
        sorted(rows, key=lambda row: (row.issuer, row.acceptor, row.orders < 0))
    )


def render_instructions(instructions: Iterable[Instruction], codes: Mapping[int, str]) -> bytes:
    """Write `instructions.csv`: who pays in and who is paid out."""
    rows = [
        InstructionRow(
            party=codes[one.party],
            pay_fen=one.pay_fen,
            net_cu=one.net_cu,
            carry_before_cu=one.carry_before_cu,
            carry_after_cu=one.carry_after_cu,
            counterparty=codes[one.counterparty] if one.counterparty else "",
        )
        for one in instructions
    ]
    return write_instructions(
        sorted(rows, key=lambda row: (party_order(row.party), party_order(row.counterparty)))
    )
