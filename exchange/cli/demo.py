"""`tongdui demo`: a clearing house from nothing to four signed settlements, over HTTP, with real-looking input."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Final

import click

from exchange.cli.context import Home, Unusable, exclusive, keyring_of, pool_of, run, this_home
from exchange.cli.demo_dispute import (
    Resolved,
    dispute_a_line,
    find_correction,
    print_resolved,
    resolved_json,
)
from exchange.cli.demo_money import TREASURER_KEY, money_json, print_money, treasury
from exchange.cli.figures import (
    CycleFigures,
    figures_json,
    figures_of_package,
    print_cycles,
    print_parties,
)
from exchange.cli.log import log_to
from exchange.cli.output import err, out, print_json, progress_bar
from exchange.cli.package import verify_all
from schemas.values.amounts import yuan_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exchange.cli.client import Client
    from exchange.cli.demo_money import CycleMoney, Treasury
    from exchange.cli.house import ClearingHouse
    from schemas.files.programmes import ProgrammeFile
    from schemas.files.purchases import PurchaseLine

CHUNK_LINES: Final = 1_000
PACKAGE_SECONDS_MAX: Final = 60.0
DISPUTING: Final = "GROCERY"
MARK: Final = ".tongdui-demo"
"""File that says that a folder was made by a demo, so that the next one may remove it."""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class DemoResult:
    """What a demo came to.

    Attributes:
        home: Its folder.
        lines: Purchases that were read.
        sent: Purchases of merchants that take part.
        cleared: Orders cleared.
        refused: Orders refused for a cap.
        seconds_sending: From the first request to the last answer.
        seconds: Everything, from the start of the database on.
        cycles: The figures, read back from the verified packages.
        money: What moved at the bank for each cycle.
        dispute: The line that was disputed, and its correction in a cycle after them.
        bank_cu: What lies in the house's account at the end, as the bank says.
        books_cu: The same, as the books say.
        good: Whether every package verified, the figures are the expected ones, and books and bank agree.
    """

    home: Home
    lines: int = 0
    sent: int = 0
    cleared: int = 0
    refused: int = 0
    seconds_sending: float = 0.0
    seconds: float = 0.0
    cycles: list[CycleFigures]
    money: list[CycleMoney] = field(default_factory=list)
    dispute: Resolved | None = None
    bank_cu: int = 0
    books_cu: int = 0
    good: bool = False


@click.command()
@click.option("--gateways", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def demo(context: click.Context, *, gateways: int, as_json: bool) -> None:
    """Clear 20,000 purchases of 21 programmes and show the settlement.

    Makes a clearing house of its own under TONGDUI_HOME in `demo/`, sends four weeks of purchases through the HTTP
    gateway, closes four cycles, cuts, signs and verifies their packages. The next demo starts from nothing again.
    """
    parent = this_home()
    parent.make()
    home = Home(folder=parent.folder / "demo")
    with exclusive(
        parent.folder / "demo.lock", busy="another demo (process {pid}) runs; wait for it"
    ):
        clean(home)
        with (home.folder / "demo.log").open("ab") as log_file:
            log_to(log_file)
            result = run(_demo(home, gateways, log_file, shown=not as_json))
    if as_json:
        print_json(_as_json(result))
    else:
        _show(result)
    context.exit(0 if result.good else 1)


def clean(home: Home) -> None:
    """Remove what an earlier demo left, also one that was killed.

    Raises:
        Unusable: The folder holds something that no demo made.
    """
    if home.folder.exists() and any(home.folder.iterdir()):
        if not (home.folder / MARK).exists():
            raise Unusable(f"{home.folder} holds something else than a demo; move it away")
        if (home.database / "data" / "postmaster.pid").exists():
            from deploy.database.embedded import EmbeddedServer

            EmbeddedServer(home.database).start().close()
        shutil.rmtree(home.folder)
    home.make()
    (home.folder / MARK).touch()


async def _demo(home: Home, gateways: int, log_file: IO[bytes], *, shown: bool) -> DemoResult:
    """Run the whole of it."""
    from deploy import demo as data
    from exchange.cli.client import client_of
    from exchange.cli.house import clearing_house
    from schemas.files.programmes import parse_programmes
    from schemas.files.purchases import parse_purchases

    result = DemoResult(home=home, cycles=[])
    say = err().print if shown else _silent
    began = monotonic()
    programmes = parse_programmes(data.programmes_text())
    lines = list(parse_purchases(data.purchases_text().splitlines()))
    say(
        f"A clearing house of its own in {home.folder}, with a private PostgreSQL; the next demo starts anew."
    )
    async with clearing_house(home, gateways=gateways, caller_clock=True, output=log_file) as house:
        say(
            f"Ready on {house.url}: one writer (process {house.writer.pid}), gateways "
            f"{', '.join(str(each.pid) for each in house.gateways)}."
        )
        async with client_of(home, house.url) as client:
            await _register(house, client, programmes)
            say(f"{len(programmes.programme)} programmes registered over HTTP.")
            async with treasury(home, house.dsn) as money:
                with progress_bar("purchases 消费记录", total=len(lines), shown=shown) as advance:
                    weeks = await _send(
                        client,
                        money,
                        lines,
                        {p.code for p in programmes.programme},
                        result,
                        advance,
                    )
                result.dispute = await _dispute(client, money, weeks[-1])
                result.money = money.cycles
                result.bank_cu, result.books_cu = await money.balances()
    result.lines = len(lines)
    result.good = _check(home, weeks, result)
    result.seconds = monotonic() - began
    return result


def _silent(_: str) -> None:
    """Say nothing."""


async def _register(house: ClearingHouse, client: Client, programmes: ProgrammeFile) -> None:
    """Set the house's fee and register every merchant, with rates in force since ever."""
    from exchange.service.onboarding import set_tariff
    from schemas.wire.merchants import MerchantRequest, RateTerms
    from settlement.core.trail import PROGRAM

    async with pool_of(house.dsn) as pool:
        await set_tariff(
            pool,
            fee_bps=programmes.house.fee_bps,
            by=PROGRAM,
            now=datetime.now(UTC),
            effective_at=_LONG_AGO,
        )
    for programme in programmes.programme:
        await client.add_merchant(
            MerchantRequest(
                code=programme.code,
                name=programme.name or programme.code,
                unit=programme.unit,
                scale=programme.scale,
                spend=RateTerms(cu=str(programme.value_num), units=str(programme.value_den)),
                earn_units=str(programme.earn_num),
                earn_fen=str(programme.earn_den),
                valid_days=programme.valid_days,
                cap_cu=str(programme.cap_cu),
                effective_at=_LONG_AGO,
            )
        )


async def _send(
    client: Client,
    money: Treasury,
    lines: list[PurchaseLine],
    merchants: set[str],
    result: DemoResult,
    advance: Callable[[int], None],
) -> list[str]:
    """Send the purchases week by week; each week is a cycle, closed and settled at its end.

    Returns:
        Ids of the cycles that were closed.
    """
    weeks: list[str] = []
    for week, group in itertools.groupby(lines, key=lambda line: line.week):
        await _turn(client, money, weeks, next_id=week, at=_monday(week))
        weeks.append(week)
        bought = list(group)
        began = monotonic()
        await client.enrol(sorted({line.member for line in bought}))
        for chunk in _chunks(bought):
            await _send_chunk(
                client, [line for line in chunk if line.merchant in merchants], result
            )
            advance(len(chunk))
        result.seconds_sending += monotonic() - began
    after = _monday(weeks[-1]) + timedelta(days=7)
    await _turn(client, money, weeks, next_id=f"{after:%Y-%m-%d}", at=after)
    return weeks


async def _turn(
    client: Client, money: Treasury, weeks: list[str], *, next_id: str, at: datetime
) -> None:
    """Close the open cycle and open the next; what was closed is paid in, settled and paid out before anything else."""
    from schemas.wire.cycles import CloseRequest

    closed = weeks[-1] if weeks else None
    await client.close_cycle(CloseRequest(cycle=closed, next_id=next_id, at=at))
    if closed is not None:
        await _wait_for_package(client, closed)
        await money.settle(closed, f"{at + timedelta(days=1):%Y-%m-%d}")


async def _dispute(client: Client, money: Treasury, week: str) -> Resolved:
    """Have a line of a closed week disputed, and close the cycle whose package corrects it."""
    after = _monday(week) + timedelta(days=7)
    corrected = f"{after:%Y-%m-%d}"
    packages = money.home.packages
    case = await dispute_a_line(money, packages / week, DISPUTING)
    last = after + timedelta(days=7)
    await _turn(client, money, [corrected], next_id=f"{last:%Y-%m-%d}", at=last)
    return find_correction(case, DISPUTING, packages / week, packages / corrected)


async def _send_chunk(client: Client, lines: list[PurchaseLine], result: DemoResult) -> None:
    from schemas.values.ids import new_uuid7
    from schemas.wire.purchases import BulkPurchase

    if not lines:
        return
    answers = await client.send_purchases(
        [
            BulkPurchase[int](
                key=str(new_uuid7(secrets.randbits, time.time_ns)),
                member=line.member,
                merchant=line.merchant,
                amount_fen=line.amount_fen,
                discount_fen=line.discount_fen,
                occurred_at=_LONG_AGO + timedelta(microseconds=line.occurred_at_us),
            )
            for line in lines
        ]
    )
    for line, answer in zip(lines, answers, strict=True):
        if answer.status != "booked":
            raise RuntimeError(f"line {line.line_no} was not booked: {answer.problem}")
        for order in answer.orders:
            if order.status == "cleared":
                result.cleared += 1
            else:
                result.refused += 1
    result.sent += len(lines)


async def _wait_for_package(client: Client, cycle_id: str) -> None:
    """Wait until the packager has cut a closed cycle."""
    deadline = monotonic() + PACKAGE_SECONDS_MAX
    while not (await client.cycle(cycle_id)).package:
        if monotonic() > deadline:
            raise Unusable(f"the package of {cycle_id} was not cut in time; demo.log says why")
        await asyncio.sleep(0.05)


def _check(home: Home, weeks: list[str], result: DemoResult) -> bool:
    """Verify every package offline, and hold the figures against those that must come out."""
    from deploy import demo as data

    keyring = keyring_of(home)
    [operator] = keyring.signers(datetime.now(UTC))
    _public_key(home).write_bytes(keyring.export(operator.key_id))
    folders = [home.packages / one.cycle_id for one in result.money]
    if not verify_all(folders, keyring.package_trust()):
        return False
    result.cycles = [figures_of_package(home.packages / week) for week in weeks]
    rows = sorted(
        (each.cycle_id, party.party, party.net_cu)
        for each in result.cycles
        for party in each.parties
        if party.net_cu
    )
    found = "cycle,party,net_cu\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows)
    (home.folder / "positions.csv").write_text(found)
    corrected = result.dispute is not None and result.dispute.good
    reconciled = result.bank_cu == result.books_cu and not any(one.breaks for one in result.money)
    return corrected and reconciled and found == data.positions_text()


def _show(result: DemoResult) -> None:
    """Print the end of the demo, for people."""
    console = out()
    home = result.home
    rate = round(result.sent / result.seconds_sending) if result.seconds_sending else 0
    console.print(
        f"\n{result.lines:,} purchases read, {result.sent:,} of merchants that take part booked in "
        f"{result.seconds_sending:.1f} s ({rate:,} a second):\n"
        f"{result.cleared:,} orders cleared, {result.refused:,} refused for a net debit cap.\n"
        f"{result.lines:,} 笔消费记录，{result.cleared:,} 笔订单清算，{result.refused:,} 笔因额度被拒。\n",
        soft_wrap=True,
    )
    print_cycles(console, result.cycles)
    console.print()
    print_parties(console, result.cycles)
    console.print()
    print_money(console, result.money)
    console.print(
        f"At the bank 银行余额 {yuan_text(result.bank_cu)}, in the books 账面 {yuan_text(result.books_cu)}."
    )
    if result.dispute is not None:
        console.print()
        print_resolved(console, result.dispute)
    console.print()
    console.print(
        f"[green]✓[/] {len(result.money)} packages verified offline, each signed by two; "
        "every figure equals deploy/demo/positions.csv.\n"
        "  全部结算包验证通过，数字与预期一致。"
        if result.good
        else "[red]✗ A package does not verify, or the figures or the bank are not as expected. 验证未通过。[/]"
    )
    program = "python3 run.py" if Path("run.py").is_file() else "tongdui"
    last = result.cycles[-1].cycle_id if result.cycles else ""
    console.print(
        f"\n[bold]Files 文件[/]\n"
        f"  packages 结算包    {home.packages}/<cycle>\n"
        f"  positions 净额     {home.folder / 'positions.csv'}\n"
        f"  orders 付款指令    {home.folder}/files/<cycle>\n"
        f"  bank 银行对账单    {home.folder}/bank\n"
        f"  public keys 公钥   {_public_key(home)}, {TREASURER_KEY}\n"
        f"  log 日志           {home.folder / 'demo.log'}\n"
        f"[bold]Next 下一步[/]\n"
        f"  {program} verify {home.packages / last} --threshold 2 --key operator={_public_key(home)} "
        f"--key treasurer={home.folder / TREASURER_KEY}\n"
        f"  TONGDUI_HOME={home.folder} {program} package render {home.packages / last} --for PASTRY --format xlsx "
        f"--out {home.folder}/statements\n"
        f"  TONGDUI_HOME={home.folder} {program} audit\n"
        f"  TONGDUI_HOME={home.folder} {program} cycle show {last}\n"
        f"  TONGDUI_HOME={home.folder} {program} reconcile bank {home.folder}/bank/{last}-out.camt.053.xml --dry-run\n"
        f"  TONGDUI_HOME={home.folder} {program} report trial-balance\n"
        f"  {program} serve\n"
        f"Done in {result.seconds:.1f} s.",
        soft_wrap=True,
    )


def _as_json(result: DemoResult) -> dict[str, object]:
    """The result for a program; amounts as strings."""
    return {
        "good": result.good,
        "home": str(result.home.folder),
        "packages": [str(result.home.packages / each.cycle_id) for each in result.money],
        "public_key": str(_public_key(result.home)),
        "treasurer_key": str(result.home.folder / TREASURER_KEY),
        "lines": result.lines,
        "sent": result.sent,
        "cleared": result.cleared,
        "refused": result.refused,
        "seconds_sending": round(result.seconds_sending, 3),
        "seconds": round(result.seconds, 3),
        "cycles": [figures_json(each) for each in result.cycles],
        "money": [money_json(each) for each in result.money],
        "dispute": result.dispute and resolved_json(result.dispute),
        "bank_cu": str(result.bank_cu),
        "books_cu": str(result.books_cu),
    }


def _public_key(home: Home) -> Path:
    return home.folder / "operator-public.pem"


def _monday(week: str) -> datetime:
    return datetime.fromisoformat(week).replace(tzinfo=UTC)


def _chunks(lines: list[PurchaseLine]) -> Iterator[list[PurchaseLine]]:
    for start in range(0, len(lines), CHUNK_LINES):
        yield lines[start : start + CHUNK_LINES]
