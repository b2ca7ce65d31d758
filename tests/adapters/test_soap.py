import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from adapters.kit import registry
from adapters.kit.contract import Incomplete, NotSent, Outcome, Step
from adapters.kit.guard import Guarded, breached
from adapters.kit.protocols.soap import wire
from adapters.kit.protocols.soap.settings import read_settings
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import CONNECT, Fault
from adapters.kit.simulator.soap import PAGE_MOVEMENTS, SESSION_SECONDS
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason
from tests.adapters.scene import (
    DAY,
    QUICK_SECONDS,
    Scene,
    credit,
    ending,
    hold,
    scene,
    told,
    with_manifest,
)

AIR = "skyward-air"
MEMBER = "SK880000001"
START = 120_000
NAMESPACE = "urn:skyward-air:miles:2"


async def test_miles_are_burnt_and_given_back_accrued_and_reversed():
    """Each step does what it says, once, and a repeat gets the first answer."""
    async with scene(AIR) as (air, system):
        burnt, given = hold(MEMBER), credit(MEMBER, 500)
        assert (await system.look_up(MEMBER)).member == MEMBER
        first = await system.hold(burnt)
        assert (first.outcome, first.units) == (Outcome.DONE, 1_234)
        assert await system.hold(burnt) == first == await system.status(burnt)
        assert (await system.balance(MEMBER)).units == START - 1_234
        back = await system.release(ending(Step.RELEASE, burnt, first.number))
        assert (back.outcome, back.units) == (Outcome.DONE, 1_234)
        receipt = await system.credit(given)
        gone = await system.reverse_credit(ending(Step.REVERSE_CREDIT, given, receipt.number))
        assert gone.outcome is Outcome.DONE
        assert air.ledger.available(MEMBER) == START
        assert not air.ledger.doubled()


async def test_what_was_never_burnt_is_given_back_too():
    """Done, moves nothing, and is no breach."""
    async with scene(AIR) as (air, system):
        receipt = await system.release(ending(Step.RELEASE, hold(MEMBER)))
        assert (receipt.outcome, receipt.units) == (Outcome.DONE, None)
        assert air.ledger.entries == []


async def test_a_burn_has_no_capture():
    """Nobody asks for one; who does is refused without a call."""
    async with scene(AIR) as (air, system):
        receipt = await system.capture(ending(Step.CAPTURE, hold(MEMBER)))
        assert receipt.reason is Reason.MERCHANT_REFUSED
        assert air.ledger.entries == []


async def test_a_refusal_carries_the_mapped_reason():
    """A fault whose code the manifest maps is a refusal, for the call and for its status."""
    async with scene(AIR) as (_, system):
        for call, reason in (
            (hold("SK880000004"), Reason.INSUFFICIENT_POINTS),
            (hold("nobody"), Reason.UNKNOWN_MEMBER),
        ):
            for receipt in (await system.hold(call), await system.status(call)):
                assert (receipt.outcome, receipt.reason) == (Outcome.REFUSED, reason)
        assert (await system.look_up("nobody")).reason is Reason.UNKNOWN_MEMBER
        assert (await system.balance("nobody")).reason is Reason.UNKNOWN_MEMBER
        found = await system.authenticate(MEMBER, "000000")
        assert found.reason is Reason.MEMBER_NOT_AUTHORISED
        assert (await system.authenticate(MEMBER, "246810")).outcome is Outcome.DONE


@pytest.mark.parametrize("member", ["a\x00b", "line\nend", "\ud800", "\ufffe"])
async def test_a_member_that_xml_cannot_hold_is_unknown(member):
    """What XML 1.0 cannot write cannot be a member there."""
    async with scene(AIR) as (air, system):
        assert (await system.look_up(member)).reason is Reason.UNKNOWN_MEMBER
        assert (await system.hold(hold(member))).reason is Reason.UNKNOWN_MEMBER
        assert (await system.balance(member)).reason is Reason.UNKNOWN_MEMBER
        found = await system.authenticate(MEMBER, member)
        assert found.reason is Reason.MEMBER_NOT_AUTHORISED
        assert air.ledger.entries == []


async def test_markup_in_a_member_is_text():
    """It is escaped on the way and compared as text."""
    async with scene(AIR) as (air, system):
        odd = "<m:Miles>9</m:Miles>&amp;"
        air.ledger.enrol(odd, 10)
        assert (await system.balance(odd)).units == 10


BEFORE = [Fault.TIMEOUT_BEFORE, Fault.MAINTENANCE]
AFTER = [Fault.TIMEOUT_AFTER, Fault.CUT, Fault.GARBAGE, Fault.TRUNCATED, Fault.SLOW_BODY]


@pytest.mark.parametrize("fault", BEFORE)
async def test_what_failed_before_its_effect_is_unknown_and_then_proven_not_done(fault):
    """No answer is no outcome; the status says that there is no such call, and nothing moved."""
    async with scene(AIR, seconds=QUICK_SECONDS) as (air, system):
        air.fails(fault, operation="hold")
        call = hold(MEMBER)
        assert (await system.hold(call)).outcome is Outcome.UNKNOWN
        status = await told(system.status, call)
        assert (status.outcome, status.reason) == (Outcome.REFUSED, Reason.CALL_NOT_FOUND)
        assert air.ledger.available(MEMBER) == START


@pytest.mark.parametrize("fault", AFTER)
@pytest.mark.parametrize("step", [Step.HOLD, Step.CREDIT])
async def test_what_failed_after_its_effect_is_unknown_and_then_proven_done(fault, step):
    """Whatever becomes of the answer, the outcome is unknown until the status tells it, and moved once."""
    async with scene(AIR, seconds=QUICK_SECONDS) as (air, system):
        air.fails(fault, QUICK_SECONDS * 8, step=step)
        call = hold(MEMBER) if step is Step.HOLD else credit(MEMBER)
        do = system.hold if step is Step.HOLD else system.credit
        assert (await do(call)).outcome is Outcome.UNKNOWN
        assert (await told(system.status, call)).outcome is Outcome.DONE
        assert (await told(do, call)).outcome is Outcome.DONE
        assert [entry.reference for entry in air.ledger.entries] == [call.reference]


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER])
async def test_questions_that_fail_are_unknown(fault):
    """Nothing is guessed about a call, a member or a balance."""
    async with scene(AIR, seconds=QUICK_SECONDS) as (air, system):
        call = hold(MEMBER)
        await system.hold(call)
        air.fails(fault, QUICK_SECONDS * 8, times=3)
        assert (await system.status(call)).outcome is Outcome.UNKNOWN
        assert (await system.look_up(MEMBER)).outcome is Outcome.UNKNOWN
        assert (await system.balance(MEMBER)).outcome is Outcome.UNKNOWN
        assert (await told(system.status, call)).outcome is Outcome.DONE


async def test_a_late_but_whole_answer_is_believed():
    """Latency within the deadline harms nothing."""
    async with scene(AIR) as (air, system):
        air.fails(Fault.LATENCY, 0.02, operation="hold")
        assert (await system.hold(hold(MEMBER))).outcome is Outcome.DONE


async def test_a_wrong_amount_is_a_breach_and_never_done():
    """The host says one mile more: the guard makes it unknown and keeps the units for people."""
    async with scene(AIR) as (air, system):
        air.fails(Fault.WRONG_AMOUNT, operation="hold")
        call = hold(MEMBER)
        receipt = await system.hold(call)
        assert (receipt.outcome, receipt.units) == (Outcome.UNKNOWN, 1_235)
        assert breached(call, receipt)


async def test_a_connection_that_ends_at_once_did_nothing():
    """No session could be opened: not sent, and nothing moved."""
    async with scene(AIR) as (air, system):
        air.fails(Fault.TLS_FAILURE, operation=CONNECT)
        with pytest.raises(NotSent):
            await system.hold(hold(MEMBER))
        assert air.ledger.entries == []


async def test_a_forgotten_reference_does_not_move_miles_twice_by_itself():
    """A host that forgets says "no such call"; the adapter reports that and sends nothing again."""
    async with scene(AIR) as (air, system):
        call = hold(MEMBER)
        air.fails(Fault.FORGET, operation="hold")
        assert (await system.hold(call)).outcome is Outcome.DONE
        assert (await system.status(call)).reason is Reason.CALL_NOT_FOUND
        assert len(air.ledger.entries) == 1


@pytest.mark.parametrize(
    ("skew_seconds", "outcome"), [(3_600, Outcome.UNKNOWN), (60, Outcome.DONE)]
)
async def test_a_clock_that_is_far_off_refuses_without_deciding(skew_seconds, outcome):
    """A host that finds our token too old does nothing; that is no refusal of the call."""
    async with scene(AIR) as (air, system):
        air.fails(Fault.CLOCK_SKEW, skew_seconds, operation="hold")
        assert (await system.hold(hold(MEMBER))).outcome is outcome
        assert len(air.ledger.entries) == (outcome is Outcome.DONE)


# --- who we are, and sessions ---


async def test_a_wrong_password_opens_no_session():
    """The host does not know us: nothing is sent, nothing moves."""
    async with scene(AIR) as (air, _):
        password = air.folder.manifest.settings["password"]
        context = air.context(secrets=Secrets({password: b"wrong"}))
        system = air.guarded(registry.build(air.folder, context))
        await system.start()
        with pytest.raises(NotSent):
            await system.hold(hold(MEMBER))
        await system.close()
        assert air.ledger.entries == []


async def test_a_session_that_ended_is_opened_again_and_the_call_made_once():
    """After the session's life the next call signs in anew, and moves miles once."""
    async with scene(AIR) as (air, system):
        await system.look_up(MEMBER)
        air.clock.us += SESSION_SECONDS * 1_000_000
        call = hold(MEMBER)
        assert (await system.hold(call)).outcome is Outcome.DONE
        assert [entry.reference for entry in air.ledger.entries] == [call.reference]


async def test_many_calls_that_meet_an_ended_session_open_one():
    """One caller signs in; the others wait for it and use its session."""
    async with scene(AIR) as (air, system):
        await system.look_up(MEMBER)
        before = air.asked("sign_in")
        air.clock.us += SESSION_SECONDS * 1_000_000
        calls = [hold(MEMBER, units) for units in range(1, 11)]
        receipts = await asyncio.gather(*map(system.hold, calls))
        assert {receipt.outcome for receipt in receipts} == {Outcome.DONE}
        assert air.asked("sign_in") == before + 1
        assert len(air.ledger.entries) == 10


def message(air: Scene, nonce: bytes, *, user: str = "tongdui", old_seconds: int = 0) -> bytes:
    """A look-up of somebody who knows the password."""
    (password,) = air.running.secrets.values()
    created = wire.instant_text(air.clock.us - old_seconds * 1_000_000)
    header = [wire.security(user, password, nonce, created)]
    body = wire.element(NAMESPACE, "SignIn", [])
    return wire.write_envelope(NAMESPACE, header, body)


async def posted(air: Scene, body: bytes) -> tuple[int, str]:
    """Status, and the code of the fault if there is one."""
    url = air.folder.manifest.settings["base_url"] + air.folder.manifest.settings["path"]
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
        said = wire.read_envelope(await answer.read(), NAMESPACE).body
        return answer.status, said.findtext("faultcode") or ""


async def test_the_host_takes_a_token_once_and_only_in_its_time():
    """A recorded message that comes again, an old one, a stranger's, a broken one: not executed."""
    async with scene(AIR) as (air, _):
        first = message(air, b"1" * 16)
        assert await posted(air, first) == (200, "")
        assert await posted(air, first) == (500, "wsse:FailedAuthentication")
        stranger = message(air, b"2" * 16, user="somebody")
        assert await posted(air, stranger) == (500, "wsse:FailedAuthentication")
        old = message(air, b"3" * 16, old_seconds=301)
        assert await posted(air, old) == (500, "wsse:MessageExpired")
        assert await posted(air, b"<a/>") == (500, "soap:Client")
        air.clock.us += 3_600 * 1_000_000
        assert await posted(air, message(air, b"1" * 16)) == (200, "")


Answer = Callable[[str, int], str]


@asynccontextmanager
async def host_that_says(answer: Answer) -> AsyncIterator[tuple[Guarded, list[str]]]:
    """A host of our own making, and what it was asked; `answer` writes the body of each answer."""
    asked: list[str] = []

    async def post(request: web.Request) -> web.Response:
        found = wire.read_envelope(await request.read(), NAMESPACE)
        operation = found.body.tag.rpartition("}")[2]
        asked.append(operation)
        said = answer(operation, len(asked))
        head = f"<m:MessageId>{found.header['MessageId']}</m:MessageId>"
        body = (
            f'<e:Envelope xmlns:e="{wire.SOAP}" xmlns:m="{NAMESPACE}"><e:Header>{head}</e:Header>'
            f"<e:Body>{said}</e:Body></e:Envelope>"
        )
        status = 500 if "e:Fault" in said else 200
        return web.Response(body=body.encode(), status=status, content_type="text/xml")

    app = web.Application()
    app.router.add_post("/services/MilesHost", post)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with scene(AIR) as (air, _):
        folder = air.folder.with_settings({"base_url": url})
        system = air.guarded(registry.build(folder, air.context()))
        await system.start()
        try:
            yield system, asked
        finally:
            await system.close()
            await runner.cleanup()


def signing_in(operation: str, number: int) -> str:
    """A new session."""
    assert operation == "SignIn"
    return f"<m:SignInResponse><m:Session>s{number}</m:Session></m:SignInResponse>"


def fault(code: str, executed: str) -> str:
    """A fault."""
    said = f"<m:Executed>{executed}</m:Executed>" if executed else ""
    detail = f"<detail><m:Fault><m:Code>{code}</m:Code>{said}</m:Fault></detail>"
    return f"<e:Fault><faultcode>e:Client</faultcode><faultstring/>{detail}</e:Fault>"


@pytest.mark.parametrize(
    ("executed", "asked"),
    [
        ("false", ["SignIn", "BurnMiles", "SignIn", "BurnMiles"]),
        ("true", ["SignIn", "BurnMiles"]),
        ("", ["SignIn", "BurnMiles"]),
    ],
)
async def test_a_call_is_made_again_only_if_the_host_says_that_it_was_not_executed(executed, asked):
    """Once more in a new session, never a third time; else the outcome is unknown and stays so."""

    def answer(operation: str, number: int) -> str:
        if operation == "SignIn":
            return signing_in(operation, number)
        return fault("SESSION_EXPIRED", executed)

    async with host_that_says(answer) as (system, seen):
        assert (await system.hold(hold(MEMBER))).outcome is Outcome.UNKNOWN
        assert seen == asked


async def test_a_host_that_opens_no_session_was_not_sent_the_call():
    """Without a session nothing leaves that could move miles."""
    async with host_that_says(lambda *_: fault("HOST_BUSY", "false")) as (system, seen):
        with pytest.raises(NotSent):
            await system.hold(hold(MEMBER))
        assert seen == ["SignIn"]


async def test_a_host_that_is_silent_while_signing_in_was_not_sent_the_call():
    """Half of the deadline, and then it is still certain."""
    async with scene(AIR, seconds=QUICK_SECONDS) as (air, system):
        air.fails(Fault.TIMEOUT_BEFORE, operation="sign_in")
        with pytest.raises(NotSent):
            await system.hold(hold(MEMBER))
        assert air.asked("hold") == 0


# --- the day's statement ---


async def test_the_statement_says_what_the_books_say_over_several_pages():
    """Every movement once, in order, with reference, step, member, miles, number and instant."""
    async with scene(AIR) as (air, system):
        for number in range(PAGE_MOVEMENTS * 2 + 1):
            reference = credit(MEMBER).reference
            air.ledger.book(Step.CREDIT, reference, MEMBER, number + 1)
        lines = [line async for line in system.statement(DAY)]
        assert [
            (line.reference, line.step, line.member, line.units, line.at_us, line.number)
            for line in lines
        ] == [
            (entry.reference, entry.step, entry.member, entry.moved, entry.at_us, entry.number)
            for entry in air.ledger.entries
        ]
        assert air.asked("statement") == 3


async def test_a_day_without_movements_has_an_empty_statement():
    """Empty, with totals of nothing: that is whole."""
    async with scene(AIR) as (_, system):
        assert [line async for line in system.statement(DAY)] == []


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER, Fault.WRONG_AMOUNT])
async def test_a_statement_whose_last_page_fails_is_incomplete(fault):
    """Whatever spoils a page, the statement is not whole."""
    async with scene(AIR, seconds=QUICK_SECONDS) as (air, system):
        for _ in range(PAGE_MOVEMENTS + 1):
            air.ledger.book(Step.CREDIT, credit(MEMBER).reference, MEMBER, 1)
        air.fails(fault, QUICK_SECONDS * 16, operation="statement", nth=2)
        with pytest.raises(Incomplete):
            [line async for line in system.statement(DAY)]


MOVEMENT = (
    "<m:Movement><m:PartnerReference>R</m:PartnerReference><m:Kind>BURN</m:Kind>"
    "<m:MemberNumber>M</m:MemberNumber><m:Miles>5</m:Miles>"
    "<m:BookedAt>2026-03-02T01:00:00Z</m:BookedAt></m:Movement>"
)
TOTALS = "<m:MovementCount>1</m:MovementCount><m:MilesTotal>5</m:MilesTotal>"
PAGES = [
    (MOVEMENT + TOTALS, "", True),
    (MOVEMENT, "without its totals", False),
    (MOVEMENT + TOTALS.replace("5", "6"), "make 5", False),
    (MOVEMENT + MOVEMENT + TOTALS, "make 10", False),
    (MOVEMENT + "<m:Page>1</m:Page>", "twice", False),
    (MOVEMENT.replace("BURN", "GIFT") + TOTALS, "cannot be read", False),
    (MOVEMENT.replace(">5<", ">0<") + TOTALS, "names no", False),
    (MOVEMENT.replace(">5<", ">five<") + TOTALS, "cannot be read", False),
    (MOVEMENT.replace("00Z", "00") + TOTALS, "cannot be read", False),
    (MOVEMENT.replace("<m:MemberNumber>M</m:MemberNumber>", "") + TOTALS, "cannot be", False),
]


@pytest.mark.parametrize(("page", "what", "whole"), PAGES, ids=[what for _, what, _ in PAGES])
async def test_a_page_is_read_exactly_or_not_at_all(page, what, whole):
    """Totals, kinds, miles, instants and the chain of pages: each is checked."""

    def answer(operation: str, number: int) -> str:
        if operation == "SignIn":
            return signing_in(operation, number)
        said = f"<m:Date>{DAY.isoformat()}</m:Date>{page}"
        return f"<m:RetrieveStatementResponse>{said}</m:RetrieveStatementResponse>"

    async with host_that_says(answer) as (system, _):
        if whole:
            assert [line.units async for line in system.statement(DAY)] == [5]
            return
        with pytest.raises(Incomplete, match=what):
            [line async for line in system.statement(DAY)]


# --- settings ---

WRONG_SETTINGS = [
    ({"codes": {"X": "no_such_reason"}}, r"settings\.codes\.X"),
    ({"fields": {"amount": "MemberNumber"}}, r"settings\.fields\.amount"),
    ({"operations": {"hold": "SignIn"}}, r"settings\.operations\.hold"),
    ({"kinds": {"hold": "ACCRUAL"}}, r"settings\.kinds"),
    ({"namespace": "no uri"}, r"settings\.namespace"),
    ({"base_url": "http://miles.example"}, "base_url"),
    ({"endpoint": "x"}, r"settings\.endpoint"),
]


@pytest.mark.parametrize(("changed", "path"), WRONG_SETTINGS, ids=lambda value: str(value)[:40])
def test_a_bad_setting_is_refused_by_its_path(changed, path):
    """Whoever fills in the folder is told which key is wrong."""
    folder = registry.find(AIR).with_settings(changed)
    with pytest.raises(SchemaError) as caught:
        read_settings(folder)
    assert re.search(path, str(caught.value))


def test_a_manifest_that_promises_holds_is_refused():
    """This protocol burns; a manifest that says otherwise would strand points."""
    folder = registry.find(AIR)
    spend = type(folder.manifest.spend)(way="hold")
    with pytest.raises(SchemaError, match=r"spend\.way"):
        read_settings(with_manifest(folder, spend=spend))
