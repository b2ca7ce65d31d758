"""`tongdui person`: who works with this clearing house, and signing in."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exchange.cli.context import Unusable, database, number_of, pool_of, run, this_home
from exchange.cli.output import out, print_json
from exchange.cli.who import SESSION_VARIABLE, accountable, acting
from exchange.core.person import ROLES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncpg import Pool

    from exchange.service.people import Accepted
    from exchange.service.sessions import Opened
    from schemas.values.reason import Refusal

T = TypeVar("T")

_role = click.option(
    "--role",
    "roles",
    type=click.Choice(ROLES),
    multiple=True,
    required=True,
    help="May be given several times.",
)


@click.group()
def person() -> None:
    """Add, invite and shut out the people of this clearing house, and sign in."""


@person.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_people(*, as_json: bool) -> None:
    """Show everybody: invited, active, locked or disabled."""
    from exchange.service import people

    async def work(pool: Pool) -> list[dict[str, Any]]:
        return [
            {
                "name": row["name"],
                "merchant": row["merchant"],
                "roles": list(row["roles"]),
                "state": state,
            }
            for row, state in await people.list_people(pool, now=datetime.now(UTC))
        ]

    found = _with_pool(work)
    if as_json:
        print_json(found)
        return
    from rich.table import Table

    table = Table("name 用户", "merchant 商户", "roles 角色", "state 状态")
    for each in found:
        table.add_row(
            each["name"], each["merchant"] or "HOUSE", ", ".join(each["roles"]), each["state"]
        )
    out().print(table)


@person.command()
@click.argument("name")
@_role
@click.option("--merchant", default="HOUSE", show_default=True, help="Whose person.")
@accountable
def add(name: str, roles: tuple[str, ...], merchant: str) -> None:
    """Add NAME and print an invitation, which its bearer accepts within three days."""
    from exchange.service import people

    invitation = people.new_invitation()

    async def work(pool: Pool) -> bytes | Refusal:
        by, merchant_no = await acting(pool), await number_of(pool, merchant)
        async with pool.acquire() as conn, conn.transaction():
            return await people.add_person(
                conn,
                name=name,
                roles=roles,
                merchant_no=merchant_no,
                merchant=merchant,
                invitation=people.digest_of(invitation),
                second=None,
                by=by,
                now=datetime.now(UTC),
            )

    _done(_with_pool(work), invitation)


@person.command()
@click.argument("name")
@accountable
def invite(name: str) -> None:
    """Invite NAME again, who lost password or authenticator; both count no more at once."""
    from exchange.service import people

    invitation = people.new_invitation()

    async def work(pool: Pool) -> bytes | Refusal:
        by = await acting(pool)
        async with pool.acquire() as conn, conn.transaction():
            return await people.invite_person(
                conn,
                name=name,
                invitation=people.digest_of(invitation),
                second=None,
                by=by,
                now=datetime.now(UTC),
            )

    _done(_with_pool(work), invitation)


@person.command()
@click.argument("name")
@_role
@accountable
def roles(name: str, roles: tuple[str, ...]) -> None:
    """Change what NAME may do, from the next request on."""
    from exchange.service import people

    async def work(pool: Pool) -> bytes | Refusal:
        by = await acting(pool)
        async with pool.acquire() as conn, conn.transaction():
            return await people.set_roles(
                conn, name=name, roles=roles, by=by, now=datetime.now(UTC)
            )

    _done(_with_pool(work), f"{name}: {', '.join(roles)}")


@person.command()
@click.argument("name")
@click.argument("subject")
@accountable
def link(name: str, subject: str) -> None:
    """Say that NAME is SUBJECT at the identity provider of oidc.toml, through which they may sign in then."""
    from exchange.service import people

    async def work(pool: Pool) -> bytes | Refusal:
        by = await acting(pool)
        async with pool.acquire() as conn, conn.transaction():
            return await people.link_person(
                conn, name=name, subject=subject, by=by, now=datetime.now(UTC)
            )

    _done(_with_pool(work), f"{name} is {subject} at the identity provider")


@person.command()
@click.argument("name")
@accountable
def disable(name: str) -> None:
    """Shut NAME out for good, and end their sessions at once."""
    from exchange.service import people

    async def work(pool: Pool) -> Refusal | None:
        by = await acting(pool)
        return await people.disable_person(pool, name=name, by=by, now=datetime.now(UTC))

    _done(_with_pool(work), f"{name} is shut out")


@person.command()
@click.option("--second", help="The second part, where another person had to approve.")
def accept(second: str | None) -> None:
    """Take an invitation up: asks for the token and for a new password, and shows once what codes come from."""
    from exchange.service import people
    from exchange.service.passwords import Passwords
    from exchange.service.vaults import VaultDoor
    from schemas.values.reason import Refusal

    token = _ask("Invitation")
    password = _ask("New password", twice=True)
    home = this_home()

    async def work(pool: Pool) -> Accepted | Refusal:
        return await people.accept_invitation(
            pool,
            VaultDoor(pool, home.keys),
            Passwords(),
            tokens=[token, *([second] if second else [])],
            password=password,
            now=datetime.now(UTC),
        )

    accepted = _with_pool(work)
    if isinstance(accepted, Refusal):
        raise Unusable(accepted.detail)
    print(f"You are {accepted.name}. Add this to your authenticator; it is shown this once:")
    print(accepted.totp_uri)
    print("Recovery codes, each stands once for a code:")
    print("\n".join(accepted.recovery_codes))


@person.command("sign-in")
@click.argument("name")
def sign_in(name: str) -> None:
    """Sign in as NAME; prints what the shell is to remember: eval "$(tongdui person sign-in NAME)"."""
    from exchange.service.access import ApiKeys
    from exchange.service.passwords import Passwords
    from exchange.service.sessions import Sessions
    from exchange.service.vaults import VaultDoor
    from schemas.values.reason import Refusal

    password, code = _ask("Password"), _ask("Code")
    home = this_home()

    async def work(pool: Pool) -> Opened | Refusal:
        sessions = Sessions(
            pool,
            VaultDoor(pool, home.keys),
            Passwords(),
            keys=ApiKeys(pool),
            now=lambda: datetime.now(UTC),
        )
        return await sessions.sign_in(name, password, code)

    opened = _with_pool(work)
    if isinstance(opened, Refusal):
        click.echo(f"tongdui: {opened.detail}", err=True)
        click.get_current_context().exit(1)
    print(f"export {SESSION_VARIABLE}={opened.token}")


@person.command("sign-out")
def sign_out() -> None:
    """End the session that this shell remembers."""
    from exchange.service.people import digest_of
    from exchange.store.people import end_session

    token = os.environ.get(SESSION_VARIABLE, "")

    async def work(pool: Pool) -> bool:
        return await end_session(pool, digest=digest_of(token), now=datetime.now(UTC))

    if not _with_pool(work):
        raise Unusable(f"{SESSION_VARIABLE} names no open session")
    print(f"unset {SESSION_VARIABLE}")


def _with_pool(work: Callable[[Pool], Awaitable[T]]) -> T:
    """Run something on this installation's database."""

    async def on(dsn: str) -> T:
        async with pool_of(dsn) as pool:
            return await work(pool)

    with database(this_home()) as dsn:
        return run(on(dsn))


def _done(outcome: bytes | Refusal | None, line: str) -> None:
    """Say how it went; status 1 where the answer is no."""
    from schemas.values.reason import Refusal

    if isinstance(outcome, Refusal):
        click.echo(f"tongdui: {outcome.detail}", err=True)
        click.get_current_context().exit(1)
    print(line)


def _ask(what: str, *, twice: bool = False) -> str:
    """Ask for something secret: not shown at a terminal, one line otherwise."""
    if sys.stdin.isatty():
        answer: str = click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True)
        return answer
    return sys.stdin.readline().rstrip("\n")
