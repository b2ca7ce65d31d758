"""`tongdui fund` and `tongdui settle`: money is booked as the bank shows it, and a cycle is settled with it."""

import asyncio
from datetime import date
from pathlib import Path

import asyncpg
import pytest

from schemas.files.bank_statement import BankEntry
from settlement.core.event import Kind
from tests.bank_files import camt053
from tests.cli.conftest import Command, assert_one_sentence
from tests.cli.killing import killed_while_it_waits, on_database
from tests.objections import object_to
from tests.simulation.ground import open_house, order_of, terms

PARTIES = Path("tests/golden/parties.toml")
HOUSE_ACCOUNT = "1001000000000000001"


@pytest.fixture
def with_orders(tongdui: Command, dsn: str) -> Command:
    """The command on a ledger in which A owes B one yuan in the open cycle."""

    async def make() -> None:
        async with open_house(dsn, *(terms(code, hosted=False) for code in "AB")) as house:
            assert (await house.one(order_of(house, "A", "B", 10_000))).kind == Kind.CLEARED

    asyncio.run(make())
    assert tongdui("keys", "generate").returncode == 0
    return tongdui


async def _object(dsn: str) -> None:
    """B objects to the first batch."""
    async with asyncpg.create_pool(dsn, min_size=1) as pool:
        await object_to(pool, cycle_no=1, merchant_no=2)


async def _books(conn: asyncpg.Connection) -> tuple[list[str], dict[int, int], int]:
    """States of the cycles, funds by party, and how many settlements stand in the journal; positions come to 0."""
    assert not await conn.fetchval("SELECT sum(net_cu)::bigint FROM settlement.position")
    states = await conn.fetch("SELECT state FROM settlement.cycle ORDER BY cycle_no")
    funds = await conn.fetch("SELECT party, cu FROM settlement.funds")
    settled = "SELECT count(*) FROM settlement.event WHERE kind = $1"
    return (
        [row["state"] for row in states],
        {row["party"]: row["cu"] for row in funds},
        await conn.fetchval(settled, Kind.CYCLE_SETTLED),
    )


def test_a_cycle_is_funded_and_settled_at_the_command_line(with_orders: Command, tmp_path: Path):
    """Dry runs change nothing; who has not paid in is named; what nobody claims blocks the release.

    So does an objection, unless it is said that it does not, which the trail keeps (Z6). A settlement that is killed
    with kill -9 when its event is written changes nothing; asked again, it is done once.
    """
    tongdui = with_orders
    cycle = tongdui.json("cycle", "close")["closed"]
    lacking = tongdui.json("settle", cycle, "--dry-run", status=1)
    assert (lacking["state"], lacking["refused"]) == ("closed", "funds_insufficient")
    missing = {one["code"]: one["missing_cu"] for one in lacking["parties"]}
    assert missing == {"A": "10000", "B": "0"}
    assert "A 10000 CU" in tongdui("settle", cycle).stderr

    due = tongdui.json("reconcile", "breaks", "--parties", PARTIES, status=1)
    paid = next(one for each in due for one in each["payments"] if one["party"] == "A")
    day = date.fromisoformat(paid["due_on"])
    entries = [
        BankEntry(place="", amount_fen=fen, booked_on=day, reference=reference)
        for fen, reference in ((100, paid["id"]), (5, "a gift"))
    ]
    file = tmp_path / "bank.xml"
    file.write_text(camt053(entries, account=HOUSE_ACCOUNT), "utf-8")
    tongdui.json("reconcile", "bank", file, "--parties", PARTIES, status=1)
    assert "movement_unmatched: movement 1/0" in tongdui("settle", cycle).stderr
    bank = ("fund", "bank", "--parties", PARTIES)
    tried = tongdui.json(*bank, "--dry-run", status=1)
    assert tongdui.json(*bank, status=1)["booked"] == tried["booked"] != []
    assert [one["entry"] for one in tried["open"]] == ["1/0", "1/2"]
    assert tongdui(*bank, "--entry", "1/0", "--to", "HOUSE:fees").returncode == 1
    assert "movement 1/2" in tongdui("settle", cycle).stderr
    assert_one_sentence(tongdui(*bank, "--entry", "1/9", "--to", "B"))
    assert tongdui(*bank, "--entry", "1/2", "--to", "B", "--pot", "collateral").returncode == 0
    asyncio.run(_object(str(tongdui.database_url)))
    objected = tongdui.json("settle", cycle, "--dry-run", status=1)
    assert (objected["refused"], objected["objections"]) == ("objection_open", ["B"])
    assert "objection_open: B object" in tongdui("settle", cycle).stderr
    nevertheless = ("settle", cycle, "--despite-objections")
    package = tongdui.home / "packages" / cycle
    package.rename(package.with_name("away"))
    assert "package_not_signed" in tongdui(*nevertheless, "--dry-run").stderr
    package.with_name("away").rename(package)
    assert "would settle" in tongdui(*nevertheless, "--dry-run").stdout
    before = on_database(tongdui, _books)
    assert (before[0], before[2]) == (["closed", "open"], 0)
    killed_while_it_waits(tongdui, "cycle", "event", *nevertheless)
    assert on_database(tongdui, _books) == before
    assert "settled 已结算" in tongdui(*nevertheless).stdout
    after = on_database(tongdui, _books)
    assert (after[0], after[2]) == (["settled", "open"], 1)
    assert sum(after[1].values()) == sum(before[1].values())
    assert "is settled" in tongdui("settle", cycle).stderr

    assert "funds_insufficient" in tongdui("fund", "withdraw", "B", "1.0001").stderr
    assert "would move" in tongdui("fund", "withdraw", "B", "1", "--dry-run").stdout
    assert tongdui("fund", "withdraw", "B", "1").returncode == 0
    assert tongdui("fund", "deposit", "B", "0.5").returncode == 0
    assert tongdui("fund", "move", "B", "B", "0.25", "--to-pot", "default_fund").returncode == 0
    assert "of B" in tongdui("fund", "threshold", "B", "2").stdout
    found = tongdui.json("fund", "list", status=1)
    purse = {one["code"]: one for one in found["merchants"]}["B"]
    figures = [purse[name] for name in ("funds_cu", "collateral_cu", "default_fund_cu", "alert")]
    assert figures == ["2500", "500", "2500", "below_level"]
    assert (found["blocked"], found["house"]["BANK"]) == ("", "5000")
    assert "账实相符" in tongdui("fund", "list").stdout
    entries = tongdui.json("trail", "list")
    actions = [one["action"] for one in entries]
    assert entries[-6]["after"] == {"settled": True, "despite_objections": ["B"]}
    # What was refused was asked for too.
    assert actions[-6:] == ["cycle.settle", *["funds.move"] * 4, "funds.level"]
    assert tongdui("audit").returncode == 0


def test_a_default_is_planned_and_taken_at_the_command_line(with_orders: Command):
    """Without any money the whole debt is unwound: planned by a dry run, then taken, with a signed record.

    No step is taken while a merchant objects, unless it is said that it is nevertheless (Z6).
    """
    tongdui = with_orders
    cycle = tongdui.json("cycle", "close")["closed"]
    default = ("settle", cycle, "--default", "A")
    planned = tongdui.json(*default, "--dry-run")
    assert [step["kind"] for step in planned["steps"]] == ["prefunded", "unwind"]
    assert planned["steps"][1]["moves"] == [["B", "10000"]]
    assert tongdui.json("settle", cycle, "--dry-run", status=1)["state"] == "closed"
    asyncio.run(_object(str(tongdui.database_url)))
    assert "objection_open: B object" in tongdui(*default).stderr
    taken = tongdui.json(*default, "--despite-objections")
    assert [step["kind"] for step in taken["steps"]] == ["unwind"]
    records = tongdui.home / "defaults" / cycle
    assert "1 records" in tongdui("fund", "records", records).stdout
    (records / "001.json").write_bytes(b"{}")
    assert_one_sentence(tongdui("fund", "records", records))
    owed = {one["code"]: one["owes_cu"] for one in tongdui.json("fund", "list")["merchants"]}
    assert owed == {"A": "10000", "B": "0"}
    assert "no cycle" in assert_one_sentence(tongdui("settle", "never"))
