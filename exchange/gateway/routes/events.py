"""Events, and the endpoints that hear of them."""

from __future__ import annotations

from typing import Final

from exchange.gateway import event_handlers, key_handlers
from exchange.gateway.formats import JSON_TYPE
from exchange.gateway.gate import Who
from exchange.gateway.routes.route import LIMIT, PAGED, STREAM_TYPE, Parameter, Route
from schemas.values.reason import Reason
from schemas.wire import events, keys

_ENDPOINT = Parameter(
    name="endpoint", example="3", text="The endpoint's number.", pattern=r"^[1-9][0-9]{0,8}$"
)


ROUTES: Final[tuple[Route, ...]] = (
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
            LIMIT,
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
        parameters=PAGED,
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
            *PAGED,
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
)
