"""Households and transfers as the writer reads them, on its own connections.

Instants are microseconds and uuids are bytes there.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from exchange.programme.core.household import Given, Household, HouseholdRules

if TYPE_CHECKING:
    from collections.abc import Collection

    from asyncpg import Connection


async def fetch_households(conn: Connection, *, ids: Collection[bytes]) -> dict[bytes, Household]:
    """Read households with their members and rules; one that was dissolved is missing."""
    rows = await conn.fetch(
        """
        SELECT h.household_id, h.merchant_no, r.*,
               ARRAY(SELECT m.member_no FROM exchange.household_member AS m
                      WHERE m.household_id = h.household_id AND m.joined_at IS NOT NULL AND m.left_at IS NULL)
                 AS members
          FROM exchange.household AS h
          LEFT JOIN LATERAL (
               SELECT r.offered, r.members_max, r.transfer_units_max, r.daily_units, r.daily_transfers,
                      r.monthly_units, r.monthly_transfers, r.cooling_days
                 FROM exchange.household_rules AS r
                WHERE r.merchant_no = h.merchant_no
                ORDER BY r.rules_no DESC
                LIMIT 1
          ) AS r ON true
         WHERE h.household_id = ANY($1::uuid[]) AND h.dissolved_at IS NULL
        """,
        list(ids),
    )
    return {
        row["household_id"]: Household(
            row["merchant_no"],
            frozenset(row["members"]),
            None
            if row["offered"] is None
            else HouseholdRules(
                **{name: row[name] for name in HouseholdRules.__dataclass_fields__}
            ),
        )
        for row in rows
    }


async def fetch_given(
    conn: Connection, *, part: int, members: Collection[int], after_us: int
) -> dict[tuple[int, int], dict[int, Given]]:
    """Read the transfers of givers after an instant: by member and programme, then by number."""
    rows = await conn.fetch(
        """
        SELECT member_no, issuer, seq, at, units
          FROM settlement.event
         WHERE part = $1 AND kind = 21 AND member_no = ANY($2::bigint[]) AND at > $3
        """,
        part,
        list(members),
        after_us,
    )
    found: defaultdict[tuple[int, int], dict[int, Given]] = defaultdict(dict)
    for row in rows:
        found[row["member_no"], row["issuer"]][row["seq"]] = Given(row["at"], row["units"])
    return dict(found)
