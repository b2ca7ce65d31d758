"""Disputes as merchants and the house see them, and the steps that merchants take."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from exchange.service import corrections
from exchange.service.access import Forbidden
from schemas.files.corrections import read_corrections
from schemas.files.instant import instant_text, microseconds
from schemas.values.ids import HOUSE, key_bytes, order_id
from schemas.values.reason import Reason, Refusal
from schemas.wire import disputes as wire
from schemas.wire.corrections import CorrectionsAnswer, RefusedLine
from settlement.core.dispute import Figures, Step
from settlement.service import disputes
from settlement.service.disputes import Opening, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from asyncpg import Pool, Record

    from exchange.service.shelf import Shelf
    from exchange.service.vaults import VaultDoor
    from schemas.wire.corrections import CorrectionsRequest
    from settlement.core.trail import By
    from settlement.service.clearing import Clearing
    from settlement.service.disputes import Dispute


class DisputeDesk:
    """Opens cases for merchants, hears them, and shows them their own."""

    def __init__(
        self,
        *,
        pool: Pool,
        clearing: Clearing,
        shelf: Shelf,
        door: VaultDoor,
        now: Callable[[], datetime],
    ) -> None:
        """Take database, writer, merchants' codes, the vault that makes digests of requests, and the clock."""
        self._clearing = clearing
        self._pool = pool
        self._shelf = shelf
        self._door = door
        self._now = now

    async def open(
        self, wanted: wire.DisputeRequest, *, caller: int, key: str, by: By
    ) -> wire.DisputeView | Refusal:
        """Open a case about an order's line; see `settlement.service.disputes.open_dispute`."""
        claim = wanted.claim
        opening = Opening(
            opener=caller,
            order=uuid.UUID(wanted.order_id),
            claim=Figures(int(claim.debit_cu), int(claim.value_cu), int(claim.fee_cu))
            if claim
            else None,
            text=wanted.text,
            key=key_bytes(key),
            body=await self._body(wanted.canonical()),
        )
        return await self._view(
            await disputes.open_dispute(self._pool, opening, by=by, at=self._now())
        )

    async def step(
        self, dispute: str, wanted: wire.DisputeStepRequest, *, caller: int, key: str, by: By
    ) -> wire.DisputeView | Refusal:
        """Answer, bring evidence or withdraw; see `settlement.service.disputes.take_step`."""
        file = wanted.file
        wish = Wish(
            party=caller,
            step=Step(wanted.step),
            text=wanted.text,
            file=(bytes.fromhex(file.sha256), file.bytes) if file else None,
            key=key_bytes(key),
            body=await self._body(wanted.canonical(dispute)),
        )
        number = disputes.dispute_no(dispute)
        return await self._view(
            await disputes.take_step(self._pool, number, wish, by=by, at=self._now())
        )

    async def find(self, dispute: str, *, caller: int) -> wire.DisputeView | Refusal:
        """One case that concerns the caller."""
        number = disputes.dispute_no(dispute)
        async with self._pool.acquire() as conn:
            found = await disputes.find_dispute(conn, number, party=caller, at=self._now())
        return await self._view(
            found or Refusal(Reason.DISPUTE_NOT_FOUND, f"there is no case {dispute}")
        )

    async def list(
        self, *, caller: int, below: int | None, limit: int
    ) -> list[tuple[int, wire.DisputeView]]:
        """Cases that concern the caller, newest first, with their numbers."""
        found = await disputes.list_disputes(
            self._pool, at=self._now(), party=caller, below=below, limit=limit
        )
        codes = (await self._shelf.offer()).codes
        return [(one.row["dispute_no"], view(one, codes)) for one in found]

    async def correct(
        self, wanted: CorrectionsRequest, *, caller: int, by: By
    ) -> CorrectionsAnswer:
        """Take a merchant's own file of reversals, whole or not at all; see `exchange.service.corrections`.

        Raises:
            Forbidden: The house hands its files over with two people.
            SchemaError: The file is malformed, or a line cannot be booked; nothing has changed.
            Unavailable: The writer is away; the same file again finishes what was begun.
        """
        if caller == HOUSE:
            raise Forbidden("the house takes files of corrections with two people")
        sender = (await self._shelf.offer()).codes[caller]
        file = read_corrections(wanted.file.encode())
        before = await corrections.was_taken(self._pool, file, sender)
        booked, refused = 0, []
        if not wanted.dry_run:
            taken = await corrections.take_file(
                self._pool,
                self._clearing,
                file,
                sender=sender,
                by=by,
                at=self._now(),
                door=self._door,
                own=True,
            )
            booked = taken.booked
            refused = [
                RefusedLine(line=line, reason=reason.code) for line, reason in taken.refused.items()
            ]
        elif not before:
            await corrections.check_file(self._pool, file, caller=caller)
        return CorrectionsAnswer(
            file_sha256=file.sha256.hex(),
            rows=len(file.rows),
            units=str(file.totals["units"]),
            taken_before=before,
            dry_run=wanted.dry_run,
            booked=booked,
            refused=refused,
        )

    async def _view(self, outcome: Dispute | Refusal) -> wire.DisputeView | Refusal:
        if isinstance(outcome, Refusal):
            return outcome
        return view(outcome, (await self._shelf.offer()).codes)

    async def _body(self, canonical: tuple[object, ...]) -> bytes:
        return (await self._door.vault()).requests.of(canonical)


def view(one: Dispute, codes: Mapping[int, str]) -> wire.DisputeView:
    """A case as parties see it.

    Args:
        one: The case.
        codes: Merchants' codes by number.
    """
    row, order = one.row, one.order
    refused = one.why_not_booked
    return wire.DisputeView(
        dispute=one.name,
        state=one.state.value,
        order_id=str(order) if order else None,
        cycle=row["cycle_id"] or None,
        issuer=codes.get(row["issuer"], ""),
        acceptor=codes.get(row["acceptor"], ""),
        opener=_party(row["opener"], codes),
        match_no=row["match_no"],
        claim=_claim(one.case.claim),
        text=row["text"],
        opened_at=_instant(row["opened_at"]),
        answer_due_at=_instant(row["answer_due_at"]),
        deadline=_instant(row["deadline"]),
        steps=[_step(step, codes) for step in one.steps],
        booked=wire.Booked(
            adjustment_id=str(order_id(row["booked_at_us"], row["part"], row["booked_seq"])),
            cycle=row["booked_cycle"],
        )
        if one.is_booked
        else None,
        refused=refused.code if refused else None,
    )


def _step(step: Record, codes: Mapping[int, str]) -> wire.DisputeStepView:
    figures = Figures(step["debit_cu"], step["value_cu"], step["fee_cu"])
    return wire.DisputeStepView(
        step=step["step"],
        party=_party(step["party"], codes),
        at=_instant(step["at"]),
        text=step["text"],
        file=wire.EvidenceFile(sha256=step["file_sha256"].hex(), bytes=step["file_bytes"])
        if step["file_sha256"] is not None
        else None,
        granted=_claim(figures) if any(figures) else None,
    )


def _claim(figures: Figures) -> wire.Claim:
    debit, value, fee = map(str, figures)
    return wire.Claim(debit_cu=debit, value_cu=value, fee_cu=fee)


def _party(number: int, codes: Mapping[int, str]) -> str:
    return "HOUSE" if number == HOUSE else codes.get(number, "")


def _instant(at: datetime) -> str:
    return instant_text(microseconds(at))
