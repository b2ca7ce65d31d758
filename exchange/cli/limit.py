"""`tongdui merchant limit`: how often a merchant may ask."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from exchange.cli.context import database, number_of, pool_of, run, this_home
from exchange.cli.output import print_json
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from exchange.core.quota import Limits, Quota

_NONE: Final = "none"


def _read_quota(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> Quota | str | None:
    """Read `UNITS/SECONDS`, or `none`."""
    from exchange.core.quota import Quota

    if text is None or text == _NONE:
        return text
    found = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,4})", text)
    if found is None:
        raise click.BadParameter(
            f"{text!r} is no quota such as 30000/10, nor `{_NONE}`", context, parameter
        )
    return Quota(units=int(found[1]), window_seconds=int(found[2]))


@click.command()
@click.argument("code")
@click.option(
    "--orders",
    callback=_read_quota,
    metavar="UNITS/SECONDS",
    help="Orders and other commands to the books, each element of a large request; `none` for no limit.",
)
@click.option(
    "--requests",
    callback=_read_quota,
    metavar="UNITS/SECONDS",
    help="All other requests; `none` for no limit.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@accountable
def limit(
    code: str, *, orders: Quota | str | None, requests: Quota | str | None, as_json: bool
) -> None:
    """Show how often merchant CODE (HOUSE for the operator) may ask each gateway, or set it.

    30000/10 lets 30,000 in at once and 3,000 a second from then on. What is left out stays as it is.
    """
    with database(this_home()) as dsn:
        limits = run(_limit(dsn, code, orders, requests))
    told = {"orders": limits.orders, "requests": limits.requests}
    if as_json:
        print_json(
            {"merchant": code} | {name: quota and str(quota) for name, quota in told.items()}
        )
        return
    for name, quota in told.items():
        print(
            f"{code} {name}: {quota.units:,} in {quota.window_seconds} s"
            if quota
            else f"{code} {name}: no limit"
        )


async def _limit(
    dsn: str, code: str, orders: Quota | str | None, requests: Quota | str | None
) -> Limits:
    """Change what was named, and tell what holds now."""
    from exchange.core.quota import Limits
    from exchange.service.limits import limits_of, set_limits

    async with pool_of(dsn) as pool:
        number = await number_of(pool, code)
        now = await limits_of(pool, number)
        if orders is None and requests is None:
            return now
        wanted = Limits(
            orders=_wanted(orders, now.orders), requests=_wanted(requests, now.requests)
        )
        await set_limits(
            pool,
            merchant_no=number,
            code=code,
            limits=wanted,
            by=await acting(pool),
            now=datetime.now(UTC),
        )
        return wanted


def _wanted(said: Quota | str | None, now: Quota | None) -> Quota | None:
    if said is None:
        return now
    return None if isinstance(said, str) else said
