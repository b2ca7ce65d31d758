"""`tongdui reconcile`: what banks say moved against what should have, and people's decisions about it."""

from __future__ import annotations

import io
import re
from collections import Counter
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exchange.cli.accounts import house_accounts, parties_option
from exchange.cli.context import Unusable, database, pool_of, run, this_home
from exchange.cli.output import out, print_json
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from schemas.files.bank_statement import BankStatement
    from schemas.files.breaks import BreakRow
    from settlement.core.breaks import Break, Movement, Payment
    from settlement.service.reconciliation import Reconciled

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
ROLES = ("treasurer",)
MappingT = TypeVar("MappingT")
NUMBER = click.IntRange(1, 2**31 - 1)
_SNIFFED_BYTES = 4_096
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_MT940 = re.compile(rb"^(\xef\xbb\xbf)?\x01?(:20:|\{1:)", re.MULTILINE)
KINDS = {
    "missing": "missing 未到账",
    "extra": "extra 多出",
    "duplicate": "duplicate 重复",
    "amount": "amount 金额不符",
    "sign": "sign 方向相反",
    "date": "date 日期不符",
    "split": "split 拆分",
    "units": "units 积分不符",
}


@click.group()
def reconcile() -> None:
    """Match what banks and merchants say with what the books say, and show and resolve what differs."""


@reconcile.command()
@click.argument("file", type=EXISTING)
@parties_option
@click.option("--mapping", type=EXISTING, help="TOML file that names the columns of a CSV.")
@click.option(
    "--encoding",
    default="utf-8",
    show_default=True,
    help="How an MT940 is written, such as gb18030; camt.053 says it itself, a CSV's mapping for it.",
)
@click.option(
    "--days",
    type=click.IntRange(0, 31),
    default=5,
    show_default=True,
    help="How many days a payment may be seen from the day on which its cycle closed.",
)
@click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings of fen.")
@accountable
@click.pass_context
def bank(
    context: click.Context,
    file: Path,
    *,
    parties_file: Path | None,
    mapping: Path | None,
    encoding: str,
    days: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import a bank's statement (camt.053, MT940 or CSV) and match it; refused whole if anything does not add up.

    Status 1 if there are breaks.
    """
    from schemas.files.bank_statement import of_account
    from schemas.values.faults import SchemaError
    from settlement.service.reconciliation import StatementRefused, import_statements

    account, holders = house_accounts(parties_file)
    try:
        statements = of_account(_read(file, mapping, encoding), account=account)
    except SchemaError as error:
        raise Unusable(f"{file}: {error}") from error

    async def work(dsn: str) -> Reconciled:
        async with pool_of(dsn) as pool:
            return await import_statements(
                pool,
                statements,
                account=account,
                holders=holders,
                by=await acting(pool, *ROLES),
                at=datetime.now(UTC),
                rehearse=dry_run,
                days_max=days,
            )

    with database(this_home()) as dsn:
        try:
            done = run(work(dsn))
        except StatementRefused as error:
            raise Unusable(f"{file}: {error}") from error
    if as_json:
        print_json(_json(done, dry_run=dry_run))
    else:
        _print(done, dry_run=dry_run)
    context.exit(1 if done.breaks else 0)


@reconcile.command()
@parties_option
@click.option("--out", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings of fen.")
@click.pass_context
def breaks(
    context: click.Context, *, parties_file: Path | None, target: Path | None, as_json: bool
) -> None:
    """List or export everything that is open, with its age and who must act.

    Status 1 if there is anything.
    """
    from schemas.files.breaks import write_breaks
    from settlement.service.reconciliation import list_breaks

    account, holders = house_accounts(parties_file)

    async def work(dsn: str) -> tuple[Break, ...]:
        async with pool_of(dsn) as pool:
            return await list_breaks(pool, account=account, holders=holders, at=datetime.now(UTC))

    with database(this_home()) as dsn:
        found = run(work(dsn))
    if target is not None:
        with target.open("xb") as opened:
            opened.write(write_breaks(_rows(found)))
        print(f"{target}: {len(found)} breaks")
    elif as_json:
        print_json([_break_json(one) for one in found])
    else:
        _print_breaks(found)
    context.exit(1 if found else 0)


@reconcile.command("match")
@parties_option
@click.option("--payment", "payments", multiple=True, required=True, metavar="ID")
@click.option("--entry", "entries", multiple=True, required=True, metavar="STATEMENT/ENTRY")
@accountable
def match_entries(
    *, parties_file: Path | None, payments: tuple[str, ...], entries: tuple[str, ...]
) -> None:
    """Say by hand which payments and entries belong together; needs --why."""
    from settlement.service.reconciliation import match_by_hand

    account, _ = house_accounts(parties_file)
    numbers = [numbers_of(each, "--entry", "STATEMENT/ENTRY") for each in entries]

    async def work(dsn: str) -> int:
        async with pool_of(dsn) as pool:
            return await match_by_hand(
                pool,
                payment_ids=payments,
                entries=numbers,
                account=account,
                by=await acting(pool, *ROLES),
                at=datetime.now(UTC),
            )

    print(f"match {decide(work)}")


@reconcile.command()
@click.argument("match_no", type=NUMBER)
@accountable
def accept(match_no: int) -> None:
    """Let the difference in a match stand; needs --why."""
    from settlement.service.reconciliation import accept_difference

    async def work(dsn: str) -> None:
        async with pool_of(dsn) as pool:
            by = await acting(pool, *ROLES)
            await accept_difference(pool, match_no=match_no, by=by, at=datetime.now(UTC))

    decide(work)


@reconcile.command()
@click.argument("match_no", type=NUMBER)
@accountable
def undo(match_no: int) -> None:
    """Take a match apart, of payments or of lines; what it held is open again; needs --why."""
    from settlement.service.reconciliation import undo_match

    async def work(dsn: str) -> None:
        async with pool_of(dsn) as pool:
            by = await acting(pool, *ROLES)
            await undo_match(pool, match_no=match_no, by=by, at=datetime.now(UTC))

    decide(work)


def decide(work: Any) -> Any:
    """Carry a person's decision out."""
    from settlement.service.reconciliation import MatchRefused

    with database(this_home()) as dsn:
        try:
            return run(work(dsn))
        except MatchRefused as error:
            raise Unusable(str(error)) from error


# --- what comes in ---


def _read(file: Path, mapping: Path | None, encoding: str) -> list[BankStatement]:
    """Read a statement file, by what it begins with."""
    from schemas.files.bank_csv import parse_mapping, read_bank_csv
    from schemas.files.camt053 import read_camt053
    from schemas.files.mt940 import read_mt940

    columns = None if mapping is None else mapping_of(mapping, parse_mapping)
    with file.open("rb") as opened:
        begin = opened.read(_SNIFFED_BYTES)
        opened.seek(0)
        if columns is not None:
            return [read_bank_csv(opened, columns)]
        if begin.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") or begin.startswith(_UTF16):
            return read_camt053(opened)
        if _MT940.search(begin):
            try:
                text = opened.read().decode(encoding).removeprefix("\ufeff")
            except UnicodeDecodeError as error:
                raise Unusable(
                    f"{file}: byte {error.start} is not {encoding}; say how it is written with --encoding"
                ) from error
            except LookupError as error:
                raise Unusable(f"--encoding: no encoding is called {encoding}") from error
            return read_mt940(io.StringIO(text, newline=None))
    raise Unusable(f"{file}: neither camt.053 nor MT940; a CSV needs --mapping")


def mapping_of(path: Path, parse: Callable[[str], MappingT]) -> MappingT:
    """Read a mapping; what is wrong in it is told under its own name.

    Raises:
        Unusable: It is not UTF-8, or no mapping.
    """
    from schemas.values.faults import SchemaError

    try:
        return parse(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Unusable(f"{path}: byte {error.start} is not UTF-8") from error
    except SchemaError as error:
        raise Unusable(f"{path}: {error}") from error


def numbers_of(text: str, option: str, form: str) -> tuple[int, int]:
    """Two numbers, as they are printed: of a statement or file, and of an entry or line in it."""
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal()):
        raise Unusable(f"{option} {text}: expected {form}, such as 3/14")
    return int(first), int(second)


# --- what goes out ---


def _rows(found: Sequence[Break]) -> Iterator[BreakRow]:
    """The lines of each break: one for each payment or movement, side by side."""
    from schemas.files.breaks import BreakRow

    for one in found:
        for payment, movement in zip_longest(one.payments, one.movements):
            texts = _texts(payment, movement)
            yield BreakRow(
                kind=one.kind,
                owner=one.owner,
                age_days=one.age_days,
                match_no=one.match_no,
                candidates=one.candidates,
                expected_fen=payment.amount_fen if payment else None,
                moved_fen=movement.amount_fen if movement else None,
                **texts,
            )


def _texts(payment: Payment | None, movement: Movement | None) -> dict[str, str]:
    """The words about a payment and a movement."""
    texts = {"payment": payment.payment_id, "party": payment.code} if payment else {}
    if movement is not None:
        texts |= {
            "statement": movement.statement,
            "entry": f"{movement.statement_no}/{movement.entry_no}",
            "booked_on": movement.booked_on.isoformat(),
            "reference": movement.reference,
            "party_name": movement.party_name,
            "party_account": movement.party_account,
        }
    return texts


def _json(done: Reconciled, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "imported": list(done.imported),
        "repeated": list(done.repeated),
        "matches": [
            {
                "match_no": one.match_no,
                "step": one.step.value,
                "difference": one.difference.value if one.difference else None,
                "payments": [each.payment_id for each in one.payments],
                "entries": [f"{each.statement_no}/{each.entry_no}" for each in one.movements],
            }
            for one in done.matches
        ],
        "breaks": [_break_json(one) for one in done.breaks],
    }


def _break_json(one: Break) -> Mapping[str, Any]:
    return {
        "kind": one.kind.value,
        "owner": one.owner,
        "age_days": one.age_days,
        "match_no": one.match_no,
        "candidates": one.candidates,
        "payments": [
            {
                "id": each.payment_id,
                "party": each.code,
                "amount_fen": str(each.amount_fen),
                "due_on": each.due_on.isoformat(),
            }
            for each in one.payments
        ],
        "entries": [
            {
                "entry": f"{each.statement_no}/{each.entry_no}",
                "amount_fen": str(each.amount_fen),
                "booked_on": each.booked_on.isoformat(),
                "reference": each.reference,
                "place": each.place,
            }
            for each in one.movements
        ],
    }


def _print(done: Reconciled, *, dry_run: bool) -> None:
    steps = Counter(one.step.value for one in done.matches)
    print(
        f"{'would import' if dry_run else 'imported'}: {len(done.imported)} statements"
        f" ({len(done.repeated)} known before), {len(done.matches)} matches"
        + "".join(f", {count} {step}" for step, count in sorted(steps.items()))
    )
    _print_breaks(done.breaks)


def _print_breaks(found: Sequence[Break]) -> None:
    if not found:
        print("no breaks 无差异")
        return
    from rich.markup import escape
    from rich.table import Table

    from schemas.values.amounts import fen_text

    table = Table()
    table.add_column("break 差异", no_wrap=True)
    for title in ("owner 责任方", "days 账龄", "match 匹配"):
        table.add_column(title)
    table.add_column("payment 应收付", overflow="fold")
    table.add_column("entry 流水", no_wrap=True)
    table.add_column("expected 应到(元)", justify="right")
    table.add_column("moved 实到(元)", justify="right")
    for row in _rows(found):
        table.add_row(
            KINDS[row.kind],
            escape(row.owner),
            str(row.age_days),
            str(row.match_no or ""),
            escape(row.payment),
            escape(row.entry),
            "" if row.expected_fen is None else fen_text(row.expected_fen),
            "" if row.moved_fen is None else fen_text(row.moved_fen),
        )
    out().print(table)
