"""Arrangements on real PostgreSQL: timers, calendars, packages of cycles that were open side by side."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import openpyxl
import pytest
from lxml import etree

from exchange.worker.packager import cut_missing
from schemas.files.tables import read_instructions, write_instructions
from schemas.values.faults import Unavailable
from schemas.values.ids import order_id
from schemas.values.reason import Reason, Refusal
from settlement.core.arrangement import Model
from settlement.core.calendar import Calendar
from settlement.core.command import Deposit, End, Order, Pot, SettleCycle
from settlement.core.confirmation import due_at
from settlement.core.event import Kind
from settlement.core.instruction import HOUSE_LEG_CODE
from settlement.core.payment_id import read_payment_name, written_again
from settlement.core.trail import PROGRAM
from settlement.service import cycles, inquiry
from settlement.service.arrangements import carry_out_arrangement, list_pairs
from settlement.service.audit import audit
from settlement.service.confirmations import list_batches
from settlement.service.proofs import prove_order
from settlement.service.reports import Moment, trial_balance
from settlement.service.reports import standing as stood
from settlement.service.settling import standing
from settlement.service.three_way import three_way
from settlement.service.verification import verify_package, verify_proof
from tests.golden.packages import failed, golden_keyring, resign
from tests.golden.renderings import SMALL, fen, make, table
from tests.golden.test_bank_files import schema
from tests.simulation.ground import BODY, House, make_writer, new_key, open_house, terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from settlement.core.columns import EntryColumns, OrderColumns
    from settlement.core.command import Answer, Command
    from settlement.service.clearing import Writer

MERCHANTS = [terms(code, hosted=False) for code in "ABC"]
BESIDE = ("noon", "month")


async def arranged(house: House, code: str, model: Model, *pairs: tuple[str, str]) -> None:
    """Make an arrangement, or give pairs one that is there."""
    refused = await carry_out_arrangement(
        house.pool,
        house.writer,
        arrangement=code,
        model=model,
        pairs=[(house.numbers[one], house.numbers[other]) for one, other in pairs],
        body=new_key(),
    )
    assert refused is None


async def buy(house: House, issuer: str, acceptor: str, debit_cu: int) -> int:
    """An order that clears; the number of its cycle."""
    numbers = house.numbers
    entry = await house.one(
        Order(
            numbers[acceptor], new_key(), BODY, numbers[issuer], numbers[acceptor], 1, 1, debit_cu,
            debit_cu - 3, 2, house.rates[numbers[issuer]],
        )
    )  # fmt: skip
    assert entry.kind == Kind.CLEARED, entry
    return entry.cycle_no


def now(house: House) -> datetime:
    """The house's clock."""
    return datetime.fromtimestamp(house.clock.us / 1_000_000, UTC)


async def test_timers_close_each_cycle_at_its_own_cut_offs(dsn):
    """Rules T4, T7 and T8: three calendars in three zones, one with holidays, over a month.

    Each cycle is closed within the tick after the cut-off that its own calendar names, and nothing else closes it. A
    calendar that is set while a cycle is open moves that cycle's cut-off not at all, and the next one's.
    """
    calendars = {
        "main": Calendar(weekdays=(1, 4)),
        "noon": Calendar(zone="America/New_York", times=("12:00",), weekdays=(1, 2, 3, 4, 5)),
        "month": Calendar(
            zone="Europe/Berlin",
            times=("02:30",),
            weekdays=(7,),
            holidays=(date(2026, 3, 8), date(2026, 3, 15)),
        ),
    }
    async with open_house(dsn, *MERCHANTS, first_cycle=None) as house:
        for code, calendar in calendars.items():
            await cycles.set_calendar(
                house.pool, calendar, by=PROGRAM, now=now(house), effective_at=now(house),
                arrangement=code,
            )  # fmt: skip
        await house.writer.submit([])
        for code in BESIDE:
            await arranged(house, code, Model.MULTILATERAL)
        changed_at = now(house) + timedelta(days=9)
        daily = Calendar(zone="Asia/Tokyo", times=("09:00",))
        until = now(house) + timedelta(days=24)
        while now(house) < until:
            planned = {row["code"]: row["cut_off_at"] for row in await cycles.list_open(house.pool)}
            closed = await cycles.close_if_due(house.pool, house.writer, now(house))
            assert not any(isinstance(each, Refusal) for each in closed)
            after = {row["code"]: row["cut_off_at"] for row in await cycles.list_open(house.pool)}
            for code, cut_off in planned.items():
                due = cut_off is None or cut_off <= now(house)
                assert (after[code] != cut_off) == due, code
            if now(house) >= changed_at and calendars["noon"] != daily:
                calendars["noon"] = daily
                await cycles.set_calendar(
                    house.pool, daily, by=PROGRAM, now=now(house), effective_at=now(house),
                    arrangement="noon",
                )  # fmt: skip
            house.clock.us += 6 * 3600 * 1_000_000
        # The very instant of a cut-off is late enough.
        at = min(row["cut_off_at"] for row in await cycles.list_open(house.pool))
        house.clock.us = int(at.timestamp()) * 1_000_000
        assert len(await cycles.close_if_due(house.pool, house.writer, now(house))) == 1
        rows = await cycles.list_cycles(house.pool)
        assert {row["arrangement"] for row in rows} == set(calendars)
        for row in rows:
            old_noon = row["arrangement"] == "noon" and row["opened_at"] < changed_at
            local = row["cut_off_at"].astimezone(
                ZoneInfo("America/New_York" if old_noon else calendars[row["arrangement"]].zone)
            )
            times = ("12:00",) if old_noon else calendars[row["arrangement"]].times
            assert local.strftime("%H:%M") in times, row["cycle_id"]
            assert local.date() not in calendars[row["arrangement"]].holidays
            prefix = "" if row["arrangement"] == "main" else f"{row['arrangement']}-"
            assert row["cycle_id"] == f"{prefix}{local:%Y-%m-%dT%H%M}"
        assert (await audit(house.pool)).differences == []


async def test_packages_of_cycles_side_by_side_are_chained_as_they_closed(dsn, tmp_path):
    """Rules K1, K6 and T6: two daily cycles inside a long one, each with its own lines alone.

    Packages follow each other in the order of the closes, each names its arrangement, verifies, and proves its
    orders; a writer that starts anew goes on with every open cycle. Days to confirm are those of the calendar that was
    in force when the cycle opened (Z2).
    """
    keyring = golden_keyring(tmp_path / "keys")
    async with open_house(dsn, *MERCHANTS) as house:
        await arranged(house, "month", Model.MULTILATERAL, ("A", "B"))
        assert await buy(house, "A", "B", 100) == 1
        [pair] = await list_pairs(house.pool)
        assert tuple(pair) == ("A", "B", "main", "month")
        order = ("main", "month", "main")
        house.clock.us += 1_000_000
        await cycles.set_calendar(
            house.pool,
            Calendar(confirm_days=3),
            by=PROGRAM,
            now=now(house),
            effective_at=now(house),
        )
        await cycles.close_now(house.pool, house.writer, now(house), by=PROGRAM)
        assert await buy(house, "B", "A", 70) == 2
        assert await buy(house, "B", "C", 40) == 3
        await house.writer.stop()
        house.writer = make_writer(dsn, house.clock)
        await house.writer.start()
        assert await buy(house, "A", "B", 1_000) == 2
        for code in order:
            await cycles.close_now(
                house.pool, house.writer, now(house), by=PROGRAM, arrangement=code
            )
        packages = tmp_path / "packages"
        keys = tmp_path / "keys"
        assert await cut_missing(house.pool, keys=keys, packages=packages)
        rows = await house.pool.fetch(
            "SELECT cycle_no, cycle_id FROM settlement.batch ORDER BY sequence"
        )
        assert [row["cycle_no"] for row in rows] == [1, 3, 2, 4]
        said = []
        for row in rows:
            folder = packages / row["cycle_id"]
            assert verify_package(folder, trusted=keyring.trusted()).ok
            manifest = json.loads((folder / "manifest.json").read_bytes())
            said.append(
                (manifest["cycle"].get("arrangement", "main"), manifest["counts"]["orders"])
            )
        assert said == [("main", 1), ("main", 1), ("month", 2), ("main", 0)]
        facts = (await list_batches(house.pool, now=now(house)))[::-1]
        assert [one.due_at for one in facts] == [
            due_at(one.closed_at, days) for one, days in zip(facts, (7, 3, 7, 3), strict=True)
        ]
        first = await house.pool.fetchrow(
            "SELECT seq, (extract(epoch FROM at) * 1000000)::bigint AS at_us"
            "  FROM settlement.event WHERE kind = 3 AND cycle_no = 2 ORDER BY seq LIMIT 1"
        )
        assert first is not None
        proof = await prove_order(
            house.pool, order_id=order_id(first["at_us"], 1, first["seq"]), keyring=keyring
        )
        assert isinstance(proof, bytes), proof
        assert verify_proof(proof, trusted=keyring.trusted()).ok
        assert (await audit(house.pool)).differences == []


SCHEMAS = {
    "pain.001": schema("pain001", "pain.001.001.09.xsd"),
    "camt.054": schema("camt053", "camt.054.001.08.xsd"),
}


async def test_a_bilateral_cycle_is_paid_by_pairs_and_verified_offline(dsn, tmp_path):
    """Rules N12, K19, F7 to F11: each pair pays its difference; package, bank files and vouchers say the same.

    Carries go on by pair over a multilateral package in between, a row that was changed by whoever holds the key is
    found, and what a bank says under a payment's name is matched with the one payment.
    """
    keyring = golden_keyring(tmp_path / "keys")
    packages = tmp_path / "packages"
    codes = ("AIR", "NOODLES", "SPECTACLES")
    async with open_house(dsn, *(terms(code, hosted=False) for code in codes)) as house:
        pairs = [("AIR", "NOODLES"), ("NOODLES", "SPECTACLES"), ("AIR", "SPECTACLES")]
        await arranged(house, "pairs", Model.BILATERAL, *pairs)

        async def close(arrangement: str) -> None:
            await cycles.close_now(
                house.pool, house.writer, now(house), by=PROGRAM, arrangement=arrangement
            )

        await close("main")
        orders = [
            [("AIR", "NOODLES", 12_345), ("NOODLES", "AIR", 2_222), ("NOODLES", "SPECTACLES", 777)],
            [("AIR", "NOODLES", 68), ("SPECTACLES", "AIR", 9_999), ("SPECTACLES", "AIR", 9_951)],
        ]
        came_to: Counter[tuple[str, str]] = Counter()
        paid: Counter[tuple[str, str]] = Counter()
        for bought in orders:
            for issuer, acceptor, debit_cu in bought:
                await buy(house, issuer, acceptor, debit_cu)
                for creditor, cu in ((acceptor, debit_cu - 5), (HOUSE_LEG_CODE, 5)):
                    came_to[issuer, creditor] -= cu
                    came_to[creditor, issuer] += cu
            await close("pairs")
            await close("main")
        assert await cut_missing(house.pool, keys=tmp_path / "keys", packages=packages)
        rows = await house.pool.fetch("SELECT cycle_id FROM settlement.batch ORDER BY sequence")
        folders = [packages / row["cycle_id"] for row in rows]
        assert [verify_package(each, trusted=keyring.trusted()).ok for each in folders] == [
            True
        ] * 5
        first, second = folders[1], folders[3]
        manifest = json.loads((second / "manifest.json").read_bytes())
        assert manifest["carries"]["cycle_id"] == first.name
        assert manifest["netting"]["model"] == "deferred-net-bilateral"
        for folder in (first, second):
            for row in read_instructions((folder / "instructions.csv").read_bytes()):
                paid[row.party, row.counterparty] += row.pay_fen
        assert came_to.keys() == paid.keys()
        assert all(0 <= cu - 100 * paid[pair] < 100 for pair, cu in came_to.items())
        assert (await audit(house.pool)).differences == []

        listed = make(second, tmp_path / "made", kinds=(*SMALL, "xlsx"))
        ordered: Counter[str] = Counter()
        noticed: Counter[str] = Counter()
        for one in listed.files:
            if not one.path.endswith(".xml"):
                continue
            document = etree.parse(tmp_path / "made" / one.path)
            kind = next(kind for kind in SCHEMAS if kind in one.path)
            SCHEMAS[kind].assertValid(document)

            def texts(name: str, document: Any = document) -> list[str]:
                return list(document.xpath(f"//*[local-name()='{name}']/text()"))

            if kind == "camt.054":
                sign = {"CRDT": 1, "DBIT": -1}[texts("CdtDbtInd")[0]]
                noticed[texts("EndToEndId")[0]] = sign * fen(texts("Amt")[0])
                continue
            sign = 1 if one.path == "_house/pain.001.xml" else -1
            for name, amount in zip(texts("EndToEndId"), texts("InstdAmt"), strict=True):
                ordered[name] = sign * fen(amount)
        legs = read_instructions((second / "instructions.csv").read_bytes())
        batch = f"TD{4:06d}-{listed.manifest_sha256[:12]}"
        numbers = house.numbers | {HOUSE_LEG_CODE: 0}
        expected = {
            f"{batch}-{numbers[leg.party]}-{numbers[leg.counterparty]}": leg.pay_fen
            for leg in legs
            if leg.pay_fen
        }
        assert ordered == expected
        assert noticed == {
            name: cu for name, cu in expected.items() if not name.startswith(f"{batch}-0-")
        }
        made = [one.path for one in listed.files if one.path.endswith("vouchers.csv")]
        assert {"AIR/vouchers.csv", "_house/vouchers.csv"} <= set(made)
        for path in made:
            entries = table(tmp_path / "made" / path)
            assert sum(fen(row["借方金额"]) - fen(row["贷方金额"]) for row in entries) == 0
        for name in expected:
            found = read_payment_name(f"转账 {name.lower()} 谢谢")
            assert found is not None
            assert written_again(found) == name

        sheet = openpyxl.load_workbook(
            tmp_path / "made/AIR/statement.xlsx", data_only=True
        ).worksheets[0]
        shown: dict[Any, Any] = {
            row[0]: row[1] for row in sheet.iter_rows(max_col=2, values_only=True) if row[0]
        }
        together = sum(leg.pay_fen for leg in legs if leg.party == "AIR")
        assert round(shown["payment, signed 收付额(已签名)"] * 100) == together
        by_lines = shown["receivable 应收"] - shown["payable 应付"]
        assert round(by_lines * 100) == together
        assert "by pairs 逐对结转" in shown
        for place, leg in enumerate(legs):
            changed = [*legs]
            changed[place] = replace(
                leg, carry_before_cu=leg.carry_before_cu + 1, net_cu=leg.net_cu - 1
            )
            (second / "instructions.csv").write_bytes(write_instructions(changed))
            resign(second)
            assert "instructions" in failed(second), leg


class Cut:
    """The writer, until it is away: after so many commands that arrived, whoever sent them hears nothing."""

    def __init__(self, writer: Writer, commands: int) -> None:
        self._writer, self._left = writer, commands

    async def submit_columns(self, orders: OrderColumns) -> EntryColumns:
        """Nobody sends them here."""
        return await self._writer.submit_columns(orders)

    async def submit(self, commands: Sequence[Command]) -> list[Answer]:
        """Pass on what still arrives."""
        arrived, self._left = commands[: self._left], self._left - len(commands)
        answers = await self._writer.submit(arrived)
        if self._left < 0:
            raise Unavailable("cut")
        return answers


async def test_a_change_that_was_cut_off_anywhere_is_finished_once(dsn):
    """Rule T7: an approval is carried out by several commands; stopped after any of them, it is asked for again.

    Then it is whole, nothing is doubled, and books and audit say the same.
    """
    async with open_house(dsn, *MERCHANTS) as house:
        for after in range(4):
            change: dict[str, Any] = {
                "arrangement": f"cut-{after}",
                "model": Model.BILATERAL,
                "pairs": [(1, 2), (2, 3)],
                "body": new_key(),
            }
            with pytest.raises(Unavailable):
                await carry_out_arrangement(house.pool, Cut(house.writer, after), **change)
            for _ in range(2):
                assert await carry_out_arrangement(house.pool, house.writer, **change) is None
        kinds = await house.pool.fetch(
            "SELECT kind, count(*) FROM settlement.event WHERE kind IN (2, 13, 29, 30) GROUP BY kind"
        )
        assert {row["kind"]: row["count"] for row in kinds} == {13: 1 + 4, 29: 4, 30: 4 * 2}
        assert [tuple(pair) for pair in await list_pairs(house.pool)] == [
            ("A", "B", "main", "cut-3"),
            ("B", "C", "main", "cut-3"),
        ]
        assert (await audit(house.pool)).differences == []


async def test_a_gross_cycle_is_paid_when_it_closes_and_verified_offline(dsn, tmp_path):
    """Rules T9, N13, K19 and Y1: orders move money when they clear, and of their cycle nothing is left to pay.

    Package, verifier, renderings, settlement, reports and audit say so, also after the writer starts anew; a payment
    that whoever holds the key wrote into it is found.
    """
    keyring = golden_keyring(tmp_path / "keys")
    packages = tmp_path / "packages"
    codes = ("AIR", "NOODLES", "SPECTACLES")
    async with open_house(dsn, *(terms(code, hosted=False) for code in codes)) as house:
        pairs = [("AIR", "NOODLES"), ("NOODLES", "SPECTACLES")]
        await arranged(house, "now", Model.GROSS, *pairs)
        air, noodles, _ = (house.numbers[code] for code in codes)

        async def close(arrangement: str) -> int:
            open_no = {row["code"]: row["cycle_no"] for row in await cycles.list_open(house.pool)}
            await cycles.close_now(
                house.pool, house.writer, now(house), by=PROGRAM, arrangement=arrangement
            )
            number: int = open_no[arrangement]
            return number

        async def anew() -> None:
            await house.writer.stop()
            house.writer = make_writer(dsn, house.clock)
            await house.writer.start()

        def spends(debit_cu: int, hold_us: int = 0) -> Order:
            return Order(
                noodles, new_key(), BODY, air, noodles, 1, 1, debit_cu, debit_cu - 3, 2,
                house.rates[air], hold_us=hold_us,
            )  # fmt: skip

        await close("main")
        await house.one(Deposit(0, new_key(), BODY, air, Pot.FUNDS, 20_000))
        cleared_in = await buy(house, "AIR", "NOODLES", 12_345)
        held = await house.one(spends(7_000, hold_us=10**9))
        assert held.kind == Kind.ACCEPTED
        await anew()
        for open_no in (cleared_in, cleared_in + 1):
            [shown] = [
                row
                for row in await inquiry.standing(house.pool, cycle_no=open_no)
                if row["merchant_no"] == air
            ]
            assert shown["held_cu"] == 7_000
            assert shown["unsettled_cu"] - shown["held_cu"] + shown["net_cu"] == 0
        late = await house.one(spends(656))
        assert (late.kind, late.reason) == (Kind.REFUSED, Reason.FUNDS_INSUFFICIENT.number)
        await buy(house, "AIR", "NOODLES", 655)
        await buy(house, "NOODLES", "SPECTACLES", 9_999)
        numbers = [await close("now"), await close("main")]
        cleared = await house.one(End(noodles, bytes(16), BODY, held.order_seq, Kind.CLEARED))
        numbers.append(await close("now"))
        assert (cleared.kind, cleared.cycle_no) == (Kind.CLEARED, numbers[-1])
        await anew()
        assert await cut_missing(house.pool, keys=tmp_path / "keys", packages=packages)
        batches = await house.pool.fetch(
            "SELECT cycle_no, cycle_id FROM settlement.batch ORDER BY sequence"
        )
        folders = {row["cycle_no"]: packages / row["cycle_id"] for row in batches}
        for folder in folders.values():
            assert verify_package(folder, trusted=keyring.trusted()).ok
        for number in (numbers[0], numbers[2]):
            folder = folders[number]
            manifest = json.loads((folder / "manifest.json").read_bytes())
            assert manifest["netting"]["model"] == "immediate-gross"
            legs = read_instructions((folder / "instructions.csv").read_bytes())
            assert {leg.party for leg in legs} >= {"AIR", "NOODLES", HOUSE_LEG_CODE}
            assert not any(
                (leg.net_cu, leg.pay_fen, leg.carry_before_cu, leg.carry_after_cu) != (0, 0, 0, 0)
                for leg in legs
            )
            state = await standing(house.pool, cycle_id=folder.name)
            assert state is not None
            assert (state.missing, state.figures.pairs) == ({}, ())
            sides = await three_way(
                house.pool, cycle_id=folder.name, packages=packages, at=now(house)
            )
            assert {fault for side in sides for fault in side.faults()} == {"no_file"}
        second = folders[numbers[2]]
        assert json.loads((second / "manifest.json").read_bytes())["carries"]["cycle_id"] == (
            folders[numbers[0]].name
        )

        before = await house.pool.fetch("SELECT party, cu FROM settlement.funds ORDER BY party")
        for source in (Moment(), Moment(journal=True)):
            found = trial_balance(await stood(house.pool, source, now=now(house)))
            assert found.ok, found.checks
        for number in numbers:
            settled = await house.one(SettleCycle(0, new_key(), BODY, number, funded=True))
            assert settled.kind == Kind.CYCLE_SETTLED
        after = await house.pool.fetch("SELECT party, cu FROM settlement.funds ORDER BY party")
        assert before == after
        assert sum(row["cu"] for row in after) == 20_000
        assert {row["party"]: row["cu"] for row in after}[air] == 0
        assert (await audit(house.pool)).differences == []

        listed = make(second, tmp_path / "made", kinds=(*SMALL, "xlsx"))
        assert not [one.path for one in listed.files if "pain.001" in one.path]
        vouchers = [one.path for one in listed.files if one.path.endswith("vouchers.csv")]
        for path in vouchers:
            entries = table(tmp_path / "made" / path)
            assert sum(fen(row["借方金额"]) - fen(row["贷方金额"]) for row in entries) == 0
        legs = read_instructions((second / "instructions.csv").read_bytes())
        for changed in (
            [replace(legs[0], net_cu=100, pay_fen=1), *legs[1:]],
            [replace(legs[0], carry_before_cu=1, carry_after_cu=1), *legs[1:]],
            legs[1:],
        ):
            (second / "instructions.csv").write_bytes(write_instructions(changed))
            resign(second)
            assert "instructions" in failed(second)
