"""Handlers of batches: what merchants see of them, their files, and confirmations; they decide nothing."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final

from aiohttp import web

from exchange.gateway.archive import PIECE_BYTES
from exchange.gateway.paging import Listing
from exchange.service.confirmations import confirm_batch
from exchange.service.packages import BatchFile, batch_files
from exchange.signing.digest import digest_of_stream
from schemas.values.ids import HOUSE
from schemas.values.reason import Refusal
from schemas.wire.batches import (
    BatchAnswer,
    BatchesAnswer,
    BatchView,
    ConfirmationRequest,
    ConfirmationsAnswer,
    ConfirmationView,
    FileView,
    StandingView,
)
from schemas.wire.fields import instant_text, microseconds
from settlement.service.confirmations import BatchFacts, Entry, list_batches, list_entries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from exchange.gateway.gate import Call

FILE_TYPE: Final = "application/octet-stream"
FILE_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
BATCHES: Final = Listing("batches", int, usual=20, most=500)
CONFIRMATIONS: Final = Listing("confirmations", int, usual=20, most=500)


async def get_batches(call: Call) -> web.StreamResponse:
    """Show a page of batches, newest first."""
    before, limit = BATCHES.window(call)
    found = await list_batches(
        call.services.pool,
        now=call.services.now(),
        before=before,
        limit=limit + 1,
        merchant_no=_own(call),
    )
    code = await _code(call)
    return BATCHES.answer(
        call,
        found,
        lambda each: each.sequence,
        lambda page, cursor: BatchesAnswer(
            batches=[_view(each, code) for each in page], next=cursor
        ),
    )


async def get_batch(call: Call) -> web.StreamResponse:
    """Show one batch, and which files the caller may fetch of it."""
    batch, code = await _batch(call), await _code(call)
    if batch is None:
        return call.not_found()
    files = await _files(call, batch, code)
    return call.answer(
        BatchAnswer(
            batch=_view(batch, code),
            files=[
                FileView(name=name, bytes=each.size, signed=each.signed)
                for name, each in sorted(files.items())
            ],
        )
    )


async def get_batch_file(call: Call) -> web.StreamResponse:
    """Stream one file of a batch."""
    batch, code = await _batch(call), await _code(call)
    name = call.request.match_info["file"]
    file = None if batch is None else (await _files(call, batch, code)).get(name)
    if file is None:
        return call.not_found()
    headers = {
        "Content-Type": FILE_TYPE,
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Request-Id": call.request_id,
    }
    if call.bound:
        headers["Content-Digest"] = await digest_of_stream(_pieces(file.path))
    response = web.StreamResponse(headers=headers)
    await response.prepare(call.request)
    async for piece in _pieces(file.path):
        await response.write(piece)
    await response.write_eof()
    return response


async def get_confirmations(call: Call) -> web.StreamResponse:
    """Show what was said about a batch: by the caller, and to the house by all."""
    batch = await _batch(call)
    if batch is None:
        return call.not_found()
    after, limit = CONFIRMATIONS.window(call)
    found = await list_entries(
        call.services.pool,
        cycle_no=batch.cycle_no,
        merchant_no=_own(call),
        after=after or 0,
        limit=limit + 1,
    )
    return CONFIRMATIONS.answer(
        call,
        found,
        lambda each: each.number,
        lambda page, cursor: ConfirmationsAnswer(
            confirmations=[_entry(each) for each in page], next=cursor
        ),
    )


async def post_confirmations(call: Call) -> web.StreamResponse:
    """Enter a confirmation or an objection that the merchant signed."""
    wanted = await call.read(ConfirmationRequest)
    batch = await _batch(call)
    if batch is None:
        return call.not_found()
    entered = await confirm_batch(
        call.services.pool,
        wanted.confirmation,
        merchant_no=call.caller,
        merchant=await _code(call),
        cycle_id=batch.cycle_id,
        by=call.principal.by(),
        now=call.services.now(),
    )
    if isinstance(entered, Refusal):
        return call.refuse(entered.reason, entered.detail)
    return call.answer(_entry(entered), status=201)


def _own(call: Call) -> int | None:
    """Number of the merchant that calls; None for the house."""
    return None if call.caller == HOUSE else call.caller


async def _code(call: Call) -> str:
    """Code of the merchant that calls; empty for the house."""
    if call.caller == HOUSE:
        return ""
    return (await call.services.shelf.offer()).codes.get(call.caller, "")


async def _batch(call: Call) -> BatchFacts | None:
    """The batch that the path names."""
    found = await list_batches(
        call.services.pool,
        now=call.services.now(),
        limit=1,
        merchant_no=_own(call),
        cycle_id=call.request.match_info["cycle"],
    )
    return found[0] if found else None


async def _files(call: Call, batch: BatchFacts, code: str) -> dict[str, BatchFile]:
    return await asyncio.to_thread(
        batch_files,
        call.services.packages,
        cycle=batch.cycle_id,
        manifest_sha256=batch.manifest_sha256,
        merchant=None if call.caller == HOUSE else code,
    )


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


def _view(batch: BatchFacts, code: str) -> BatchView:
    """A batch as a merchant sees it; as the house does where there is no code."""
    return BatchView(
        cycle=batch.cycle_id,
        batch=batch.batch_id,
        sequence=batch.sequence,
        manifest_sha256=batch.manifest_sha256,
        closed_at=_instant(batch.closed_at),
        due_at=_instant(batch.due_at),
        merchants=[
            StandingView(
                merchant=merchant,
                state=each.state.value,
                late=each.late,
                since=None if each.since is None else _instant(each.since),
            )
            for merchant, each in batch.standings.items()
            if code in ("", merchant)
        ],
    )


def _entry(entry: Entry) -> ConfirmationView:
    return ConfirmationView(
        number=entry.number,
        merchant=entry.merchant,
        verdict=entry.verdict,
        reason=entry.reason,
        orders=entry.orders,
        received_at=_instant(entry.received_at),
        late=entry.late,
        confirmation=entry.document,
        public_key=urlsafe_b64encode(entry.public_key).rstrip(b"=").decode(),
    )


def _instant(at: datetime) -> str:
    return instant_text(microseconds(at))
