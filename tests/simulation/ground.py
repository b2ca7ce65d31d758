"""The writer on a fresh ledger, as the composition root puts it together, with a clock to turn by hand."""

import itertools
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg

from deploy.database.connection import open_pool, open_writer_connection
from exchange.programme.service.rider import ProgrammeRider
from exchange.service.onboarding import MerchantTerms, register_merchant
from exchange.store.programmes import insert_member_rules, insert_tariff
from schemas.values.rate import Rate
from settlement.core.command import Answer, CloseCycle, Command, Entry
from settlement.core.trail import PROGRAM
from settlement.service.clearing import Writer
from settlement.service.ledger import open_ledger

START_US = 1_772_000_000_000_000
"""An instant in February 2026."""
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
BODY = bytes(16)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def new_key() -> bytes:
    """A key that was never used and tells no time, so that it is always looked up."""
    return bytes(7) + b"\x80" + next(_numbers).to_bytes(8, "big")


@dataclass(slots=True)
class Clock:
    """A clock that stands still unless it is told."""

    us: int = START_US

    def __call__(self) -> int:
        """Microseconds since 1970."""
        return self.us


def terms(
    code: str, *, cap_cu: int = 1_000_000, hosted: bool = True, **changes: object
) -> MerchantTerms:
    """A merchant whose points are worth 100 CU each, one point a yuan, living ten days."""
    given: dict[str, object] = {
        "name": code.title(),
        "unit": "point",
        "scale": 0,
        "spend": Rate(num=100, den=1),
        "issue": Rate(num=100, den=1),
        "earn": (1, 100),
        "valid_days": 10,
    }
    return MerchantTerms(code=code, hosted=hosted, cap_cu=cap_cu, **(given | changes))  # type: ignore[arg-type]


@dataclass(slots=True)
class House:
    """A running writer on its own ledger."""

    dsn: str
    pool: asyncpg.Pool
    writer: Writer
    clock: Clock
    numbers: dict[str, int] = field(default_factory=dict)
    rates: dict[int, int] = field(default_factory=dict)

    async def submit(self, *commands: Command) -> list[Answer]:
        """Send commands together."""
        return await self.writer.submit(commands)

    async def one(self, command: Command) -> Entry:
        """Send one command whose answer is one entry."""
        (answer,) = await self.writer.submit([command])
        (entry,) = answer
        return entry

    async def close_cycle(self, cycle_no: int, next_id: str, *, at_us: int = 0) -> Answer:
        """Close a cycle and open the next."""
        (answer,) = await self.submit(
            CloseCycle(
                caller=0, key=new_key(), body=BODY, cycle_no=cycle_no, next_id=next_id, at_us=at_us
            )
        )
        return answer


def make_writer(dsn: str, clock: Clock, **options: object) -> Writer:
    """A writer with the hosted programme, not started."""
    return Writer(
        connect=lambda: open_writer_connection(dsn),
        now_us=clock,
        rider=ProgrammeRider(),
        **options,  # type: ignore[arg-type]
    )


@asynccontextmanager
async def open_house(
    dsn: str,
    *merchants: MerchantTerms,
    caller_clock: bool = False,
    fee_bps: int = 50,
    first_cycle: str | None = "first",
    rules: Mapping[str, tuple[str, int, int]] | None = None,
) -> AsyncIterator[House]:
    """Open a ledger on a migrated database, with merchants and a first cycle; its writer stops at the end."""
    pool = await open_pool(dsn, size=4)
    async with pool.acquire() as conn:
        await open_ledger(conn, caller_clock=caller_clock)
        await insert_tariff(conn, fee_bps=fee_bps, effective_at=LONG_AGO)
    clock = Clock()
    house = House(dsn=dsn, pool=pool, writer=make_writer(dsn, clock), clock=clock)
    await house.writer.start()
    try:
        for merchant in merchants:
            number = await register_merchant(
                pool,
                house.writer,
                merchant,
                by=PROGRAM,
                now=datetime.now(UTC),
                effective_at=LONG_AGO,
            )
            assert isinstance(number, int)
            house.numbers[merchant.code] = number
        for row in await pool.fetch(
            "SELECT merchant_no, rate_no FROM exchange.rate WHERE side = 'spend'"
        ):
            house.rates[row["merchant_no"]] = row["rate_no"]
        for code, (authority, daily_cu, daily_orders) in (rules or {}).items():
            await insert_member_rules(
                pool,
                merchant_no=house.numbers[code],
                authority=authority,
                daily_cu=daily_cu,
                daily_orders=daily_orders,
                effective_at=LONG_AGO,
            )
        if rules:
            # A writer looks for new reference data once a second; the next one sees it at once.
            await house.writer.stop()
            house.writer = make_writer(dsn, clock)
            await house.writer.start()
        if first_cycle:
            await house.close_cycle(0, first_cycle)
        yield house
    finally:
        await house.writer.stop()
        await pool.close()


def order_of(
    house: House, issuer: str, acceptor: str, debit_cu: int, **changes: object
) -> "Command":
    """An order of an issuer with a system of its own, without fee or remainder."""
    from settlement.core.command import Order

    given: dict[str, object] = {
        "caller": house.numbers[acceptor],
        "key": new_key(),
        "body": BODY,
        "issuer": house.numbers[issuer],
        "acceptor": house.numbers[acceptor],
        "member_no": 7,
        "units": max(1, debit_cu // 100),
        "debit_cu": debit_cu,
        "value_cu": debit_cu,
        "fee_cu": 0,
        "rate_no": house.rates[house.numbers[issuer]],
    }
    return Order(**(given | changes))  # type: ignore[arg-type]


def random_key() -> bytes:
    """A random key."""
    return uuid.uuid4().bytes


def keys(count: int) -> Sequence[bytes]:
    """New keys."""
    return [new_key() for _ in range(count)]
