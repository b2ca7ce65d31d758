"""`tongdui proposal`: changes that need two people, proposed and approved at the command line."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exchange.cli.context import Unusable, clearing_of, database, pool_of, run, this_home
from exchange.cli.output import out, print_json
from exchange.cli.who import SESSION_VARIABLE, accountable, given_reason, signed_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncpg import Record

    from exchange.service.access import Principal
    from exchange.service.proposals import Decided, ProposalDesk
    from schemas.values.reason import Refusal

T = TypeVar("T")


@click.group()
def proposal() -> None:
    """Propose changes that need a second person, and approve or reject those of others.

    Who acts has signed in: eval "$(tongdui person sign-in NAME)".
    """


@proposal.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_proposals(*, as_json: bool) -> None:
    """Show the newest proposals, and what became of them."""

    async def work(desk: ProposalDesk, _: Principal) -> list[dict[str, Any]]:
        return [_plain(row) for row in await desk.proposals()]

    found = _at_the_desk(work)
    if as_json:
        print_json(found)
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        "no", "state 状态", "action 操作", "subject 对象", "maker 提交人", "decider 复核人"
    )
    table.add_column("why 原因")
    for each in found:
        names = ("proposal_no", "state", "action", "subject", "maker", "decider", "why")
        table.add_row(*(escape(str(each[name] or "–")) for name in names))
    out().print(table)


@proposal.command()
@click.argument("number", type=click.IntRange(1, 10**9))
def show(number: int) -> None:
    """Show proposal NUMBER whole, with the digest that an approval names."""

    async def work(desk: ProposalDesk, _: Principal) -> dict[str, Any] | None:
        row = await desk.proposal(number)
        return None if row is None else _plain(row)

    found = _at_the_desk(work)
    if found is None:
        raise Unusable(f"there is no proposal {number}")
    print_json(found)


@proposal.command()
@click.argument("action")
@click.argument("terms")
@accountable
def make(action: str, terms: str) -> None:
    """Propose ACTION with TERMS, a JSON object, e.g. cap.set '{"merchant": "AIR", "cap_cu": "400"}'; needs --why.

    For a key or an invitation without its SHA-256, one is generated and shown this once; it counts when approved.
    """
    why = given_reason()
    if not why:
        raise click.UsageError("a proposal says --why")
    try:
        wanted = json.loads(terms)
    except ValueError as error:
        raise click.UsageError(f"TERMS is not JSON: {error}") from error
    secret = _fill(action, wanted)

    async def work(desk: ProposalDesk, person: Principal) -> Record:
        return await desk.propose(person, action, wanted, why)

    row = _at_the_desk(work)
    print(f"proposal {row['proposal_no']} digest {row['digest'].hex()}")
    if secret:
        print(secret)


@proposal.command()
@click.argument("number", type=click.IntRange(1, 10**9))
@click.argument("digest")
@accountable
def approve(number: int, digest: str) -> None:
    """Approve proposal NUMBER of somebody else, exactly as DIGEST names it; it is carried out at once."""
    why = given_reason()

    async def work(desk: ProposalDesk, person: Principal) -> Decided | Refusal:
        return await desk.approve(person, number, digest, why)

    decided = _decided(_at_the_desk(work))
    if decided.row["refused"]:
        click.echo(f"tongdui: approved, and refused: {decided.row['refused']}", err=True)
        click.get_current_context().exit(1)
    print(f"proposal {number} is done")
    if decided.second:
        print(decided.second)


@proposal.command()
@click.argument("number", type=click.IntRange(1, 10**9))
@accountable
def reject(number: int) -> None:
    """Reject proposal NUMBER, or withdraw one's own; needs --why."""
    why = given_reason()
    if not why:
        raise click.UsageError("a rejection says --why")

    async def work(desk: ProposalDesk, person: Principal) -> Decided | Refusal:
        return await desk.reject(person, number, why)

    _decided(_at_the_desk(work))
    print(f"proposal {number} is rejected")


def _fill(action: str, terms: Any) -> str:
    """Put the digest of a fresh secret where the terms leave it out; returns the secret, empty for none."""
    import secrets

    from exchange.service.access import KEY_PREFIX
    from exchange.service.people import digest_of, new_invitation

    fields = {
        "api_key.issue": "sha256",
        "merchant.join": "api_key_sha256",
        "person.add": "invitation_sha256",
        "person.invite": "invitation_sha256",
    }
    field = fields.get(action)
    if field is None or not isinstance(terms, dict) or field in terms:
        return ""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    secret = new_invitation() if action.startswith("person.") else key
    terms[field] = digest_of(secret).hex()
    return secret


def _at_the_desk(work: Callable[[ProposalDesk, Principal], Awaitable[T]]) -> T:
    """Run something at the desk as the person who signed in.

    Raises:
        Unusable: Nobody has.
    """
    from exchange.service.proposals import ProposalDesk

    token = os.environ.get(SESSION_VARIABLE)
    if not token:
        raise Unusable('this is done by a person: eval "$(tongdui person sign-in NAME)"')
    home = this_home()

    async def on(dsn: str, token: str) -> T:
        async with pool_of(dsn) as pool, clearing_of(home, dsn) as clearing:
            person = await signed_in(pool, token)
            desk = ProposalDesk(pool, clearing, home.keys, lambda: datetime.now(UTC))
            return await work(desk, person)

    with database(home) as dsn:
        return run(on(dsn, token))


def _decided(outcome: Decided | Refusal) -> Decided:
    """What was decided; ends with status 1 where the answer is no."""
    from schemas.values.reason import Refusal

    if isinstance(outcome, Refusal):
        click.echo(f"tongdui: {outcome.reason.code}: {outcome.detail}", err=True)
        click.get_current_context().exit(1)
    return outcome


def _plain(row: Record) -> dict[str, Any]:
    return {
        "proposal_no": row["proposal_no"],
        "state": row["state"],
        "action": row["action"],
        "subject": row["subject"],
        "terms": json.loads(row["terms"]),
        "before": None if row["before"] is None else json.loads(row["before"]),
        "why": row["why"],
        "maker": row["maker"],
        "made_at": row["made_at"].isoformat(),
        "expires_at": row["expires_at"].isoformat(),
        "decider": row["decider"],
        "digest": row["digest"].hex(),
    }
