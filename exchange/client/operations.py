"""Every operation of the contract: what is sent, where to, and what is answered, as records.

`SignedClient.perform(operations.POST_ORDERS, OrderTerms(...), key=...)` returns an `OrderAnswer`. The tests hold this
table against the gateway's routes and the served document, name by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

from schemas.wire import (
    baskets,
    batches,
    codes,
    compensations,
    corrections,
    cycles,
    disputes,
    events,
    fields,
    funds,
    health,
    households,
    keys,
    limits,
    members,
    merchants,
    orders,
    own_files,
    people,
    problems,
    proposals,
    purchases,
    quotes,
    reports,
    reversals,
    trail,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


class Refused(Exception):  # noqa: N818 - an answer, told to the caller
    """The clearing house said no.

    Attributes:
        problem: What it said (RFC 9457).
    """

    def __init__(self, problem: problems.Problem) -> None:
        """Keep what it said."""
        super().__init__(f"{problem.status} {problem.reason}: {problem.detail}")
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Operation(Generic[RequestT, AnswerT]):
    """One operation.

    Attributes:
        method: HTTP method.
        path: Path, with names in braces.
        request: What is sent; `NoneType` for nothing.
        answer: What is answered; `bytes` where it is no record.
        keyed: Whether an idempotency key is needed.
    """

    method: str
    path: str
    request: type[RequestT]
    answer: type[AnswerT]
    keyed: bool = False

    @property
    def again(self) -> bool:
        """Whether sending it again does no more than sending it once, by its method or by its key."""
        return self.keyed or self.method != "POST"

    def target(self, path: Mapping[str, str], query: Mapping[str, str | int | None]) -> str:
        """The path and query of one request.

        Args:
            path: What the names in the path stand for.
            query: Parameters; None is left out.

        Raises:
            ValueError: A name in the path stands for nothing.
        """
        try:
            filled = self.path.format_map(
                {name: quote(value, safe="") for name, value in path.items()}
            )
        except KeyError as missing:
            raise ValueError(f"{self.method} {self.path}: what is {missing}?") from None
        told = urlencode({name: value for name, value in query.items() if value is not None})
        return f"{filled}?{told}" if told else filled


POST_QUOTES: Final = Operation("POST", "/v1/quotes", quotes.QuoteRequest, quotes.QuoteAnswer)
POST_ORDERS: Final = Operation(
    "POST", "/v1/orders", orders.OrderTerms[fields.UnitDigits], orders.OrderAnswer, keyed=True
)
POST_ORDERS_BULK: Final = Operation(
    "POST",
    "/v1/orders/bulk",
    list[orders.BulkOrder[fields.UnitDigits]],
    list[orders.BulkOrderAnswer[fields.CuDigits]],
)
POST_ORDER_CLEAR: Final = Operation(
    "POST", "/v1/orders/{order_id}/clear", NoneType, orders.OrderAnswer
)
POST_ORDER_VOID: Final = Operation(
    "POST", "/v1/orders/{order_id}/void", NoneType, orders.OrderAnswer
)
POST_ORDER_REVERSE: Final = Operation(
    "POST",
    "/v1/orders/{order_id}/reverse",
    reversals.ReversalRequest,
    reversals.ReversalAnswer,
    keyed=True,
)
GET_ORDER: Final = Operation("GET", "/v1/orders/{order_id}", NoneType, orders.OrderView)
POST_BASKETS: Final = Operation(
    "POST", "/v1/baskets", baskets.BasketRequest, baskets.BasketAnswer, keyed=True
)
POST_PURCHASES_BULK: Final = Operation(
    "POST",
    "/v1/purchases/bulk",
    list[purchases.BulkPurchase[fields.FenDigits]],
    list[purchases.BulkPurchaseAnswer[fields.CuDigits]],
)
POST_ACCRUALS: Final = Operation(
    "POST", "/v1/accruals", purchases.AccrualRequest, purchases.AccrualAnswer, keyed=True
)
POST_MEMBERS: Final = Operation("POST", "/v1/members", members.EnrolRequest, members.EnrolAnswer)
POST_CODES: Final = Operation(
    "POST", "/v1/members/{token}/codes", codes.CodeRequest, codes.CodeAnswer
)
POST_LINKS: Final = Operation(
    "POST", "/v1/members/{token}/links", members.LinkRequest, members.LinkAnswer
)
POST_CONSENTS: Final = Operation(
    "POST", "/v1/members/{token}/consents", members.ConsentRequest, members.ConsentView
)
GET_CONSENTS: Final = Operation(
    "GET", "/v1/members/{token}/consents", NoneType, members.ConsentsAnswer
)
POST_WITHDRAW: Final = Operation(
    "POST", "/v1/members/{token}/consents/{consent_no}/withdraw", NoneType, members.ConsentsAnswer
)
GET_BALANCES: Final = Operation(
    "GET", "/v1/members/{token}/balances", NoneType, members.BalancesAnswer
)
GET_HISTORY: Final = Operation(
    "GET", "/v1/members/{token}/history", NoneType, members.HistoryAnswer
)
GET_MEMBER_HOUSEHOLDS: Final = Operation(
    "GET", "/v1/members/{token}/households", NoneType, households.HouseholdsAnswer
)
POST_MERCHANTS: Final = Operation(
    "POST", "/v1/merchants", merchants.MerchantRequest, merchants.MerchantAnswer
)
POST_HOUSEHOLDS: Final = Operation(
    "POST", "/v1/households", households.HouseholdRequest, households.HouseholdView
)
GET_HOUSEHOLD: Final = Operation(
    "GET", "/v1/households/{household_id}", NoneType, households.HouseholdView
)
POST_HOUSEHOLD_INVITATIONS: Final = Operation(
    "POST",
    "/v1/households/{household_id}/invitations",
    households.InvitationRequest,
    households.HouseholdView,
)
POST_HOUSEHOLD_MEMBERS: Final = Operation(
    "POST",
    "/v1/households/{household_id}/members",
    households.JoinRequest,
    households.HouseholdView,
)
POST_HOUSEHOLD_LEAVE: Final = Operation(
    "POST", "/v1/households/{household_id}/leave", households.LeaveRequest, households.HouseholdView
)
POST_TRANSFERS: Final = Operation(
    "POST",
    "/v1/households/{household_id}/transfers",
    households.TransferRequest,
    households.TransferView,
    keyed=True,
)
GET_TRANSFER: Final = Operation(
    "GET", "/v1/households/{household_id}/transfers/{order_id}", NoneType, households.TransferView
)
GET_KEYS: Final = Operation("GET", "/v1/keys", NoneType, keys.KeysAnswer)
POST_KEYS: Final = Operation("POST", "/v1/keys", keys.KeyRequest, keys.KeyView)
POST_KEY_REVOKE: Final = Operation("POST", "/v1/keys/{key_id}/revoke", NoneType, keys.KeyView)
GET_MERCHANTS: Final = Operation("GET", "/v1/merchants", NoneType, merchants.MerchantsAnswer)
GET_LIMITS: Final = Operation("GET", "/v1/merchants/{code}/limits", NoneType, limits.LimitsAnswer)
PUT_LIMITS: Final = Operation(
    "PUT", "/v1/merchants/{code}/limits", limits.LimitsRequest, limits.LimitsAnswer
)
GET_HOUSEHOLD_RULES: Final = Operation(
    "GET", "/v1/merchants/{code}/household-rules", NoneType, households.HouseholdRulesAnswer
)
PUT_HOUSEHOLD_RULES: Final = Operation(
    "PUT",
    "/v1/merchants/{code}/household-rules",
    households.HouseholdRulesRequest,
    households.HouseholdRulesAnswer,
)
GET_POSITIONS: Final = Operation("GET", "/v1/positions", NoneType, cycles.PositionsAnswer)
GET_CYCLES: Final = Operation("GET", "/v1/cycles", NoneType, cycles.CyclesAnswer)
POST_CYCLES_CLOSE: Final = Operation(
    "POST", "/v1/cycles/close", cycles.CloseRequest, cycles.CloseAnswer
)
GET_CYCLE: Final = Operation("GET", "/v1/cycles/{cycle}", NoneType, cycles.CycleView)
POST_CYCLE_SETTLE: Final = Operation(
    "POST", "/v1/cycles/{cycle}/settle", NoneType, cycles.SettleAnswer
)
POST_COMPENSATIONS: Final = Operation(
    "POST",
    "/v1/compensations",
    compensations.CompensationRequest,
    compensations.CompensationAnswer,
    keyed=True,
)
POST_CORRECTIONS: Final = Operation(
    "POST", "/v1/corrections", corrections.CorrectionsRequest, corrections.CorrectionsAnswer
)
POST_DISPUTES: Final = Operation(
    "POST", "/v1/disputes", disputes.DisputeRequest, disputes.DisputeView, keyed=True
)
GET_DISPUTES: Final = Operation("GET", "/v1/disputes", NoneType, disputes.DisputesAnswer)
GET_DISPUTE: Final = Operation("GET", "/v1/disputes/{dispute}", NoneType, disputes.DisputeView)
POST_DISPUTE_STEPS: Final = Operation(
    "POST",
    "/v1/disputes/{dispute}/steps",
    disputes.DisputeStepRequest,
    disputes.DisputeView,
    keyed=True,
)
GET_BATCHES: Final = Operation("GET", "/v1/batches", NoneType, batches.BatchesAnswer)
GET_BATCH: Final = Operation("GET", "/v1/batches/{cycle}", NoneType, batches.BatchAnswer)
GET_BATCH_FILE: Final = Operation("GET", "/v1/batches/{cycle}/files/{file}", NoneType, bytes)
GET_CONFIRMATIONS: Final = Operation(
    "GET", "/v1/batches/{cycle}/confirmations", NoneType, batches.ConfirmationsAnswer
)
POST_CONFIRMATIONS: Final = Operation(
    "POST",
    "/v1/batches/{cycle}/confirmations",
    batches.ConfirmationRequest,
    batches.ConfirmationView,
)
POST_OWN_LINES: Final = Operation(
    "POST", "/v1/batches/{cycle}/lines", own_files.OwnFileRequest, own_files.OwnFileAnswer
)
GET_LINE_BREAKS: Final = Operation(
    "GET", "/v1/batches/{cycle}/breaks/{code}", NoneType, own_files.LineBreaksAnswer
)
POST_MATCH_ACCEPT: Final = Operation(
    "POST",
    "/v1/admin/matches/{match_no}/accept",
    own_files.DecisionRequest,
    own_files.DecisionAnswer,
)
POST_MATCH_UNDO: Final = Operation(
    "POST",
    "/v1/admin/matches/{match_no}/undo",
    own_files.DecisionRequest,
    own_files.DecisionAnswer,
)
GET_PACKAGE: Final = Operation("GET", "/v1/packages/{cycle}", NoneType, bytes)
POST_SESSION: Final = Operation("POST", "/v1/session", people.SignInRequest, people.SessionAnswer)
GET_SESSION: Final = Operation("GET", "/v1/session", NoneType, people.PersonAnswer)
DELETE_SESSION: Final = Operation("DELETE", "/v1/session", NoneType, people.EndedAnswer)
GET_SESSION_OIDC: Final = Operation("GET", "/v1/session/oidc", NoneType, bytes)
GET_SESSION_OIDC_CALLBACK: Final = Operation(
    "GET", "/v1/session/oidc/callback", NoneType, people.SessionAnswer
)
POST_INVITATION: Final = Operation(
    "POST", "/v1/session/invitation", people.AcceptRequest, people.AcceptAnswer
)
GET_PEOPLE: Final = Operation("GET", "/v1/admin/people", NoneType, people.PeopleAnswer)
POST_PERSON_DISABLE: Final = Operation(
    "POST", "/v1/admin/people/{name}/disable", NoneType, people.EndedAnswer
)
GET_TRAIL: Final = Operation("GET", "/v1/admin/trail", NoneType, trail.TrailAnswer)
GET_FUNDS: Final = Operation("GET", "/v1/funds", NoneType, funds.FundsAnswer)
GET_ADMIN_FUNDS: Final = Operation("GET", "/v1/admin/funds", NoneType, funds.HouseFundsAnswer)
GET_ADMIN_REPORT: Final = Operation(
    "GET", "/v1/admin/reports/{report}", NoneType, reports.ReportAnswer
)
GET_REPORT: Final = Operation("GET", "/v1/reports/{report}", NoneType, reports.ReportAnswer)
POST_PROPOSALS: Final = Operation(
    "POST", "/v1/admin/proposals", proposals.ProposalRequest, proposals.ProposalView
)
GET_PROPOSALS: Final = Operation("GET", "/v1/admin/proposals", NoneType, proposals.ProposalsAnswer)
GET_PROPOSAL: Final = Operation(
    "GET", "/v1/admin/proposals/{proposal_no}", NoneType, proposals.ProposalView
)
POST_PROPOSAL_APPROVE: Final = Operation(
    "POST",
    "/v1/admin/proposals/{proposal_no}/approve",
    proposals.ApprovalRequest,
    proposals.ProposalView,
)
POST_PROPOSAL_REJECT: Final = Operation(
    "POST",
    "/v1/admin/proposals/{proposal_no}/reject",
    proposals.RejectionRequest,
    proposals.ProposalView,
)
GET_JWKS: Final = Operation("GET", "/.well-known/jwks.json", NoneType, keys.PublicKeys)
GET_EVENTS: Final = Operation("GET", "/v1/events", NoneType, events.EventsAnswer)
GET_WEBHOOK_KEYS: Final = Operation("GET", "/v1/events/keys", NoneType, events.WebhookKeysAnswer)
POST_ENDPOINTS: Final = Operation(
    "POST", "/v1/endpoints", events.EndpointRequest, events.EndpointView
)
GET_ENDPOINTS: Final = Operation("GET", "/v1/endpoints", NoneType, events.EndpointsAnswer)
GET_ENDPOINT: Final = Operation("GET", "/v1/endpoints/{endpoint}", NoneType, events.EndpointView)
DELETE_ENDPOINT: Final = Operation(
    "DELETE", "/v1/endpoints/{endpoint}", NoneType, events.EndpointRemoved
)
POST_ENDPOINT_RESUME: Final = Operation(
    "POST", "/v1/endpoints/{endpoint}/resume", NoneType, events.EndpointView
)
GET_DEAD_LETTERS: Final = Operation(
    "GET", "/v1/endpoints/{endpoint}/dead-letters", NoneType, events.DeadLettersAnswer
)
POST_DEAD_LETTERS_REPLAY: Final = Operation(
    "POST",
    "/v1/endpoints/{endpoint}/dead-letters/replay",
    events.ReplayRequest,
    events.ReplayAnswer,
)
GET_HEALTHZ: Final = Operation("GET", "/healthz", NoneType, health.HealthAnswer)
GET_READYZ: Final = Operation("GET", "/readyz", NoneType, health.ReadyAnswer)
GET_METRICS: Final = Operation("GET", "/metrics", NoneType, bytes)
GET_PROBLEM: Final = Operation("GET", "/problems/{code}", NoneType, problems.ProblemPage)
GET_OPENAPI: Final = Operation("GET", "/openapi.json", NoneType, dict[str, Any])
GET_DOCS: Final = Operation("GET", "/docs", NoneType, bytes)
GET_DOCS_FILE: Final = Operation("GET", "/docs/{file}", NoneType, bytes)
