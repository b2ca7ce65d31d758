"""Examples of requests and answers, for the OpenAPI document: one story, told in `examples.json` by operation.

The tests hold each against its schema, so that what a reader copies is taken.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from exchange.gateway import problems
from exchange.gateway.formats import MSGPACK_TYPE
from schemas.values.reason import Reason


@cache
def _story() -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = msgspec.json.decode(
        files(__package__).joinpath("examples.json").read_bytes()
    )
    return told


def body_example(operation: str, side: str, media_type: str, record: object) -> Any:
    """The example of a body; None where there is none.

    Args:
        operation: Name of the route.
        side: `request` or `response`.
        media_type: In msgpack amounts may be integers: the record decides.
        record: What the body is.
    """
    value = _story()["operations"].get(operation, {}).get(side)
    if value is None or media_type != MSGPACK_TYPE:
        return value
    return _without_none(msgspec.convert(value, record, strict=False))


def _without_none(value: object) -> Any:
    """A record as it is sent, as plain values."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


def event_example(event_type: str) -> Any:
    """The example of an event; None where there is none."""
    return _story()["webhooks"].get(event_type)


def problem_examples() -> dict[str, Any]:
    """An example of each problem, by its code."""
    at, by = "/v1/orders", "5f3c9a01-2a"
    found = [problems.refusal_problem(each, instance=at, request_id=by) for each in Reason]
    found += [problems.fault_problem(each, instance=at, request_id=by) for each in problems.FAULTS]
    return {
        each.reason: {"summary": each.detail, "value": msgspec.to_builtins(each)} for each in found
    }
