"""Events as merchants hear of them: in webhooks, in the stream of server-sent events, and page by page."""

from typing import Annotated, Final, Literal

import msgspec

from schemas.wire.fields import Count, CuDigits, SignedCu

CURSOR_PATTERN: Final = r"\A(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})\Z"
Cursor = Annotated[
    str,
    msgspec.Meta(
        pattern=CURSOR_PATTERN,
        description="A place in the stream of events; opaque to whoever keeps it.",
        examples=["1042.7"],
    ),
]
EventId = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A(evt-[1-9][0-9]{0,3}-|ntc-)[1-9][0-9]{0,18}\Z",
        description="Names the event for good, over every repetition and every way of delivery.",
        examples=["evt-1-1042"],
    ),
]


class OrderFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An order, as one side of it may see it; the house sees both sides.

    Attributes:
        order_id: The order.
        issuer: Whose points; left out where the order named nobody known.
        acceptor: Where the value goes; likewise.
        cycle: Id of the cycle that was open.
        units: The issuer's smallest point units; the issuer's side.
        debit_cu: What the issuer owes; the issuer's side.
        value_cu: What the acceptor is credited before the fee; the acceptor's side.
        fee_cu: The house's fee; the acceptor's side.
        credited_units: Points given at the acceptor by an exchange; the acceptor's side.
        hold_until: Until when the hold lasts; of an accepted order.
        reason: Code of the reason; of a refused order.
        reference: The sender's own reference; only the sender sees it.
    """

    order_id: str
    issuer: str | None = None
    acceptor: str | None = None
    cycle: str | None = None
    units: Count | None = None
    debit_cu: CuDigits | None = None
    value_cu: CuDigits | None = None
    fee_cu: CuDigits | None = None
    credited_units: Count | None = None
    hold_until: str | None = None
    reason: str | None = None
    reference: str | None = None


class AdjustmentFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A correction of what one merchant owes another: above 0 owed, below 0 taken back.

    Attributes:
        adjustment_id: Its id; a proof can be asked for under it.
        order_id: The order that it corrects; left out where it corrects none.
        issuer: Who owes more or less.
        acceptor: Who is credited more or less.
        cycle: Id of the cycle in which it stands.
        debit_cu: What the issuer owes.
        value_cu: What the acceptor is credited before the fee.
        fee_cu: The house's fee in it.
        reference: The line that it corrects, and what it is known by: a dispute, a file, a quarter.
    """

    adjustment_id: str
    order_id: str | None = None
    issuer: str | None
    acceptor: str | None
    cycle: str
    debit_cu: SignedCu
    value_cu: SignedCu
    fee_cu: SignedCu
    reference: str


class TransferFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Points that moved inside a household; who gave and who got is not told.

    Attributes:
        order_id: The transfer.
        household_id: The household.
        merchant: Whose points.
        units: The merchant's smallest point units.
    """

    order_id: str
    household_id: str
    merchant: str | None
    units: Count


class CycleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A settlement cycle.

    Attributes:
        cycle: Its id.
        number: Its number.
    """

    cycle: str
    number: int


class BatchFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A settlement package that can be fetched.

    Attributes:
        cycle: Id of its cycle.
        sequence: Its number in the chain of packages.
        manifest_sha256: Digest of its manifest, in hexadecimal.
    """

    cycle: str
    sequence: int
    manifest_sha256: str


class CapFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what a merchant may owe is used.

    Attributes:
        merchant: The merchant's code.
        limit_cu: Net debit cap and collateral together.
        headroom_cu: What an order that clears at once may still debit; negative beyond the cap.
    """

    merchant: str
    limit_cu: CuDigits
    headroom_cu: SignedCu


Why = Literal["overdue", "below_level", ""]


class FundsFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a merchant has in its settlement account, and what is needed of it.

    Attributes:
        merchant: The merchant's code.
        funds_cu: What it has.
        needs_cu: What closed cycles that are not settled will take of it.
        why: `overdue` or `below_level`; empty where it is enough.
    """

    merchant: str
    funds_cu: SignedCu
    needs_cu: CuDigits
    why: Why


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every event has.

    Attributes:
        id: Names it; the header `webhook-id` of a webhook.
        timestamp: When it was written.
    """

    id: EventId
    timestamp: str


class OrderAccepted(_Event, frozen=True, tag="order.accepted"):
    """An order of two phases was accepted, and its debit is held."""

    data: OrderFacts


class OrderRefused(_Event, frozen=True, tag="order.refused"):
    """An order was refused."""

    data: OrderFacts


class OrderCleared(_Event, frozen=True, tag="order.cleared"):
    """An order cleared, at once or from its hold."""

    data: OrderFacts


class OrderVoided(_Event, frozen=True, tag="order.voided"):
    """A hold was released by its sender."""

    data: OrderFacts


class OrderExpired(_Event, frozen=True, tag="order.expired"):
    """A hold was released because its time was over."""

    data: OrderFacts


class OrderReversed(_Event, frozen=True, tag="order.reversed"):
    """Of a cleared order some or all was taken back; the figures say what."""

    data: OrderFacts


class AdjustmentBooked(_Event, frozen=True, tag="adjustment.booked"):
    """What one merchant owes another was corrected."""

    data: AdjustmentFacts


class PointsTransferred(_Event, frozen=True, tag="points.transferred"):
    """A member gave points to another one of the household."""

    data: TransferFacts


class CycleClosed(_Event, frozen=True, tag="cycle.closed"):
    """A cycle closed: nothing enters it any more."""

    data: CycleFacts


class CycleSettled(_Event, frozen=True, tag="cycle.settled"):
    """A closed cycle counts as funded and paid."""

    data: CycleFacts


class BatchPublished(_Event, frozen=True, tag="batch.published"):
    """A cycle's signed settlement package can be fetched."""

    data: BatchFacts


class CapNear(_Event, frozen=True, tag="merchant.cap_near"):
    """A merchant has used most of what it may owe."""

    data: CapFacts


class CapBreached(_Event, frozen=True, tag="merchant.cap_breached"):
    """A merchant owes more than its cap allows, as after a cap was lowered."""

    data: CapFacts


class CapEased(_Event, frozen=True, tag="merchant.cap_eased"):
    """A merchant that was near its cap, or beyond it, has room again."""

    data: CapFacts


class FundsLow(_Event, frozen=True, tag="merchant.funds_low"):
    """A merchant's money is late, or below the level that was set for it."""

    data: FundsFacts


class FundsEnough(_Event, frozen=True, tag="merchant.funds_enough"):
    """A merchant's money that was low is enough again."""

    data: FundsFacts


Event = (
    OrderAccepted
    | OrderRefused
    | OrderCleared
    | OrderVoided
    | OrderExpired
    | OrderReversed
    | AdjustmentBooked
    | PointsTransferred
    | CycleClosed
    | CycleSettled
    | BatchPublished
    | CapNear
    | CapBreached
    | CapEased
    | FundsLow
    | FundsEnough
)
EventType = Literal[
    "order.accepted",
    "order.refused",
    "order.cleared",
    "order.voided",
    "order.expired",
    "order.reversed",
    "adjustment.booked",
    "points.transferred",
    "cycle.closed",
    "cycle.settled",
    "batch.published",
    "merchant.cap_near",
    "merchant.cap_breached",
    "merchant.cap_eased",
    "merchant.funds_low",
    "merchant.funds_enough",
]


class EventsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of events.

    Attributes:
        events: In their order.
        next: Where the next page begins; also the newest place, when there is nothing more.
        more: Whether there is more already.
    """

    events: list[Event]
    next: Cursor
    more: bool


class WebhookKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key that webhooks are signed with.

    Attributes:
        key_id: Its name.
        public_key: As Standard Webhooks writes it: `whpk_` and 32 bytes in Base64.
        signs_until: When it retires; null for the newest.
    """

    key_id: str
    public_key: str
    signs_until: str | None


class WebhookKeysAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Public keys that sign webhooks now.

    Attributes:
        keys: Newest first. While keys rotate, each webhook carries a signature of each.
    """

    keys: list[WebhookKey]


EndpointUrl = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=2_000,
        description="Where webhooks are sent: https, no user, no fragment, no private address.",
        examples=["https://merchant.example/webhooks/tongdui"],
    ),
]
EndpointNumber = Annotated[int, msgspec.Meta(ge=1)]


class EndpointRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a merchant wants to be told what.

    Attributes:
        url: Where webhooks are sent.
        types: Types of events; all of them where left out or empty.
        after: Place after which to begin; now where left out.
    """

    url: EndpointUrl
    types: Annotated[list[EventType], msgspec.Meta(max_length=32)] = []
    after: Cursor | None = None


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint and how its deliveries stand.

    Attributes:
        endpoint: Its number.
        url: Where webhooks are sent.
        types: Types of events; empty for all.
        created_at: Since when it is registered.
        cursor: Place up to which everything was delivered or given up.
        failures: Failed attempts at the event that is next.
        next_at: When that is tried again; null while nothing failed.
        paused_at: Since when nothing is sent, until it is resumed; null while it is active.
        last_error: What went wrong at the last failed attempt; null if nothing ever did.
        dead_letters: Events that were given up and not delivered since.
    """

    endpoint: EndpointNumber
    url: str
    types: list[EventType]
    created_at: str
    cursor: Cursor
    failures: int
    next_at: str | None
    paused_at: str | None
    last_error: str | None
    dead_letters: int


class EndpointsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's endpoints.

    Attributes:
        endpoints: By number.
        next: Cursor of the next page; null on the last.
    """

    endpoints: list[EndpointView]
    next: str | None


class EndpointRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that is told nothing more.

    Attributes:
        endpoint: Its number.
    """

    endpoint: EndpointNumber


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that an endpoint did not take in all its attempts.

    Attributes:
        id: The event.
        given_up_at: When.
        attempts: How often it was tried.
        last_error: What went wrong at the last attempt.
        replay_wanted: Whether it waits to be tried once more.
        delivered_at: When a replay delivered it; null if none did.
    """

    id: EventId
    given_up_at: str
    attempts: int
    last_error: str
    replay_wanted: bool
    delivered_at: str | None


class DeadLettersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of an endpoint's dead letters.

    Attributes:
        dead_letters: Oldest first.
        next: Cursor of the next page; null on the last.
    """

    dead_letters: list[DeadLetter]
    next: str | None


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters to try once more.

    Attributes:
        ids: The events; all that were not delivered since where left out.
    """

    ids: Annotated[list[EventId], msgspec.Meta(min_length=1, max_length=1_000)] | None = None


class ReplayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What will be tried once more.

    Attributes:
        replayed: How many dead letters.
    """

    replayed: int
