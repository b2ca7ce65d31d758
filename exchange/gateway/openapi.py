"""The OpenAPI 3.1 document, made from the route table and the structs that parse the requests."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec

from exchange.gateway import openapi_common as common
from exchange.gateway import problems
from exchange.gateway.examples import body_example, problem_examples
from exchange.gateway.formats import JSON, JSON_TYPE, MSGPACK, MSGPACK_TYPE
from exchange.gateway.gate import BODY_SECONDS, Who
from exchange.gateway.handlers import KEY_FIELD
from schemas.values.reason import Reason
from schemas.wire.plain import DEPTH_MAX
from schemas.wire.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exchange.gateway.routes import Parameter, Route

_REF: Final = "#/components/schemas/{name}"
_GENERIC: Final = re.compile(r"\A(?P<base>[A-Za-z]+)[_\[]")

_LIMITS_TEXT: Final = (
    "At most {bytes:,} bytes (413), which arrive within {seconds:.0f} seconds (408). It nests as deep as its schema; "
    "where that takes any JSON, {depth} levels."
)
_KEY_TEXT: Final = (
    "Names the wish (draft-ietf-httpapi-idempotency-key-header-07), as a string or bare; a UUIDv7 is best. It is bound "
    "to the caller, the route and what the body says, whatever its format, and kept for at least 35 days: a repeat "
    "gets the first answer, also while the first is still being decided; another wish under the key is 422 "
    "`idempotency_conflict`; a request without a key is 400."
)
_INFO_TEXT: Final = """\
Amounts are whole numbers: text of digits, and integers in the msgpack of bulk requests. 1 CU is 0.0001 yuan. A refusal
of an order is a durable event and final for its key.

Bodies are JSON or msgpack (`Content-Type`, `Accept`); problems are RFC 9457, in English and 中文, and each is explained
at its `type`. Requests are signed (RFC 9421), and so are the answers to them; in a sandbox an API key does instead.
Lists come in pages (`after`, `limit`, `next`, `Link`). Answers to GET carry an `ETag`.
"""


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
        [*(each[-1] for each in wanted), Problem, *common.EVENTS], ref_template=_REF
    )
    names = _names(wanted, schemas, components)
    made = {
        (route.name, side, media_type): _rename(schema, names)
        for (route, side, media_type, _), schema in zip(wanted, schemas, strict=False)
    }
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, made)
    answers = _share(paths)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Tongdui",
            "version": version,
            "summary": "A neutral clearing house for loyalty points.",
            "description": _INFO_TEXT,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The gateway that served this document."}],
        "tags": [{"name": name} for name in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "webhooks": common.webhooks(lambda event: {"$ref": _REF.format(name=event.__name__)}),
        "components": {
            "schemas": {
                names.get(name, name): _rename(schema, names) for name, schema in components.items()
            },
            "headers": common.HEADERS,
            "responses": answers,
            "examples": problem_examples(),
            "securitySchemes": common.SECURITY,
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


def _share(paths: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Name answers that say no and that several operations have alike, and let these refer to them.

    Returns:
        The named answers, without which the document would be three times as long.
    """
    alike: dict[bytes, list[tuple[dict[str, Any], str]]] = {}
    for item in paths.values():
        for operation in item.values():
            for status, told in operation["responses"].items():
                if status >= str(int(HTTPStatus.BAD_REQUEST)):
                    place = (operation["responses"], status)
                    alike.setdefault(msgspec.json.encode((status, told)), []).append(place)
    shared: dict[str, Any] = {}
    for places in alike.values():
        if len(places) > 1:
            responses, status = places[0]
            name = f"{HTTPStatus(int(status)).phrase.replace(' ', '')}{len(shared)}"
            shared[name] = responses[status]
            for responses, status in places:
                responses[status] = {"$ref": f"#/components/responses/{name}"}
    return shared


def _operation(route: Route, made: dict[tuple[str, str, str], Any]) -> dict[str, Any]:
    who = "anybody" if route.who is Who.ANYBODY else route.who.value
    told = [f"May be called by {who}."]
    if route.repeat:
        told.append(f"It takes no `Idempotency-Key`: {route.repeat}")
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": route.summary,
        "description": " ".join(told),
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
                "description": _KEY_TEXT,
                "schema": {"type": "string", "pattern": KEY_FIELD},
                "example": '"0190f8a0-5c00-7001-8000-00000000002a"',
            }
        )
    if route.request:
        operation["requestBody"] = {
            "required": not route.optional,
            "description": _LIMITS_TEXT.format(
                bytes=route.body_bytes_max, seconds=BODY_SECONDS, depth=DEPTH_MAX
            ),
            "content": {
                media_type: _content(made, route, "request", media_type)
                for media_type in route.forms(route.request)
            },
        }
    if route.who is not Who.ANYBODY:
        operation["security"] = [{"signature": []}, {"apiKey": []}]
    return operation


def _content(
    made: dict[tuple[str, str, str], Any], route: Route, side: str, media_type: str
) -> dict[str, Any]:
    """Schema and example of a body; nothing for bytes.

    In msgpack a record is as in JSON, unless it has a form of its own.
    """
    table = route.request if side == "request" else route.response
    own = media_type if media_type in table else JSON_TYPE
    schema = made.get((route.name, side, own))
    if schema is None:
        return {}
    example = body_example(route.name, side, own, table[own])
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "query" if parameter.query else "path",
        "required": not parameter.query,
        "description": parameter.text,
        "schema": {"type": "string", "pattern": _ecma(parameter.pattern)},
        **({"example": parameter.example} if parameter.example else {}),
    }


def _responses(route: Route, made: dict[tuple[str, str, str], Any]) -> dict[str, Any]:
    """The success, and every problem that the route may answer, by status."""
    success: dict[str, Any] = {
        media_type: _content(made, route, "response", media_type)
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
    names = ("X-Request-Id", *_signed_and_limited(route))
    done = (
        *names,
        *(("ETag", "Vary") if route.tagged else ()),
        *(("Link",) if route.paged else ()),
    )
    responses: dict[str, Any] = {
        str(route.status): {
            "description": "Done.",
            "headers": common.headers(*done),
            "content": success,
        }
    }
    if route.tagged:
        responses["304"] = {
            "description": "The caller has it already, as `If-None-Match` says.",
            "headers": common.headers("X-Request-Id", "ETag", "Vary"),
        }
    if route.path == "/readyz":
        responses["503"] = {"description": "Not now.", "content": success}
        return responses
    for status, codes in sorted(reasons.items()):
        waits = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
        responses[str(status)] = {
            "description": "Reasons: " + ", ".join(f"`{code}`" for code in codes) + ".",
            "headers": common.headers(*names, *(("Retry-After",) if waits else ())),
            "content": {
                each.problem_type: {
                    "schema": {"$ref": _REF.format(name="Problem")},
                    "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
                }
                for each in (JSON, MSGPACK)
            },
        }
    return responses


def _signed_and_limited(route: Route) -> tuple[str, ...]:
    """Fields that an answer carries where it can be signed, and where a quota counts."""
    return () if route.who is Who.ANYBODY else (*common.SIGNED, *common.LIMITED)


def _faults(route: Route) -> list[problems.Fault]:
    """Faults that can come before any business on this route."""
    names = ("cycle", "key_id", "endpoint", "code", "file", "report")
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
