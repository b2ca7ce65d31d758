"""People sign in, are told apart by their roles, and are shut out at once."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from exchange.core.person import FREE_FAILURES, HOUSE_ROLES, wait_after
from exchange.gateway.gate import Who
from exchange.gateway.matrix import ANYBODY, COLUMNS, MatrixError, matrix_of, read_matrix
from exchange.gateway.routes import ROUTES
from exchange.service.people import add_person, digest_of, new_invitation, set_roles
from exchange.service.sessions import IDLE, LIFE, SESSION_PREFIX
from exchange.store.people import fetch_person, insert_session
from settlement.core.trail import PROGRAM

if TYPE_CHECKING:
    from tests.gateway.conftest import Answer, House

PASSWORD = "correct horse battery"
ROUTE_NAMES = [f"{route.method} {route.path}" for route in ROUTES]


async def added(house: House, name: str, *roles: str, merchant: str = "HOUSE") -> str:
    """Add a person; returns the invitation."""
    offer = await house.services.shelf.offer()
    invitation = new_invitation()
    async with house.pool.acquire() as conn, conn.transaction():
        refused = await add_person(
            conn,
            name=name,
            roles=roles,
            merchant_no=offer.catalogue.by_code.get(merchant, 0),
            merchant=merchant,
            invitation=digest_of(invitation),
            second=None,
            by=PROGRAM,
            now=house.services.now(),
        )
    assert isinstance(refused, bytes)
    return invitation


async def session_of(house: House, name: str) -> str:
    """A session of a person, opened without password."""
    token = f"{SESSION_PREFIX}{name}"
    now = house.services.now()
    async with house.pool.acquire() as conn:
        row = await fetch_person(conn, name=name)
        assert row is not None
        await insert_session(
            conn, digest=digest_of(token), person_no=row["person_no"], now=now, ends_at=now + LIFE
        )
    house.keys[name] = token
    return token


class Bearer:
    """Somebody with an authenticator."""

    def __init__(self, house: House, name: str, accepted: dict[str, Any]) -> None:
        """Scan the code."""
        self.house, self.name, self.recovery = house, name, accepted["recovery_codes"]
        [secret] = parse_qs(urlsplit(accepted["totp_uri"]).query)["secret"]
        self.seed = base64.b32decode(secret + "=" * (-len(secret) % 8))

    def code(self) -> str:
        """What the authenticator shows now."""
        now = self.house.services.now().timestamp()
        return TOTP(self.seed, 6, SHA1(), 30).generate(int(now)).decode()

    async def sign_in(self, *, password: str = PASSWORD, code: str | None = None) -> Answer:
        """Sign in, right or wrong."""
        body = {"name": self.name, "password": password, "code": code or self.code()}
        return await self.house.call("POST", "/v1/session", body, caller=None)


async def bearer(house: House, name: str, *roles: str) -> Bearer:
    """A person who accepted their invitation."""
    body = {"invitation": await added(house, name, *roles), "password": PASSWORD}
    accepted = await house.call("POST", "/v1/session/invitation", body, caller=None)
    assert accepted.status == 201, accepted.raw
    return Bearer(house, name, accepted.body)


async def test_a_person_signs_in_works_and_is_shut_out(house: House):
    """Invitation, password and authenticator open a session; each code counts once; a session ends when it should."""
    anna = await bearer(house, "anna", "operator", "treasurer")
    opened = await anna.sign_in()
    assert opened.status == 201, opened.raw
    assert (opened.body["roles"], opened.body["merchant"]) == (["operator", "treasurer"], None)
    house.keys["anna"] = opened.body["token"]
    assert (await house.call("GET", "/v1/session", caller="anna")).body["name"] == "person:anna"
    again = await anna.sign_in()
    assert (again.status, again.reason) == (401, "sign_in_refused")
    recovered = await anna.sign_in(code=anna.recovery[0].upper())
    assert recovered.status == 201
    assert (await anna.sign_in(code=anna.recovery[0])).status == 401

    house.keys["second"] = recovered.body["token"]
    assert (await house.call("DELETE", "/v1/session", caller="second")).body == {"ended": True}
    assert (await house.call("GET", "/v1/session", caller="second")).reason == "unauthenticated"
    house.clock.advance(IDLE.total_seconds() - 600)
    assert (await house.call("GET", "/v1/session", caller="anna")).status == 200
    house.clock.advance(IDLE.total_seconds() + 5)
    assert (await house.call("GET", "/v1/session", caller="anna")).status == 401

    house.keys["anna"] = (await anna.sign_in()).body["token"]
    for _ in range(int(LIFE / IDLE) + 1):
        answer = await house.call("GET", "/v1/session", caller="anna")
        house.clock.advance(IDLE.total_seconds() - 50)
    answer = await house.call("GET", "/v1/session", caller="anna")
    assert answer.status == 401

    house.keys["anna"] = (await anna.sign_in()).body["token"]
    await added(house, "boss", "operator")
    await session_of(house, "boss")
    people = await house.call("GET", "/v1/admin/people", caller="boss")
    assert [(each["name"], each["state"]) for each in people.body["people"]] == [
        ("anna", "active"),
        ("boss", "invited"),
    ]
    done = await house.call("POST", "/v1/admin/people/anna/disable", caller="boss")
    assert done.status == 200
    assert (await house.call("GET", "/v1/session", caller="anna")).status == 401
    house.clock.advance(60)
    assert (await anna.sign_in()).status == 401
    gone = await house.call("POST", "/v1/admin/people/anna/disable", caller="boss")
    assert (gone.status, gone.reason) == (404, "person_not_found")


async def test_guessing_is_slowed_down_and_says_nothing(house: House):
    """Wrong name, password or code get one answer; past five failures even what is right must wait, also at once."""
    anna = await bearer(house, "anna", "support")
    nobody = Bearer(
        house, "nobody", {"recovery_codes": [], "totp_uri": "otpauth://x?secret=" + "A" * 32}
    )
    answers = [
        await nobody.sign_in(),
        await anna.sign_in(password="x" * 12),
        await anna.sign_in(code="000000"),
    ]
    assert len({answer.body["detail"] for answer in answers}) == 1
    assert {answer.status for answer in answers} == {401}
    await asyncio.gather(*(anna.sign_in(password="wrong") for _ in range(6)))
    row = await house.pool.fetchrow("SELECT failures FROM exchange.person WHERE name = 'anna'")
    assert (row and row["failures"]) == FREE_FAILURES
    assert (await anna.sign_in()).status == 401
    house.clock.advance(wait_after(FREE_FAILURES) + 1)
    assert (await anna.sign_in()).status == 201
    trail = await house.pool.fetchval(
        "SELECT count(*) FROM settlement.trail WHERE action = 'person.lock'"
    )
    assert trail == 1


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (4, 0), (5, 30), (6, 60), (11, 1920), (12, 3600), (400, 3600)]
)
def test_waits_double_up_to_an_hour(failures, seconds):
    """The wait after failed attempts doubles from half a minute up to an hour."""
    assert wait_after(failures) == seconds


async def test_an_invitation_counts_once_and_for_three_days(house: House):
    """An invitation is refused when it was used, is too old or is another one; a weak password leaves it open."""
    body = {"invitation": await added(house, "ben", "auditor"), "password": "ben-ben-ben-ben"}

    async def accept(**changes: str) -> Answer:
        return await house.call("POST", "/v1/session/invitation", body | changes, caller=None)

    weak = await accept()
    assert (weak.status, weak.reason, weak.body["field"]) == (
        400,
        "malformed_request",
        "$.password",
    )
    assert (await accept(invitation="tdi_x", password=PASSWORD)).reason == "invitation_invalid"
    assert (await accept(second="tdi_x", password=PASSWORD)).reason == "invitation_invalid"
    assert (await accept(password=PASSWORD)).status == 201
    assert (await accept(password=PASSWORD)).status == 409
    body = {"invitation": await added(house, "carl", "auditor"), "password": PASSWORD}
    house.clock.advance(72 * 3600 + 1)
    assert (await accept()).reason == "invitation_invalid"


async def test_nothing_secret_is_stored_readably(house: House):
    """Neither password, seed, recovery codes, invitation nor session stand in the database as they are."""
    anna = await bearer(house, "anna", "support")
    token = (await anna.sign_in()).body["token"]
    stored = ""
    for table in ("person", "recovery_code", "session"):
        rows = await house.pool.fetch(f"SELECT t::text AS row FROM exchange.{table} AS t")
        stored += "".join(row["row"] for row in rows)
    for secret in (PASSWORD, token, token[4:], anna.seed.hex(), *anna.recovery):
        assert secret not in stored
    assert "$argon2id$" in stored


# --- the access matrix ---


@pytest.mark.parametrize("column", COLUMNS)
async def test_the_access_matrix_holds_for_every_route(house: House, column: str):
    """Every route answers `forbidden` to exactly those callers that have no yes in its row of the matrix."""
    caller: str | None = {ANYBODY: None, "merchant-key": "AIR", "house-key": "house"}.get(column)
    if column not in (ANYBODY, "merchant-key", "house-key"):
        caller = column
        merchant = "HOUSE" if column in HOUSE_ROLES else "AIR"
        await added(house, caller, column, merchant=merchant)
    matrix = matrix_of(ROUTE_NAMES)
    wrong = []
    for route in ROUTES:
        if caller == column:
            await house.pool.execute("UPDATE exchange.session SET ended_at = NULL")
            if column not in house.keys:
                await session_of(house, column)
        allowed = matrix[f"{route.method} {route.path}"]
        path = re.sub(r"\{\w+\}", "00000000-0000-7000-8000-000000000000", route.path)
        body = {"no": "such field"} if route.request else None
        answer = await house.call(route.method, path, body, caller=caller, key="k-1")
        refused = answer.status in (401, 403) and answer.reason in ("unauthenticated", "forbidden")
        if refused == bool(allowed & {ANYBODY, column}):
            wrong.append((route.method, route.path, answer.status))
    assert wrong == []


def test_the_matrix_names_every_route_and_agrees_with_the_table():
    """A route without a row, or a row without a route, keeps a gateway from starting; public is public in both."""
    matrix = matrix_of(ROUTE_NAMES)
    for route in ROUTES:
        allowed = matrix[f"{route.method} {route.path}"]
        assert allowed, route.path
        assert (route.who is Who.ANYBODY) == (ANYBODY in allowed), route.path
        assert route.who is not Who.PERSON or allowed.isdisjoint({"merchant-key", "house-key"})
        assert route.who is not Who.OPERATOR or "merchant-key" not in allowed
        if route.method != "GET":
            assert route.path == "/v1/session" or "auditor" not in allowed, route.path
    with pytest.raises(MatrixError, match="GET /new"):
        matrix_of([*ROUTE_NAMES, "GET /new"])
    with pytest.raises(MatrixError, match="GET /healthz"):
        matrix_of([name for name in ROUTE_NAMES if name != "GET /healthz"])


@pytest.mark.parametrize("cell", ["Yes", "no", "y"])
def test_a_cell_of_the_matrix_is_yes_or_empty(cell):
    """A cell that could be read in two ways is refused."""
    row = ",".join([cell, *[""] * (len(COLUMNS) - 1)])
    with pytest.raises(MatrixError, match="neither yes nor empty"):
        read_matrix(f"route,{','.join(COLUMNS)}\nGET /x,{row}\n")


async def test_a_merchants_person_sees_that_merchant_alone(house: House):
    """A merchant's people see what the merchant's key sees, and roles that changed count from the next request on."""
    await added(house, "mia", "merchant-finance", merchant="AIR")
    await session_of(house, "mia")
    assert (await house.call("GET", "/v1/session", caller="mia")).body["merchant"] == "AIR"
    assert (
        await house.order({"member": "anna", "issuer": "AIR", "acceptor": "EYE", "units": "10"})
    ).status == 201
    seen = await house.call("GET", "/v1/positions", caller="mia")
    assert seen.body == (await house.call("GET", "/v1/positions", caller="AIR")).body
    async with house.pool.acquire() as conn, conn.transaction():
        changed = await set_roles(
            conn, name="mia", roles=["merchant-integrator"], by=PROGRAM, now=house.services.now()
        )
    assert isinstance(changed, bytes)
    assert (await house.call("GET", "/v1/positions", caller="mia")).reason == "forbidden"
