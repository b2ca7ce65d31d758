"""The handler of the audit trail: pages of it, for auditors to read and to keep."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from exchange.gateway.paging import AFTER, Listing, linked
from schemas.files.instant import instant_text
from schemas.files.trail import write_trail, write_trail_csv
from schemas.values.faults import SchemaError
from schemas.wire.fields import Instant
from schemas.wire.trail import TrailAnswer, TrailLine
from settlement.service.trail import Sought, find_entries

if TYPE_CHECKING:
    from datetime import datetime

    from aiohttp import web

    from exchange.gateway.gate import Call
    from schemas.files.trail import TrailEntry

log = structlog.get_logger()

CSV_TYPE: Final = "text/csv"
LINES_TYPE: Final = "application/jsonl"
TRAIL: Final = Listing("trail", int)
TEXT_PATTERN: Final = r"^[^\s]{1,200}$"
ACTION_PATTERN: Final = r"^[a-z_]{1,40}\.[a-z_]{1,40}$"
INSTANT_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,15}(Z|[+-][0-9]{2}:[0-9]{2})$"


async def get_trail(call: Call) -> web.StreamResponse:
    """Show a page of the trail, oldest first, in the form that the caller takes.

    Pages without a filter, one after the other, are the file that `tongdui trail export` writes, which
    `tongdui trail verify` checks. Who reads is logged, and not entered: a page would be followed by its own reading.
    """
    after, limit = TRAIL.window(call)
    sought = Sought(
        who=_text(call, "who", TEXT_PATTERN),
        action=_text(call, "action", ACTION_PATTERN),
        subject=_text(call, "subject", TEXT_PATTERN),
        since=query_instant(call, "since"),
        until=query_instant(call, "until"),
    )
    found = await find_entries(call.services.pool, sought, after=after or 0, limit=limit + 1)
    log.info(
        "trail.read",
        request_id=call.request_id,
        person=call.principal.name,
        entries=min(len(found), limit),
    )
    if call.chosen not in (CSV_TYPE, LINES_TYPE):
        return TRAIL.answer(
            call,
            found,
            lambda each: each[0].entry_no,
            lambda page, cursor: TrailAnswer(entries=[_line(*each) for each in page], next=cursor),
        )
    page = found[:limit]
    pieces = list((write_trail if call.chosen == LINES_TYPE else write_trail_csv)(page))
    if call.chosen == CSV_TYPE and AFTER in call.request.query:
        del pieces[0]  # The head stands on the first page, so that pages can be put together.
    cursor = TRAIL.cursor(page[-1][0].entry_no) if len(found) > limit else None
    return linked(call, call.send(b"".join(pieces), call.chosen), cursor)


def _text(call: Call, name: str, pattern: str) -> str | None:
    """A filter from the query; None where it is left out.

    Raises:
        SchemaError: It is not what it can be.
    """
    text: str | None = call.request.query.get(name)
    if text is not None and not (text.isprintable() and re.fullmatch(pattern, text)):
        raise SchemaError(f"?{name}", "Expected the text that entries have there")
    return text


def query_instant(call: Call, name: str) -> datetime | None:
    """An instant from the query; None where it is left out.

    Raises:
        SchemaError: It is none.
    """
    text = _text(call, name, INSTANT_PATTERN)
    try:
        return None if text is None else msgspec.convert(text, Instant)
    except msgspec.ValidationError as error:
        raise SchemaError(f"?{name}", "Expected an instant with its offset (RFC 3339)") from error


def _line(entry: TrailEntry, digest: bytes) -> TrailLine:
    return TrailLine(
        entry_no=str(entry.entry_no),
        at=instant_text(entry.at_us),
        who=entry.who,
        second=entry.second,
        action=entry.action,
        subject=entry.subject,
        before=entry.before,
        after=entry.after,
        why=entry.why,
        digest=digest.hex(),
    )
