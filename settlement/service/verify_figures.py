"""The checks of a package's figures: positions, obligations, control totals, instructions."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from schemas.files.manifest import BILATERAL, GROSS, MULTILATERAL, Counts
from schemas.files.tables import read_instructions, read_obligations, read_positions
from schemas.values.amounts import CU_PER_FEN
from schemas.values.ids import HOUSE_CODES
from settlement.core.instruction import (
    HOUSE_LEG,
    HOUSE_LEG_CODE,
    instruct,
    instruct_nothing,
    instruct_pairs,
    nets_of_pairs,
)
from settlement.core.netting import Netting, Obligation, net
from settlement.core.package import control_totals, netting_facts
from settlement.core.report import CheckFailed
from settlement.service.package_files import read_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from schemas.files.manifest import Manifest, ModelName
    from schemas.files.tables import InstructionRow, ObligationRow, PositionRow
    from settlement.core.instruction import Instruction

Pair = tuple[str, str, bool]
"""Issuer, acceptor, and whether what is meant was taken back by reversals."""
_Paid = tuple[str, str, int, int, int, int]
"""Party, counterparty, payment (fen), figure and carries (CU) of an instruction."""
_HOUSE_NUMBERS = {code: number for number, code in HOUSE_CODES.items()}


class Figures:
    """The tables of one package, read once, and the checks that hold them against each other.

    Attributes:
        checks: Each check by name; it returns its sentences or raises `CheckFailed`.
    """

    CHECKS: ClassVar = (
        "positions_sum_to_zero", "positions_follow_obligations", "control_totals", "instructions",
    )  # fmt: skip

    def __init__(
        self, folder: Path, manifest: Manifest, carries_before: Mapping[str, int] | None
    ) -> None:
        """Take the package.

        Args:
            folder: The package's folder.
            manifest: Its manifest.
            carries_before: What the package before carried for each merchant, CU; None if unknown.
        """
        self._folder = folder
        self._manifest = manifest
        self._carries_before = carries_before
        self.checks: dict[str, Callable[[], tuple[str, str]]] = {
            "positions_sum_to_zero": self._sum_to_zero,
            "positions_follow_obligations": self._follow_obligations,
            "control_totals": self._control_totals,
            "instructions": self._instructions,
        }

    @cached_property
    def positions(self) -> dict[str, PositionRow]:
        """Rows of `positions.csv` by party."""
        rows = read_positions(read_whole(self._folder / "positions.csv"))
        found = {row.party: row for row in rows}
        if len(found) != len(rows):
            raise CheckFailed("positions.csv names a party twice.", "positions.csv 中参与方重复。")
        return found

    @cached_property
    def obligations(self) -> dict[Pair, ObligationRow]:
        """Rows of `obligations.csv` by issuer, acceptor, and whether they were taken back."""
        rows = read_obligations(read_whole(self._folder / "obligations.csv"))
        found = {(row.issuer, row.acceptor, row.orders < 0): row for row in rows}
        if len(found) != len(rows):
            raise CheckFailed("obligations.csv names a pair twice.", "obligations.csv 中双方重复。")
        return found

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each party in the journal, as the manifest states it."""
        parties = self._manifest.netting.parties
        numbers = {one.party: one.no for one in parties}
        house = {code: number for code, number in numbers.items() if ":" in code or number <= 0}
        if (
            len(set(numbers.values())) != len(parties)
            or len(numbers) != len(parties)
            or not house.items() <= _HOUSE_NUMBERS.items()
        ):
            raise CheckFailed(
                "The manifest gives two parties one name or number.", "清单中参与方名称或编号重复。"
            )
        return _HOUSE_NUMBERS | numbers

    @cached_property
    def netting(self) -> Netting:
        """Netting of the obligations, made anew."""
        try:
            return net(
                _obligation(
                    row, issuer=self.numbers[row.issuer], acceptor=self.numbers[row.acceptor]
                )
                for row in self.obligations.values()
            )
        except KeyError as error:
            raise CheckFailed(
                f"The manifest's netting leaves {error.args[0]!r} out.",
                f"清单的轧差说明遗漏 {error.args[0]!r}。",
            ) from error
        except ValueError as error:
            raise CheckFailed(
                f"obligations.csv holds an impossible obligation: {error}.",
                "obligations.csv 含有不可能的债务。",
            ) from error

    def _sum_to_zero(self) -> tuple[str, str]:
        total_cu = sum(row.net_cu for row in self.positions.values())
        if total_cu != 0:
            raise CheckFailed(
                f"The positions sum to {total_cu} CU, not to zero.",
                f"净额合计为 {total_cu} CU，不为零。",
            )
        for row in self.positions.values():
            if row.credit_cu - row.fee_cu - row.debit_cu != row.net_cu:
                raise CheckFailed(
                    f"The net figure of {row.party} is not credit minus fee minus debit.",
                    f"{row.party} 的净额不等于应收减手续费减应付。",
                )
        return "All positions sum to zero.", "全部净额合计为零。"

    def _follow_obligations(self) -> tuple[str, str]:
        codes = {number: code for code, number in self.numbers.items()}
        expected = {
            codes[path.party]: (
                path.net_cu, path.issued_orders, path.debit_cu, path.accepted_orders,
                path.credit_cu, path.fee_cu,
            )
            for path in self.netting.paths
        }  # fmt: skip
        found = {
            row.party: (
                row.net_cu, row.issued_orders, row.debit_cu, row.accepted_orders,
                row.credit_cu, row.fee_cu,
            )
            for row in self.positions.values()
        }  # fmt: skip
        for party in sorted(expected.keys() | found.keys()):
            if expected.get(party) != found.get(party):
                raise CheckFailed(
                    f"The position of {party} is not what the obligations come to.",
                    f"{party} 的净额与债务不符。",
                )
        return (
            "Every position is what the obligations come to.",
            "每个参与方的净额均与债务相符。",
        )

    def _control_totals(self) -> tuple[str, str]:
        manifest = self._manifest
        codes = {number: code for code, number in self.numbers.items()}
        rows = read_instructions(read_whole(self._folder / "instructions.csv"))
        counts = Counts(
            orders=self.netting.orders,
            obligations=len(self.obligations),
            positions=len(self.positions),
            instructions=len(rows),
            statements=sum(one.path.endswith(".msgpack") for one in manifest.files),
        )
        for name, stated, found in (
            ("counts", manifest.counts, counts),
            ("totals", manifest.totals, control_totals(self.netting)),
            ("netting", manifest.netting, netting_facts(self.netting, codes, model=self._model)),
        ):
            if stated != found:
                raise CheckFailed(
                    f"The manifest's {name} are not those of the tables.",
                    f"清单中的 {name} 与各表不符。",
                )
        return "Counts and control totals add up.", "笔数与控制总额均相符。"

    @property
    def _model(self) -> ModelName:
        """How the cycle is paid: as the manifest says, and in the main arrangement always multilaterally."""
        if self._manifest.cycle.arrangement is None:
            return MULTILATERAL
        return self._manifest.netting.model

    def _instructions(self) -> tuple[str, str]:
        rows = read_instructions(read_whole(self._folder / "instructions.csv"))
        carries = {row.carry_name: row.carry_before_cu for row in rows if row.has_carry}
        for name, carry_cu in carries.items():
            if abs(carry_cu) >= CU_PER_FEN:
                raise CheckFailed(
                    f"{name} carries a whole fen or more.", f"{name} 的结转额达到一分或以上。"
                )
        wanted = self._of_pairs(rows) if self._model == BILATERAL else self._of_parties(carries)
        found = [
            (row.party, row.counterparty, row.pay_fen, row.net_cu, row.carry_before_cu, row.carry_after_cu)
            for row in rows
        ]  # fmt: skip
        for row in found:
            if row not in wanted:
                raise CheckFailed(
                    f"The instruction of {row[0]} is not what its figure and carry come to.",
                    f"{row[0]} 的付款指令与其净额及结转不符。",
                )
        if len(found) != len(wanted):
            raise CheckFailed("An instruction is missing or doubled.", "付款指令缺失或重复。")
        pairwise = self._model == BILATERAL
        sums = " pair by pair" if pairwise else " and sum to zero"
        sums_zh = "，逐对结算" if pairwise else "且合计为零"
        if self._carries_before is None:
            return (
                f"Instructions follow the fen rule{sums}; carries were not compared.",
                f"付款指令符合分位规则{sums_zh}；上期结转未核对。",
            )
        before = {party: cu for party, cu in self._carries_before.items() if cu}
        if {party: cu for party, cu in carries.items() if cu} != before:
            raise CheckFailed(
                "The carries are not those that the package before left.",
                "上期结转与前一结算包不符。",
            )
        return (
            f"Instructions follow the fen rule{sums}, and go on from the carries before.",
            f"付款指令符合分位规则{sums_zh}，承接上期结转。",
        )

    def _of_parties(self, carries: Mapping[str, int]) -> set[_Paid]:
        """What each party pays or is paid, from its position and carry."""
        parties = {party for party in self.positions if ":" not in party} | carries.keys()
        numbers = {party: number for number, party in enumerate(sorted(parties), 1)}
        nets = {
            _HOUSE_NUMBERS.get(party, 0) or numbers.get(party, HOUSE_LEG): row.net_cu
            for party, row in self.positions.items()
        }
        if sum(nets.values()) != 0:
            raise CheckFailed("The positions cannot be paid.", "净额合计不为零，无法付款。")
        expected = (
            instruct_nothing(nets)
            if self._model == GROSS
            else instruct(
                nets=nets, carries={numbers[party]: carry_cu for party, carry_cu in carries.items()}
            )
        )
        codes = {number: party for party, number in numbers.items()} | {HOUSE_LEG: HOUSE_LEG_CODE}
        return _paid(expected, codes)

    def _of_pairs(self, rows: Sequence[InstructionRow]) -> set[_Paid]:
        """What each pair pays, from its obligations and carry."""
        parties = {party for pair in self.obligations for party in pair[:2]}
        parties |= {party for row in rows for party in (row.party, row.counterparty)}
        named = sorted(parties - {HOUSE_LEG_CODE})
        numbers = {party: number for number, party in enumerate(named, 1)}
        numbers[HOUSE_LEG_CODE] = HOUSE_LEG
        owed = [
            _obligation(row, issuer=numbers[row.issuer], acceptor=numbers[row.acceptor])
            for row in self.obligations.values()
        ]
        carries = {
            (numbers[row.party], numbers[row.counterparty]): row.carry_before_cu for row in rows
        }
        try:
            expected = instruct_pairs(nets=nets_of_pairs(owed), carries=carries)
        except ValueError as error:
            raise CheckFailed(
                "The two parties of a pair carry different amounts.", "同一对参与方的结转额不一致。"
            ) from error
        return _paid(expected, {number: party for party, number in numbers.items()})


def _paid(instructions: Iterable[Instruction], codes: Mapping[int, str]) -> set[_Paid]:
    """Instructions as the rows that they must be."""
    return {
        (
            codes[one.party], codes[one.counterparty] if one.counterparty else "", one.pay_fen,
            one.net_cu, one.carry_before_cu, one.carry_after_cu,
        )
        for one in instructions
    }  # fmt: skip


def _obligation(row: ObligationRow, *, issuer: int, acceptor: int) -> Obligation:
    """What a row says; one that was taken back is negative throughout."""
    sign = -1 if row.orders < 0 else 1
    return Obligation(
        issuer=issuer,
        acceptor=acceptor,
        orders=sign * row.orders,
        debit_cu=sign * row.debit_cu,
        value_cu=sign * row.value_cu,
        fee_cu=sign * row.fee_cu,
        reversal=sign < 0,
    )
