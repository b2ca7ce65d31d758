"""Households in the database: rules, invitations, memberships, and transfers as the journal has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from exchange.programme.core.household import HouseholdRules

    AnyConnection = Connection | PoolConnectionProxy

# --- rules ---


async def insert_rules(
    conn: AnyConnection, *, merchant_no: int, rules: HouseholdRules, now: datetime
) -> None:
    """Add rules, which count from now on."""
    await conn.execute(
        """
        INSERT INTO exchange.household_rules (merchant_no, offered, members_max, transfer_units_max, daily_units,
                    daily_transfers, monthly_units, monthly_transfers, cooling_days, set_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        """,
        merchant_no,
        rules.offered,
        rules.members_max,
        rules.transfer_units_max,
        rules.daily_units,
        rules.daily_transfers,
        rules.monthly_units,
        rules.monthly_transfers,
        rules.cooling_days,
        now,
    )


async def fetch_rules(conn: AnyConnection | Pool, *, merchant_no: int) -> Record | None:
    """The rules in force of a programme; None where none were ever set."""
    row: Record | None = await conn.fetchrow(
        """
        SELECT offered, members_max, transfer_units_max, daily_units, daily_transfers, monthly_units,
               monthly_transfers, cooling_days
          FROM exchange.household_rules
         WHERE merchant_no = $1
         ORDER BY rules_no DESC
         LIMIT 1
        """,
        merchant_no,
    )
    return row


# --- households and who is in them ---


async def insert_household(
    conn: AnyConnection, *, household: uuid.UUID, merchant_no: int, now: datetime
) -> None:
    """Add a household with nobody in it."""
    await conn.execute(
        "INSERT INTO exchange.household (household_id, merchant_no, made_at) VALUES ($1, $2, $3)",
        household,
        merchant_no,
        now,
    )


async def fetch_household(
    conn: AnyConnection | Pool, *, household: uuid.UUID, caller: int
) -> Record | None:
    """A household of the caller's programme, dissolved or not; any for the house (0)."""
    row: Record | None = await conn.fetchrow(
        """
        SELECT household_id, merchant_no, made_at, dissolved_at
          FROM exchange.household
         WHERE household_id = $1 AND ($2 = 0 OR merchant_no = $2)
        """,
        household,
        caller,
    )
    return row


async def lock_household(
    conn: AnyConnection, *, household: uuid.UUID, caller: int
) -> Record | None:
    """A household of the caller's that stands, locked against other changes; any for the house (0)."""
    row: Record | None = await conn.fetchrow(
        """
        SELECT household_id, merchant_no, made_at, dissolved_at
          FROM exchange.household
         WHERE household_id = $1 AND ($2 = 0 OR merchant_no = $2) AND dissolved_at IS NULL
           FOR UPDATE
        """,
        household,
        caller,
    )
    return row


async def fetch_members(
    conn: AnyConnection | Pool, *, household: uuid.UUID, now: datetime
) -> list[Record]:
    """Who is in a household, and whose invitation still counts; the head first."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT membership_no, member_no, head, invited_at, invited_until, joined_at
          FROM exchange.household_member
         WHERE household_id = $1 AND left_at IS NULL AND (joined_at IS NOT NULL OR invited_until > $2)
         ORDER BY head DESC, membership_no
        """,
        household,
        now,
    )
    return rows


async def fetch_households_of(
    conn: AnyConnection | Pool, *, member_no: int, caller: int, now: datetime
) -> list[uuid.UUID]:
    """Households of the caller's programme (of any for 0) that a member is in or may join, the oldest first."""
    rows = await conn.fetch(
        """
        SELECT household_id FROM exchange.household_member
         WHERE member_no = $1 AND ($2 = 0 OR merchant_no = $2) AND left_at IS NULL
               AND (joined_at IS NOT NULL OR invited_until > $3)
         ORDER BY membership_no
        """,
        member_no,
        caller,
        now,
    )
    return [row["household_id"] for row in rows]


async def insert_invitation(
    conn: AnyConnection,
    *,
    household: uuid.UUID,
    merchant_no: int,
    member_no: int,
    head: bool,
    now: datetime,
    until: datetime,
) -> int:
    """Invite a member, after forgetting the household's invitations that are over; the membership's number."""
    await conn.execute(
        """
        DELETE FROM exchange.household_member
         WHERE household_id = $1 AND joined_at IS NULL AND left_at IS NULL AND invited_until <= $2
        """,
        household,
        now,
    )
    number: int = await conn.fetchval(
        """
        INSERT INTO exchange.household_member
               (household_id, merchant_no, member_no, head, invited_at, invited_until)
        VALUES ($1, $2, $3, $4, $5, $6) RETURNING membership_no
        """,
        household,
        merchant_no,
        member_no,
        head,
        now,
        until,
    )
    return number


async def fetch_standing(
    conn: AnyConnection, *, member_no: int, merchant_no: int
) -> tuple[bool, datetime | None]:
    """Whether a member is in a household of a programme, and when they last left one."""
    row = await conn.fetchrow(
        """
        SELECT coalesce(bool_or(left_at IS NULL), false) AS joined, max(left_at) AS left_at
          FROM exchange.household_member
         WHERE member_no = $1 AND merchant_no = $2 AND joined_at IS NOT NULL
        """,
        member_no,
        merchant_no,
    )
    assert row is not None
    return row["joined"], row["left_at"]


async def join(
    conn: AnyConnection, *, membership_no: int, purpose: str, text_version: str, now: datetime
) -> None:
    """Turn an invitation into a membership, with the consent."""
    await conn.execute(
        """
        UPDATE exchange.household_member SET joined_at = greatest($4, invited_at), purpose = $2, text_version = $3
         WHERE membership_no = $1
        """,
        membership_no,
        purpose,
        text_version,
        now,
    )


async def leave(conn: AnyConnection, *, membership_no: int, why: str, now: datetime) -> None:
    """End a membership or an invitation."""
    await conn.execute(
        """
        UPDATE exchange.household_member
           SET left_at = greatest($3, coalesce(joined_at, invited_at)), left_why = $2
         WHERE membership_no = $1
        """,
        membership_no,
        why,
        now,
    )


async def dissolve(conn: AnyConnection, *, household: uuid.UUID, now: datetime) -> None:
    """End a household and every membership that is left."""
    await conn.execute(
        "UPDATE exchange.household SET dissolved_at = greatest($2, made_at) WHERE household_id = $1",
        household,
        now,
    )
    await conn.execute(
        """
        UPDATE exchange.household_member
           SET left_at = greatest($2, coalesce(joined_at, invited_at)), left_why = 'dissolved'
         WHERE household_id = $1 AND left_at IS NULL
        """,
        household,
        now,
    )


async def erase_member(conn: AnyConnection, *, member_no: int, now: datetime) -> None:
    """Delete a member from every household; those that they headed are dissolved."""
    rows = await conn.fetch(
        """
        SELECT h.household_id,
               EXISTS (SELECT FROM exchange.household_member AS m
                        WHERE m.household_id = h.household_id AND m.member_no = $1 AND m.head) AS headed
          FROM exchange.household AS h
         WHERE h.dissolved_at IS NULL
               AND h.household_id IN (SELECT household_id FROM exchange.household_member WHERE member_no = $1)
         ORDER BY h.household_id
           FOR UPDATE OF h
        """,
        member_no,
    )
    for row in rows:
        if row["headed"]:
            await dissolve(conn, household=row["household_id"], now=now)
    await conn.execute("DELETE FROM exchange.household_member WHERE member_no = $1", member_no)


async def fetch_memberships(conn: AnyConnection, *, member_no: int) -> list[Record]:
    """Everything that stands about one member in households, oldest first."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT household_id, merchant_no, head, invited_at, joined_at, purpose, text_version, left_at, left_why
          FROM exchange.household_member
         WHERE member_no = $1
         ORDER BY membership_no
        """,
        member_no,
    )
    return rows


# --- transfers ---


async def fetch_transfer(
    conn: AnyConnection | Pool, *, part: int, order_seq: int, events_max: int
) -> list[Record]:
    """The events of a transfer: the giver's, then the receiver's; empty if there is no such one."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT e.seq, e.kind, e.issuer, e.member_no, e.units, e.lot_no, e.reference,
               (extract(epoch FROM e.at) * 1000000)::bigint AS at_us,
               (extract(epoch FROM e.due_at) * 1000000)::bigint AS due_at_us
          FROM settlement.event AS e
         WHERE e.part = $1 AND e.seq >= $2 AND e.seq < $2 + $3 AND e.order_seq = $2 AND e.kind IN (21, 22)
         ORDER BY e.seq
        """,
        part,
        order_seq,
        events_max,
    )
    return rows
