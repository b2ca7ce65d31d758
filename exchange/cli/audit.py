"""`tongdui audit`: every figure that is derived from the journal, recomputed and compared."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from exchange.cli.context import database, pool_of, run, this_home
from exchange.cli.output import out, print_json, progress_bar

if TYPE_CHECKING:
    from settlement.core.audit import AuditReport


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def audit(context: click.Context, *, as_json: bool) -> None:
    """Recompute every position, every lot and the hash chain from the journal, and say where the rows differ.

    Works beside a running server: everything is read in one snapshot. Ends with status 1 if anything differs.
    """
    with database(this_home()) as dsn:
        report, entries, head = run(_audit(dsn))
    if as_json:
        print_json(
            {
                "clean": report.clean,
                "part": report.part,
                "events": report.events,
                "flushes": report.flushes,
                "orders": report.orders,
                "cycles": report.cycles,
                "lots": report.lots,
                "holds": report.holds,
                "batches": report.batches,
                "head": report.head.hex(),
                "trail_entries": entries,
                "trail_head": head.hex(),
                "differences_count": report.differences_count,
                "differences": [asdict(each) for each in report.differences],
            }
        )
    else:
        _show(report, entries, head)
    context.exit(0 if report.clean else 1)


async def _audit(dsn: str) -> tuple[AuditReport, int, bytes]:
    """Audit the books, the hosted lots and the trail on one snapshot; with how long the trail is, and its head."""
    from exchange.programme.service.audit import audit_lots
    from settlement.service.audit import audit_books, audit_snapshot
    from settlement.service.cycles import ledger_head
    from settlement.service.trail import audit_trail

    async with pool_of(dsn) as pool:
        head = await ledger_head(pool)
        # Books and lots each go through the journal once.
        with progress_bar("events 事件", total=2 * head["last_seq"] if head else None) as advance:
            async with audit_snapshot(pool) as snapshot:
                report = await audit_books(snapshot, progress=advance)
                report.add(await audit_lots(snapshot, progress=advance))
                trail, entries, trail_head = await audit_trail(snapshot)
                report.add(trail)
    return report, entries, trail_head


def _show(report: AuditReport, entries: int, head: bytes) -> None:
    """Say what was gone through and what differs, for people."""
    from rich.markup import escape
    from rich.table import Table

    console = out()
    console.print(
        f"{report.events:,} events in {report.flushes:,} flushes, {report.orders:,} orders, {report.cycles:,} cycles, "
        f"{report.lots:,} lots, {report.holds:,} open holds, {report.batches:,} packages",
        soft_wrap=True,
    )
    console.print(f"chain head 链头 {report.head.hex()}", soft_wrap=True)
    console.print(f"{entries:,} entries in the trail, head 审计链头 {head.hex()}", soft_wrap=True)
    if report.clean:
        console.print("[green]The books are what the journal says. 账目与日志一致。[/]")
        return
    table = Table("table 表", "row 行", "field 字段", "journal says 应为", "stored 实为")
    for each in report.differences:
        table.add_row(*map(escape, (each.table, each.key, each.field, each.expected, each.found)))
    console.print(table)
    console.print(
        f"[red]{report.differences_count:,} differences. 发现 {report.differences_count:,} 处不一致。[/]"
    )
