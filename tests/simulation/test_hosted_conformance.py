"""A hosted programme under the clauses that every merchant's adapter keeps, on a real writer and PostgreSQL.

What goes wrong on the way is put between the adapter and the writer; the truth is what the journal and the
lots say, read after each call.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast
from zoneinfo import ZoneInfo

import msgspec
import structlog

from adapters.kit.conformance.clauses import CLAUSES, STRANGER, Clause
from adapters.kit.conformance.trial import Counted, Failed, Trial
from adapters.kit.contract import NotSent, Step
from adapters.kit.folder import Folder
from adapters.kit.manifest import Sandbox
from adapters.kit.simulator.faults import CONNECT, Fault, Occasion
from adapters.kit.simulator.ledger import Booked
from exchange.programme.core.command import Accrual, Credit, FindCall, GiveBack, Take, TakeBack
from exchange.service.hosted import HostedAdapter, manifest_of
from exchange.service.hosted_database import DatabaseRecords
from exchange.service.onboarding import register_merchant
from exchange.store.catalogue import fetch_hosted
from schemas.values.faults import Unavailable
from schemas.values.reason import Reason
from settlement.core.command import unstored_refusal
from settlement.core.event import Kind
from settlement.core.trail import PROGRAM
from tests.simulation.ground import BODY, LONG_AGO, House, new_key, open_house, terms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from adapters.kit.simulator.ledger import Ledger
    from deploy.database.embedded import EmbeddedServer
    from settlement.core.columns import EntryColumns, OrderColumns
    from settlement.core.command import Answer, Command

NOT_ASKED = {
    "member.authenticated": "members of hosted programmes are members here: nothing is linked"
}
RICH, POOR = 40_000_000, 120
OPERATIONS = {
    Take: "hold", GiveBack: "release", Credit: "credit", TakeBack: "reverse_credit", FindCall: "status",
}  # fmt: skip
STEPS = {
    Kind.TAKEN: Step.HOLD, Kind.RETURNED: Step.RELEASE, Kind.CREDITED: Step.CREDIT,
    Kind.WITHDRAWN: Step.REVERSE_CREDIT,
}  # fmt: skip
BROKEN = {Fault.CUT, Fault.TRUNCATED, Fault.GARBAGE}
SLOW = {Fault.TIMEOUT_AFTER, Fault.SLOW_BODY}
NEVER_SECONDS = 60.0


class Truth:
    """What the journal and the lots say of one programme, as of the last call."""

    def __init__(self, house: House, merchant_no: int, opened: dict[str, int], zone: str) -> None:
        """Begin with what the members were given."""
        self._house, self._merchant_no, self._zone = house, merchant_no, ZoneInfo(zone)
        self._opened = opened
        self._units: dict[str, int] = dict(opened)
        self.entries: list[Booked] = []

    async def read(self) -> None:
        """Read it anew."""
        pool = self._house.pool
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
            events = await conn.fetch(
                """
                SELECT kind, seq, member_no, units, reference FROM settlement.event
                 WHERE issuer = $1 AND kind IN (16, 17, 18, 19) AND units > 0 ORDER BY seq
                """,
                self._merchant_no,
            )
            lots = await conn.fetch(
                """
                SELECT member_no, sum(units)::bigint AS units FROM exchange.lot_balance
                 WHERE merchant_no = $1 GROUP BY 1
                """,
                self._merchant_no,
            )
        self.entries = [
            Booked(
                reference=row["reference"], step=STEPS[Kind(row["kind"])], member=str(row["member_no"]),
                units=row["units"], of="", at_us=self.now_us(), number=str(row["seq"]), moved=row["units"],
            )
            for row in events
        ]  # fmt: skip
        self._units = {str(row["member_no"]): row["units"] for row in lots}

    def now_us(self) -> int:
        """The writer's clock."""
        return self._house.clock.us

    def available(self, member: str) -> int | None:
        """What a member could spend."""
        return self._units.get(member)

    def day(self, day: dt.date) -> list[Booked]:
        """Everything: the clock stands still."""
        today = dt.datetime.fromtimestamp(self.now_us() // 1_000_000, dt.UTC).astimezone(self._zone)
        return self.entries if today.date() == day else []

    def doubled(self) -> set[str]:
        """References that moved points more than once."""
        times = Counter(entry.reference for entry in self.entries)
        return {reference for reference, count in times.items() if count > 1}

    def check(self) -> None:
        """Points are what the members had at first, and what the calls moved."""
        should = Counter(self._opened)
        for entry in self.entries:
            gives = entry.step in (Step.CREDIT, Step.RELEASE)
            should[entry.member] += entry.moved if gives else -entry.moved
        assert dict(should) == self._units
        assert not self.doubled()


class BadLine:
    """The way to the writer, on which things go wrong as a clause wants it."""

    def __init__(self, house: House, plan: Counted, truth: Truth) -> None:
        """Lead to a writer."""
        self._house, self._plan, self._truth = house, plan, truth
        self._forgotten: set[bytes] = set()

    async def submit(self, commands: Sequence[Command]) -> list[Answer]:
        """Take one command there and its answer back, unless something befalls it."""
        if self._plan.draw(Occasion(operation=CONNECT)):
            raise Unavailable("no connection")
        [command] = commands
        assert isinstance(command, Take | GiveBack | Credit | TakeBack | FindCall)
        operation = OPERATIONS[type(command)]
        reference = "" if isinstance(command, FindCall) else command.reference
        trouble = self._plan.draw(Occasion(operation=operation, reference=reference))
        fault = trouble.fault if trouble else None
        if fault is Fault.MAINTENANCE:
            raise Unavailable("the writer is stopping")
        if fault is Fault.TIMEOUT_BEFORE:
            await asyncio.sleep(NEVER_SECONDS)
        if isinstance(command, FindCall) and command.of_key in self._forgotten:
            return [[unstored_refusal(Reason.CALL_NOT_FOUND)]]
        answers = await self._house.writer.submit(commands)
        await self._truth.read()
        if fault in SLOW:
            await asyncio.sleep(NEVER_SECONDS)
        if fault in BROKEN:
            raise Unavailable("the connection was lost")
        if fault is Fault.FORGET:
            self._forgotten.add(command.key)
        if fault is Fault.WRONG_AMOUNT:
            [[entry]] = answers
            return [[msgspec.structs.replace(entry, units=entry.units + 1)]]
        return answers

    async def submit_columns(self, orders: OrderColumns) -> EntryColumns:
        """Take nothing of the kind there."""
        raise NotImplementedError


class BadRecords(DatabaseRecords):
    """Records that cannot be read as a clause wants it."""

    def __init__(self, house: House, plan: Counted) -> None:
        """Read a house's database."""
        super().__init__(house.pool, now_us=house.clock)
        self._plan = plan

    async def moved(
        self, *, merchant_no: int, from_us: int, until_us: int
    ) -> AsyncIterator[tuple[Kind, int, int, int, str, int]]:
        """Break off after the first line, or stand still there."""
        trouble = self._plan.draw(Occasion(operation="statement"))
        async for each in super().moved(
            merchant_no=merchant_no, from_us=from_us, until_us=until_us
        ):
            yield each
            if trouble and trouble.fault in BROKEN:
                raise Unavailable("the database went away")
            if trouble:
                await asyncio.sleep(NEVER_SECONDS)


@asynccontextmanager
async def on_trial(house: House, number: int) -> AsyncIterator[Trial]:
    """A programme of its own, with a rich and a poor member, and the adapter to it."""
    code = f"P{number}"
    merchant_no = await register_merchant(
        house.pool, house.writer, terms(code), now=LONG_AGO, effective_at=LONG_AGO, by=PROGRAM
    )
    assert isinstance(merchant_no, int)
    members = {str(2 * number + 1_000_000): RICH, str(2 * number + 1_000_001): POOR}
    await house.pool.executemany(
        "INSERT INTO exchange.member VALUES ($1, $2, now())",
        [(int(member), f"member {member}") for member in members],
    )
    await house.submit(
        *(
            Accrual(0, new_key(), BODY, int(member), merchant_no, units)
            for member, units in members.items()
        )
    )
    [programme] = [
        each for each in await fetch_hosted(house.pool) if each.merchant_no == merchant_no
    ]
    manifest = msgspec.structs.replace(manifest_of(programme), sandbox=Sandbox(members=members))
    plan = Counted()
    truth = Truth(house, merchant_no, members, manifest.hours.zone)
    adapter = HostedAdapter(
        merchant_no,
        manifest,
        clearing=BadLine(house, plan, truth),
        records=BadRecords(house, plan),
        now_us=house.clock,
        random_bits=random.getrandbits,
    )
    await adapter.start()
    yield Trial(
        folder=Folder(path=Path(code), manifest=manifest),
        adapter=adapter,
        plan=plan,
        books=cast("Ledger", truth),
        secrets={},
    )
    await adapter.close()


async def seen(clause: Clause, house: House, number: int) -> str:
    """What a clause saw that should not be; empty if it is kept."""
    async with on_trial(house, number) as trial:
        try:
            await clause.check(trial)
            if trial.books:
                trial.books.check()
        except Failed as failed:
            return str(failed)
        except NotSent as error:
            return f"not sent: {error.detail}"
    return ""


async def test_a_hosted_programme_keeps_every_clause(server: EmbeddedServer):
    """Each clause that applies to what the manifest declares is kept, and nothing that is logged names a member."""
    dsn = server.clone_database("migrated", "conforming")
    async with open_house(dsn) as house:
        async with on_trial(house, 0) as trial:
            manifest = trial.folder.manifest
        wanted = [
            clause for clause in CLAUSES if clause.applies(manifest) and clause.id not in NOT_ASKED
        ]
        gate = asyncio.Semaphore(6)

        async def tried(clause: Clause, number: int) -> str:
            async with gate:
                return await seen(clause, house, number)

        with structlog.testing.capture_logs() as lines:
            found = await asyncio.gather(
                *(tried(clause, number) for number, clause in enumerate(wanted, start=1))
            )
        assert {clause.id: what for clause, what in zip(wanted, found, strict=True) if what} == {}
        assert len(wanted) >= 25
        assert not [line for line in lines if STRANGER in str(line) or "1000003" in str(line)]
    server.drop_database("conforming")
