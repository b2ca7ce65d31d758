"""Hosted programmes on trial: the clauses of the contract, on a real writer and PostgreSQL.

A hosted programme has no simulator, because it is here. What a clause wants to go wrong befalls the way
between the adapter and the writer, and the truth is read from the journal and the lots after each call.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import itertools
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast
from zoneinfo import ZoneInfo

import msgspec

from adapters.kit.conformance.examination import examine
from adapters.kit.conformance.trial import Counted, Trial
from adapters.kit.contract import Step
from adapters.kit.folder import Folder
from adapters.kit.manifest import Sandbox
from adapters.kit.simulator.faults import CONNECT, Fault, Occasion
from adapters.kit.simulator.ledger import Booked
from exchange.core.catalogue import Programme
from exchange.programme.core.command import Accrual, Credit, FindCall, GiveBack, Take, TakeBack
from exchange.programme.store.calls import fetch_left
from exchange.service.hosted import PROTOCOL, STEPS, HostedAdapter, manifest_of
from exchange.service.hosted_database import DatabaseRecords
from exchange.service.onboarding import MerchantTerms, register_merchant
from exchange.store.members import SealedName, insert_members
from schemas.values.faults import Unavailable
from schemas.values.ids import HOUSE, new_uuid7
from schemas.values.rate import Rate
from schemas.values.reason import Reason
from settlement.core.command import unstored_refusal
from settlement.core.trail import PROGRAM
from settlement.service.clearing import PART

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable, Sequence

    from asyncpg import Pool

    from adapters.kit.conformance.examination import Finding
    from adapters.kit.simulator.ledger import Ledger
    from exchange.service.hosted import Records
    from settlement.core.columns import EntryColumns, OrderColumns
    from settlement.core.command import Answer, Command
    from settlement.core.event import Kind
    from settlement.service.clearing import Clearing

EXEMPT: Final = frozenset({"member.authenticated"})
"""Members of hosted programmes are members here: none links an account, so none is authenticated."""
RICH: Final = 40_000_000
POOR: Final = 120
"""Smallest units of the two members of each trial."""
FIRST_MEMBER: Final = 7_000_000_000_000
_NEVER_SECONDS: Final = 60.0
_OPERATIONS: Final = {
    Take: "hold",
    GiveBack: "release",
    Credit: "credit",
    TakeBack: "reverse_credit",
    FindCall: "status",
}
_LOST: Final = frozenset({Fault.CUT, Fault.TRUNCATED, Fault.GARBAGE})
_SLOW: Final = frozenset({Fault.TIMEOUT_AFTER, Fault.SLOW_BODY})


class Truth:
    """What the journal and the lots say of one programme, as of the last call; a ledger to the clauses."""

    def __init__(
        self,
        pool: Pool,
        records: Records,
        *,
        merchant_no: int,
        opened: dict[str, int],
        now_us: Callable[[], int],
    ) -> None:
        """Begin with what the members were given."""
        self._pool = pool
        self._records = records
        self._merchant_no = merchant_no
        self._opened = opened
        self._left = dict(opened)
        self._entries: dict[str, Booked] = {}
        self.now_us = now_us

    async def read(self) -> None:
        """Read it anew."""
        every = self._records.moved(merchant_no=self._merchant_no, from_us=0, until_us=1 << 62)
        async for kind, seq, member_no, units, reference, at_us in every:
            self._entries[str(seq)] = Booked(
                reference=reference,
                step=STEPS[kind],
                member=str(member_no),
                units=units,
                of="",
                at_us=at_us,
                number=str(seq),
                moved=units,
            )
        left = await fetch_left(self._pool, part=PART, merchant_no=self._merchant_no)
        self._left = {str(member_no): units for member_no, units in left.items()}

    @property
    def entries(self) -> list[Booked]:
        """Every call that moved points, in the order booked."""
        return list(self._entries.values())

    def available(self, member: str) -> int | None:
        """What a member could spend; None for nobody."""
        return self._left.get(member)

    def day(self, day: dt.date) -> list[Booked]:
        """Everything that moved points on one day of the programme's calendar."""
        zone = ZoneInfo("Asia/Shanghai")
        return [
            entry
            for entry in self.entries
            if dt.datetime.fromtimestamp(entry.at_us / 1_000_000, zone).date() == day
        ]

    def doubled(self) -> set[str]:
        """References whose call moved points more than once."""
        times = Counter(entry.reference for entry in self.entries)
        return {reference for reference, count in times.items() if count > 1}

    def check(self) -> None:
        """Compare every member's lots with what the calls moved.

        Raises:
            AssertionError: They differ.
        """
        should = Counter(self._opened)
        for entry in self.entries:
            gives = entry.step in (Step.RELEASE, Step.CREDIT)
            should[entry.member] += entry.moved if gives else -entry.moved
        if dict(should) != self._left:
            raise AssertionError(f"the lots do not add up: {dict(should)} against {self._left}")


class BadLine:
    """The way to the writer, on which things go wrong as a clause wants it; a `Clearing`."""

    def __init__(self, clearing: Clearing, plan: Counted, truth: Truth) -> None:
        """Lead to a writer."""
        self._clearing = clearing
        self._plan = plan
        self._truth = truth
        self._forgotten: set[bytes] = set()

    async def submit(self, commands: Sequence[Command]) -> list[Answer]:
        """Take one command there and its answer back, unless something befalls it.

        Raises:
            Unavailable: As a link to a writer would, when the connection is lost or there is none.
        """
        [command] = commands
        if self._plan.draw(Occasion(operation=CONNECT)):
            raise Unavailable("there is no connection")
        reference = "" if isinstance(command, FindCall) else getattr(command, "reference", "")
        operation = _OPERATIONS[type(command)]
        trouble = self._plan.draw(Occasion(operation=operation, reference=reference))
        fault = trouble.fault if trouble else None
        if fault is Fault.MAINTENANCE:
            raise Unavailable("the writer is stopping")
        if fault is Fault.TIMEOUT_BEFORE:
            await asyncio.sleep(_NEVER_SECONDS)
        if isinstance(command, FindCall) and command.of_key in self._forgotten:
            return [[unstored_refusal(Reason.CALL_NOT_FOUND)]]
        answers = await self._clearing.submit(commands)
        await self._truth.read()
        if fault in _SLOW:
            await asyncio.sleep(_NEVER_SECONDS)
        if fault in _LOST:
            raise Unavailable("the connection was lost")
        if fault is Fault.FORGET:
            self._forgotten.add(command.key)
        if fault is Fault.WRONG_AMOUNT:
            [[entry]] = answers
            return [[msgspec.structs.replace(entry, units=entry.units + 1)]]
        return answers

    async def submit_columns(self, orders: OrderColumns) -> EntryColumns:
        """Take orders there; no adapter sends any."""
        return await self._clearing.submit_columns(orders)


class BadRecords:
    """Records whose statement ends as a clause wants it."""

    def __init__(self, records: Records, plan: Counted) -> None:
        """Read through others."""
        self._records = records
        self._plan = plan
        self.is_member = records.is_member
        self.live_units = records.live_units

    async def moved(
        self, *, merchant_no: int, from_us: int, until_us: int
    ) -> AsyncIterator[tuple[Kind, int, int, int, str, int]]:
        """Break off after the first line, or stand still there.

        Raises:
            Unavailable: As a database that goes away would.
        """
        trouble = self._plan.draw(Occasion(operation="statement"))
        lines = self._records.moved(merchant_no=merchant_no, from_us=from_us, until_us=until_us)
        async for each in lines:
            yield each
            if trouble and trouble.fault in _LOST:
                raise Unavailable("the database went away")
            if trouble:
                await asyncio.sleep(_NEVER_SECONDS)


class Proving:
    """A ledger in which hosted programmes are tried: each trial has a programme and two members of its own."""

    def __init__(
        self, pool: Pool, clearing: Clearing, *, now_us: Callable[[], int], random: random.Random
    ) -> None:
        """Take a ledger that serves for nothing else.

        Args:
            pool: Its database.
            clearing: Its writer.
            now_us: The writer's clock.
            random: Draws keys.
        """
        self._pool = pool
        self._clearing = clearing
        self._now_us = now_us
        self._random = random
        self._numbers = itertools.count(1)

    async def examine(
        self, *, only: Sequence[str] = (), done: Callable[[], None] | None = None
    ) -> list[Finding]:
        """Try every clause; see `adapters.kit.conformance.examination.examine`."""
        example = Programme(
            merchant_no=0, code=PROTOCOL, name="Hosted programme", hosted=True, unit="point", scale=0,
            earn_num=1, earn_den=100, valid_days=365, units_min=1, units_max=1,
        )  # fmt: skip
        return await examine(
            hosted_folder(example, {}), only=only, done=done, world=self.trial, exempt=EXEMPT
        )

    @asynccontextmanager
    async def trial(self) -> AsyncIterator[Trial]:
        """A new programme, and the adapter to it."""
        number = next(self._numbers)
        members = {str(FIRST_MEMBER + 2 * number): RICH, str(FIRST_MEMBER + 2 * number + 1): POOR}
        programme = await self._found(f"hosted-{number}", members)
        folder = hosted_folder(programme, members)
        plan = Counted()
        records = DatabaseRecords(self._pool, now_us=self._now_us)
        truth = Truth(
            self._pool,
            records,
            merchant_no=programme.merchant_no,
            opened=members,
            now_us=self._now_us,
        )
        adapter = HostedAdapter(
            programme.merchant_no,
            folder.manifest,
            clearing=BadLine(self._clearing, plan, truth),
            records=BadRecords(records, plan),
            now_us=self._now_us,
            random_bits=self._random.getrandbits,
        )
        await adapter.start()
        yield Trial(
            folder=folder, adapter=adapter, plan=plan, books=cast("Ledger", truth), secrets={}
        )
        await adapter.close()

    async def _found(self, code: str, members: dict[str, int]) -> Programme:
        """Register a programme, enrol its members, and give them their points."""
        now = dt.datetime.fromtimestamp(self._now_us() / 1_000_000, dt.UTC)
        rate = Rate(num=100, den=1)
        terms = MerchantTerms(
            code=code, name=code, hosted=True, unit="point", scale=0, spend=rate, issue=rate,
            earn=(1, 100), valid_days=365, cap_cu=0,
        )  # fmt: skip
        merchant_no = await register_merchant(
            self._pool, self._clearing, terms, now=now, effective_at=now, by=PROGRAM
        )
        assert isinstance(merchant_no, int)
        await insert_members(
            self._pool,
            names=[
                SealedName(
                    digest=hashlib.sha256(f"{code} {member}".encode()).digest(),
                    member_no=int(member),
                    scope=HOUSE,
                    sealed=b"",
                    wrapped=b"",
                )
                for member in members
            ],
            now=now,
        )
        await self._clearing.submit(
            [
                Accrual(
                    caller=HOUSE,
                    key=new_uuid7(self._random.getrandbits, lambda: self._now_us() * 1_000).bytes,
                    body=bytes(16),
                    member_no=int(member),
                    merchant_no=merchant_no,
                    units=units,
                )
                for member, units in members.items()
            ]
        )
        return Programme(
            merchant_no=merchant_no, code=code, name=code, hosted=True, unit="point", scale=0,
            earn_num=1, earn_den=100, valid_days=365, units_min=1, units_max=1,
        )  # fmt: skip


def hosted_folder(programme: Programme, members: dict[str, int]) -> Folder:
    """What a hosted programme can do, with its test members; there are no files."""
    manifest = msgspec.structs.replace(manifest_of(programme), sandbox=Sandbox(members=members))
    return Folder(path=Path(PROTOCOL), manifest=manifest)
