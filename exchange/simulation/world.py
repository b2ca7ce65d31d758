"""One history: the real programs on the virtual loop, and everything that its plan does to them.

What is real: the order's life and its runner, the group commit of journeys, the guards, the adapters
and their protocols over aiohttp or raw connections, the merchants' simulators with their own books, the
link between workers and writer, and the books. What is virtual: time, the network, the two disks.

Each process is a host of its own: tills, workers, the writer, each merchant. A host that the plan kills
stops between two instructions; what replaces it finds what was durable.
"""

from __future__ import annotations

import asyncio
import functools
import random
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.contract import Outcome
from adapters.kit.figures import CallFigures
from adapters.kit.guard import Guarded
from adapters.kit.reference import reference_of
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import Fault, Rule, Scripted, Trouble
from adapters.kit.simulator.ledger import Booked, Ledger
from adapters.kit.simulator.stage import Stage
from exchange.core.journey import Line, Source, Wanted
from exchange.core.order import AT_ISSUER, WAITING
from exchange.programme.core.calls import BY_CALL
from exchange.programme.core.command import AnyCommand
from exchange.service.hosted import HostedAdapter
from exchange.service.journey_roads import Connected
from exchange.service.journeys import Journeys
from exchange.simulation import store
from exchange.simulation.checks import Checks, Party, told_by
from exchange.simulation.hosted import (
    HOSTED,
    HostedBooks,
    VirtualRecords,
    catalogue_of,
    hosted_folder,
    opening,
)
from exchange.simulation.loop import Host, Standstill, VirtualLoop
from exchange.simulation.network import Disturbance, Network
from exchange.simulation.pinning import pinned
from exchange.simulation.plan import (
    TILL,
    WORKERS,
    WRITER,
    Closure,
    Death,
    Misbehaviour,
    StoreAway,
    describe,
)
from exchange.simulation.trace import Trace
from exchange.simulation.writer import PART, Disk, VirtualWriter
from schemas.values.faults import Unavailable
from settlement.core.command import CloseCycle, Entry, Join, Order
from settlement.core.event import Kind
from settlement.service.link import LinkServer, RemoteClearing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from adapters.kit.contract import Receipt, Step
    from adapters.kit.folder import Folder
    from adapters.kit.simulator.faults import Occasion
    from adapters.kit.simulator.stage import Running
    from exchange.core.journey import Journey
    from exchange.simulation.plan import Part, Plan, Spend

START_US: Final = 1_772_000_000_000_000
"""The instant at which every history begins, in February 2026."""
SOCKET: Final = Path("/run/tongdui/writer.sock")
HOLD_US: Final = 600_000_000
FEE_BPS: Final = 50
RATES_CU: Final = (100, 37, 250)
"""What one unit of the first, second and third merchant is worth."""
LEASE_SECONDS: Final = 3.0
POLL_SECONDS: Final = 1.0
OVER_SECONDS: Final = 600.0
"""A history in which something is still in flight by then is at a loss; no hold may run out before."""
_ASK_AGAIN_SECONDS: Final = 0.25
_PAUSE_SECONDS: Final = 1.0
_PEOPLE_SECONDS: Final = 5.0
_LOOKED_INTO_US: Final = 15_000_000
"""How long people take: until then, what was on its way to the merchant has arrived."""
_NO_BODY: Final = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How a history went.

    Attributes:
        broken: What did not hold, in the order in which it was found; empty if all held.
        trace: What happened.
        wire: Checksum over every byte that the network carried, when and where, and how many.
        ends: How many orders ended in each way, by the name of the state.
        steps: After how many steps everything was checked.
        seconds: How much virtual time it took.
    """

    broken: tuple[str, ...]
    trace: Trace
    wire: str
    ends: dict[str, int]
    steps: int
    seconds: float

    def lines(self) -> list[str]:
        """The trace, with what the network carried and what was broken at its end."""
        return [*self.trace.lines(), self.wire, *(f"BROKEN {what}" for what in self.broken)]


@dataclass(slots=True, kw_only=True)
class _Merchant:
    """A merchant's machine: what survives the death of its process."""

    number: int
    folder: Folder
    ledger: Ledger | HostedBooks
    faults: _Closing
    now_us: Callable[[], int]
    host: Host
    running: Running | None = None
    port: int = 0


@dataclass(slots=True, kw_only=True)
class _Worker:
    """A worker's place, and who works there now."""

    name: str
    host: Host
    journeys: Journeys | None = None
    lives: int = 0


class _Closing:
    """A merchant's plan, with the times at which its system is closed."""

    def __init__(
        self, plan: Scripted, closures: Sequence[Closure], now_us: Callable[[], int]
    ) -> None:
        self._plan = plan
        self._closures = closures
        self._now_us = now_us

    def draw(self, occasion: Occasion) -> Trouble | None:
        """What goes wrong with an occasion."""
        now_us = self._now_us()
        if any(closure.from_us <= now_us < closure.to_us for closure in self._closures):
            return Trouble(fault=Fault.MAINTENANCE)
        return self._plan.draw(occasion)


class _WatchedLedger(Ledger):
    """A merchant's books that tell each booking to the checks, at the instant at which it happens."""

    watch: Callable[[Booked, bool], None]

    def book(self, step: Step, reference: str, member: str, units: int, of: str = "") -> Booked:
        """Book, and tell."""
        before = len(self._entries)
        booked = super().book(step, reference, member, units, of)
        self.watch(booked, len(self._entries) > before)
        return booked


class World:
    """Everything of one history."""

    def __init__(self, plan: Plan) -> None:
        """Set the scene; `run` plays it.

        Args:
            plan: What happens.
        """
        self._plan = plan
        self._loop = VirtualLoop()
        self._trace = Trace(self._loop)
        self._network = Network(
            self._loop,
            seed=f"tongdui {plan.seed}",
            troubles=[trial for trial in plan.trials if isinstance(trial, Disturbance)],
            note=self._trace.note,
        )
        self._disk = Disk()
        self._rows = store.Journeys(self._disk)
        self._aways = [trial for trial in plan.trials if isinstance(trial, StoreAway)]
        self._broken: list[str] = []
        self._figures = CallFigures()
        self._over = self._loop.create_future()
        self._fate = Host("fate")
        self._tills = Host(TILL)
        self._writer = Host(WRITER)
        self._writer_lives = 0
        self._workers = [_Worker(name=name, host=Host(name)) for name in WORKERS]
        self._merchants = [
            self._make_merchant(number, part) for number, part in enumerate(plan.parts, start=1)
        ]
        self._checks = Checks(
            disk=self._disk,
            journeys=self._rows,
            parties={
                merchant.number: Party(
                    code=merchant.folder.code,
                    ledger=merchant.ledger,
                    holds=merchant.folder.manifest.spend.way == "hold",
                )
                for merchant in self._merchants
            },
            broken=self._break,
        )

    def run(self) -> History:
        """Play the history to its end, or to the first thing that does not hold."""
        seed = f"tongdui {self._plan.seed}"
        with pinned(self._loop, seed=seed, start_us=START_US), self._trace.listening():
            try:
                self._loop.run_on(self._fate, self._live(), name="history")
            except Standstill as error:
                self._break(str(error))
            finally:
                seconds = self._loop.time()
                failures = self._loop.failures()
                self._trace.end()
                self._loop.end()
        self._broken += [f"nobody caught: {failure}" for failure in failures]
        network = self._network
        ends: dict[str, int] = {}
        for journey in self._rows.by_no.values():
            ends[journey.state.name] = ends.get(journey.state.name, 0) + 1
        return History(
            broken=tuple(self._broken),
            trace=self._trace,
            wire=(
                f"wire {network.checksum:08x} {network.deliveries} deliveries "
                f"{network.carried_bytes} bytes"
            ),
            ends=dict(sorted(ends.items())),
            steps=self._checks.steps,
            seconds=seconds,
        )

    def now_us(self) -> int:
        """Microseconds since 1970, virtual."""
        return START_US + self._loop.now_us

    # The course ---------------------------------------------------------------------------------

    async def _live(self) -> None:
        """Start everything, let the plan happen, and wait until it is over."""
        for merchant in self._merchants:
            await self._start_merchant(merchant)
        self._start_writer()
        await self._open_books()
        for worker in self._workers:
            self._start_worker(worker)
        for trial in self._plan.trials:
            self._trace.note(describe(trial))
            if isinstance(trial, Death):
                self._loop.start_on(self._fate, self._kill(trial), name="death")
        for spend in self._plan.orders:
            self._loop.start_on(self._tills, self._spend(spend), name=f"order {spend.no}")
        self._loop.start_on(self._tills, self._mend(), name="people")
        watch = asyncio.ensure_future(self._watch())
        await asyncio.wait({watch, self._over}, return_when=asyncio.FIRST_COMPLETED)
        watch.cancel()
        if not self._broken:
            self._checks.check_over()

    async def _watch(self) -> None:
        """Wait until everything has ended, faults included."""
        last_us = max(
            (_end_us(trial) for trial in self._plan.trials),
            default=0,
        )
        last_us = max([last_us, *(spend.at_us for spend in self._plan.orders)])
        await asyncio.sleep(last_us / 1e6 + 0.001)
        while not self._checks.over() and self._loop.time() < OVER_SECONDS:  # noqa: ASYNC110 - virtual time costs nothing
            await asyncio.sleep(_PAUSE_SECONDS)

    def _break(self, what: str) -> None:
        """Take what does not hold; the first ends the history."""
        self._broken.append(what)
        self._trace.note("BROKEN", what=what)
        if not self._over.done():
            self._over.set_result(None)

    # The merchants ------------------------------------------------------------------------------

    def _make_merchant(self, number: int, part: Part) -> _Merchant:
        code = part.code
        hosted = code == HOSTED
        folder = _played(hosted_folder(number) if hosted else _folder(code), part)
        ahead_us = part.ahead_us

        def now_us() -> int:
            return START_US + ahead_us + self._loop.now_us

        ledger: Ledger | HostedBooks
        if hosted:
            ledger = HostedBooks(number, self._disk.lots)
        else:
            ledger = _WatchedLedger(folder.manifest, now_us)
            ledger.watch = functools.partial(self._booked, code)
        rules = [
            Rule(
                trouble=Trouble(fault=trial.fault, seconds=trial.seconds),
                operation=trial.operation,
                nth=trial.nth,
                times=trial.times,
            )
            for trial in self._plan.trials
            if isinstance(trial, Misbehaviour) and trial.merchant == code
        ]
        closures = [
            trial
            for trial in self._plan.trials
            if isinstance(trial, Closure) and trial.merchant == code
        ]
        return _Merchant(
            number=number,
            folder=folder,
            ledger=ledger,
            faults=_Closing(Scripted(rules), closures, self._network.now_us),
            now_us=now_us,
            host=Host(code),
        )

    def _booked(self, code: str, booked: Booked, took_effect: bool) -> None:  # noqa: FBT001 - called by one line
        self._trace.note(
            "merchant.booked",
            merchant=code,
            step=booked.step.name,
            reference=booked.reference,
            moved=booked.moved if took_effect else 0,
            refused=booked.refused.code if booked.refused else "-",
        )
        self._checks.booked(booked, took_effect=took_effect)

    async def _start_merchant(self, merchant: _Merchant) -> None:
        """Start a merchant's system and wait until it listens; that of a hosted programme is the writer."""
        ledger = merchant.ledger
        if isinstance(ledger, HostedBooks):
            return
        listens = self._loop.create_future()

        async def serve() -> None:
            code = merchant.folder.code
            # Keys are drawn first: a system that starts again has those that it had.
            rng = self._rng(code)
            stage = Stage(
                ledger=ledger,
                plan=merchant.faults,
                now_us=merchant.now_us,
                random=rng,
                secrets=Secrets(environment={}),
                port=merchant.port,
            )
            try:
                async with registry.simulator(merchant.folder)(merchant.folder, stage) as running:
                    rng.seed(f"tongdui {self._plan.seed} {code} from {self._loop.time()}")
                    merchant.running = running
                    listens.set_result(None)
                    await self._loop.create_future()
            except Exception as error:
                if listens.done():
                    raise
                listens.set_exception(error)

        if not merchant.port:
            merchant.port = 7000 + merchant.number
        self._loop.start_on(merchant.host, serve(), name=merchant.folder.code)
        await listens

    # The books ----------------------------------------------------------------------------------

    def _start_writer(self) -> None:
        """Start a writer on what is on the disk."""
        self._writer_lives += 1

        async def write() -> None:
            writer = self._make_writer()
            server = LinkServer(writer, SOCKET, AnyCommand)
            await self._loop.create_unix_server(server.accept, str(SOCKET))
            await writer.run()

        self._loop.start_on(self._writer, write(), name=WRITER)

    def _make_writer(self) -> VirtualWriter:
        return VirtualWriter(
            self._disk,
            now_us=self.now_us,
            rng=self._rng(f"writer {self._writer_lives}"),
            flushed=self._flushed,
            catalogue=catalogue_of(merchant.number for merchant in self._hosted),
        )

    @property
    def _hosted(self) -> list[_Merchant]:
        return [each for each in self._merchants if isinstance(each.ledger, HostedBooks)]

    def _flushed(self, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.kind in BY_CALL:
                self._called(entry)
            elif entry.order_seq:
                self._trace.note(
                    "books.wrote",
                    order=self._checks.number_of(entry.order_seq),
                    order_seq=entry.order_seq,
                    kind=Kind(entry.kind).name,
                )
        self._checks.flushed(entries)

    def _called(self, entry: Entry) -> None:
        """A call on a hosted programme was committed."""
        for merchant in self._hosted:
            assert isinstance(merchant.ledger, HostedBooks)
            booked = merchant.ledger.take(self._disk.events[entry.seq - 1])
            if booked is not None:
                self._booked(HOSTED, booked, True)

    async def _open_books(self) -> None:
        """Give every merchant an account, and open the first cycle."""
        clearing = RemoteClearing(SOCKET)
        await clearing.start()
        joins = [
            Join(
                caller=0,
                key=number.to_bytes(16, "big"),
                body=_NO_BODY,
                merchant_no=number,
                cap_cu=part.cap_units * RATES_CU[number - 1],
            )
            for number, part in enumerate(self._plan.parts, start=1)
        ]
        first = CloseCycle(caller=0, key=b"\1" * 16, body=_NO_BODY, cycle_no=0, next_id="first")
        given = [
            accrual
            for merchant in self._hosted
            for accrual in opening(merchant.number, self.now_us())
        ]
        await clearing.submit([*joins, first, *given])
        await clearing.stop()

    # The workers --------------------------------------------------------------------------------

    def _start_worker(self, worker: _Worker) -> None:
        worker.lives += 1
        self._loop.start_on(worker.host, self._work(worker), name=worker.name)

    async def _work(self, worker: _Worker) -> None:
        """Be a worker: adapters of every merchant, and the runner of journeys."""
        rng = self._rng(f"{worker.name} {worker.lives}")
        clearing = RemoteClearing(SOCKET)
        await clearing.start()
        rows = store.VirtualStore(
            self._rows, rng=rng, away=self._store_away, changed=self._journey_moved
        )
        made: list[Journeys] = []

        async def answered(merchant_no: int, reference: str, receipt: Receipt) -> None:
            await made[0].answers_of(merchant_no)(reference, receipt)

        merchants = {}
        # Left only when the history is over: a worker that is killed closes nothing.
        async with AsyncExitStack() as over:
            for merchant in self._merchants:
                answers = functools.partial(answered, merchant.number)
                system = self._connect(merchant, clearing, rng, answers)
                over.push_async_callback(system.close)
                await system.start()
                manifest = merchant.folder.manifest
                merchants[merchant.number] = Connected(system=system, manifest=manifest)
            journeys = Journeys(
                store=rows,
                clearing=clearing,
                merchants=merchants,
                now_us=self.now_us,
                random=rng,
                lease_seconds=LEASE_SECONDS,
                poll_seconds=POLL_SECONDS,
            )
            made.append(journeys)
            while True:
                try:
                    await journeys.start()
                except Unavailable:
                    await asyncio.sleep(_PAUSE_SECONDS)
                else:
                    break
            worker.journeys = journeys
            await self._loop.create_future()

    def _connect(
        self,
        merchant: _Merchant,
        clearing: RemoteClearing,
        rng: random.Random,
        answered: Callable[[str, Receipt], Awaitable[None]],
    ) -> Guarded:
        """Build the adapter of a merchant, as a worker does, at its simulator's address."""
        if isinstance(merchant.ledger, HostedBooks):
            manifest = merchant.folder.manifest
            hosted = HostedAdapter(
                merchant.number,
                manifest,
                clearing=clearing,
                records=VirtualRecords(self._disk.lots, [merchant.ledger], self.now_us),
                now_us=self.now_us,
                random_bits=rng.getrandbits,
            )
            return Guarded(hosted, manifest, now_us=self.now_us, figures=self._figures)
        running = merchant.running
        assert running is not None
        folder = merchant.folder.with_settings(running.settings)
        context = Context(
            answers=answered,
            now_us=self.now_us,
            random=rng,
            secrets=Secrets(running.secrets, environment={}),
        )
        adapter = registry.build(folder, context)
        return Guarded(adapter, folder.manifest, now_us=self.now_us, figures=self._figures)

    def _store_away(self) -> bool:
        now_us = self._loop.now_us
        return any(trial.from_us <= now_us < trial.to_us for trial in self._aways)

    def _journey_moved(self, before: Journey, after: Journey) -> None:
        self._trace.note(
            "journey.moved",
            order=int.from_bytes(after.wanted.order.key[8:], "big"),
            journey_no=after.journey_no,
            state=after.state.name,
            verdict=after.verdict.name,
        )
        self._checks.moved(before, after)

    # The tills ----------------------------------------------------------------------------------

    async def _spend(self, spend: Spend) -> None:
        """Be a till: ask until somebody answers."""
        await asyncio.sleep(spend.at_us / 1e6)
        wanted = self._wanted(spend)
        if wanted is None:
            return
        self._checks.wants(spend.no, wanted)
        rng = self._rng(f"till {spend.no}")
        while True:
            worker = rng.choice(self._workers)
            try:
                entry = await self._ask(worker, wanted)
            except (Unavailable, OSError, TimeoutError) as error:
                self._trace.note("till.unheard", order=spend.no, why=type(error).__name__)
                await asyncio.sleep(_ASK_AGAIN_SECONDS * (1 + rng.random()))
                continue
            self._checks.hears(wanted, entry)
            self._trace.note("till.heard", order=spend.no, answer=told_by(entry))
            return

    async def _ask(self, worker: _Worker, wanted: Wanted) -> Entry:
        """Ask one worker, which may be dead or die.

        Raises:
            OSError: Nobody is there.
            TimeoutError: It did not answer.
            Unavailable: It could not decide.
        """
        journeys = worker.journeys
        if journeys is None or not worker.host.alive:
            raise ConnectionRefusedError(111, worker.name)
        answer: asyncio.Future[Entry] = self._loop.create_future()

        async def order() -> None:
            try:
                entry = await journeys.order(wanted)
            except Unavailable as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(entry)

        self._loop.start_on(worker.host, order(), name="order")
        async with asyncio.timeout(max(0.5, (wanted.decide_by_us - self.now_us()) / 1e6 + 0.5)):
            return await answer

    def _wanted(self, spend: Spend) -> Wanted | None:
        """Price what is wanted; None if it is worth nothing there."""
        issuer, acceptor = self._merchants[spend.issuer], self._merchants[spend.acceptor]
        debit_cu = spend.units * RATES_CU[spend.issuer]
        credited = debit_cu // RATES_CU[spend.acceptor] if spend.credits else 0
        value_cu = credited * RATES_CU[spend.acceptor] if credited else debit_cu
        at_us = self.now_us()
        issuer_member = _member(issuer.folder, spend.member)
        acceptor_member = _member(acceptor.folder, spend.member // 2) if credited else ""
        member_no = 1 + spend.member
        if issuer in self._hosted:
            member_no = int(issuer_member)
        elif credited and acceptor in self._hosted:
            member_no = int(acceptor_member)
        return Wanted(
            order=Order(
                caller=acceptor.number,
                key=uuid.UUID(int=self._plan.seed << 64 | spend.no).bytes,
                body=_NO_BODY,
                issuer=issuer.number,
                acceptor=acceptor.number,
                member_no=member_no,
                units=spend.units,
                debit_cu=debit_cu,
                value_cu=value_cu,
                fee_cu=value_cu * FEE_BPS // 10_000,
                rate_no=issuer.number,
                hold_us=HOLD_US,
                credited_units=credited,
                reference=f"order {spend.no}",
            ),
            issuer_member=issuer_member,
            acceptor_member=acceptor_member,
            decide_by_us=at_us + spend.decide_us,
            at_us=at_us,
        )

    # People -------------------------------------------------------------------------------------

    async def _mend(self) -> None:
        """Be the people who are asked about wrong amounts: look into the merchant's books, and say so."""
        said: set[tuple[int, Step]] = set()
        while True:
            await asyncio.sleep(_PEOPLE_SECONDS)
            for journey_no in list(self._rows.open):
                journey = self._rows.by_no[journey_no]
                step = WAITING.get(journey.state)
                if (
                    step is None
                    or (journey_no, step) in said
                    or not journey.stuck_why.startswith(f"{step.name} moved ")
                    or self.now_us() - journey.stuck_since_us < _LOOKED_INTO_US
                ):
                    continue
                said.add((journey_no, step))
                self._resolve(journey, step)

    def _resolve(self, journey: Journey, step: Step) -> None:
        order_uuid = journey.order_id(PART)
        assert order_uuid is not None
        order = journey.wanted.order
        merchant = self._merchants[(order.issuer if step in AT_ISSUER else order.acceptor) - 1]
        reference = reference_of(order_uuid, step)
        booked = any(entry.reference == reference for entry in merchant.ledger.entries)
        outcome = Outcome.DONE if booked else Outcome.REFUSED
        self._trace.note(
            "people.resolved", journey_no=journey.journey_no, step=step.name, outcome=outcome.value
        )
        line = Line(step=step, source=Source.PEOPLE, at_us=self.now_us(), outcome=outcome)
        self._rows.resolve(journey.journey_no, line)

    # Fate ---------------------------------------------------------------------------------------

    async def _kill(self, death: Death) -> None:
        """Kill or freeze a host at its time, and have it go on after a while."""
        await asyncio.sleep(death.at_us / 1e6)
        host = self._host(death.host)
        if not host.alive:
            return
        if death.frozen:
            self._trace.note("host.frozen", which=death.host)
            self._loop.freeze(host)
            await asyncio.sleep(death.down_us / 1e6)
            self._trace.note("host.thawed", which=death.host)
            self._loop.thaw(host)
            return
        self._trace.note("host.killed", which=death.host)
        self._loop.kill(host)
        self._network.hang_up(host)
        await asyncio.sleep(death.down_us / 1e6)
        self._trace.note("host.started", which=death.host)
        await self._restart(death.host)

    def _host(self, name: str) -> Host:
        hosts = [self._writer]
        hosts += [worker.host for worker in self._workers]
        hosts += [merchant.host for merchant in self._merchants]
        return next(host for host in hosts if host.name == name)

    async def _restart(self, name: str) -> None:
        """Put a new process where a dead one was."""
        if name == WRITER:
            self._writer = Host(WRITER)
            self._start_writer()
        for worker in self._workers:
            if worker.name == name:
                worker.host = Host(name)
                worker.journeys = None
                self._start_worker(worker)
        for merchant in self._merchants:
            if merchant.folder.code == name:
                merchant.host = Host(name)
                await self._start_merchant(merchant)

    def _rng(self, what: str) -> random.Random:
        """Make the generator of one thing that draws on its way."""
        return random.Random(f"tongdui {self._plan.seed} {what}")  # noqa: S311 - repeatable is the point


@cache
def _folder(code: str) -> Folder:
    """A merchant's folder, read once for all histories."""
    return registry.find(code)


def _played(folder: Folder, part: Part) -> Folder:
    """A merchant's folder with what its system is like this time: never able to do more than it can."""
    manifest = folder.manifest
    change = msgspec.structs.replace
    return replace(
        folder,
        manifest=change(
            manifest,
            spend=change(manifest.spend, way="burn" if part.burns else manifest.spend.way),
            credit=change(
                manifest.credit, reversible=part.reversible and manifest.credit.reversible
            ),
            status=change(
                manifest.status,
                way=manifest.status.way if part.tells else "none",
                repeat_safe=part.repeat_safe,
            ),
            answers=change(
                manifest.answers, way="callback" if part.calls_back else manifest.answers.way
            ),
        ),
    )


def _member(folder: Folder, pick: int) -> str:
    """A test member; two out of three times the one with the most points."""
    members = folder.manifest.sandbox.members
    if pick % 3:
        return max(members, key=lambda member: members[member])
    return list(members)[pick // 3 % len(members)]


def _end_us(trial: object) -> int:
    """When a fault is over; one that waits for its occasion may come at any time."""
    if isinstance(trial, Death):
        return trial.at_us + trial.down_us
    return trial.to_us if isinstance(trial, Disturbance | StoreAway | Closure) else 0
