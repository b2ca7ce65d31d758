"""A merchant's own file of a cycle, made of the orders that were cleared, with faults planted in it.

`python -m tests.merchant_files 100000` measures an import of that many lines.
"""

from __future__ import annotations

import asyncio
import io
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from deploy.database.connection import open_pool
from schemas.files.merchant_file import parse_merchant_mapping, read_merchant_csv
from settlement.core.matching import BreakKind
from settlement.core.trail import By
from settlement.service.batches import CutBatch, cut_batch
from settlement.service.merchant_files import MerchantFile, import_file
from settlement.service.open_lines import Lines
from tests.builders import BooksBuilder
from tests.golden.packages import golden_keyring

if TYPE_CHECKING:
    from asyncpg import Pool

MERCHANT = "NOODLES"
CYCLE = "2017-01-02"
TREASURER = By(who="person:tina", why="seen in the merchant's books")
HEAD = "订单,单号,时间,方向,金额,积分,币种,对方"
MAPPING = """
unit = "yuan"
encoding = "gb18030"
[columns]
order = "订单"
reference = "单号"
time = "时间"
sign = "方向"
amount = "金额"
units = "积分"
currency = "币种"
counterparty = "对方"
[signs]
receive = ["收"]
pay = ["付"]
[totals]
mark = "合计"
count = "单号"
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the merchant's file."""

    order: str
    reference: str
    at_us: int
    amount_cu: int
    units: int
    counterparty: str

    def text(self) -> str:
        """The line as CSV."""
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.at_us, hours=8)
        whole, rest = divmod(abs(self.amount_cu), 10_000)
        way = "收" if self.amount_cu > 0 else "付"
        return (
            f"{self.order},{self.reference},{at:%Y-%m-%d %H:%M:%S},{way},{whole}.{rest:04d},{self.units},CNY,"
            f"{self.counterparty}"
        )


@dataclass(slots=True)
class Planted:
    """Books of a cycle, the merchant's rows, and what must be found.

    Attributes:
        truth: Kind of each planted fault, and the reference concerned.
    """

    books: BooksBuilder = field(default_factory=lambda: BooksBuilder(flush_events=1_000))
    rows: list[Row] = field(default_factory=list)
    truth: list[tuple[BreakKind, str]] = field(default_factory=list)

    def file(self, name: str = "own.csv") -> MerchantFile:
        """The rows as a file."""
        return csv_file([row.text() for row in self.rows], name=name)


def csv_file(rows: list[str], *, name: str = "own.csv", mapping: str = MAPPING) -> MerchantFile:
    """A file of these lines, with its totals."""
    columns = parse_merchant_mapping(mapping)
    data = "\r\n".join([HEAD, *rows, f"合计,{len(rows)},,,,,,"]).encode(columns.encoding)
    return MerchantFile(
        name=name,
        basis=columns.basis,
        lines=lambda: read_merchant_csv(io.BytesIO(data), columns, merchant=MERCHANT),
    )


def plant(count: int, *, seed: int, faults: int) -> Planted:
    """Clear `count` orders over six days, and write down what the merchant has of them, `faults` times wrongly."""
    rng = random.Random(seed)
    planted = Planted()
    books = planted.books
    for code in ("AIR", MERCHANT, "SPECTACLES"):
        books.merchant(code)
    books.open_cycle(CYCLE)
    kinds = list(BreakKind)
    wrong = dict(zip(rng.sample(range(count), faults), rng.choices(kinds, k=faults), strict=True))
    for number in range(count):
        reference, units = f"B{number}", rng.randint(1, 900)
        books.now_us += 6 * 86_400_000_000 // count - 1_000_000
        # Odd amounts: parts of a split are even, so they are nobody else's amount.
        value = 2 * rng.randint(50, 5_000_000) + 1
        other = rng.choice(("AIR", "SPECTACLES"))
        kind = wrong.get(number)
        if kind is not None:
            planted.truth.append((kind, reference))
        if kind is BreakKind.EXTRA:
            row = Row(f"ours-{number}", reference, books.now_us, value, units, other)
        else:
            pays = rng.random() < 0.3
            issuer, acceptor = (MERCHANT, other) if pays else (other, MERCHANT)
            order = books.clear(
                issuer, acceptor, units=units, debit=value + 3, value=value + 2, fee=2 * (not pays),
                reference=reference,
            )  # fmt: skip
            amount = -(value + 3) if pays else value
            row = Row(str(order), reference, books.now_us - 5_000_000, amount, units, other)
        planted.rows.extend(_told(kind, row, rng))
    rng.shuffle(planted.rows)
    books.close_cycle()
    return planted


def _told(kind: BreakKind | None, row: Row, rng: random.Random) -> list[Row]:
    """What the merchant has of one order."""
    part = 2 * rng.randint(1, 40) * (1 if row.amount_cu > 0 else -1)

    def but(**changes: object) -> Row:
        told = {name: getattr(row, name) for name in Row.__slots__}
        return Row(**(told | changes))

    match kind:
        case BreakKind.MISSING:
            return []
        case BreakKind.DUPLICATE:
            return [row, row]
        case BreakKind.AMOUNT:
            return [but(amount_cu=row.amount_cu + part)]
        case BreakKind.SIGN:
            return [but(amount_cu=-row.amount_cu)]
        case BreakKind.DATE:
            return [but(at_us=row.at_us + 86_400_000_000 * rng.randint(3, 9))]
        case BreakKind.SPLIT:
            return [but(amount_cu=part), but(amount_cu=row.amount_cu - part)]
        case BreakKind.UNITS:
            return [but(units=row.units + 1)]
        case BreakKind.EXTRA:
            return [row]
        case _:
            # Some rows tell the order alone, some the reference alone.
            return [rng.choice((row, row, but(order=""), but(reference="")))]


async def cut(dsn: str, books: BooksBuilder, folder: Path) -> Path:
    """Write the books and cut the first cycle; the folder of packages."""
    owner = await asyncpg.connect(dsn)
    await books.write(owner)
    await owner.close()
    pool = await open_pool(dsn)
    made = await cut_batch(
        pool, cycle_no=1, keyring=golden_keyring(folder / "keys"), out=folder / "packages"
    )
    await pool.close()
    assert isinstance(made, CutBatch)
    return folder / "packages"


async def measure(pool: Pool, packages: Path, planted: Planted) -> str:
    """Import the rows, and say how long it took and what was found."""
    began, cpu = time.perf_counter(), time.process_time()
    of = Lines(merchant=MERCHANT, cycle_id=CYCLE, packages=packages)
    done = await import_file(pool, planted.file(), of, by=TREASURER, at=datetime.now(UTC))
    wall, spent = time.perf_counter() - began, time.process_time() - cpu
    found = f"{len(done.breaks)} breaks of {len(planted.truth)}"
    return f"{done.lines} rows: {wall:.1f} s, {spent:.1f} s of processor, {found}"


async def _main(count: int) -> None:
    from deploy.database.ephemeral import ephemeral_server
    from deploy.database.migrate import migrate

    planted = plant(count, seed=1, faults=count // 50)
    with tempfile.TemporaryDirectory() as name, ephemeral_server() as postgres:
        server = postgres.create_database("measured")
        await migrate(server)
        packages = await cut(server, planted.books, Path(name))
        pool = await open_pool(server)
        print(await measure(pool, packages, planted))
        await pool.close()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
