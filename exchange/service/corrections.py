"""Taking a file of corrections: every line is looked at before the first is booked, and a repeat changes nothing.

Source: settlement/RULES.md, rule W5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exchange.service.reversals import members_of, owners_of
from exchange.store.catalogue import fetch_catalogue
from exchange.store.links import fetch_links
from schemas.files.corrections import place
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE, key_bytes, order_id, order_place
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core.adjustment import is_owed, is_taken_back_alone
from settlement.core.command import Adjust, Reverse
from settlement.core.dispute import Figures
from settlement.core.event import Kind
from settlement.core.reversal import WHY_NOT, Amounts
from settlement.core.trail import Change
from settlement.service import inquiry, trail
from settlement.service.clearing import PART
from settlement.service.trail import BODY_BYTES

if TYPE_CHECKING:
    import uuid
    from collections.abc import Container, Mapping
    from datetime import datetime

    from asyncpg import Pool

    from exchange.core.catalogue import Catalogue
    from exchange.service.vaults import VaultDoor
    from schemas.files.corrections import Correction, CorrectionFile
    from settlement.core.command import Command
    from settlement.core.reversal import Cleared
    from settlement.core.trail import By
    from settlement.service.clearing import Clearing

AT_A_TIME = 500
"""Commands of a file that are sent together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a file.

    Attributes:
        booked: Lines that stand in the books.
        refused: Lines that the books refused for what happened since they were looked at, with the reason.
    """

    booked: int
    refused: Mapping[int, Reason]


def change_of(file: CorrectionFile, sender: str, *, own: bool = False) -> Change:
    """The entry of the trail that asks for a file; `own` where a merchant hands it over itself."""
    told = {name: str(total) for name, total in file.totals.items()}
    after = {"file_sha256": file.sha256.hex(), "rows": len(file.rows), **told}
    action = "corrections.hand_in" if own else "corrections.take"
    return Change(action=action, subject=sender, after=after)


async def was_taken(pool: Pool, file: CorrectionFile, sender: str) -> bool:
    """Whether this very file was taken from this sender before, whoever brought it."""
    return any(
        [await trail.was_asked(pool, change_of(file, sender, own=own)) for own in (False, True)]
    )


async def check_file(pool: Pool, file: CorrectionFile, *, caller: int) -> None:
    """Look at every line as the books will, without booking any.

    Args:
        pool: The books.
        file: What was handed over.
        caller: Who did; 0 for the house, which alone may adjust.

    Raises:
        SchemaError: A line cannot be booked: an order that is not known (to this merchant) or did not clear, more
            than is left, figures that are no adjustment's, a merchant that there is not; names line and field.
    """
    catalogue = await fetch_catalogue(pool)
    named = {_seq(row) for row in file.rows if row.order is not None}
    at_us, cleared, past = await inquiry.find_many(pool, named)
    owners = await owners_of(pool, {_seq(row) for row in file.rows if row.is_reversal})
    linked = await fetch_links(pool, pairs=[owner for owner in owners.values() if owner])
    for row in file.rows:
        if row.order is None:
            _check_alone(row, catalogue, caller)
            continue
        seq = _seq(row)
        field = place(row.line, "order")
        if seq not in at_us or order_id(at_us[seq], PART, seq) != row.order:
            raise SchemaError(field, "no such order is known")
        acceptor = cleared[seq].acceptor if seq in cleared else past[seq].acceptor
        if caller not in (HOUSE, acceptor):
            raise SchemaError(field, "no such order is known to this merchant")
        if seq not in cleared:
            raise SchemaError(field, WHY_NOT[past[seq].kind].english)
        if row.is_reversal:
            if seq in owners:
                _check_offered(field, owners[seq], linked)
            cleared[seq] = _check_reversal(row, cleared[seq])
        else:
            cleared[seq] = _check_adjustment(row, cleared[seq], caller)


async def take_file(
    pool: Pool,
    clearing: Clearing,
    file: CorrectionFile,
    *,
    sender: str,
    by: By,
    at: datetime,
    door: VaultDoor,
    own: bool = False,
) -> Taken:
    """Take a file, or go on with one that was taken before; the same file again books nothing twice.

    Args:
        pool: The books.
        clearing: The writer.
        file: What was handed over.
        sender: Code of the merchant that did, or `HOUSE`.
        by: Who brings it in.
        at: Now.
        door: The vault, for who members are at merchants' own systems.
        own: Whether a merchant hands it over itself; it may take its own orders back alone.

    Raises:
        SchemaError: As for `check_file`; nothing has changed.
        SecondPersonNeeded: Somebody of the house hands it over, four eyes are in force; then it is proposed.
    """
    caller = await caller_of(pool, sender)
    if not await was_taken(pool, file, sender):
        await check_file(pool, file, caller=caller)
    body = await trail.ask(pool, by, change_of(file, sender, own=own), at=at)
    return await book_file(pool, clearing, file, caller=caller, body=body, door=door)


async def caller_of(pool: Pool, sender: str) -> int:
    """Number of who hands a file over; 0 for `HOUSE`.

    Raises:
        SchemaError: There is no such merchant.
    """
    if sender == "HOUSE":
        return HOUSE
    found = (await fetch_catalogue(pool)).by_code.get(sender)
    if found is None:
        raise SchemaError("$.merchant", f"no merchant has the code {sender}")
    return found


async def book_file(
    pool: Pool,
    clearing: Clearing,
    file: CorrectionFile,
    *,
    caller: int,
    body: bytes,
    door: VaultDoor,
) -> Taken:
    """Have the books carry out every line, under keys made of the file's digest and the line."""
    by_code = (await fetch_catalogue(pool)).by_code
    parties = await _parties(pool, file)
    booked, refused = 0, {}
    once = file.sha256[:BODY_BYTES]  # the same whoever brings the file
    for start in range(0, len(file.rows), AT_A_TIME):
        rows = file.rows[start : start + AT_A_TIME]
        members = await members_of(pool, door, {_seq(row) for row in rows if row.is_reversal})
        commands: list[Command] = []
        for row in rows:
            key = key_bytes(f"{file.sha256.hex()[:48]}:{row.line}")
            if row.is_reversal:
                commands.append(_reverse(row, caller, key, once, members))
                continue
            issuer, acceptor = (
                parties[row.order] if row.order else (by_code[row.issuer], by_code[row.acceptor])
            )
            seq = _seq(row) if row.order else 0
            figures = row.debit_cu, row.value_cu, row.fee_cu
            commands.append(
                Adjust(HOUSE, key, body, seq, issuer, acceptor, *figures, row.reference)
            )
        for row, answer in zip(rows, await clearing.submit(commands), strict=True):
            if answer[0].kind == Kind.REFUSED:
                refused[row.line] = REASON_BY_NUMBER[answer[0].reason]
            else:
                booked += 1
    return Taken(booked=booked, refused=refused)


def _reverse(
    row: Correction, caller: int, key: bytes, body: bytes, members: Mapping[int, str]
) -> Reverse:
    """The command of a reversal; what a merchant's own system took, it gives back by a journey (rule V6)."""
    seq = _seq(row)
    member = members.get(seq)
    reason = Reason.REVERSAL_NOT_OFFERED.number if member == "" else 0
    return Reverse(caller, key, body, seq, row.units, row.reference, reason, member or "")


def _seq(row: Correction) -> int:
    """Number of the first event of the order that a row names; 0 where its id is no order's here."""
    assert row.order is not None
    try:
        part, seq = order_place(row.order)
    except ValueError:
        return 0
    return seq if part == PART else 0


async def _parties(pool: Pool, file: CorrectionFile) -> dict[uuid.UUID, tuple[int, int]]:
    """Issuer and acceptor of each order that an adjustment of the file names."""
    named = {_seq(row): row.order for row in file.rows if row.order and not row.is_reversal}
    _, cleared, _ = await inquiry.find_many(pool, named)
    return {named[seq]: (one.issuer, one.acceptor) for seq, one in cleared.items()}


def _check_alone(row: Correction, catalogue: Catalogue, caller: int) -> None:
    """An adjustment that names no order."""
    if caller != HOUSE:
        raise SchemaError(place(row.line, "kind"), "only the house adjusts")
    for name in ("issuer", "acceptor"):
        if getattr(row, name) not in catalogue.by_code:
            raise SchemaError(
                place(row.line, name), f"no merchant has the code {getattr(row, name)}"
            )
    if row.issuer == row.acceptor:
        raise SchemaError(place(row.line, "acceptor"), "Expected another merchant than the issuer")
    figures = row.debit_cu, row.value_cu, row.fee_cu
    if not (is_owed(*figures) or is_taken_back_alone(*figures)):
        raise SchemaError(place(row.line, "debit_cu"), "the figures are no adjustment's")


def _check_offered(
    field: str, owner: tuple[int, int] | None, linked: Container[tuple[int, int]]
) -> None:
    """A reversal of an order that went through a merchant's own system (rule V6)."""
    if owner is None:
        raise SchemaError(
            field, "an exchange between merchants' own systems is not taken back here"
        )
    if owner not in linked:
        raise SchemaError(field, "its member is not linked to the issuer any more")


def _check_reversal(row: Correction, order: Cleared) -> Cleared:
    """A reversal, and the order as it leaves it."""
    if row.units > order.left_units:
        raise SchemaError(
            place(row.line, "units"), f"{order.left_units} units are left of the order"
        )
    return order.without(order.share(row.units), order.last_seq)


def _check_adjustment(row: Correction, order: Cleared, caller: int) -> Cleared:
    """An adjustment of an order, and the order as it leaves it (rules J1 and J2)."""
    if caller != HOUSE:
        raise SchemaError(place(row.line, "kind"), "only the house adjusts")
    figures = Figures(row.debit_cu, row.value_cu, row.fee_cu)
    if not figures.can_be:
        raise SchemaError(place(row.line, "debit_cu"), "the figures are no adjustment's")
    left = order.left
    after = Figures(
        left.debit_cu + row.debit_cu, left.value_cu + row.value_cu, left.fee_cu + row.fee_cu
    )
    if not 0 <= after.fee_cu <= after.value_cu <= after.debit_cu:
        raise SchemaError(place(row.line, "debit_cu"), "more than is left of the order")
    part = Amounts(0, -row.debit_cu, -row.value_cu, -row.fee_cu, 0)
    return order.corrected(part, order.last_seq)
