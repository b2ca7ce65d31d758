"""Reference data of the shop window: programmes, rates, tariff."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from exchange.core.catalogue import Catalogue, MemberRules, NumberedRate, Programme
from exchange.store.connections import fetch_connections
from schemas.values.rate import Rate

if TYPE_CHECKING:
    from asyncpg import Connection, Pool
    from asyncpg.pool import PoolConnectionProxy


async def fetch_catalogue(conn: Connection | PoolConnectionProxy | Pool) -> Catalogue:
    """Read everything that is offered, now and later."""
    rates: dict[str, dict[int, list[NumberedRate]]] = {
        "spend": defaultdict(list),
        "issue": defaultdict(list),
    }
    for row in await conn.fetch(
        """
        SELECT rate_no, merchant_no, side, num, den,
               (extract(epoch FROM effective_at) * 1000000)::bigint AS effective_at_us
          FROM exchange.rate
         ORDER BY effective_at
        """
    ):
        rates[row["side"]][row["merchant_no"]].append(
            NumberedRate(
                rate_no=row["rate_no"],
                effective_at_us=row["effective_at_us"],
                rate=Rate(num=row["num"], den=row["den"]),
            )
        )
    programmes = await _fetch_programmes(conn, hosted_only=False)
    tariff = await conn.fetch(
        """
        SELECT (extract(epoch FROM effective_at) * 1000000)::bigint, fee_bps
          FROM exchange.tariff
         ORDER BY effective_at
        """
    )
    member_rules: dict[int, list[MemberRules]] = defaultdict(list)
    for merchant_no, *rules in await conn.fetch(
        """
        SELECT merchant_no, (extract(epoch FROM effective_at) * 1000000)::bigint, authority, daily_cu,
               daily_orders
          FROM exchange.member_rules
         ORDER BY effective_at
        """
    ):
        effective_at_us, authority, daily_cu, daily_orders = rules
        member_rules[merchant_no].append(
            MemberRules(
                effective_at_us=effective_at_us,
                authority=authority,
                daily_cu=daily_cu,
                daily_orders=daily_orders,
            )
        )
    return Catalogue(
        programmes={programme.merchant_no: programme for programme in programmes},
        by_code={programme.code: programme.merchant_no for programme in programmes},
        spend=dict(rates["spend"]),
        issue=dict(rates["issue"]),
        tariff=[(at_us, fee_bps) for at_us, fee_bps in tariff],
        member_rules=dict(member_rules),
        connected=frozenset(row["merchant_no"] for row in await fetch_connections(conn)),
    )


async def fetch_hosted(conn: Connection | Pool) -> list[Programme]:
    """The programmes whose lots are kept here."""
    return await _fetch_programmes(conn, hosted_only=True)


async def _fetch_programmes(
    conn: Connection | PoolConnectionProxy | Pool, *, hosted_only: bool
) -> list[Programme]:
    return [
        Programme(**dict(row))
        for row in await conn.fetch(
            """
            SELECT p.merchant_no, m.code, m.name, p.hosted, p.unit, p.scale, p.earn_num, p.earn_den,
                   p.valid_days, p.units_min, p.units_max, p.own_names
              FROM exchange.programme AS p
              JOIN settlement.merchant AS m USING (merchant_no)
             WHERE p.hosted OR NOT $1
            """,
            hosted_only,
        )
    ]
