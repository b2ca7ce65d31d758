"""`tongdui merchant protect`: which proof a programme asks for, and how much a member may spend in a day."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from exchange.cli.context import Unusable, database, pool_of, run, this_home
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from schemas.values.reason import Refusal


@click.command()
@click.argument("code")
@click.option(
    "--authority",
    type=click.Choice(["none", "code", "issuer"]),
    default="none",
    show_default=True,
    help="Proof that a spend needs: none, a spending code (or the issuer's own order), or the issuer's own order only.",
)
@click.option(
    "--daily-yuan",
    type=click.IntRange(1, 10**10),
    help="Most yuan of one member in 24 hours; default: no such limit.",
)
@click.option(
    "--daily-orders",
    type=click.IntRange(1, 10**6),
    help="Most orders of one member in 24 hours; default: no such limit.",
)
@accountable
def protect(code: str, authority: str, daily_yuan: int | None, daily_orders: int | None) -> None:
    """Put rules in force for the members of merchant CODE; they replace those before, whole."""
    from exchange.core.catalogue import MemberRules
    from exchange.service.onboarding import protect_members

    rules = MemberRules(
        effective_at_us=0,
        authority=authority,  # type: ignore[arg-type] # one of click's choices
        daily_cu=(daily_yuan or 0) * 10_000,
        daily_orders=daily_orders or 0,
    )

    async def work(dsn: str) -> Refusal | None:
        now = datetime.now(UTC)
        async with pool_of(dsn) as pool:
            return await protect_members(
                pool, code=code, rules=rules, by=await acting(pool), now=now, effective_at=now
            )

    with database(this_home()) as dsn:
        refused = run(work(dsn))
    if refused is not None:
        raise Unusable(refused.detail)
    print(f"{code}: proof {authority}, {_limits(rules.daily_cu, rules.daily_orders)}")


def _limits(daily_cu: int, daily_orders: int) -> str:
    """The limits in words."""
    named = []
    if daily_cu:
        named.append(f"{daily_cu // 10_000} yuan")
    if daily_orders:
        named.append(f"{daily_orders} orders")
    return f"at most {' and '.join(named)} a day for each member" if named else "no limits"
