"""The one route table: the router and the OpenAPI document are both made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exchange.gateway import (
    batch_handlers,
    dispute_handlers,
    docs_handlers,
    event_handlers,
    handlers,
    household_handlers,
    key_handlers,
    limit_handlers,
    matching_handlers,
    people,
    proposals,
    report_handlers,
    trail_handlers,
)
from exchange.gateway.formats import JSON_TYPE, MSGPACK_TYPE, RECORD_TYPES
from exchange.gateway.gate import BODY_BYTES_MAX, BULK_BYTES_MAX, MEMBERS_BYTES_MAX, Who
from exchange.gateway.paging import CURSOR_PATTERN
from exchange.service.report_desk import OF_ONE, TAKES
from schemas.values.ids import MERCHANT_CODE_PATTERN
from schemas.values.reason import Reason
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
    health,
    households,
    keys,
    limits,
    members,
    merchants,
    orders,
    own_files,
    problems,
    purchases,
    quotes,
    reports,
    reversals,
    trail,
)
from schemas.wire import people as wire_people
from schemas.wire import proposals as wire_proposals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp import web

    from exchange.core.quota import Policy
    from exchange.gateway.gate import Call

STREAM_TYPE: Final = event_handlers.STREAM_TYPE

_PRICING = (
    Reason.UNKNOWN_MERCHANT,
    Reason.SAME_MERCHANT,
    Reason.NOT_HOSTED,
    Reason.RATE_NOT_OFFERED,
    Reason.AMOUNT_BELOW_MINIMUM,
    Reason.AMOUNT_ABOVE_MAXIMUM,
    Reason.CONVERTS_TO_NOTHING,
)
_ORDERING = (
    *_PRICING,
    Reason.UNKNOWN_MEMBER,
    Reason.QUOTE_EXPIRED,
    Reason.QUOTE_INVALID,
    Reason.NET_DEBIT_CAP_EXCEEDED,
    Reason.INSUFFICIENT_POINTS,
    Reason.IDEMPOTENCY_CONFLICT,
    Reason.CYCLE_NOT_OPEN,
    Reason.HOLD_NOT_OFFERED,
    Reason.CANNOT_BE_BOOKED,
    Reason.TILL_TIME_OUT_OF_RANGE,
    Reason.BUSINESS_TIME_NOT_ACCEPTED,
    Reason.CLOCK_RUNS_BACK,
    Reason.MEMBER_NOT_AUTHORISED,
    Reason.CODE_SPENT,
    Reason.MEMBER_LIMIT_EXCEEDED,
    Reason.DECIDED_TOO_LATE,
    Reason.MERCHANT_UNAVAILABLE,
    Reason.MERCHANT_REFUSED,
    Reason.HOLD_EXPIRED,
    Reason.ORDER_ALREADY_VOIDED,
)
_ENDING = (
    Reason.ORDER_NOT_FOUND,
    Reason.ORDER_ALREADY_CLEARED,
    Reason.ORDER_ALREADY_VOIDED,
    Reason.HOLD_EXPIRED,
    Reason.ORDER_REFUSED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter in the path or in the query.

    Attributes:
        name: Its name.
        text: What it means.
        pattern: What it must match.
        query: Whether it stands in the query, where it may be left out.
        example: One that could be.
    """

    name: str
    text: str
    pattern: str
    query: bool = False
    example: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of the table.

    Attributes:
        method: HTTP method.
        path: Path, with names in braces.
        summary: One sentence.
        who: Who may call it.
        handler: What does the work; its name is the route's name.
        response: What is answered, by content type; None for bytes. A record for JSON is answered in msgpack as
            well, with the same fields, unless msgpack has a record of its own.
        request: What is sent, by content type; empty for nothing. As for the response.
        status: Status of a success.
        optional: Whether the body may be left out.
        keyed: Whether the header `Idempotency-Key` is needed.
        repeat: Of what may change something and takes no key: why a repeat does no harm.
        parameters: In the path and in the query.
        refusals: Business refusals that it may answer.
        body_bytes_max: Most bytes of a body.
        policy: Which of the caller's quotas it counts against.
    """

    method: str
    path: str
    summary: str
    who: Who
    handler: Callable[[Call], Awaitable[web.StreamResponse]]
    response: dict[str, object]
    request: dict[str, object]
    status: int = 200
    optional: bool = False
    keyed: bool = False
    repeat: str = ""
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[Reason, ...] = ()
    body_bytes_max: int = BODY_BYTES_MAX
    policy: Policy = "requests"

    @property
    def tagged(self) -> bool:
        """Whether its answer carries an entity tag, by which it need not be sent again."""
        return self.method == "GET" and JSON_TYPE in self.response

    @staticmethod
    def forms(table: dict[str, object]) -> tuple[str, ...]:
        """Content types of a request or a response: a record for JSON has the same form in msgpack."""
        if table.get(JSON_TYPE, dict) is dict:
            return tuple(table)
        return (*RECORD_TYPES, *(each for each in table if each not in RECORD_TYPES))

    @property
    def offers(self) -> tuple[str, ...]:
        """Content types among which the caller chooses; empty where the answer has one alone."""
        return self.forms(self.response) if self.response.get(JSON_TYPE, dict) is not dict else ()

    @property
    def tag(self) -> str:
        """What it is about: the first words of its path."""
        first, *rest = self.path.strip("/").split("/")
        if first != "v1":
            return "gateway"
        return rest[1] if rest[0] == "admin" else rest[0]

    @property
    def paged(self) -> bool:
        """Whether its answer is a page of a list."""
        return "limit" in self.query

    @property
    def query(self) -> frozenset[str]:
        """Parameters that its query may have."""
        return frozenset(each.name for each in self.parameters if each.query)

    @property
    def name(self) -> str:
        """Name in metrics and in the document."""
        return self.handler.__name__


_ORDER_ID = Parameter(
    name="order_id",
    example="0190f8a0-5c00-7001-8000-00000000002a",
    text="The order's id.",
    pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
)
_MEMBER = Parameter(
    name="token",
    example="mt_k4x2k4x2k4x2k4x2k4x2k4x2qe",
    text="The caller's token of the member; `POST /v1/members` tells it.",
    pattern=r"^mt_[a-z2-7]{26}$",
)
_CONSENT = Parameter(
    name="consent_no", example="17", text="The consent's number.", pattern=r"^[0-9]{1,18}$"
)
_KEY_ID = Parameter(
    name="key_id",
    example="poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U",
    text="The key's id, its thumbprint.",
    pattern=r"^[0-9A-Za-z_-]{43}$",
)
_CYCLE = Parameter(
    name="cycle",
    example="2026-11-22",
    text="The cycle's id.",
    pattern=r"^[0-9A-Za-z][0-9A-Za-z_.-]{0,63}$",
)
_DISPUTE = Parameter(
    name="dispute",
    example="D12",
    text="What the dispute is called.",
    pattern=r"^D[1-9][0-9]{0,8}$",
)
_MATCH = Parameter(
    name="match_no", example="12", text="The match's number.", pattern=r"^[1-9][0-9]{0,8}$"
)
_PROPOSAL = Parameter(
    name="proposal_no", example="12", text="The proposal's number.", pattern=r"^[1-9][0-9]{0,8}$"
)
_HOUSEHOLD = Parameter(
    name="household_id",
    example="0190f8a0-6100-7001-8000-000000000007",
    text="The household's id.",
    pattern=_ORDER_ID.pattern,
)
_DECIDING = (Reason.PROPOSAL_NOT_FOUND, Reason.PROPOSAL_DECIDED, Reason.PROPOSAL_EXPIRED)
_PERSON = Parameter(
    name="name",
    example="anna",
    text="What the person signs in as.",
    pattern=r"^[a-z0-9][a-z0-9._-]{0,47}$",
)
_CODE = Parameter(
    name="code",
    example="AIR",
    text="The merchant's code; HOUSE for the house.",
    pattern=MERCHANT_CODE_PATTERN,
)
_ENDPOINT = Parameter(
    name="endpoint", example="3", text="The endpoint's number.", pattern=r"^[1-9][0-9]{0,8}$"
)
_LIMIT = Parameter(
    name="limit",
    text="Most lines of a page.",
    pattern=r"^([1-9][0-9]?|[1-4][0-9]{2}|500)$",
    query=True,
)
_PAGED = (
    Parameter(
        name="after",
        text="Where the page begins, as `next` of the page before gave it out; the first page where left out.",
        pattern=CURSOR_PATTERN,
        query=True,
    ),
    _LIMIT,
)


_REPORT_FORMS: dict[str, object] = {
    JSON_TYPE: reports.ReportAnswer,
    trail_handlers.CSV_TYPE: None,
    report_handlers.BOOK_TYPE: None,
}


def _instant(name: str, text: str) -> Parameter:
    """An instant in the query."""
    return Parameter(
        name=name,
        text=text,
        pattern=trail_handlers.INSTANT_PATTERN,
        query=True,
        example="2026-11-01T00:00:00Z",
    )


_REPORT_OF = (
    _instant("at", "As it stood at this instant; now where left out."),
    _instant("from", "Where the period begins; cycles that closed then or later."),
    Parameter(
        name="cycle",
        text="As it stood when this cycle closed; fees and savings of this cycle alone.",
        pattern=_CYCLE.pattern,
        query=True,
        example="2026-11-22",
    ),
    Parameter(
        name="price",
        text="The rate at which points are valued: `spend` (usual) or `issue`.",
        pattern=f"^({'|'.join(report_handlers.PRICES)})$",
        query=True,
        example="spend",
    ),
    Parameter(
        name=report_handlers.TABLE,
        text="The one table of a CSV; the first where left out, `facts` for what was checked.",
        pattern=report_handlers.TABLE_PATTERN,
        query=True,
    ),
)


def _report(names: Sequence[str]) -> Parameter:
    """The report in the path."""
    return Parameter(
        name="report",
        text="The report; parameters that mean nothing to it are refused.",
        pattern=f"^({'|'.join(names)})$",
        example=names[0],
    )


def _choice(name: str, text: str, words: Sequence[str]) -> Parameter:
    """A filter of a list."""
    return Parameter(name=name, text=text, pattern=f"^({'|'.join(words)})$", query=True)


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/quotes",
        summary="Price points at an acceptor; firm until the deadline, and nothing is reserved.",
        who=Who.MERCHANT,
        handler=handlers.post_quotes,
        repeat="nothing is stored or reserved; a repeat prices anew.",
        request={JSON_TYPE: quotes.QuoteRequest},
        response={JSON_TYPE: quotes.QuoteAnswer},
        status=201,
        refusals=(*_PRICING, Reason.NET_DEBIT_CAP_EXCEEDED),
    ),
    Route(
        method="POST",
        path="/v1/orders",
        summary="Spend points: at quoted terms, or at the rate in force.",
        who=Who.MERCHANT,
        handler=handlers.post_orders,
        policy="orders",
        request={JSON_TYPE: orders.OrderTerms[fields.UnitDigits]},
        response={JSON_TYPE: orders.OrderAnswer},
        status=201,
        keyed=True,
        refusals=_ORDERING,
    ),
    Route(
        method="POST",
        path="/v1/orders/bulk",
        summary="Up to 10,000 orders, decided strictly in their order; each is answered in its place.",
        who=Who.MERCHANT,
        handler=handlers.post_orders_bulk,
        repeat="each element has a key of its own.",
        policy="orders",
        body_bytes_max=BULK_BYTES_MAX,
        request={
            JSON_TYPE: list[orders.BulkOrder[fields.UnitDigits]],
            MSGPACK_TYPE: list[orders.BulkOrder[fields.Units]],
        },
        response={
            JSON_TYPE: list[orders.BulkOrderAnswer[fields.CuDigits]],
            MSGPACK_TYPE: list[orders.BulkOrderAnswer[int]],
        },
    ),
    Route(
        method="POST",
        path="/v1/orders/{order_id}/clear",
        summary="Clear an accepted order: its hold becomes an obligation of the open cycle.",
        who=Who.MERCHANT,
        handler=handlers.post_order_clear,
        repeat="the order's id is the key; the same end again gets the same answer.",
        policy="orders",
        request={},
        response={JSON_TYPE: orders.OrderAnswer},
        parameters=(_ORDER_ID,),
        refusals=(*_ENDING, Reason.ORDER_UNDER_WAY),
    ),
    Route(
        method="POST",
        path="/v1/orders/{order_id}/void",
        summary="Void an accepted order: its hold is released.",
        who=Who.MERCHANT,
        handler=handlers.post_order_void,
        repeat="the order's id is the key; the same end again gets the same answer.",
        policy="orders",
        request={},
        response={JSON_TYPE: orders.OrderAnswer},
        parameters=(_ORDER_ID,),
        refusals=(*_ENDING, Reason.CREDIT_UNDER_WAY),
    ),
    Route(
        method="POST",
        path="/v1/orders/{order_id}/reverse",
        summary="Take back an order that cleared, in part or whole; its acceptor may, and the house.",
        who=Who.MERCHANT,
        handler=handlers.post_order_reverse,
        policy="orders",
        request={JSON_TYPE: reversals.ReversalRequest},
        response={JSON_TYPE: reversals.ReversalAnswer},
        status=201,
        optional=True,
        keyed=True,
        parameters=(_ORDER_ID,),
        refusals=(
            Reason.ORDER_NOT_FOUND,
            Reason.ORDER_NOT_CLEARED,
            Reason.ORDER_ALREADY_VOIDED,
            Reason.HOLD_EXPIRED,
            Reason.ORDER_REFUSED,
            Reason.REVERSAL_EXCEEDS_ORDER,
            Reason.POINTS_SPENT,
            Reason.REVERSAL_NOT_OFFERED,
            Reason.AMOUNT_ABOVE_MAXIMUM,
            Reason.IDEMPOTENCY_CONFLICT,
            Reason.CANNOT_BE_BOOKED,
        ),
    ),
    Route(
        method="GET",
        path="/v1/orders/{order_id}",
        summary="One order as the journal has it.",
        who=Who.MERCHANT,
        handler=handlers.get_order,
        request={},
        response={JSON_TYPE: orders.OrderView},
        parameters=(_ORDER_ID,),
        refusals=(Reason.ORDER_NOT_FOUND,),
    ),
    Route(
        method="POST",
        path="/v1/baskets",
        summary="Pay one bill with points of several issuers: all parts or none, or each that fits.",
        who=Who.MERCHANT,
        handler=handlers.post_baskets,
        policy="orders",
        request={JSON_TYPE: baskets.BasketRequest},
        response={JSON_TYPE: baskets.BasketAnswer},
        keyed=True,
        refusals=(Reason.IDEMPOTENCY_CONFLICT, Reason.CANNOT_BE_BOOKED),
    ),
    Route(
        method="POST",
        path="/v1/purchases/bulk",
        summary="Up to 10,000 purchases of hosted programmes, booked strictly in their order.",
        who=Who.MERCHANT,
        handler=handlers.post_purchases_bulk,
        repeat="each element has a key of its own.",
        policy="orders",
        body_bytes_max=BULK_BYTES_MAX,
        request={
            JSON_TYPE: list[purchases.BulkPurchase[fields.FenDigits]],
            MSGPACK_TYPE: list[purchases.BulkPurchase[fields.Fen]],
        },
        response={
            JSON_TYPE: list[purchases.BulkPurchaseAnswer[fields.CuDigits]],
            MSGPACK_TYPE: list[purchases.BulkPurchaseAnswer[int]],
        },
    ),
    Route(
        method="POST",
        path="/v1/compensations",
        summary="Give a member points at the caller's cost, because the caller was at fault.",
        who=Who.MERCHANT,
        handler=handlers.post_compensations,
        policy="orders",
        request={JSON_TYPE: compensations.CompensationRequest},
        response={JSON_TYPE: compensations.CompensationAnswer},
        status=201,
        keyed=True,
        refusals=(
            Reason.UNKNOWN_MERCHANT,
            Reason.NOT_HOSTED,
            Reason.UNKNOWN_MEMBER,
            Reason.RATE_NOT_OFFERED,
            Reason.IDEMPOTENCY_CONFLICT,
            Reason.AMOUNT_ABOVE_MAXIMUM,
            Reason.CYCLE_NOT_OPEN,
        ),
    ),
    Route(
        method="POST",
        path="/v1/accruals",
        summary="Give a member points of a hosted programme.",
        who=Who.MERCHANT,
        handler=handlers.post_accruals,
        policy="orders",
        request={JSON_TYPE: purchases.AccrualRequest},
        response={JSON_TYPE: purchases.AccrualAnswer},
        status=201,
        keyed=True,
        refusals=(
            Reason.UNKNOWN_MERCHANT,
            Reason.NOT_HOSTED,
            Reason.UNKNOWN_MEMBER,
            Reason.IDEMPOTENCY_CONFLICT,
            Reason.AMOUNT_ABOVE_MAXIMUM,
            Reason.CYCLE_NOT_OPEN,
            Reason.CANNOT_BE_BOOKED,
            Reason.TILL_TIME_OUT_OF_RANGE,
            Reason.BUSINESS_TIME_NOT_ACCEPTED,
            Reason.CLOCK_RUNS_BACK,
        ),
    ),
    Route(
        method="POST",
        path="/v1/members",
        summary="Enrol up to 10,000 members; who is enrolled already stays as they are.",
        who=Who.MERCHANT,
        handler=handlers.post_members,
        repeat="who is enrolled stays as they are and has the same token.",
        body_bytes_max=MEMBERS_BYTES_MAX,
        request={JSON_TYPE: members.EnrolRequest},
        response={JSON_TYPE: members.EnrolAnswer},
    ),
    Route(
        method="POST",
        path="/v1/members/{token}/codes",
        summary="Make a single-use spending code for a member who agreed; it counts for a minute.",
        who=Who.MERCHANT,
        handler=handlers.post_codes,
        repeat="a code reserves nothing and ends after a minute; a repeat makes another.",
        request={JSON_TYPE: codes.CodeRequest},
        response={JSON_TYPE: codes.CodeAnswer},
        status=201,
        parameters=(_MEMBER,),
        refusals=(Reason.UNKNOWN_MERCHANT, Reason.SAME_MERCHANT, Reason.UNKNOWN_MEMBER),
    ),
    Route(
        method="POST",
        path="/v1/members/{token}/links",
        summary="Link a member's account at a merchant's own system, which authenticates the member.",
        who=Who.MERCHANT,
        handler=handlers.post_links,
        repeat="the link is the same; the merchant's system authenticates the member anew.",
        request={JSON_TYPE: members.LinkRequest},
        response={JSON_TYPE: members.LinkAnswer},
        status=201,
        parameters=(_MEMBER,),
        refusals=(
            Reason.UNKNOWN_MERCHANT,
            Reason.UNKNOWN_MEMBER,
            Reason.MEMBER_NOT_AUTHORISED,
            Reason.MERCHANT_UNAVAILABLE,
        ),
    ),
    Route(
        method="POST",
        path="/v1/members/{token}/consents",
        summary="Record that a member agreed to be made known to another merchant; tells that one's token.",
        who=Who.MERCHANT,
        handler=handlers.post_consents,
        repeat="consents are kept with their times, and a repeat is one more word for the same; the token is the same.",
        request={JSON_TYPE: members.ConsentRequest},
        response={JSON_TYPE: members.ConsentView},
        status=201,
        parameters=(_MEMBER,),
        refusals=(Reason.UNKNOWN_MERCHANT, Reason.SAME_MERCHANT, Reason.UNKNOWN_MEMBER),
    ),
    Route(
        method="GET",
        path="/v1/members/{token}/consents",
        summary="What a member agreed to, newest first; a merchant sees its own side.",
        who=Who.MERCHANT,
        handler=handlers.get_consents,
        request={},
        response={JSON_TYPE: members.ConsentsAnswer},
        parameters=(_MEMBER, *_PAGED),
        refusals=(Reason.UNKNOWN_MEMBER,),
    ),
    Route(
        method="POST",
        path="/v1/members/{token}/consents/{consent_no}/withdraw",
        summary="End a consent; the receiver's token then names nobody. Again is harmless.",
        who=Who.MERCHANT,
        handler=handlers.post_withdraw,
        repeat="the first withdrawal stands.",
        request={},
        response={JSON_TYPE: members.ConsentsAnswer},
        parameters=(_MEMBER, _CONSENT),
        refusals=(Reason.UNKNOWN_MEMBER, Reason.UNKNOWN_CONSENT),
    ),
    Route(
        method="GET",
        path="/v1/members/{token}/households",
        summary="Households that a member is in or is invited to; a merchant sees those of its programme.",
        who=Who.MERCHANT,
        handler=household_handlers.get_member_households,
        request={},
        response={JSON_TYPE: households.HouseholdsAnswer},
        parameters=(_MEMBER,),
        refusals=(Reason.UNKNOWN_MEMBER,),
    ),
    Route(
        method="GET",
        path="/v1/members/{token}/balances",
        summary="A member's live points: of the caller's programme, or of all for the house.",
        who=Who.MERCHANT,
        handler=handlers.get_balances,
        request={},
        response={JSON_TYPE: members.BalancesAnswer},
        parameters=(_MEMBER,),
        refusals=(Reason.UNKNOWN_MEMBER,),
    ),
    Route(
        method="GET",
        path="/v1/members/{token}/history",
        summary="What happened to a member's points, newest first.",
        who=Who.MERCHANT,
        handler=handlers.get_history,
        request={},
        response={JSON_TYPE: members.HistoryAnswer},
        parameters=(
            _MEMBER,
            *_PAGED,
        ),
        refusals=(Reason.UNKNOWN_MEMBER,),
    ),
    Route(
        method="POST",
        path="/v1/merchants",
        summary="Register a merchant with its programme, rates and cap.",
        who=Who.OPERATOR,
        handler=handlers.post_merchants,
        repeat="a code is taken once; a repeat is refused with `merchant_exists`.",
        request={JSON_TYPE: merchants.MerchantRequest},
        response={JSON_TYPE: merchants.MerchantAnswer},
        status=201,
        refusals=(Reason.MERCHANT_EXISTS, Reason.SECOND_PERSON_NEEDED),
    ),
    Route(
        method="POST",
        path="/v1/households",
        summary="Make a household of a hosted programme, with its head's consent.",
        who=Who.MERCHANT,
        handler=household_handlers.post_households,
        repeat="the head is in one household of a programme at most.",
        request={JSON_TYPE: households.HouseholdRequest},
        response={JSON_TYPE: households.HouseholdView},
        status=201,
        refusals=(
            Reason.UNKNOWN_MERCHANT,
            Reason.HOUSEHOLD_NOT_OFFERED,
            Reason.UNKNOWN_MEMBER,
            Reason.ALREADY_IN_HOUSEHOLD,
            Reason.HOUSEHOLD_COOLING,
        ),
    ),
    Route(
        method="GET",
        path="/v1/households/{household_id}",
        summary="A household, who is in it and who is invited.",
        who=Who.MERCHANT,
        handler=household_handlers.get_household,
        request={},
        response={JSON_TYPE: households.HouseholdView},
        parameters=(_HOUSEHOLD,),
        refusals=(Reason.HOUSEHOLD_NOT_FOUND,),
    ),
    Route(
        method="POST",
        path="/v1/households/{household_id}/invitations",
        summary="Invite a member at the head's word; counts for seven days. Again is harmless.",
        who=Who.MERCHANT,
        handler=household_handlers.post_household_invitations,
        repeat="an invitation that stands stays as it is.",
        request={JSON_TYPE: households.InvitationRequest},
        response={JSON_TYPE: households.HouseholdView},
        parameters=(_HOUSEHOLD,),
        refusals=(
            Reason.UNKNOWN_MEMBER,
            Reason.HOUSEHOLD_NOT_FOUND,
            Reason.HOUSEHOLD_NOT_OFFERED,
            Reason.HEAD_ONLY,
            Reason.HOUSEHOLD_FULL,
        ),
    ),
    Route(
        method="POST",
        path="/v1/households/{household_id}/members",
        summary="Have an invited member join, by a consent that is recorded. Again is harmless.",
        who=Who.MERCHANT,
        handler=household_handlers.post_household_members,
        repeat="a membership that stands stays as it is.",
        request={JSON_TYPE: households.JoinRequest},
        response={JSON_TYPE: households.HouseholdView},
        parameters=(_HOUSEHOLD,),
        refusals=(
            Reason.UNKNOWN_MEMBER,
            Reason.HOUSEHOLD_NOT_FOUND,
            Reason.NOT_INVITED,
            Reason.HOUSEHOLD_NOT_OFFERED,
            Reason.ALREADY_IN_HOUSEHOLD,
            Reason.HOUSEHOLD_COOLING,
        ),
    ),
    Route(
        method="POST",
        path="/v1/households/{household_id}/leave",
        summary="Withdraw a consent, decline or take back an invitation, remove a member; the head dissolves it.",
        who=Who.MERCHANT,
        handler=household_handlers.post_household_leave,
        repeat="who left is not in the household any more.",
        request={JSON_TYPE: households.LeaveRequest},
        response={JSON_TYPE: households.HouseholdView},
        parameters=(_HOUSEHOLD,),
        refusals=(
            Reason.UNKNOWN_MEMBER,
            Reason.HOUSEHOLD_NOT_FOUND,
            Reason.HEAD_ONLY,
            Reason.NOT_IN_HOUSEHOLD,
        ),
    ),
    Route(
        method="POST",
        path="/v1/households/{household_id}/transfers",
        summary="Give points from one member of a household to another; lots keep their expiry, no money moves.",
        who=Who.MERCHANT,
        handler=household_handlers.post_transfers,
        policy="orders",
        request={JSON_TYPE: households.TransferRequest},
        response={JSON_TYPE: households.TransferView},
        status=201,
        keyed=True,
        parameters=(_HOUSEHOLD,),
        refusals=(
            Reason.HOUSEHOLD_NOT_FOUND,
            Reason.UNKNOWN_MEMBER,
            Reason.HOUSEHOLD_NOT_OFFERED,
            Reason.SAME_MEMBER,
            Reason.NOT_IN_HOUSEHOLD,
            Reason.MEMBER_NOT_AUTHORISED,
            Reason.TRANSFER_LIMIT_EXCEEDED,
            Reason.INSUFFICIENT_POINTS,
            Reason.AMOUNT_ABOVE_MAXIMUM,
            Reason.IDEMPOTENCY_CONFLICT,
            Reason.CANNOT_BE_BOOKED,
        ),
    ),
    Route(
        method="GET",
        path="/v1/households/{household_id}/transfers/{order_id}",
        summary="One transfer as the journal has it.",
        who=Who.MERCHANT,
        handler=household_handlers.get_transfer,
        request={},
        response={JSON_TYPE: households.TransferView},
        parameters=(_HOUSEHOLD, _ORDER_ID),
        refusals=(Reason.HOUSEHOLD_NOT_FOUND, Reason.ORDER_NOT_FOUND),
    ),
    Route(
        method="GET",
        path="/v1/keys",
        summary="Keys with which the caller signs; the house sees everybody's.",
        who=Who.MERCHANT,
        handler=key_handlers.get_keys,
        request={},
        response={JSON_TYPE: keys.KeysAnswer},
        parameters=_PAGED,
    ),
    Route(
        method="POST",
        path="/v1/keys",
        summary="Register a key whose holder proves to hold it; rotate to it with an overlap.",
        who=Who.MERCHANT,
        handler=key_handlers.post_keys,
        repeat="a key is registered once; a repeat is refused with `signing_key_not_taken`.",
        request={JSON_TYPE: keys.KeyRequest},
        response={JSON_TYPE: keys.KeyView},
        status=201,
        refusals=(
            Reason.UNKNOWN_MERCHANT,
            Reason.SIGNING_KEY_NOT_TAKEN,
            Reason.SECOND_PERSON_NEEDED,
        ),
    ),
    Route(
        method="POST",
        path="/v1/keys/{key_id}/revoke",
        summary="Revoke a key for good; no gateway takes it any more.",
        who=Who.MERCHANT,
        handler=key_handlers.post_key_revoke,
        repeat="a revoked key stays as it is.",
        request={},
        response={JSON_TYPE: keys.KeyView},
        parameters=(_KEY_ID,),
    ),
    Route(
        method="GET",
        path="/v1/merchants",
        summary="Merchants, by code.",
        who=Who.MERCHANT,
        handler=handlers.get_merchants,
        request={},
        response={JSON_TYPE: merchants.MerchantsAnswer},
        parameters=(
            _choice(
                "hosted",
                "Merchants whose points the house keeps, or the others.",
                ("true", "false"),
            ),
            *_PAGED,
        ),
    ),
    Route(
        method="GET",
        path="/v1/merchants/{code}/limits",
        summary="How often a merchant may ask; a merchant sees its own.",
        who=Who.MERCHANT,
        handler=limit_handlers.get_limits,
        request={},
        response={JSON_TYPE: limits.LimitsAnswer},
        parameters=(_CODE,),
    ),
    Route(
        method="PUT",
        path="/v1/merchants/{code}/limits",
        summary="Set how often a merchant may ask; every gateway follows within two seconds.",
        who=Who.OPERATOR,
        handler=limit_handlers.put_limits,
        repeat="a repeat sets the same.",
        request={JSON_TYPE: limits.LimitsRequest},
        response={JSON_TYPE: limits.LimitsAnswer},
        parameters=(_CODE,),
    ),
    Route(
        method="GET",
        path="/v1/merchants/{code}/household-rules",
        summary="What a programme allows its households; a merchant sees its own.",
        who=Who.MERCHANT,
        handler=household_handlers.get_household_rules,
        request={},
        response={JSON_TYPE: households.HouseholdRulesAnswer},
        parameters=(_CODE,),
        refusals=(Reason.UNKNOWN_MERCHANT, Reason.HOUSEHOLD_NOT_OFFERED),
    ),
    Route(
        method="PUT",
        path="/v1/merchants/{code}/household-rules",
        summary="Set what a programme allows its households, within the house's bounds.",
        who=Who.MERCHANT,
        handler=household_handlers.put_household_rules,
        repeat="a repeat sets the same.",
        request={JSON_TYPE: households.HouseholdRulesRequest},
        response={JSON_TYPE: households.HouseholdRulesAnswer},
        parameters=(_CODE,),
        refusals=(Reason.UNKNOWN_MERCHANT, Reason.HOUSEHOLD_NOT_OFFERED),
    ),
    Route(
        method="GET",
        path="/v1/positions",
        summary="Where the caller stands in a cycle; the house sees everybody.",
        who=Who.MERCHANT,
        handler=handlers.get_positions,
        request={},
        response={JSON_TYPE: cycles.PositionsAnswer},
        parameters=(
            Parameter(
                name="cycle",
                text="The cycle's id; the open one where left out.",
                pattern=_CYCLE.pattern,
                query=True,
            ),
            *_PAGED,
        ),
    ),
    Route(
        method="GET",
        path="/v1/cycles",
        summary="Settlement cycles, oldest first.",
        who=Who.MERCHANT,
        handler=handlers.get_cycles,
        request={},
        response={JSON_TYPE: cycles.CyclesAnswer},
        parameters=(
            _choice("state", "Cycles in this state alone.", handlers.CYCLE_STATES),
            *_PAGED,
        ),
    ),
    Route(
        method="POST",
        path="/v1/cycles/close",
        summary="Close the open cycle and open the next.",
        who=Who.OPERATOR,
        handler=handlers.post_cycles_close,
        repeat="name the cycle, and a repeat is refused with `cycle_not_open`.",
        request={JSON_TYPE: cycles.CloseRequest},
        response={JSON_TYPE: cycles.CloseAnswer},
        optional=True,
        refusals=(
            Reason.CYCLE_NOT_OPEN,
            Reason.CYCLE_EXISTS,
            Reason.BUSINESS_TIME_NOT_ACCEPTED,
            Reason.CLOCK_RUNS_BACK,
        ),
    ),
    Route(
        method="GET",
        path="/v1/cycles/{cycle}",
        summary="One settlement cycle.",
        who=Who.MERCHANT,
        handler=handlers.get_cycle,
        request={},
        response={JSON_TYPE: cycles.CycleView},
        parameters=(_CYCLE,),
    ),
    Route(
        method="POST",
        path="/v1/cycles/{cycle}/settle",
        summary="Count a closed cycle as funded and paid.",
        who=Who.OPERATOR,
        handler=handlers.post_cycle_settle,
        repeat="a cycle settles once; a repeat is refused with `cycle_not_closed`.",
        request={},
        response={JSON_TYPE: cycles.SettleAnswer},
        parameters=(_CYCLE,),
        refusals=(Reason.CYCLE_NOT_CLOSED, Reason.SECOND_PERSON_NEEDED),
    ),
    Route(
        method="GET",
        path="/v1/reports/{report}",
        summary="The caller's own balances, or points liability and breakage, now or at an instant.",
        who=Who.MERCHANT,
        handler=report_handlers.get_report,
        request={},
        response=_REPORT_FORMS,
        parameters=(_report(OF_ONE), *_REPORT_OF),
    ),
    Route(
        method="GET",
        path="/v1/packages/{cycle}",
        summary="A cycle's signed settlement package as a ZIP stream; a merchant gets its own part.",
        who=Who.MERCHANT,
        handler=handlers.get_package,
        request={},
        response={"application/zip": None},
        parameters=(_CYCLE,),
    ),
    Route(
        method="GET",
        path="/v1/batches",
        summary="Signed batches, newest first, and where each stands: confirmed, objected to, waiting or silent.",
        who=Who.MERCHANT,
        handler=batch_handlers.get_batches,
        request={},
        response={JSON_TYPE: batches.BatchesAnswer},
        parameters=_PAGED,
    ),
    Route(
        method="GET",
        path="/v1/batches/{cycle}",
        summary="One batch, and the files that the caller may fetch of it.",
        who=Who.MERCHANT,
        handler=batch_handlers.get_batch,
        request={},
        response={JSON_TYPE: batches.BatchAnswer},
        parameters=(_CYCLE,),
    ),
    Route(
        method="GET",
        path="/v1/batches/{cycle}/files/{file}",
        summary="One file of a batch as a stream; a merchant gets what is for all, its own, and what was made of it.",
        who=Who.MERCHANT,
        handler=batch_handlers.get_batch_file,
        request={},
        response={batch_handlers.FILE_TYPE: None},
        parameters=(
            _CYCLE,
            Parameter(
                name="file",
                example="manifest.json",
                text="Name of the file, as the batch lists it.",
                pattern=batch_handlers.FILE_PATTERN,
            ),
        ),
    ),
    Route(
        method="GET",
        path="/v1/batches/{cycle}/confirmations",
        summary="What merchants said about a batch, with the documents that they signed; a merchant sees its own.",
        who=Who.MERCHANT,
        handler=batch_handlers.get_confirmations,
        request={},
        response={JSON_TYPE: batches.ConfirmationsAnswer},
        parameters=(_CYCLE, *_PAGED),
    ),
    Route(
        method="POST",
        path="/v1/batches/{cycle}/confirmations",
        summary="Confirm a batch, or object to it, in a document that the merchant signed.",
        who=Who.MERCHANT,
        handler=batch_handlers.post_confirmations,
        repeat="the same document is entered once, and a repeat gets its entry.",
        request={JSON_TYPE: batches.ConfirmationRequest},
        response={JSON_TYPE: batches.ConfirmationView},
        status=201,
        parameters=(_CYCLE,),
        refusals=(Reason.CONFIRMATION_INVALID,),
    ),
    Route(
        method="POST",
        path="/v1/batches/{cycle}/lines",
        summary="Match the lines of a merchant's own books with its signed statement, or show what would come of it.",
        who=Who.MERCHANT,
        handler=matching_handlers.post_own_lines,
        repeat="the same lines are recognised, and change nothing.",
        body_bytes_max=BULK_BYTES_MAX,
        request={JSON_TYPE: own_files.OwnFileRequest},
        response={JSON_TYPE: own_files.OwnFileAnswer},
        status=201,
        parameters=(_CYCLE,),
        refusals=(Reason.FILE_REFUSED,),
    ),
    Route(
        method="GET",
        path="/v1/batches/{cycle}/breaks/{code}",
        summary="What differs between a merchant's own lines and its signed statement.",
        who=Who.MERCHANT,
        handler=matching_handlers.get_line_breaks,
        request={},
        response={JSON_TYPE: own_files.LineBreaksAnswer},
        parameters=(_CYCLE, _CODE, *_PAGED),
    ),
    Route(
        method="POST",
        path="/v1/admin/matches/{match_no}/accept",
        summary="Let the difference in a match stand, of payments or of lines.",
        who=Who.PERSON,
        handler=matching_handlers.post_match_accept,
        repeat="a difference is accepted once; a repeat is refused with `match_refused`.",
        request={JSON_TYPE: own_files.DecisionRequest},
        response={JSON_TYPE: own_files.DecisionAnswer},
        parameters=(_MATCH,),
        refusals=(Reason.MATCH_REFUSED,),
    ),
    Route(
        method="POST",
        path="/v1/admin/matches/{match_no}/undo",
        summary="Take a match apart; what it held is open again.",
        who=Who.PERSON,
        handler=matching_handlers.post_match_undo,
        repeat="a match is taken apart once; a repeat is refused with `match_refused`.",
        request={JSON_TYPE: own_files.DecisionRequest},
        response={JSON_TYPE: own_files.DecisionAnswer},
        parameters=(_MATCH,),
        refusals=(Reason.MATCH_REFUSED,),
    ),
    Route(
        method="POST",
        path="/v1/corrections",
        summary="Hand over a file of reversals, with control count and totals; taken whole or refused whole.",
        who=Who.MERCHANT,
        handler=dispute_handlers.post_corrections,
        repeat="the same file again books nothing twice, and finishes what was cut short.",
        body_bytes_max=BULK_BYTES_MAX,
        request={JSON_TYPE: corrections.CorrectionsRequest},
        response={JSON_TYPE: corrections.CorrectionsAnswer},
    ),
    Route(
        method="POST",
        path="/v1/disputes",
        summary="Say that an order's line is wrong, and what is to be booked instead.",
        who=Who.MERCHANT,
        handler=dispute_handlers.post_disputes,
        request={JSON_TYPE: disputes.DisputeRequest},
        response={JSON_TYPE: disputes.DisputeView},
        status=201,
        keyed=True,
        refusals=(
            *(Reason.ORDER_NOT_FOUND, Reason.ORDER_NOT_CLEARED, Reason.ORDER_ALREADY_VOIDED),
            *(Reason.HOLD_EXPIRED, Reason.ORDER_REFUSED, Reason.ADJUSTMENT_EXCEEDS_ORDER),
            *(Reason.DISPUTE_EXISTS, Reason.IDEMPOTENCY_CONFLICT),
        ),
    ),
    Route(
        method="GET",
        path="/v1/disputes",
        summary="Disputes about lines, newest first; a merchant sees those about its own lines.",
        who=Who.MERCHANT,
        handler=dispute_handlers.get_disputes,
        request={},
        response={JSON_TYPE: disputes.DisputesAnswer},
        parameters=_PAGED,
    ),
    Route(
        method="GET",
        path="/v1/disputes/{dispute}",
        summary="One dispute, with what happened in it and what was booked.",
        who=Who.MERCHANT,
        handler=dispute_handlers.get_dispute,
        request={},
        response={JSON_TYPE: disputes.DisputeView},
        parameters=(_DISPUTE,),
        refusals=(Reason.DISPUTE_NOT_FOUND,),
    ),
    Route(
        method="POST",
        path="/v1/disputes/{dispute}/steps",
        summary="Answer a dispute, bring evidence to it, or withdraw it.",
        who=Who.MERCHANT,
        handler=dispute_handlers.post_dispute_steps,
        request={JSON_TYPE: disputes.DisputeStepRequest},
        response={JSON_TYPE: disputes.DisputeView},
        status=201,
        keyed=True,
        parameters=(_DISPUTE,),
        refusals=(
            *(Reason.DISPUTE_NOT_FOUND, Reason.DISPUTE_ENDED, Reason.DISPUTE_STEP_NOT_YOURS),
            *(Reason.DISPUTE_FULL, Reason.IDEMPOTENCY_CONFLICT),
        ),
    ),
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
        parameters=_PAGED,
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
            *_PAGED,
        ),
    ),
    Route(
        method="GET",
        path="/v1/admin/reports/{report}",
        summary="A report for finance: tables with the facts and checks to read them by; as CSV or workbook too.",
        who=Who.PERSON,
        handler=report_handlers.get_admin_report,
        request={},
        response=_REPORT_FORMS,
        parameters=(
            _report(tuple(TAKES)),
            *_REPORT_OF,
            _instant("to", "Cycles that closed before this instant."),
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
            _choice("state", "Proposals in this state alone.", proposals.PROPOSAL_STATES),
            *_PAGED,
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
    Route(
        method="GET",
        path="/.well-known/jwks.json",
        summary="The operator's public keys, which sign answers and packages.",
        who=Who.ANYBODY,
        handler=key_handlers.get_jwks,
        request={},
        response={JSON_TYPE: keys.PublicKeys},
    ),
    Route(
        method="GET",
        path="/v1/events",
        summary="What happened, page by page; as server-sent events for `Accept: text/event-stream`.",
        who=Who.MERCHANT,
        handler=event_handlers.get_events,
        request={},
        response={JSON_TYPE: events.EventsAnswer, STREAM_TYPE: None},
        parameters=(
            Parameter(
                name="after",
                text="Place after which to begin, as `next` or `Last-Event-ID` gave it out. Left out: a page begins "
                "with the first event, a stream with the next one.",
                pattern=events.CURSOR_PATTERN,
                query=True,
            ),
            Parameter(
                name="types",
                text="Types of events, separated by commas; all where left out.",
                pattern=r"^[a-z_.,]*$",
                query=True,
            ),
            _LIMIT,
        ),
    ),
    Route(
        method="GET",
        path="/v1/events/keys",
        summary="Public keys that sign webhooks now.",
        who=Who.ANYBODY,
        handler=event_handlers.get_webhook_keys,
        request={},
        response={JSON_TYPE: events.WebhookKeysAnswer},
    ),
    Route(
        method="POST",
        path="/v1/endpoints",
        summary="Register an endpoint, to which events are sent as webhooks.",
        who=Who.MERCHANT,
        handler=event_handlers.post_endpoints,
        repeat="a second endpoint of the same address is told the same events under the same ids, and can be removed.",
        request={JSON_TYPE: events.EndpointRequest},
        response={JSON_TYPE: events.EndpointView},
        status=201,
        refusals=(Reason.ENDPOINT_LIMIT_REACHED,),
    ),
    Route(
        method="GET",
        path="/v1/endpoints",
        summary="The caller's endpoints, and how their deliveries stand.",
        who=Who.MERCHANT,
        handler=event_handlers.get_endpoints,
        request={},
        response={JSON_TYPE: events.EndpointsAnswer},
        parameters=_PAGED,
    ),
    Route(
        method="GET",
        path="/v1/endpoints/{endpoint}",
        summary="One endpoint.",
        who=Who.MERCHANT,
        handler=event_handlers.get_endpoint,
        request={},
        response={JSON_TYPE: events.EndpointView},
        parameters=(_ENDPOINT,),
    ),
    Route(
        method="DELETE",
        path="/v1/endpoints/{endpoint}",
        summary="Send an endpoint nothing more.",
        who=Who.MERCHANT,
        handler=event_handlers.delete_endpoint,
        repeat="a removed endpoint is not found.",
        request={},
        response={JSON_TYPE: events.EndpointRemoved},
        parameters=(_ENDPOINT,),
    ),
    Route(
        method="POST",
        path="/v1/endpoints/{endpoint}/resume",
        summary="Send an endpoint at once what is next, be it paused or waiting.",
        who=Who.MERCHANT,
        handler=event_handlers.post_endpoint_resume,
        repeat="what was taken is not sent again.",
        request={},
        response={JSON_TYPE: events.EndpointView},
        parameters=(_ENDPOINT,),
    ),
    Route(
        method="GET",
        path="/v1/endpoints/{endpoint}/dead-letters",
        summary="Events that an endpoint did not take in all their attempts, oldest first.",
        who=Who.MERCHANT,
        handler=event_handlers.get_dead_letters,
        request={},
        response={JSON_TYPE: events.DeadLettersAnswer},
        parameters=(
            _ENDPOINT,
            *_PAGED,
        ),
    ),
    Route(
        method="POST",
        path="/v1/endpoints/{endpoint}/dead-letters/replay",
        summary="Try dead letters once more, beside the order.",
        who=Who.MERCHANT,
        handler=event_handlers.post_dead_letters_replay,
        repeat="a letter that waits or was delivered is not counted again.",
        request={JSON_TYPE: events.ReplayRequest},
        response={JSON_TYPE: events.ReplayAnswer},
        optional=True,
        parameters=(_ENDPOINT,),
    ),
    Route(
        method="GET",
        path="/healthz",
        summary="Whether this process lives.",
        who=Who.ANYBODY,
        handler=handlers.get_healthz,
        request={},
        response={JSON_TYPE: health.HealthAnswer},
    ),
    Route(
        method="GET",
        path="/readyz",
        summary="Whether orders can be taken now.",
        who=Who.ANYBODY,
        handler=handlers.get_readyz,
        request={},
        response={JSON_TYPE: health.ReadyAnswer},
    ),
    Route(
        method="GET",
        path="/metrics",
        summary="Figures of this process for Prometheus.",
        who=Who.ANYBODY,
        handler=handlers.get_metrics,
        request={},
        response={"text/plain": None},
    ),
    Route(
        method="GET",
        path="/problems/{code}",
        summary="What a problem means and what to do about it; a page for `Accept: text/html`.",
        who=Who.ANYBODY,
        handler=handlers.get_problem,
        request={},
        response={JSON_TYPE: problems.ProblemPage, "text/html": None},
        parameters=(
            Parameter(
                name="code",
                example="insufficient_points",
                text="The problem's code.",
                pattern=r"^[a-z][a-z_]{0,47}$",
            ),
        ),
    ),
    Route(
        method="GET",
        path="/openapi.json",
        summary="This document.",
        who=Who.ANYBODY,
        handler=handlers.get_openapi,
        request={},
        response={JSON_TYPE: dict},
    ),
    Route(
        method="GET",
        path="/docs",
        summary="A page on which to read this document and, in a sandbox, to try it.",
        who=Who.ANYBODY,
        handler=docs_handlers.get_docs,
        request={},
        response={"text/html": None},
    ),
    Route(
        method="GET",
        path="/docs/{file}",
        summary="What that page loads.",
        who=Who.ANYBODY,
        handler=docs_handlers.get_docs_file,
        request={},
        response={"text/javascript": None, "text/css": None},
        parameters=(
            Parameter(
                name="file",
                text="Name of the file.",
                pattern=r"^[a-z.-]{1,40}$",
                example="start.js",
            ),
        ),
    ),
)
