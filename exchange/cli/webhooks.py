"""`tongdui webhooks`: endpoints of all merchants, what they did not take, and the keys that sign webhooks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import click

from exchange.cli.context import database, pool_of, run, this_home
from exchange.cli.keys import note
from exchange.cli.output import out, print_json
from exchange.cli.who import accountable, acting, acting_on_files

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncpg import Pool

    from exchange.service.endpoints import EndpointDesk
    from schemas.wire.events import DeadLetter, EndpointView

T = TypeVar("T")
_LETTERS: Final = 500
"""Dead letters that are read at a time."""


@click.group()
def webhooks() -> None:
    """Show endpoints of webhooks, resume them, replay what they did not take, rotate the keys.

    Events come from the journal, so nothing is lost while an endpoint is away: it is paused where it stands after
    three days, and goes on from there when it is resumed.
    """


@webhooks.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_endpoints(*, as_json: bool) -> None:
    """Show every merchant's endpoints and how their deliveries stand."""
    import msgspec

    with database(this_home()) as dsn:
        found, codes = run(_everybody(dsn))
    if as_json:
        print_json(
            [
                {"merchant": codes.get(merchant_no), **msgspec.to_builtins(view)}
                for merchant_no, view in found
            ]
        )
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        *("endpoint 编号", "merchant 商户", "state 状态", "place 位置", "dead 死信", "address 地址")
    )
    for merchant_no, view in found:
        table.add_row(
            str(view.endpoint),
            codes.get(merchant_no, "–"),
            escape(_state(view)),
            view.cursor,
            str(view.dead_letters),
            escape(view.url),
        )
    out().print(table)


@webhooks.command()
@click.argument("endpoint", type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def dead(context: click.Context, *, endpoint: int, as_json: bool) -> None:
    """Show what ENDPOINT did not take, oldest first."""
    import msgspec

    letters = _at(context, endpoint, _all_letters(endpoint))
    if as_json:
        print_json([msgspec.to_builtins(each) for each in letters])
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        "event 事件", "given up 放弃 (UTC)", "attempts 次数", "why 原因", "delivered 补发"
    )
    for each in letters:
        table.add_row(
            each.id,
            each.given_up_at,
            str(each.attempts),
            escape(each.last_error),
            each.delivered_at or ("wanted 待补发" if each.replay_wanted else "–"),
        )
    out().print(table)


@webhooks.command()
@click.argument("endpoint", type=click.IntRange(1))
@click.argument("events", nargs=-1)
@accountable
@click.pass_context
def replay(context: click.Context, *, endpoint: int, events: tuple[str, ...]) -> None:
    """Try dead letters of ENDPOINT once more: EVENTS, or all that were not delivered since."""

    async def work(pool: Pool, owner: int) -> int:
        by = await acting(pool, "operator", "support")
        ids = list(events) or None
        return await _desk(pool).replay(endpoint, caller=owner, ids=ids, by=by) or 0

    count = _at(context, endpoint, work)
    print(
        f"endpoint {endpoint}: {count} dead letter{'s' if count != 1 else ''} will be tried again"
    )
    context.exit(0 if count or not events else 1)


@webhooks.command()
@click.argument("endpoint", type=click.IntRange(1))
@accountable
@click.pass_context
def resume(context: click.Context, *, endpoint: int) -> None:
    """Send ENDPOINT at once what is next, be it paused or waiting."""

    async def work(pool: Pool, owner: int) -> None:
        by = await acting(pool, "operator", "support")
        await _desk(pool).resume(endpoint, caller=owner, by=by)

    _at(context, endpoint, work)
    print(f"endpoint {endpoint} goes on")


@webhooks.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def keys(*, as_json: bool) -> None:
    """Show the public keys that sign webhooks now, as receivers store them."""
    import msgspec

    from exchange.service.webhook_keys import open_webhook_keys, public_keys

    now = datetime.now(UTC)
    found = public_keys(open_webhook_keys(this_home().keys, now=now), now=now)
    if as_json:
        print_json([msgspec.to_builtins(each) for each in found])
        return
    for each in found:
        until = f", until {each.signs_until}" if each.signs_until else ""
        print(f"{each.public_key}  ({each.key_id}{until})")


@webhooks.command("rotate-keys")
@click.option(
    "--overlap-days",
    type=click.IntRange(0, 3650),
    default=30,
    show_default=True,
    help="For how long the older keys sign as well.",
)
@accountable
def rotate_keys(*, overlap_days: int) -> None:
    """Make a new key; each webhook carries the signatures of both until the older one retires."""
    from exchange.service.webhook_keys import open_webhook_keys, public_keys

    now = datetime.now(UTC)
    home = this_home()
    by = acting_on_files(home)
    keyring = open_webhook_keys(home.keys, now=now).rotate(
        at=now, overlap=timedelta(days=overlap_days)
    )
    note(home, keyring, by)
    for each in public_keys(keyring, now=now):
        until = f" until {each.signs_until}" if each.signs_until else ""
        print(f"{each.public_key} signs{until}")


# --- what they share ---


async def _everybody(dsn: str) -> tuple[list[tuple[int, EndpointView]], dict[int, str]]:
    from schemas.values.ids import HOUSE
    from settlement.service.parties import list_parties

    async with pool_of(dsn) as pool:
        codes = {row["merchant_no"]: row["code"] for row in await list_parties(pool)}
        return await _desk(pool).everybody(), codes | {HOUSE: "house 本所"}


def _desk(pool: Pool) -> EndpointDesk:
    from exchange.service.endpoints import EndpointDesk

    return EndpointDesk(pool, now=lambda: datetime.now(UTC))


def _all_letters(endpoint: int) -> Callable[[Pool, int], Awaitable[list[DeadLetter]]]:
    async def work(pool: Pool, owner: int) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        after = 0
        while page := await _desk(pool).dead_letters(
            endpoint, caller=owner, after=after, limit=_LETTERS
        ):
            letters += [letter for _, letter in page]
            after, _ = page[-1]
        return letters

    return work


def _at(context: click.Context, endpoint: int, work: Callable[[Pool, int], Awaitable[T]]) -> T:
    """Do something with an endpoint, whosever it is; ends with status 1 if there is none."""

    async def with_owner(dsn: str) -> T:
        async with pool_of(dsn) as pool:
            owner = await _desk(pool).owner(endpoint)
            if owner is None:
                click.echo(f"tongdui: there is no endpoint {endpoint}", err=True)
                context.exit(1)
            return await work(pool, owner)

    with database(this_home()) as dsn:
        return run(with_owner(dsn))


def _state(view: EndpointView) -> str:
    if view.paused_at:
        return f"paused since {view.paused_at}: {view.last_error}"
    if view.failures:
        return f"failed {view.failures} times ({view.last_error}), next at {view.next_at}"
    return "active 正常"
