"""The audit of hosted lots: recomputed from the journal, member by member, in one snapshot."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exchange.programme.core.audit import LotsAudit
from exchange.programme.store import audit as store
from settlement.service.audit import AuditReport
from settlement.service.clearing import PART

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.programme.store.audit import Connection


async def audit_lots(
    conn: Connection, *, part: int = PART, progress: Callable[[int], None] | None = None
) -> AuditReport:
    """Recompute every lot of a partition and say where rows differ.

    Args:
        conn: A connection inside a repeatable-read transaction (`settlement.service.audit.audit_snapshot`).
        part: Partition.
        progress: Called with the number of rows that were read since the last call.

    Returns:
        What was gone through, and every difference.

    Source: settlement/RULES.md, rules L1 to L6, P5, A3 and A5.
    """
    report = AuditReport(part=part)
    hosted = await store.fetch_hosted(conn)
    lots = LotsAudit(
        report,
        hosted=hosted,
        lapsed_through_us=await store.fetch_lapsed_through(conn, part=part),
    )

    async def take(piece: bytes) -> None:
        count = lots.feed(piece)
        if progress is not None and count:
            progress(count)
        await asyncio.sleep(0)  # the pieces that are here already would not let anybody else run

    await store.allow_sorting(conn)
    await store.copy_lots_and_events(conn, part=part, hosted=hosted, sink=take)
    lots.close()
    count, last_no, out_of_order = await store.fetch_numbering(conn, part=part)
    report.compare_rows(
        "exchange.lot",
        ("last lot_no", "lots out of order"),
        {"all lots": (count, 0)},
        {"all lots": (last_no, out_of_order)},
    )
    if stray := await store.fetch_stray_uses(conn, part=part):
        report.differ("exchange.lot_use", "lots that do not exist", "rows", 0, stray)
    for row in await store.fetch_torn_transfers(conn, part=part):
        report.differ(
            "settlement.event",
            f"seq {row['seq']}",
            f"lot {row['step']} of the transfer (rule P5)",
            (row["given_units"], row["expires_at"]),
            (row["received_units"], row["due_at"]),
        )
    for seq in await store.fetch_strange_transfers(conn, part=part):
        report.differ(
            "settlement.event", f"seq {seq}", "household", "one of the same programme", None
        )
    for row in await store.fetch_stray_proofs(conn, part=part):
        if row["stray"]:
            report.differ(row["name"], "orders that do not exist", "rows", 0, row["stray"])
    return report
