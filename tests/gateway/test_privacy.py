"""Members' names over HTTP and in the database: tokens, scopes, consents, export and erasure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from exchange.service.links import link
from exchange.service.members import FORGET_SECONDS
from exchange.service.privacy import erase_member, export_member, names_of
from exchange.service.vaults import VaultDoor, open_vault, rewrap
from exchange.store.leaving import snapshot
from exchange.vault.master import LocalMasterKey, MasterKeyUnusable, open_master_key
from schemas.values.reason import Reason
from settlement.service.audit import audit_books
from settlement.service.trail import By
from tests.gateway.conftest import House, merchant

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.vault.sealing import Vault

WHO = By(who="test:privacy")


@pytest_asyncio.fixture
async def vault(house: House) -> Vault:
    """The house's vault."""
    return await VaultDoor(house.pool, house.home / "keys").vault()


async def refused(house: House, member: str, caller: str) -> str:
    """Why the caller gets no quote for a spend by the member at EYE; empty if it gets its order."""
    order = {"issuer": "AIR", "acceptor": "EYE", "member": member, "units": "1"}
    answer = await house.order(order, caller=caller)
    return answer.reason if answer.status >= 400 else ""


async def forgetting(house: House) -> None:
    """Let the gateway look at once for members to forget."""
    house.services.members._looked_at -= FORGET_SECONDS


async def test_every_merchant_has_its_own_token(house: House):
    """Rule M1: three callers have three tokens of one member; another's token is nobody's name."""
    tokens = {caller: await house.token("anna", caller) for caller in ("house", "AIR", "EYE")}
    assert len(set(tokens.values())) == 3
    for caller, token in tokens.items():
        path = f"/v1/members/{token}/balances"
        assert (await house.call("GET", path, caller=caller)).body["member"] == token
        others = [each for each in tokens if each != caller]
        assert [(await house.call("GET", path, caller=each)).status for each in others] == [
            404,
            404,
        ]
    assert await refused(house, tokens["EYE"], "EYE") == ""
    assert await refused(house, tokens["AIR"], "EYE") == "unknown_member"


async def test_names_of_its_own_mean_nothing_to_others(house: House):
    """Rule M2: a merchant with names of its own has its own Anna, and does not know the house's."""
    answer = await house.call("POST", "/v1/merchants", merchant("TEA", 50, own_names=True))
    house.keys["TEA"] = answer.body["api_key"]
    house_anna = (await house.services.members.find(["anna"]))["anna"]
    tea = (await house.services.shelf.offer_with("TEA")).catalogue.by_code["TEA"]
    assert await house.services.members.find(["anna"], caller=tea) == {}
    own = await house.token("anna", "TEA")
    mine = await house.services.members.find(["anna", own], caller=tea)
    assert mine["anna"] == mine[own] != house_anna
    assert (await house.services.members.find(["anna"]))["anna"] == house_anna
    answer = await house.call("POST", "/v1/members", {"members": [own]}, caller="TEA")
    assert (answer.status, answer.body["field"]) == (400, "$.members[0]")


async def test_a_consent_makes_a_member_known_until_it_is_withdrawn(house: House):
    """Rule M4: the receiver's token counts while the consent does; either side sees and ends it."""
    answer = await house.call("POST", "/v1/merchants", merchant("TEA", 50, own_names=True))
    house.keys["TEA"] = answer.body["api_key"]
    hers = await house.token("lily", "TEA")
    tea = (await house.services.shelf.offer_with("TEA")).catalogue.by_code["TEA"]
    lily = (await house.services.members.find([hers], caller=tea))[hers]
    at_eye = await house.services.members.token_for(lily, merchant_no=2)
    # EYE calls members by their references at the house, of which Lily has none.
    assert await house.services.members.find([at_eye], caller=2) == {}
    path = f"/v1/members/{hers}/consents"
    wish = {"receiver": "EYE", "purpose": "兑换 tea points for glasses"}
    given = await house.call("POST", path, wish, caller="TEA")
    assert (given.status, given.body["token"]) == (201, at_eye)
    assert (await house.services.members.find([at_eye], caller=2))[at_eye] == lily
    seen = await house.call("GET", f"/v1/members/{at_eye}/consents", caller="EYE")
    assert [each["purpose"] for each in seen.body["consents"]] == [wish["purpose"]]
    number = given.body["consent_no"]
    for status in (200, 200):
        ended = await house.call("POST", f"{path}/{number}/withdraw", caller="TEA")
        assert (ended.status, bool(ended.body["consents"][0]["withdrawn_at"])) == (status, True)
    await forgetting(house)
    assert at_eye not in await house.services.members.find([at_eye], caller=2)


@pytest.mark.parametrize(
    ("caller", "body", "reason"),
    [
        ("house", {"receiver": "EYE", "purpose": "p"}, "malformed_request"),
        ("AIR", {"receiver": "EYE", "purpose": ""}, "malformed_request"),
        ("AIR", {"receiver": "NOWHERE", "purpose": "p"}, "unknown_merchant"),
        ("AIR", {"receiver": "AIR", "purpose": "p"}, "same_merchant"),
        ("AIR", {"receiver": "EYE", "purpose": "p", "giver": "OWN"}, "forbidden"),
    ],
)
async def test_consents_that_are_not_recorded(house: House, caller, body, reason):
    """Rule M4: each refusal of the route, and a consent that is not there cannot be withdrawn."""
    path = f"/v1/members/{await house.token('anna', caller)}/consents"
    assert (await house.call("POST", path, body, caller=caller)).reason == reason
    for number in ("1", "0", "x"):
        answer = await house.call("POST", f"{path}/{number}/withdraw", caller=caller)
        assert (answer.status, answer.reason) == (404, "unknown_consent")


async def test_the_database_holds_no_name(house: House, vault: Vault):
    """Rule M2: names and accounts stand sealed; the vault opens them, and only with the member's key."""
    await house.token("canary-1378", "house")
    anna = (await house.services.members.find(["anna"]))["anna"]
    at = house.services.now()
    await link(
        house.pool, vault, member_no=anna, merchant_no=3, merchant_member="canary-42", now=at
    )
    assert "canary" not in await dump(house)
    assert await names_of(house.pool, vault, member_nos=[anna], scope=0, merchant_no=0) == {
        anna: "anna"
    }
    with pytest.raises(MasterKeyUnusable, match="was wrapped under the master key"):
        await open_vault(house.pool, LocalMasterKey(bytes(32)))


async def dump(house: House) -> str:
    """Every row of every table, as text."""
    rows = []
    for [table] in await house.pool.fetch(
        """
        SELECT schemaname || '.' || quote_ident(tablename) FROM pg_tables
         WHERE schemaname IN ('exchange', 'settlement')
        """
    ):
        rows += [str(row) for row in await house.pool.fetch(f"SELECT t::text FROM {table} AS t")]
    return "\n".join(rows)


async def test_an_erased_member_is_nobody_and_the_books_stay(house: House, vault: Vault):
    """Rule M6: erasing needs no order under way and consent to lose points; then names and accounts are gone."""
    anna = (await house.services.members.find(["anna"]))["anna"]
    token, at = await house.token("anna"), house.services.now()
    await link(house.pool, vault, member_no=anna, merchant_no=3, merchant_member="x", now=at)
    assert await refused(house, "anna", "EYE") == ""

    async def erase(*, forfeit: bool = False) -> Reason | None:
        gone = await erase_member(house.pool, member_no=anna, forfeit=forfeit, by=WHO, now=at)
        return None if gone is None else gone.reason

    held = {"issuer": "AIR", "acceptor": "OWN", "member": "anna", "units": "1", "hold_seconds": 60}
    accepted = await house.order({**held, "issuer": "OWN", "acceptor": "EYE"})
    assert accepted.status in (201, 202), accepted.raw
    assert await erase(forfeit=True) is Reason.ORDER_UNDER_WAY
    voided = await house.call("POST", f"/v1/orders/{accepted.body['order_id']}/void")
    assert voided.status == 200, voided.raw
    assert await erase() is Reason.MEMBER_HAS_POINTS
    assert await erase(forfeit=True) is None
    assert await erase(forfeit=True) is Reason.UNKNOWN_MEMBER
    await forgetting(house)
    assert (
        await refused(house, "anna", "EYE")
        == await refused(house, token, "house")
        == "unknown_member"
    )
    assert str(anna) in await dump(house)
    async with house.pool.acquire() as conn:
        assert not (await audit_books(conn)).differences
    assert await names_of(house.pool, vault, member_nos=[anna], scope=0, merchant_no=0) == {}
    # The name is free again, for somebody whom nothing joins to the one who left.
    assert (await house.services.members.enrol(["anna"]))["anna"] != anna


async def test_a_member_gets_everything(house: House, vault: Vault):
    """Rule M5: the export holds names, accounts, consents, lots and events."""
    anna = (await house.services.members.find(["anna"]))["anna"]
    at: datetime = house.services.now()
    await link(house.pool, vault, member_no=anna, merchant_no=3, merchant_member="T-9", now=at)
    path = f"/v1/members/{await house.token('anna', 'AIR')}/consents"
    await house.call("POST", path, {"receiver": "EYE", "purpose": "why"}, caller="AIR")
    assert await refused(house, "anna", "EYE") == ""
    codes = (await house.services.shelf.offer()).codes
    async with snapshot(house.pool) as conn:
        found: dict[str, Any] = await export_member(conn, vault, member_no=anna, codes=codes)
    assert [each["name"] for each in found["names"]] == ["anna"]
    assert [(each["merchant"], each["member"]) for each in found["accounts"]] == [("OWN", "T-9")]
    assert [each["purpose"] for each in found["consents"]] == ["why"]
    assert [(each["earned"], each["left"]) for each in found["lots"]] == [("10000", "9999")]
    assert [each["kind"] for each in found["events"]] == ["accrued", "cleared"]


async def test_names_of_before_are_sealed_at_the_start(house: House, vault: Vault):
    """A reference and an account that stand open are sealed when the vault opens, and mean who they meant."""
    at = house.services.now()
    async with house.pool.acquire() as conn:
        await conn.execute(
            "INSERT INTO exchange.member (member_no, reference, enrolled_at) VALUES (77, 'old-anna', $1)",
            at,
        )
        await conn.execute(
            """
            INSERT INTO exchange.member_link (member_no, merchant_no, merchant_member, linked_at)
            VALUES (77, 3, 'old-7', $1)
            """,
            at,
        )
    again = await open_vault(house.pool, open_master_key(house.home / "keys", environment={}))
    assert "old-" not in await dump(house)
    assert (await house.services.members.find(["old-anna"]))["old-anna"] == 77
    assert await house.services.links.find([(77, 3)]) == {(77, 3): "old-7"}
    assert again.digest("x", scope=0) == vault.digest("x", scope=0)


async def test_another_master_key(house: House, vault: Vault):
    """After wrapping anew the new master key opens the same vault, and the old one none."""
    old, new = open_master_key(house.home / "keys", environment={}), LocalMasterKey(bytes(32))
    await rewrap(house.pool, old, new, by=By(who="local:test"), now=house.services.now())
    assert (await open_vault(house.pool, new)).digest("x", scope=0) == vault.digest("x", scope=0)
    with pytest.raises(MasterKeyUnusable):
        await open_vault(house.pool, old)
    [told] = await house.pool.fetch(
        "SELECT before::text, after::text FROM settlement.trail WHERE action = 'house_key.rewrap'"
    )
    assert (old.master_id in told["before"], new.master_id in told["after"]) == (True, True)
