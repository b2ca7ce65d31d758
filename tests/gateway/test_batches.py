"""Batches over HTTP: merchants list them, fetch what is theirs, and confirm them or object."""

from __future__ import annotations

import asyncio
import hashlib
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgpack  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.client import Identity
from schemas.files.confirmation import Confirmation, write_confirmation
from schemas.files.renderings import Renderings, write_renderings
from schemas.files.statement import LINE_FIELDS
from settlement.service.batches import CutBatch, cut_batch
from settlement.signing.confirmation import sign_confirmation
from settlement.signing.keyring import Keyring
from tests.gateway.conftest import AIR, Answer, House, shared
from tests.gateway.test_people import added, session_of

EYE_KEY = Identity(Ed25519PrivateKey.generate())
AIR_KEY = Identity(Ed25519PrivateKey.generate())
GONE_KEY = Identity(Ed25519PrivateKey.generate())


@dataclass
class Batch:
    """The batch of the house's first cycle, in which AIR and EYE have a line each."""

    house: House
    manifest: bytes

    def document(self, **changes: Any) -> bytes:
        """What EYE says."""
        told: dict[str, Any] = {
            "format": "tongdui-confirmation/1", "cycle_id": "c1", "sequence": 1,
            "manifest_sha256": hashlib.sha256(self.manifest).hexdigest(), "merchant": "EYE", "verdict": "confirmed",
            "at": "2026-11-22T03:00:00.000000Z",
        }  # fmt: skip
        return write_confirmation(Confirmation(**(told | changes)))

    async def say(
        self, data: bytes, *, key: Identity = EYE_KEY, caller: str = "EYE", cycle: str = "c1"
    ) -> Answer:
        """Sign a document and send it."""
        token = sign_confirmation(key.private, key.key_id, data)
        return await self.house.call(
            "POST", f"/v1/batches/{cycle}/confirmations", {"confirmation": token}, caller=caller
        )

    async def standing(self, caller: str) -> list[tuple[str, str, bool]]:
        """Where the batch stands, as a caller sees it."""
        answer = await self.house.call("GET", "/v1/batches/c1", caller=caller)
        return [
            (each["merchant"], each["state"], each["late"])
            for each in answer.body["batch"]["merchants"]
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def batch(shared_house: House) -> Batch:
    """Two cycles with an order each are closed and cut, and the merchants' keys are registered."""
    keyring = await asyncio.to_thread(
        Keyring.create, shared_house.home / "keys", at=shared_house.services.now()
    )
    for number, (cycle, following) in enumerate((("c1", "c2"), ("c2", "c3")), 1):
        assert (await shared_house.order(AIR | {"units": "10"})).status == 201
        wanted = {"cycle": cycle, "next_id": following}
        assert (await shared_house.call("POST", "/v1/cycles/close", wanted)).status == 200
        cut = await cut_batch(
            shared_house.pool, cycle_no=number, keyring=keyring, out=shared_house.home / "packages"
        )
        assert isinstance(cut, CutBatch)
    for code, key in (("EYE", EYE_KEY), ("AIR", AIR_KEY), ("EYE", GONE_KEY)):
        answer = await shared_house.call("POST", "/v1/keys", {"csr": key.csr(code)}, caller=code)
        assert answer.status == 201, answer.raw
    gone = await shared_house.call("POST", f"/v1/keys/{GONE_KEY.key_id}/revoke", caller="EYE")
    assert gone.status == 200, gone.raw
    return Batch(shared_house, (shared_house.home / "packages/c1/manifest.json").read_bytes())


@shared
async def test_a_merchant_fetches_what_is_its_own(batch: Batch):
    """Batches newest first, page by page; files one by one: what is for all and its own, and no other's (K1)."""
    house = batch.house
    first = (await house.call("GET", "/v1/batches?limit=1", caller="EYE")).body
    [newest] = first["batches"]
    following = await house.call("GET", f"/v1/batches?limit=1&after={first['next']}", caller="EYE")
    [oldest] = following.body["batches"]
    assert [newest["cycle"], oldest["cycle"], following.body["next"]] == ["c2", "c1", None]
    assert [each["merchant"] for each in oldest["merchants"]] == ["EYE"]
    detail = (await house.call("GET", "/v1/batches/c1", caller="EYE")).body
    names = {each["name"] for each in detail["files"]}
    assert {"EYE.csv", "EYE.msgpack", "manifest.json", "positions.csv"} <= names
    assert not {name for name in names if name.startswith(("AIR", "obligations"))}
    for each in detail["files"]:
        got = await house.call("GET", f"/v1/batches/c1/files/{each['name']}", caller="EYE")
        assert (got.status, len(got.raw), each["signed"]) == (200, each["bytes"], True)
    got = await house.call("GET", "/v1/batches/c1/files/manifest.json", caller="EYE")
    assert got.raw == batch.manifest
    for path in (
        "c1/files/AIR.csv",
        "c1/files/nothing.csv",
        "c3/files/manifest.json",
        "c3",
        "c3/confirmations",
    ):
        missing = await house.call("GET", f"/v1/batches/{path}", caller="EYE")
        assert (missing.status, missing.reason) == (404, "not_found")
    house_sees = (await house.call("GET", "/v1/batches/c1")).body
    assert {"AIR.csv", "EYE.csv"} <= {each["name"] for each in house_sees["files"]}
    assert [each["merchant"] for each in house_sees["batch"]["merchants"]] == ["AIR", "EYE"]
    assert (await house.call("GET", "/v1/batches/c1", caller="OWN")).body["batch"][
        "merchants"
    ] == []


@shared
async def test_what_was_made_for_a_merchant_is_handed_out_if_it_was_made_of_this_batch(
    batch: Batch,
):
    """A workbook that lies in `renderings` is fetched by its merchant alone, and only under its own manifest."""
    house = batch.house
    folder = house.home / "renderings" / "c1"
    await asyncio.to_thread(_lay, folder, hashlib.sha256(batch.manifest).hexdigest())
    path = "/v1/batches/c1/files/statement.xlsx"
    got = await house.call("GET", path, caller="EYE")
    assert (got.status, got.raw) == (200, b"workbook of EYE")
    assert (await house.call("GET", path, caller="AIR")).status == 404
    await asyncio.to_thread(_lay, folder, "00" * 32)
    assert (await house.call("GET", path, caller="EYE")).status == 404


def _lay(folder: Path, manifest_sha256: str) -> None:
    (folder / "EYE").mkdir(parents=True, exist_ok=True)
    (folder / "EYE" / "statement.xlsx").write_bytes(b"workbook of EYE")
    listed = Renderings(
        format="tongdui-renderings/1", cycle_id="c1", sequence=1, manifest_sha256=manifest_sha256,
        parties_sha256=None, files=[],
    )  # fmt: skip
    (folder / "renderings.json").write_bytes(write_renderings(listed))


async def _own_line(batch: Batch, **changes: object) -> dict[str, Any]:
    """EYE's line of the batch, as its own books have it."""
    file = await batch.house.call("GET", "/v1/batches/c1/files/EYE.msgpack", caller="EYE")
    _, line, _ = msgpack.Unpacker(io.BytesIO(file.raw))
    named = dict(zip(LINE_FIELDS, line, strict=True))
    at = datetime.fromtimestamp(named["till_us"] // 1_000_000, UTC).isoformat()
    return {
        "at": at,
        "order": named["order"],
        "amount_cu": str(named["net_cu"]),
        "units": "10",
    } | changes


async def _send(batch: Batch, lines: list[dict[str, Any]], **more: Any) -> Answer:
    """EYE sends lines, with their totals."""
    totals = {"lines": len(lines), "amount_cu": str(sum(int(one["amount_cu"]) for one in lines))}
    body = {"name": "own", "lines": lines, "totals": totals} | more
    return await batch.house.call("POST", "/v1/batches/c1/lines", body, caller="EYE")


@shared
async def test_a_merchant_sends_its_own_lines_and_sees_what_differs(batch: Batch):
    """Tried, sent, sent again; the break is the merchant's and the house's to see, and a treasurer decides (X20)."""
    house = batch.house
    right = await _own_line(batch)
    wrong = right | {"amount_cu": str(int(right["amount_cu"]) + 5)}
    extra = {"at": right["at"], "amount_cu": "7", "reference": "till-9"}
    tried = await _send(batch, [right], dry_run=True)
    assert tried.body == {"file": None, "repeated": False, "matches": {"exact": 1}, "breaks": {}}
    sent = await _send(batch, [wrong, extra])
    assert (sent.status, sent.body["file"], sent.body["breaks"]) == (
        201,
        1,
        {"amount": 1, "extra": 1},
    )
    again = await _send(batch, [wrong, extra])
    assert (again.body["repeated"], again.body["matches"]) == (True, {})
    path = "/v1/batches/c1/breaks/EYE"
    first = (await house.call("GET", f"{path}?limit=1", caller="EYE")).body
    second = (await house.call("GET", f"{path}?limit=1&after={first['next']}", caller="EYE")).body
    breaks = first["breaks"] + second["breaks"]
    assert [(one["kind"], one["owner"]) for one in breaks] == [
        ("amount", "EYE"),
        ("extra", "HOUSE"),
    ]
    assert second["next"] is None
    assert breaks[0]["ours"][0]["amount_cu"] == right["amount_cu"]
    assert breaks[1]["theirs"][0]["place"] == "$.lines[1]"
    assert (await house.call("GET", path)).body["breaks"] == breaks
    assert (await house.call("GET", path, caller="AIR")).status == 404
    strange = await _send(batch, [extra], figure="gross")
    assert (strange.status, strange.reason) == (409, "file_refused")
    nothing = await house.call("GET", "/v1/batches/c1/breaks/OWN")
    assert (nothing.status, nothing.reason) == (404, "not_found")

    await added(house, "tina", "treasurer")
    await session_of(house, "tina")
    number, why = breaks[0]["match"], {"why": "rounded at the till"}
    decide = f"/v1/admin/matches/{number}"
    assert (await house.call("POST", f"{decide}/accept", why)).status == 403
    for strange_no in ("abc", "９", "99999999999"):
        path_of = f"/v1/admin/matches/{quote(strange_no)}/undo"
        none = await house.call("POST", path_of, why, caller="tina")
        assert (none.status, none.reason) == (409, "match_refused")
    accepted = await house.call("POST", f"{decide}/accept", why, caller="tina")
    assert accepted.body == {"match": number, "state": "accepted"}
    once = await house.call("POST", f"{decide}/accept", why, caller="tina")
    assert (once.status, once.reason) == (409, "match_refused")
    left = (await house.call("GET", path)).body["breaks"]
    assert [one["kind"] for one in left] == ["extra"]
    undone = await house.call("POST", f"{decide}/undo", why, caller="tina")
    assert undone.body["state"] == "undone"
    open_now = {one["kind"] for one in (await house.call("GET", path)).body["breaks"]}
    assert open_now == {"missing", "extra"}

    statement = house.home / "packages/c1/statements/EYE.msgpack"
    whole = statement.read_bytes()
    statement.write_bytes(whole[:-1])
    for away in (await house.call("GET", path), await _send(batch, [right])):
        assert (away.status, away.reason) == (503, "unavailable")
    statement.write_bytes(whole)


@shared
@pytest.mark.parametrize(
    ("changes", "more", "field"),
    [
        ({}, {"totals": {"lines": 2, "amount_cu": "7"}}, "$.totals.lines"),
        ({}, {"totals": {"lines": 1, "amount_cu": "8"}}, "$.totals.amount_cu"),
        ({"amount_cu": "1e3"}, {"totals": {"lines": 1, "amount_cu": "7"}}, "$.lines[0].amount_cu"),
        ({"at": "0001-01-01T00:00:00+14:00"}, {}, "$.lines[0].at"),
        ({"order": "a\u0000"}, {}, "$.lines[0].order"),
        ({"colour": "red"}, {}, "$.lines[0].colour"),
    ],
)
async def test_lines_that_do_not_add_up_are_refused_whole(batch, changes, more, field):
    """Totals, amounts, times: the field is named, and nothing is stored (X15)."""
    count = "SELECT count(*) FROM settlement.merchant_file"
    before = await batch.house.pool.fetchval(count)
    line = {"at": "2026-11-21T03:00:00Z", "amount_cu": "7"} | changes
    body = {"name": "own", "lines": [line], "totals": {"lines": 1, "amount_cu": "7"}} | more
    answer = await batch.house.call("POST", "/v1/batches/c1/lines", body, caller="EYE")
    assert (answer.status, answer.body["field"]) == (400, field), answer.raw
    assert await batch.house.pool.fetchval(count) == before


@shared
@pytest.mark.parametrize(
    ("changes", "how", "says"),
    [
        ({"merchant": "AIR"}, {}, "the document is of AIR, and the key of EYE"),
        ({}, {"caller": "AIR"}, "AIR has no key that is called so"),
        ({}, {"key": AIR_KEY}, "EYE has no key that is called so"),
        ({}, {"key": GONE_KEY}, "EYE has no key that is called so"),
        ({"manifest_sha256": "00" * 32}, {}, "names another manifest"),
        ({"sequence": 2}, {}, "names another manifest"),
        ({"cycle_id": "c2"}, {}, "the document is of cycle c2, not of c1"),
        ({"cycle_id": "c2"}, {"cycle": "c2"}, "names another manifest"),
        ({"verdict": "objected"}, {}, "an objection says why"),
    ],
)
async def test_a_document_that_is_not_this_merchants_of_this_batch_is_refused(
    batch, changes, how, says
):
    """Another's name or key, a revoked key, another batch, no reason: it says what is wrong, and nothing is entered."""
    count = "SELECT count(*) FROM settlement.confirmation"
    before = await batch.house.pool.fetchval(count)
    answer = await batch.say(batch.document(**changes), **how)
    assert (answer.status, answer.reason) == (422, "confirmation_invalid")
    assert says in answer.body["detail"]
    assert await batch.house.pool.fetchval(count) == before


@shared
async def test_a_merchant_without_a_line_has_nothing_to_confirm(batch: Batch):
    """OWN takes part, but has no line in this batch (Z1)."""
    own = Identity(Ed25519PrivateKey.generate())
    answer = await batch.house.call("POST", "/v1/keys", {"csr": own.csr("OWN")}, caller="OWN")
    assert answer.status == 201
    said = await batch.say(batch.document(merchant="OWN"), key=own, caller="OWN")
    assert (said.reason, "OWN has no line in cycle c1" in said.body["detail"]) == (
        "confirmation_invalid",
        True,
    )


@shared
async def test_what_was_said_stays_and_silence_is_no_consent(batch: Batch):
    """A confirmation, the same again, an objection: none replaces another; who says nothing in time is silent."""
    house = batch.house
    assert await batch.standing("house") == [("AIR", "waiting", False), ("EYE", "waiting", False)]
    first = await batch.say(batch.document())
    assert (first.status, first.body["late"]) == (201, False)
    again = await batch.say(batch.document())
    assert again.body == first.body
    order = "01595c79-ac18-7001-8000-000000000002"
    why = {"verdict": "objected", "reason": "缺少一笔", "orders": [order]}
    second = await batch.say(batch.document(**why))
    assert (second.body["verdict"], second.body["orders"]) == ("objected", 1)
    listed = (await house.call("GET", "/v1/batches/c1/confirmations")).body["confirmations"]
    assert listed == [first.body, second.body]
    assert (await house.call("GET", "/v1/batches/c1/confirmations", caller="AIR")).body == {
        "confirmations": [],
        "next": None,
    }
    # A week and a day: AIR has said nothing, and says it then.
    house.clock.advance(9 * 86_400)
    try:
        assert await batch.standing("house") == [
            ("AIR", "silent", True),
            ("EYE", "objected", False),
        ]
        late = await batch.say(batch.document(merchant="AIR"), key=AIR_KEY, caller="AIR")
        assert (late.status, late.body["late"]) == (201, True)
        assert await batch.standing("AIR") == [("AIR", "confirmed", True)]
    finally:
        house.clock.advance(-9 * 86_400)
    actions = await house.pool.fetch(
        "SELECT who, action, subject FROM settlement.trail WHERE action LIKE 'batch.%' ORDER BY entry_no"
    )
    assert [(row["action"], row["subject"]) for row in actions] == [
        ("batch.confirm", "EYE"), ("batch.object", "EYE"), ("batch.confirm", "AIR"),
    ]  # fmt: skip
    assert all(row["who"].startswith("key:") for row in actions)
