"""The replay: a file of real purchases through the same writer, books and packages as the gateway's.

A week (Monday 00:00 UTC) is a cycle. The whole of a week is read and checked before anything of it is
booked; while the writer works on it, the next one is read.

Every line is a command whose key holds the line's number, so a replay that was stopped goes on behind the
last line that is in the journal. That line is read after every earlier writer was fenced out, so nothing
behind it can be booked: its keys are new, and say so by their time (UUIDv7), which spares the writer looking
each of them up.

Source: settlement/RULES.md, rules L2 to L4.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any

import msgspec

from exchange.programme.core.command import Purchase
from exchange.programme.service.rider import ProgrammeRider
from exchange.programme.service.totals import count_lots
from exchange.service.members import Members
from exchange.service.onboarding import MerchantTerms, register_merchants, set_tariff
from exchange.service.shelf import Shelf
from exchange.service.vaults import VaultDoor
from schemas.files.programmes import parse_programmes
from schemas.files.purchases import parse_purchases
from schemas.values.faults import Unavailable
from schemas.values.ids import HOUSE, HOUSE_CODES
from schemas.values.rate import Rate
from schemas.values.reason import Reason, Refusal
from settlement.core.trail import PROGRAM
from settlement.service import cycles, ledger, parties
from settlement.service.clearing import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
    from pathlib import Path

    from asyncpg import Connection, Pool

    from schemas.files.programmes import ProgrammeFile, ProgrammeTerms
    from schemas.files.purchases import PurchaseLine
    from settlement.service.clearing import Clearing

CHUNK_LINES = 2_000
UNDER_WAY_MAX = 9
"""Chunks and turns of a cycle that may wait for the writer: so many lines ahead of the disk is enough."""
READ_LINES = 500
"""Lines that are read before the writer's loop turns again."""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySummary:
    """What came out; amounts in CU.

    Attributes:
        orders: Orders cleared.
        refused: Orders refused for a net debit cap.
        lots: Lots made.
        gross_cu: Sum of the issuers' debits.
        net_cu: Sum of positive positions over all cycles, the house's included.
        unfunded_cu: Discounts that no points paid.
        cycles: Cycles with a figure.
        seconds: How long this run took.
    """

    orders: int
    refused: int
    lots: int
    gross_cu: int
    net_cu: int
    unfunded_cu: int
    cycles: int
    seconds: float


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


async def replay(
    *,
    pool: Pool,
    connect: Callable[[], Awaitable[Connection]],
    keys: Path,
    purchases: Path,
    programmes: Path,
    out: Path,
    packages_stand: Callable[[], Awaitable[None]],
    progress: Callable[[int], None] = lambda _: None,
) -> ReplaySummary:
    """Replay a file of purchases into a ledger of its own, and write positions and a summary.

    Packages are cut beside it by a packager, as they are beside a gateway.

    Args:
        pool: Connections to the replay's own migrated database.
        connect: Opens the writer's connections to it.
        keys: Folder of the master key, where none is named.
        purchases: `occurred_at,member,merchant,amount_fen,discount_fen`.
        programmes: The programmes file (TOML).
        out: Folder for `positions.csv` and `summary.json`.
        packages_stand: Awaited when everything is booked: waits until every package stands.
        progress: Called with the number of lines that were handled since the last call.

    Raises:
        SchemaError: A line or the programmes file is malformed; nothing of that line's cycle is booked.
    """
    began = monotonic()
    terms, digest = await asyncio.to_thread(_read_inputs, purchases, programmes, out)
    async with _writer(pool, connect) as writer:
        await register_programmes(pool, writer, terms)
        members = Members(pool, VaultDoor(pool, keys), Shelf(pool), lambda: datetime.now(UTC))
        await _Run(
            pool=pool, writer=writer, members=members, digest=digest, progress=progress
        ).feed(purchases)
    await packages_stand()
    summary = await _summarise(pool, out, began)
    (out / "summary.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(asdict(summary))) + b"\n"
    )
    return summary


def _read_inputs(purchases: Path, programmes: Path, out: Path) -> tuple[ProgrammeFile, bytes]:
    """Read what the replay stands on, and make its folder."""
    out.mkdir(parents=True, exist_ok=True)
    return parse_programmes(programmes.read_text(encoding="utf-8")), file_digest(purchases)


@asynccontextmanager
async def _writer(
    pool: Pool, connect: Callable[[], Awaitable[Connection]]
) -> AsyncIterator[Writer]:
    async with pool.acquire() as conn:
        await ledger.open_ledger(conn, caller_clock=True)
    writer = Writer(connect=connect, now_us=lambda: time_ns() // 1000, rider=ProgrammeRider())
    await writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


async def register_programmes(pool: Pool, clearing: Clearing, terms: ProgrammeFile) -> None:
    """Register the merchants of a programmes file, with rates in force since ever; a second time changes nothing."""
    now = datetime.now(UTC)
    await set_tariff(pool, fee_bps=terms.house.fee_bps, by=PROGRAM, now=now, effective_at=_LONG_AGO)
    for outcome in await register_merchants(
        pool,
        clearing,
        [_terms(programme) for programme in terms.programme],
        by=PROGRAM,
        now=now,
        effective_at=_LONG_AGO,
    ):
        if not (isinstance(outcome, Refusal) and outcome.reason is Reason.MERCHANT_EXISTS):
            _insist(outcome)


def _terms(programme: ProgrammeTerms) -> MerchantTerms:
    """What a merchant of the file joins with; its points are issued at the rate at which they are spent."""
    rate = Rate(num=programme.value_num, den=programme.value_den)
    return MerchantTerms(
        code=programme.code,
        name=programme.name or programme.code,
        hosted=programme.hosted,
        unit=programme.unit,
        scale=programme.scale,
        spend=rate,
        issue=rate,
        earn=(programme.earn_num, programme.earn_den),
        valid_days=programme.valid_days,
        cap_cu=programme.cap_cu,
    )


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run over the file.

    Attributes:
        pool: Connections to the replay's own database.
        writer: The books; every other writer was fenced out.
        members: Who is enrolled.
        digest: SHA-256 of the file.
        progress: Told how many lines were handled.
        cycle_no: The cycle that is open once everything that was sent is decided.
        under_way: What was sent and is not answered, in order.
    """

    pool: Pool
    writer: Writer
    members: Members
    digest: bytes
    progress: Callable[[int], None]
    cycle_no: int = 0
    under_way: deque[asyncio.Task[None]] = field(default_factory=deque)

    async def feed(self, purchases: Path) -> None:
        """Book what is not booked yet, week by week, and close each week's cycle."""
        merchants = {
            row["code"]: row["merchant_no"] for row in await parties.list_parties(self.pool)
        }
        key = await ledger.last_line_key(self.pool)
        booked_line = line_of_key(key) if key else 0
        known = set()
        for row in await cycles.list_cycles(self.pool):
            known.add(row["cycle_id"])
            if row["state"] == "closed":
                _insist(await cycles.settle_cycle(self.writer, cycle_no=row["cycle_no"]))
        self.cycle_no = self.writer.open_cycle
        week = ""
        try:
            with purchases.open(encoding="utf-8", newline="") as file:
                async for week, lines in _weeks(parse_purchases(file)):
                    if week not in known:
                        await self._turn_to(week)
                    fresh = [
                        line
                        for line in lines
                        if line.line_no > booked_line and line.merchant in merchants
                    ]
                    self.progress(len(lines) - len(fresh))
                    await self._book(
                        fresh, merchants, await self.members.enrol({line.member for line in fresh})
                    )
            if week:
                after = datetime.fromisoformat(week) + timedelta(days=7)
                if (last := after.strftime("%Y-%m-%d")) not in known:
                    await self._turn_to(last)
            while self.under_way:
                await self.under_way.popleft()
        finally:
            await asyncio.gather(*self.under_way, return_exceptions=True)

    async def _book(
        self, lines: list[PurchaseLine], merchants: dict[str, int], members: dict[str, int]
    ) -> None:
        """Send one week's lines in order."""
        for start in range(0, len(lines), CHUNK_LINES):
            head = line_key_head(self.digest, time_ns() // 1_000_000)
            await self._send(
                self._submit(
                    [
                        Purchase(
                            HOUSE,
                            head + line.line_no.to_bytes(7, "big"),
                            _NO_BODY,
                            members[line.member],
                            merchants[line.merchant],
                            line.amount_fen,
                            line.discount_fen,
                            line.occurred_at_us,
                        )
                        for line in lines[start : start + CHUNK_LINES]
                    ],
                    self.cycle_no,
                )
            )

    async def _submit(self, commands: list[Purchase], cycle_no: int) -> None:
        """Have purchases decided, and see that they stand in their own cycle."""
        answers = await self.writer.submit(commands)
        for answer in (answers[0], answers[-1]):
            if answer[-1].seq and answer[-1].cycle_no != cycle_no:
                raise Unavailable("the replay's ledger has another cycle open: it has another user")
        self.progress(len(commands))

    async def _turn_to(self, week: str) -> None:
        """Close the open cycle, open `week`'s, and count the closed one as settled at once."""
        monday = datetime.fromisoformat(week).replace(tzinfo=UTC)
        await self._send(self._turn(week, int(monday.timestamp()) * 1_000_000, self.cycle_no))
        self.cycle_no += 1

    async def _turn(self, week: str, at_us: int, cycle_no: int) -> None:
        _insist(await cycles.turn_cycle(self.writer, cycle_no=cycle_no, next_id=week, at_us=at_us))

    async def _send(self, submission: Coroutine[Any, Any, None]) -> None:
        """Put something into the writer's queue, and wait while too much is under way."""
        self.under_way.append(asyncio.create_task(submission))
        await asyncio.sleep(0)  # the task puts it into the queue, behind all that was sent before
        while len(self.under_way) >= UNDER_WAY_MAX:
            await self.under_way.popleft()


_NO_BODY = bytes(16)


def line_key_head(digest: bytes, at_ms: int) -> bytes:
    """First nine bytes of the keys of lines that are sent at an instant; the line's number follows in seven.

    A UUIDv7 (RFC 9562 §5.7) whose `rand_a` is the beginning of the file's digest.

    Args:
        digest: SHA-256 of the file.
        at_ms: Milliseconds since 1970.
    """
    return at_ms.to_bytes(6, "big") + bytes((0x70 | digest[0] >> 4, digest[1], 0x80))


def line_of_key(key: bytes) -> int:
    """Number of the line that a key names."""
    return int.from_bytes(key[9:], "big")


def _insist(outcome: object) -> None:
    """Stop the replay if the books refused what must succeed: its ledger has another user, or a fault.

    Raises:
        Unavailable: The refusal, in its words.
    """
    match outcome:
        case Refusal(detail=detail):
            raise Unavailable(f"the replay's ledger refuses to go on: {detail}")


async def _weeks(lines: Iterator[PurchaseLine]) -> AsyncIterator[tuple[str, list[PurchaseLine]]]:
    """Whole weeks, each read to its end before it is given out; the writer's loop turns meanwhile."""
    for week, group in itertools.groupby(lines, key=attrgetter("week")):
        read: list[PurchaseLine] = []
        while some := list(itertools.islice(group, READ_LINES)):
            read += some
            await asyncio.sleep(0)
        yield week, read


async def _summarise(pool: Pool, out: Path, began: float) -> ReplaySummary:
    """Write `positions.csv` and add the figures up."""
    codes = {
        row["merchant_no"]: row["code"] for row in await parties.list_parties(pool)
    } | HOUSE_CODES
    rows: list[tuple[str, str, int]] = []
    for cycle in await cycles.list_cycles(pool):
        rows += [
            (cycle["cycle_id"], codes[row["merchant_no"]], row["net_cu"])
            for row in await cycles.list_positions(pool, cycle_no=cycle["cycle_no"])
        ]
    rows.sort()
    lines = [f"{cycle},{party},{net_cu}\n" for cycle, party, net_cu in rows]
    (out / "positions.csv").write_text("cycle,party,net_cu\n" + "".join(lines), encoding="utf-8")
    totals = await ledger.ledger_totals(pool)
    return ReplaySummary(
        orders=totals["orders"],
        refused=totals["refused"],
        lots=await count_lots(pool),
        gross_cu=totals["gross_cu"],
        net_cu=sum(net_cu for _, _, net_cu in rows if net_cu > 0),
        unfunded_cu=totals["unfunded_cu"],
        cycles=len({cycle for cycle, _, _ in rows}),
        seconds=round(monotonic() - began, 3),
    )
