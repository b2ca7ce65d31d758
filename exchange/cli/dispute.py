"""`tongdui dispute`: cases about lines of settlement, what ends them, and files of corrections."""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exchange.cli.compensating import compensate
from exchange.cli.context import Unusable, clearing_of, database, pool_of, run, this_home
from exchange.cli.output import out, print_json
from exchange.cli.who import accountable, acting, given_reason
from schemas.values.ids import new_uuid7

if TYPE_CHECKING:
    import uuid
    from collections.abc import Awaitable, Callable

    from asyncpg import Pool

    from exchange.service.corrections import Taken
    from schemas.files.corrections import CorrectionFile
    from schemas.values.reason import Refusal
    from settlement.core.dispute import Figures, Step
    from settlement.service.disputes import Dispute

T = TypeVar("T")

_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
_ROLES = ("operator", "treasurer")
STATES = {
    "opened": "opened 已提出",
    "answered": "answered 已答复",
    "accepted": "accepted 已支持",
    "rejected": "rejected 已驳回",
    "withdrawn": "withdrawn 已撤回",
    "lapsed": "lapsed 已失效",
}


@click.group()
def dispute() -> None:
    """Open, hear and decide disputes about lines; take files of corrections; compensate members."""


dispute.add_command(compensate)

_dry_run = click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings.")
_for = click.option(
    "--as",
    "party",
    default="HOUSE",
    show_default=True,
    metavar="CODE",
    help="For whom it is done: a merchant's code, or the house.",
)


def _figures(command: Any) -> Any:
    """Give a command the three figures of an adjustment."""
    for name, what in (
        ("fee-cu", "Fee in it"),
        ("value-cu", "Value credited before the fee"),
        ("debit-cu", "What the issuer owes more, or less (below 0)"),
    ):
        command = click.option(f"--{name}", type=int, help=f"{what}, CU.")(command)
    return command


@dispute.command("open")
@click.argument("order", required=False, type=click.UUID)
@click.option("--text", required=True, help="What is wrong; no member's name.")
@click.option("--issuer", metavar="CODE", help="Where no order is named: who owes.")
@click.option("--acceptor", metavar="CODE", help="Where no order is named: who is credited.")
@click.option("--match", "match_no", type=int, help="The match of reconciliation it came from.")
@_figures
@_for
@_dry_run
@_as_json
@accountable
def open_case(
    order: uuid.UUID | None,
    text: str,
    issuer: str | None,
    acceptor: str | None,
    match_no: int | None,
    debit_cu: int | None,
    value_cu: int | None,
    fee_cu: int | None,
    party: str,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Open a case about ORDER's line, or about what one merchant owes another.

    Without figures the claim is that all that is left of the order goes back.
    """
    from settlement.service.disputes import Opening, open_dispute

    claim = _claim(debit_cu, value_cu, fee_cu)

    async def work(pool: Pool) -> Dispute | Refusal:
        wanted = Opening(
            opener=await _number(pool, party),
            order=order,
            issuer=await _number(pool, issuer) if issuer else 0,
            acceptor=await _number(pool, acceptor) if acceptor else 0,
            match_no=match_no,
            claim=claim,
            text=_checked(text),
            key=_new_key(),
            body=hashlib.sha256(text.encode()).digest(),
        )
        by = await acting(pool, *_ROLES)
        return await open_dispute(pool, wanted, by=by, at=datetime.now(UTC), rehearse=dry_run)

    _show(_in_pool(work), as_json=as_json, dry_run=dry_run)


@dispute.command("list")
@_for
@_as_json
def list_cases(party: str, *, as_json: bool) -> None:
    """Show the newest cases and how they stand."""
    from settlement.service.disputes import list_disputes

    async def work(pool: Pool) -> tuple[list[Dispute], dict[int, str]]:
        number = await _number(pool, party)
        return await list_disputes(pool, at=datetime.now(UTC), party=number), await _codes(pool)

    found, codes = _in_pool(work)
    if as_json:
        print_json([_plain(one, codes) for one in found])
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("no", "state 状态", "issuer 发行方", "acceptor 受理方", "cycle 周期")
    for title in ("debit 应付(CU)", "deadline 期限", "booked 入账"):
        table.add_column(title, justify="right")
    for one in found:
        plain = _plain(one, codes)
        table.add_row(
            one.name,
            STATES[str(one.state)],
            escape(plain["issuer"]),
            escape(plain["acceptor"]),
            plain["cycle"] or "–",
            plain["claim"]["debit_cu"],
            plain["deadline"][:10],
            plain.get("booked", {}).get("cycle") or plain.get("refused") or "–",
        )
    out().print(table)


@dispute.command()
@click.argument("name")
@_for
def show(name: str, party: str) -> None:
    """Show case NAME (D12) whole, as JSON."""
    from settlement.service.disputes import find_dispute

    async def work(pool: Pool) -> tuple[Dispute | None, dict[int, str]]:
        number = await _number(pool, party)
        async with pool.acquire() as conn:
            found = await find_dispute(conn, _no(name), party=number, at=datetime.now(UTC))
        return found, await _codes(pool)

    found, codes = _in_pool(work)
    if found is None:
        raise Unusable(f"there is no case {name}")
    print_json(_plain(found, codes))


def _step(step: str, summary: str) -> Callable[..., Any]:
    """A command that takes a step of a party."""

    def take(
        name: str, text: str, party: str, file: Path | None = None, *, dry_run: bool, as_json: bool
    ) -> None:
        from settlement.core.dispute import Step

        told = _file(file) if file else None
        _take(name, Step(step), text, party, told, dry_run=dry_run, as_json=as_json)

    take.__doc__ = summary
    return take


_name = click.argument("name")
_text = click.option("--text", required=True, help="What is said; no member's name.")
for _command, _summary in (
    ("answer", "Answer case NAME for the side that did not open it."),
    ("evidence", "Bring evidence to case NAME: a text, and the digest of a file that stays yours."),
    ("withdraw", "Withdraw case NAME for whoever opened it."),
):
    _body = _step(_command, _summary)
    if _command == "evidence":
        _body = click.option("--file", type=_EXISTING, help="The file; only its digest is kept.")(
            _body
        )
    for _option in (accountable, _as_json, _dry_run, _for, _text, _name):
        _body = _option(_body)
    dispute.command(_command)(_body)


@dispute.command()
@_name
@click.argument("outcome", type=click.Choice(["accept", "reject"]))
@_figures
@_dry_run
@_as_json
@accountable
def decide(
    name: str,
    outcome: str,
    debit_cu: int | None,
    value_cu: int | None,
    fee_cu: int | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Grant the claim of case NAME, or the part that figures name, or reject it; needs --why.

    What is granted is booked in the open cycle, with the line that it corrects. Where two people are needed, propose
    it: `tongdui proposal make dispute.decide '{"dispute": "D12", "outcome": "accept"}'`. Said again after a fault, it
    goes on where it ended.
    """
    from settlement.service import disputes

    if not given_reason():
        raise click.UsageError("a decision says --why")
    part = _claim(debit_cu, value_cu, fee_cu)
    if part and outcome == "reject":
        raise click.UsageError("a rejection grants nothing")
    number, home, now = _no(name), this_home(), datetime.now(UTC)

    async def work(dsn: str) -> tuple[Dispute | Refusal | None, dict[int, str]]:
        async with pool_of(dsn) as pool:
            by = await acting(pool, "treasurer")
            async with disputes.changing(pool, rehearse=dry_run) as conn:
                found = await disputes.find_dispute(conn, number, at=now)
                granted: Figures | None = None
                if outcome == "accept" and found:
                    granted = part or found.case.claim
                digest = await disputes.decide(conn, number, granted=granted, by=by, at=now)
                if not isinstance(digest, bytes):
                    return digest, {}
                found = await disputes.find_dispute(conn, number, at=now)
            if not dry_run:
                async with clearing_of(home, dsn) as clearing:
                    refused = await disputes.book(pool, clearing, number, at=now)
                if refused:
                    return refused, {}
                async with pool.acquire() as conn:
                    found = await disputes.find_dispute(conn, number, at=now)
            return found, await _codes(pool)

    with database(home) as dsn:
        found, codes = run(work(dsn))
    _told(found, codes, as_json=as_json, dry_run=dry_run)


@dispute.command()
@click.argument("file", type=_EXISTING)
@_for
@_dry_run
@_as_json
@accountable
@click.pass_context
def corrections(
    context: click.Context, file: Path, party: str, *, dry_run: bool, as_json: bool
) -> None:
    """Take FILE of reversals and adjustments (schemas/FORMAT.md, Corrections), whole or not at all.

    The same file again books nothing twice, and finishes what was cut short. Where two people are needed, propose it
    as corrections.take. Status 1 if the books refused a line for what happened meanwhile.
    """
    from exchange.service.corrections import caller_of, check_file, take_file, was_taken
    from exchange.service.vaults import VaultDoor
    from schemas.files.corrections import BYTES_MAX, read_corrections
    from schemas.values.faults import SchemaError

    home = this_home()
    with file.open("rb") as opened:
        data = opened.read(BYTES_MAX + 1)

    async def work(dsn: str, found: CorrectionFile) -> tuple[bool, Taken | None]:
        async with pool_of(dsn) as pool:
            by = await acting(pool, "treasurer")
            again = await was_taken(pool, found, party)
            if dry_run:
                if not again:
                    await check_file(pool, found, caller=await caller_of(pool, party))
                return again, None
            async with clearing_of(home, dsn) as clearing:
                now = datetime.now(UTC)
                door = VaultDoor(pool, home.keys)
                taken = await take_file(
                    pool, clearing, found, sender=party, by=by, at=now, door=door
                )
            return again, taken

    try:
        found = read_corrections(data)
        with database(home) as dsn:
            again, taken = run(work(dsn, found))
    except SchemaError as error:
        raise Unusable(f"{file}: {error}; nothing has changed") from error
    refused = {} if taken is None else taken.refused
    told = {
        "file_sha256": found.sha256.hex(),
        "rows": len(found.rows),
        "totals": {name: str(total) for name, total in found.totals.items()},
        "taken_before": again,
        "dry_run": dry_run,
        "booked": taken.booked if taken else 0,
        "refused": {str(line): reason.code for line, reason in refused.items()},
    }
    if as_json:
        print_json(told)
    else:
        print(f"{told['rows']} rows, {told['booked']} booked" + (" (dry run)" if dry_run else ""))
        for line, reason in refused.items():
            print(f"line {line}: {reason.code}")
    context.exit(1 if refused else 0)


def _take(
    name: str,
    step: Step,
    text: str,
    party: str,
    file: tuple[bytes, int] | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from settlement.service.disputes import Wish, take_step

    async def work(pool: Pool) -> Dispute | Refusal:
        wish = Wish(
            party=await _number(pool, party),
            step=step,
            text=_checked(text),
            file=file,
            key=_new_key(),
            body=hashlib.sha256(text.encode()).digest(),
        )
        by = await acting(pool, *_ROLES)
        return await take_step(pool, _no(name), wish, by=by, at=datetime.now(UTC), rehearse=dry_run)

    _show(_in_pool(work), as_json=as_json, dry_run=dry_run)


def _in_pool(work: Callable[[Pool], Awaitable[T]]) -> T:
    async def on(dsn: str) -> T:
        async with pool_of(dsn) as pool:
            return await work(pool)

    with database(this_home()) as dsn:
        return run(on(dsn))


def _show(found: Dispute | Refusal, *, as_json: bool, dry_run: bool) -> None:
    codes = _in_pool(_codes) if as_json else {}
    _told(found, codes, as_json=as_json, dry_run=dry_run)


def _told(
    found: Dispute | Refusal | None, codes: dict[int, str], *, as_json: bool, dry_run: bool
) -> None:
    """Say how a case stands; ends with status 1 where the answer is no."""
    from schemas.values.reason import Refusal

    if found is None or isinstance(found, Refusal):
        said = f"{found.reason.code}: {found.detail}" if found else "there is no such case"
        click.echo(f"tongdui: {said}", err=True)
        click.get_current_context().exit(1)
    if as_json:
        print_json(_plain(found, codes))
        return
    print(f"{found.name} {STATES[str(found.state)]}" + (" (dry run)" if dry_run else ""))


async def _codes(pool: Pool) -> dict[int, str]:
    from settlement.service.parties import list_parties

    return {row["merchant_no"]: row["code"] for row in await list_parties(pool)} | {0: "HOUSE"}


async def _number(pool: Pool, code: str) -> int:
    """Number of a party.

    Raises:
        Unusable: There is none.
    """
    for number, known in (await _codes(pool)).items():
        if known == code:
            return number
    raise Unusable(f"no merchant has the code {code}")


def _no(name: str) -> int:
    """Number of a case.

    Raises:
        UsageError: It is not what cases are called.
    """
    from settlement.service.disputes import dispute_no

    number = dispute_no(name)
    if not number:
        raise click.UsageError(f"a case is called D12, not {name}")
    return number


def _new_key() -> bytes:
    return new_uuid7(secrets.randbits, time.time_ns).bytes


def _claim(debit_cu: int | None, value_cu: int | None, fee_cu: int | None) -> Figures | None:
    from settlement.core.dispute import Figures

    if debit_cu is None and value_cu is None and fee_cu is None:
        return None
    return Figures(debit_cu or 0, value_cu or 0, fee_cu or 0)


def _checked(text: str) -> str:
    from settlement.core.dispute import TEXT_MAX

    if not 0 < len(text) <= TEXT_MAX or not text.replace("\n", "").isprintable():
        raise click.UsageError(f"a text has 1 to {TEXT_MAX} printable characters")
    return text


def _file(path: Path) -> tuple[bytes, int]:
    from settlement.core.dispute import FILE_BYTES_MAX

    if (size := path.stat().st_size) > FILE_BYTES_MAX:
        raise Unusable(f"{path}: a file of evidence has at most {FILE_BYTES_MAX} bytes")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest(), size


def _plain(one: Dispute, codes: dict[int, str]) -> dict[str, Any]:
    """A case as JSON says it."""
    import msgspec

    from exchange.service.dispute_desk import view

    return dict(msgspec.to_builtins(view(one, codes)))
