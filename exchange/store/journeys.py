"""Journeys and their lines, and the leases of those who drive them.

Instants are microseconds since 1970 outside and `timestamptz` inside. What many journeys write goes
in one statement each.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from adapters.kit.contract import Outcome, Step
from exchange.core.journey import Journey, Line, Source, Verdict, Wanted
from exchange.core.order import AT_ISSUER, ENDS, LET_GO, State
from exchange.programme.core.command import MemberOrder
from settlement.core.command import Order

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from asyncpg import Connection, Pool, Record

    from exchange.core.journey import Change

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _at(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)


def _at_or_null(at_us: int) -> datetime | None:
    return _EPOCH + timedelta(microseconds=at_us) if at_us else None


def _us(at: datetime | None) -> int:
    if at is None:
        return 0
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


async def insert_journeys(
    conn: Connection, *, worker: uuid.UUID, wanted: Sequence[Wanted]
) -> dict[tuple[int, bytes], int]:
    """Add journeys, each with the intent of its hold; one whose key is known is left out.

    Returns:
        Numbers of those that were added, by sender and key.
    """
    orders = [each.order for each in wanted]
    rows = await conn.fetch(
        """
        WITH fresh AS (
            INSERT INTO exchange.journey (
                key, body, caller, issuer, acceptor, member_no, units, debit_cu, value_cu, fee_cu,
                credited_units, rate_no, hold_us, occurred_at, reference, issuer_member, acceptor_member,
                wanted_at, decide_by, code, code_until, waits, worker, claim_no, state, verdict, reason, order_seq,
                stuck_why
            )
            SELECT w.*, $23, 1, 1, 0, 0, 0, ''
              FROM unnest(
                $1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::int[], $6::bigint[], $7::bigint[],
                $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::int[], $13::bigint[],
                $14::timestamptz[], $15::text[], $16::text[], $17::text[], $18::timestamptz[],
                $19::timestamptz[], $20::bytea[], $21::timestamptz[], $22::boolean[]
              ) AS w
                ON CONFLICT (key, caller) DO NOTHING
            RETURNING journey_no, wanted_at, caller, key
        ), intent AS (
            INSERT INTO exchange.journey_line (journey_no, at, step, source, reason, number, detail)
            SELECT journey_no, wanted_at, $24::text::"char", 0, 0, '', '' FROM fresh
        )
        SELECT journey_no, caller, key FROM fresh
        """,
        [uuid.UUID(bytes=order.key) for order in orders],
        [uuid.UUID(bytes=order.body) for order in orders],
        [order.caller for order in orders],
        [order.issuer for order in orders],
        [order.acceptor for order in orders],
        [order.member_no for order in orders],
        [order.units for order in orders],
        [order.debit_cu for order in orders],
        [order.value_cu for order in orders],
        [order.fee_cu for order in orders],
        [order.credited_units for order in orders],
        [order.rate_no for order in orders],
        [order.hold_us for order in orders],
        [_at_or_null(order.occurred_at_us) for order in orders],
        [order.reference for order in orders],
        [each.issuer_member for each in wanted],
        [each.acceptor_member for each in wanted],
        [_at(each.at_us) for each in wanted],
        [_at(each.decide_by_us) for each in wanted],
        [order.code if isinstance(order, MemberOrder) else None for order in orders],
        [
            _at_or_null(order.code_until_us) if isinstance(order, MemberOrder) else None
            for order in orders
        ],
        [each.waits for each in wanted],
        worker,
        Step.HOLD.value,
    )
    return {(row["caller"], row["key"].bytes): row["journey_no"] for row in rows}


async def insert_returns(conn: Connection, *, part: int, owed: Sequence[tuple[int, str]]) -> None:
    """Begin the journeys of reversals, in the transaction that writes their events.

    Nobody drives them yet: the first worker that looks for what nobody drives takes them over.

    Args:
        conn: The writer's connection.
        part: Partition.
        owed: Event of each reversal, and who the member is at the issuer's own system.
    """
    await conn.execute(
        """
        INSERT INTO exchange.journey (
               key, body, caller, issuer, acceptor, member_no, units, debit_cu, value_cu, fee_cu, credited_units,
               rate_no, hold_us, reference, issuer_member, acceptor_member, wanted_at, decide_by, worker,
               claim_no, state, verdict, reason, order_seq, accepted_at, stuck_why)
        SELECT r.key, r.body, r.caller, r.acceptor, r.issuer, r.member_no, -r.units, -r.debit_cu, -r.value_cu,
               -r.fee_cu, -r.units, r.rate_no, 1, r.reference, '', owed.issuer_member, r.at, r.at,
               '00000000-0000-0000-0000-000000000000', 1, $3, $4, 0, r.seq, r.at, ''
          FROM unnest($2::bigint[], $5::text[]) AS owed (seq, issuer_member)
          JOIN settlement.event AS r ON r.part = $1 AND r.seq = owed.seq
        """,
        part,
        [seq for seq, _ in owed],
        int(State.OWING),
        int(Verdict.FORWARD),
        [member for _, member in owed],
    )


async def fetch_journeys(
    conn: Connection | Pool, *, keys: Sequence[tuple[int, bytes]]
) -> list[Journey]:
    """Journeys by sender and key, those that there are."""
    rows = await conn.fetch(
        """
        SELECT j.*
          FROM unnest($1::int[], $2::uuid[]) AS k (caller, key)
          JOIN exchange.journey AS j USING (caller, key)
        """,
        [caller for caller, _ in keys],
        [uuid.UUID(bytes=key) for _, key in keys],
    )
    return [_journey(row) for row in rows]


async def update_journeys(conn: Connection, *, changes: Sequence[Change]) -> dict[int, Verdict]:
    """Move journeys on and add their lines, in one statement, so that it needs no transaction around it.

    One whose claim is another's by now stays as it is, gets no line, and is missing from the answer.
    """
    ordered = sorted(changes, key=lambda change: change.journey_no)
    lines = [(change.journey_no, line) for change in ordered for line in change.lines]
    rows = await conn.fetch(
        """
        WITH moved AS (
            UPDATE exchange.journey AS j
               SET state = c.state, order_seq = c.order_seq, accepted_at = c.accepted_at, reason = c.reason,
                   verdict = CASE WHEN j.verdict = 0 THEN c.verdict ELSE j.verdict END,
                   stuck_since = c.stuck_since, stuck_why = c.stuck_why, ended_at = c.ended_at,
                   issuer_member = CASE WHEN c.ended_at IS NULL THEN j.issuer_member ELSE '' END,
                   acceptor_member = CASE WHEN c.ended_at IS NULL THEN j.acceptor_member ELSE '' END
              FROM unnest(
                    $1::bigint[], $2::int[], $3::smallint[], $4::bigint[], $5::timestamptz[], $6::smallint[],
                    $7::smallint[], $8::timestamptz[], $9::text[], $10::timestamptz[]
                   ) AS c (journey_no, claim_no, state, order_seq, accepted_at, reason, verdict, stuck_since,
                           stuck_why, ended_at)
             WHERE j.journey_no = c.journey_no AND j.claim_no = c.claim_no
            RETURNING j.journey_no, j.verdict
        ), added AS (
            INSERT INTO exchange.journey_line
                   (journey_no, at, units, step, source, outcome, reason, number, detail)
            SELECT l.journey_no, l.at, l.units, l.step::"char", l.source, l.outcome, l.reason, l.number, l.detail
              FROM unnest(
                    $11::bigint[], $12::timestamptz[], $13::bigint[], $14::text[], $15::smallint[], $16::text[],
                    $17::smallint[], $18::text[], $19::text[]
                   ) WITH ORDINALITY
                   AS l (journey_no, at, units, step, source, outcome, reason, number, detail, place)
              JOIN moved USING (journey_no)
             ORDER BY l.place
        )
        SELECT journey_no, verdict FROM moved
        """,
        [change.journey_no for change in ordered],
        [change.claim_no for change in ordered],
        [int(change.state) for change in ordered],
        [change.order_seq for change in ordered],
        [_at_or_null(change.accepted_at_us) for change in ordered],
        [change.reason for change in ordered],
        [int(change.verdict) for change in ordered],
        [_at_or_null(change.stuck_since_us) for change in ordered],
        [change.stuck_why for change in ordered],
        [_at(change.at_us) if change.state in ENDS else None for change in ordered],
        *_columns(lines),
    )
    return {row["journey_no"]: Verdict(row["verdict"]) for row in rows}


def _columns(lines: Sequence[tuple[int, Line]]) -> list[list[object]]:
    """Lines by column, in the order of the table's columns."""
    return [
        [journey_no for journey_no, _ in lines],
        [_at(line.at_us) for _, line in lines],
        [line.units for _, line in lines],
        [line.step.value for _, line in lines],
        [int(line.source) for _, line in lines],
        [line.outcome.value if line.outcome else None for _, line in lines],
        [line.reason for _, line in lines],
        [line.number for _, line in lines],
        [line.detail for _, line in lines],
    ]


async def insert_lines(conn: Connection, *, lines: Sequence[tuple[int, Line]]) -> None:
    """Add lines to journeys."""
    await conn.execute(
        """
        INSERT INTO exchange.journey_line
               (journey_no, at, units, step, source, outcome, reason, number, detail)
        SELECT l.journey_no, l.at, l.units, l.step::"char", l.source, l.outcome, l.reason, l.number, l.detail
          FROM unnest(
                $1::bigint[], $2::timestamptz[], $3::bigint[], $4::text[], $5::smallint[], $6::text[],
                $7::smallint[], $8::text[], $9::text[]
               ) AS l (journey_no, at, units, step, source, outcome, reason, number, detail)
        """,
        *_columns(lines),
    )


async def insert_line_of_order(
    conn: Connection | Pool,
    *,
    part: int,
    order_seq: int,
    at_us: int,
    line: Line,
    merchant_no: int,
) -> int:
    """Add a line that a merchant told to the journey of an order; its number, 0 if it has no say in it.

    The order is found by its first event, which is written before any merchant is asked; the
    milliseconds of its id are compared with it, so that an invented id finds nothing. The issuer
    speaks of its own calls only, and so does the acceptor.
    """
    journey_no: int | None = await conn.fetchval(
        """
        INSERT INTO exchange.journey_line
               (journey_no, at, units, step, source, outcome, reason, number, detail)
        SELECT j.journey_no, $4, $5, $6::text::"char", $7, $8, $9, $10, $11
          FROM settlement.event AS e
          JOIN exchange.journey AS j ON j.key = e.key AND j.caller = e.caller
         WHERE e.seq = $2 AND e.part = $1 AND (e.order_seq = e.seq OR e.kind = 20)
           AND date_trunc('milliseconds', e.at) = $3
           AND $12 = CASE WHEN $13 THEN j.issuer ELSE j.acceptor END
        RETURNING journey_no
        """,
        part,
        order_seq,
        _at(at_us),
        _at(line.at_us),
        line.units,
        line.step.value,
        int(line.source),
        line.outcome.value if line.outcome else None,
        line.reason,
        line.number,
        line.detail,
        merchant_no,
        line.step in AT_ISSUER,
    )
    return journey_no or 0


async def mark_late(conn: Connection, *, journey_nos: Sequence[int]) -> None:
    """Settle that the till hears that it is too late, where nothing is settled and nothing refused yet."""
    await conn.execute(
        """
        UPDATE exchange.journey SET verdict = 2
         WHERE journey_no = ANY($1::bigint[]) AND verdict = 0 AND state <> ALL($2::smallint[])
        """,
        sorted(journey_nos),
        [int(state) for state in LET_GO],
    )


async def fetch_verdicts(conn: Connection, *, journey_nos: Sequence[int]) -> dict[int, Verdict]:
    """What tills may still hear of these journeys."""
    rows = await conn.fetch(
        "SELECT journey_no, verdict FROM exchange.journey WHERE journey_no = ANY($1::bigint[])",
        list(journey_nos),
    )
    return {row["journey_no"]: Verdict(row["verdict"]) for row in rows}


async def fetch_answers(
    conn: Connection | Pool, *, journey_nos: Sequence[int]
) -> list[tuple[int, Line]]:
    """Lines that callbacks and people added to these journeys."""
    rows = await conn.fetch(
        """
        SELECT *, step::text AS letter
          FROM exchange.journey_line
         WHERE journey_no = ANY($1::bigint[]) AND source IN (3, 4)
         ORDER BY journey_no, line_no
        """,
        list(journey_nos),
    )
    return [(row["journey_no"], _line(row)) for row in rows]


async def fetch_lines(
    conn: Connection | Pool, *, journey_nos: Sequence[int]
) -> list[tuple[int, Line]]:
    """All lines of these journeys, oldest first."""
    rows = await conn.fetch(
        """
        SELECT *, step::text AS letter
          FROM exchange.journey_line
         WHERE journey_no = ANY($1::bigint[])
         ORDER BY journey_no, line_no
        """,
        list(journey_nos),
    )
    return [(row["journey_no"], _line(row)) for row in rows]


async def fetch_journey_of_order(
    conn: Connection | Pool, *, part: int, order_seq: int
) -> Journey | None:
    """The journey of the order whose first event this is, or of a reversal; None if it has none."""
    row = await conn.fetchrow(
        """
        SELECT j.*
          FROM settlement.event AS e
          JOIN exchange.journey AS j ON j.key = e.key AND j.caller = e.caller
         WHERE e.seq = $2 AND e.part = $1 AND (e.order_seq = e.seq OR e.kind = 20)
        """,
        part,
        order_seq,
    )
    return None if row is None else _journey(row)


async def fetch_travelled(
    conn: Connection | Pool, *, part: int, order_seqs: Collection[int]
) -> dict[int, tuple[int, int, int]]:
    """Member, issuer and new points of those of these orders that have a journey, by their first event."""
    rows = await conn.fetch(
        """
        SELECT e.seq, j.member_no, j.issuer, j.credited_units
          FROM settlement.event AS e
          JOIN exchange.journey AS j ON j.key = e.key AND j.caller = e.caller
         WHERE e.seq = ANY($2::bigint[]) AND e.part = $1 AND e.order_seq = e.seq
        """,
        part,
        list(order_seqs),
    )
    return {seq: tuple(told) for seq, *told in (row.values() for row in rows)}


async def fetch_journey(conn: Connection | Pool, *, journey_no: int) -> Journey | None:
    """One journey; None if there is no such one."""
    row = await conn.fetchrow("SELECT * FROM exchange.journey WHERE journey_no = $1", journey_no)
    return None if row is None else _journey(row)


async def fetch_under_way(conn: Connection | Pool, *, order_seqs: Sequence[int]) -> set[int]:
    """Those of these orders (by the number of their first event) whose journey has not ended."""
    rows = await conn.fetch(
        """
        SELECT e.seq
          FROM settlement.event AS e
          JOIN exchange.journey AS j ON j.key = e.key AND j.caller = e.caller
         WHERE e.part = 1 AND e.seq = ANY($1::bigint[]) AND e.order_seq = e.seq AND j.ended_at IS NULL
        """,
        list(order_seqs),
    )
    return {row["seq"] for row in rows}


async def fetch_stuck(conn: Connection | Pool, *, open_since_us: int) -> list[Journey]:
    """Journeys that people are asked about, and those that were wanted before an instant and have not ended."""
    rows = await conn.fetch(
        """
        SELECT * FROM exchange.journey WHERE stuck_since IS NOT NULL
         UNION
        SELECT * FROM exchange.journey WHERE ended_at IS NULL AND wanted_at < $1
         ORDER BY journey_no
        """,
        _at(open_since_us),
    )
    return [_journey(row) for row in rows]


async def acknowledge(conn: Connection | Pool, *, journey_no: int) -> bool:
    """Ask people no more about a journey that has ended; False if it has not, or nobody was asked."""
    done = await conn.fetchval(
        """
        UPDATE exchange.journey SET stuck_since = NULL
         WHERE journey_no = $1 AND ended_at IS NOT NULL AND stuck_since IS NOT NULL
        RETURNING true
        """,
        journey_no,
    )
    return bool(done)


# --- leases ---


async def insert_worker(
    conn: Connection | Pool, *, worker: uuid.UUID, now_us: int, lease_until_us: int
) -> None:
    """Begin a worker's lease."""
    await conn.execute(
        """
        INSERT INTO exchange.order_worker (worker, entered_at, lease_until) VALUES ($1, $2, $3)
            ON CONFLICT (worker) DO NOTHING
        """,
        worker,
        _at(now_us),
        _at(lease_until_us),
    )


async def renew_worker(
    conn: Connection | Pool, *, worker: uuid.UUID, now_us: int, lease_until_us: int
) -> bool:
    """Prolong a lease that has not run out; False if it has."""
    renewed = await conn.fetchval(
        """
        UPDATE exchange.order_worker SET lease_until = $3
         WHERE worker = $1 AND lease_until >= $2
        RETURNING true
        """,
        worker,
        _at(now_us),
        _at(lease_until_us),
    )
    return bool(renewed)


async def delete_worker(conn: Connection | Pool, *, worker: uuid.UUID) -> None:
    """End a lease."""
    await conn.execute("DELETE FROM exchange.order_worker WHERE worker = $1", worker)


async def delete_lapsed_workers(conn: Connection, *, now_us: int) -> None:
    """Remove leases that ran out, so that none of them can be renewed."""
    await conn.execute("DELETE FROM exchange.order_worker WHERE lease_until < $1", _at(now_us))


async def claim_journeys(conn: Connection, *, worker: uuid.UUID, limit: int) -> list[Journey]:
    """Take journeys over that have not ended and whose worker has no lease; rows that others take are passed."""
    rows = await conn.fetch(
        """
        UPDATE exchange.journey AS j
           SET worker = $1, claim_no = j.claim_no + 1
          FROM (
                SELECT o.journey_no
                  FROM exchange.journey AS o
                 WHERE o.ended_at IS NULL
                   AND NOT EXISTS (SELECT 1 FROM exchange.order_worker AS w WHERE w.worker = o.worker)
                 ORDER BY o.journey_no
                 LIMIT $2
                   FOR UPDATE OF o SKIP LOCKED
               ) AS orphan
         WHERE j.journey_no = orphan.journey_no
        RETURNING j.*
        """,
        worker,
        limit,
    )
    return sorted((_journey(row) for row in rows), key=lambda journey: journey.journey_no)


# --- rows ---


def _journey(row: Record) -> Journey:
    return Journey(
        journey_no=row["journey_no"],
        worker=uuid.UUID(bytes=row["worker"].bytes),
        claim_no=row["claim_no"],
        wanted=Wanted(
            order=_order(row),
            issuer_member=row["issuer_member"],
            acceptor_member=row["acceptor_member"],
            decide_by_us=_us(row["decide_by"]),
            at_us=_us(row["wanted_at"]),
            waits=row["waits"],
        ),
        state=State(row["state"]),
        order_seq=row["order_seq"],
        accepted_at_us=_us(row["accepted_at"]),
        verdict=Verdict(row["verdict"]),
        reason=row["reason"],
        stuck_since_us=_us(row["stuck_since"]),
        stuck_why=row["stuck_why"],
    )


def _order(row: Record) -> Order:
    """The command for the books, as it was wanted."""
    order = Order(
        caller=row["caller"],
        key=row["key"].bytes,
        body=row["body"].bytes,
        issuer=row["issuer"],
        acceptor=row["acceptor"],
        member_no=row["member_no"],
        units=row["units"],
        debit_cu=row["debit_cu"],
        value_cu=row["value_cu"],
        fee_cu=row["fee_cu"],
        rate_no=row["rate_no"],
        occurred_at_us=_us(row["occurred_at"]),
        hold_us=row["hold_us"],
        credited_units=row["credited_units"],
        reference=row["reference"],
    )
    if row["code"] is None:
        return order
    return MemberOrder(
        **msgspec.structs.asdict(order),
        code=row["code"],
        code_until_us=_us(row["code_until"]),
    )


def _line(row: Record) -> Line:
    return Line(
        step=Step(row["letter"]),
        source=Source(row["source"]),
        at_us=_us(row["at"]),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        reason=row["reason"],
        number=row["number"],
        units=row["units"],
        detail=row["detail"],
        line_no=row["line_no"],
    )
