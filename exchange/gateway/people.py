"""Handlers about people: signing in and out, invitations, who there is; each parses, asks a service, renders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from exchange.gateway.formats import JSON_TYPE
from exchange.gateway.paging import Listing
from exchange.service.access import bearer_of
from exchange.service.oidc import FLOW_SECONDS
from exchange.service.people import accept_invitation, disable_person, list_people
from exchange.service.sessions import IDLE
from schemas.files.instant import microseconds
from schemas.values.reason import Refusal
from schemas.wire.fields import instant_text
from schemas.wire.people import (
    AcceptAnswer,
    AcceptRequest,
    EndedAnswer,
    PeopleAnswer,
    PersonAnswer,
    PersonView,
    SessionAnswer,
    SignInRequest,
)

if TYPE_CHECKING:
    from aiohttp import web

    from exchange.gateway.gate import Call
    from exchange.service.sessions import Opened

PEOPLE: Final = Listing("people", str)
FLOW_COOKIE: Final = "tongdui-oidc"

log = structlog.get_logger()


async def post_session(call: Call) -> web.StreamResponse:
    """Sign in."""
    wanted = await call.read(SignInRequest)
    opened = await call.services.sessions.sign_in(wanted.name, wanted.password, wanted.code)
    return await _opened(call, opened, status=201)


async def _opened(call: Call, opened: Opened | Refusal, *, status: int) -> web.Response:
    if isinstance(opened, Refusal):
        return call.refuse(opened.reason, opened.detail)
    log.info("session.opened", request_id=call.request_id, person=opened.person.name)
    answer = SessionAnswer(
        name=opened.person.name,
        merchant=await _merchant(call, opened.person.merchant_no),
        roles=sorted(opened.person.roles),
        token=opened.token,
        ends_at=instant_text(microseconds(opened.ends_at)),
        idle_seconds=int(IDLE.total_seconds()),
    )
    return call.answer(answer, status)


async def get_session_oidc(call: Call) -> web.StreamResponse:
    """Send a browser to the identity provider."""
    provider = call.services.provider
    if provider is None:
        return call.not_found()
    address, cookie = await provider.begin()
    response = call.send(b"", JSON_TYPE, 302)
    response.headers["Location"] = address
    response.set_cookie(
        FLOW_COOKIE,
        cookie.decode(),
        max_age=FLOW_SECONDS,
        path="/v1/session/oidc",
        httponly=True,
        samesite="Lax",
        secure=provider.settings.redirect_uri.startswith("https:"),
    )
    return response


async def get_session_oidc_callback(call: Call) -> web.StreamResponse:
    """Open a session for whom the identity provider vouches for."""
    provider, query = call.services.provider, call.request.query
    if provider is None:
        return call.not_found()
    subject = await provider.end(
        cookie=call.request.cookies.get(FLOW_COOKIE, ""),
        state=query.get("state", ""),
        code=query.get("code", ""),
    )
    if isinstance(subject, Refusal):
        return call.refuse(subject.reason, subject.detail)
    response = await _opened(call, await call.services.sessions.vouched(subject), status=200)
    response.del_cookie(FLOW_COOKIE, path="/v1/session/oidc")
    return response


async def get_session(call: Call) -> web.StreamResponse:
    """Say who calls."""
    answer = PersonAnswer(
        name=call.principal.name,
        merchant=await _merchant(call, call.caller),
        roles=sorted(call.principal.roles),
    )
    return call.answer(answer)


async def delete_session(call: Call) -> web.StreamResponse:
    """Sign out."""
    token = bearer_of(call.request.headers.get("Authorization"))
    ended = await call.services.sessions.end(token)
    log.info("session.ended", request_id=call.request_id, person=call.principal.name)
    return call.answer(EndedAnswer(ended=ended))


async def post_invitation(call: Call) -> web.StreamResponse:
    """Take an invitation up."""
    wanted = await call.read(AcceptRequest)
    services = call.services
    tokens = [wanted.invitation, *([] if wanted.second is None else [wanted.second])]
    accepted = await accept_invitation(
        services.pool,
        services.door,
        services.passwords,
        tokens=tokens,
        password=wanted.password,
        now=services.now(),
    )
    if isinstance(accepted, Refusal):
        return call.refuse(accepted.reason, accepted.detail)
    answer = AcceptAnswer(
        name=accepted.name,
        totp_uri=accepted.totp_uri,
        recovery_codes=list(accepted.recovery_codes),
    )
    return call.answer(answer, 201)


async def get_people(call: Call) -> web.StreamResponse:
    """List everybody."""
    after, limit = PEOPLE.window(call)
    rows = await list_people(
        call.services.pool, now=call.services.now(), after=after or "", limit=limit + 1
    )
    people = [
        PersonView(
            name=row["name"],
            merchant=row["merchant"],
            roles=list(row["roles"]),
            state=state,
            made_at=instant_text(microseconds(row["made_at"])),
        )
        for row, state in rows
    ]
    return PEOPLE.answer(
        call,
        people,
        lambda view: view.name,
        lambda page, cursor: PeopleAnswer(people=page, next=cursor),
    )


async def post_person_disable(call: Call) -> web.StreamResponse:
    """Shut somebody out."""
    name = call.request.match_info["name"]
    refused = await disable_person(
        call.services.pool, name=name, by=call.principal.by(), now=call.services.now()
    )
    if refused is not None:
        return call.refuse(refused.reason, refused.detail)
    log.info("person.disabled", request_id=call.request_id, person=name)
    return call.answer(EndedAnswer(ended=True))


async def _merchant(call: Call, merchant_no: int) -> str | None:
    offer = await call.services.shelf.offer()
    return offer.codes.get(merchant_no)
