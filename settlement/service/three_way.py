"""A cycle seen three ways, merchant by merchant: our lines, its own files, and the bank's money.

Source: settlement/RULES.md, rule X22.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from schemas.files.manifest import GROSS, read_manifest
from settlement.core.matching import BreakKind
from settlement.core.own_lines import our_line
from settlement.core.three_way import Money, OwnFiles, Side
from settlement.service.open_lines import (
    LINE_DAYS_MAX,
    FileRefused,
    Lines,
    Place,
    basis_of,
    breaks_of,
    find_place,
    match_open,
    open_lines,
)
from settlement.store import merchant_files as files
from settlement.store import three_way as store
from settlement.store.batches import fetch_positions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.merchant_file import Basis

    AnyConnection = Connection | PoolConnectionProxy


async def three_way(
    pool: Pool, *, cycle_id: str, packages: Path, at: datetime, days_max: int = LINE_DAYS_MAX
) -> list[Side]:
    """See a cycle three ways.

    Args:
        pool: Database.
        cycle_id: The cycle's id.
        packages: Folder of the settlement packages.
        at: Now.
        days_max: How many days a line of ours and one of a merchant's may lie apart.

    Returns:
        Each merchant that has lines or an instruction in it, by code.

    Raises:
        FileRefused: The cycle has no package.
        CheckFailed: A statement is not the one that was signed.
    """
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        batch = await files.fetch_batch_of(conn, cycle_id=cycle_id)
        if batch is None:
            raise FileRefused(f"cycle {cycle_id} has no package")
        cycle_no: int = batch["cycle_no"]
        at_once = read_manifest(batch["manifest"]).netting.model == GROSS
        positions = await fetch_positions(conn, cycle_no=cycle_no)
        seen = await store.fetch_seen(conn, cycle_no=cycle_no)
        sides = []
        for row in await store.fetch_instructed(conn, cycle_no=cycle_no):
            of = Lines(merchant=row["code"], cycle_id=cycle_id, packages=packages)
            try:
                place = await find_place(conn, of)
            except FileRefused:
                place = None  # Its carry alone came to an instruction: it has no line.
            money = _money(
                -row["pay_fen"],
                [each for each in seen if each["merchant_no"] == row["merchant_no"]],
            )
            side = await _side(conn, row, positions, place, money, at=at, days_max=days_max)
            sides.append(replace(side, at_once=at_once))
        return sides


def _money(due_fen: int, matches: Iterable[Record]) -> Money:
    """Tell what was seen of a payment: where one entry paid several, each has its own part if the sums agree."""
    seen_fen: int | None = None
    accepted_fen = 0
    differs: dict[int, BreakKind] = {}
    for row in matches:
        alone = row["own_due_fen"] == row["due_fen"]
        part_fen = row["seen_fen"] if alone else row["own_due_fen"]
        seen_fen = (seen_fen or 0) + part_fen
        if row["accepted"]:
            accepted_fen += part_fen - row["own_due_fen"]
        elif row["difference"] is not None:
            differs[row["match_no"]] = BreakKind(row["difference"])
    return Money(due_fen=due_fen, seen_fen=seen_fen, accepted_fen=accepted_fen, differs=differs)


async def _side(
    conn: AnyConnection,
    row: Record,
    positions: Mapping[int, int],
    place: Place | None,
    money: Money,
    *,
    at: datetime,
    days_max: int,
) -> Side:
    count = lines_cu = 0
    own = None
    if place is not None:
        brought = await files.fetch_files(
            conn, cycle_no=place.cycle_no, merchant_no=place.merchant_no
        )
        basis = basis_of(brought[0]) if brought else None
        accepted = (
            await store.fetch_accepted(conn, cycle_no=place.cycle_no, merchant_no=place.merchant_no)
            if brought
            else []
        )
        wanted = {leaf for each in accepted for leaf in each["leaves"]}
        count, lines_cu, compared_cu, ours_cu = await asyncio.to_thread(_sums, place, basis, wanted)
        if basis is not None:
            still = await open_lines(conn, place, basis)
            outcome = await match_open(still, days_max)
            breaks = await breaks_of(conn, place, still, outcome, at)
            own = OwnFiles(
                lines=sum(each["lines"] for each in brought),
                told_cu=sum(each["amount_cu"] for each in brought),
                compared_cu=compared_cu,
                open_cu=sum(
                    sum(line.amount_cu for line in one.theirs)
                    - sum(line.amount_cu for line in one.ours)
                    for one in breaks
                ),
                accepted_cu=sum(each["told_cu"] for each in accepted) - ours_cu,
                breaks=Counter(one.kind for one in breaks),
            )
    return Side(
        merchant=row["code"],
        lines=count,
        lines_cu=lines_cu,
        position_cu=positions.get(row["merchant_no"], 0),
        instructed_cu=row["net_cu"],
        carry_before_cu=row["carry_before_cu"],
        carry_after_cu=row["carry_after_cu"],
        money=money,
        own=own,
    )


def _sums(place: Place, basis: Basis | None, wanted: Collection[int]) -> tuple[int, int, int, int]:
    """Stream a statement: its lines, their net, what they come to in a basis, and of it the wanted ones."""
    count = net_cu = compared_cu = wanted_cu = 0
    for line in place.package.lines(place.merchant):
        count, net_cu = count + 1, net_cu + line.net_cu
        if basis is not None:
            amount_cu = our_line(line, basis).amount_cu
            compared_cu += amount_cu
            if line.leaf_index in wanted:
                wanted_cu += amount_cu
    return count, net_cu, compared_cu, wanted_cu
