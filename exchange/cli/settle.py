"""`tongdui settle`: settle a closed cycle with the money that is there, or take the steps of a default."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.context import (
    Unusable,
    clearing_of,
    database,
    keyring_of,
    number_of,
    pool_of,
    run,
    this_home,
)
from exchange.cli.output import out, print_json
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncpg import Pool

    from exchange.cli.context import Home
    from schemas.values.reason import Refusal
    from settlement.core.waterfall import Planned
    from settlement.service.settling import Standing

_ROLES = ("treasurer",)


@click.command()
@click.argument("cycle")
@click.option("--default", "debtor", metavar="MERCHANT", help="Who does not pay in (两人复核).")
@click.option("--dry-run", is_flag=True, help="Show how it stands, or the steps; change nothing.")
@click.option(
    "--despite-objections",
    "despite",
    is_flag=True,
    help="Also where merchants object to the batch.",
)
@click.option("--due-days", type=click.IntRange(0, 30), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings of CU.")
@accountable
@click.pass_context
def settle(
    context: click.Context,
    cycle: str,
    *,
    debtor: str | None,
    dry_run: bool,
    despite: bool,
    due_days: int,
    as_json: bool,
) -> None:
    """Settle a closed cycle with the money that is there, or take the steps of a default.

    The cycle is settled if everybody has paid in, books and bank agree, and no merchant objects to its batch; else it
    is said who. What goes on --despite-objections stands in the trail with who objected.

    With --default, the published waterfall pays for a merchant that does not (settlement/RULES.md, U9). Status 1
    where the answer is no.
    """
    with database(this_home()) as dsn:
        told = run(
            _settle(this_home(), dsn, cycle, debtor, due_days, dry_run=dry_run, despite=despite)
        )
    if as_json:
        print_json(told)
    else:
        _print(told)
    context.exit(1 if told["refused"] else 0)


async def _settle(
    home: Home,
    dsn: str,
    cycle: str,
    debtor: str | None,
    due_days: int,
    *,
    dry_run: bool,
    despite: bool,
) -> dict[str, Any]:
    from settlement.service import parties, settling

    keyring = keyring_of(home)
    async with pool_of(dsn) as pool:
        state = await settling.standing(pool, cycle_id=cycle, due_days=due_days)
        if state is None:
            raise Unusable(f"there is no cycle {cycle}")
        codes = {
            each["merchant_no"]: str(each["code"]) for each in await parties.list_parties(pool)
        }
        objections = await settling.objections_to(pool, state)
        told = _standing_json(state, codes) | {"objections": list(objections.merchants)}
        if debtor is not None:
            steps, refused = await _default(
                home, pool, dsn, keyring, state, debtor, codes, dry_run=dry_run, despite=despite
            )
            told["steps"] = [_step_json(each, codes) for each in steps]
        else:
            refused = await settling.why_not(pool, state, codes) or await settling.why_unsigned(
                pool, state, keyring=keyring, packages=home.packages
            )
            if refused is None and dry_run:
                refused = objections.why_not(despite=despite)
            elif refused is None:
                async with clearing_of(home, dsn) as clearing:
                    refused = await settling.settle_funded(
                        pool,
                        clearing,
                        state,
                        codes=codes,
                        by=await acting(pool, *_ROLES),
                        now=datetime.now(UTC),
                        despite=despite,
                    )
        told["refused"] = refused.reason.code if refused else ""
        told["why"] = refused.detail if refused else ""
        told["dry_run"] = dry_run
        if refused is None and not dry_run:
            told["state"] = "settled"
        return told


async def _default(
    home: Home,
    pool: Pool,
    dsn: str,
    keyring: Any,
    state: Standing,
    debtor: str,
    codes: Mapping[int, str],
    *,
    dry_run: bool,
    despite: bool,
) -> tuple[list[Planned], Refusal | None]:
    """The steps of a default: planned, or taken."""
    from schemas.values.reason import Refusal
    from settlement.service import settling, trail

    number = await number_of(pool, debtor)
    objections = await settling.objections_to(pool, state)
    refused = objections.why_not(despite=despite)
    if dry_run:
        planned = await settling.plan_default(pool, state, debtor=number, codes=codes)
        return ([], planned) if isinstance(planned, Refusal) else (planned, refused)
    if refused:
        return [], refused
    if refused := await settling.why_unsigned(pool, state, keyring=keyring, packages=home.packages):
        return [], refused
    taken: list[Planned] = []
    by = await acting(pool, *_ROLES)
    change = settling.default_change(objections, debtor)
    async with clearing_of(home, dsn) as clearing:
        refused = await settling.default(
            pool,
            clearing,
            cycle_id=state.cycle_id,
            debtor=number,
            codes=codes,
            body=await trail.ask(pool, by, change, at=datetime.now(UTC)),
            keyring=keyring,
            out=home.folder / "defaults",
            told=taken.append,
        )
    return taken, refused


def _standing_json(state: Standing, codes: Mapping[int, str]) -> dict[str, Any]:
    figures, missing = state.figures, state.missing
    return {
        "cycle": state.cycle_id,
        "state": state.state,
        "due_at": state.due_at.isoformat() if state.due_at else None,
        "overdue": bool(missing and state.due_at and state.due_at < datetime.now(UTC)),
        "parties": [
            {
                "code": codes.get(party, str(party)),
                "figure_cu": str(cu),
                "funds_cu": str(figures.balances.get(party, 0)),
                "missing_cu": str(missing.get(party, 0)),
            }
            for party, cu in sorted(figures.residual.items())
            if party > 0
        ],
    }


def _step_json(step: Planned, codes: Mapping[int, str]) -> dict[str, Any]:
    return {
        "kind": step.kind.value,
        "cu": str(step.cu),
        "missing_cu": str(step.missing_cu),
        "moves": [[codes.get(party, str(party)), str(cu)] for party, cu in step.moves],
        "pairs": [[codes.get(pair.one, ""), codes.get(pair.other, "")] for pair in step.pairs],
    }


def _print(told: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from schemas.values.amounts import yuan_text

    def yuan(text: str) -> str:
        return yuan_text(int(text))

    overdue = " (overdue 逾期)" if told["overdue"] else ""
    print(f"{told['cycle']}: {told['state']}, due 截止 {told['due_at'] or '–'}{overdue}")
    table = Table("merchant 商户")
    for title in ("figure 净额(元)", "funds 资金", "missing 缺口"):
        table.add_column(title, justify="right")
    for one in told["parties"]:
        names = ("figure_cu", "funds_cu", "missing_cu")
        table.add_row(escape(one["code"]), *(yuan(one[name]) for name in names))
    out().print(table)
    if told["objections"]:
        print(f"objections 异议: {', '.join(told['objections'])}")
    for step in told.get("steps", ()):
        given = ", ".join(f"{code} {yuan(cu)}" for code, cu in step["moves"])
        pairs = ", ".join("–".join(pair) for pair in step["pairs"])
        print(f"{step['kind']}: {yuan(step['cu'])} {given}{pairs}".rstrip())
    if told["refused"]:
        click.echo(f"tongdui: {told['refused']}: {told['why']}", err=True)
    elif told["dry_run"]:
        print("would settle")
    else:
        print("settled 已结算")
