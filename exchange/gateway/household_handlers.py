"""Handlers of households and of transfers inside them; like the others, they decide nothing."""

from __future__ import annotations

import re
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog

from exchange.gateway.handlers import check_key, member_token
from schemas.values.reason import Reason, Refusal
from schemas.wire.households import (
    HOUSEHOLD_ID_PATTERN,
    HouseholdRequest,
    HouseholdRulesRequest,
    InvitationRequest,
    JoinRequest,
    LeaveRequest,
    TransferRequest,
)

if TYPE_CHECKING:
    from aiohttp import web

    from exchange.gateway.gate import Call

log = structlog.get_logger()

_UUID: Final = re.compile(HOUSEHOLD_ID_PATTERN)
_NOWHERE: Final = uuid.UUID(int=0)
"""An id that no household has."""


def _household(call: Call) -> uuid.UUID:
    """The household that the path names, in the one spelling that ids are given out in."""
    text: str = call.request.match_info["household_id"]
    return uuid.UUID(text) if _UUID.match(text) else _NOWHERE


def _answer(call: Call, outcome: object, status: int = 200) -> web.StreamResponse:
    if not isinstance(outcome, Refusal):
        return call.answer(outcome, status)
    about_path = call.request.method == "GET" or outcome.reason is Reason.HOUSEHOLD_NOT_FOUND
    return call.refuse(
        outcome.reason, outcome.detail, status=HTTPStatus.NOT_FOUND if about_path else None
    )


async def put_household_rules(call: Call) -> web.StreamResponse:
    """Set what a programme allows its households."""
    wanted = await call.read(HouseholdRulesRequest)
    code = call.request.match_info["code"]
    outcome = await call.services.households.set_rules(
        code, wanted, caller=call.caller, by=call.principal.by()
    )
    return _answer(call, outcome)


async def get_household_rules(call: Call) -> web.StreamResponse:
    """Show what a programme allows its households."""
    code = call.request.match_info["code"]
    return _answer(call, await call.services.households.rules(code, caller=call.caller))


async def post_households(call: Call) -> web.StreamResponse:
    """Make a household."""
    wanted = await call.read(HouseholdRequest)
    outcome = await call.services.households.make(wanted, caller=call.caller)
    if not isinstance(outcome, Refusal):
        log.info("household.made", request_id=call.request_id, household_id=outcome.household_id)
    return _answer(call, outcome, 201)


async def get_household(call: Call) -> web.StreamResponse:
    """Show a household."""
    return _answer(call, await call.services.households.show(_household(call), caller=call.caller))


async def get_member_households(call: Call) -> web.StreamResponse:
    """Show the households of a member."""
    return _answer(
        call,
        await call.services.households.of_member(member_token(call), caller=call.caller),
    )


async def post_household_invitations(call: Call) -> web.StreamResponse:
    """Invite a member."""
    wanted = await call.read(InvitationRequest)
    household = _household(call)
    outcome = await call.services.households.invite(household, wanted, caller=call.caller)
    return _answer(call, outcome)


async def post_household_members(call: Call) -> web.StreamResponse:
    """Have an invited member join."""
    wanted = await call.read(JoinRequest)
    household = _household(call)
    outcome = await call.services.households.join(household, wanted, caller=call.caller)
    return _answer(call, outcome)


async def post_household_leave(call: Call) -> web.StreamResponse:
    """Have a member leave."""
    wanted = await call.read(LeaveRequest)
    household = _household(call)
    outcome = await call.services.households.leave(household, wanted, caller=call.caller)
    return _answer(call, outcome)


async def post_transfers(call: Call) -> web.StreamResponse:
    """Have points given inside a household."""
    key = check_key(call.request.headers.get("Idempotency-Key"))
    wish = await call.read(TransferRequest)
    outcome = await call.services.transfers.give(
        _household(call), wish, caller=call.caller, key=key
    )
    call.gate.metrics.commands("post_transfers")
    return _answer(call, outcome, 201)


async def get_transfer(call: Call) -> web.StreamResponse:
    """Show a transfer."""
    text: str = call.request.match_info["order_id"]
    order = uuid.UUID(text) if _UUID.match(text) else _NOWHERE
    outcome = await call.services.transfers.show(_household(call), order, caller=call.caller)
    return _answer(call, outcome)
