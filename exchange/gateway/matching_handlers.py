"""Handlers of merchants' own lines, of what differs, and of people's decisions about it; they decide nothing."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import TYPE_CHECKING, Final

from exchange.gateway.paging import Listing
from schemas.values.ids import HOUSE
from schemas.values.reason import Reason, Refusal
from schemas.wire.own_files import (
    DecisionAnswer,
    DecisionRequest,
    LineBreaksAnswer,
    LineBreakView,
    OurSide,
    OwnFileAnswer,
    OwnFileRequest,
    TheirSide,
)
from settlement.service.reconciliation import MatchRefused, accept_difference, undo_match

if TYPE_CHECKING:
    from aiohttp import web

    from exchange.gateway.gate import Call
    from settlement.core.own_lines import LineBreak

BREAKS: Final = Listing("line-breaks", int)


async def post_own_lines(call: Call) -> web.StreamResponse:
    """Match a merchant's own lines with its signed statement."""
    wanted = await call.read(OwnFileRequest)
    offer = await call.services.shelf.offer()
    done = await call.services.own_files.bring(
        wanted,
        merchant=offer.codes.get(call.caller, ""),
        cycle_id=call.request.match_info["cycle"],
        by=call.principal.by(),
        now=call.services.now(),
    )
    if isinstance(done, Refusal):
        return call.refuse(done.reason, done.detail)
    return call.answer(
        OwnFileAnswer(
            file=done.file_no,
            repeated=done.repeated is not None,
            matches={step.value: count for step, count in sorted(done.steps.items())},
            breaks=dict(sorted(Counter(one.kind.value for one in done.breaks).items())),
        ),
        status=201,
    )


async def get_line_breaks(call: Call) -> web.StreamResponse:
    """Show a page of what differs: the caller's own, and to the house that of the merchant that it names."""
    offer = await call.services.shelf.offer()
    code = call.request.match_info["code"]
    if call.caller != HOUSE and offer.codes.get(call.caller) != code:
        return call.not_found()
    found = await call.services.own_files.breaks(
        merchant=code, cycle_id=call.request.match_info["cycle"], now=call.services.now()
    )
    if found is None:
        return call.not_found()
    after, limit = BREAKS.window(call)
    first = after or 0
    numbered = list(enumerate(found[first : first + limit + 1], start=first + 1))
    return BREAKS.answer(
        call,
        numbered,
        lambda each: each[0],
        lambda page, cursor: LineBreaksAnswer(breaks=[_view(one) for _, one in page], next=cursor),
    )


async def post_match_accept(call: Call) -> web.StreamResponse:
    """Let what differs in a match stand."""
    return await _decide(call, accepted=True)


async def post_match_undo(call: Call) -> web.StreamResponse:
    """Take a match apart."""
    return await _decide(call, accepted=False)


async def _decide(call: Call, *, accepted: bool) -> web.StreamResponse:
    wanted = await call.read(DecisionRequest)
    number = _number(call)
    decide = accept_difference if accepted else undo_match
    try:
        await decide(
            call.services.pool,
            match_no=number,
            by=call.principal.by(wanted.why),
            at=call.services.now(),
        )
    except MatchRefused as error:
        return call.refuse(Reason.MATCH_REFUSED, str(error))
    return call.answer(DecisionAnswer(match=number, state="accepted" if accepted else "undone"))


def _number(call: Call) -> int:
    """The match that the path names; 0, which no match has, for what is no number of one."""
    text: str = call.request.match_info["match_no"]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _view(one: LineBreak) -> LineBreakView:
    return LineBreakView(
        kind=one.kind.value,
        owner=one.owner,
        age_days=one.age_days,
        match=one.match_no,
        candidates=one.candidates,
        ours=[
            OurSide(
                leaf=line.leaf_index,
                order=line.order,
                reference=line.reference,
                day=date.fromordinal(line.day).isoformat(),
                counterparty=line.counterparty,
                units=str(line.units),
                amount_cu=str(line.amount_cu),
            )
            for line in one.ours
        ],
        theirs=[
            TheirSide(
                entry=f"{line.file_no}/{line.line_no}",
                place=line.place,
                order=line.order,
                reference=line.reference,
                day=date.fromordinal(line.day).isoformat(),
                counterparty=line.counterparty,
                units=None if line.units is None else str(line.units),
                amount_cu=str(line.amount_cu),
            )
            for line in one.theirs
        ],
    )
