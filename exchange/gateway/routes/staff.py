"""Sessions of the house's people, their proposals and the audit trail."""

from __future__ import annotations

from typing import Final

from exchange.gateway import people, proposals, trail_handlers
from exchange.gateway.formats import JSON_TYPE
from exchange.gateway.gate import Who
from exchange.gateway.routes.route import PAGED, Parameter, Route, choice
from schemas.values.reason import Reason
from schemas.wire import people as wire_people
from schemas.wire import proposals as wire_proposals
from schemas.wire import trail

_PROPOSAL = Parameter(
    name="proposal_no", example="12", text="The proposal's number.", pattern=r"^[1-9][0-9]{0,8}$"
)

_DECIDING = (Reason.PROPOSAL_NOT_FOUND, Reason.PROPOSAL_DECIDED, Reason.PROPOSAL_EXPIRED)

_PERSON = Parameter(
    name="name",
    example="anna",
    text="What the person signs in as.",
    pattern=r"^[a-z0-9][a-z0-9._-]{0,47}$",
)


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/v1/session",
        summary="Sign in with password and one-time code.",
        who=Who.ANYBODY,
        handler=people.post_session,
        repeat="a one-time code counts once, so a repeat is refused.",
        request={JSON_TYPE: wire_people.SignInRequest},
        response={JSON_TYPE: wire_people.SessionAnswer},
        status=201,
        refusals=(Reason.SIGN_IN_REFUSED,),
    ),
    Route(
        method="GET",
        path="/v1/session",
        summary="Who calls, and what they may do.",
        who=Who.PERSON,
        handler=people.get_session,
        request={},
        response={JSON_TYPE: wire_people.PersonAnswer},
    ),
    Route(
        method="DELETE",
        path="/v1/session",
        summary="Sign out: the session ends at once.",
        who=Who.PERSON,
        handler=people.delete_session,
        repeat="a session that ended stays so.",
        request={},
        response={JSON_TYPE: wire_people.EndedAnswer},
    ),
    Route(
        method="GET",
        path="/v1/session/oidc",
        summary="Sends a browser to the identity provider, where one is configured.",
        who=Who.ANYBODY,
        handler=people.get_session_oidc,
        request={},
        response={},
        status=302,
    ),
    Route(
        method="GET",
        path="/v1/session/oidc/callback",
        summary="Where the identity provider sends a browser back: opens a session.",
        who=Who.ANYBODY,
        handler=people.get_session_oidc_callback,
        request={},
        response={JSON_TYPE: wire_people.SessionAnswer},
        parameters=(
            Parameter(
                name="code", text="From the provider.", pattern=r"^[ -~]{1,2000}$", query=True
            ),
            Parameter(
                name="state", text="From the provider.", pattern=r"^[ -~]{1,200}$", query=True
            ),
        ),
        refusals=(Reason.SIGN_IN_REFUSED,),
    ),
    Route(
        method="POST",
        path="/v1/session/invitation",
        summary="Take an invitation up: choose a password, get an authenticator's seed and recovery codes.",
        who=Who.ANYBODY,
        handler=people.post_invitation,
        repeat="an invitation counts once, so a repeat is refused.",
        request={JSON_TYPE: wire_people.AcceptRequest},
        response={JSON_TYPE: wire_people.AcceptAnswer},
        status=201,
        refusals=(Reason.INVITATION_INVALID,),
    ),
    Route(
        method="GET",
        path="/v1/admin/people",
        summary="Everybody who may sign in, and in which state they are.",
        who=Who.PERSON,
        handler=people.get_people,
        request={},
        response={JSON_TYPE: wire_people.PeopleAnswer},
        parameters=PAGED,
    ),
    Route(
        method="POST",
        path="/v1/admin/people/{name}/disable",
        summary="Shut somebody out for good, and end their sessions at once.",
        who=Who.PERSON,
        handler=people.post_person_disable,
        repeat="who is shut out stays so.",
        request={},
        response={JSON_TYPE: wire_people.EndedAnswer},
        parameters=(_PERSON,),
        refusals=(Reason.PERSON_NOT_FOUND,),
    ),
    Route(
        method="GET",
        path="/v1/admin/trail",
        summary="The audit trail, oldest first: who changed what, and why; as JSON Lines or CSV to keep.",
        who=Who.PERSON,
        handler=trail_handlers.get_trail,
        request={},
        response={
            JSON_TYPE: trail.TrailAnswer,
            trail_handlers.LINES_TYPE: None,
            trail_handlers.CSV_TYPE: None,
        },
        parameters=(
            Parameter(
                name="who",
                text="Changes that this one made or approved: `person:NAME`, `key:ID`, `local:USER` or `program`.",
                pattern=trail_handlers.TEXT_PATTERN,
                query=True,
                example="person:anna",
            ),
            Parameter(
                name="action",
                text="Changes of this kind, as `noun.verb`.",
                pattern=trail_handlers.ACTION_PATTERN,
                query=True,
                example="cap.set",
            ),
            Parameter(
                name="subject",
                text="Changes of this: a merchant's code, a cycle's id, a key's id, a person's name.",
                pattern=trail_handlers.TEXT_PATTERN,
                query=True,
                example="EYE",
            ),
            Parameter(
                name="since",
                text="From this instant on.",
                pattern=trail_handlers.INSTANT_PATTERN,
                query=True,
                example="2026-11-01T00:00:00Z",
            ),
            Parameter(
                name="until",
                text="Before this instant.",
                pattern=trail_handlers.INSTANT_PATTERN,
                query=True,
                example="2026-12-01T00:00:00Z",
            ),
            *PAGED,
        ),
    ),
    Route(
        method="POST",
        path="/v1/admin/proposals",
        summary="Propose a change that needs a second person.",
        who=Who.PERSON,
        handler=proposals.post_proposals,
        repeat="nothing changes before another person approves, and an approval names one proposal.",
        request={JSON_TYPE: wire_proposals.ProposalRequest},
        response={JSON_TYPE: wire_proposals.ProposalView},
        status=201,
    ),
    Route(
        method="GET",
        path="/v1/admin/proposals",
        summary="The newest proposals, and what became of them.",
        who=Who.PERSON,
        handler=proposals.get_proposals,
        request={},
        response={JSON_TYPE: wire_proposals.ProposalsAnswer},
        parameters=(
            choice("state", "Proposals in this state alone.", proposals.PROPOSAL_STATES),
            *PAGED,
        ),
    ),
    Route(
        method="GET",
        path="/v1/admin/proposals/{proposal_no}",
        summary="One proposal, with the digest that an approval names.",
        who=Who.PERSON,
        handler=proposals.get_proposal,
        request={},
        response={JSON_TYPE: wire_proposals.ProposalView},
        parameters=(_PROPOSAL,),
        refusals=(Reason.PROPOSAL_NOT_FOUND,),
    ),
    Route(
        method="POST",
        path="/v1/admin/proposals/{proposal_no}/approve",
        summary="Approve what somebody else proposed; it is carried out at once, and once.",
        who=Who.PERSON,
        handler=proposals.post_proposal_approve,
        repeat="a proposal is decided once and carried out once.",
        request={JSON_TYPE: wire_proposals.ApprovalRequest},
        response={JSON_TYPE: wire_proposals.ProposalView},
        parameters=(_PROPOSAL,),
        refusals=(
            *_DECIDING,
            Reason.OWN_PROPOSAL,
            Reason.PROPOSAL_OUTDATED,
            Reason.MERCHANT_EXISTS,
            Reason.MERCHANT_NOT_CERTIFIED,
            Reason.SIGNING_KEY_NOT_TAKEN,
            Reason.PERSON_EXISTS,
            Reason.PERSON_NOT_FOUND,
        ),
    ),
    Route(
        method="POST",
        path="/v1/admin/proposals/{proposal_no}/reject",
        summary="Reject a proposal, or withdraw one's own.",
        who=Who.PERSON,
        handler=proposals.post_proposal_reject,
        repeat="a proposal is decided once.",
        request={JSON_TYPE: wire_proposals.RejectionRequest},
        response={JSON_TYPE: wire_proposals.ProposalView},
        parameters=(_PROPOSAL,),
        refusals=_DECIDING,
    ),
)
