"""The audit of whose the money is: stored funds, shares, debts and pairs beside what the journal says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.values.ids import HOUSE_DEFAULT_FUND
from settlement.store import funds as store

if TYPE_CHECKING:
    from settlement.core.audit import JournalAudit
    from settlement.store.audit import Connection


async def compare_funds(conn: Connection, journal: JournalAudit) -> None:
    """Compare the tables of funds; what the default fund's parties have in it is the fund."""
    report, funds, part = journal.report, journal.funds, journal.report.part
    stored = {
        f"party {row['party']}": (row["cu"],) for row in await store.fetch_funds(conn, part=part)
    }
    report.compare_rows(
        "settlement.funds",
        ("cu",),
        {f"party {party}": (cu,) for party, cu in funds.balances.items() if cu},
        {key: row for key, row in stored.items() if row[0]},
    )
    shares = {
        f"party {row['party']}": (row["cu"],)
        for row in await store.fetch_contributions(conn, part=part)
    }
    report.compare_rows(
        "settlement.contribution",
        ("cu",),
        {f"party {party}": (cu,) for party, cu in funds.shares.items() if cu},
        {key: row for key, row in shares.items() if row[0]},
    )
    total = sum(row[0] for row in shares.values())
    fund = stored.get(f"party {HOUSE_DEFAULT_FUND}", (0,))[0]
    if total != fund:
        report.differ("settlement.contribution", "all parties", "sum of cu", fund, total)
    report.compare_rows(
        "settlement.debt",
        ("cu",),
        {_debt_key(*pair): (cu,) for pair, cu in funds.debts.items() if cu},
        {
            _debt_key(row["debtor"], row["creditor"]): (row["cu"],)
            for row in await store.fetch_debts(conn, part=part)
            if row["cu"]
        },
    )
    report.compare_rows(
        "settlement.discharge",
        ("one_cu", "other_cu", "fees_cu", "rounding_cu"),
        {_pair_key(*key): sums for key, sums in funds.discharged.items()},
        {
            _pair_key(cycle_no, one, other): tuple(sums)
            for cycle_no, one, other, *sums in await store.fetch_discharges(conn, part=part)
        },
    )


def _debt_key(debtor: int, creditor: int) -> str:
    return f"debtor {debtor}, creditor {creditor}"


def _pair_key(cycle_no: int, one: int, other: int) -> str:
    return f"cycle {cycle_no}, merchants {one} and {other}"
