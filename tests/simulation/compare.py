"""What is stored, beside what the oracle says."""

import copy
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from exchange.programme.core.liability import Flow
from exchange.programme.service.audit import audit_lots
from exchange.programme.service.liability import Asked, liability
from schemas.files.report import Report
from settlement.core.balances import Account
from settlement.service.audit import audit_books, audit_snapshot
from settlement.service.netting_reports import Span, fees, netted, savings
from settlement.service.reports import Moment, Standing, balances, standing, trial_balance
from tests.builders import instant
from tests.simulation.oracle import Oracle


async def stored_figures(pool: asyncpg.Pool) -> dict[str, Any]:
    """Positions, obligations, accounts, holds, cycles and lots as they are stored."""
    positions = await pool.fetch("SELECT cycle_no, merchant_no, net_cu FROM settlement.position")
    obligations = await pool.fetch(
        "SELECT cycle_no, issuer, acceptor, orders, debit_cu, value_cu, fee_cu FROM settlement.obligation"
    )
    reversed_ = await pool.fetch(
        "SELECT cycle_no, issuer, acceptor, reversals, debit_cu, value_cu, fee_cu FROM settlement.reversed_obligation"
    )
    accounts = await pool.fetch(
        "SELECT merchant_no, cap_cu, collateral_cu, held_cu FROM settlement.account"
    )
    holds = await pool.fetch("SELECT order_seq, pinned_seq FROM settlement.hold")
    cycles = await pool.fetch("SELECT cycle_no, cycle_id, state FROM settlement.cycle")
    lots = await pool.fetch(
        "SELECT lot_no, member_no, merchant_no, earned_units, units FROM exchange.lot_balance"
    )
    funds = await pool.fetch("SELECT party, cu FROM settlement.funds WHERE cu <> 0")
    shares = await pool.fetch("SELECT party, cu FROM settlement.contribution WHERE cu <> 0")
    debts = await pool.fetch("SELECT debtor, creditor, cu FROM settlement.debt WHERE cu <> 0")
    discharged = await pool.fetch(
        "SELECT cycle_no, one, other, one_cu, other_cu, fees_cu, rounding_cu FROM settlement.discharge"
    )
    return {
        "funds": {row[0]: row[1] for row in funds},
        "shares": {row[0]: row[1] for row in shares},
        "debts": {(row[0], row[1]): row[2] for row in debts},
        "discharged": {(row[0], row[1], row[2]): tuple(row)[3:] for row in discharged},
        "positions": {(row[0], row[1]): row[2] for row in positions if row[2]},
        "obligations": {(row[0], row[1], row[2]): tuple(row)[3:] for row in obligations},
        "reversed": {(row[0], row[1], row[2]): tuple(row)[3:] for row in reversed_},
        "accounts": {row[0]: tuple(row)[1:] for row in accounts},
        "holds": {row[0]: row[1] for row in holds},
        "cycles": {row[0]: (row[1], row[2]) for row in cycles},
        "lots": {row[0]: tuple(row)[1:] for row in lots},
    }


def told_figures(oracle: Oracle) -> dict[str, Any]:
    """The same in the oracle's words."""
    positions: Counter[tuple[int, int]] = Counter()
    for cycle, party, cu in oracle.postings():
        positions[cycle, party] += cu
    sums: dict[str, dict[tuple[int, int, int], tuple[int, int, int, int]]]
    sums = {"cleared": {}, "reversed": {}}
    for event in oracle.events(*sums, "adjusted"):
        pairs = sums["cleared" if event["debit"] > 0 else "reversed"]
        key = event["cycle"], event["issuer"], event["acceptor"]
        lines, debit, value, fee = pairs.get(key, (0, 0, 0, 0))
        pairs[key] = (
            lines + 1,
            debit + abs(event["debit"]),
            value + abs(event["value"]),
            fee + abs(event["fee"]),
        )
    unsettled = oracle.unsettled_cycles()
    return {
        "funds": oracle.balances(),
        "shares": oracle.shares(),
        "debts": oracle.debts(),
        "discharged": oracle.discharged(),
        "positions": {key: cu for key, cu in positions.items() if cu},
        "obligations": sums["cleared"],
        "reversed": sums["reversed"],
        "accounts": {
            merchant: (oracle.cap(merchant), oracle.collateral(merchant), oracle.held(merchant))
            for merchant in oracle.merchants()
        },
        "holds": {
            event["order"]: next((pin["seq"] for pin in oracle.pins(event["order"])), None)
            for event in oracle.open_holds()
        },
        "cycles": {
            event["cycle"]: (
                event["id"],
                "open"
                if event["cycle"] in oracle.open_cycles()
                else "closed"
                if event["cycle"] in unsettled
                else "settled",
            )
            for event in oracle.events("cycle_opened")
        },
        "lots": {
            lot["lot"]: (lot["member"], lot["merchant"], lot["earned"], lot["left"])
            for lot in oracle.lots
        },
    }


async def assert_same_figures(pool: asyncpg.Pool, oracle: Oracle) -> None:
    """Every stored figure is what the oracle says, and every posting sums to zero."""
    stored, told = await stored_figures(pool), told_figures(oracle)
    for name, figures in told.items():
        assert stored[name] == figures, name
    assert (
        await pool.fetch(
            "SELECT seq FROM settlement.posting GROUP BY seq, part HAVING sum(cu) <> 0"
        )
        == []
    )
    assert (
        await pool.fetch(
            "SELECT cycle_no FROM settlement.position GROUP BY cycle_no HAVING sum(net_cu) <> 0"
        )
        == []
    )


async def assert_audits_clean(pool: asyncpg.Pool) -> int:
    """Both audits find nothing, and neither do the reports' checks; returns how many events the audits read."""
    async with audit_snapshot(pool) as conn:
        books = await audit_books(conn)
        lots = await audit_lots(conn)
    assert books.differences == [], books.differences
    assert lots.differences == [], lots.differences
    now = datetime(3000, 1, 1, tzinfo=UTC)
    head = await standing(pool, Moment(), now=now)
    summed = await standing(pool, Moment(journal=True), now=now)
    assert head.ledger.same_as(summed.ledger)
    points = await liability(pool, Asked(), now=now)
    for report in (trial_balance(head), trial_balance(summed), points):
        assert report.ok, report.checks
    return books.events


def told_ledger(oracle: Oracle) -> dict[str, Any]:
    """Balances other than 0 of every account, caps and holds, in the oracle's words."""
    found: Counter[tuple[Account, int, int]] = Counter()
    parties = oracle.parties()
    for cycle in {*oracle.open_cycles(), *oracle.unsettled_cycles()}:
        for party in parties:
            found[Account.POSITION, cycle, party] = oracle.residual(cycle, party)
    for party, cu in oracle.balances().items():
        if party != -3:
            found[Account.FUNDS, 0, party] = cu
    for party, cu in oracle.shares().items():
        found[Account.DEFAULT_FUND, 0, party] = cu
    merchants = oracle.merchants()
    for merchant in merchants:
        found[Account.COLLATERAL, 0, merchant] = oracle.collateral(merchant)
    before = copy.copy(oracle)
    for count, event in enumerate(oracle.log):
        cu = event["value"]
        if event["kind"] == "collateral_set":
            before.log = oracle.log[:count]
            cu -= before.collateral(event["issuer"])
        if event["kind"] in ("deposited", "paid_out", "collateral_set"):
            found[Account.BANK, 0, -10] += cu if event["kind"] == "paid_out" else -cu
    return {
        "balances": {key: cu for key, cu in found.items() if cu},
        "caps": {merchant: oracle.cap(merchant) for merchant in merchants},
        "held": {merchant: cu for merchant in merchants if (cu := oracle.held(merchant))},
        "debts": oracle.debts(),
    }


def reported_ledger(stand: Standing) -> dict[str, Any]:
    """The same as a report has it; its sums are checked."""
    assert trial_balance(stand).ok
    assert balances(stand).ok
    ledger = stand.ledger
    return {
        "balances": {tuple(each)[:3]: each.cu for each in ledger.balances() if each.cu},
        "caps": ledger.caps,
        "held": {merchant: cu for merchant, cu in ledger.held.items() if cu},
        "debts": {pair: cu for pair, cu in ledger.debts.items() if cu},
    }


async def assert_same_reports(pool: asyncpg.Pool, oracle: Oracle, *, now: datetime) -> None:
    """Balances at the head, at instants and at the ends of cycles are the oracle's of the events till then.

    At the head the journal and the projections agree.
    """

    def till(count: int) -> dict[str, Any]:
        then = copy.copy(oracle)
        then.log = oracle.log[:count]
        return told_ledger(then)

    head = await standing(pool, Moment(), now=now)
    summed = await standing(pool, Moment(journal=True), now=now)
    for stand in (head, summed):
        told = told_ledger(oracle)
        for name, figures in reported_ledger(stand).items():
            assert figures == told[name], (name, figures, told[name])
    assert head.ledger.same_as(summed.ledger)
    found = await netted(pool, Span(), now=now)
    assert fees(found).ok
    assert savings(found).ok
    told = told_figures(oracle)
    earned: Counter[str] = Counter()
    for kind, sign in (("obligations", 1), ("reversed", -1)):
        for (cycle, *_), figures in told[kind].items():
            earned[told["cycles"][cycle][0]] += sign * figures[3]
    for row in fees(found).tables[0].rows:
        earned[str(row[0])] -= int(row[9] or 0)
    assert not any(earned.values())
    await assert_same_points(pool, oracle, now=now)
    for event in oracle.events("cycle_closed"):
        opened = next(e for e in oracle.events("cycle_opened") if e["cycle"] == event["cycle"])
        stand = await standing(pool, Moment(cycle_id=opened["id"]), now=now)
        assert (stand.last_seq, stand.as_of_us) == (event["seq"], event["at"])
        assert reported_ledger(stand) == till(event["seq"])
    for at in {
        e["at"] + more for e in oracle.log[:: len(oracle.log) // 3 or 1] for more in (-1, 0)
    }:
        stand = await standing(pool, Moment(at=instant(at)), now=now)
        assert stand.last_seq == sum(e["at"] <= at for e in oracle.log)
        assert reported_ledger(stand) == till(stand.last_seq)


def table(report: Report, name: str) -> Sequence[tuple[Any, ...]]:
    """Rows of one table of a report."""
    found = report.table(name)
    assert found is not None
    return found.rows


async def assert_same_points(pool: asyncpg.Pool, oracle: Oracle, *, now: datetime) -> None:
    """The roll-forward of each programme ends with the oracle's lots, and what was issued or lapsed is its events'.

    A period that begins at an instant opens with what the report of that instant closes with.
    """
    codes = {
        row["code"]: row["merchant_no"]
        for row in await pool.fetch("SELECT * FROM settlement.merchant")
    }
    whole = await liability(pool, Asked(), now=now)
    assert whole.ok, whole.checks
    for code, opening, *moved, closing in table(whole, "roll-forward"):
        lots = [lot for lot in oracle.lots if lot["merchant"] == codes[code]]
        told = dict(zip((flow.english for flow in Flow), moved, strict=True))
        assert (opening, closing) == (0, sum(lot["left"] for lot in lots))
        cohorts: Counter[str] = Counter()
        for lot in lots:
            month = instant(lot["expires"]) + timedelta(hours=8)
            cohorts[f"{month:%Y-%m}"] += lot["left"]
        assert +cohorts == +Counter(
            {row[1]: row[5] for row in table(whole, "cohorts") if row[0] == code}
        )
        for kind, name in (("accrued", "issued"), ("lapsed", "lapsed"), ("given", "given")):
            events = [e for e in oracle.events(kind) if e["issuer"] == codes[code]]
            assert told[name] == sum(event["units"] for event in events), name
    at = instant(oracle.log[len(oracle.log) // 2]["at"])
    first, second = [
        await liability(pool, asked, now=now) for asked in (Asked(at=at), Asked(since=at))
    ]
    assert first.ok
    assert second.ok
    assert [row[-1] for row in table(first, "roll-forward")] == [
        row[1] for row in table(second, "roll-forward")
    ]
    assert [row[-1] for row in table(second, "roll-forward")] == [
        row[-1] for row in table(whole, "roll-forward")
    ]
