"""`tongdui dispute` and `tongdui cycle remainders`: dry runs, refusals in one sentence, kill -9 in the middle."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from schemas.files.corrections import COLUMNS
from tests.cli.conftest import Command, assert_one_sentence
from tests.simulation.ground import open_house, order_of, terms


@pytest.fixture
def with_order(dsn: str, tmp_path: Path) -> tuple[Command, str]:
    """The command on books with one order that cleared, and the order's id."""
    from schemas.values.ids import order_id

    async def make() -> str:
        async with open_house(dsn, terms("AIR", hosted=False), terms("EYE")) as house:
            order = await house.one(order_of(house, "AIR", "EYE", 1_000, units=10, value_cu=990))
            await house.close_cycle(1, "second")
        return str(order_id(order.at_us, 1, order.seq))

    return Command(tmp_path / "home", database_url=dsn), asyncio.run(make())


async def _value(dsn: str, query: str) -> int:
    conn = await asyncpg.connect(dsn)
    try:
        return await conn.fetchval(query)
    finally:
        await conn.close()


def _count(dsn: str) -> int:
    return asyncio.run(_value(dsn, "SELECT count(*) FROM settlement.event WHERE kind IN (6, 20)"))


def test_a_case_is_opened_heard_and_decided(with_order, dsn):
    """Each command says how the case stands; a dry run changes nothing; what is not possible ends with status 1."""
    command, order = with_order
    opening = ("dispute", "open", order, "--as", "AIR", "--text", "cancelled at the till")
    part = ("--debit-cu", "-100", "--value-cu", "-90")
    assert command.json(*opening, *part, "--dry-run")["dispute"] == "D1"
    assert command.json("dispute", "list") == []
    case = command.json(*opening, *part, "--why", "asked by AIR")
    assert (case["state"], case["order_id"], case["claim"]["debit_cu"]) == ("opened", order, "-100")
    refused = command("dispute", "decide", "D1", "accept", "--why", "too early")
    assert refused.returncode == 1
    assert "dispute_not_heard" in assert_one_sentence(refused, 1)
    answer = ("dispute", "answer", "D1", "--as", "EYE", "--text", "it was not")
    assert command.json(*answer, "--dry-run")["state"] == "answered"
    assert command.json(*answer)["state"] == "answered"
    evidence = ("dispute", "evidence", "D1", "--as", "AIR", "--text", "the receipt")
    told = command.json(*evidence, "--file", __file__)["steps"][-1]
    assert told["file"]["bytes"] == Path(__file__).stat().st_size
    decide = (
        "dispute",
        "decide",
        "D1",
        "accept",
        "--debit-cu",
        "-50",
        "--value-cu",
        "-45",
        "--why",
        "half",
    )
    assert command.json(*decide, "--dry-run")["state"] == "accepted"
    assert _count(dsn) == 0
    assert command.json(*decide)["booked"]["cycle"] == "second"
    assert command.json(*decide)["booked"]["cycle"] == "second"
    assert _count(dsn) == 1
    [listed] = command.json("dispute", "list", "--as", "EYE")
    assert (listed["state"], listed["cycle"]) == ("accepted", "first")
    assert command("dispute", "list").returncode == 0
    assert command("dispute", "withdraw", "D1", "--as", "AIR", "--text", "no").returncode == 1
    assert command("dispute", "show", "D2").returncode == 2
    assert command("dispute", "show", "case").returncode == 2
    quarter = command.json("cycle", "remainders", "--quarter", "2026Q1", "--dry-run")
    # The order's remainder was 10, of which the adjustment took 5 back, in a cycle that is still open.
    assert (quarter["total_cu"], quarter["amounts"][0]["issuer"]) == ("10", "AIR")
    for before in (False, True):
        done = command.json("cycle", "remainders", "--quarter", "2026Q1", "--why", "spring")
        assert (done["before"], done["total_cu"]) == (before, "10")
    assert _count(dsn) == 2
    assert command("cycle", "remainders", "--quarter", "2099Q4").returncode == 1
    assert command("cycle", "remainders", "--quarter", "soon").returncode == 2
    audit = command("audit")
    assert audit.returncode == 0, audit.stdout


def test_a_member_is_compensated_once_at_the_cost_of_the_merchant_at_fault(with_order, dsn):
    """Rule W7: what a dry run shows is booked once, however often it is said; the trail names who asked, no member."""
    command, order = with_order
    wish = ("dispute", "compensate", order, "--units", 3, "--fault")
    for fault, merchant, status, why in (
        ("AIR", "EYE", 1, "unknown_member"),
        ("NOBODY", "EYE", 2, "$.terms.at_fault"),
        ("AIR", "NOBODY", 2, "$.terms.merchant"),
    ):
        refused = command(*wish, fault, "--merchant", merchant)
        assert refused.returncode == status, refused.stderr
        assert why in assert_one_sentence(refused, status)
    enrol = "INSERT INTO exchange.member (member_no, enrolled_at) VALUES (7, now()) RETURNING 1"
    asyncio.run(_value(dsn, enrol))
    assert "not_hosted" in command(*wish, "AIR", "--merchant", "AIR").stderr
    shown = command.json(*wish, "AIR", "--merchant", "EYE", "--dry-run")
    assert (shown["cost_cu"], shown["given_before"], _count(dsn)) == ("300", False, 0)
    given = [command.json(*wish, "AIR", "--merchant", "EYE", "--why", "D1") for _ in range(2)]
    assert [each["given_before"] for each in given] == [False, True]
    assert len({each["lot_no"] for each in given}) == 1
    assert {each["cost_cu"] for each in given} == {shown["cost_cu"]}
    own = command.json(*wish, "EYE", "--merchant", "EYE", "--choice", "bonus")
    assert (own["cost_cu"], _count(dsn)) == ("0", 1)
    entries = """
        SELECT count(*) FROM settlement.trail AS t
         WHERE action = 'compensation.give' AND who LIKE 'local:%' AND after::text NOT LIKE '%member%'
    """
    assert asyncio.run(_value(dsn, entries)) == 2
    points = "SELECT sum(earned_units)::bigint FROM exchange.lot WHERE member_no = 7"
    assert asyncio.run(_value(dsn, points)) == 6
    audit = command("audit")
    assert audit.returncode == 0, audit.stdout


def test_a_file_of_corrections_killed_in_the_middle_is_finished_by_handing_it_over_again(
    with_order, dsn, tmp_path
):
    """Rule W5: a process killed with kill -9 while it books a file has booked a part; the same file does the rest."""
    command, order = with_order
    rows = 2_000
    file = tmp_path / "corrections.csv"
    lines = [",".join(COLUMNS), f"reverse,{order},,,3,,,,CNY,first"]
    lines += [f"adjust,,AIR,EYE,,{n},{n},0,CNY,{n}" for n in range(1, rows)]
    total = rows * (rows - 1) // 2
    file.write_text("\n".join([*lines, f"TOTAL,{rows},,,3,{total},{total},0,CNY,", ""]))
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("\n".join([*lines, f"TOTAL,{rows - 1},,,3,{total},{total},0,CNY,", ""]))
    refused = command("dispute", "corrections", wrong)
    assert refused.returncode == 2
    assert f"line {rows + 2}, order" in assert_one_sentence(refused)
    assert command.json("dispute", "corrections", file, "--dry-run")["booked"] == 0
    assert _count(dsn) == 0
    started = command.start("dispute", "corrections", file)
    while not _count(dsn) and started.popen.poll() is None:
        pass
    started.popen.kill()
    started.popen.communicate()
    assert _count(dsn) > 0
    done = command.json("dispute", "corrections", file, "--why", "again")
    assert (done["taken_before"], done["booked"], done["refused"]) == (True, rows, {})
    assert _count(dsn) == rows
    query = "SELECT sum(debit_cu)::bigint FROM settlement.event WHERE kind = 6"
    assert asyncio.run(_value(dsn, query)) == total
    audit = command("audit")
    assert audit.returncode == 0, audit.stdout
