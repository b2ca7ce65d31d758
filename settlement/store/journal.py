"""The journal and the projections that one flush writes, and what a writer loads when it takes over.

Instants are microseconds since 1970 and uuids are their 16 bytes on a writer's connections (see
`prepare_writer_connection`), so that no object is built for a column on the hot path.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from schemas.values.ids import HOUSE_FEES, HOUSE_ROUNDING
from settlement.core.account import Account
from settlement.core.arrangement import Arrangement, Model, restore_pair, restore_window
from settlement.core.books import Books
from settlement.core.command import KEY_BYTES, Entry, key_name
from settlement.core.cycle import restore_closed
from settlement.core.event import COLUMNS, EPOCH_2000_US, Kind
from settlement.core.hold import Hold, restore_hold, restore_pin
from settlement.core.reversal import NOTHING, Amounts, Cleared, Past
from settlement.core.window import Obligation, Window
from settlement.store.funds import load_funds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from asyncpg import Connection
    from asyncpg.pool import PoolConnectionProxy

    from settlement.core.changes import Changes

_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Where a writer's right to write stands: its epoch, and the chain as it last saw it."""

    part: int
    epoch: int
    flush_no: int
    digest: bytes


async def prepare_writer_connection(conn: Connection) -> None:
    """Make instants plain microseconds since 1970 and uuids plain bytes on this connection."""
    await conn.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        encoder=lambda us: (us - EPOCH_2000_US,),
        decoder=lambda value: value[0] + EPOCH_2000_US,
        format="tuple",
    )
    await conn.set_type_codec(
        "uuid", schema="pg_catalog", encoder=lambda raw: raw, decoder=bytes, format="binary"
    )


async def insert_partition(
    conn: Connection | PoolConnectionProxy, *, part: int, caller_clock: bool
) -> None:
    """Make the partition's row, unless it is there."""
    await conn.execute(
        """
        INSERT INTO settlement.partition
               (part, epoch, flush_no, last_seq, digest, clock, clock_source, cycle_no)
        VALUES ($1, 0, 0, 0, decode(repeat('00', 32), 'hex'), 'epoch', $2, 0)
            ON CONFLICT (part) DO NOTHING
        """,
        part,
        "caller" if caller_clock else "wall",
    )


async def raise_epoch(
    conn: Connection, *, part: int, expected: int | None, writer: bytes
) -> Fence | None:
    """Fence every earlier writer of the partition out.

    Waits for a flush whose COMMIT is still under way, since that holds the row.

    Args:
        conn: A writer's connection.
        part: Partition.
        expected: The epoch that the caller held before; None for a first take-over.
        writer: 16 random bytes that name the writer. A take-over whose answer was lost is told by
            them from one by somebody else.

    Returns:
        The new fence; None if another writer has taken over since `expected`.
    """
    row = await conn.fetchrow(
        """
        UPDATE settlement.partition
           SET epoch = epoch + 1, writer = $3
         WHERE part = $1 AND ($2::bigint IS NULL OR epoch = $2 OR writer = $3)
        RETURNING epoch, flush_no, digest
        """,
        part,
        expected,
        writer,
    )
    if row is None:
        return None
    return Fence(part=part, epoch=row["epoch"], flush_no=row["flush_no"], digest=row["digest"])


async def end_blockers(conn: Connection, *, pid: int) -> None:
    """End the server processes that a take-over waits for.

    A writer that froze while it sent events leaves its server process reading bytes, where no time-out
    reaches; only the role that logged in may end its own.
    """
    await conn.execute("SET ROLE NONE")
    try:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM unnest(pg_blocking_pids($1)) AS blocking (pid)",
            pid,
        )
    finally:
        await conn.execute("SET ROLE tongdui_app")


async def fetch_epoch(conn: Connection, *, part: int) -> int | None:
    """The epoch of the partition's present writer; None if there is no such partition."""
    epoch: int | None = await conn.fetchval(
        "SELECT epoch FROM settlement.partition WHERE part = $1", part
    )
    return epoch


async def load_books(conn: Connection, part: int) -> Books:
    """Load the partition's state as the last committed flush left it."""
    head = await conn.fetchrow(
        "SELECT last_seq, clock, clock_source, cycle_no FROM settlement.partition WHERE part = $1",
        part,
    )
    assert head is not None
    books = Books(part=part, caller_clock=head["clock_source"] == "caller")
    books.start_after(head["last_seq"])
    books.clock_us = head["clock"]
    books.cycle_no = head["cycle_no"]
    for row in await conn.fetch(
        "SELECT merchant_no, cap_cu, collateral_cu, held_cu FROM settlement.account WHERE part = $1",
        part,
    ):
        books.accounts[row["merchant_no"]] = Account(
            row["cap_cu"], row["collateral_cu"], row["held_cu"]
        )
    await _load_arrangements(conn, books)
    await _load_obligations(conn, books)
    books.cycle_ids = {
        row["cycle_id"]
        for row in await conn.fetch("SELECT cycle_id FROM settlement.cycle WHERE part = $1", part)
    }
    await _load_positions(conn, books)
    books.funds = await load_funds(conn, part=part)
    for row in await conn.fetch(
        """
        SELECT e.seq, e.at, e.occurred_at, e.due_at, e.member_no, e.units, e.debit_cu, e.value_cu, e.fee_cu,
               e.credited_units, e.caller, e.issuer, e.acceptor, e.rate_no, e.reference
          FROM settlement.hold AS h
          JOIN settlement.event AS e ON e.part = h.part AND e.seq = h.order_seq
         WHERE h.part = $1
         ORDER BY e.seq
        """,
        part,
    ):
        restore_hold(books, Hold(*row.values()))
    for row in await conn.fetch(
        """
        SELECT e.seq, e.order_seq, e.kind, e.reason, e.at, e.due_at, e.cycle_no, e.issuer, e.acceptor,
               e.units, e.debit_cu, e.value_cu, e.fee_cu, e.credited_units, e.lot_no, e.rate_no
          FROM settlement.hold AS h
          JOIN settlement.event AS e ON e.part = h.part AND e.seq = h.pinned_seq
         WHERE h.part = $1
        """,
        part,
    ):
        restore_pin(books, Entry(*row.values()))
    return books


async def _load_arrangements(conn: Connection, books: Books) -> None:
    """Load arrangements, the pairs that have one, and which cycles are open beside the main one."""
    for row in await conn.fetch(
        "SELECT arrangement_no, code, model FROM settlement.arrangement WHERE part = $1", books.part
    ):
        made = Arrangement(row["arrangement_no"], row["code"], Model[row["model"].upper()])
        books.arrangements[made.arrangement_no] = made
    for row in await conn.fetch(
        """
        SELECT merchant_a, merchant_b, arrangement_no, next_no
          FROM settlement.pair_arrangement
         WHERE part = $1
        """,
        books.part,
    ):
        pair = (row["merchant_a"], row["merchant_b"])
        restore_pair(books, pair, row["arrangement_no"], row["next_no"])
    for row in await conn.fetch(
        """
        SELECT cycle_no, arrangement_no, state = 'open' AND arrangement_no > 0 AS beside
          FROM settlement.cycle
         WHERE part = $1
        """,
        books.part,
    ):
        books.last_cycle_no = max(books.last_cycle_no, row["cycle_no"])
        if row["beside"]:
            number = row["arrangement_no"]
            gross = books.arrangements[number].model is Model.GROSS
            books.windows[number] = Window(row["cycle_no"], gross=gross)


async def _load_obligations(conn: Connection, books: Books) -> None:
    """Load what cleared, and what was taken back, in the open cycles."""
    windows = {window.cycle_no: window for window in books.windows.values()}
    open_nos = [books.cycle_no, *windows]
    for row in await conn.fetch(
        """
        SELECT cycle_no, issuer, acceptor, orders, debit_cu, value_cu, fee_cu
          FROM settlement.obligation
         WHERE part = $1 AND cycle_no = ANY($2)
        """,
        books.part,
        open_nos,
    ):
        cycle_no, issuer, acceptor, *figures = row.values()
        totals = windows[cycle_no].obligations if cycle_no in windows else books.obligations
        totals[issuer, acceptor] = Obligation(*figures)
    for row in await conn.fetch(
        """
        SELECT cycle_no, issuer, acceptor, reversals, debit_cu, value_cu, fee_cu
          FROM settlement.reversed_obligation
         WHERE part = $1 AND cycle_no = ANY($2)
        """,
        books.part,
        open_nos,
    ):
        cycle_no, issuer, acceptor, *figures = row.values()
        totals = windows[cycle_no].reversed if cycle_no in windows else books.reversed
        totals[issuer, acceptor] = Obligation(*figures)


async def _load_positions(conn: Connection, books: Books) -> None:
    windows = {window.cycle_no: window for window in books.windows.values()}
    closed = await conn.fetch(
        "SELECT cycle_no, arrangement_no FROM settlement.cycle WHERE part = $1 AND state = 'closed'",
        books.part,
    )
    unsettled: dict[int, dict[int, int]] = {row["cycle_no"]: {} for row in closed}
    gross = {
        row["cycle_no"]
        for row in closed
        if row["arrangement_no"] and books.arrangements[row["arrangement_no"]].model is Model.GROSS
    }
    for row in await conn.fetch(
        """
        SELECT p.cycle_no, p.merchant_no, p.net_cu
          FROM settlement.position AS p
         WHERE p.part = $1 AND p.cycle_no = ANY($2)
        """,
        books.part,
        [*unsettled, *windows, books.cycle_no],
    ):
        if row["cycle_no"] in unsettled:
            unsettled[row["cycle_no"]][row["merchant_no"]] = row["net_cu"]
        elif row["cycle_no"] in windows:
            windows[row["cycle_no"]].nets[row["merchant_no"]] = row["net_cu"]
        elif row["merchant_no"] == HOUSE_FEES:
            books.fees_cu = row["net_cu"]
        elif row["merchant_no"] == HOUSE_ROUNDING:
            books.rounding_cu = row["net_cu"]
        else:
            books.accounts[row["merchant_no"]].open = row["net_cu"]
    for cycle_no, nets in unsettled.items():
        restore_closed(books, cycle_no, nets, gross=cycle_no in gross)
    for arrangement_no, window in books.windows.items():
        restore_window(books, arrangement_no, window)


async def advance_partition(
    conn: Connection, *, fence: Fence, books_seq: int, clock_us: int, cycle_no: int, digest: bytes
) -> bool:
    """Begin a flush: take the next flush number, if this writer is still the one.

    Returns:
        False if another writer has taken over; then nothing may be written.
    """
    status = await conn.execute(
        """
        UPDATE settlement.partition
           SET flush_no = flush_no + 1, last_seq = $4, clock = $5, cycle_no = $6, digest = $7
         WHERE part = $1 AND epoch = $2 AND flush_no = $3
        """,
        fence.part,
        fence.epoch,
        fence.flush_no,
        books_seq,
        clock_us,
        cycle_no,
        digest,
    )
    return bool(status == "UPDATE 1")


async def _once(data: bytes) -> AsyncIterator[bytes]:
    """Give everything at once; asyncpg would read a file in a thread, at twice the cost."""
    yield data


async def copy_events(conn: Connection, events: bytes) -> None:
    """Append events to the journal from their canonical bytes, joined."""
    await conn.copy_to_table(
        "event",
        schema_name="settlement",
        columns=COLUMNS,
        format="binary",
        source=_once(b"".join((_COPY_HEADER, events, _COPY_TRAILER))),
    )


async def write_projections(
    conn: Connection,
    *,
    part: int,
    changes: Changes,
    flush_no: int,
    epoch: int,
    at_us: int,
    digest: bytes,
) -> None:
    """Write positions, obligations and accounts that moved, and the flush's row, in one statement."""
    positions = list(changes.positions.items())
    obligations = list(changes.obligations.items())
    accounts = list(changes.accounts.items())
    await conn.execute(
        """
        WITH positions AS (
            INSERT INTO settlement.position (part, cycle_no, merchant_no, net_cu)
            SELECT $1, * FROM unnest($2::int[], $3::int[], $4::bigint[])
                ON CONFLICT (part, cycle_no, merchant_no) DO UPDATE SET net_cu = EXCLUDED.net_cu
        ), obligations AS (
            INSERT INTO settlement.obligation
                   (part, cycle_no, issuer, acceptor, orders, debit_cu, value_cu, fee_cu)
            SELECT $1, *
              FROM unnest($5::int[], $6::int[], $7::int[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
                ON CONFLICT (part, cycle_no, issuer, acceptor)
                DO UPDATE SET orders = EXCLUDED.orders, debit_cu = EXCLUDED.debit_cu,
                              value_cu = EXCLUDED.value_cu, fee_cu = EXCLUDED.fee_cu
        ), accounts AS (
            INSERT INTO settlement.account (part, merchant_no, cap_cu, collateral_cu, held_cu)
            SELECT $1, * FROM unnest($12::int[], $13::bigint[], $14::bigint[], $15::bigint[])
                ON CONFLICT (part, merchant_no)
                DO UPDATE SET cap_cu = EXCLUDED.cap_cu, collateral_cu = EXCLUDED.collateral_cu,
                              held_cu = EXCLUDED.held_cu
        )
        INSERT INTO settlement.flush (part, flush_no, epoch, first_seq, events, at, digest)
        VALUES ($1, $16, $17, $18, $19, $20, $21)
        """,
        part,
        [cycle for (cycle, _), _ in positions],
        [merchant for (_, merchant), _ in positions],
        [net for _, net in positions],
        [cycle for (cycle, _, _), _ in obligations],
        [issuer for (_, issuer, _), _ in obligations],
        [acceptor for (_, _, acceptor), _ in obligations],
        [figures[0] for _, figures in obligations],
        [figures[1] for _, figures in obligations],
        [figures[2] for _, figures in obligations],
        [figures[3] for _, figures in obligations],
        [merchant for merchant, _ in accounts],
        [figures[0] for _, figures in accounts],
        [figures[1] for _, figures in accounts],
        [figures[2] for _, figures in accounts],
        flush_no,
        epoch,
        changes.first_seq,
        changes.count,
        at_us,
        digest,
    )


async def write_reversed(
    conn: Connection,
    *,
    part: int,
    reversed_: dict[tuple[int, int, int], tuple[int, int, int, int]],
) -> None:
    """Write what reversals took back of the obligations of pairs, by cycle, issuer and acceptor."""
    await conn.executemany(
        """
        INSERT INTO settlement.reversed_obligation
               (part, cycle_no, issuer, acceptor, reversals, debit_cu, value_cu, fee_cu)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (part, cycle_no, issuer, acceptor)
            DO UPDATE SET reversals = EXCLUDED.reversals, debit_cu = EXCLUDED.debit_cu,
                          value_cu = EXCLUDED.value_cu, fee_cu = EXCLUDED.fee_cu
        """,
        [(part, *pair, *figures) for pair, figures in reversed_.items()],
    )


async def insert_holds(conn: Connection, *, part: int, holds: Sequence[Hold]) -> None:
    """Store holds that were opened and are still open."""
    await conn.execute(
        """
        INSERT INTO settlement.hold (part, order_seq, issuer, debit_cu, due_at)
        SELECT $1, * FROM unnest($2::bigint[], $3::int[], $4::bigint[], $5::timestamptz[])
        """,
        part,
        [hold.order_seq for hold in holds],
        [hold.issuer for hold in holds],
        [hold.debit_cu for hold in holds],
        [hold.due_at_us for hold in holds],
    )


async def pin_holds(conn: Connection, *, part: int, pinned: dict[int, int]) -> None:
    """Note for open holds, by their order, which event pinned them."""
    await conn.execute(
        """
        UPDATE settlement.hold AS h SET pinned_seq = pinned.seq
          FROM unnest($2::bigint[], $3::bigint[]) AS pinned (order_seq, seq)
         WHERE h.part = $1 AND h.order_seq = pinned.order_seq
        """,
        part,
        list(pinned),
        list(pinned.values()),
    )


async def delete_holds(conn: Connection, *, part: int, order_seqs: list[int]) -> None:
    """Forget stored holds that have ended; their end is an event."""
    await conn.execute(
        "DELETE FROM settlement.hold WHERE part = $1 AND order_seq = ANY($2::bigint[])",
        part,
        order_seqs,
    )


async def write_cycles(conn: Connection, *, part: int, changes: Changes) -> None:
    """Open, close and settle cycles as the events of this flush say, in their order."""
    for change in changes.cycles:
        if change.kind is Kind.CYCLE_OPENED:
            await conn.execute(
                """
                INSERT INTO settlement.cycle
                       (part, cycle_no, cycle_id, state, opened_at, cut_off_at, first_seq, arrangement_no)
                VALUES ($1, $2, $3, 'open', $4, $5, $6, $7)
                """,
                part,
                change.cycle_no,
                change.cycle_id,
                change.at_us,
                change.cut_off_us or None,
                change.seq,
                change.arrangement_no,
            )
        elif change.kind is Kind.CYCLE_CLOSED:
            await conn.execute(
                """
                UPDATE settlement.cycle SET state = 'closed', closed_at = $3, last_seq = $4
                 WHERE part = $1 AND cycle_no = $2
                """,
                part,
                change.cycle_no,
                change.at_us,
                change.seq,
            )
        else:
            await conn.execute(
                """
                UPDATE settlement.cycle SET state = 'settled', settled_at = $3
                 WHERE part = $1 AND cycle_no = $2
                """,
                part,
                change.cycle_no,
                change.at_us,
            )


async def write_arrangements(conn: Connection, *, part: int, changes: Changes) -> None:
    """Write arrangements that were made, and the pairs whose arrangement changed or will."""
    await conn.executemany(
        """
        INSERT INTO settlement.arrangement (part, arrangement_no, code, model)
        VALUES ($1, $2, $3, $4)
        """,
        [
            (part, made.arrangement_no, made.code, made.model.name.lower())
            for made in changes.arrangements
        ],
    )
    await conn.executemany(
        """
        INSERT INTO settlement.pair_arrangement (part, merchant_a, merchant_b, arrangement_no, next_no)
        VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (part, merchant_a, merchant_b)
            DO UPDATE SET arrangement_no = EXCLUDED.arrangement_no, next_no = EXCLUDED.next_no
        """,
        [(part, *pair, *numbers) for pair, numbers in changes.pairs.items()],
    )


async def fetch_by_keys(
    conn: Connection, *, part: int, names: Collection[bytes]
) -> dict[bytes, tuple[bytes, list[Entry]]]:
    """Find what was already decided under these keys, in one read.

    Args:
        conn: A writer's connection.
        part: Partition.
        names: Keys with their senders, as `key_name` makes them.

    Returns:
        By name: the body, and entries in order of their steps.
    """
    rows = await conn.fetch(
        """
        SELECT e.caller, e.key, e.body, e.seq, e.order_seq, e.kind, e.reason, e.at, e.due_at,
               e.cycle_no, e.issuer, e.acceptor, e.units, e.debit_cu, e.value_cu, e.fee_cu,
               e.credited_units, e.lot_no, e.rate_no
          FROM settlement.event AS e
         WHERE e.key = ANY($2::uuid[]) AND e.step >= 0
               AND e.part + 0 = $1 -- so that no index but event_key helps: never a walk along the table
        """,
        part,
        sorted({name[:KEY_BYTES] for name in names}),
    )
    found: dict[bytes, tuple[bytes, list[Entry]]] = {}
    for row in sorted(rows, key=itemgetter("seq")):
        caller, key, body, *figures = row.values()
        # Several senders may use the same key.
        if (name := key_name(caller, key)) in names:
            found.setdefault(name, (body, []))[1].append(Entry(*figures))
    return found


async def fetch_orders(
    conn: Connection, *, part: int, order_seqs: list[int]
) -> dict[int, tuple[int, list[Entry]]]:
    """Read orders by the number of their first event.

    Returns:
        Order to (its caller, its first event and, where there is one, its end).
    """
    found: dict[int, tuple[int, list[Entry]]] = {}
    for row in await conn.fetch(
        """
        SELECT found.*
          FROM unnest($2::bigint[]) AS wanted (order_seq)
         CROSS JOIN LATERAL (
               SELECT e.caller, e.seq, e.order_seq, e.kind, e.reason, e.at, e.due_at, e.cycle_no, e.issuer,
                      e.acceptor, e.units, e.debit_cu, e.value_cu, e.fee_cu, e.credited_units, e.lot_no,
                      e.rate_no
                 FROM settlement.event AS e
                WHERE e.part = $1 AND e.seq = wanted.order_seq AND e.order_seq = e.seq
                UNION ALL
               SELECT e.caller, e.seq, e.order_seq, e.kind, e.reason, e.at, e.due_at, e.cycle_no, e.issuer,
                      e.acceptor, e.units, e.debit_cu, e.value_cu, e.fee_cu, e.credited_units, e.lot_no,
                      e.rate_no
                 FROM settlement.event AS e
                WHERE e.part = $1 AND e.order_seq = wanted.order_seq AND e.kind IN (3, 4, 5)
                      AND e.order_seq <> e.seq
         ) AS found
         ORDER BY found.seq
        """,
        part,
        order_seqs,
    ):
        caller, *figures = row.values()
        found.setdefault(row["order_seq"], (caller, []))[1].append(Entry(*figures))
    return found


async def fetch_reversible(
    conn: Connection | PoolConnectionProxy, *, part: int, order_seqs: list[int]
) -> tuple[dict[int, Cleared], dict[int, Past]]:
    """Read orders that somebody wants to reverse or to correct, by the number of their first event.

    Returns:
        Those that cleared, with what reversals and adjustments took back so far; and how the others stand.
    """
    cleared: dict[int, Cleared] = {}
    past: dict[int, Past] = {}
    for row in await conn.fetch(
        """
        SELECT f.seq AS order_seq, coalesce(e.kind, f.kind) AS kind, coalesce(e.seq, f.seq) AS seq,
               f.caller, f.issuer, f.acceptor, f.member_no, f.rate_no, f.lot_no, f.reference, f.units,
               f.debit_cu, f.value_cu, f.fee_cu, f.credited_units, taken.*,
               coalesce(e.cycle_no, f.cycle_no) AS cycle_no, corrected.*
          FROM settlement.event AS f
          LEFT JOIN settlement.event AS e
            ON e.part = f.part AND e.order_seq = f.seq AND e.kind IN (3, 4, 5) AND e.order_seq <> e.seq
         CROSS JOIN LATERAL (
               SELECT -coalesce(sum(r.units), 0)::bigint AS taken_units,
                      -coalesce(sum(r.debit_cu), 0)::bigint AS taken_debit_cu,
                      -coalesce(sum(r.value_cu), 0)::bigint AS taken_value_cu,
                      -coalesce(sum(r.fee_cu), 0)::bigint AS taken_fee_cu,
                      -coalesce(sum(r.credited_units), 0)::bigint AS taken_credited_units,
                      coalesce(max(r.seq), 0) AS last_seq
                 FROM settlement.event AS r
                WHERE r.part = f.part AND r.order_seq = f.seq AND r.kind = 20
         ) AS taken
         CROSS JOIN LATERAL (
               SELECT -coalesce(sum(a.debit_cu), 0)::bigint AS corrected_debit_cu,
                      -coalesce(sum(a.value_cu), 0)::bigint AS corrected_value_cu,
                      -coalesce(sum(a.fee_cu), 0)::bigint AS corrected_fee_cu,
                      count(*) AS adjustments, coalesce(max(a.seq), 0) AS last_adjustment_seq
                 FROM settlement.event AS a
                WHERE a.part = f.part AND a.order_seq = f.seq AND a.kind = 6
         ) AS corrected
         WHERE f.part = $1 AND f.seq = ANY($2::bigint[]) AND f.order_seq = f.seq AND f.kind IN (1, 2, 3)
        """,
        part,
        order_seqs,
    ):
        order_seq, kind, *told = row.values()
        if kind != Kind.CLEARED:
            past[order_seq] = Past(row["acceptor"], Kind(kind))
            continue
        seq, caller, issuer, acceptor, member_no, rate_no, lot_no, reference, *figures = told
        whole, taken, last, cycle_no = figures[:5], figures[5:10], figures[10], figures[11]
        debit_cu, value_cu, fee_cu, adjustments, last_adjustment = figures[12:]
        cleared[order_seq] = Cleared(
            order_seq, seq, caller, issuer, acceptor, member_no, rate_no, lot_no, reference,
            Amounts(*whole), Amounts(*taken), max(last, last_adjustment), cycle_no,
            NOTHING._replace(debit_cu=debit_cu, value_cu=value_cu, fee_cu=fee_cu), adjustments,
        )  # fmt: skip
    return cleared, past
