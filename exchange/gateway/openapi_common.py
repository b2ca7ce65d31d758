"""What the operations of the OpenAPI document share: how callers sign, header fields, and the events as webhooks."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, get_args

from exchange.core.webhook import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from exchange.gateway.examples import event_example
from exchange.gateway.throttle import LIMIT_FIELD, POLICY_FIELD
from exchange.signing.request import ALGORITHM, FIELDS, REQUEST_TAG, TARGET
from schemas.wire.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

SECURITY: Final = {
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Signature",
        "description": (
            "HTTP message signature (RFC 9421) with Ed25519, label of `Signature-Input`, over "
            f"{' '.join(TARGET)} and, where the request has them, {' '.join(FIELDS)}; with `created`, `expires`, "
            f'`nonce`, `keyid`, alg="{ALGORITHM}" and tag="{REQUEST_TAG}". A body has a `Content-Digest` (RFC 9530, '
            "sha-256). The answer is signed over `@status`, `content-type`, `content-digest` and the request's "
            "`signature`, by a key of `/.well-known/jwks.json`."
        ),
    },
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, in a sandbox alone; or the token of a person's session.",
    },
}


def _header(text: str, example: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}, "example": example}


HEADERS: Final = {
    "X-Request-Id": _header("Names this exchange in the logs.", "5f3c9a01-2a"),
    "ETag": _header("Names this very answer, for `If-None-Match`.", '"' + 4 * "9f86d081" + '"'),
    "Vary": _header("What the answer depends on.", "Accept, Authorization, Signature"),
    "Link": _header(
        "Leads to the next page (RFC 8288); absent on the last. `next` in the body says the same.",
        '</v1/cycles?limit=100&after=kqZjeWNsZXMq>; rel="next"',
    ),
    "Retry-After": _header("Seconds after which to send it again, under the same key.", "1"),
    "Content-Digest": _header(
        "Digest of the body's bytes (RFC 9530), in whatever format they are.",
        "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:",
    ),
    "Signature-Input": _header(
        "What the answer's signature covers (RFC 9421), by a key of `/.well-known/jwks.json`.",
        'sig=("@status" "content-type" "content-digest" "signature";req);created=1795340000;'
        'keyid="f3b6e9c0a1d2e4f5";alg="ed25519";tag="tongdui-answer"',
    ),
    "Signature": _header("The answer's signature.", f"sig=:{86 * 'A'}==:"),
    POLICY_FIELD: _header(
        "The caller's quotas (draft-ietf-httpapi-ratelimit-headers): `q` units in `w` seconds, for each gateway "
        "process. Absent for whom nothing is limited.",
        '"orders";q=30000;w=10, "requests";q=3000;w=10',
    ),
    LIMIT_FIELD: _header(
        "Units that are left of the quota that this request counts against, and seconds until one more.",
        '"orders";r=29990;t=1',
    ),
}
SIGNED: Final = ("Content-Digest", "Signature-Input", "Signature")
LIMITED: Final = (POLICY_FIELD, LIMIT_FIELD)


def headers(*names: str) -> dict[str, Any]:
    """References to header fields."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


EVENTS: Final = get_args(Event)
"""The records of all events."""


def webhooks(schema_of: Callable[[type], dict[str, Any]]) -> dict[str, Any]:
    """The events as they are sent to endpoints (Standard Webhooks).

    Args:
        schema_of: Reference to the schema of an event's record.
    """
    return {
        str(event.__struct_config__.tag): {"post": _webhook(event, schema_of(event))}
        for event in EVENTS
    }


def _webhook(event: type[msgspec.Struct], schema: dict[str, Any]) -> dict[str, Any]:
    event_type = str(event.__struct_config__.tag)
    content: dict[str, Any] = {"schema": schema}
    example = event_example(event_type)
    if example is not None:
        content["example"] = example
    return {
        "operationId": f"event_{event_type.replace('.', '_')}",
        "summary": inspect.getdoc(event) or "",
        "tags": ["webhooks"],
        "parameters": [
            _field(ID_HEADER, "Names the event; the same in every attempt.", "evt-1-1042"),
            _field(TIMESTAMP_HEADER, "Seconds since 1970 of this attempt.", "1795340000"),
            _field(
                SIGNATURE_HEADER,
                "`v1a,` and an Ed25519 signature in Base64 over `id.timestamp.body`, one of each key of "
                "`GET /v1/events/keys`.",
                f"v1a,{86 * 'A'}==",
            ),
        ],
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {
            "2XX": {"description": "Taken; it is not sent again."},
            "default": {
                "description": "Not taken: it is tried again for days, then kept as a dead letter."
            },
        },
    }


def _field(name: str, text: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": True,
        "description": text,
        "schema": {"type": "string"},
        "example": example,
    }
