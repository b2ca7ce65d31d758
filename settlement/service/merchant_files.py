"""Merchants' own files against the lines of signed statements: what they agree on, and what people must look at.

A file is read to its end before anything is written, so one that is wrong anywhere changes nothing. An import is one
transaction: the file, its lines, what they match, and the trail's entry; killed anywhere, it is brought again. A
rehearsal is the same transaction, not committed.

Source: settlement/RULES.md, rules X5 to X10 and X15 to X21.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from schemas.files.merchant_file import Basis, FileLine
from schemas.files.msgpack_stream import read_objects
from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.faults import SchemaError
from settlement.core.matching import BreakKind, Outcome, Step
from settlement.core.trail import Change
from settlement.service.open_lines import (
    LINE_DAYS_MAX,
    FileRefused,
    Lines,
    OpenLines,
    Place,
    basis_of,
    breaks_of,
    find_place,
    match_open,
    open_lines,
    sure_lines,
)
from settlement.service.reconciliation import MatchRefused, need_why
from settlement.service.trail import record
from settlement.store import bank as matches
from settlement.store import merchant_files as store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from asyncpg import Connection, Pool
    from asyncpg.pool import PoolConnectionProxy

    from settlement.core.own_lines import LineBreak, OurLine, TheirLine
    from settlement.core.trail import By

    AnyConnection = Connection | PoolConnectionProxy

_COPIED_AT_ONCE: Final = 10_000
_SPOOLED_BYTES: Final = 16 * 1024 * 1024
"""Of a longer file, what was read waits on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantFile:
    """A file as it is brought.

    Attributes:
        name: What people call it.
        basis: Which of our figures and instants its lines are held against.
        lines: Reads it from its beginning; raises `SchemaError` where it is wrong.
    """

    name: str
    basis: Basis
    lines: Callable[[], Iterator[FileLine]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReconciled:
    """What an import came to.

    Attributes:
        file_no: Number of the file here; None for a rehearsal.
        repeated: Number of the file with the same content that was imported before; None if there is none.
        lines: Lines of the file.
        amount_cu: What they come to.
        steps: How many matches were made now, by how.
        breaks: Everything that differs after it, old or new.
    """

    file_no: int | None
    repeated: int | None
    lines: int
    amount_cu: int
    steps: Mapping[Step, int]
    breaks: tuple[LineBreak, ...]


async def import_file(
    pool: Pool,
    file: MerchantFile,
    of: Lines,
    *,
    by: By,
    at: datetime,
    rehearse: bool = False,
    days_max: int = LINE_DAYS_MAX,
) -> FileReconciled:
    """Import a merchant's own file, and match its lines with those of the signed statement.

    Args:
        pool: Database.
        file: The file.
        of: Whose file of which batch it is.
        by: Who imports.
        at: Now.
        rehearse: Show what would happen, and change nothing.
        days_max: How many days the two may lie apart.

    Raises:
        SchemaError: The file is wrong somewhere; nothing has changed.
        FileRefused: There is no such merchant, batch or statement, or an earlier file has another basis.
        CheckFailed: The statement is not the one that was signed.
    """
    with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as spool:
        survey = await asyncio.to_thread(_survey, file, spool)
        async with pool.acquire() as conn:
            transaction = conn.transaction()
            await transaction.start()
            try:
                done = await _import(conn, file, survey, of, by, at, days_max)
            except BaseException:
                await transaction.rollback()
                raise
            await (transaction.rollback() if rehearse else transaction.commit())
    return replace(done, file_no=None) if rehearse else done


async def match_lines_by_hand(
    pool: Pool,
    of: Lines,
    *,
    leaves: Sequence[int],
    lines: Sequence[tuple[int, int]],
    by: By,
    at: datetime,
) -> int:
    """Say that lines of ours and of the merchant's files belong together; what their sums differ by becomes a break.

    Args:
        pool: Database.
        of: Whose lines of which batch.
        leaves: Numbers of our lines among the leaves of the cycle's tree; at least one.
        lines: Number of the file and of the line in it; at least one.
        by: Who says so, and why.
        at: Now.

    Returns:
        The match's number.

    Raises:
        MatchRefused: One of them is not there or not open, or no reason was given.
        FileRefused: There is no such merchant, batch or statement.
    """
    need_why(by)
    async with pool.acquire() as conn, conn.transaction():
        await matches.lock_bank(conn)
        place = await find_place(conn, of)
        files = await store.fetch_files(
            conn, cycle_no=place.cycle_no, merchant_no=place.merchant_no
        )
        still = await open_lines(conn, place, basis_of(files[0]) if files else Basis())
        ours = {one.leaf_index: one for one in still.ours}
        theirs = {(one.file_no, one.line_no): one for one in (*still.theirs, *still.released)}
        for leaf in leaves:
            if leaf not in ours:
                raise MatchRefused(f"no open line of ours is leaf {leaf}")
        for file_no, line_no in lines:
            if (file_no, line_no) not in theirs:
                raise MatchRefused(f"no open line of the merchant is numbered {file_no}/{line_no}")
        if not leaves or not lines:
            raise MatchRefused("name at least one line of each side")
        mine = [ours[each] for each in dict.fromkeys(leaves)]
        told = [theirs[each] for each in dict.fromkeys(lines)]
        differs = sum(one.amount_cu for one in mine) != sum(one.amount_cu for one in told)
        found = (Step.PERSON, BreakKind.AMOUNT if differs else None, mine, told)
        [match_no] = await _write(conn, place, [found], at, by)
        await record(conn, by, Change(action="match.make", subject=str(match_no)), at=at)
        return match_no


async def withdraw_file(pool: Pool, *, file_no: int, by: By, at: datetime) -> int:
    """Let a file count no more, and take apart what its lines were matched with; the file's rows stay.

    Returns:
        How many matches were taken apart.

    Raises:
        MatchRefused: No such file counts, or no reason was given.
    """
    need_why(by)
    async with pool.acquire() as conn, conn.transaction():
        await matches.lock_bank(conn)
        file = await store.fetch_file(conn, file_no=file_no)
        if file is None or file["withdrawn"]:
            raise MatchRefused(f"no file {file_no} counts")
        held = await store.fetch_matches_of_file(conn, file_no=file_no)
        await store.undo_matches(conn, match_nos=held, at=at)
        await store.withdraw_file(conn, file_no=file_no, at=at)
        change = Change(
            action="merchant_file.withdraw",
            subject=file["code"],
            before={"cycle": file["cycle_id"], "file": file_no, "matches": len(held)},
        )
        await record(conn, by, change, at=at)
        return len(held)


# --- an import ---


class _Survey(NamedTuple):
    """What a file holds, found by reading it to its end.

    Attributes:
        lines: How many lines it has.
        amount_cu: What they come to.
        content_sha256: Digest of what they say, whatever form it was written in.
        spool: Its lines, read and checked, for the second time that they are taken.
    """

    lines: int
    amount_cu: int
    content_sha256: bytes
    spool: IO[bytes]

    def taken(self) -> Iterator[FileLine]:
        """Stream the lines once more."""
        size = self.spool.tell()
        self.spool.seek(0)
        objects = read_objects(self.spool, size)  # type: ignore[arg-type] # it reads as a BinaryIO does
        for place in objects:
            order, reference, day, amount_cu, units, counterparty = cast("list[Any]", next(objects))
            yield FileLine(
                place=str(place),
                order=order,
                reference=reference,
                day=date.fromordinal(day),
                amount_cu=amount_cu,
                units=units,
                counterparty=counterparty,
            )


def _survey(file: MerchantFile, spool: IO[bytes]) -> _Survey:
    """Read a file to its end, so that what is wrong anywhere in it is found before anything is written."""
    digest = hashlib.sha256(msgspec.msgpack.encode(file.basis))
    encode = msgspec.msgpack.Encoder().encode
    lines = amount_cu = 0
    for line in file.lines():
        said = encode(
            (
                line.order,
                line.reference,
                line.day.toordinal(),
                line.amount_cu,
                line.units,
                line.counterparty,
            )
        )
        digest.update(said)
        spool.write(encode(line.place))
        spool.write(said)
        lines, amount_cu = lines + 1, amount_cu + line.amount_cu
        if abs(amount_cu) >= AMOUNT_LIMIT:
            raise SchemaError(
                line.place, "the lines up to here come to more than any account may hold"
            )
    return _Survey(lines, amount_cu, digest.digest(), spool)


async def _import(
    conn: AnyConnection,
    file: MerchantFile,
    survey: _Survey,
    of: Lines,
    by: By,
    at: datetime,
    days_max: int,
) -> FileReconciled:
    await matches.lock_bank(conn)
    place = await find_place(conn, of)
    files = await store.fetch_files(conn, cycle_no=place.cycle_no, merchant_no=place.merchant_no)
    for each in files:
        if basis_of(each) != file.basis:
            raise FileRefused(
                f"file {each['file_no']} of this batch holds {_words(basis_of(each))}, this one {_words(file.basis)}: "
                "withdraw it, or bring both in one form"
            )
    repeated = next(
        (each["file_no"] for each in files if each["content_sha256"] == survey.content_sha256), None
    )
    file_no: int | None = repeated
    if repeated is None:
        file_no = await _add(conn, file, survey, place, at)
    steps: Counter[Step] = Counter()
    sure = await sure_lines(conn, place, file.basis, days_max)
    while piece := list(islice(sure, _COPIED_AT_ONCE)):
        await _keep_sure(conn, place, piece, at, by)
        steps[Step.EXACT] += len(piece)
    still = await open_lines(conn, place, file.basis)
    while (outcome := await match_open(still, days_max)).matches:
        await _keep(conn, place, still, outcome, at, by)
        steps.update(one.step for one in outcome.matches)
        still = still.without(outcome.matches)
    breaks = await breaks_of(conn, place, still, outcome, at)
    if repeated is None:
        change = Change(
            action="merchant_file.import",
            subject=of.merchant,
            after={
                "cycle": of.cycle_id,
                "file": file_no,
                "lines": survey.lines,
                "sha256": survey.content_sha256.hex(),
                "matches": steps.total(),
                "breaks": len(breaks),
            },
        )
        await record(conn, by, change, at=at)
    return FileReconciled(
        file_no=file_no,
        repeated=repeated,
        lines=survey.lines,
        amount_cu=survey.amount_cu,
        steps=steps,
        breaks=breaks,
    )


async def _add(
    conn: AnyConnection, file: MerchantFile, survey: _Survey, place: Place, at: datetime
) -> int:
    """Write a file and its lines, some thousands at a time."""
    file_no = await store.insert_file(
        conn,
        cycle_no=place.cycle_no,
        merchant_no=place.merchant_no,
        name=file.name,
        lines=survey.lines,
        amount_cu=survey.amount_cu,
        basis=file.basis,
        content_sha256=survey.content_sha256,
        at=at,
    )
    lines, first = survey.taken(), 1
    while piece := list(islice(lines, _COPIED_AT_ONCE)):
        await store.copy_lines(conn, file_no=file_no, first=first, lines=piece)
        first += len(piece)
    return file_no


def _words(basis: Basis) -> str:
    return f"{basis.figure} amounts by {basis.clock} time, rounding {basis.rounding}"


async def _keep_sure(
    conn: AnyConnection,
    place: Place,
    pairs: Sequence[tuple[int, int, int]],
    at: datetime,
    by: By,
) -> None:
    """Write down pairs of lines that agree in everything: our leaf, file, line of the file."""
    numbers = await matches.insert_matches(
        conn,
        matches=[(Step.EXACT, None)] * len(pairs),
        at=at,
        by=by.who,
        lines_of=(place.cycle_no, place.merchant_no),
    )
    numbered = [(number, *pair) for number, pair in zip(numbers, pairs, strict=True)]
    await store.copy_matched(
        conn,
        leaves=[
            (number, place.cycle_no, place.merchant_no, leaf) for number, leaf, _, _ in numbered
        ],
        lines=[(number, file_no, line_no) for number, _, file_no, line_no in numbered],
    )


_Found = tuple[Step, "BreakKind | None", "Sequence[OurLine]", "Sequence[TheirLine]"]


async def _keep(
    conn: AnyConnection, place: Place, still: OpenLines, outcome: Outcome, at: datetime, by: By
) -> None:
    """Write down what was matched."""
    differs = {(one.ours, one.theirs): one.kind for one in outcome.differences}
    found: list[_Found] = [
        (
            one.step,
            differs.get((one.ours, one.theirs)),
            [still.ours[each] for each in one.ours],
            [still.theirs[each] for each in one.theirs],
        )
        for one in outcome.matches
    ]
    await _write(conn, place, found, at, by)


async def _write(
    conn: AnyConnection, place: Place, found: Sequence[_Found], at: datetime, by: By
) -> list[int]:
    """Add matches with what they hold."""
    numbers = await matches.insert_matches(
        conn,
        matches=[(step, difference) for step, difference, _, _ in found],
        at=at,
        by=by.who,
        lines_of=(place.cycle_no, place.merchant_no),
    )
    await store.copy_matched(
        conn,
        leaves=[
            (number, place.cycle_no, place.merchant_no, one.leaf_index)
            for number, (_, _, ours, _) in zip(numbers, found, strict=True)
            for one in ours
        ],
        lines=[
            (number, one.file_no, one.line_no)
            for number, (_, _, _, theirs) in zip(numbers, found, strict=True)
            for one in theirs
        ],
    )
    return numbers
