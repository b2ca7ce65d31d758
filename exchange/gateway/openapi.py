"""The OpenAPI 3.1 document, made from the route table and the structs that parse the requests."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec

from exchange.gateway import problems
from exchange.gateway.formats import JSON, JSON_TYPE, MSGPACK, MSGPACK_TYPE
from exchange.gateway.gate import Who
from exchange.gateway.throttle import LIMIT_FIELD, POLICY_FIELD
from exchange.signing.request import ALGORITHM, FIELDS, REQUEST_TAG, TARGET
from schemas.values.reason import Reason
from schemas.wire.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exchange.gateway.routes import Parameter, Route

_REF: Final = "#/components/schemas/{name}"
_GENERIC: Final = re.compile(r"\A(?P<base>[A-Za-z]+)[_\[]")

_SCHEMES: Final = {
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

_LIMIT_HEADERS: Final = {
    POLICY_FIELD: {
        "description": (
            "The caller's quotas (draft-ietf-httpapi-ratelimit-headers): `q` units in `w` seconds, for each gateway "
            "process. Absent for whom nothing is limited."
        ),
        "schema": {"type": "string"},
        "example": '"orders";q=30000;w=10, "requests";q=3000;w=10',
    },
    LIMIT_FIELD: {
        "description": "Units that are left of the quota that this request counts against, and seconds until one more.",
        "schema": {"type": "string"},
        "example": '"orders";r=29990;t=1',
    },
}


def make_openapi(routes: Iterable[Route], *, version: str) -> dict[str, Any]:
    """Describe every route.

    Args:
        routes: The table.
        version: Version of the program.
    """
    routes = tuple(routes)
    wanted: list[tuple[Route, str, str, object]] = [
        (route, side, media_type, type_)
        for route in routes
        for side, table in (("request", route.request), ("response", route.response))
        for media_type, type_ in table.items()
        if type_ is not None
    ]
    schemas, components = msgspec.json.schema_components(
        [*(each[-1] for each in wanted), Problem], ref_template=_REF
    )
    names = _names(wanted, schemas, components)
    made = {
        (route.name, side, media_type): _rename(schema, names)
        for (route, side, media_type, _), schema in zip(wanted, schemas, strict=False)
    }
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, made)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Tongdui",
            "version": version,
            "summary": "A neutral clearing house for loyalty points.",
            "description": (
                "Amounts are whole numbers: strings of digits in JSON, integers in msgpack. "
                "1 CU is 0.0001 yuan. A refusal of an order is a durable event and final for its key."
            ),
        },
        "paths": paths,
        "components": {
            "schemas": {
                names.get(name, name): _rename(schema, names) for name, schema in components.items()
            },
            "securitySchemes": _SCHEMES,
        },
    }
    # Through JSON once: defaults are tuples in Python, and readers of the document want arrays.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return plain


def _names(
    wanted: list[tuple[Route, str, str, object]],
    schemas: Iterable[dict[str, Any]],
    components: dict[str, Any],
) -> dict[str, str]:
    """Short names for the two forms of each generic record: the msgpack one says so."""
    packed: set[str] = set()

    def follow(schema: object) -> None:
        for name in _refs(schema):
            if name not in packed:
                packed.add(name)
                follow(components[name])

    for (_, _, media_type, _), schema in zip(wanted, schemas, strict=False):
        if media_type == MSGPACK_TYPE:
            follow(schema)
    names: dict[str, str] = {}
    for name in components:
        generic = _GENERIC.match(name)
        if generic:
            names[name] = generic["base"] + ("Packed" if name in packed else "")
    return names


def _refs(schema: object) -> set[str]:
    """Names of the components that a schema points to."""
    if isinstance(schema, dict):
        own = {schema["$ref"].rpartition("/")[2]} if "$ref" in schema else set()
        return own.union(*(_refs(value) for value in schema.values()))
    if isinstance(schema, list):
        return set().union(*(_refs(value) for value in schema))
    return set()


def _rename(schema: object, names: dict[str, str]) -> Any:
    """Use the short names, and write patterns as ECMA-262 has them, which JSON Schema asks for."""
    if isinstance(schema, dict):
        renamed = {key: _rename(value, names) for key, value in schema.items()}
        if "$ref" in renamed:
            name = schema["$ref"].rpartition("/")[2]
            renamed["$ref"] = _REF.format(name=names.get(name, name))
        if isinstance(renamed.get("pattern"), str):
            renamed["pattern"] = _ecma(renamed["pattern"])
        if isinstance(renamed.get("title"), str):
            renamed["title"] = renamed["title"].partition("[")[0]
        return renamed
    if isinstance(schema, list):
        return [_rename(value, names) for value in schema]
    return schema


def _ecma(pattern: str) -> str:
    return pattern.replace(r"\A", "^").replace(r"\Z", "$")


def _operation(route: Route, made: dict[tuple[str, str, str], Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"May be called by {route.who.value}."
        if route.who is not Who.ANYBODY
        else "May be called by anybody.",
        "parameters": [_parameter(parameter) for parameter in route.parameters],
        "responses": _responses(route, made),
    }
    if route.tagged:
        operation["parameters"].append(
            {
                "name": "If-None-Match",
                "in": "header",
                "required": False,
                "description": "The `ETag` of the answer that the caller has: 304 if it is still so.",
                "schema": {"type": "string", "pattern": '^"[0-9a-f]{32}"$'},
            }
        )
    if route.keyed:
        operation["parameters"].append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": True,
                "description": "A repeat under the same key gets the first answer. A UUIDv7 is best.",
                "schema": {"type": "string", "pattern": "^[!-~]{1,64}$"},
            }
        )
    if route.request:
        operation["requestBody"] = {
            "required": not route.optional,
            "content": {
                media_type: _schema(made, route, "request", media_type)
                for media_type in route.forms(route.request)
            },
        }
    if route.who is not Who.ANYBODY:
        operation["security"] = [{"signature": []}, {"apiKey": []}]
    return operation


def _schema(
    made: dict[tuple[str, str, str], Any], route: Route, side: str, media_type: str
) -> dict[str, Any]:
    """Schema of a body; nothing for bytes. In msgpack a record is as in JSON, unless it has a form of its own."""
    if media_type == MSGPACK_TYPE and (route.name, side, media_type) not in made:
        media_type = JSON_TYPE
    schema = made.get((route.name, side, media_type))
    return {} if schema is None else {"schema": schema}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "query" if parameter.query else "path",
        "required": not parameter.query,
        "description": parameter.text,
        "schema": {"type": "string", "pattern": _ecma(parameter.pattern)},
    }


def _responses(route: Route, made: dict[tuple[str, str, str], Any]) -> dict[str, Any]:
    """The success, and every problem that the route may answer, by status."""
    success: dict[str, Any] = {
        media_type: _schema(made, route, "response", media_type)
        for media_type in route.forms(route.response)
    }
    reasons: dict[int, list[str]] = {}
    for fault in _faults(route):
        reasons.setdefault(int(fault.status), []).append(fault.code)
    signed = () if route.who is Who.ANYBODY else problems.SIGNATURE_REASONS
    for reason in signed:
        reasons.setdefault(int(problems.STATUS[reason]), []).append(reason.code)
    for reason in route.refusals:
        status = int(problems.STATUS[reason])
        if route.method == "GET" and reason is not Reason.SIGN_IN_REFUSED:
            # A path that names nothing is 404, whatever the reason is called.
            status = int(HTTPStatus.NOT_FOUND)
        reasons.setdefault(status, []).append(reason.code)
    responses: dict[str, Any] = {str(route.status): {"description": "Done.", "content": success}}
    if route.who is not Who.ANYBODY:
        responses[str(route.status)]["headers"] = _LIMIT_HEADERS
    if route.tagged:
        responses["304"] = {"description": "The caller has it already, as `If-None-Match` says."}
    if route.path == "/readyz":
        responses["503"] = {"description": "Not now.", "content": success}
        return responses
    for status, codes in sorted(reasons.items()):
        responses[str(status)] = {
            "description": "Reasons: " + ", ".join(f"`{code}`" for code in codes) + ".",
            "content": {
                each.problem_type: {"schema": {"$ref": _REF.format(name="Problem")}}
                for each in (JSON, MSGPACK)
            },
        }
    return responses


def _faults(route: Route) -> list[problems.Fault]:
    """Faults that can come before any business on this route."""
    names = ("cycle", "key_id", "endpoint", "code")
    faults = []
    if any(f"{{{name}}}" in route.path for name in names) or route.path == "/v1/positions":
        faults.append(problems.NOT_FOUND)
    if route.offers:
        faults.append(problems.NOT_ACCEPTABLE)
    if route.who is not Who.ANYBODY:
        faults += [problems.UNAUTHENTICATED, problems.FORBIDDEN, problems.QUOTA_EXCEEDED]
    elif "/oidc" in route.path:
        return [*faults, problems.NOT_FOUND, problems.UNAVAILABLE]
    elif not route.request:
        return faults
    faults.append(problems.UNAVAILABLE)
    if route.request or any(parameter.query for parameter in route.parameters):
        faults.append(problems.MALFORMED)
    if route.request:
        faults += [problems.TIMED_OUT, problems.TOO_LARGE, problems.MEDIA_TYPE]
    return faults
