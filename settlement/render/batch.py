"""A signed batch as every file that is made of it sees it: manifest, payments, parties, and names for banks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

from settlement.core.payment_id import batch_id, payment_id

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        instructions: What each party pays or is paid, by its code.
        parties: Names and accounts; None where nobody gave them.
    """

    manifest: Manifest
    manifest_sha256: str
    instructions: Mapping[str, InstructionRow]
    parties: Parties | None

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

    def payment_id(self, merchant: str) -> str:
        """End-to-end id of a party's payment, the same in every bank file; at most 32 characters."""
        return payment_id(self.batch_id, self._number(merchant))

    def settlement_account(self, merchant: str) -> str:
        """Number of a merchant's settlement account in the house's books, where its carry lies (rule F3)."""
        return f"TD-{self._number(merchant)}"

    def _number(self, merchant: str) -> int:
        """Number of a party in the journal; 0 for the house's one leg, which is no party there."""
        return next((one.no for one in self.manifest.netting.parties if one.party == merchant), 0)

    def party(self, merchant: str) -> MerchantParty | None:
        """What is known of a merchant beside its code."""
        return None if self.parties is None else self.parties.find(merchant)
