"""JSON and msgpack by content negotiation, on every route, in both ways to the handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.gateway.formats import (
    JSON,
    MSGPACK,
    RECORD_TYPES,
    MediaTypeError,
    choose,
    format_of,
)
from schemas.values.faults import SchemaError
from schemas.wire.proposals import ProposalRequest
from tests.gateway.conftest import AIR, fresh_key, shared

if TYPE_CHECKING:
    from tests.gateway.conftest import House

OFFERS = (*RECORD_TYPES, "text/html")


@pytest.mark.parametrize(
    ("accept", "sent", "chosen"),
    [
        (None, None, "application/json"),
        (None, "application/msgpack", "application/msgpack"),
        ("", None, "application/json"),
        ("*/*", None, "application/json"),
        ("*/*", "application/x-msgpack", "application/msgpack"),
        ("application/*", "application/json", "application/json"),
        ("application/msgpack", None, "application/msgpack"),
        ("application/vnd.msgpack", "application/json", "application/msgpack"),
        ("Application/JSON ; charset=utf-8", "application/msgpack", "application/json"),
        ("application/json;q=0.2, application/msgpack;q=0.9", None, "application/msgpack"),
        ("application/json; q=0.9, application/msgpack; q=0.900", None, "application/json"),
        ("application/msgpack;q=0, */*", "application/msgpack", "application/json"),
        ("application/json;q=0, application/*;q=0.1", None, "application/msgpack"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", None, "text/html"),
        ("text/html,*/*", None, "text/html"),
        ("*/*;q=0.1, text/*;q=0.1", None, "text/html"),
        ("application/problem+json, application/json;q=0.1", None, "application/json"),
        ("nonsense, application/msgpack;q=7", None, "application/json"),
        ("image/png", None, None),
        ("*/*;q=0", None, None),
        ("application/json;q=0.0", None, None),
    ],
)
def test_the_form_of_an_answer_is_what_the_caller_prefers(
    accept: str | None, sent: str | None, chosen: str | None
):
    """Weights decide, then how exactly a form is named, then the request's own format, then JSON (RFC 9110 §12.5.1)."""
    assert choose(accept, OFFERS, sent) == chosen


@settings(max_examples=50)
@given(st.text(max_size=60), st.sampled_from([None, "application/msgpack", "x"]))
def test_any_header_can_be_read(accept: str, sent: str | None):
    """Whatever stands in `Accept`, an offer or nothing is chosen."""
    assert choose(accept, OFFERS, sent) in {*OFFERS, None}


def test_a_body_is_in_json_or_msgpack():
    """A body without a type is JSON; parameters and case do not matter; anything else is not taken."""
    for content_type in (None, "application/json", "APPLICATION/JSON;charset=utf-8"):
        assert format_of(content_type) is JSON
    for content_type in ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack"):
        assert format_of(content_type) is MSGPACK
    for content_type in ("", "text/plain", "application/problem+xml", "json"):
        with pytest.raises(MediaTypeError):
            format_of(content_type)


def test_msgpack_carries_nothing_that_json_cannot():
    """An extension type of msgpack is malformed wherever it stands, also where anything else may stand."""
    body = msgspec.msgpack.encode(
        {"action": "cap.set", "why": "x", "terms": {"cap_cu": msgspec.msgpack.Ext(5, b"1")}}
    )
    with pytest.raises(SchemaError):
        MSGPACK.decode(ProposalRequest, body)


@shared
async def test_a_request_means_the_same_in_either_format(shared_house: House):
    """Every pair of formats is answered alike, field by field, under one key, in the lane and beside it."""
    order = AIR | {"units": "7"}
    key = fresh_key()
    answers: list[dict[str, Any]] = []
    for packed in (False, True):
        for accept in RECORD_TYPES:
            for more in ({}, {"TE": "trailers"}):
                answer = await shared_house.call(
                    "POST",
                    "/v1/orders",
                    order,
                    key=key,
                    packed=packed,
                    headers={"Accept": accept} | more,
                )
                assert (answer.status, answer.headers["Content-Type"]) == (201, accept)
                answers.append(answer.body)
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["units"] == "7"
    bulk = [AIR | {"key": fresh_key(), "units": "3"}]
    in_json = await shared_house.call("POST", "/v1/orders/bulk", bulk)
    crossed = await shared_house.call(
        "POST", "/v1/orders/bulk", bulk, headers={"Accept": "application/msgpack"}
    )
    assert in_json.body[0]["debit_cu"] == str(crossed.body[0]["debit_cu"]) == "999"
    assert isinstance(crossed.body[0]["debit_cu"], int)


@shared
async def test_problems_come_in_the_format_that_the_caller_takes(shared_house: House):
    """A refusal and a fault alike, in the lane and beside it; a fault of the body comes in the body's own format."""
    wanted = {"Accept": "application/msgpack"}
    for more in ({}, {"TE": "trailers"}):
        for body in (AIR | {"units": "999999999"}, {"units": 1}):
            refused = await shared_house.call(
                "POST", "/v1/orders", body, key=fresh_key(), headers=wanted | more
            )
            assert refused.headers["Content-Type"] == "application/problem+msgpack"
            assert refused.reason in {"insufficient_points", "malformed_request"}
    packed = await shared_house.call("POST", "/v1/quotes", {}, packed=True)
    assert packed.headers["Content-Type"] == "application/problem+msgpack"
    lost = await shared_house.call("GET", "/v1/nothing", headers=wanted)
    assert (lost.reason, lost.headers["Content-Type"]) == (
        "not_found",
        "application/problem+msgpack",
    )


@shared
async def test_what_the_caller_does_not_take_is_not_even_done(shared_house: House):
    """406 before anything happens, in the lane and beside it; the key stays free; other content types are 415."""
    key, order = fresh_key(), AIR | {"units": "5"}
    for more in ({}, {"TE": "trailers"}):
        headers = {"Accept": "text/html, application/json;q=0"} | more
        refused = await shared_house.call("POST", "/v1/orders", order, key=key, headers=headers)
        assert (refused.status, refused.reason) == (406, "not_acceptable")
        assert "`application/json` or `application/msgpack`" in refused.body["detail"]
        typed = {"Content-Type": "application/xml"} | more
        other = await shared_house.call("POST", "/v1/orders", order, key=key, headers=typed)
        assert (other.status, other.reason) == (415, "unsupported_media_type")
        assert other.headers["Accept"] == "application/json, application/msgpack"
    other_order = AIR | {"units": "6"}
    assert (await shared_house.order(other_order, key=key)).status == 201
    assert (
        await shared_house.call("GET", "/v1/cycles", headers={"Accept": "text/html"})
    ).status == 406
    document = await shared_house.call("GET", "/openapi.json", headers={"Accept": "text/html"})
    assert document.status == 200, "what has one form alone is sent to whoever asks"


@shared
async def test_each_form_has_a_tag_of_its_own(shared_house: House):
    """A form that the caller has is not sent again, the other form is; caches hear that `Accept` matters."""
    tags = {}
    for accept in RECORD_TYPES:
        answer = await shared_house.call("GET", "/v1/cycles", headers={"Accept": accept})
        assert answer.headers["Content-Type"] == accept
        assert "Accept" in answer.headers["Vary"].split(", ")
        tags[accept] = answer.headers["ETag"]
    in_json, packed = tags.values()
    assert in_json != packed
    for known, status in ((packed, 304), (in_json, 200)):
        headers = {"Accept": "application/msgpack", "If-None-Match": known}
        assert (await shared_house.call("GET", "/v1/cycles", headers=headers)).status == status
