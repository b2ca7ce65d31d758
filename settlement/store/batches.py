"""SQL of batches: the facts of a closed cycle, its lines as a stream, and the row of its package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from settlement.core.netting import Obligation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection | PoolConnectionProxy


async def fetch_cycle_parts(conn: Connection, *, cycle_no: int) -> list[Record]:
    """Read the cycle in each partition: state, times, and its range of sequence numbers."""
    return await conn.fetch(
        """
        SELECT c.part, c.cycle_id, c.state, c.opened_at, c.cut_off_at, c.closed_at, c.first_seq, c.last_seq,
               coalesce(a.code, 'main') AS arrangement, coalesce(a.model, 'multilateral') AS model
          FROM settlement.cycle AS c
          LEFT JOIN settlement.arrangement AS a USING (part, arrangement_no)
         WHERE c.cycle_no = $1
         ORDER BY c.part
        """,
        cycle_no,
    )


async def fetch_uncut_before(conn: Connection, *, cycle_no: int) -> int | None:
    """Find the first cycle that closed before this one and whose batch is still to be cut; None if there is none.

    A cycle that was counted as settled without a batch and owes nothing gets none.
    """
    found: int | None = await conn.fetchval(
        """
        SELECT c.cycle_no
          FROM settlement.cycle AS c
          JOIN settlement.cycle AS this ON this.part = c.part AND this.cycle_no = $1
         WHERE c.last_seq < this.last_seq
           AND NOT EXISTS (SELECT FROM settlement.batch AS b WHERE b.cycle_no = c.cycle_no)
           AND (c.state <> 'settled'
                OR EXISTS (SELECT FROM settlement.obligation AS o
                            WHERE o.part = c.part AND o.cycle_no = c.cycle_no)
                OR EXISTS (SELECT FROM settlement.reversed_obligation AS r
                            WHERE r.part = c.part AND r.cycle_no = c.cycle_no))
         ORDER BY c.last_seq
         LIMIT 1
        """,
        cycle_no,
    )
    return found


async def fetch_batch(conn: Connection, *, cycle_no: int) -> Record | None:
    """Read the batch of a cycle."""
    return await conn.fetchrow(
        """
        SELECT cycle_no, sequence, cycle_id, manifest, previous_sha256, manifest_sha256
          FROM settlement.batch
         WHERE cycle_no = $1
        """,
        cycle_no,
    )


async def fetch_batch_before(conn: Connection, *, cycle_no: int) -> Record | None:
    """Read the batch that the batch of a cycle is chained to; None for the first."""
    return await conn.fetchrow(
        """
        SELECT b.cycle_no, b.sequence, b.cycle_id, b.manifest_sha256
          FROM settlement.batch AS b
          JOIN settlement.cycle AS c USING (cycle_no)
          JOIN settlement.cycle AS this ON this.part = c.part AND this.cycle_no = $1
         WHERE c.last_seq < this.last_seq
         ORDER BY c.last_seq DESC
         LIMIT 1
        """,
        cycle_no,
    )


async def fetch_carrying_batch(conn: Connection, *, cycle_no: int) -> Record | None:
    """Read the batch whose carries go on in that of a cycle.

    That is the one before that is multilateral too, or of the same arrangement where it is not.
    """
    return await conn.fetchrow(
        """
        SELECT b.cycle_no, b.cycle_id, b.manifest_sha256
          FROM settlement.batch AS b
          JOIN settlement.cycle AS c USING (cycle_no)
          JOIN settlement.cycle AS this ON this.part = c.part AND this.cycle_no = $1
          LEFT JOIN settlement.arrangement AS a
            ON a.part = c.part AND a.arrangement_no = c.arrangement_no
          LEFT JOIN settlement.arrangement AS own
            ON own.part = this.part AND own.arrangement_no = this.arrangement_no
         WHERE c.last_seq < this.last_seq
               AND coalesce(a.model, 'multilateral') = coalesce(own.model, 'multilateral')
               AND (
                   c.arrangement_no = this.arrangement_no
                   OR coalesce(own.model, 'multilateral') = 'multilateral'
               )
         ORDER BY c.last_seq DESC
         LIMIT 1
        """,
        cycle_no,
    )


async def fetch_manifest_digests(conn: Connection) -> list[bytes]:
    """Read the digest of every manifest, in the order of the packages, whose numbers have no gap."""
    rows = await conn.fetch(
        """
        SELECT manifest_sha256
          FROM settlement.batch
         ORDER BY sequence
        """
    )
    return [row["manifest_sha256"] for row in rows]


async def has_batch_after(conn: Connection, *, cycle_no: int) -> bool:
    """Tell whether the chain of packages has gone past a cycle."""
    found: bool = await conn.fetchval(
        """
        SELECT EXISTS (
               SELECT FROM settlement.batch AS b
                 JOIN settlement.cycle AS c USING (cycle_no)
                 JOIN settlement.cycle AS this ON this.part = c.part AND this.cycle_no = $1
                WHERE c.last_seq > this.last_seq)
        """,
        cycle_no,
    )
    return found


async def fetch_obligations(conn: Connection, *, cycle_no: int) -> list[Obligation]:
    """Read the bilateral gross of a closed cycle, all partitions together: orders, and then reversals."""
    rows = await conn.fetch(
        """
        SELECT issuer, acceptor, sum(orders)::bigint AS orders, sum(debit_cu)::bigint AS debit_cu,
               sum(value_cu)::bigint AS value_cu, sum(fee_cu)::bigint AS fee_cu, reversal
          FROM (
               SELECT issuer, acceptor, orders, debit_cu, value_cu, fee_cu, false AS reversal
                 FROM settlement.obligation
                WHERE cycle_no = $1
                UNION ALL
               SELECT issuer, acceptor, reversals, debit_cu, value_cu, fee_cu, true
                 FROM settlement.reversed_obligation
                WHERE cycle_no = $1
          ) AS owed
         GROUP BY issuer, acceptor, reversal
         ORDER BY issuer, acceptor, reversal
        """,
        cycle_no,
    )
    return [Obligation(**row) for row in rows]


async def fetch_positions(conn: Connection, *, cycle_no: int) -> dict[int, int]:
    """Read the figure of each party of a closed cycle, CU, all partitions together."""
    rows = await conn.fetch(
        """
        SELECT merchant_no, sum(net_cu)::bigint AS net_cu
          FROM settlement.position
         WHERE cycle_no = $1
         GROUP BY merchant_no
        """,
        cycle_no,
    )
    return {row["merchant_no"]: row["net_cu"] for row in rows}


async def fetch_codes(conn: Connection) -> dict[int, str]:
    """Read the code of every merchant."""
    rows = await conn.fetch("SELECT merchant_no, code FROM settlement.merchant")
    return {row["merchant_no"]: row["code"] for row in rows}


async def fetch_rates(conn: Connection, *, cycle_no: int) -> dict[int, tuple[int, int]]:
    """Read the rates that the lines of a closed cycle may have used: all that its issuers' points were ever spent at.

    Rates belong to the shop window; a statement shows the one that was agreed, and a rate never
    changes once it is written. Looking into the lines for those in use would read them all twice.
    """
    rows = await conn.fetch(
        """
        SELECT rate_no, num, den
          FROM exchange.rate
         WHERE side = 'spend'
               AND merchant_no IN (
                   SELECT issuer FROM settlement.obligation WHERE cycle_no = $1
                    UNION ALL
                   SELECT issuer FROM settlement.reversed_obligation WHERE cycle_no = $1)
        """,
        cycle_no,
    )
    return {row["rate_no"]: (row["num"], row["den"]) for row in rows}


async def fetch_chain_head(conn: Connection, *, part: int, last_seq: int) -> Record | None:
    """Read the flush that wrote an event; its digest covers all that came before."""
    return await conn.fetchrow(
        """
        SELECT part, flush_no, first_seq, events, digest
          FROM settlement.flush
         WHERE part = $1 AND first_seq <= $2
         ORDER BY flush_no DESC
         LIMIT 1
        """,
        part,
        last_seq,
    )


async def fetch_cycles_beside(conn: Connection, *, part: int, cycle_no: int) -> list[int]:
    """Read which cycles of other arrangements were open while a closed cycle was."""
    rows = await conn.fetch(
        """
        SELECT c.cycle_no
          FROM settlement.cycle AS this
          JOIN settlement.cycle AS c
            ON c.part = this.part AND c.arrangement_no <> this.arrangement_no
               AND c.first_seq < this.last_seq
               AND (c.last_seq IS NULL OR c.last_seq > this.first_seq)
         WHERE this.part = $1 AND this.cycle_no = $2
        """,
        part,
        cycle_no,
    )
    return [row["cycle_no"] for row in rows]


async def copy_lines(
    conn: Connection,
    *,
    part: int,
    first_seq: int,
    last_seq: int,
    sink: Callable[[bytes], object],
    beside: Sequence[int] = (),
) -> None:
    """Stream the lines of a range to `sink`, in order, as `settlement.core.line` reads them.

    Those of the cycles `beside` are left out: several cycles may be open at once.

    The first column is the instant of the order's first event: the order's id is made of it. Only
    an order in two phases needs to look for it, and finds it by the primary key.

    What `sink` raises is raised once the stream has ended: asyncpg cancels a COPY whose receiver
    fails, and when the server has sent all of it by then, the connection waits for that for ever.
    """
    failures: list[Exception] = []

    async def take(piece: bytes) -> None:
        if not failures:
            try:
                sink(piece)
            except Exception as error:  # noqa: BLE001 - raised below
                failures.append(error)

    await conn.copy_from_query(
        """
        SELECT CASE WHEN e.order_seq IN (e.seq, 0) THEN e.at
               ELSE coalesce(
                    (SELECT f.at FROM settlement.event AS f
                      WHERE f.part = e.part AND f.seq = e.order_seq), e.at)
               END,
               e.seq, e.order_seq, e.at, e.occurred_at, e.due_at, e.member_no, e.units,
               e.debit_cu, e.value_cu, e.fee_cu, e.credited_units, e.lot_no, e.key, e.body,
               e.cycle_no, e.caller, e.issuer, e.acceptor, e.rate_no, e.part, e.kind, e.step,
               e.reason, e.reference
          FROM settlement.event AS e
         WHERE e.part = $1 AND e.seq BETWEEN $2 AND $3 AND e.kind IN (3, 6, 20)
               AND e.cycle_no <> ALL($4::int[])
         ORDER BY e.seq
        """,
        part,
        first_seq,
        last_seq,
        list(beside),
        output=take,
        format="binary",
    )
    if failures:
        raise failures[0]


async def count_lines(
    conn: Connection, *, part: int, first_seq: int, last_seq: int, beside: Sequence[int]
) -> int:
    """Count the lines of a range, but for those of the cycles `beside`."""
    count: int = await conn.fetchval(
        """
        SELECT count(*)
          FROM settlement.event
         WHERE part = $1 AND seq BETWEEN $2 AND $3 AND kind IN (3, 6, 20)
               AND cycle_no <> ALL($4::int[])
        """,
        part,
        first_seq,
        last_seq,
        list(beside),
    )
    return count


async def fetch_carries(conn: Connection, *, cycle_no: int) -> dict[tuple[int, int], int]:
    """Read what the instructions of a batch left over, CU: for each merchant against everybody (0), or each pair."""
    rows = await conn.fetch(
        """
        SELECT merchant_no, counterparty_no, carry_after_cu
          FROM settlement.instruction
         WHERE cycle_no = $1 AND carry_after_cu <> 0 AND (merchant_no > 0 OR counterparty_no <> 0)
        """,
        cycle_no,
    )
    return {(row["merchant_no"], row["counterparty_no"]): row["carry_after_cu"] for row in rows}


async def fetch_instructions(conn: Connection, *, cycle_no: int) -> list[Record]:
    """Read the instructions of a batch."""
    return await conn.fetch(
        """
        SELECT merchant_no, counterparty_no, net_cu, carry_before_cu, pay_fen, carry_after_cu
          FROM settlement.instruction
         WHERE cycle_no = $1
         ORDER BY merchant_no, counterparty_no
        """,
        cycle_no,
    )


async def insert_batch(
    conn: Connection,
    *,
    cycle_no: int,
    sequence: int,
    cycle_id: str,
    manifest: bytes,
    previous_sha256: bytes,
    manifest_sha256: bytes,
) -> bool:
    """Write the row of a package; False if one for this cycle or this place came first."""
    status: str = await conn.execute(
        """
        INSERT INTO settlement.batch
               (cycle_no, sequence, cycle_id, manifest, previous_sha256, manifest_sha256, cut_at)
        VALUES ($1, $2, $3, $4, $5, $6, now())
            ON CONFLICT DO NOTHING
        """,
        cycle_no,
        sequence,
        cycle_id,
        manifest,
        previous_sha256,
        manifest_sha256,
    )
    return status == "INSERT 0 1"


async def insert_instructions(
    conn: Connection, *, cycle_no: int, rows: Sequence[tuple[int, int, int, int, int, int]]
) -> None:
    """Write the instructions of a batch.

    Args:
        conn: A connection in the transaction that wrote the batch.
        cycle_no: The cycle.
        rows: Party, counterparty, net (CU), carry before (CU), payment (fen), carry after (CU) of each.
    """
    await conn.executemany(
        """
        INSERT INTO settlement.instruction
               (cycle_no, merchant_no, counterparty_no, net_cu, carry_before_cu, pay_fen, carry_after_cu)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        [(cycle_no, *row) for row in rows],
    )


async def fetch_order_events(conn: Connection, *, part: int, order_seq: int) -> Record | None:
    """Read the clearing of an order: its sequence number, cycle, and the order's first instant."""
    return await conn.fetchrow(
        """
        SELECT f.at AS first_at, f.kind AS first_kind, coalesce(e.seq, f.seq) AS seq,
               coalesce(e.kind, f.kind) AS kind, coalesce(e.cycle_no, f.cycle_no) AS cycle_no
          FROM settlement.event AS f
          LEFT JOIN settlement.event AS e
            ON e.part = f.part AND e.order_seq = f.seq AND e.kind IN (3, 4, 5)
               AND e.order_seq <> e.seq
         WHERE f.part = $1 AND f.seq = $2 AND f.order_seq = f.seq AND f.kind IN (1, 2, 3)
        """,
        part,
        order_seq,
    )


async def fetch_reversal(conn: Connection, *, part: int, seq: int) -> Record | None:
    """Read the instant and the cycle of a reversal or an adjustment, by its own number."""
    return await conn.fetchrow(
        "SELECT at, cycle_no FROM settlement.event WHERE part = $1 AND seq = $2 AND kind IN (6, 20)",
        part,
        seq,
    )
