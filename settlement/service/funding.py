"""Funding: whose the money is, what the bank shows of it, and what people move.

Source: settlement/RULES.md, rules U1 to U6, U10 and U12.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from schemas.values.amounts import CU_PER_FEN, yuan_text
from schemas.values.ids import HOUSE, HOUSE_DEFAULT_FUND, HOUSE_ROUNDING, HOUSE_TRANSIT, key_bytes
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from settlement.core.breaks import plain_account
from settlement.core.command import Deposit, PayOut, Pot, Transfer
from settlement.core.custody import Custody, Entry, place
from settlement.core.event import Kind
from settlement.core.funds import SLACK_CU, has_pot
from settlement.core.instruction import HOUSE_LEG, HOUSE_LEG_CODE
from settlement.core.trail import Change
from settlement.service import parties, trail
from settlement.service.clearing import PART
from settlement.store import bank
from settlement.store import funding as store
from settlement.store import funds as funds_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from asyncpg import Pool

    from settlement.core.command import Command
    from settlement.core.trail import By
    from settlement.service.clearing import Clearing

Alert = Literal["", "below_level", "missing", "overdue", "below_zero"]

_BANK = b"bank"
DUE_DAYS: Final = 1
"""Instructions are due so many days after their cycle closed."""


class Moved(NamedTuple):
    """Money that is counted for somebody else, or in another pot; CU."""

    giver: int
    giver_pot: int
    taker: int
    taker_pot: int
    cu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """One merchant's money, CU.

    Attributes:
        merchant_no: Its number.
        code: Its code.
        funds_cu: Its funds.
        collateral_cu: Its collateral.
        share_cu: Its share of the default fund.
        needs_cu: What closed, unsettled cycles will take of its funds.
        level_cu: Below which funds somebody is told; None where nobody said.
        owes_cu: What it owes after a default.
        late_cu: What of its needs is due and not there.
        figures: What settling each closed cycle moves into its funds, by the cycle's number; below zero out of them.
    """

    merchant_no: int
    code: str
    funds_cu: int
    collateral_cu: int
    share_cu: int
    needs_cu: int
    level_cu: int | None
    owes_cu: int
    late_cu: int = 0
    figures: Mapping[int, int] = field(default_factory=dict)

    @property
    def missing_cu(self) -> int:
        """What it must pay in for its cycles; less than one fen is carried."""
        missing = self.needs_cu - self.funds_cu
        return missing if self.needs_cu and missing > SLACK_CU else 0

    @property
    def alert(self) -> Alert:
        """Why somebody is to be told; empty where all is well."""
        if self.funds_cu < -SLACK_CU:
            return "below_zero"
        if self.late_cu > SLACK_CU:
            return "overdue"
        if self.missing_cu:
            return "missing"
        return "below_level" if self.level_cu is not None and self.funds_cu < self.level_cu else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purses:
    """Everybody's money.

    Attributes:
        merchants: By code.
        house: Funds of the house's own parties, and its share of the default fund as party 0; CU.
    """

    merchants: tuple[Purse, ...]
    house: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """A movement of the bank, and where it was booked.

    Attributes:
        entry: The movement.
        parts: Party, pot and CU of each part.
    """

    entry: Entry
    parts: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BankBooked:
    """What a run over the bank's movements did.

    Attributes:
        booked: Movements that were booked now.
        open: Those about which a person must say.
    """

    booked: tuple[Booked, ...]
    open: tuple[Entry, ...]


def booking_key(statement_no: int, entry_no: int, number: int = 0, attempt: int = 0) -> bytes:
    """Key under which a movement of the bank is booked, so that it is booked once.

    Args:
        statement_no: Number of the statement here.
        entry_no: The movement's number in it.
        number: Which part of it, below 4,096.
        attempt: How often the books refused it before, below 16: a refusal is final for its key.
    """
    return (
        _BANK
        + (attempt << 12 | number).to_bytes(2, "big")
        + b"\x80\x00"
        + statement_no.to_bytes(4, "big")
        + entry_no.to_bytes(4, "big")
    )


async def purses(pool: Pool, *, at: datetime) -> Purses:
    """Everybody's money, what cycles need of it at an instant, and whom to tell."""
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        funds = await funds_store.load_funds(conn, part=PART)
        collateral = dict(tuple(row) for row in await store.fetch_collateral(conn, part=PART))
        nets: dict[int, dict[int, int]] = {}
        due: set[int] = set()
        for cycle_no, party, net_cu, closed_at in await store.fetch_closed_nets(conn, part=PART):
            nets.setdefault(cycle_no, {})[party] = net_cu
            if closed_at + timedelta(days=DUE_DAYS) <= at:
                due.add(cycle_no)
        levels = {row["merchant_no"]: row["level_cu"] for row in await store.fetch_levels(conn)}
    left = {cycle_no: funds.residual(cycle_no, each) for cycle_no, each in nets.items()}
    rows = await parties.list_parties(pool)
    return Purses(
        merchants=tuple(
            Purse(
                merchant_no=number,
                code=row["code"],
                funds_cu=funds.of(number),
                collateral_cu=collateral.get(number, 0),
                share_cu=funds.contributions.get(number, 0),
                needs_cu=_paying(left.values(), number),
                late_cu=late - funds.of(number) if late else 0,
                level_cu=levels.get(number),
                owes_cu=sum(cu for (debtor, _), cu in funds.debts.items() if debtor == number),
                figures={no: each[number] for no, each in left.items() if each.get(number)},
            )
            for row in sorted(rows, key=lambda row: str(row["code"]))
            for number in (row["merchant_no"],)
            for late in (_paying((left[cycle_no] for cycle_no in due), number),)
        ),
        house={party: cu for party, cu in funds.balances.items() if party < 0}
        | {HOUSE: funds.contributions.get(HOUSE, 0)},
    )


def _paying(residuals: Iterable[Mapping[int, int]], merchant_no: int) -> int:
    """What a merchant pays in some cycles, CU."""
    return -sum(min(0, each.get(merchant_no, 0)) for each in residuals)


async def custody(pool: Pool) -> Custody:
    """Hold the books against the bank: against all accounts of the house that it has stated anything of."""
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        closing = await store.fetch_closing(conn)
        funds = await funds_store.load_funds(conn, part=PART)
        collateral = await store.fetch_collateral(conn, part=PART)
        return Custody(
            accounts=tuple(closing),
            bank_fen=sum(closing.values()),
            books_cu=sum(funds.balances.values()) + sum(row["collateral_cu"] for row in collateral),
            announced_cu=max(0, -funds.of(HOUSE_TRANSIT)),
            unbooked=tuple(await _unbooked(conn, None, {})),
        )


async def last_account(pool: Pool) -> str:
    """Account of the statement that was imported last; empty before the first."""
    return await bank.fetch_last_account(pool)


async def book_bank(
    pool: Pool,
    clearing: Clearing,
    *,
    account: str,
    holders: Mapping[str, str],
    by: By,
    at: datetime,
    said: Mapping[tuple[int, int], tuple[int, int]],
    rehearse: bool = False,
) -> BankBooked:
    """Book what the bank shows: each movement once, whoever asks how often.

    Args:
        pool: Database.
        clearing: The writer.
        account: The house's account.
        holders: Code of the merchant behind each account that is known.
        by: Who asks.
        at: Now.
        said: Party and pot of movements about which a person decides.
        rehearse: Show what would happen, and change nothing.

    Raises:
        ValueError: A movement about which a person decides is not open, or the party has no such pot, or too little in
            it for what went out.

    Source: settlement/RULES.md, rules U3 and U12.
    """
    numbers = {row["code"]: row["merchant_no"] for row in await parties.list_parties(pool)}
    numbers[HOUSE_LEG_CODE] = HOUSE_LEG
    known = {each: numbers[code] for each, code in holders.items() if code in numbers}
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        entries = await _unbooked(conn, account, known)
        funds = await funds_store.load_funds(conn, part=PART)
        collateral = dict(tuple(row) for row in await store.fetch_collateral(conn, part=PART))
    if missing := said.keys() - {(one.statement_no, one.entry_no) for one in entries}:
        raise ValueError(f"no open movement is numbered {'/'.join(map(str, min(missing)))}")
    pots = {Pot.COLLATERAL: collateral, Pot.DEFAULT_FUND: funds.contributions}
    _require_pots(said, entries, {int(pot): dict(held) for pot, held in pots.items()}, collateral)
    booked: list[Booked] = []
    still: list[Entry] = []
    house = {party: funds.of(party) for party in (HOUSE_TRANSIT, HOUSE_ROUNDING)}
    for entry in entries:
        decided = said.get((entry.statement_no, entry.entry_no))
        placed = place(entry, transit_cu=house[HOUSE_TRANSIT], rounding_cu=house[HOUSE_ROUNDING])
        if decided is not None:
            parts: tuple[tuple[int, int, int], ...] = ((*decided, entry.amount_fen * 100),)
        else:
            parts = tuple((party, int(Pot.FUNDS), cu) for party, cu in placed)
        for party, _, cu in parts:
            if party in house:
                house[party] += cu
        if parts:
            booked.append(Booked(entry=entry, parts=parts))
        else:
            still.append(entry)
    if booked and not rehearse:
        refused = await _book(pool, clearing, booked, account=account, by=by, at=at)
        booked = [one for one in booked if one.entry.name not in refused]
        still = [one for one in entries if one in still or one.name in refused]
    return BankBooked(booked=tuple(booked), open=tuple(still))


def _require_pots(
    said: Mapping[tuple[int, int], tuple[int, int]],
    entries: Sequence[Entry],
    held: Mapping[int, dict[int, int]],
    merchants: Mapping[int, int],
) -> None:
    """See that what people say can be booked: a refusal of the books would be final for the movement's key.

    Raises:
        ValueError: A party has no such pot, or too little in it.
    """
    for entry in entries:
        decided = said.get((entry.statement_no, entry.entry_no))
        if decided is None:
            continue
        party, pot = decided
        if not has_pot(party, pot, merchants):
            raise ValueError("there is no such account")
        if pot in held:
            inside = held[pot].get(party, 0)
            held[pot][party] = inside + entry.amount_fen * CU_PER_FEN
            if entry.amount_fen < 0 and held[pot][party] < 0:
                raise ValueError(
                    f"{entry.name}: {Pot(pot).name.lower()} holds {yuan_text(inside)} yuan, "
                    f"and {yuan_text(-entry.amount_fen * CU_PER_FEN)} went out"
                )


async def _unbooked(
    conn: store.Connection, account: str | None, known: Mapping[str, int]
) -> list[Entry]:
    rows = await store.fetch_unbooked(conn, part=PART, account=account)
    match_nos = sorted({row["match_no"] for row in rows if row["match_no"] is not None})
    payments: dict[int, list[tuple[int, int]]] = {}
    for row in await bank.fetch_matched_instructions(conn, match_nos=match_nos):
        payments.setdefault(row["match_no"], []).append((row["merchant_no"], -row["pay_fen"]))
    held: dict[int, int] = {}
    for row in await bank.fetch_matched_entries(conn, match_nos=match_nos):
        held[row["match_no"]] = held.get(row["match_no"], 0) + 1
    return [
        Entry(
            statement_no=row["statement_no"],
            entry_no=row["entry_no"],
            statement=row["statement"],
            amount_fen=row["amount_fen"],
            reference=row["reference"],
            party_name=row["party_name"],
            party=known.get(plain_account(row["party_account"])),
            matched=tuple(payments.get(row["match_no"], ())),
            alone=held.get(row["match_no"], 1) == 1,
            waits=row["differs"] or row["released"],
            refused=row["refused"],
        )
        for row in rows
    ]


async def _book(
    pool: Pool,
    clearing: Clearing,
    booked: Sequence[Booked],
    *,
    account: str,
    by: By,
    at: datetime,
) -> set[str]:
    """Book movements; names of those that the books refused."""
    change = Change(
        action="funds.book",
        subject=account,
        after={
            "entries": len(booked),
            "first": booked[0].entry.name,
            "last": booked[-1].entry.name,
            "sum_fen": str(sum(one.entry.amount_fen for one in booked)),
        },
    )
    async with pool.acquire() as conn, conn.transaction():
        digest = await trail.record(conn, by, change, at=at)
    refused: set[str] = set()
    for one in booked:
        commands: list[Command] = [
            (Deposit if cu > 0 else PayOut)(
                caller=HOUSE,
                key=booking_key(
                    one.entry.statement_no, one.entry.entry_no, number, one.entry.refused
                ),
                body=digest[: trail.BODY_BYTES],
                party=party,
                pot=pot,
                cu=abs(cu),
                reference=f"bank {one.entry.name}",
            )
            for number, (party, pot, cu) in enumerate(one.parts)
        ]
        # One submission is decided and written as one: a movement is booked whole or not at all.
        answers = await clearing.submit(commands)
        if any(entry.kind == Kind.REFUSED for answer in answers for entry in answer):
            refused.add(one.entry.name)
    return refused


async def move_asked(
    pool: Pool,
    clearing: Clearing,
    wanted: Moved,
    *,
    names: Mapping[int, str],
    by: By,
    now: datetime,
) -> Refusal | None:
    """Count money for somebody else, or in another pot, because somebody asks for it, which the trail keeps.

    Returns:
        None, or why not.
    """
    if refused := await why_no_move(pool, wanted):
        return refused
    async with pool.acquire() as conn, conn.transaction():
        digest = await trail.record(conn, by, move_change(wanted, names), at=now)
    return await move(clearing, wanted, key=digest[-16:], body=digest[: trail.BODY_BYTES])


async def why_no_move(pool: Pool, wanted: Moved) -> Refusal | None:
    """Why money may not be taken out now: books and bank do not agree (rule U12); None where it may, or stays."""
    return why_not_released(await custody(pool)) if wanted.taker == HOUSE_TRANSIT else None


def move_change(wanted: Moved, names: Mapping[int, str]) -> Change:
    """What the trail keeps of it."""
    return Change(
        action="funds.move",
        subject=names.get(wanted.giver, str(wanted.giver)),
        after={
            "pot": Pot(wanted.giver_pot).name.lower(),
            "to": names.get(wanted.taker, str(wanted.taker)),
            "to_pot": Pot(wanted.taker_pot).name.lower(),
            "cu": str(wanted.cu),
        },
    )


async def move(clearing: Clearing, wanted: Moved, *, key: bytes, body: bytes) -> Refusal | None:
    """Have the books move money between parties or pots; returns why not, if they refuse it."""
    key = key_bytes(f"move:{key.hex()}")
    [[entry]] = await clearing.submit(
        [Transfer(caller=HOUSE, key=key, body=body, **wanted._asdict())]
    )
    if entry.kind == Kind.REFUSED:
        reason = REASON_BY_NUMBER[entry.reason]
        return Refusal(reason, reason.english)
    return None


async def set_level(
    pool: Pool, *, merchant_no: int, code: str, level_cu: int, by: By, at: datetime
) -> None:
    """Say below which funds of a merchant somebody is told."""
    async with pool.acquire() as conn, conn.transaction():
        before = {row["merchant_no"]: row["level_cu"] for row in await store.fetch_levels(conn)}
        await store.insert_level(conn, merchant_no=merchant_no, level_cu=level_cu, at=at)
        change = Change(
            action="funds.level",
            subject=code,
            before={"level_cu": str(before[merchant_no])} if merchant_no in before else None,
            after={"level_cu": str(level_cu)},
        )
        await trail.record(conn, by, change, at=at)


def why_not_released(state: Custody) -> Refusal | None:
    """Why nothing may be paid out: books and bank do not agree (rule U12)."""
    told = state.why_not()
    return Refusal(Reason.MOVEMENT_UNMATCHED, told) if told else None


PARTY_OF_WORD = {"BANK": HOUSE_TRANSIT, "HOUSE": HOUSE, "HOUSE:fees": -1, "HOUSE:rounding": -2}
"""Parties that are no merchants, by what people call them."""
WORD_OF_PARTY = {party: word for word, party in PARTY_OF_WORD.items()} | {
    HOUSE_DEFAULT_FUND: "HOUSE:default-fund"
}
