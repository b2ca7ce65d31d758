"""`tongdui replay`: a whole file of purchases, cleared week by week in a ledger of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from exchange.cli.context import Home, Unusable, exclusive, keyring_of, pool_of, run, this_home
from exchange.cli.output import out, print_json, progress_bar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from exchange.service.replay import ReplaySummary

MARK: Final = ".replay.json"
"""File in the output folder that says which database the replay is in, so that it can go on."""


@click.command()
@click.argument("purchases", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--programmes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The programmes that take part (TOML).",
)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for positions.csv, packages/ and summary.json.",
)
@click.option("--fresh", is_flag=True, help="Forget what an earlier run in this folder has done.")
@click.option(
    "--export-completejourney",
    "export",
    is_flag=True,
    help="Write the year of purchases of the data package to PURCHASES instead.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_context
def replay(
    context: click.Context,
    purchases: Path,
    programmes: Path | None,
    folder: Path | None,
    *,
    fresh: bool,
    export: bool,
    as_json: bool,
) -> None:
    """Clear a whole file of PURCHASES, week by week, through the same books and packages as the gateway's.

    The replay has a database of its own on the installation's server. One that was stopped goes on where it was when
    the same command is given again.
    """
    if export:
        context.exit(_export(purchases, as_json=as_json))
    if programmes is None or folder is None:
        raise click.UsageError("a replay needs --programmes FILE and --out DIR")
    if not purchases.is_file():
        raise Unusable(f"{purchases} is no file that can be read")
    home = this_home()
    home.make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(f"cannot make {folder}: {error.strerror}") from error
    with exclusive(
        folder / ".replay.lock", busy=f"another replay (process {{pid}}) writes to {folder}"
    ):
        summary = _replay(home, purchases, programmes, folder, fresh=fresh)
    if as_json:
        print_json(asdict(summary))
    else:
        _show(summary, folder)


def _export(target: Path, *, as_json: bool) -> int:
    """Write the data package's year; 1 if it is not the year that the expected results belong to."""
    from exchange.service.completejourney import LINES, export_purchases

    with progress_bar("writing 写出", total=LINES) as advance:
        written = export_purchases(target, progress=advance)
    if as_json:
        print_json(
            {
                "file": str(target),
                "lines": written.lines,
                "sha256": written.sha256,
                "as_published": written.is_as_published,
            }
        )
    else:
        print(f"{target}: {written.lines:,} lines, SHA-256 {written.sha256}")
    if written.is_as_published:
        return 0
    click.echo("tongdui: this is not the year that the expected results belong to", err=True)
    return 1


def _replay(
    home: Home, purchases: Path, programmes: Path, folder: Path, *, fresh: bool
) -> ReplaySummary:
    from deploy.database.migrate import migrate
    from exchange.service.collector import collect_seldom
    from exchange.service.replay import file_digest

    identity = {
        "purchases_sha256": file_digest(purchases).hex(),
        "programmes_sha256": hashlib.sha256(programmes.read_bytes()).hexdigest(),
    }
    keyring_of(home, make=True)
    with purchases.open("rb") as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(partial(file.read, 1 << 20), b""))
    with _own_database(home, folder, identity, fresh=fresh) as dsn:
        run(migrate(dsn))

        async def work() -> ReplaySummary:
            from deploy.database.connection import open_writer_connection
            from exchange.service.replay import replay as replay_file
            from exchange.worker.packager import cut_missing

            collect_seldom()
            async with pool_of(dsn) as pool, _packager(dsn, home.keys, folder) as packager:
                with progress_bar("clearing 清算", total=max(0, lines - 1)) as advance:
                    return await replay_file(
                        pool=pool,
                        connect=lambda: open_writer_connection(dsn),
                        keys=home.keys,
                        purchases=purchases,
                        programmes=programmes,
                        out=folder,
                        packages_stand=partial(
                            _cut_rest,
                            packager,
                            partial(
                                cut_missing,
                                pool,
                                keys=home.keys,
                                packages=folder / "packages",
                                orders_only=True,
                            ),
                        ),
                        progress=advance,
                    )

        return run(work())


@asynccontextmanager
async def _packager(
    dsn: str, keys: Path, folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Cut packages beside the replay, in a process of their own, as beside a gateway."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "exchange.cli.child", str(os.getpid()), "exchange.worker.packager",
        "--dsn", "env:TONGDUI_DSN", "--keys", str(keys), "--packages", str(folder / "packages"),
        "--orders-only", env=os.environ | {"TONGDUI_DSN": dsn}, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield child
    finally:
        await _stop(child)


async def _stop(child: asyncio.subprocess.Process) -> None:
    """Ask the packager to end; a package that it has begun is finished first."""
    with suppress(ProcessLookupError):
        child.terminate()
    await child.wait()


async def _cut_rest(
    child: asyncio.subprocess.Process, cut_missing: Callable[[], Awaitable[bool]]
) -> None:
    """Cut here what the packager has not cut yet; a fault of a package shows here too."""
    await _stop(child)
    if not await cut_missing():
        raise Unusable("a package cannot be cut; `tongdui audit` says what is wrong with the books")


@contextmanager
def _own_database(
    home: Home, folder: Path, identity: dict[str, str], *, fresh: bool
) -> Iterator[str]:
    """Yield the connection string of the database that belongs to this replay.

    Raises:
        Unusable: The folder holds a replay of other files.
    """
    from deploy.database.databases import drop_database, has_database, make_database, sibling_dsn
    from deploy.database.embedded import database_dsn

    mark = folder / MARK
    known: dict[str, str] = {}
    with suppress(OSError, ValueError):
        known = json.loads(mark.read_text())
    same = {name: known.get(name) for name in identity} == identity
    if known and not same and not fresh:
        raise Unusable(
            f"{folder} holds a replay of other files; name another folder, or add --fresh"
        )
    with database_dsn(os.environ.get("DATABASE_URL") or None, data_dir=home.database) as dsn:
        name = known.get("database", "")
        if name and not fresh and run(has_database(dsn, name)):
            yield sibling_dsn(dsn, name)
            return
        if name:
            run(drop_database(dsn, name))
        for stale in ("packages", "positions.csv", "summary.json"):
            if (folder / stale).exists() and not known:
                raise Unusable(
                    f"{folder} holds a {stale} that no replay of ours made; name another folder"
                )
        _remove_results(folder)
        name = f"replay_{secrets.token_hex(6)}"
        # The mark comes first: a database without one could never be found again.
        mark.write_text(json.dumps(identity | {"database": name}, indent=2) + "\n")
        yield run(make_database(dsn, name))


def _remove_results(folder: Path) -> None:
    """Remove what an earlier replay wrote: packages of another ledger must not stand beside the new ones."""
    import shutil

    shutil.rmtree(folder / "packages", ignore_errors=True)
    for name in ("positions.csv", "summary.json"):
        (folder / name).unlink(missing_ok=True)


def _show(summary: ReplaySummary, folder: Path) -> None:
    """Say what came out, for people."""
    from rich.table import Table

    from schemas.values.amounts import yuan_text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    for name, value in (
        ("orders cleared 已清算订单", f"{summary.orders:,}"),
        ("refused for a cap 因额度拒绝", f"{summary.refused:,}"),
        ("lots of points 积分批次", f"{summary.lots:,}"),
        ("gross 总额 (yuan 元)", yuan_text(summary.gross_cu)),
        ("net to be paid 净额 (yuan 元)", yuan_text(summary.net_cu)),
        ("unfunded 未抵扣 (yuan 元)", yuan_text(summary.unfunded_cu)),
        ("cycles 结算周期", str(summary.cycles)),
        ("seconds 用时(秒)", f"{summary.seconds:.1f}"),
    ):
        table.add_row(name, value)
    console = out()
    console.print(table)
    console.print(f"positions: {folder / 'positions.csv'}", soft_wrap=True)
    console.print(f"packages:  {folder / 'packages'}", soft_wrap=True)
