"""The money of the demo: its bank carries out what packages order, and its statements fund and settle the cycles."""

from __future__ import annotations

import io
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table

from exchange.cli.accounts import house_accounts, read_parties
from exchange.cli.context import Unusable, clearing_of, keyring_of, pool_of
from schemas.values.amounts import fen_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path

    from asyncpg import Pool
    from rich.console import Console

    from deploy.demo.bank import Bank
    from exchange.cli.context import Home
    from schemas.files.parties import Parties
    from settlement.service.clearing import Clearing
    from settlement.signing.signer import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleMoney:
    """What moved for one cycle; fen.

    Attributes:
        cycle_id: The cycle.
        payers: How many paid in.
        paid_in_fen: What they paid.
        paid: How many were paid, the house among them.
        paid_out_fen: What was paid to them.
        matched: Movements of the bank that were matched with instructions.
        breaks: Differences that are open; 0 where all is well.
    """

    cycle_id: str
    payers: int
    paid_in_fen: int
    paid: int
    paid_out_fen: int
    matched: int
    breaks: int


@dataclass(slots=True, kw_only=True)
class Treasury:
    """The treasurer of the demo.

    Attributes:
        home: The demo's folder.
        pool: Database.
        clearing: The writer.
        bank: Where the house's account lies.
        parties: Everybody's names and accounts.
        signer: The treasurer's own key; without its signature no money moves on a package.
        cycles: What moved so far.
    """

    home: Home
    pool: Pool
    clearing: Clearing
    bank: Bank
    parties: Parties
    signer: Signer
    cycles: list[CycleMoney] = field(default_factory=list)

    async def settle(self, cycle_id: str, day: str) -> None:
        """Sign the cycle's package, have everybody pay in what it says, settle it, and have everybody paid.

        Args:
            cycle_id: A closed cycle whose package stands.
            day: Day of the bank, `YYYY-MM-DD`.

        Raises:
            Unusable: Books and bank disagree, or the cycle cannot be settled: a fault of the demo.
        """
        self._sign(cycle_id)
        files = self._render(cycle_id)
        out = files / HOUSE / "pain.001.xml"
        # The house itself pays in where more fees were given back than taken.
        payers = [each for each in sorted(files.glob("*/*pain.001.xml")) if each != out]
        before_fen = self.bank.balance_fen
        matched, breaks = await self._bank_day(payers, f"{cycle_id}-in", day)
        paid_in_fen = self.bank.balance_fen - before_fen
        await self._settle(cycle_id)
        paying = [out] if out.exists() else []
        more, breaks = await self._bank_day(paying, f"{cycle_id}-out", day)
        self.cycles.append(
            CycleMoney(
                cycle_id=cycle_id,
                payers=len(payers),
                paid_in_fen=paid_in_fen,
                paid=more,
                paid_out_fen=before_fen + paid_in_fen - self.bank.balance_fen,
                matched=matched + more,
                breaks=breaks,
            )
        )

    async def balances(self) -> tuple[int, int]:
        """What the bank says lies in the house's account, and what the books say, both in CU."""
        from settlement.service.funding import custody

        state = await custody(self.pool)
        if state.bank_fen is None:
            raise Unusable("the bank has not stated anything yet")
        return state.bank_fen * 100, state.books_cu

    def _sign(self, cycle_id: str) -> None:
        """Check the package and sign it, as the second of the two who must."""
        from settlement.service.signatures import Added, sign_package

        trust = keyring_of(self.home).package_trust()
        added = sign_package(self.home.packages / cycle_id, self.signer, trust)
        if not isinstance(added, Added):
            raise Unusable(f"the package of {cycle_id} does not verify")

    def _render(self, cycle_id: str) -> Path:
        """Write the cycle's orders to banks."""
        from settlement.service.package_reading import open_package
        from settlement.service.renderings import Wanted, plan_renderings, write_files

        package = open_package(
            self.home.packages / cycle_id,
            trusted=keyring_of(self.home).trusted(),
            parties=self.parties,
        )
        target = self.home.folder / "files" / cycle_id
        target.parent.mkdir(exist_ok=True)
        write_files(plan_renderings(package, Wanted(kinds=("payments",))), target)
        return target

    async def _bank_day(self, orders: Iterable[Path], name: str, day: str) -> tuple[int, int]:
        """Hand orders to the bank, and take its statement in; returns what was matched, and what is open."""
        from schemas.files.camt053 import read_camt053
        from settlement.core.trail import PROGRAM
        from settlement.service.funding import book_bank
        from settlement.service.reconciliation import import_statements

        self.bank.execute(order.read_bytes() for order in orders)
        stated = self.bank.state(day)
        folder = self.home.folder / "bank"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.camt.053.xml").write_bytes(stated)
        account, holders = house_accounts(self.home.parties)
        done = await import_statements(
            self.pool,
            read_camt053(io.BytesIO(stated)),
            account=account,
            holders=holders,
            by=PROGRAM,
            at=datetime.now(UTC),
            days_max=31,
        )
        booked = await book_bank(
            self.pool,
            self.clearing,
            account=account,
            holders=holders,
            by=PROGRAM,
            at=datetime.now(UTC),
            said={},
        )
        if booked.open:
            raise Unusable(f"{len(booked.open)} movements of the demo's bank belong to nobody")
        return len(done.matches), len(done.breaks)

    async def _settle(self, cycle_id: str) -> None:
        """Settle a cycle with what was paid in."""
        from settlement.core.trail import PROGRAM
        from settlement.service import parties, settling

        state = await settling.standing(self.pool, cycle_id=cycle_id)
        if state is None:
            raise Unusable(f"there is no cycle {cycle_id}")
        codes = {row["merchant_no"]: row["code"] for row in await parties.list_parties(self.pool)}
        refused = await settling.settle_funded(
            self.pool, self.clearing, state, codes=codes, by=PROGRAM, now=datetime.now(UTC)
        )
        if refused is not None:
            raise Unusable(f"{cycle_id} was not settled: {refused.detail}")


TREASURER_KEY = "treasurer-public.pem"
"""File of the demo's folder with the public key of its treasurer."""
HOUSE = "_house"
"""Folder of the house's own files among those of a package."""


@asynccontextmanager
async def treasury(home: Home, dsn: str) -> AsyncIterator[Treasury]:
    """Open the demo's treasury beside its clearing house, in which two must sign from now on."""
    from deploy import demo
    from deploy.demo.bank import Bank
    from settlement.signing.signature import public_pem
    from settlement.signing.signer import make_key, write_private_file

    pem, signer = make_key(of_sm2=True)
    write_private_file(home.folder / "treasurer.pem", pem)
    (home.folder / TREASURER_KEY).write_bytes(public_pem(signer.public))
    now = datetime.now(UTC)
    keyring_of(home).add(signer.public, role="treasurer", at=now).set_threshold(2, at=now)

    home.parties.write_bytes(demo.parties_bytes())
    parties = read_parties(home.parties)
    async with pool_of(dsn) as pool, clearing_of(home, dsn) as clearing:
        yield Treasury(
            home=home,
            pool=pool,
            clearing=clearing,
            bank=Bank(account=parties.house.account.number),
            parties=parties,
            signer=signer,
        )


def print_money(console: Console, cycles: Sequence[CycleMoney]) -> None:
    """Print what moved at the bank for each cycle, and how it was matched."""
    table = Table(
        title="Paid, matched and settled 收付、对账与清讫 (yuan 元)", title_justify="left"
    )
    table.add_column("cycle\n周期")
    for heading in (
        "payers\n付款方",
        "paid in\n收款",
        "paid\n收款方",
        "paid out\n付款",
        "matched\n已对账",
        "breaks\n差异",
    ):
        table.add_column(heading, justify="right")
    for one in cycles:
        table.add_row(
            one.cycle_id,
            f"{one.payers:,}",
            fen_text(one.paid_in_fen),
            f"{one.paid:,}",
            fen_text(one.paid_out_fen),
            f"{one.matched:,}",
            f"{one.breaks:,}",
        )
    console.print(table)


def money_json(one: CycleMoney) -> dict[str, object]:
    """The same for a program; amounts as strings of fen."""
    return {
        "cycle": one.cycle_id,
        "payers": one.payers,
        "paid_in_fen": str(one.paid_in_fen),
        "paid": one.paid,
        "paid_out_fen": str(one.paid_out_fen),
        "matched": one.matched,
        "breaks": one.breaks,
    }
