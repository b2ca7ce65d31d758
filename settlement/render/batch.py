"""A signed batch as every file that is made of it sees it: manifest, payments, parties, and names for banks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

from schemas.files.manifest import BILATERAL, GROSS
from settlement.core.fen import FenRun
from settlement.core.instruction import HOUSE_LEG
from settlement.core.payment_id import batch_id, payment_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.files.manifest import Manifest
    from schemas.files.parties import MerchantParty, Parties
    from schemas.files.tables import InstructionRow

BEIJING: Final = timezone(timedelta(hours=8), "UTC+8")
"""Files for people show Beijing time, and say so; it has had no other offset since 1991."""
BEIJING_US: Final = 8 * 3_600_000_000
"""The same in microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One signed batch.

    Attributes:
        manifest: What the package says of itself.
        manifest_sha256: Digest of those bytes, hex: every file names it.
        instructions: What each party pays or is paid in all, by its code.
        pairs: The same by counterparty, in a bilateral cycle; empty in a multilateral one.
        parties: Names and accounts; None where nobody gave them.
    """

    manifest: Manifest
    manifest_sha256: str
    instructions: Mapping[str, InstructionRow]
    parties: Parties | None
    pairs: Sequence[InstructionRow] = ()

    @property
    def batch_id(self) -> str:
        """What payments name: number of the package and the start of its manifest's digest; 21 characters."""
        return batch_id(sequence=self.manifest.sequence, manifest_sha256=self.manifest_sha256)

    @property
    def closed_at(self) -> datetime:
        """When the cycle closed, in Beijing time."""
        return datetime.fromisoformat(self.manifest.cycle.closed_at).astimezone(BEIJING)

    @property
    def last_day(self) -> date:
        """Day of the cycle's last instant in Beijing: a cycle that closes at midnight belongs to the month before."""
        return (self.closed_at - timedelta(microseconds=1)).date()

    @property
    def source(self) -> str:
        """The sentence by which a file names its package."""
        return f"Tongdui package {self.manifest.cycle.id}, manifest SHA-256 {self.manifest_sha256}"

    @property
    def bilateral(self) -> bool:
        """Whether each pair pays its difference."""
        return self.manifest.netting.model == BILATERAL

    @property
    def gross(self) -> bool:
        """Whether each line moved its money itself."""
        return self.manifest.netting.model == GROSS

    @property
    def legs(self) -> Sequence[InstructionRow]:
        """What is paid one by one: one for each party, or in a bilateral cycle for each counterparty."""
        return self.pairs or tuple(self.instructions.values())

    def legs_of(self, party: str) -> list[InstructionRow]:
        """What a party pays or is paid, one by one."""
        return [one for one in self.legs if one.party == party]

    def first_carry(self, merchant: str) -> int:
        """What the figures in fen of a merchant's lines begin with, CU (rules F1 and F11)."""
        return 0 if self.bilateral else self.instructions[merchant].carry_before_cu

    def beside_lines(self, merchant: str) -> int:
        """By how many fen a merchant's payments differ from its lines in fen; 0 in multilateral cycles."""
        leg = self.instructions[merchant]
        run = FenRun(self.first_carry(merchant))
        return leg.pay_fen - run.take(self.figure(merchant))

    def figure(self, merchant: str) -> int:
        """What a merchant's lines come to, CU; in a gross cycle they moved the money, and none is instructed."""
        if not self.gross:
            return self.instructions[merchant].net_cu
        return next(
            int(one.net_cu) for one in self.manifest.netting.parties if one.party == merchant
        )

    def payment_id(self, merchant: str, counterparty: str = "") -> str:
        """End-to-end id of a party's payment, the same in every bank file; at most 35 characters."""
        to = (self._number(counterparty) or HOUSE_LEG) if counterparty else None
        return payment_id(self.batch_id, self._number(merchant), to)

    def settlement_account(self, merchant: str) -> str:
        """Number of a merchant's settlement account in the house's books, where its carry lies (rule F3)."""
        return f"TD-{self._number(merchant)}"

    def _number(self, merchant: str) -> int:
        """Number of a party in the journal; 0 for the house's one leg, which is no party there."""
        return next((one.no for one in self.manifest.netting.parties if one.party == merchant), 0)

    def party(self, merchant: str) -> MerchantParty | None:
        """What is known of a merchant beside its code."""
        return None if self.parties is None else self.parties.find(merchant)
