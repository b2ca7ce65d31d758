"""Maker and checker: what needs two people is done by two people, once, and by no other way."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from adapters.kit import registry
from adapters.kit.conformance.examination import Finding, all_clauses
from deploy.database.connection import open_writer_connection
from exchange.core.catalogue import MemberRules
from exchange.programme.core.command import Compensate
from exchange.programme.service.rider import ProgrammeRider
from exchange.service import onboarding, people
from exchange.service.access import issue_api_key
from exchange.service.certification import certify
from exchange.service.compensating import Compensation, give
from exchange.service.connecting import connect_merchant
from exchange.service.controlled import ACTIONS, INVITING, set_alone
from exchange.service.corrections import take_file
from exchange.service.proposals import LIFE, ProposalDesk
from exchange.service.sessions import LIFE as SESSION_LIFE
from exchange.service.sessions import SESSION_PREFIX
from exchange.service.terms import merchant_terms
from exchange.service.vaults import VaultDoor
from exchange.store.connections import fetch_connections
from exchange.store.people import fetch_person, insert_session, set_credentials
from schemas.files.corrections import COLUMNS, read_corrections
from schemas.values.ids import key_bytes
from schemas.values.reason import Refusal
from schemas.wire.merchants import MerchantRequest, RateTerms
from settlement.core.calendar import Calendar
from settlement.core.command import Order
from settlement.core.dispute import Figures
from settlement.core.event import Kind
from settlement.core.remainders import ZONE
from settlement.core.trail import CONTROLLED, PROGRAM, By, Change, SecondPersonNeeded
from settlement.service import cycles, disputes, trail
from settlement.service.arrangements import list_pairs
from settlement.service.clearing import Writer
from settlement.service.funding import Moved, move_asked
from settlement.service.objections import Objections
from settlement.service.settling import default_change
from settlement.service.trail import audit_trail
from settlement.signing.keyring import Keyring
from tests.gateway.conftest import AIR, House, fresh_key, merchant
from tests.gateway.test_people import added, session_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.gateway.conftest import Answer

ANNA, BEN, CARL = "anna", "ben", "carl"
WHY = "contract 12"
KEY = hashlib.sha256(b"a key").hexdigest()


async def staff(house: House) -> None:
    """Anna is operator and treasurer, Ben treasurer, Carl operator, all with credentials: four eyes are in force."""
    for name, roles in (
        (ANNA, ["operator", "treasurer"]),
        (BEN, ["treasurer"]),
        (CARL, ["operator"]),
    ):
        await added(house, name, *roles)
        await session_of(house, name)
        async with house.pool.acquire() as conn, conn.transaction():
            row = await fetch_person(conn, name=name)
            assert row is not None
            await set_credentials(
                conn, person_no=row["person_no"], password_hash="-", totp_sealed=b"-", recovery=[]
            )
            by = By(who="local:root", second="" if name != CARL else "person:ben")
            await people.set_roles(conn, name=name, roles=roles, by=by, now=house.services.now())


async def proposed(house: House, action: str, terms: dict[str, Any], *, by: str = ANNA) -> Answer:
    """Propose a change."""
    body = {"action": action, "terms": terms, "why": WHY}
    return await house.call("POST", "/v1/admin/proposals", body, caller=by)


async def approved(house: House, made: Answer, *, by: str = BEN, **changes: str) -> Answer:
    """Approve it as it was shown."""
    path = f"/v1/admin/proposals/{made.body['proposal_no']}/approve"
    return await house.call("POST", path, {"digest": made.body["digest"]} | changes, caller=by)


def csr() -> str:
    """A certification request of a fresh key in the name of AIR."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AIR")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, None)
    return made.public_bytes(Encoding.PEM).decode()


CAP = ("cap.set", {"merchant": "AIR", "cap_cu": "7000000"})


FILE = f"{','.join(COLUMNS)}\nadjust,,AIR,EYE,,7,7,1,CNY,\nTOTAL,1,,,0,7,7,1,CNY,\n".encode()


async def open_case(house: House) -> None:
    """A case of the house, whose other sides had their time to answer."""
    case = disputes.Opening(
        opener=0, order=None, issuer=1, acceptor=2, claim=Figures(-9, -9, 0), text="see match 7",
        key=key_bytes(fresh_key()), body=bytes(16),
    )  # fmt: skip
    before = house.services.now() - timedelta(days=8)
    opened = await disputes.open_dispute(house.pool, case, by=By(who="local:root"), at=before)
    assert not isinstance(opened, Refusal)


async def a_quarter_before(house: House) -> str:
    """An order leaves a remainder in a cycle that closes; then its quarter passes. Returns the quarter."""
    order = Order(
        2, key_bytes(fresh_key()), bytes(16), 1, 2, 7, units=10, debit_cu=1_000, value_cu=990,
        fee_cu=0, rate_no=1,
    )  # fmt: skip
    [[entry]] = await house.writer.submit([order])
    assert entry.kind == Kind.CLEARED
    await cycles.close_cycle(house.writer, cycle_no=1, next_id="c2")
    day = house.services.now().astimezone(ZONE)
    house.clock.advance(100 * 86_400)
    return f"{day.year}Q{(day.month + 2) // 3}"


async def compensation(house: House) -> dict[str, str]:
    """Terms of a compensation: EYE was at fault with an order of AIR's points."""
    await house.accrue("anna", "AIR", 100)
    order = await house.order(AIR | {"units": "10"}, caller="EYE")
    assert order.status == 201, order.raw
    named = {"order_id": order.body["order_id"], "at_fault": "EYE", "merchant": "AIR"}
    return named | {"choice": "points", "units": "3"}


async def test_every_controlled_change_is_made_by_two(house: House):
    """Each kind of change is proposed by one, approved by another, is in force then, and in the trail with both."""
    quarter = await a_quarter_before(house)
    await staff(house)
    await open_case(house)
    joining = merchant("NEW", 100) | {"earn_units": "5"}
    wanted: list[tuple[str, dict[str, Any]]] = [
        ("merchant.join", {"merchant": joining, "api_key_sha256": KEY}),
        ("rate.set", {"merchant": "NEW", "side": "issue", "rate": {"cu": "120", "units": "1"}}),
        ("tariff.set", {"fee_bps": 60}),
        ("calendar.set", {"times": ["12:00"], "holidays": ["2026-12-25"]}),
        (
            "arrangement.set",
            {"arrangement": "noon", "model": "bilateral", "pairs": [["NEW", "AIR"]]},
        ),
        ("calendar.set", {"times": ["09:00"], "arrangement": "noon"}),
        ("member_rules.set", {"merchant": "NEW", "daily_orders": 3}),
        CAP,
        ("collateral.set", {"merchant": "AIR", "collateral_cu": "50"}),
        ("cycle.default", {"cycle": "c1", "debtor": "AIR"}),
        ("cycle.settle", {"cycle": "c1"}),
        ("funds.move", {"giver": "BANK", "taker": "AIR", "cu": "500"}),
        ("api_key.issue", {"merchant": "EYE", "sha256": KEY[::-1], "label": "till"}),
        ("caller_key.register", {"csr": csr(), "label": "till"}),
        ("person.add", {"name": "dora", "roles": ["support"], "invitation_sha256": KEY}),
        ("person.invite", {"name": "dora", "invitation_sha256": KEY[::-1]}),
        ("person.link", {"name": "dora", "subject": "dora@id"}),
        ("person.set_roles", {"name": "dora", "roles": ["auditor"]}),
        ("dispute.decide", {"dispute": "D1", "outcome": "accept"}),
        ("corrections.take", {"merchant": "HOUSE", "file": FILE.decode()}),
        ("remainders.return", {"quarter": quarter}),
        ("compensation.give", await compensation(house)),
    ]
    assert {action for action, _ in wanted} == set(ACTIONS) - {"merchant.connect"}
    for wrong in ({"times": ["24:00"]}, {"zone": "Asia/Nowhere"}, {"weekdays": [0]}):
        refused = await proposed(house, "calendar.set", wrong)
        assert (refused.status, refused.reason) == (400, "malformed_request"), refused.raw
    for never in (
        {"arrangement": "noon", "pairs": [["AIR", "EYE"]]},  # new, and without a model
        {"arrangement": "main", "model": "bilateral"},
        {"arrangement": "main", "pairs": [["AIR", "AIR"]]},
        {"arrangement": "main", "pairs": [["AIR", "NOBODY"]]},
        {"arrangement": "No", "model": "bilateral"},
    ):
        refused = await proposed(house, "arrangement.set", never)
        assert (refused.status, refused.reason) == (400, "malformed_request"), refused.raw
    for action, terms in wanted:
        made = await proposed(house, action, terms)
        assert (made.status, made.body["state"]) == (201, "open"), made.raw
        done = await approved(house, made)
        assert (done.status, done.body["state"]) == (200, "done"), (action, done.raw)
        assert (done.body["maker"], done.body["decider"]) == ("person:anna", "person:ben")
        entry = await house.pool.fetchrow(
            "SELECT who, second, why FROM settlement.trail WHERE action = $1 ORDER BY entry_no DESC",
            action,
        )
        assert entry is not None
        assert tuple(entry) == ("person:anna", "person:ben", WHY), action
        assert ("second" in done.body) == (action in INVITING)
    listed = (await house.call("GET", "/v1/merchants")).body["merchants"]
    figures = {each["code"]: (each["cap_cu"], each["collateral_cu"]) for each in listed}
    assert figures["AIR"] == ("7000000", "50")
    assert figures["NEW"][0] == joining["cap_cu"]
    house.keys["NEW"] = "a key"
    assert (await house.call("GET", "/v1/cycles", caller="NEW")).body["cycles"][0][
        "state"
    ] == "settled"
    offer = await house.services.shelf.offer()
    new, now_us = offer.catalogue.by_code["NEW"], house.clock()
    issue = offer.catalogue.issue_rate(new, now_us)
    assert issue is not None
    assert issue.rate.num == 120
    assert offer.catalogue.fee_bps(now_us) == 60
    in_force = await cycles.calendar_at(house.pool, house.services.now())
    assert (in_force.times, in_force.holidays) == (("12:00",), (date(2026, 12, 25),))
    of_noon = await cycles.calendar_at(house.pool, house.services.now(), arrangement="noon")
    assert of_noon.times == ("09:00",)
    [pair] = await list_pairs(house.pool)
    # The open cycle goes on, and its close turns the pair.
    assert (pair["arrangement"], pair["next"]) == ("main", "noon")
    await cycles.close_cycle(house.writer, cycle_no=2, next_id="c3")
    [pair] = await list_pairs(house.pool)
    assert (pair["arrangement"], pair["next"]) == ("noon", None)
    views = (await house.call("GET", "/v1/cycles?state=open")).body["cycles"]
    assert {view.get("arrangement", "main") for view in views} == {"main", "noon"}
    assert (await house.call("GET", "/v1/positions")).body["cycle"] == "c3"
    async with house.pool.acquire() as conn:
        report, _, _ = await audit_trail(conn)
    assert report.clean, report.differences


def _ways(house: House, by: By) -> dict[str, Callable[[], Awaitable[object]]]:
    """Every function that makes a controlled change, called by one person alone."""
    pool, writer, now = house.pool, house.writer, house.services.now()
    terms = merchant_terms(
        MerchantRequest(code="ALONE", name="x", spend=RateTerms(cu="1", units="1"), cap_cu="1")
    )

    async def in_transaction(work: Callable[[Any], Awaitable[object]]) -> object:
        async with pool.acquire() as conn, conn.transaction():
            return await work(conn)

    digest = bytes(32)
    invited: dict[str, Any] = {"invitation": digest, "second": None, "by": by, "now": now}
    return {
        "merchant.join": lambda: onboarding.register_merchant(
            pool, writer, terms, by=by, now=now, effective_at=now
        ),
        "merchant.connect": lambda: connect_merchant(
            pool, merchant_no=3, code="OWN", folder="noodle-house", settings={},
            certificate_digest=None, by=by, now=now,
        ),
        "tariff.set": lambda: onboarding.set_tariff(
            pool, fee_bps=1, by=by, now=now, effective_at=now
        ),
        "rate.set": lambda: in_transaction(
            lambda conn: onboarding.enact_rate(
                conn, code="AIR", merchant_no=1, side="spend", rate=terms.spend, before=None,
                by=by, now=now, effective_at=now,
            )
        ),
        "member_rules.set": lambda: onboarding.protect_members(
            pool, code="AIR", rules=MemberRules(effective_at_us=0), by=by, now=now, effective_at=now
        ),
        "calendar.set": lambda: cycles.set_calendar(
            pool, Calendar(), by=by, now=now, effective_at=now
        ),
        "arrangement.set": lambda: set_alone(
            pool, writer, "arrangement.set",
            {"arrangement": "x", "model": "bilateral", "pairs": []},
            keys=Path(), by=by, now=now,
        ),
        "cycle.settle": lambda: cycles.settle_asked(
            pool, writer, by=by, now=now, cycle_no=1, cycle_id="c1"
        ),
        "cycle.default": lambda: trail.ask(pool, by, default_change(Objections("c1", ()), "AIR"), at=now),
        "funds.move": lambda: move_asked(
            pool, writer, Moved(-4, 0, 1, 0, 500), names={1: "AIR"}, by=by, now=now
        ),
        "api_key.issue": lambda: issue_api_key(
            pool, merchant_no=1, code="AIR", label="x", by=by, now=now
        ),
        "caller_key.register": lambda: house.services.keys.register(
            csr(), caller=0, codes={1: "AIR"}, label="", overlap_hours=None, by=by, now=now
        ),
        "person.add": lambda: in_transaction(
            lambda conn: people.add_person(
                conn, name="eve", roles=["operator"], merchant_no=0, merchant="HOUSE", **invited
            )
        ),
        "person.invite": lambda: in_transaction(
            lambda conn: people.invite_person(conn, name=BEN, **invited)
        ),
        "person.link": lambda: in_transaction(
            lambda conn: people.link_person(conn, name=CARL, subject="eve", by=by, now=now)
        ),
        "person.set_roles": lambda: in_transaction(
            lambda conn: people.set_roles(conn, name=CARL, roles=["treasurer"], by=by, now=now)
        ),
        "dispute.decide": lambda: in_transaction(
            lambda conn: disputes.decide(conn, 1, granted=None, by=by, at=now)
        ),
        "corrections.take": lambda: take_file(
            pool, writer, read_corrections(FILE), sender="HOUSE", by=by, at=now,
            door=VaultDoor(pool, Path()),
        ),
        "remainders.return": lambda: trail.ask(
            pool, by, Change(action="remainders.return", subject="2020Q1", after={}), at=now
        ),
        "compensation.give": lambda: give(
            pool, writer,
            Compensation(
                change=Change(action="compensation.give", subject="EYE", after={}),
                command=Compensate(0, bytes(16), b"", 7, 1, 3, at_fault=2),
                cost_cu=0, expires_at_us=0, refusal=None,
            ),
            by=by, at=now,
        ),
    }  # fmt: skip


async def _everything(house: House) -> list[int]:
    """How many rows stand in every table that a controlled change writes, the journal included."""
    tables = (
        *("settlement.trail", "settlement.event", "settlement.merchant", "settlement.calendar"),
        *("settlement.arrangement", "settlement.pair_arrangement"),
        *("exchange.rate", "exchange.tariff", "exchange.member_rules", "exchange.connection"),
        *("exchange.api_key", "exchange.person", "exchange.programme", "exchange.signing_key"),
    )
    counted = [await house.pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables]
    changed = await house.pool.fetchval(
        "SELECT count(*) FROM exchange.person WHERE invitation IS NOT NULL OR roles = '{treasurer}'"
    )
    return [*counted, changed]


async def test_no_other_way_leads_to_a_controlled_change(house: House):
    """Once two people can approve, no route, service or key makes such a change alone; nothing is left of trying."""
    assert set(_ways(house, PROGRAM)) == CONTROLLED - {"cap.set", "collateral.set"}
    assert set(ACTIONS) == CONTROLLED
    await staff(house)
    await open_case(house)
    await cycles.close_cycle(house.writer, cycle_no=1, next_id="c2")
    before = await _everything(house)
    for who in ("local:root", "key:0123456789ab", "person:anna"):
        for action, way in _ways(house, By(who=who)).items():
            with pytest.raises(SecondPersonNeeded, match=action):
                await way()
    for caller in ("house", ANNA):
        body = merchant("ALONE", 1)
        for path, sent in (("/v1/merchants", body), ("/v1/cycles/c1/settle", None)):
            answer = await house.call("POST", path, sent, caller=caller)
            if caller == "house" or path == "/v1/cycles/c1/settle":
                assert (answer.status, answer.reason) == (403, "second_person_needed"), path
    assert await _everything(house) == before
    # Whoever shuts the others out is alone, and can do no more for it.
    for name in (BEN, CARL):
        gone = await house.call("POST", f"/v1/admin/people/{name}/disable", caller=ANNA)
        assert gone.status == 200
    with pytest.raises(SecondPersonNeeded):
        await _ways(house, By(who="person:anna"))["api_key.issue"]()


async def test_before_two_people_one_sets_the_house_up(house: House):
    """Until two people could approve each other's changes one does it alone, by any way; then four eyes begin."""
    assert isinstance(await _ways(house, By(who="local:root"))["api_key.issue"](), str)
    await staff(house)
    entries = await house.pool.fetch("SELECT action FROM settlement.trail ORDER BY entry_no")
    assert [row["action"] for row in entries].count("four_eyes.begin") == 1


async def test_two_checkers_at_once_and_again(house: House):
    """Of checkers that approve at once, and again, one approves; the change happens once in the books."""
    await staff(house)
    terms = {"merchant": "AIR", "sha256": KEY}
    key, cap = await proposed(house, "api_key.issue", terms), await proposed(house, *CAP)
    for made in (key, cap):
        answers = await asyncio.gather(
            *(approved(house, made, by=by) for by in (BEN, CARL, BEN) if made is key or by == BEN)
        )
        assert sorted(answer.status for answer in answers) == [200, *[409] * (len(answers) - 1)]
        again = await approved(house, made)
        assert (again.status, again.reason) == (409, "proposal_decided")
    assert await house.pool.fetchval("SELECT count(*) FROM settlement.event WHERE kind = 11") == 1
    made = await proposed(house, *CAP)
    path = f"/v1/admin/proposals/{made.body['proposal_no']}/reject"
    both = await asyncio.gather(
        approved(house, made), house.call("POST", path, {"why": "no"}, caller=CARL)
    )
    assert sorted(answer.status for answer in both) == [200, 409]


async def test_what_cannot_be_approved(house: House):
    """Nobody approves their own, unread, outdated, expired or rejected proposal, nor one that is not theirs."""
    await staff(house)
    made = await proposed(house, *CAP)
    await session_again(house, ANNA)
    for session in (ANNA, "anna-2"):
        assert (await approved(house, made, by=session)).reason == "own_proposal"
    assert (await approved(house, made, by=CARL)).reason == "forbidden"
    assert (await approved(house, made, by="house")).reason == "forbidden"
    assert (await approved(house, made, digest="0" * 64)).reason == "proposal_outdated"
    unknown = await house.call(
        "POST", "/v1/admin/proposals/999/approve", {"digest": "0" * 64}, caller=BEN
    )
    assert (unknown.status, unknown.reason) == (404, "proposal_not_found")
    second = await proposed(house, "cap.set", {"merchant": "AIR", "cap_cu": "8"})
    assert (await approved(house, second)).status == 200
    assert (await approved(house, made)).reason == "proposal_outdated"
    path = f"/v1/admin/proposals/{made.body['proposal_no']}"
    assert (await house.call("GET", path, caller=BEN)).body["state"] == "open"
    assert (await house.call("POST", f"{path}/reject", {"why": "old"}, caller=ANNA)).status == 200
    assert (await approved(house, made)).reason == "proposal_decided"
    for action, terms, field in (
        ("cap.set", {"merchant": "NONE", "cap_cu": "1"}, "$.terms.merchant"),
        ("cap.set", {"merchant": "AIR", "cap_cu": "-1"}, "$.terms.cap_cu"),
        ("cap.lift", {}, "$.action"),
        (
            "rate.set",
            {"merchant": "AIR", "side": "spend", "rate": {"cu": "334", "units": "1"}},
            "$.terms.rate",
        ),
        ("cycle.settle", {"cycle": "c1"}, "$.terms.cycle"),
    ):
        wrong = await proposed(house, action, terms)
        assert (wrong.status, wrong.body.get("field")) == (400, field), wrong.raw
    late = await proposed(house, "tariff.set", {"fee_bps": 1})
    house.clock.advance((LIFE + timedelta(seconds=1)).total_seconds())
    await session_again(house, BEN)
    assert (await approved(house, late, by="ben-2")).reason == "proposal_expired"


async def session_again(house: House, name: str) -> None:
    """One more session of a person."""
    token, now = f"{SESSION_PREFIX}{name}-2", house.services.now()
    async with house.pool.acquire() as conn:
        row = await fetch_person(conn, name=name)
        assert row is not None
        await insert_session(
            conn,
            digest=people.digest_of(token),
            person_no=row["person_no"],
            now=now,
            ends_at=now + SESSION_LIFE,
        )
    house.keys[f"{name}-2"] = token


async def test_a_fault_after_the_approval_is_finished_once(house: House, dsn: str):
    """What was approved while the writer was away is carried out later, by whoever looks, and once."""
    await staff(house)
    made = await proposed(house, *CAP)
    await house.writer.stop()
    assert (await approved(house, made)).status == 503
    path = f"/v1/admin/proposals/{made.body['proposal_no']}"
    assert (await house.call("GET", path, caller=BEN)).body["state"] == "approved"
    writer = Writer(
        connect=lambda: open_writer_connection(dsn), now_us=house.clock, rider=ProgrammeRider()
    )
    await writer.start()
    desk = ProposalDesk(house.pool, writer, house.home / "keys", house.services.now)
    await asyncio.gather(desk.finish(), desk.finish())
    await desk.finish()
    assert (await house.call("GET", path, caller=BEN)).body["state"] == "done"
    assert await house.pool.fetchval("SELECT count(*) FROM settlement.event WHERE kind = 11") == 1
    async with house.pool.acquire() as conn:
        report, _, _ = await audit_trail(conn)
    assert report.clean, report.differences
    await writer.stop()


async def test_an_invitation_that_was_approved_needs_both_parts(house: House):
    """Neither the maker nor the checker can become the person whom they added."""
    await staff(house)
    first = people.new_invitation()
    terms = {
        "name": "dora",
        "roles": ["operator"],
        "invitation_sha256": people.digest_of(first).hex(),
    }
    done = await approved(house, await proposed(house, "person.add", terms))
    second = done.body["second"]
    for body, status in (
        ({"invitation": first}, 409),
        ({"invitation": second}, 409),
        ({"invitation": first, "second": first}, 409),
        ({"invitation": second, "second": first}, 201),
    ):
        answer = await house.call(
            "POST",
            "/v1/session/invitation",
            body | {"password": "correct horse battery"},
            caller=None,
        )
        assert answer.status == status, (body, answer.raw)


async def test_the_database_holds_it_too(house: House):
    """A proposal can be neither changed nor decided twice nor approved by its maker, whatever the program does."""
    await staff(house)
    made = int((await proposed(house, *CAP)).body["proposal_no"])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await house.pool.execute("UPDATE exchange.proposal SET terms = '{}'")
    sql = """
        INSERT INTO exchange.proposal_decision (proposal_no, maker, decision, decider, decided_at, why, body)
        VALUES ($1, $2, 'approved', $3, now(), '', $4)
    """
    with pytest.raises(asyncpg.CheckViolationError):
        await house.pool.execute(sql, made, "person:anna", "person:anna", bytes(16))
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await house.pool.execute(sql, made, "person:ben", "person:anna", bytes(16))
    await house.pool.execute(sql, made, "person:anna", "person:ben", bytes(16))
    with pytest.raises(asyncpg.UniqueViolationError):
        await house.pool.execute(sql, made, "person:anna", "person:carl", bytes(16))


async def test_a_merchant_goes_live_with_two_people_and_a_certificate(house: House):
    """An adapter is connected by two people, and only with a certificate of the operator's that is its own."""
    code = "noodle-house"
    joined = await house.call("POST", "/v1/merchants", merchant(code, 100, hosted=False))
    assert joined.status == 201, joined.raw
    await staff(house)
    now = house.services.now()
    keyring = Keyring.create(house.home / "keys", at=now)
    findings = [Finding(id=each, sentence="-", verdict="passed") for each in all_clauses()]
    certified = certify(registry.find(code), findings, keyring, at=now)
    assert certified is not None
    certificate, signature = certified
    terms = {
        "merchant": code,
        "adapter": code,
        "certificate": certificate.decode(),
        "signature": signature.hex(),
        "settings": {},
    }
    for wrong in (
        {"certificate": certificate.decode().replace(code, "till-town")},
        {"signature": "00" * 64},
        {"adapter": "till-town"},
    ):
        made = await proposed(house, "merchant.connect", terms | wrong)
        assert (await approved(house, made)).reason == "merchant_not_certified", wrong
    done = await approved(house, await proposed(house, "merchant.connect", terms))
    assert (done.status, done.body["state"]) == (200, "done"), done.raw
    [row] = await fetch_connections(house.pool)
    assert (row["code"], row["folder"]) == (code, code)
    assert row["certificate_digest"] == hashlib.sha256(certificate).digest()
