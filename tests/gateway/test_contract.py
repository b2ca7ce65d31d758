"""Routes, structs, the served document and the client are one contract."""

from __future__ import annotations

from types import NoneType
from typing import Any

import msgspec
import pytest

from exchange.client import Operation, operations
from exchange.gateway.formats import JSON_TYPE
from exchange.gateway.matrix import matrix_of
from exchange.gateway.openapi import make_openapi
from exchange.gateway.routes import ROUTES

CLIENT: dict[str, Operation[Any, Any]] = {
    name.lower(): each for name, each in vars(operations).items() if isinstance(each, Operation)
}


def test_the_client_has_every_route_with_its_records():
    """Each route is an operation of the client, with the same method, path, records and key; and no other is."""
    assert CLIENT.keys() == {route.name for route in ROUTES}
    for route in ROUTES:
        told = CLIENT[route.name]
        assert (told.method, told.path, told.keyed) == (route.method, route.path, route.keyed)
        assert told.request == route.request.get(JSON_TYPE, NoneType), route.name
        answered = route.response.get(JSON_TYPE, bytes)
        assert told.answer == (dict[str, Any] if answered is dict else answered), route.name


def test_the_document_has_every_route_with_its_records():
    """Each route is an operation of the document, under its name, with the schemas of its records, and a matrix row."""
    served = make_openapi(ROUTES, version="0")
    described = {
        operation["operationId"]: (method.upper(), path, operation)
        for path, item in served["paths"].items()
        for method, operation in item.items()
    }
    assert described.keys() == {route.name for route in ROUTES}
    assert matrix_of(f"{route.method} {route.path}" for route in ROUTES)
    for route in ROUTES:
        method, path, operation = described[route.name]
        assert (method, path) == (route.method, route.path)
        sent = operation.get("requestBody", {}).get("content", {})
        assert sent.keys() == set(route.forms(route.request))
        answered = operation["responses"][str(route.status)]["content"]
        assert answered.keys() == set(route.forms(route.response))
        for content, table in ((sent, route.request), (answered, route.response)):
            for media_type, record in table.items():
                name = getattr(record, "__name__", None)
                if isinstance(record, type) and issubclass(record, msgspec.Struct):
                    reference = content[media_type]["schema"]["$ref"]
                    assert reference == f"#/components/schemas/{name}", route.name
        fields = {each["name"] for each in operation["parameters"] if each["in"] == "header"}
        assert ("Idempotency-Key" in fields) == route.keyed
        assert ("If-None-Match" in fields) == route.tagged
        asked = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
        assert asked == route.query


def test_every_record_of_the_contract_takes_its_example():
    """What the document shows of a request is what the records read; what it shows of an answer, the client reads."""
    served = make_openapi(ROUTES, version="0")
    for route in ROUTES:
        operation = served["paths"][route.path][route.method.lower()]
        sent = operation.get("requestBody", {}).get("content", {})
        for content, wanted in (
            (sent, CLIENT[route.name].request),
            (operation["responses"][str(route.status)]["content"], CLIENT[route.name].answer),
        ):
            if "example" in content.get(JSON_TYPE, {}):
                msgspec.convert(content[JSON_TYPE]["example"], wanted)


def test_a_request_is_written_as_its_operation_says():
    """Names in the path are filled and escaped, parameters that are None are left out, what is missing is told."""
    assert operations.GET_ORDER.target({"order_id": "a/b"}, {}) == "/v1/orders/a%2Fb"
    listed = operations.GET_CYCLES.target({}, {"limit": 2, "after": None, "state": "open"})
    assert listed == "/v1/cycles?limit=2&state=open"
    with pytest.raises(ValueError, match="order_id"):
        operations.GET_ORDER.target({}, {})
    assert operations.POST_ORDERS.again
    assert operations.GET_ORDER.again
    assert not operations.POST_CYCLES_CLOSE.again
