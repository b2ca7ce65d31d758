"""Handlers of disputes: each parses, asks the desk, renders."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog

from exchange.gateway.handlers import check_key
from exchange.gateway.paging import Listing
from schemas.values.reason import Reason, Refusal
from schemas.wire.corrections import CorrectionsRequest
from schemas.wire.disputes import (
    DisputeRequest,
    DisputesAnswer,
    DisputeStepRequest,
    DisputeView,
)

if TYPE_CHECKING:
    from aiohttp import web

    from exchange.gateway.gate import Call

log = structlog.get_logger()

DISPUTES: Final = Listing("disputes", int, usual=50, most=200)


async def post_disputes(call: Call) -> web.StreamResponse:
    """Open a case about an order's line."""
    key = check_key(call.request.headers.get("Idempotency-Key"))
    wanted = await call.read(DisputeRequest)
    outcome = await call.services.disputes.open(
        wanted, caller=call.caller, key=key, by=call.principal.by()
    )
    return _answer(call, outcome, 201)


async def get_disputes(call: Call) -> web.StreamResponse:
    """Show a page of cases, newest first."""
    below, limit = DISPUTES.window(call)
    found = await call.services.disputes.list(caller=call.caller, below=below, limit=limit + 1)
    return DISPUTES.answer(
        call,
        found,
        lambda each: each[0],
        lambda page, cursor: DisputesAnswer(disputes=[view for _, view in page], next=cursor),
    )


async def get_dispute(call: Call) -> web.StreamResponse:
    """Show one case."""
    outcome = await call.services.disputes.find(_name(call), caller=call.caller)
    return _answer(call, outcome, 200)


async def post_dispute_steps(call: Call) -> web.StreamResponse:
    """Answer, bring evidence, or withdraw."""
    key = check_key(call.request.headers.get("Idempotency-Key"))
    wanted = await call.read(DisputeStepRequest)
    outcome = await call.services.disputes.step(
        _name(call), wanted, caller=call.caller, key=key, by=call.principal.by()
    )
    return _answer(call, outcome, 201)


async def post_corrections(call: Call) -> web.StreamResponse:
    """Take a merchant's file of reversals."""
    wanted = await call.read(CorrectionsRequest)
    answer = await call.services.disputes.correct(
        wanted, caller=call.caller, by=call.principal.by()
    )
    if not answer.dry_run:
        log.info(
            "corrections.taken",
            request_id=call.request_id,
            file_sha256=answer.file_sha256,
            booked=answer.booked,
            refused=len(answer.refused),
        )
    return call.answer(answer)


def _name(call: Call) -> str:
    """The case that the path names."""
    return str(call.request.match_info["dispute"])


def _answer(call: Call, outcome: DisputeView | Refusal, status: int) -> web.StreamResponse:
    if isinstance(outcome, Refusal):
        about_order = outcome.reason is Reason.ORDER_NOT_FOUND
        return call.refuse(
            outcome.reason,
            outcome.detail,
            status=HTTPStatus.CONFLICT if about_order else None,
        )
    if status != HTTPStatus.OK:
        log.info(
            "dispute.stepped",
            request_id=call.request_id,
            dispute=outcome.dispute,
            state=outcome.state,
            steps=len(outcome.steps),
        )
    return call.answer(outcome, status)
