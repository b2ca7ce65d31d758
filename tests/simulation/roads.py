"""A stretch of road for journeys: real PostgreSQL, a writer, and two merchants' systems behind real sockets."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
from asyncpg import Pool

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.contract import Adapter, Receipt, Step
from adapters.kit.figures import CallFigures
from adapters.kit.folder import Folder
from adapters.kit.guard import Guarded
from adapters.kit.reference import reference_of
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import Fault, Rule, Scripted, Trouble
from adapters.kit.simulator.ledger import Ledger
from adapters.kit.simulator.stage import set_stage
from deploy.database.connection import open_pool, open_writer_connection
from exchange.core.journey import Journey, Line, Verdict, Wanted
from exchange.core.order import ENDS, State
from exchange.service.journey_database import DatabaseJourneys
from exchange.service.journey_roads import Connected
from exchange.service.journeys import Journeys
from exchange.store.journeys import fetch_lines
from schemas.values.ids import HOUSE, new_uuid7
from settlement.core.command import Entry, Join, Order
from settlement.core.event import Kind
from settlement.service.clearing import PART, Clearing, Writer
from settlement.service.cycles import close_cycle
from settlement.service.ledger import open_ledger

TILL, ISSUER, ACCEPTOR, OTHER = 3, 1, 2, 4
MEMBER = "T-1001"
UNITS, CREDITED = 100, 40
_keys = itertools.count(1)
LIMITS: dict[str, Any] = {
    "deadline_seconds": 0.15,
    "inquiry_first_seconds": 0.01,
    "inquiry_max_seconds": 0.05,
    "breaker_failures": 1_000,
    "attempts": 100,
}
QUICK: dict[str, Any] = {
    "heartbeat_seconds": 5.0,
    "reconnect_first_seconds": 0.01,
    "reconnect_max_seconds": 0.02,
}


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(slots=True)
class System:
    """One merchant's system, and its adapter."""

    folder: Folder
    ledger: Ledger
    plan: Scripted
    guarded: Guarded

    @property
    def connected(self) -> Connected:
        """As the order's life sees it."""
        return Connected(system=self.guarded, manifest=self.folder.manifest)

    def fails(self, fault: Fault, seconds: float = 0.0, **where: Any) -> None:
        """From now on let this go wrong, once unless `times` says otherwise."""
        self.plan.add(Rule(trouble=Trouble(fault=fault, seconds=seconds), **where))

    def works(self) -> None:
        """From now on let nothing go wrong."""
        self.plan._rules.clear()

    def moved(self, journey: Journey) -> list[Step]:
        """What of an order moved points here, in the order booked."""
        order = journey.order_id(PART)
        if order is None:
            return []
        references = {reference_of(order, step) for step in Step}
        return [entry.step for entry in self.ledger.entries if entry.reference in references]


@asynccontextmanager
async def system(**changed: Any) -> AsyncIterator[System]:
    """A merchant of the protocol with the fewest round trips, with parts of its manifest replaced."""
    folder = registry.find("till-town").with_settings(QUICK)
    manifest = folder.manifest
    parts = {"limits": LIMITS, "status": {"final_after_seconds": 0.05}} | changed
    replaced = {
        name: msgspec.structs.replace(getattr(manifest, name), **values)
        for name, values in parts.items()
    }
    folder = replace(folder, manifest=msgspec.structs.replace(manifest, **replaced))
    plan = Scripted()
    stage = set_stage(folder, plan=plan, rng=random.Random(7))
    async with registry.simulator(folder)(folder, stage) as running:
        folder = folder.with_settings(running.settings)
        adapter = registry.build(folder, Context(secrets=Secrets(running.secrets)))
        guarded = Guarded(adapter, folder.manifest, now_us=now_us, figures=CallFigures())
        await guarded.start()
        try:
            yield System(folder, stage.ledger, plan, guarded)
        finally:
            await guarded.close()
            stage.ledger.check()
            assert not stage.ledger.doubled()


@dataclass(slots=True)
class Road:
    """Everything a journey passes."""

    pool: Pool
    writer: Writer
    systems: dict[int, System]
    runners: list[Journeys] = field(default_factory=list)

    @property
    def issuer(self) -> System:
        """Where points are spent."""
        return self.systems[ISSUER]

    @property
    def acceptor(self) -> System:
        """Where points are given."""
        return self.systems[ACCEPTOR]

    async def runner(self, wire: Wire | None = None, **options: Any) -> Journeys:
        """One more worker, started."""
        wire = wire or Wire()
        store = DatabaseJourneys(self.pool)
        merchants = {
            number: replace(each.connected, system=wire.through(each.connected.system))
            for number, each in self.systems.items()
        }
        made = Journeys(
            store=wire.through(store),
            clearing=wire.through(cast("Clearing", self.writer)),
            merchants=merchants,
            now_us=now_us,
            random=random.Random(secrets.randbits(64)),
            **{"poll_seconds": 0.02} | options,
        )
        self.runners.append(made)
        await made.start()
        return made

    def wanted(self, *, seconds: float = 20.0, exchange: bool = True, **more: Any) -> Wanted:
        """An order of the till for points at the issuer; new points at the acceptor unless it is a redemption."""
        at_us = now_us()
        fields: dict[str, Any] = {
            "caller": TILL,
            "key": new_uuid7(secrets.randbits, time.time_ns).bytes,
            "body": next(_keys).to_bytes(16, "big"),
            "issuer": ISSUER,
            "acceptor": ACCEPTOR,
            "member_no": 7,
            "units": UNITS,
            "debit_cu": 1000,
            "value_cu": 1000,
            "fee_cu": 5,
            "rate_no": 1,
            "hold_us": 900_000_000,
            "credited_units": CREDITED if exchange else 0,
        }
        return Wanted(
            order=Order(**fields | more),
            issuer_member=MEMBER,
            acceptor_member=MEMBER if exchange else "",
            decide_by_us=at_us + round(seconds * 1_000_000),
            at_us=at_us,
        )

    async def journey(self, wanted: Wanted) -> Journey:
        """The journey as it is stored now."""
        [found] = await DatabaseJourneys(self.pool).find([(wanted.order.caller, wanted.order.key)])
        return found

    async def ended(self, wanted: Wanted, *, seconds: float = 30.0) -> Journey:
        """The journey once it has ended."""
        deadline = time.monotonic() + seconds
        while True:
            journey = await self.journey(wanted)
            if journey.state in ENDS:
                return journey
            assert time.monotonic() < deadline, journey
            await asyncio.sleep(0.01)

    async def until(self, wanted: Wanted, check: Callable[[Journey], bool]) -> Journey:
        """The journey once something holds of it."""
        async with asyncio.timeout(30):
            store, key = DatabaseJourneys(self.pool), (wanted.order.caller, wanted.order.key)
            while not (found := await store.find([key])) or not check(found[0]):
                await asyncio.sleep(0.005)
            return found[0]

    async def lines(self, wanted: Wanted) -> list[Line]:
        """All lines of a journey."""
        journey = await self.journey(wanted)
        async with self.pool.acquire() as conn:
            found = await fetch_lines(conn, journey_nos=[journey.journey_no])  # type: ignore[arg-type] # a pool's proxy of a connection is one
            return [line for _, line in found]

    async def end_in_books(self, journey: Journey) -> Kind | None:
        """How the order ended in the books; None if it did not."""
        kind = await self.pool.fetchval(
            """
            SELECT kind FROM settlement.event
             WHERE part = 1 AND order_seq = $1 AND kind IN (3, 4, 5) AND order_seq > 0
            """,
            journey.order_seq,
        )
        return None if kind is None else Kind(kind)

    async def check(self, wanted: Wanted, answer: Entry | None = None) -> Journey:
        """Compare the order's end in the journey, in the books, at both merchants, and at the till."""
        journey = await self.ended(wanted)
        exchange = wanted.order.credited_units > 0
        burns = self.issuer.folder.manifest.spend.way == "burn"
        kind = await self.end_in_books(journey)
        at_issuer, at_acceptor = self.issuer.moved(journey), self.acceptor.moved(journey)
        if journey.state is State.CLEARED:
            assert kind is Kind.CLEARED
            assert at_issuer == ([Step.HOLD] if burns else [Step.HOLD, Step.CAPTURE]), at_issuer
            assert at_acceptor == ([Step.CREDIT] if exchange else [])
            assert answer is None or journey.verdict is not Verdict.FORWARD or cleared(answer)
        else:
            assert kind in (Kind.VOIDED, Kind.EXPIRED, None), kind
            assert at_issuer in ([], [Step.HOLD, Step.RELEASE]), at_issuer
            assert at_acceptor in ([], [Step.CREDIT, Step.REVERSE_CREDIT]), at_acceptor
            assert (journey.state is State.REVERSED) == bool(at_acceptor)
            assert answer is None or not cleared(answer)
        assert journey.verdict is not Verdict.LATE or answer is None or not cleared(answer)
        return journey

    async def no_holds(self) -> None:
        """Nothing is held anywhere any more, and books and ledgers add up."""
        assert not self.issuer.ledger.open_holds()
        assert await self.pool.fetchval("SELECT count(*) FROM settlement.hold") == 0
        assert (
            await self.pool.fetchval("SELECT held_cu FROM settlement.account WHERE merchant_no = 1")
            == 0
        )


def cleared(answer: Entry) -> bool:
    """Whether a till was told that it may hand out the goods."""
    return answer.kind == Kind.CLEARED


@asynccontextmanager
async def road(
    dsn: str, *, issuer: dict[str, Any] | None = None, acceptor: dict[str, Any] | None = None
) -> AsyncIterator[Road]:
    """A writer with accounts for all, and two merchants' systems."""
    pool = await open_pool(dsn, size=6)
    async with pool.acquire() as conn:
        await open_ledger(conn)
    writer = Writer(connect=lambda: open_writer_connection(dsn), now_us=now_us)
    await writer.start()
    await close_cycle(writer, cycle_no=0, next_id="c1")
    await writer.submit(
        [
            Join(
                caller=HOUSE,
                key=number.to_bytes(16, "big"),
                body=bytes(16),
                merchant_no=number,
                cap_cu=10**9,
            )
            for number in (TILL, ISSUER, ACCEPTOR, OTHER)
        ]
    )
    async with AsyncExitStack() as stack:
        systems = {
            ISSUER: await stack.enter_async_context(system(**issuer or {})),
            ACCEPTOR: await stack.enter_async_context(system(**acceptor or {})),
        }
        made = Road(pool, writer, systems)
        try:
            yield made
        finally:
            for runner in made.runners:
                await runner.kill()
            await writer.stop()
            await pool.close()


class Wire:
    """Lies between a worker and all that it waits for, and goes dead at a given await.

    Every call through it passes two points: before it leaves, and after its answer came. At the point
    with the given number, and at all later ones, nothing comes back any more: so dies a process.
    """

    def __init__(self, dies_at: int = 0) -> None:
        self.points = 0
        self.dead = asyncio.Event()
        self._dies_at = dies_at

    async def pass_point(self) -> None:
        """Go on, unless this is where it dies."""
        self.points += 1
        if self.dead.is_set() or self.points == self._dies_at:
            self.dead.set()
            await asyncio.Future()

    def through(self, target: Any) -> Any:
        """The same object, reached over this wire."""
        return _Wired(self, target)


class _Wired:
    def __init__(self, wire: Wire, target: Adapter | object) -> None:
        self._wire = wire
        self._target = target

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        if name in {"renew", "enter", "take_over", "answers"}:
            return method

        async def call(*args: Any, **kwargs: Any) -> Receipt | object:
            await self._wire.pass_point()
            answer = await cast("Awaitable[object]", method(*args, **kwargs))
            await self._wire.pass_point()
            return answer

        return call
