"""Lists come in pages, by cursors, and can be filtered; each page is found by an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exchange.gateway.paging import Listing
from exchange.gateway.routes import ROUTES
from schemas.values.faults import SchemaError
from tests.gateway.conftest import fresh_key, shared

if TYPE_CHECKING:
    from tests.gateway.conftest import House

NUMBERS = Listing("numbers", int)
NAMES = Listing("names", str)


@settings(max_examples=50)
@given(
    st.integers(0, 2**63 - 1),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20),
)
@example(2**63 - 1, 64 * "\U00010000")
def test_a_cursor_names_its_place(number: int, name: str):
    """What a list gave out leads back to the place; another list does not take it."""
    assert NUMBERS.place(NUMBERS.cursor(number)) == number
    assert NAMES.place(NAMES.cursor(name)) == name
    for other in (NAMES.cursor(name), Listing("others", int).cursor(number)):
        with pytest.raises(SchemaError):
            NUMBERS.place(other)


@settings(max_examples=100)
@given(st.one_of(st.text(max_size=30), st.from_regex(r"\A[A-Za-z0-9_-]{1,40}\Z")))
def test_no_other_text_is_a_cursor(text: str):
    """Whatever was not given out is refused by name, also another spelling of a cursor."""
    with pytest.raises(SchemaError) as refused:
        NUMBERS.place(text)
    assert refused.value.path == "?after"
    for spelled in (NUMBERS.cursor(7) + "=", NUMBERS.cursor(7) + "A", " " + NUMBERS.cursor(7)):
        with pytest.raises(SchemaError):
            NUMBERS.place(spelled)


async def pages(house: House, path: str, field: str, limit: int) -> list[Any]:
    """Everything, a page at a time, by the link and by `next`, which say the same."""
    lines: list[Any] = []
    url = f"{path}{'&' if '?' in path else '?'}limit={limit}"
    while True:
        answer = await house.call("GET", url)
        assert answer.status == 200, answer.raw
        lines += answer.body[field]
        assert len(answer.body[field]) <= limit
        cursor = answer.body["next"]
        if cursor is None:
            assert "Link" not in answer.headers
            return lines
        assert len(answer.body[field]) == limit
        link = answer.headers["Link"]
        assert link.endswith('>; rel="next"')
        url = link[1:].partition(">")[0]
        assert f"after={cursor}" in url


LISTS = {
    "/v1/merchants": "merchants",
    "/v1/merchants?hosted=true": "merchants",
    "/v1/positions": "positions",
    "/v1/cycles": "cycles",
    "/v1/keys": "keys",
    "/v1/endpoints": "endpoints",
    "/v1/members/{token}/consents": "consents",
    "/v1/members/{token}/history": "lines",
}


@shared
async def test_pages_of_any_size_are_the_whole_list(shared_house: House):
    """Page by page nothing is missing and nothing comes twice, in the order of the whole, on every list."""
    token = await shared_house.token("anna")
    for receiver in ("EYE", "OWN"):
        asked = {"receiver": receiver, "purpose": "test", "giver": "AIR"}
        answer = await shared_house.call("POST", f"/v1/members/{token}/consents", asked)
        assert answer.status == 201
    for units in ("1", "2"):
        order = {"member": "anna", "issuer": "AIR", "acceptor": "EYE", "units": units}
        assert (await shared_house.order(order, key=fresh_key())).status == 201
    lengths = {}
    for template, field in LISTS.items():
        path = template.format(token=token)
        whole = (await shared_house.call("GET", path)).body[field]
        for limit in (1, 2, len(whole) or 1):
            assert await pages(shared_house, path, field, limit) == whole, path
        lengths[field] = len(whole)
    assert lengths["lines"] >= 3


@shared
async def test_filters_leave_out_the_others(shared_house: House):
    """A filter shows what it names, and a word that it does not know is named in the refusal."""
    hosted = (await shared_house.call("GET", "/v1/merchants?hosted=false")).body["merchants"]
    assert [view["code"] for view in hosted] == ["OWN"]
    states = {}
    for state in ("open", "closed", "settled"):
        answer = await shared_house.call("GET", f"/v1/cycles?state={state}")
        states[state] = [view["state"] for view in answer.body["cycles"]]
    assert states["open"] == ["open"]
    assert set(states["closed"]) <= {"closed"}
    assert not states["settled"]


@shared
async def test_what_a_query_cannot_say_is_refused(shared_house: House):
    """A bad cursor, limit or filter is named; a parameter of another name is refused without repeating it."""
    token = await shared_house.token("anna")
    cases = {
        "/v1/merchants?after=%21": "?after",
        f"/v1/merchants?after={NUMBERS.cursor(1)}": "?after",
        "/v1/cycles?limit=0": "?limit",
        "/v1/cycles?limit=501": "?limit",
        "/v1/cycles?state=broken": "?state",
        "/v1/merchants?hosted=yes": "?hosted",
        "/v1/cycles?stat=open": "?",
        "/v1/cycles?limit=1&limit=2": "?",
        f"/v1/members/{token}/consents?below=1": "?",
    }
    for path, field in cases.items():
        answer = await shared_house.call("GET", path)
        assert (answer.status, answer.reason, answer.body["field"]) == (
            400,
            "malformed_request",
            field,
        )
    stray = await shared_house.call("GET", "/v1/cycles?member=anna-of-the-till")
    assert b"anna-of-the-till" not in stray.raw


def test_every_list_has_pages():
    """Each GET route that answers a list of rows takes `after` and `limit`; what is bounded otherwise is named here."""
    bounded = {
        "get_order": "an order's reversals",
        "get_balances": "merchants of one member",
        "get_batch": "files and merchants of one batch",
        "get_dispute": "steps of one dispute",
        "get_endpoint": "types of events",
        "get_household": "members of one household",
        "get_member_households": "one household of each programme",
        "get_transfer": "lots of one transfer",
        "get_session": "roles",
        "get_session_oidc_callback": "roles",
        "get_jwks": "the house's keys",
        "get_webhook_keys": "the house's keys",
        "get_report": "parties and cycles that are not settled",
        "get_admin_report": "parties, pairs and cycles",
    }
    for route in ROUTES:
        if route.method != "GET" or "application/json" not in route.response:
            continue
        record = route.response["application/json"]
        fields = getattr(record, "__annotations__", {})
        lists = any("list[" in str(hint) for hint in fields.values())
        assert ({"after", "limit"} <= route.query) == (lists and route.name not in bounded), (
            route.name
        )
