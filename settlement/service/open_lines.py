"""What is open between a merchant's own files and the lines of its signed statement.

The statement is read from the package, after its digest was held against the manifest that the books keep; so nothing
is compared that was not signed.

Source: settlement/RULES.md, rules X15 to X20.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.files.manifest import read_manifest
from schemas.files.merchant_file import Basis
from settlement.core.matching import BreakKind, Outcome, Step, match
from settlement.core.own_lines import (
    LineBreak,
    Names,
    OurLine,
    TheirLine,
    items,
    name_line_break,
    names_of,
    our_line,
)
from settlement.core.sure_lines import LineColumns, sure_pairs
from settlement.render.batch import Batch
from settlement.service.package_reading import Package
from settlement.store import merchant_files as store

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from settlement.core.matching import Match

    AnyConnection = Connection | PoolConnectionProxy

LINE_DAYS_MAX: Final = 1
"""A merchant's day may be one before or after ours: tills run over midnight, and exports in other zones."""


class FileRefused(Exception):  # noqa: N818 - it is what the sender is told
    """A file contradicts what is known; nothing has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Whose lines of which batch.

    Attributes:
        merchant: Code of the merchant.
        cycle_id: Id of the cycle.
        packages: Folder of the settlement packages.
    """

    merchant: str
    cycle_id: str
    packages: Path


async def list_line_breaks(
    pool: Pool, of: Lines, *, at: datetime, days_max: int = LINE_DAYS_MAX
) -> tuple[LineBreak, ...]:
    """List everything that differs now between a merchant's files and its lines; nothing is matched.

    Args:
        pool: Database.
        of: Whose lines of which batch.
        at: Now.
        days_max: As for an import.

    Returns:
        Breaks; none where no file was imported, for then there is nothing to compare.

    Raises:
        FileRefused: There is no such merchant, batch or statement.
    """
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        place = await find_place(conn, of)
        files = await store.fetch_files(
            conn, cycle_no=place.cycle_no, merchant_no=place.merchant_no
        )
        if not files:
            return ()
        still = await open_lines(conn, place, basis_of(files[0]))
        outcome = await match_open(still, days_max)
        return await breaks_of(conn, place, still, outcome, at)


# --- reading ---


def basis_of(row: Record) -> Basis:
    """Which of our figures a file is held against."""
    return Basis(figure=row["figure"], clock=row["clock"], rounding=row["rounding"])


class Place(NamedTuple):
    """A merchant's lines of a batch, found.

    Attributes:
        cycle_no: Number of the cycle.
        merchant_no: Number of the merchant.
        merchant: Its code.
        package: The signed package, of which this statement alone was checked.
    """

    cycle_no: int
    merchant_no: int
    merchant: str
    package: Package


async def find_place(conn: AnyConnection, of: Lines) -> Place:
    """Find the signed statement, and see that it is the one that was signed."""
    batch = await store.fetch_batch_of(conn, cycle_id=of.cycle_id)
    if batch is None:
        raise FileRefused(f"cycle {of.cycle_id} has no package")
    merchant_no = await store.fetch_merchant_no(conn, code=of.merchant)
    if merchant_no is None:
        raise FileRefused(f"there is no merchant {of.merchant}")
    package = Package(
        folder=of.packages / of.cycle_id,
        batch=Batch(
            manifest=read_manifest(batch["manifest"]),
            manifest_sha256=batch["manifest_sha256"],
            instructions={},
            parties=None,
        ),
    )
    if of.merchant not in package.merchants:
        raise FileRefused(f"{of.merchant} has no line in cycle {of.cycle_id}")
    await asyncio.to_thread(package.require, f"statements/{of.merchant}.msgpack")
    return Place(batch["cycle_no"], merchant_no, of.merchant, package)


class OpenLines(NamedTuple):
    """What no match holds.

    Attributes:
        ours: Lines of the statement.
        theirs: Lines of the merchant's files.
        released: Likewise, but a person took them out of a match, so only a person matches them.
        inside: Lines of ours in matches in which something differs.
        known: Names and amounts of what was matched before.
    """

    ours: list[OurLine]
    theirs: list[TheirLine]
    released: list[TheirLine]
    inside: dict[int, OurLine]
    known: set[tuple[str, int]]

    def without(self, matched: Sequence[Match]) -> OpenLines:
        """What is left, and what is known then."""
        mine = {place for one in matched for place in one.ours}
        other = {place for one in matched for place in one.theirs}
        known = {
            (name, line.amount_cu)
            for one in matched
            if one.step in {Step.EXACT, Step.REFERENCE} and len(one.ours) == len(one.theirs) == 1
            for line in (self.theirs[one.theirs[0]],)
            for name in names_of(line.order, line.reference)
        }
        return self._replace(
            ours=[line for place, line in enumerate(self.ours) if place not in mine],
            theirs=[line for place, line in enumerate(self.theirs) if place not in other],
            inside=self.inside | {self.ours[place].leaf_index: self.ours[place] for place in mine},
            known=self.known | known,
        )


async def open_lines(conn: AnyConnection, place: Place, basis: Basis) -> OpenLines:
    """Read it."""
    of = {"cycle_no": place.cycle_no, "merchant_no": place.merchant_no}
    theirs: list[TheirLine] = []
    released: list[TheirLine] = []
    async for row in store.stream_open_lines(conn, **of):
        (released if row["released"] else theirs).append(their_line(row))
    named = {name for line in theirs for name in names_of(line.order, line.reference)}
    known = {
        (name, row["amount_cu"])
        async for row in store.stream_matched_names(conn, **of)
        for name in names_of(row["order_id"], row["reference"])
        if name in named
    }
    held = await _held(conn, place)
    differing = [row["match_no"] for row in await store.fetch_differing(conn, **of)]
    wanted = {
        row["leaf_index"] for row in await store.fetch_matched_leaves(conn, match_nos=differing)
    }
    ours, inside = await asyncio.to_thread(_read_ours, place, basis, held, wanted)
    return OpenLines(ours, theirs, released, inside, known)


async def _held(conn: AnyConnection, place: Place) -> bytearray:
    """Say of each leaf of the tree whether a match holds this merchant's line of it."""
    held = bytearray(place.package.batch.manifest.merkle.leaf_count)
    async for leaf_index in store.stream_held_leaves(
        conn, cycle_no=place.cycle_no, merchant_no=place.merchant_no
    ):
        held[leaf_index] = 1
    return held


def _read_ours(
    place: Place, basis: Basis, held: bytearray, wanted: Collection[int]
) -> tuple[list[OurLine], dict[int, OurLine]]:
    """Stream the statement, and keep what no match holds and what is wanted."""
    ours: list[OurLine] = []
    inside: dict[int, OurLine] = {}
    for line in place.package.lines(place.merchant):
        if line.leaf_index in wanted:
            inside[line.leaf_index] = our_line(line, basis)
        elif not held[line.leaf_index]:
            told = our_line(line, basis)
            if told.amount_cu:
                ours.append(told)
    return ours, inside


async def sure_lines(
    conn: AnyConnection, place: Place, basis: Basis, days_max: int
) -> Iterator[tuple[int, int, int]]:
    """Find the open lines that no other line can dispute, in columns: both sides may have millions.

    Returns:
        Number of our leaf, of the merchant's file and of the line in it, in the order of leaves.
    """
    theirs, files, numbers = LineColumns(), array("i"), array("i")
    async for row in store.stream_open_lines(
        conn, cycle_no=place.cycle_no, merchant_no=place.merchant_no
    ):
        if not row["released"]:
            day = row["day"].toordinal()
            theirs.add(row["order_id"], row["reference"], day, row["amount_cu"], row["units"])
            files.append(row["file_no"])
            numbers.append(row["line_no"])
    held = await _held(conn, place)

    def pair() -> Iterator[tuple[int, int, int]]:
        ours, leaves = LineColumns(), array("q")
        for line in place.package.lines(place.merchant):
            if not held[line.leaf_index]:
                told = our_line(line, basis)
                if told.amount_cu:
                    ours.add(told.order, told.reference, told.day, told.amount_cu, told.units)
                    leaves.append(told.leaf_index)
        mine, other = sure_pairs(ours, theirs, days_max=days_max)
        return (
            (leaves[left], files[right], numbers[right])
            for left, right in zip(mine, other, strict=True)
        )

    return await asyncio.to_thread(pair)


def their_line(row: Record) -> TheirLine:
    """A line of a file, as it is stored."""
    return TheirLine(
        row["file_no"],
        row["line_no"],
        row["place"],
        row["order_id"],
        row["reference"],
        row["day"].toordinal(),
        row["amount_cu"],
        row["units"],
        row["counterparty"],
    )


async def match_open(still: OpenLines, days_max: int) -> Outcome:
    """Match what is open, in a thread: a hundred thousand lines take seconds."""

    def work() -> Outcome:
        ours, theirs = items(still.ours, still.theirs, Names(still.ours, still.theirs))
        return match(ours, theirs, days_max=days_max, known=still.known)

    return await asyncio.to_thread(work)


async def breaks_of(
    conn: AnyConnection, place: Place, still: OpenLines, outcome: Outcome, at: datetime
) -> tuple[LineBreak, ...]:
    """What differs: in matches that stand, and outside of them."""
    differing = await store.fetch_differing(
        conn, cycle_no=place.cycle_no, merchant_no=place.merchant_no
    )
    numbers = [row["match_no"] for row in differing]
    ours, theirs = defaultdict[int, list[OurLine]](list), defaultdict[int, list[TheirLine]](list)
    for row in await store.fetch_matched_leaves(conn, match_nos=numbers):
        ours[row["match_no"]].append(still.inside[row["leaf_index"]])
    for row in await store.fetch_matched_lines(conn, match_nos=numbers):
        theirs[row["match_no"]].append(their_line(row))
    matched = {(one.ours, one.theirs) for one in outcome.matches}
    today = at.date()

    def name(
        kind: BreakKind,
        mine: Sequence[OurLine],
        told: Sequence[TheirLine],
        candidates: int = 0,
        match_no: int | None = None,
    ) -> LineBreak:
        return name_line_break(
            kind,
            mine,
            told,
            merchant=place.merchant,
            today=today,
            candidates=candidates,
            match_no=match_no,
        )

    inside = [
        name(BreakKind(row["difference"]), ours[number], theirs[number], match_no=number)
        for row in differing
        for number in (row["match_no"],)
    ]
    alone = [
        name(
            one.kind,
            [still.ours[each] for each in one.ours],
            [still.theirs[each] for each in one.theirs],
            one.candidates,
        )
        for one in outcome.differences
        if (one.ours, one.theirs) not in matched
    ]
    released = [name(BreakKind.EXTRA, [], [one]) for one in still.released]
    return (*inside, *alone, *released)
