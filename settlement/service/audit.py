"""The audit: everything that is derived from the journal, recomputed from its rows in one snapshot.

Reads while the writer works: a repeatable-read transaction sees the journal and the projections as of
one commit. Memory stays flat, since the journal is streamed a few flushes at a time and what a closed
cycle came to is forgotten once it is compared.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from schemas.files.manifest import NO_PREVIOUS, read_manifest
from schemas.values.amounts import CU_PER_FEN
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE_CODES
from settlement.core.arrangement import MAIN, Model
from settlement.core.audit import (
    AuditReport,
    CycleFigures,
    Difference,
    JournalAudit,
    instant_text,
    obligation_key,
    obligation_rows,
    position_key,
    position_rows,
    reversed_rows,
)
from settlement.core.event import EPOCH_2000_US
from settlement.core.instruction import HOUSE_LEG
from settlement.service.audit_funds import compare_funds
from settlement.service.clearing import PART
from settlement.store import audit as store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import asyncpg

    from settlement.store.audit import Connection

__all__ = ["AuditReport", "Difference", "audit", "audit_books", "audit_snapshot"]

FLUSHES_AT_A_TIME: Final = 5_000
EVENTS_AT_A_TIME: Final = 250_000
BATCHES_AT_A_TIME: Final = 50
LAST_SEQ: Final = 2**62
_CYCLE_COLUMNS = (
    "cycle_id",
    "arrangement_no",
    "state",
    "opened_at",
    "closed_at",
    "settled_at",
    "first_seq",
    "last_seq",
)


async def audit(
    pool: asyncpg.Pool, *, part: int = PART, progress: Callable[[int], None] | None = None
) -> AuditReport:
    """Recompute the books of a partition in one snapshot, and say where the rows differ.

    Args:
        pool: Connections under the program's role.
        part: Partition.
        progress: Called with the number of events that were read since the last call.

    Returns:
        What was gone through, and every difference.
    """
    async with audit_snapshot(pool) as conn:
        return await audit_books(conn, part=part, progress=progress)


@asynccontextmanager
async def audit_snapshot(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """One snapshot for several audits: that of the books, and those of whoever rides on the pipeline."""
    async with store.snapshot(pool) as conn:
        yield conn


async def audit_books(
    conn: Connection, *, part: int = PART, progress: Callable[[int], None] | None = None
) -> AuditReport:
    """Recompute the books of a partition; see `audit`.

    Args:
        conn: A connection inside a repeatable-read transaction.
        part: Partition.
        progress: Called with the number of events that were read since the last call.

    Source: settlement/RULES.md, rules B1 to B8, C1 to C4, U1 to U11.
    """
    report = AuditReport(part=part)
    partition = await store.fetch_partition(conn, part=part)
    if partition is None:
        report.differ("settlement.partition", f"part {part}", "row", "present", None)
        return report
    reversed_orders = await store.fetch_reversed_orders(conn, part=part)
    journal = JournalAudit(report, reversed_orders=reversed_orders)
    await _stream(conn, journal, progress)
    _compare_partition(journal, partition)
    await _compare_accounts(conn, journal)
    await compare_funds(conn, journal)
    await _compare_cycles(conn, journal)
    await _compare_arrangements(conn, journal)
    await _check_batches(conn, journal)
    for row in await store.fetch_rows_without_partition(conn):
        report.differ(row["name"], "partitions that do not exist", "rows", 0, row["stored"])
    return report


# The journal -----------------------------------------------------------------------------------------


async def _stream(
    conn: Connection, journal: JournalAudit, progress: Callable[[int], None] | None
) -> None:
    """Read the flush log and its events side by side, some flushes at a time."""
    report = journal.report

    async def take(piece: bytes) -> None:
        count = journal.feed(piece)
        if progress is not None and count:
            progress(count)
        await asyncio.sleep(0)  # the pieces that are here already would not let anybody else run

    last = False
    while not last:
        after_no = journal.last_flush.flush_no if journal.last_flush else 0
        flushes = await store.fetch_flushes(
            conn, part=report.part, after_no=after_no, limit=FLUSHES_AT_A_TIME
        )
        last = len(flushes) < FLUSHES_AT_A_TIME
        total = 0
        for place, flush in enumerate(flushes):
            total += flush.events
            if total >= EVENTS_AT_A_TIME and place + 1 < len(flushes):
                del flushes[place + 1 :]
                last = False
                break
        journal.expect(flushes)
        await store.copy_events(
            conn,
            part=report.part,
            after_seq=journal.last_seq,
            through_seq=LAST_SEQ if last else flushes[-1].first_seq + flushes[-1].events - 1,
            sink=take,
        )
        journal.end_stream()
        await _compare_figures(conn, report, journal.take_finished_cycles())
    flushed = (
        journal.last_flush.first_seq + journal.last_flush.events - 1 if journal.last_flush else 0
    )
    if journal.last_seq > flushed:
        report.differ(
            "settlement.event",
            f"seq {flushed + 1} to {journal.last_seq}",
            "flush",
            "in the log",
            None,
        )
    await _compare_figures(conn, report, list(journal.open.values()))


async def _compare_figures(
    conn: Connection, report: AuditReport, cycles: list[CycleFigures]
) -> None:
    """Compare positions and obligations of cycles, and forget them."""
    if not cycles:
        return
    cycle_nos = [cycle.cycle_no for cycle in cycles]
    positions = await store.fetch_positions(conn, part=report.part, cycle_nos=cycle_nos)
    report.compare_rows(
        "settlement.position",
        ("net_cu",),
        {key: row for cycle in cycles for key, row in position_rows(cycle).items()},
        {position_key(row["cycle_no"], row["merchant_no"]): (row["net_cu"],) for row in positions},
    )
    for cycle_no in cycle_nos:
        total = sum(row["net_cu"] for row in positions if row["cycle_no"] == cycle_no)
        if total:
            report.differ("settlement.position", f"cycle {cycle_no}", "sum of net_cu", 0, total)
    report.compare_rows(
        "settlement.obligation",
        ("orders", "debit_cu", "value_cu", "fee_cu"),
        {key: row for cycle in cycles for key, row in obligation_rows(cycle).items()},
        {
            obligation_key(cycle_no, issuer, acceptor): tuple(figures)
            for cycle_no, issuer, acceptor, *figures in await store.fetch_obligations(
                conn, part=report.part, cycle_nos=cycle_nos
            )
        },
    )
    report.compare_rows(
        "settlement.reversed_obligation",
        ("reversals", "debit_cu", "value_cu", "fee_cu"),
        {key: row for cycle in cycles for key, row in reversed_rows(cycle).items()},
        {
            obligation_key(cycle_no, issuer, acceptor): tuple(figures)
            for cycle_no, issuer, acceptor, *figures in await store.fetch_reversed(
                conn, part=report.part, cycle_nos=cycle_nos
            )
        },
    )
    for cycle in cycles:
        cycle.pairs, cycle.reversed = {}, {}


# The projections -------------------------------------------------------------------------------------


def _compare_partition(journal: JournalAudit, partition: asyncpg.Record) -> None:
    """The partition's row is where the journal and the flush log end."""
    report, flush = journal.report, journal.last_flush
    report.compare_rows(
        "settlement.partition",
        ("flush_no", "last_seq", "digest", "cycle_no", "funds_kept"),
        {
            f"part {report.part}": (
                flush.flush_no if flush else 0,
                journal.last_seq,
                report.head,
                journal.main_cycle_no,
                journal.funds.kept,
            )
        },
        {
            f"part {report.part}": (
                partition["flush_no"],
                partition["last_seq"],
                partition["digest"],
                partition["cycle_no"],
                partition["funds_kept"],
            )
        },
    )
    if flush and partition["epoch"] < flush.epoch:
        report.differ(
            "settlement.partition", f"part {report.part}", "epoch",
            f">= {flush.epoch}", partition["epoch"],
        )  # fmt: skip
    if flush and partition["clock_us"] != flush.at_us:
        report.differ(
            "settlement.partition", f"part {report.part}", "clock",
            instant_text(flush.at_us), instant_text(partition["clock_us"]),
        )  # fmt: skip


async def _compare_accounts(conn: Connection, journal: JournalAudit) -> None:
    """Caps, collateral, totals of holds, and the holds themselves."""
    report = journal.report
    report.compare_rows(
        "settlement.account",
        ("cap_cu", "collateral_cu", "held_cu"),
        {
            f"merchant {merchant_no}": (account.cap, account.collateral, account.held)
            for merchant_no, account in journal.accounts.items()
        },
        {
            f"merchant {merchant_no}": tuple(figures)
            for merchant_no, *figures in await store.fetch_accounts(conn, part=report.part)
        },
    )
    report.holds = len(journal.holds)
    report.compare_rows(
        "settlement.hold",
        ("issuer", "debit_cu", "due_at", "pinned_seq"),
        {
            f"order {seq}": (
                hold.figures.issuer,
                hold.figures.debit,
                instant_text(hold.due_at + EPOCH_2000_US),
                hold.pinned_seq,
            )
            for seq, hold in journal.holds.items()
        },
        {
            f"order {order_seq}": (issuer, debit_cu, instant_text(due_us), pinned_seq)
            for order_seq, issuer, debit_cu, due_us, pinned_seq in await store.fetch_holds(
                conn, part=report.part
            )
        },
    )


def _instant_or_none(at_us: int | None) -> str | None:
    return None if at_us is None else instant_text(at_us)


async def _compare_cycles(conn: Connection, journal: JournalAudit) -> None:
    """States, instants and ranges of all cycles, and figures of cycles that never were."""
    report = journal.report
    report.compare_rows(
        "settlement.cycle",
        _CYCLE_COLUMNS,
        {
            f"cycle {cycle.cycle_no}": (
                cycle.cycle_id,
                cycle.arrangement_no,
                cycle.state,
                instant_text(cycle.opened_at_us),
                _instant_or_none(cycle.closed_at_us),
                _instant_or_none(cycle.settled_at_us),
                cycle.first_seq,
                cycle.last_seq,
            )
            for cycle in journal.cycles.values()
        },
        {
            f"cycle {row['cycle_no']}": (
                row["cycle_id"],
                row["arrangement_no"],
                row["state"],
                instant_text(row["opened_us"]),
                _instant_or_none(row["closed_us"]),
                _instant_or_none(row["settled_us"]),
                row["first_seq"],
                row["last_seq"],
            )
            for row in await store.fetch_cycles(conn, part=report.part)
        },
    )
    for row in await store.fetch_stray_cycles(
        conn, part=report.part, cycle_nos=list(journal.cycles)
    ):
        report.differ(row["name"], f"cycle {row['cycle_no']}", "rows", 0, row["stored"])


async def _compare_arrangements(conn: Connection, journal: JournalAudit) -> None:
    """Arrangements, and which of them each pair of merchants has and gets."""
    report = journal.report
    report.compare_rows(
        "settlement.arrangement",
        ("code", "model"),
        {f"arrangement {number}": made for number, made in journal.arrangements.items()},
        {
            f"arrangement {number}": (code, int(Model[model.upper()]))
            for number, code, model in await store.fetch_arrangements(conn, part=report.part)
        },
    )
    report.compare_rows(
        "settlement.pair_arrangement",
        ("arrangement_no", "next_no"),
        {
            f"merchants {one} and {other}": (number, journal.turning.get((one, other)))
            for (one, other), number in journal.pairs.items()
        },
        {
            f"merchants {one} and {other}": (number, next_no)
            for one, other, number, next_no in await store.fetch_pairs(conn, part=report.part)
        },
    )


# Batches ---------------------------------------------------------------------------------------------


async def _check_batches(conn: Connection, journal: JournalAudit) -> None:
    """The chain of manifests, what each says of its cycle, and its instructions."""
    report = journal.report
    previous = bytes.fromhex(NO_PREVIOUS)
    sequence = 0
    carries: dict[int, dict[tuple[int, int], int]] = {}
    while batches := await store.fetch_batches(
        conn, after_sequence=sequence, limit=BATCHES_AT_A_TIME
    ):
        instructions = await store.fetch_instructions(
            conn, cycle_nos=[row["cycle_no"] for row in batches]
        )
        for row in batches:
            _check_link(journal, row, sequence + 1, previous)
            await _check_manifest(conn, report, row)
            cycle = journal.cycles.get(row["cycle_no"])
            arrangement_no = _carrying(journal, cycle)
            carries[arrangement_no] = _check_instructions(
                report,
                row["cycle_no"],
                [one for one in instructions if one["cycle_no"] == row["cycle_no"]],
                carries.get(arrangement_no, {}),
            )
            report.batches += 1
            sequence, previous = row["sequence"], row["manifest_sha256"]


def _carrying(journal: JournalAudit, cycle: CycleFigures | None) -> int:
    """Whose carries go on in a cycle's batch: everybody's where it is multilateral, else its own arrangement's."""
    _, model = journal.arrangements.get(cycle.arrangement_no if cycle else MAIN, ("", 0))
    return cycle.arrangement_no if cycle and model != Model.MULTILATERAL else MAIN


def _check_link(journal: JournalAudit, row: asyncpg.Record, sequence: int, previous: bytes) -> None:
    """A batch's place: no gap, the digest of the one before, the digest of its own bytes, a closed cycle."""
    report, key = journal.report, f"batch {row['sequence']}"
    cycle = journal.cycles.get(row["cycle_no"])
    if cycle is None or cycle.state == "open":
        report.differ("settlement.batch", key, "cycle_no", "a closed cycle", row["cycle_no"])
    report.compare_rows(
        "settlement.batch",
        ("sequence", "cycle_id", "previous_sha256", "manifest_sha256"),
        {
            key: (
                sequence,
                cycle.cycle_id if cycle else row["cycle_id"],
                previous,
                hashlib.sha256(row["manifest"]).digest(),
            )
        },
        {key: (row["sequence"], row["cycle_id"], row["previous_sha256"], row["manifest_sha256"])},
    )


async def _check_manifest(conn: Connection, report: AuditReport, row: asyncpg.Record) -> None:
    """What was signed is what the books say: chain heads that were published, and every party's figure."""
    key = f"batch {row['sequence']}"
    try:
        manifest = read_manifest(row["manifest"])
    except SchemaError as error:
        report.differ("settlement.batch", key, "manifest", "a manifest", str(error))
        return
    heads = [head for head in manifest.chain_heads if head.part == report.part]
    digests = await store.fetch_flush_digests(
        conn, part=report.part, flush_nos=[head.flush_no for head in heads]
    )
    for head in heads:
        published = (head.last_seq, bytes.fromhex(head.digest))
        if digests.get(head.flush_no) != published:
            report.differ(
                "settlement.flush",
                f"flush {head.flush_no}",
                f"last event and digest, as published by {key}",
                published,
                digests.get(head.flush_no),
            )
    if len(manifest.chain_heads) > 1:
        return  # Figures are sums over partitions; each partition's audit compares its own rows.
    names = await _codes(conn)
    stored = {
        names.get(one["merchant_no"], str(one["merchant_no"])): (str(one["net_cu"]),)
        for one in await store.fetch_positions(conn, part=report.part, cycle_nos=[row["cycle_no"]])
    }
    signed = {one.party: (one.net_cu,) for one in manifest.netting.parties}
    report.compare_rows(
        "settlement.batch",
        ("net_cu",),
        {f"{key}, party {party}": net for party, net in stored.items() if net != ("0",)},
        {f"{key}, party {party}": net for party, net in signed.items() if net != ("0",)},
    )


async def _codes(conn: Connection) -> dict[int, str]:
    return HOUSE_CODES | await store.fetch_codes(conn)


def _check_instructions(
    report: AuditReport,
    cycle_no: int,
    rows: list[asyncpg.Record],
    carries: dict[tuple[int, int], int],
) -> dict[tuple[int, int], int]:
    """Instructions sum to zero, and each begins with what the one before left over.

    Returns:
        What is carried on, by merchant and counterparty.
    """
    key = f"cycle {cycle_no}"
    paid = sum(row["pay_fen"] for row in rows)
    bilateral = any(row["counterparty_no"] for row in rows)
    kept = sum(row["carry_before_cu"] - row["carry_after_cu"] for row in rows) if bilateral else 0
    if paid * CU_PER_FEN != kept:
        report.differ("settlement.instruction", key, "sum of pay_fen", kept // CU_PER_FEN, paid)
    net = sum(row["net_cu"] for row in rows)
    if net:
        report.differ("settlement.instruction", key, "sum of net_cu", 0, net)
    after: dict[tuple[int, int], int] = {}
    for row in rows:
        party = row["merchant_no"]
        if party == HOUSE_LEG and not bilateral:
            continue
        pair = (party, row["counterparty_no"])
        before = carries.pop(pair, 0)
        if row["carry_before_cu"] != before:
            report.differ(
                "settlement.instruction",
                f"{key}, {_pair_text(pair)}",
                "carry_before_cu",
                before,
                row["carry_before_cu"],
            )
        if row["carry_after_cu"]:
            after[pair] = row["carry_after_cu"]
    for pair, carry in carries.items():
        report.differ(
            "settlement.instruction",
            f"{key}, {_pair_text(pair)}",
            "row",
            f"carry_before_cu {carry}",
            None,
        )
    return after


def _pair_text(pair: tuple[int, int]) -> str:
    """How a difference names whose carry it is."""
    party, counterparty = pair
    return f"merchant {party}" + (f", counterparty {counterparty}" if counterparty else "")
