"""The served OpenAPI document, and the gateway held against it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any, get_args

import jsonschema  # type: ignore[import-untyped] # no types
import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from yarl import URL

from exchange.gateway.advice import ADVICE, problem_page
from exchange.gateway.openapi import make_openapi
from exchange.gateway.problems import FAULTS, STATUS
from exchange.gateway.routes import ROUTES
from exchange.service.callers import SignedOnly
from exchange.signing.request import RequestHead, sign_request
from schemas.values.reason import Reason
from schemas.wire.events import Event, EventType
from tests.gateway.conftest import House
from tests.gateway.signing import HOUSE_KEY

EXAMPLES_MAX = {"get": 2}
EXAMPLES_USUAL = 4
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


async def document(house: House) -> dict[str, Any]:
    """The document as it is served."""
    answer = await house.call("GET", "/openapi.json", caller=None)
    assert answer.status == 200
    return answer.body


async def test_document_is_valid_and_equals_the_route_table(house: House):
    """It is OpenAPI 3.1, and its operations are exactly the router's."""
    served = await document(house)
    validate(served)
    described = {
        (method.upper(), path) for path, item in served["paths"].items() for method in item
    }
    assert described == {(route.method, route.path) for route in ROUTES}
    routed = {
        (route.method, route.resource.canonical)
        for route in house.app.router.routes()
        if route.resource is not None and route.method != "*"
    }
    assert routed == described


async def test_patterns_are_plain_ecma(house: House):
    """No pattern uses an anchor that JSON Schema's dialect does not have."""
    served = await document(house)

    def patterns(node: object):
        if isinstance(node, dict):
            if isinstance(node.get("pattern"), str):
                yield node["pattern"]
            for value in node.values():
                yield from patterns(value)
        elif isinstance(node, list):
            for value in node:
                yield from patterns(value)

    found = list(patterns(served))
    assert found
    for pattern in found:
        assert "\\A" not in pattern
        assert "\\Z" not in pattern
        re.compile(pattern)


def test_every_reason_has_a_status_and_every_code_is_its_own():
    """No refusal is without an HTTP status, and no two problems share a code."""
    assert STATUS.keys() == set(Reason)
    codes = [reason.code for reason in Reason] + [fault.code for fault in FAULTS]
    assert len(codes) == len(set(codes))


async def test_every_problem_is_explained_at_its_address(house: House):
    """The `type` of a problem leads to what it means and what to do, in English and Chinese."""
    codes = {reason.code for reason in Reason} | {fault.code for fault in FAULTS}
    assert ADVICE.keys() == codes, (
        "exchange/gateway/advice.py says what to do about each code, and no other"
    )
    for code in codes:
        page = problem_page(code)
        assert page is not None
        assert page.advice.endswith(".")
        assert page.advice_zh.endswith("。")
    refused = await house.order({"member": "anna"})
    told = await house.call("GET", refused.body["type"], caller=None)
    assert (told.status, told.body["reason"]) == (200, refused.reason)
    shown = await house.call(
        "GET", refused.body["type"], caller=None, headers={"Accept": "text/html,*/*"}
    )
    assert shown.headers["Content-Type"].startswith("text/html")
    assert told.body["advice_zh"].encode() in shown.raw
    assert (await house.call("GET", "/problems/nonsense", caller=None)).reason == "not_found"


async def test_what_a_caller_has_is_not_sent_again(house: House):
    """An answer to GET carries a tag; with it the same answer is 304 and empty, a changed one is sent."""
    first = await house.call("GET", "/v1/positions")
    tag = first.headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await house.call("GET", "/v1/positions", headers={"If-None-Match": known})
        assert (again.status, again.raw, again.headers["ETag"]) == (304, b"", tag)
    for other in ('"other"', "", tag.strip('"')):
        sent = await house.call("GET", "/v1/positions", headers={"If-None-Match": other})
        assert (sent.status, sent.raw) == (200, first.raw)
    await house.order({"member": "anna", "issuer": "AIR", "acceptor": "EYE", "units": "10"})
    moved = await house.call("GET", "/v1/positions", headers={"If-None-Match": tag})
    assert moved.status == 200
    assert moved.headers["ETag"] != tag
    own = await house.call("GET", "/v1/positions", caller="AIR", headers={"If-None-Match": tag})
    assert own.status == 200, "another caller's answer is another one"
    refused = await house.call("GET", "/v1/cycles/none", headers={"If-None-Match": "*"})
    assert refused.status == 404


async def test_answers_fit_the_document(house: House):
    """Real answers of each kind are valid under the schema that the document gives for them."""
    served = await document(house)

    def check(method: str, path: str, answer: Any) -> None:
        response = _response(served, served["paths"][path][method], str(answer.status))
        schema = response["content"][answer.headers["Content-Type"]]["schema"]
        jsonschema.Draft202012Validator(schema | {"components": served["components"]}).validate(
            answer.body
        )

    order = await house.order(
        {"member": "anna", "issuer": "AIR", "acceptor": "EYE", "units": "10", "kind": "exchange"}
    )
    check("post", "/v1/orders", order)
    check("post", "/v1/orders", await house.order({"member": "anna"}))
    check(
        "get",
        "/v1/orders/{order_id}",
        await house.call("GET", f"/v1/orders/{order.body['order_id']}"),
    )
    wishes = [
        {"key": "1", "member": "anna", "issuer": "AIR", "acceptor": "EYE", "units": 10},
        {"key": "2", "member": "anna", "issuer": "AIR", "acceptor": "AIR", "units": 10},
        {},
    ]
    check(
        "post", "/v1/orders/bulk", await house.call("POST", "/v1/orders/bulk", wishes, packed=True)
    )
    purchases = [
        {"key": "3", "member": "anna", "merchant": "EYE", "amount_fen": "9", "discount_fen": "7"}
    ]
    check("post", "/v1/purchases/bulk", await house.call("POST", "/v1/purchases/bulk", purchases))
    anna = await house.token("anna")
    for path in (
        "/v1/members/{token}/balances",
        "/v1/members/{token}/consents",
        "/v1/members/{token}/history",
        "/v1/merchants",
        "/v1/positions",
        "/v1/cycles",
        "/v1/cycles/{cycle}",
        "/healthz",
        "/readyz",
    ):
        real = path.format(token=anna, cycle="c1")
        check("get", path, await house.call("GET", real))


def _check(served: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    jsonschema.Draft202012Validator(schema | {"components": served["components"]}).validate(value)


def _response(served: dict[str, Any], operation: dict[str, Any], status: str) -> dict[str, Any]:
    """An answer of an operation, also one that several share."""
    told: dict[str, Any] = operation["responses"][status]
    name = told.get("$ref", "").removeprefix("#/components/responses/")
    shared: dict[str, Any] = served["components"]["responses"].get(name, told)
    return shared


def _media(
    served: dict[str, Any], operation: dict[str, Any]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each body of an operation that is a record: which, its content type, and what is told of it."""
    answers = {each: _response(served, operation, each) for each in operation["responses"]}
    sides = {"request": operation.get("requestBody", {}), **answers}
    for side, told in sides.items():
        for media_type, content in told.get("content", {}).items():
            if "schema" in content:
                yield side, media_type, content


def test_every_body_has_an_example_that_is_valid():
    """Each request and each answer of each operation is shown, in both formats, and fits its schema."""
    served = make_openapi(ROUTES, version="0")
    shown = 0
    for path, item in served["paths"].items():
        for method, operation in item.items():
            for parameter in operation["parameters"]:
                if "example" in parameter:
                    _check(served, parameter["schema"], parameter["example"])
                else:
                    assert parameter["in"] != "path", f"{method} {path}: {parameter['name']}"
            for side, media_type, content in _media(served, operation):
                if media_type.startswith("application/problem+"):
                    continue
                if content["schema"].get("type") == "object" and path == "/openapi.json":
                    continue
                assert "example" in content, f"{method} {path} {side}: add it to examples.json"
                _check(served, content["schema"], content["example"])
                shown += 1
    assert shown > 150


def test_every_answer_that_says_no_is_shown():
    """Each problem that an operation may answer has an example with its code and status, as the schema has it."""
    served = make_openapi(ROUTES, version="0")
    problem = {"$ref": "#/components/schemas/Problem"}
    for code, example in served["components"]["examples"].items():
        _check(served, problem, example["value"])
        assert example["value"]["reason"] == code
    for item in served["paths"].values():
        for operation in item.values():
            for status, media_type, content in _media(served, operation):
                if not media_type.startswith("application/problem+"):
                    continue
                assert content["schema"] == problem
                for code, told in content["examples"].items():
                    assert told == {"$ref": f"#/components/examples/{code}"}
                    value = served["components"]["examples"][code]["value"]
                    assert (
                        operation["operationId"].startswith("get_")
                        or str(value["status"]) == status
                    )


def test_every_event_is_described_as_a_webhook():
    """`webhooks` has each type of event, with an example that fits its record and can be decoded as one."""
    served = make_openapi(ROUTES, version="0")
    assert served["webhooks"].keys() == set(get_args(EventType))
    for event_type, item in served["webhooks"].items():
        content = item["post"]["requestBody"]["content"]["application/json"]
        _check(served, content["schema"], content["example"])
        assert msgspec.convert(content["example"], Event).__struct_config__.tag == event_type


def test_what_changes_something_has_a_key_or_a_reason():
    """No POST, PUT or DELETE is without an answer to what its repeat does: a key, or why it does no harm."""
    for route in ROUTES:
        assert route.keyed + bool(route.repeat) == (route.method != "GET"), route.name


def test_examples_are_of_operations_that_exist():
    """No example is left over from an operation that went."""
    told = msgspec.json.decode(files("exchange.gateway").joinpath("examples.json").read_bytes())
    assert told["operations"].keys() <= {route.name for route in ROUTES}
    assert told["webhooks"].keys() <= set(get_args(EventType))


@pytest.mark.slow
async def test_nothing_that_the_document_allows_or_forbids_is_a_fault(
    house: House, tell_figure: Callable[[str], None]
):
    """Schemathesis, all of whose requests are signed, finds no 5xx and nothing undocumented, on any route."""
    served = await document(house)
    answer = await house.call("POST", "/v1/keys", {"csr": HOUSE_KEY.csr("HOUSE")})
    assert answer.status == 201, answer.raw
    house.services.sessions._keys = SignedOnly()
    await asyncio.sleep(1.05 - time.time() % 1)
    base = f"http://127.0.0.1:{house.port}"
    statuses: Counter[int] = Counter()
    failures = await asyncio.to_thread(_explore, served, base, statuses)
    assert failures == []
    told = ", ".join(f"{count} of {status}" for status, count in sorted(statuses.items()))
    tell_figure(
        f"schemathesis: {statuses.total()} signed requests on {len(ROUTES)} operations: {told}"
    )
    # Signatures count: hardly anything is turned away for want of one.
    assert statuses[401] < statuses.total() / 20


@schemathesis.serializer("application/msgpack")
def pack(_: Any, value: Any) -> bytes:
    """A body in msgpack; an integer beyond 64 bits, which msgpack has not, becomes a byte that is never used."""
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, TypeError, ValueError):
        return b"\xc1"


@schemathesis.deserializer("application/msgpack", "application/problem+msgpack")
def unpack(_: Any, response: Any) -> Any:
    """What an answer in msgpack says."""
    return msgspec.msgpack.decode(response.content)


def sign(request: Any) -> Any:
    """Sign a request of the library that sends them; what no signature can cover goes unsigned."""
    url = URL(request.url, encoded=True)
    body = request.body.encode() if isinstance(request.body, str) else request.body
    head = RequestHead(
        request.method,
        url.host_port_subcomponent or "",
        url.raw_path_qs,
        None,
        _text(request.headers.get("Content-Type")),
        _text(request.headers.get("Idempotency-Key")),
    )
    with contextlib.suppress(ValueError):
        request.headers.update(
            sign_request(
                head,
                body=body,
                key_id=HOUSE_KEY.key_id,
                private=HOUSE_KEY.private,
                nonce=secrets.token_urlsafe(16),
                created=int(time.time()),
            )
        )
    return request


def _text(value: str | bytes | None) -> str | None:
    """A field as it will be read."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return None if text is None else text.strip(" \t")


def _explore(served: dict[str, Any], base: str, statuses: Counter[int]) -> list[str]:
    failures: list[str] = []
    schema = schemathesis.openapi.from_dict(served)
    schema.config.update(base_url=base)
    session = requests.Session()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=EXAMPLES_MAX.get(operation.method, EXAMPLES_USUAL),
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def explore(case: schemathesis.Case) -> None:
                response = case.call(base_url=base, auth=sign, session=session)
                statuses[response.status_code] += 1
                case.validate_response(
                    response,
                    checks=CHECKS,
                )

            try:
                explore()
            except Unsatisfiable:
                pass  # A route without input has nothing that could be wrong.
            except Exception as error:  # noqa: BLE001 - all failures are shown together
                failures.append(f"{operation.label} {mode}: {error}")
    return failures
