"""Handlers about proposals: each parses, asks the desk, renders."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from exchange.gateway.paging import Listing, query_choice
from schemas.files.instant import microseconds
from schemas.values.reason import Reason, Refusal
from schemas.wire.fields import instant_text
from schemas.wire.proposals import (
    ApprovalRequest,
    ProposalRequest,
    ProposalsAnswer,
    ProposalView,
    RejectionRequest,
)

if TYPE_CHECKING:
    from aiohttp import web
    from asyncpg import Record

    from exchange.gateway.gate import Call
    from exchange.service.proposals import Decided

log = structlog.get_logger()

PROPOSALS: Final = Listing("proposals", int)
PROPOSAL_STATES: Final = ("open", "expired", "rejected", "approved", "done", "refused")


async def post_proposals(call: Call) -> web.StreamResponse:
    """Propose a change."""
    wanted = await call.read(ProposalRequest)
    row = await call.services.proposals.propose(
        call.principal, wanted.action, wanted.terms, wanted.why
    )
    log.info("proposal.made", request_id=call.request_id, proposal_no=row["proposal_no"])
    return call.answer(_view(row), 201)


async def get_proposals(call: Call) -> web.StreamResponse:
    """Show a page of proposals."""
    below, limit = PROPOSALS.window(call)
    rows = await call.services.proposals.proposals(
        below=below, state=query_choice(call, "state", PROPOSAL_STATES), limit=limit + 1
    )
    return PROPOSALS.answer(
        call,
        [_view(row) for row in rows],
        lambda view: int(view.proposal_no),
        lambda page, cursor: ProposalsAnswer(proposals=page, next=cursor),
    )


async def get_proposal(call: Call) -> web.StreamResponse:
    """Show one proposal."""
    row = await call.services.proposals.proposal(_number(call))
    if row is None:
        return call.refuse(Reason.PROPOSAL_NOT_FOUND)
    return call.answer(_view(row))


async def post_proposal_approve(call: Call) -> web.StreamResponse:
    """Approve a proposal, which carries it out."""
    wanted = await call.read(ApprovalRequest)
    decided = await call.services.proposals.approve(
        call.principal, _number(call), wanted.digest, wanted.why or ""
    )
    if not isinstance(decided, Refusal):
        call.services.shelf.expire()
    return _decided(call, decided)


async def post_proposal_reject(call: Call) -> web.StreamResponse:
    """Reject a proposal, or withdraw one's own."""
    wanted = await call.read(RejectionRequest)
    decided = await call.services.proposals.reject(call.principal, _number(call), wanted.why)
    return _decided(call, decided)


def _decided(call: Call, decided: Decided | Refusal) -> web.StreamResponse:
    if isinstance(decided, Refusal):
        return call.refuse(decided.reason, decided.detail)
    view = _view(decided.row, second=decided.second or None)
    log.info(
        "proposal.decided",
        request_id=call.request_id,
        proposal_no=view.proposal_no,
        state=view.state,
    )
    return call.answer(view)


def _number(call: Call) -> int:
    """The number that the path names; 0, which no proposal has, for what is none."""
    text: str = call.request.match_info["proposal_no"]
    return int(text) if re.match(r"\A[1-9][0-9]{0,8}\Z", text) else 0


def _view(row: Record, *, second: str | None = None) -> ProposalView:
    terms: dict[str, Any] = msgspec.json.decode(row["terms"])
    return ProposalView(
        proposal_no=str(row["proposal_no"]),
        state=row["state"],
        action=row["action"],
        subject=row["subject"],
        terms=terms,
        before=None if row["before"] is None else msgspec.json.decode(row["before"]),
        why=row["why"],
        maker=row["maker"],
        made_at=instant_text(microseconds(row["made_at"])),
        expires_at=instant_text(microseconds(row["expires_at"])),
        digest=row["digest"].hex(),
        decider=row["decider"],
        decided_at=instant_text(microseconds(row["decided_at"])) if row["decided_at"] else None,
        refused=row["refused"] or None,
        second=second,
    )
