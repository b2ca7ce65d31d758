"""Bank statements against instructions: what moved, what should have, and what people must look at.

An import is one transaction: the statements, what they match, and the trail's entry. A rehearsal is the same
transaction, not committed, so it shows exactly what would happen.

Source: settlement/RULES.md, rules X1 to X14.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.files.bank_statement import content_sha256, in_order
from schemas.values.amounts import fen_text
from settlement.core.breaks import Break, Movement, Payment, items, name_break
from settlement.core.instruction import HOUSE_LEG, HOUSE_LEG_CODE
from settlement.core.matching import BreakKind, Match, Outcome, Step, match
from settlement.core.payment_id import batch_id, payment_id, read_payment_name, sequence_of
from settlement.core.trail import Change
from settlement.service.trail import record
from settlement.store import bank as store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.bank_statement import BankStatement
    from settlement.core.trail import By

    AnyConnection = Connection | PoolConnectionProxy

DAYS_MAX: Final = 5
"""A payment may be seen so many days from the day on which its cycle closed: a bank's week with a holiday."""


class StatementRefused(Exception):  # noqa: N818 - it is what the sender is told
    """A statement contradicts what was imported before; nothing has changed."""


class MatchRefused(Exception):  # noqa: N818 - it is what the person is told
    """A match cannot be made, accepted or undone; nothing has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A match that was made now, with its number, and its parts."""

    match_no: int
    step: Step
    difference: BreakKind | None
    payments: tuple[Payment, ...]
    movements: tuple[Movement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What an import came to.

    Attributes:
        imported: Numbers of statements that are new.
        repeated: What the bank calls the statements that were imported before, with the same content.
        matches: What was matched now.
        breaks: Everything that is open after it, old or new.
    """

    imported: tuple[int, ...]
    repeated: tuple[str, ...]
    matches: tuple[Made, ...]
    breaks: tuple[Break, ...]


async def import_statements(
    pool: Pool,
    statements: Sequence[BankStatement],
    *,
    account: str,
    holders: Mapping[str, str],
    by: By,
    at: datetime,
    rehearse: bool = False,
    days_max: int = DAYS_MAX,
) -> Reconciled:
    """Import statements of the house's account, and match what is open.

    Args:
        pool: Database.
        statements: What a file held, all of this account, in any order; none of them only matches what is open.
        account: The house's account, as statements write it.
        holders: Code of the merchant behind each account that is known, as `plain_account` writes it.
        by: Who imports.
        at: Now.
        rehearse: Show what would happen, and change nothing.
        days_max: How many days a payment may be seen from the day on which its cycle closed.

    Raises:
        StatementRefused: A statement was imported before with other content, or does not go on where the account's
            last one ended. Then nothing of the file is imported.

    Source: settlement/RULES.md, rules X5 to X14.
    """
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        try:
            done = await _import(conn, statements, account, holders, by, at, days_max)
        except BaseException:
            await transaction.rollback()
            raise
        await (transaction.rollback() if rehearse else transaction.commit())
        return done


async def list_breaks(
    pool: Pool, *, account: str, holders: Mapping[str, str], at: datetime, days_max: int = DAYS_MAX
) -> tuple[Break, ...]:
    """List everything that differs now; nothing is matched. What agrees and only waits for an import is no break.

    Args:
        pool: Database.
        account: The house's account.
        holders: Code of the merchant behind each account that is known.
        at: Now.
        days_max: As for an import.
    """
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        still = await _open(conn, account)
        outcome = _match(still, holders, days_max)
        return await _breaks(conn, still, outcome, at, kept=())


async def match_by_hand(
    pool: Pool,
    *,
    payment_ids: Sequence[str],
    entries: Sequence[tuple[int, int]],
    account: str,
    by: By,
    at: datetime,
) -> int:
    """Say that payments and entries belong together; what their sums differ by becomes a break of the match.

    Args:
        pool: Database.
        payment_ids: What the payments are called; at least one.
        entries: Number of the statement and of the entry in it; at least one.
        account: The house's account.
        by: Who says so, and why.
        at: Now.

    Returns:
        The match's number.

    Raises:
        MatchRefused: One of them is not there or not open, or no reason was given.
    """
    need_why(by)
    async with pool.acquire() as conn, conn.transaction():
        await store.lock_bank(conn)
        still = await _open(conn, account)
        named = {one.payment_id: one for one in still.payments}
        booked = {(one.statement_no, one.entry_no): one for one in still.movements + still.released}
        chosen = [named[each] for each in dict.fromkeys(payment_ids) if each in named]
        moved = [booked[each] for each in dict.fromkeys(entries) if each in booked]
        if not chosen or len(chosen) < len(set(payment_ids)):
            missing = next((each for each in payment_ids if each not in named), "")
            raise MatchRefused(f"no open payment is called {missing!r}")
        if not moved or len(moved) < len(set(entries)):
            missing = next((f"{one}/{two}" for one, two in entries if (one, two) not in booked), "")
            raise MatchRefused(f"no open entry is numbered {missing!r}")
        differs = sum(one.amount_fen for one in chosen) != sum(one.amount_fen for one in moved)
        [match_no] = await _write(
            conn, [(Step.PERSON, BreakKind.AMOUNT if differs else None, chosen, moved)], at, by
        )
        await _record(conn, by, "match.make", match_no, at)
        return match_no


async def accept_difference(pool: Pool, *, match_no: int, by: By, at: datetime) -> None:
    """Let the difference in a match stand; it is no break any more.

    Raises:
        MatchRefused: There is no such match, nothing differs in it, it was undone or accepted, or no reason was given.
    """
    need_why(by)
    async with pool.acquire() as conn, conn.transaction():
        await store.lock_bank(conn)
        row = await _standing(conn, match_no)
        if row["difference"] is None or row["accepted"]:
            raise MatchRefused(f"nothing differs in match {match_no}")
        await store.accept_match(conn, match_no=match_no, at=at)
        await _record(conn, by, "match.accept", match_no, at)


async def undo_match(pool: Pool, *, match_no: int, by: By, at: datetime) -> None:
    """Take a match apart, whoever made it; what it held is open again.

    Raises:
        MatchRefused: There is no such match, it was undone before, or no reason was given.
    """
    need_why(by)
    async with pool.acquire() as conn, conn.transaction():
        await store.lock_bank(conn)
        await _standing(conn, match_no)
        await store.undo_match(conn, match_no=match_no, at=at)
        await _record(conn, by, "match.undo", match_no, at)


# --- an import ---


async def _import(
    conn: AnyConnection,
    statements: Sequence[BankStatement],
    account: str,
    holders: Mapping[str, str],
    by: By,
    at: datetime,
    days_max: int,
) -> Reconciled:
    await store.lock_bank(conn)
    imported, repeated = await _add_statements(conn, statements, at)
    still = await _open(conn, account)
    made: list[Made] = []
    # What one run took out of the lists can prove another match unique; a repeated import must find nothing more.
    while (outcome := _match(still, holders, days_max)).matches:
        made += await _keep(conn, still, outcome, at, by)
        still = still.without(outcome.matches)
    breaks = await _breaks(conn, still, outcome, at, kept=())
    if imported:
        change = Change(
            action="bank.import",
            subject=account,
            after={"statements": list(imported), "matches": len(made), "breaks": len(breaks)},
        )
        await record(conn, by, change, at=at)
    return Reconciled(
        imported=tuple(imported), repeated=tuple(repeated), matches=tuple(made), breaks=breaks
    )


async def _add_statements(
    conn: AnyConnection, statements: Sequence[BankStatement], at: datetime
) -> tuple[list[int], list[str]]:
    """Add what is new, oldest first; each goes on where the one before ended."""
    imported: list[int] = []
    repeated: list[str] = []
    fresh: dict[bytes, BankStatement] = {}
    for statement in statements:
        content = content_sha256(statement)
        if content in fresh or await store.fetch_statement_of(conn, content_sha256=content):
            repeated.append(statement.number)
        else:
            fresh[content] = statement
    if not fresh:
        return imported, repeated
    last = await store.fetch_last_statement(conn, account=statements[0].account)
    for statement in in_order(fresh.values(), last["closing_fen"] if last is not None else None):
        known = await store.fetch_statement(
            conn,
            account=statement.account,
            number=statement.number,
            opened_on=statement.opened_on,
        )
        if known is not None:
            raise StatementRefused(
                f"statement {statement.number} of {statement.opened_on} was imported with other content"
            )
        if last is not None and last["closing_fen"] != statement.opening_fen:
            raise StatementRefused(
                f"statement {statement.number}, opening balance: is {fen_text(statement.opening_fen)}, but statement "
                f"{last['number']} of {last['closed_on']} ended with {fen_text(last['closing_fen'])}: "
                "one between them is missing, or this one is older"
            )
        if await _all_known(conn, statement):
            raise StatementRefused(
                f"statement {statement.number} of {statement.opened_on}: each of its movements was imported before, "
                "under another number"
            )
        number = await store.insert_statement(
            conn,
            statement=statement,
            follows=last["statement_no"] if last is not None else None,
            content_sha256=content_sha256(statement),
            at=at,
        )
        await store.copy_entries(conn, statement_no=number, statement=statement)
        imported.append(number)
        last = await store.fetch_last_statement(conn, account=statement.account)
    return imported, repeated


async def _all_known(conn: AnyConnection, statement: BankStatement) -> bool:
    """Whether a statement says again what another one said: where it moves nothing on the whole, no balance tells."""
    named = [one for one in statement.entries if one.bank_reference]
    if statement.opening_fen != statement.closing_fen or not named:
        return False
    if len(named) < len(statement.entries):
        return False
    return await store.count_known(conn, account=statement.account, entries=named) == len(named)


class _Open(NamedTuple):
    """What no match holds.

    Attributes:
        payments: What should move.
        movements: What did.
        released: What did too, but a person took it out of a match, so only a person matches it.
        closed: Payments that the movements may name and that were matched before, with what moved for each.
    """

    payments: list[Payment]
    movements: list[Movement]
    released: list[Movement]
    closed: tuple[tuple[Payment, int], ...]

    def without(self, matched: Sequence[Match]) -> _Open:
        """What is left, and what is closed then."""
        mine = {place for one in matched for place in one.ours}
        other = {place for one in matched for place in one.theirs}
        closed = tuple(
            (self.payments[one.ours[0]], self.movements[one.theirs[0]].amount_fen)
            for one in matched
            if len(one.ours) == len(one.theirs) == 1
        )
        return self._replace(
            payments=[one for place, one in enumerate(self.payments) if place not in mine],
            movements=[one for place, one in enumerate(self.movements) if place not in other],
            closed=self.closed + closed,
        )


def _match(still: _Open, holders: Mapping[str, str], days_max: int) -> Outcome:
    """Match what is open."""
    ours, theirs = items(
        still.payments, still.movements, holders, closed=[one for one, _ in still.closed]
    )
    known = {(one.payment_id, moved_fen) for one, moved_fen in still.closed}
    return match(ours, theirs, days_max=days_max, known=known)


async def _open(conn: AnyConnection, account: str) -> _Open:
    """Read it."""
    rows = await store.fetch_open_entries(conn, account=account)
    named = filter(None, (read_payment_name(row["reference"]) for row in rows))
    closed = await store.fetch_closed_instructions(
        conn, sequences=sorted({sequence_of(one.batch_id) for one in named})
    )
    return _Open(
        [_payment(row) for row in await store.fetch_open_instructions(conn)],
        [_movement(row) for row in rows if not row["released"]],
        [_movement(row) for row in rows if row["released"]],
        tuple((_payment(row), row["moved_fen"]) for row in closed),
    )


def _payment(row: Record) -> Payment:
    batch = batch_id(sequence=row["sequence"], manifest_sha256=row["manifest_sha256"])
    is_house = row["merchant_no"] == HOUSE_LEG
    return Payment(
        cycle_no=row["cycle_no"],
        party_no=row["merchant_no"],
        code=HOUSE_LEG_CODE if is_house else row["code"],
        payment_id=payment_id(batch, row["merchant_no"], row["counterparty_no"]),
        counterparty_no=row["counterparty_no"],
        amount_fen=-row["pay_fen"],
        due_on=row["closed_on"],
    )


def _movement(row: Record) -> Movement:
    return Movement(
        statement_no=row["statement_no"],
        entry_no=row["entry_no"],
        statement=row["statement"],
        place=row["place"],
        amount_fen=row["amount_fen"],
        booked_on=row["booked_on"],
        reference=row["reference"],
        party_name=row["party_name"],
        party_account=row["party_account"],
    )


_Found = tuple[Step, "BreakKind | None", "Sequence[Payment]", "Sequence[Movement]"]


async def _keep(
    conn: AnyConnection,
    still: _Open,
    outcome: Outcome,
    at: datetime,
    by: By,
) -> list[Made]:
    """Write down what was matched."""
    differs = {(one.ours, one.theirs): one.kind for one in outcome.differences}
    found: list[_Found] = [
        (
            one.step,
            differs.get((one.ours, one.theirs)),
            [still.payments[place] for place in one.ours],
            [still.movements[place] for place in one.theirs],
        )
        for one in outcome.matches
    ]
    numbers = await _write(conn, found, at, by)
    return [
        Made(
            match_no=number,
            step=step,
            difference=difference,
            payments=tuple(matched),
            movements=tuple(moved),
        )
        for number, (step, difference, matched, moved) in zip(numbers, found, strict=True)
    ]


async def _write(conn: AnyConnection, found: Sequence[_Found], at: datetime, by: By) -> list[int]:
    """Add matches with what they hold."""
    numbers = await store.insert_matches(
        conn, matches=[(step, difference) for step, difference, _, _ in found], at=at, by=by.who
    )
    numbered = list(zip(numbers, found, strict=True))
    await store.copy_matched(
        conn,
        instructions=[
            (number, one.cycle_no, one.party_no, one.counterparty_no)
            for number, (_, _, matched, _) in numbered
            for one in matched
        ],
        entries=[
            (number, one.statement_no, one.entry_no)
            for number, (_, _, _, moved) in numbered
            for one in moved
        ],
    )
    return numbers


# --- breaks ---


async def _breaks(
    conn: AnyConnection,
    still: _Open,
    outcome: Outcome,
    at: datetime,
    *,
    kept: Sequence[Match],
) -> tuple[Break, ...]:
    """What differs: in matches that stand, and outside of them; `kept` are those that were just written down."""
    told = {(one.ours, one.theirs) for one in kept}
    differing = await store.fetch_differing(conn)
    numbers = [row["match_no"] for row in differing]
    held, moved = defaultdict[int, list[Payment]](list), defaultdict[int, list[Movement]](list)
    for row in await store.fetch_matched_instructions(conn, match_nos=numbers):
        held[row["match_no"]].append(_payment(row))
    for row in await store.fetch_matched_entries(conn, match_nos=numbers):
        moved[row["match_no"]].append(_movement(row))
    inside = [
        name_break(
            BreakKind(row["difference"]),
            held[row["match_no"]],
            moved[row["match_no"]],
            at.date(),
            match_no=row["match_no"],
        )
        for row in differing
    ]
    alone = [
        name_break(
            one.kind,
            [still.payments[place] for place in one.ours],
            [still.movements[place] for place in one.theirs],
            at.date(),
            candidates=one.candidates,
        )
        for one in outcome.differences
        if (one.ours, one.theirs) not in told
    ]
    released = [name_break(BreakKind.EXTRA, [], [one], at.date()) for one in still.released]
    return (*inside, *alone, *released)


# --- people's decisions ---


def need_why(by: By) -> None:
    """A person's decision says why."""
    if not by.why:
        raise MatchRefused("say why (`--why`): a decision about money needs a reason")


async def _standing(conn: AnyConnection, match_no: int) -> Record:
    """A match that was not undone."""
    row = await store.fetch_match(conn, match_no=match_no)
    if row is None or row["undone"]:
        raise MatchRefused(f"no match {match_no} stands")
    return row


async def _record(conn: AnyConnection, by: By, action: str, match_no: int, at: datetime) -> None:
    await record(conn, by, Change(action=action, subject=str(match_no)), at=at)
