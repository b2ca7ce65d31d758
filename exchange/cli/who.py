"""Who the command line acts for, and why: what every change is written down under."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from exchange.cli.context import Unusable, database, has_ledger, pool_of, run
from settlement.core.trail import WHY_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncpg import Pool

    from exchange.cli.context import Home
    from exchange.service.access import Principal
    from settlement.core.trail import By

_WHY: Final = "tongdui.why"
SESSION_VARIABLE: Final = "TONGDUI_SESSION"

CommandT = TypeVar("CommandT", bound="Callable[..., Any]")


def accountable(command: CommandT) -> CommandT:
    """Give a command that changes something the option `--why`; `acting` reads it."""
    return click.option(
        "--why",
        callback=_keep,
        expose_value=False,
        help="The reason, for the audit trail.",
    )(command)


async def acting(pool: Pool, *roles: str) -> By:
    """Who acts, with the reason that was given: who signed in (`TONGDUI_SESSION`), else the operating system's user.

    Args:
        pool: Where sessions are read.
        roles: Those of which a person needs one; `operator` where none is named.

    Raises:
        Unusable: The session has ended, or its person may not do this.
    """
    from settlement.core.trail import By

    why = given_reason()
    token = os.environ.get(SESSION_VARIABLE)
    if not token:
        return By(who=f"local:{local_user()}", why=why)
    person = await signed_in(pool, token)
    needed = set(roles or ("operator",))
    if needed.isdisjoint(person.roles):
        raise Unusable(f"this is for {' or '.join(sorted(needed))}; {person.name} is not")
    return By(who=person.name, why=why)


def acting_on_files(home: Home) -> By:
    """Who acts, as `acting` says, where files are changed: asked first, since nothing can be rolled back.

    Raises:
        Unusable: The session has ended, its person may not do this, or there is nowhere to look either up.
    """
    from settlement.core.trail import By

    async def look_up(dsn: str) -> By:
        async with pool_of(dsn) as pool:
            return await acting(pool)

    if not os.environ.get(SESSION_VARIABLE):
        return By(who=f"local:{local_user()}", why=given_reason())
    if not has_ledger(home):
        raise Unusable(
            f"{SESSION_VARIABLE} names a person, and {home.folder} has no ledger to look them up in"
        )
    with database(home) as dsn:
        return run(look_up(dsn))


def given_reason() -> str:
    """What `--why` said; empty for nothing."""
    return str(click.get_current_context().meta.get(_WHY, ""))


async def signed_in(pool: Pool, token: str) -> Principal:
    """Who opened a session.

    Raises:
        Unusable: It has ended, or was never opened.
    """
    from exchange.service.access import Unauthenticated
    from exchange.service.sessions import recognise

    try:
        return await recognise(pool, token, now=datetime.now(UTC))
    except Unauthenticated as error:
        raise Unusable(f"{SESSION_VARIABLE}: {error}; `tongdui person sign-in NAME`") from error


def local_user() -> str:
    """The operating system's name for who runs this; its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


def _keep(context: click.Context, parameter: click.Parameter, text: str | None) -> None:
    if text is not None and (len(text) > WHY_MAX or not text.isprintable()):
        raise click.BadParameter(
            f"a reason is one line of at most {WHY_MAX} characters", context, parameter
        )
    context.meta[_WHY] = text or ""
