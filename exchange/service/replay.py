"""The replay: a file of real purchases through the same writer, books and packages as the gateway's.

A week (Monday 00:00 UTC) is a cycle. The whole of a week is read and checked before anything of it is
booked. Every line is a command under a key made of the file's digest and the line's number, so a replay
that was stopped goes on behind the last line that is in the journal.

Source: settlement/RULES.md, rules L2 to L4.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic, time_ns
from typing import TYPE_CHECKING

import msgspec

from exchange.programme.core.command import Purchase
from exchange.programme.service.rider import ProgrammeRider
from exchange.programme.service.totals import count_lots
from exchange.service.members import Members
from exchange.service.onboarding import MerchantTerms, register_merchant
from exchange.store.programmes import insert_tariff
from schemas.files.programmes import parse_programmes
from schemas.files.purchases import parse_purchases
from schemas.values.faults import Unavailable
from schemas.values.ids import HOUSE, HOUSE_CODES
from schemas.values.rate import Rate
from schemas.values.reason import Reason, Refusal
from settlement.service import cycles, ledger, parties
from settlement.service.clearing import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from asyncpg import Connection, Pool

    from schemas.files.programmes import ProgrammeFile
    from schemas.files.purchases import PurchaseLine
    from settlement.service.clearing import Clearing

CHUNK_LINES = 4_000
CHUNKS_IN_FLIGHT = 3
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
        await _Run(pool=pool, writer=writer, digest=digest, progress=progress).feed(purchases)
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
    async with pool.acquire() as conn:
        await insert_tariff(conn, fee_bps=terms.house.fee_bps, effective_at=_LONG_AGO)
    for programme in terms.programme:
        rate = Rate(num=programme.value_num, den=programme.value_den)
        outcome = await register_merchant(
            pool,
            clearing,
            MerchantTerms(
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
            ),
            now=datetime.now(UTC),
            effective_at=_LONG_AGO,
        )
        if not (isinstance(outcome, Refusal) and outcome.reason is Reason.MERCHANT_EXISTS):
            _insist(outcome)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run over the file."""

    pool: Pool
    writer: Writer
    digest: bytes
    progress: Callable[[int], None]

    async def feed(self, purchases: Path) -> None:
        """Book what is not booked yet, week by week, and close each week's cycle."""
        merchants = {
            row["code"]: row["merchant_no"] for row in await parties.list_parties(self.pool)
        }
        members = Members(self.pool, lambda: datetime.now(UTC))
        key = await ledger.last_accrual_key(self.pool)
        booked_line = int.from_bytes(key[9:], "big") if key else 0
        week = ""
        with purchases.open(encoding="utf-8", newline="") as file:
            for week, lines in _weeks(parse_purchases(file)):
                await self._turn_to(week)
                fresh = [
                    line
                    for line in lines
                    if line.line_no > booked_line and line.merchant in merchants
                ]
                self.progress(len(lines) - len(fresh))
                await self._book(
                    fresh, merchants, await members.enrol({line.member for line in fresh})
                )
        if week:
            monday = datetime.fromisoformat(week) + timedelta(days=7)
            await self._turn_to(monday.strftime("%Y-%m-%d"))

    async def _book(
        self, lines: list[PurchaseLine], merchants: dict[str, int], members: dict[str, int]
    ) -> None:
        """Send one week's lines in order, a few chunks ahead of the disk."""
        under_way: list[asyncio.Task[object]] = []
        try:
            for chunk in _chunks(lines):
                commands = [
                    Purchase(
                        caller=HOUSE,
                        key=self._key(line.line_no),
                        body=_NO_BODY,
                        member_no=members[line.member],
                        merchant_no=merchants[line.merchant],
                        amount_fen=line.amount_fen,
                        discount_fen=line.discount_fen,
                        occurred_at_us=line.occurred_at_us,
                    )
                    for line in chunk
                ]
                under_way.append(asyncio.create_task(self.writer.submit(commands)))
                await asyncio.sleep(0)
                if len(under_way) >= CHUNKS_IN_FLIGHT:
                    await under_way.pop(0)
                self.progress(len(chunk))
        finally:
            await asyncio.gather(*under_way)

    def _key(self, line_no: int) -> bytes:
        """Key of a line: the file's digest and the line's number, as a UUIDv8 (RFC 9562 §5.8)."""
        return self.digest[:6] + b"\x80\x00\x80" + line_no.to_bytes(7, "big")

    async def _turn_to(self, week: str) -> None:
        """Make `week` the open cycle: close the one before, and count it as settled at once."""
        known = {row["cycle_id"] for row in await cycles.list_cycles(self.pool)}
        if week not in known:
            monday = datetime.fromisoformat(week).replace(tzinfo=UTC)
            _insist(
                await cycles.close_cycle(
                    self.writer,
                    cycle_no=self.writer.open_cycle,
                    next_id=week,
                    at_us=int(monday.timestamp()) * 1_000_000,
                )
            )
        for row in await cycles.list_cycles(self.pool):
            if row["state"] == "closed":
                _insist(await cycles.settle_cycle(self.writer, cycle_no=row["cycle_no"]))


_NO_BODY = bytes(16)


def _insist(outcome: object) -> None:
    """Stop the replay if the books refused what must succeed: its ledger has another user, or a fault.

    Raises:
        Unavailable: The refusal, in its words.
    """
    match outcome:
        case Refusal(detail=detail):
            raise Unavailable(f"the replay's ledger refuses to go on: {detail}")


def _chunks(lines: list[PurchaseLine]) -> Iterator[list[PurchaseLine]]:
    for start in range(0, len(lines), CHUNK_LINES):
        yield lines[start : start + CHUNK_LINES]


def _weeks(lines: Iterator[PurchaseLine]) -> Iterator[tuple[str, list[PurchaseLine]]]:
    """Whole weeks, each read to its end before it is given out."""
    for week, group in itertools.groupby(lines, key=lambda line: line.week):
        yield week, list(group)


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
