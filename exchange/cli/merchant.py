"""`tongdui merchant`: merchants join, are listed, and get API keys."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.caller_keys import caller_key
from exchange.cli.connect import connect
from exchange.cli.context import clearing_of, database, number_of, pool_of, run, this_home
from exchange.cli.limit import limit
from exchange.cli.moving import export_points, import_points
from exchange.cli.output import out, print_json
from exchange.cli.protect import protect
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from asyncpg import Record

    from exchange.cli.context import Home
    from exchange.service.onboarding import MerchantTerms

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def read_ratio(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    """Read two whole numbers, `num/den`: an exact rate."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,14})/([1-9][0-9]{0,14})", text)
    if found is None:
        raise click.BadParameter(
            f"{text!r} is not two whole numbers as in 100/1", context, parameter
        )
    return int(found[1]), int(found[2])


def read_yuan(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Read an amount in yuan with at most four decimals as CU, without any float."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,10})(?:\.([0-9]{1,4}))?", text)
    if found is None:
        raise click.BadParameter(
            f"{text!r} is not an amount such as 400 or 12.3456", context, parameter
        )
    return int(found[1]) * 10_000 + int((found[2] or "").ljust(4, "0"))


@click.group()
def merchant() -> None:
    """Add, list, import and export merchants, and manage their keys."""


merchant.add_command(caller_key)
merchant.add_command(connect)
merchant.add_command(limit)
merchant.add_command(import_points)
merchant.add_command(export_points)
merchant.add_command(protect)


@merchant.command()
@click.argument("code", required=False)
@click.option("--name", help="Name for people; default: the code.")
@click.option(
    "--spend",
    callback=read_ratio,
    metavar="CU/UNITS",
    help="CU for so many smallest units spent, e.g. 100/1.",
)
@click.option(
    "--issue",
    callback=read_ratio,
    metavar="CU/UNITS",
    help="The same for units issued; default: as spent.",
)
@click.option(
    "--cap", callback=read_yuan, metavar="YUAN", help="Net debit cap of a cycle, in yuan."
)
@click.option("--unit", default="point", show_default=True, help="What one point is called.")
@click.option(
    "--scale", type=click.IntRange(0, 9), default=0, show_default=True, help="Decimal places."
)
@click.option(
    "--earn",
    callback=read_ratio,
    metavar="UNITS/FEN",
    help="Smallest units earned for so many fen, e.g. 5/100.",
)
@click.option("--valid-days", type=click.IntRange(1, 36_500), default=365, show_default=True)
@click.option("--own-system", is_flag=True, help="The merchant keeps its points itself.")
@click.option(
    "--own-names", is_flag=True, help="It calls members by names of its own, unknown to others."
)
@click.option(
    "--from-file",
    "programmes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Add all programmes of a TOML file instead, and set its house fee.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@accountable
@click.pass_context
def add(
    context: click.Context,
    code: str | None,
    name: str | None,
    spend: tuple[int, int] | None,
    issue: tuple[int, int] | None,
    cap: int | None,
    unit: str,
    scale: int,
    earn: tuple[int, int] | None,
    valid_days: int,
    *,
    own_system: bool,
    own_names: bool,
    programmes: Path | None,
    as_json: bool,
) -> None:
    """Let merchant CODE join: its programme, its exact rates, its cap, and a first API key that is shown once."""
    from exchange.service.onboarding import MerchantTerms
    from schemas.values.ids import MERCHANT_CODE_PATTERN
    from schemas.values.rate import Rate

    fee_bps: int | None = None
    if programmes is not None:
        if code is not None:
            raise click.UsageError("name either CODE or --from-file")
        wanted, fee_bps = terms_of_file(programmes)
    elif code is None or spend is None or cap is None:
        raise click.UsageError("a merchant needs CODE, --spend and --cap (or --from-file)")
    elif not re.match(MERCHANT_CODE_PATTERN, code):
        raise click.UsageError(f"{code!r} is no code: letters, digits and . _ - make one")
    else:
        rate = Rate(num=spend[0], den=spend[1])
        try:
            terms = MerchantTerms(
                code=code,
                name=name or code,
                hosted=not own_system,
                unit=unit,
                scale=scale,
                spend=rate,
                issue=Rate(num=issue[0], den=issue[1]) if issue else rate,
                earn=earn or (0, 1),
                valid_days=valid_days,
                cap_cu=cap,
                own_names=own_names,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        wanted = [terms]
    home = this_home()
    with database(home) as dsn:
        results = run(_add(home, dsn, wanted, fee_bps))
    if as_json:
        print_json(results)
    else:
        for result in results:
            print(
                f"{result['code']}: {result['refused']}"
                if result["refused"]
                else f"{result['code']}: merchant {result['merchant_no']}, API key {result['api_key']}"
            )
    context.exit(1 if any(result["refused"] for result in results) else 0)


def terms_of_file(path: Path) -> tuple[list[MerchantTerms], int]:
    """The merchants of a programmes file, and the house's fee in basis points.

    Raises:
        SchemaError: The file is malformed.
    """
    from exchange.service.onboarding import MerchantTerms
    from schemas.files.programmes import parse_programmes
    from schemas.values.rate import Rate

    terms = []
    parsed = parse_programmes(path.read_text("utf-8"))
    for programme in parsed.programme:
        rate = Rate(num=programme.value_num, den=programme.value_den)
        terms.append(
            MerchantTerms(
                code=programme.code,
                name=programme.name or programme.code,
                hosted=programme.hosted,
                unit=programme.unit,
                scale=programme.scale,
                spend=rate,
                issue=rate,
                earn=(programme.earn_num, programme.earn_den),
                valid_days=programme.valid_days,
                cap_cu=programme.cap_cu,
            )
        )
    return terms, parsed.house.fee_bps


async def _add(
    home: Home, dsn: str, wanted: list[MerchantTerms], fee_bps: int | None
) -> list[dict[str, Any]]:
    """Register merchants, and put the house's fee in force from now on where one is given."""
    from exchange.service.access import issue_api_key
    from exchange.service.onboarding import register_merchant, set_tariff
    from schemas.values.reason import Refusal
    from settlement.service.cycles import ledger_head

    now = datetime.now(UTC)
    results: list[dict[str, Any]] = []
    async with pool_of(dsn) as pool, clearing_of(home, dsn) as clearing:
        by = await acting(pool)
        head = await ledger_head(pool)
        effective_at = _LONG_AGO if head and head["clock_source"] == "caller" else now
        if fee_bps is not None:
            await set_tariff(pool, fee_bps=fee_bps, by=by, now=now, effective_at=effective_at)
        for terms in wanted:
            outcome = await register_merchant(
                pool, clearing, terms, by=by, now=now, effective_at=effective_at
            )
            refused = outcome.detail if isinstance(outcome, Refusal) else None
            key = None
            if not isinstance(outcome, Refusal):
                key = await issue_api_key(
                    pool, merchant_no=outcome, code=terms.code, label="first", by=by, now=now
                )
            results.append(
                {
                    "code": terms.code,
                    "merchant_no": None if refused else outcome,
                    "api_key": key,
                    "refused": refused,
                }
            )
    return results


@merchant.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings of CU.")
def list_merchants(*, as_json: bool) -> None:
    """Show every merchant with its cap, collateral and open holds."""
    with database(this_home()) as dsn:
        rows = run(_parties(dsn))
    if as_json:
        print_json(
            [
                {
                    "code": row["code"],
                    "name": row["name"],
                    "merchant_no": row["merchant_no"],
                    "registered_at": row["registered_at"].isoformat(),
                }
                | {
                    name: None if row[name] is None else str(row[name])
                    for name in ("cap_cu", "collateral_cu", "held_cu")
                }
                for row in rows
            ]
        )
        return
    from rich.table import Table

    from schemas.values.amounts import yuan_text

    table = Table("merchant 商户", "name 名称", "since 加入 (UTC)")
    for heading in ("cap 净借记额度(元)", "collateral 抵押(元)", "held 预留(元)"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["code"],
            row["name"],
            f"{row['registered_at']:%Y-%m-%d}",
            *(
                "–" if row[name] is None else yuan_text(row[name])
                for name in ("cap_cu", "collateral_cu", "held_cu")
            ),
        )
    out().print(table)


async def _parties(dsn: str) -> list[Record]:
    from settlement.service.parties import list_parties

    async with pool_of(dsn) as pool:
        return await list_parties(pool)


# --- API keys ---


@merchant.group()
def apikey() -> None:
    """Add, list and revoke the API keys of a merchant (HOUSE for the operator)."""


@apikey.command("add")
@click.argument("code")
@click.option("--label", default="", help="What the key is for.")
@accountable
def add_key(code: str, label: str) -> None:
    """Make one more key for merchant CODE; it is shown this once."""
    from exchange.service.access import issue_api_key

    async def work(dsn: str) -> str:
        async with pool_of(dsn) as pool:
            number = await number_of(pool, code)
            return await issue_api_key(
                pool,
                merchant_no=number,
                code=code,
                label=label,
                by=await acting(pool),
                now=datetime.now(UTC),
            )

    with database(this_home()) as dsn:
        print(run(work(dsn)))


@apikey.command("list")
@click.argument("code")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(code: str, *, as_json: bool) -> None:
    """Show the keys of merchant CODE; an id is the start of what is stored of the key, never the key."""
    with database(this_home()) as dsn:
        rows = run(_keys(dsn, code))
    if as_json:
        print_json(
            [
                {
                    "id": _key_name(row),
                    "label": row["label"],
                    "created_at": row["created_at"].isoformat(),
                    "revoked_at": row["revoked_at"].isoformat() if row["revoked_at"] else None,
                }
                for row in rows
            ]
        )
        return
    from rich.table import Table

    table = Table("id", "label 用途", "made 生成 (UTC)", "revoked 吊销 (UTC)")
    for row in rows:
        table.add_row(
            _key_name(row),
            row["label"],
            *(
                f"{at:%Y-%m-%d %H:%M}" if at else "–"
                for at in (row["created_at"], row["revoked_at"])
            ),
        )
    out().print(table)


@apikey.command("revoke")
@click.argument("code")
@click.argument("key_id")
@accountable
@click.pass_context
def revoke_key(context: click.Context, code: str, key_id: str) -> None:
    """Revoke the key KEY_ID of merchant CODE; gateways forget it within seconds."""
    from exchange.service.access import revoke_api_key

    async def work(dsn: str) -> bool:
        rows = [row for row in await _keys(dsn, code) if _key_name(row) == key_id]
        if not rows:
            return False
        async with pool_of(dsn) as pool:
            return await revoke_api_key(
                pool, rows[0]["digest"], code=code, by=await acting(pool), now=datetime.now(UTC)
            )

    with database(this_home()) as dsn:
        revoked = run(work(dsn))
    if not revoked:
        click.echo(f"tongdui: {code} has no live key {key_id}", err=True)
        context.exit(1)
    print(f"revoked {key_id}")


async def _keys(dsn: str, code: str) -> list[Record]:
    from exchange.store.api_keys import fetch_api_keys

    async with pool_of(dsn) as pool:
        return await fetch_api_keys(pool, merchant_no=await number_of(pool, code))


def _key_name(row: Record) -> str:
    from exchange.service.access import key_name

    return key_name(bytes(row["digest"]))
