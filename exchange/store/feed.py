"""The stream of events, as it is read: rows of the journal that merchants hear of, and notices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from exchange.core.feed import Cursor, Happening, Notice
from schemas.wire.events import BatchFacts, CapFacts, FundsFacts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

_FACTS: Final[Mapping[str, type[BatchFacts | CapFacts | FundsFacts]]] = {
    "batch.published": BatchFacts,
    "merchant.funds_low": FundsFacts,
    "merchant.funds_enough": FundsFacts,
}


async def fetch_head(conn: Connection | PoolConnectionProxy | Pool, *, part: int) -> Cursor | None:
    """The newest place of the stream; None before the ledger was made."""
    row = await conn.fetchrow(
        """
        SELECT p.last_seq, coalesce((SELECT max(n.notice_no) FROM exchange.notice AS n), 0) AS notice_no
          FROM settlement.partition AS p
         WHERE p.part = $1
        """,
        part,
    )
    return None if row is None else Cursor(row["last_seq"], row["notice_no"])


async def fetch_happenings(
    conn: Connection | Pool,
    *,
    part: int,
    after_seq: int,
    through_seq: int,
    kinds: Collection[int],
    merchant_no: int,
    limit: int,
) -> list[Happening]:
    """Events of some kinds that concern a merchant (all for 0), in their order.

    Refused commands that are no orders have no order's number and are left out; adjustments may have none, and
    kinds 14 and 15 concern everybody.
    """
    rows: list[Record] = await conn.fetch(
        """
        SELECT e.seq, e.part, e.kind, e.order_seq, (extract(epoch FROM e.at) * 1000000)::bigint AS at_us,
               (extract(epoch FROM coalesce(f.at, e.at)) * 1000000)::bigint AS first_at_us,
               (extract(epoch FROM e.due_at) * 1000000)::bigint AS due_at_us,
               e.units, e.debit_cu, e.value_cu, e.fee_cu, e.credited_units, e.cycle_no,
               coalesce(c.cycle_id, '') AS cycle_id, e.caller, e.issuer, e.acceptor, e.reason, e.reference
          FROM settlement.event AS e
          LEFT JOIN settlement.event AS f
                 ON f.seq = e.order_seq AND f.part = e.part AND e.order_seq <> e.seq
          LEFT JOIN settlement.cycle AS c ON c.part = e.part AND c.cycle_no = e.cycle_no
         WHERE e.part = $1 AND e.seq > $2 AND e.seq <= $3 AND e.kind = ANY($4::smallint[])
           AND (e.order_seq > 0 OR e.kind IN (6, 14, 15))
           AND ($5 = 0 OR $5 IN (e.issuer, e.acceptor, e.caller) OR e.kind IN (14, 15))
         ORDER BY e.seq
         LIMIT $6
        """,
        part,
        after_seq,
        through_seq,
        sorted(kinds),
        merchant_no,
        limit,
    )
    return [Happening(*row) for row in rows]


async def fetch_notices(
    conn: Connection | Pool,
    *,
    after_no: int,
    through_no: int,
    event_types: Collection[str],
    merchant_no: int,
    limit: int,
) -> list[Notice]:
    """Notices of some types that concern a merchant (all for 0), in their order."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT notice_no, event_type, merchant_no, (extract(epoch FROM at) * 1000000)::bigint AS at_us,
               facts::text AS facts
          FROM exchange.notice
         WHERE notice_no > $1 AND notice_no <= $2 AND event_type = ANY($3::text[])
           AND ($4 = 0 OR merchant_no IN (0, $4))
         ORDER BY notice_no
         LIMIT $5
        """,
        after_no,
        through_no,
        sorted(event_types),
        merchant_no,
        limit,
    )
    return [
        Notice(
            row["notice_no"],
            row["event_type"],
            row["merchant_no"],
            row["at_us"],
            msgspec.json.decode(row["facts"], type=_FACTS.get(row["event_type"], CapFacts)),
        )
        for row in rows
    ]


async def insert_notice(
    conn: Connection | PoolConnectionProxy,
    *,
    event_type: str,
    merchant_no: int,
    facts: BatchFacts | CapFacts | FundsFacts,
    now: datetime,
) -> None:
    """Add a notice; the caller holds `lock_notices`, so that numbers become visible in their order."""
    await conn.execute(
        """
        INSERT INTO exchange.notice (notice_no, event_type, merchant_no, at, facts)
        SELECT coalesce(max(notice_no), 0) + 1, $1, $2, $3, $4::text::jsonb FROM exchange.notice
        """,
        event_type,
        merchant_no,
        now,
        msgspec.json.encode(facts).decode(),
    )


async def lock_notices(conn: Connection | PoolConnectionProxy) -> bool:
    """Be the only one who writes notices, to the end of the transaction; False if another one does."""
    locked: bool = await conn.fetchval(
        "SELECT pg_try_advisory_xact_lock(hashtext('exchange.notice'))"
    )
    return locked


async def fetch_untold_batches(conn: Connection | PoolConnectionProxy) -> list[Record]:
    """Packages of which no notice tells, oldest first."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT sequence, cycle_id, manifest_sha256
          FROM settlement.batch
         WHERE sequence > coalesce((
                   SELECT (facts ->> 'sequence')::integer
                     FROM exchange.notice
                    WHERE event_type = 'batch.published' AND merchant_no = 0
                    ORDER BY notice_no DESC
                    LIMIT 1
               ), 0)
         ORDER BY sequence
        """
    )
    return rows


async def fetch_cap_levels(conn: Connection | PoolConnectionProxy) -> dict[int, str]:
    """Type of each merchant's last notice about its cap."""
    rows = await conn.fetch(
        """
        SELECT DISTINCT ON (merchant_no) merchant_no, event_type
          FROM exchange.notice
         WHERE event_type IN ('merchant.cap_near', 'merchant.cap_breached', 'merchant.cap_eased')
         ORDER BY merchant_no, notice_no DESC
        """
    )
    return {row["merchant_no"]: row["event_type"] for row in rows}


async def fetch_funds_levels(conn: Connection | PoolConnectionProxy) -> dict[int, str]:
    """Type of each merchant's last notice about its funds."""
    rows = await conn.fetch(
        """
        SELECT DISTINCT ON (merchant_no) merchant_no, event_type
          FROM exchange.notice
         WHERE event_type IN ('merchant.funds_low', 'merchant.funds_enough')
         ORDER BY merchant_no, notice_no DESC
        """
    )
    return {row["merchant_no"]: row["event_type"] for row in rows}
