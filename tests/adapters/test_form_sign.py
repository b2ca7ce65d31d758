import asyncio
import datetime as dt
import re
import socket
import uuid
from typing import Any

import aiohttp
import pytest

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.contract import Incomplete, NotSent, Outcome, Step
from adapters.kit.folder import Folder
from adapters.kit.guard import Guarded, breached
from adapters.kit.protocols.form_sign import wire
from adapters.kit.protocols.form_sign.notify import read_notification
from adapters.kit.protocols.form_sign.settings import read_settings
from adapters.kit.signers import read_signer, read_verifier
from adapters.kit.simulator.faults import CONNECT, Fault
from adapters.kit.simulator.form_sign import KEYS
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason
from tests.adapters.scene import (
    DAY,
    QUICK_SECONDS,
    credit,
    ending,
    hold,
    scene,
    told,
    with_manifest,
)

MALL = "silk-road-mall"
MEMBER = "SR100001"
START = 1_000_000


def by_callback(folder: Folder) -> Folder:
    """The same mall, whose outcomes come by notification alone."""
    answers = folder.manifest.answers
    return with_manifest(folder, answers=type(answers)(way="callback", seconds=answers.seconds))


def inside(system: Guarded) -> Any:
    """The adapter behind the guard."""
    return system._adapter


DIALECTS = [
    {"sign_type": "RSA2", "charset": "GBK", "answer": "json"},
    {"sign_type": "SM2", "charset": "GBK", "answer": "form"},
    {"sign_type": "RSA2", "charset": "UTF-8", "answer": "form"},
]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda words: "-".join(words.values()))
async def test_every_operation_is_understood_in_each_dialect(dialect):
    """RSA2 and SM2, GBK and UTF-8, JSON and forms: the same order comes to the same books."""
    async with scene(MALL, **dialect) as (mall, system):
        member = "会员贰拾"
        assert (await system.look_up(member)).member == member
        taken = hold(member)
        receipt = await system.hold(taken)
        assert (receipt.outcome, receipt.units) == (Outcome.DONE, 1_234)
        assert (await system.status(taken)).number == receipt.number
        done = await system.capture(ending(Step.CAPTURE, taken, receipt.number))
        assert done.outcome is Outcome.DONE
        assert (await system.balance(member)).units == 60_000 - 1_234
        assert [line.step async for line in system.statement(DAY)] == [Step.HOLD, Step.CAPTURE]
        late = await mall.late_answers(2)
        assert {reference for reference, _ in late} == {
            taken.reference,
            taken.reference[:-1] + "C",
        }


async def test_a_hold_is_released_and_a_credit_reversed():
    """Each step does what it says, once, and a repeat gets the first answer."""
    async with scene(MALL) as (mall, system):
        taken, given = hold(MEMBER), credit(MEMBER, 500)
        first = await system.hold(taken)
        assert await system.hold(taken) == first
        assert mall.ledger.available(MEMBER) == START - 1_234
        back = await system.release(ending(Step.RELEASE, taken, first.number))
        assert (back.outcome, back.units) == (Outcome.DONE, 1_234)
        receipt = await system.credit(given)
        assert mall.ledger.available(MEMBER) == START + 500
        gone = await system.reverse_credit(ending(Step.REVERSE_CREDIT, given, receipt.number))
        assert gone.outcome is Outcome.DONE
        assert mall.ledger.available(MEMBER) == START
        assert not mall.ledger.doubled()


async def test_a_hold_that_never_was_is_released_too():
    """Giving back what was never taken is done, moves nothing, and is no breach."""
    async with scene(MALL) as (mall, system):
        call = ending(Step.RELEASE, hold(MEMBER))
        receipt = await system.release(call)
        assert (receipt.outcome, receipt.units) == (Outcome.DONE, None)
        assert mall.ledger.entries == []


REFUSED = [
    (hold("SR100004"), Reason.INSUFFICIENT_POINTS),
    (hold("nobody"), Reason.UNKNOWN_MEMBER),
    (ending(Step.CAPTURE, hold(MEMBER)), Reason.CALL_NOT_FOUND),
]


@pytest.mark.parametrize(("call", "reason"), REFUSED, ids=lambda value: getattr(value, "name", ""))
async def test_a_refusal_carries_the_mapped_reason(call, reason):
    """A signed code that the manifest maps is a refusal, for the call and for its status."""
    async with scene(MALL) as (_, system):
        do = {Step.HOLD: system.hold, Step.CAPTURE: system.capture}[call.step]
        receipt = await do(call)
        assert (receipt.outcome, receipt.reason) == (Outcome.REFUSED, reason)
        assert (await system.status(call)).outcome is Outcome.REFUSED


async def test_another_body_under_a_reference_is_a_conflict():
    """One reference, two amounts: the second is refused, and the first stands."""
    async with scene(MALL) as (mall, system):
        order = uuid.uuid4()
        await system.hold(hold(MEMBER, 100, order))
        receipt = await system.hold(hold(MEMBER, 200, order))
        assert receipt.reason is Reason.IDEMPOTENCY_CONFLICT
        assert mall.ledger.available(MEMBER) == START - 100


@pytest.mark.parametrize("member", ["a&b", "line\nend", "😀", "\ud800"])
async def test_a_member_that_the_charset_cannot_hold_is_unknown(member):
    """What cannot be written in GBK, or would pass for two pairs, cannot be a member there."""
    async with scene(MALL) as (mall, system):
        assert (await system.look_up(member)).reason is Reason.UNKNOWN_MEMBER
        assert (await system.hold(hold(member))).reason is Reason.UNKNOWN_MEMBER
        assert (await system.balance(member)).reason is Reason.UNKNOWN_MEMBER
        assert mall.ledger.entries == []


async def test_who_presents_the_wrong_proof_is_not_authorised():
    """The proof is the mall's to judge."""
    async with scene(MALL) as (_, system):
        assert (await system.authenticate(MEMBER, "246810")).outcome is Outcome.DONE
        for proof in ("000000", "a&b"):
            found = await system.authenticate(MEMBER, proof)
            assert found.reason is Reason.MEMBER_NOT_AUTHORISED


BEFORE = [Fault.TIMEOUT_BEFORE, Fault.MAINTENANCE]
AFTER = [
    Fault.TIMEOUT_AFTER,
    Fault.CUT,
    Fault.GARBAGE,
    Fault.TRUNCATED,
    Fault.SLOW_BODY,
    Fault.WRONG_SIGNATURE,
]


@pytest.mark.parametrize("fault", BEFORE)
async def test_what_failed_before_its_effect_is_unknown_and_then_proven_not_done(fault):
    """No answer is no outcome; the status says that there is no such call, and nothing moved."""
    async with scene(MALL, seconds=QUICK_SECONDS) as (mall, system):
        mall.fails(fault)
        call = hold(MEMBER)
        assert (await system.hold(call)).outcome is Outcome.UNKNOWN
        status = await told(system.status, call)
        assert (status.outcome, status.reason) == (Outcome.REFUSED, Reason.CALL_NOT_FOUND)
        assert mall.ledger.available(MEMBER) == START


@pytest.mark.parametrize("fault", AFTER)
@pytest.mark.parametrize("step", [Step.HOLD, Step.CREDIT])
async def test_what_failed_after_its_effect_is_unknown_and_then_proven_done(fault, step):
    """Whatever becomes of the answer, the outcome is unknown until the status tells it, and moved once."""
    async with scene(MALL, seconds=QUICK_SECONDS) as (mall, system):
        mall.fails(fault, QUICK_SECONDS * 8)
        call = hold(MEMBER) if step is Step.HOLD else credit(MEMBER)
        do = system.hold if step is Step.HOLD else system.credit
        assert (await do(call)).outcome is Outcome.UNKNOWN
        assert (await told(system.status, call)).outcome is Outcome.DONE
        assert (await told(do, call)).outcome is Outcome.DONE
        assert [entry.reference for entry in mall.ledger.entries] == [call.reference]


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER])
async def test_an_inquiry_that_fails_leaves_the_outcome_unknown(fault):
    """The status call fails as any other does, and says nothing then."""
    async with scene(MALL, seconds=QUICK_SECONDS) as (mall, system):
        call = hold(MEMBER)
        await system.hold(call)
        mall.fails(fault, QUICK_SECONDS * 8, operation="status")
        assert (await system.status(call)).outcome is Outcome.UNKNOWN
        assert (await told(system.status, call)).outcome is Outcome.DONE


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER])
async def test_questions_about_a_member_that_fail_are_unknown(fault):
    """Nothing is guessed about a member or a balance either."""
    async with scene(MALL, seconds=QUICK_SECONDS) as (mall, system):
        mall.fails(fault, QUICK_SECONDS * 8, times=2)
        assert (await system.look_up(MEMBER)).outcome is Outcome.UNKNOWN
        assert (await system.balance(MEMBER)).outcome is Outcome.UNKNOWN


async def test_a_late_but_whole_answer_is_believed():
    """Latency within the deadline harms nothing."""
    async with scene(MALL) as (mall, system):
        mall.fails(Fault.LATENCY, 0.02)
        assert (await system.hold(hold(MEMBER))).outcome is Outcome.DONE


async def test_a_wrong_amount_is_a_breach_and_never_done():
    """The mall says one unit more: the guard makes it unknown and keeps the units for people."""
    async with scene(MALL) as (mall, system):
        mall.fails(Fault.WRONG_AMOUNT)
        call = hold(MEMBER)
        receipt = await system.hold(call)
        assert (receipt.outcome, receipt.units) == (Outcome.UNKNOWN, 1_235)
        assert breached(call, receipt)


async def test_a_connection_that_ends_at_once_did_nothing():
    """The connection is lost before an answer: unknown or not sent, and nothing moved."""
    async with scene(MALL) as (mall, system):
        mall.fails(Fault.TLS_FAILURE, operation=CONNECT)
        try:
            receipt = await system.hold(hold(MEMBER))
        except NotSent:
            pass
        else:
            assert receipt.outcome is Outcome.UNKNOWN
        assert mall.ledger.entries == []


async def test_a_mall_that_is_not_there_was_not_sent_anything():
    """A refused connection is certain: nothing left us."""
    async with scene(MALL) as (mall, _):
        folder = mall.folder.with_settings({"base_url": "http://127.0.0.1:1"})
        system = mall.guarded(registry.build(folder, mall.context()))
        await system.start()
        with pytest.raises(NotSent):
            await system.hold(hold(MEMBER))
        await system.close()


async def test_a_forgotten_reference_does_not_move_points_twice_by_itself():
    """A mall that forgets says "no such call"; the adapter reports that and sends nothing again."""
    async with scene(MALL) as (mall, system):
        mall.fails(Fault.FORGET)
        call = hold(MEMBER)
        assert (await system.hold(call)).outcome is Outcome.DONE
        assert (await system.status(call)).reason is Reason.CALL_NOT_FOUND
        assert len(mall.ledger.entries) == 1


@pytest.mark.parametrize(
    ("skew_seconds", "outcome"), [(3_600, Outcome.UNKNOWN), (60, Outcome.DONE)]
)
async def test_a_clock_that_is_far_off_refuses_without_deciding(skew_seconds, outcome):
    """A gateway that finds our time too old does nothing; that is no refusal of the call."""
    async with scene(MALL) as (mall, system):
        mall.fails(Fault.CLOCK_SKEW, skew_seconds)
        assert (await system.hold(hold(MEMBER))).outcome is outcome
        assert len(mall.ledger.entries) == (outcome is Outcome.DONE)


async def test_a_gateway_that_does_not_know_our_key_decides_nothing():
    """Our signature is checked too: with another key every call is let in by nobody."""
    async with scene(MALL) as (mall, _):
        settings = read_settings(mall.folder)
        secrets = dict(mall.running.secrets)
        secrets[settings.private_key] = (KEYS / "merchant-rsa2.pem").read_bytes()
        context = mall.context(secrets=type(mall.stage.secrets)(secrets))
        system = registry.build(mall.folder, context)
        await system.start()
        assert (await system.hold(hold(MEMBER))).outcome is Outcome.UNKNOWN
        assert mall.ledger.entries == []
        await system.close()


async def test_an_older_answer_does_not_pass_for_this_one():
    """An answer that the gateway signed for another call does not repeat this call's nonce."""
    async with scene(MALL) as (mall, system):
        call = hold(MEMBER)
        await system.hold(call)
        stale: list[bytes] = []

        async def replay(request: aiohttp.web.Request) -> aiohttp.web.Response:
            url = mall.folder.manifest.settings["base_url"] + request.path
            if not stale:
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(url, data=await request.read(), headers=request.headers) as answer,
                ):
                    stale.append(await answer.read())
            return aiohttp.web.Response(body=stale[0], content_type="application/json")

        app = aiohttp.web.Application()
        app.router.add_post("/gateway.do", replay)
        runner = aiohttp.web.AppRunner(app)
        await runner.setup()
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        folder = mall.folder.with_settings({"base_url": f"http://127.0.0.1:{port}"})
        between = registry.build(folder, mall.context())
        await between.start()
        assert (await between.status(call)).outcome is Outcome.DONE
        assert (await between.status(call)).outcome is Outcome.UNKNOWN
        await between.close()
        await runner.cleanup()


# --- notifications ---


async def test_an_outcome_that_is_told_later_comes_by_notification():
    """Where answers come by callback a call is only taken; the notification tells, also a refusal."""
    async with scene(MALL, by_callback) as (mall, system):
        good, bad = hold(MEMBER), hold("SR100004")
        for call in (good, bad):
            receipt = await system.hold(call)
            assert (receipt.outcome, receipt.expected) == (Outcome.UNKNOWN, True)
        late = dict(await mall.late_answers(2))
        assert (late[good.reference].outcome, late[good.reference].units) == (Outcome.DONE, 1_234)
        assert late[bad.reference].reason is Reason.INSUFFICIENT_POINTS


async def test_the_notification_tells_an_outcome_whose_answer_was_lost():
    """The answer is cut; the notification brings the same receipt a moment later."""
    async with scene(MALL) as (mall, system):
        mall.fails(Fault.CUT)
        call = hold(MEMBER)
        assert (await system.hold(call)).outcome is Outcome.UNKNOWN
        assert await mall.late_answers(1) == [(call.reference, await system.status(call))]


async def test_a_notification_is_acknowledged_only_when_it_is_durable():
    """While the sink fails, `success` is not answered, and the gateway posts again until it is."""
    async with scene(MALL) as (mall, system):
        mall.sink_fails = 2
        call = hold(MEMBER)
        await system.hold(call)
        assert [reference for reference, _ in await mall.late_answers(1)] == [call.reference]
        assert mall.sink_fails == 0


async def test_a_repeated_notification_says_the_same_twice():
    """Both are acknowledged; the sink gets one outcome twice."""
    async with scene(MALL) as (mall, system):
        mall.fails(Fault.REPEAT_CALLBACK)
        await system.hold(hold(MEMBER))
        first, second = await mall.late_answers(2)
        assert first == second


async def test_reordered_notifications_each_name_their_own_call():
    """The hold's notification comes after the capture's; neither is taken for the other."""
    async with scene(MALL, by_callback) as (mall, system):
        mall.fails(Fault.REORDER_CALLBACK, step=Step.HOLD)
        taken = hold(MEMBER)
        await system.hold(taken)
        await system.capture(ending(Step.CAPTURE, taken))
        late = await mall.late_answers(2)
        assert [reference[-1] for reference, _ in late] == ["C", "H"]
        assert {receipt.outcome for _, receipt in late} == {Outcome.DONE}


async def test_a_late_notification_still_counts():
    """It comes after an inquiry has told the outcome, and says the same."""
    async with scene(MALL, by_callback) as (mall, system):
        mall.fails(Fault.LATE_CALLBACK, 0.05)
        call = hold(MEMBER)
        await system.hold(call)
        assert mall.late == []
        assert (await system.status(call)).outcome is Outcome.DONE
        assert (await mall.late_answers(1))[0][1].outcome is Outcome.DONE


async def test_a_notification_that_another_key_signed_is_not_taken():
    """The sink hears nothing, the answer is not `success`; the status tells the outcome."""
    async with scene(MALL, by_callback) as (mall, system):
        mall.fails(Fault.WRONG_SIGNATURE)
        call = hold(MEMBER)
        assert (await system.hold(call)).outcome is Outcome.UNKNOWN
        await asyncio.sleep(0.05)
        assert mall.late == []
        assert (await system.status(call)).outcome is Outcome.DONE


def notification(**changed: str) -> bytes:
    """A notification as the gateway signs it, with some pairs changed before."""
    signer = read_signer("RSA2", (KEYS / "merchant-rsa2.pem").read_bytes(), where="$")
    pairs = {
        "app_id": "2026030200047711",
        "out_trade_no": hold(MEMBER, order=uuid.UUID(int=1)).reference,
        "trade_state": "SUCCESS",
        "trade_no": "0000000001",
        "points": "12.34",
    }
    return wire.write_form(wire.signed(pairs | changed, signer, "RSA2", "GBK"), "GBK")


async def posted(url: str, body: bytes) -> tuple[int, str]:
    """What is answered to a notification."""
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
        return answer.status, await answer.text()


NOT_TAKEN = [
    (notification(app_id="2026030200047712"), "for somebody else"),
    (notification(out_trade_no="20260302-1"), "about no call of ours"),
    (notification(points="12.345"), "an amount that cannot be read"),
    (notification(trade_state="CLOSED"), "a state that decides nothing"),
    (notification().replace(b"12.34", b"12.35"), "altered"),
    (notification() + b"&points=99.00", "a pair twice"),
    (b"\xb2\xa2", "no form"),
    (b"", "nothing"),
]


@pytest.mark.parametrize(("body", "what"), NOT_TAKEN, ids=[what for _, what in NOT_TAKEN])
async def test_a_notification_that_cannot_be_believed_is_not_acknowledged(body, what):
    """Only a notification that is the gateway's, for us, and understood is answered `success`."""
    async with scene(MALL) as (mall, system):
        url = inside(system)._listener.url
        status, text = await posted(url, body)
        assert (status, text) == (400, "fail")
        assert await posted(url, notification()) == (200, "success")
        assert len(mall.late) == 1


async def test_two_workers_share_the_port_of_notifications():
    """A fixed port is listened on by every order worker; one of them takes each notification."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with scene(MALL, notify={"port": port}) as (mall, system):
        other = mall.bare()
        await other.start()
        url = inside(system)._listener.url
        assert url == f"http://127.0.0.1:{port}/notify"
        for number in range(1, 9):
            assert await posted(url, notification()) == (200, "success")
            assert len(mall.late) == number
        await other.close()


async def test_a_notification_without_an_outcome_is_taken_and_changes_nothing():
    """One that says "still being worked on" comes late and undoes nothing: the sink never hears it."""
    async with scene(MALL) as (mall, system):
        url = inside(system)._listener.url
        body = notification(trade_state="PROCESSING", points="", trade_no="")
        assert await posted(url, body) == (200, "success")
        assert mall.late == []


def test_a_notification_in_gbk_is_verified_over_its_own_bytes():
    """The signature covers the bytes in the charset agreed; the same text in UTF-8 is another."""
    folder = registry.find(MALL)
    settings = read_settings(folder)
    public = (KEYS / "merchant-rsa2-public.pem").read_bytes()
    verifier = read_verifier("RSA2", public, where="$")
    reference, receipt = read_notification(
        notification(member_no="会员贰拾"), settings, verifier, scale=2
    )
    assert (reference[-1], receipt.units) == ("H", 1_234)
    signer = read_signer("RSA2", (KEYS / "merchant-rsa2.pem").read_bytes(), where="$")
    pairs = {"app_id": settings.app_id, "out_trade_no": reference, "member_no": "会员贰拾"}
    foreign = wire.write_form(wire.signed(pairs, signer, "RSA2", "UTF-8"), "GBK")
    with pytest.raises(SchemaError, match="signature"):
        read_notification(foreign, settings, verifier, scale=2)


# --- the day's statement ---

SPOILED = [
    *((fault, "statement") for fault in (*BEFORE, *AFTER, Fault.WRONG_AMOUNT)),
    *((fault, "statement_file") for fault in (*BEFORE, Fault.TIMEOUT_AFTER, Fault.CUT)),
    *((fault, "statement_file") for fault in (Fault.GARBAGE, Fault.TRUNCATED, Fault.SLOW_BODY)),
]


@pytest.mark.parametrize(("fault", "operation"), SPOILED)
async def test_a_statement_that_is_not_whole_is_incomplete(fault, operation):
    """Whatever spoils the answer or the file, no line of it is given."""
    async with scene(MALL, seconds=QUICK_SECONDS) as (mall, system):
        await system.hold(hold(MEMBER))
        mall.fails(fault, QUICK_SECONDS * 16, operation=operation)
        given = []
        with pytest.raises(Incomplete):
            given.extend([line async for line in system.statement(DAY)])
        assert given == []
        assert len([line async for line in system.statement(DAY)]) == 1


async def test_a_day_without_movements_has_an_empty_statement():
    """Empty, with totals of nothing: that is whole."""
    async with scene(MALL) as (_, system):
        assert [line async for line in system.statement(DAY - dt.timedelta(days=1))] == []


async def test_the_statement_says_what_the_books_say():
    """Every movement, with reference, step, member, units, number and second."""
    async with scene(MALL) as (mall, system):
        taken = hold(MEMBER)
        await system.hold(taken)
        await system.release(ending(Step.RELEASE, taken))
        await system.credit(credit("会员贰拾", 7))
        lines = [line async for line in system.statement(DAY)]
        assert [
            (line.reference, line.step, line.member, line.units, line.at_us, line.number)
            for line in lines
        ] == [
            (entry.reference, entry.step, entry.member, entry.moved, entry.at_us, entry.number)
            for entry in mall.ledger.entries
        ]


async def test_a_statement_that_was_altered_is_refused_by_its_digest(monkeypatch):
    """One member more or less in the file, and totals that still add up: not what was signed for."""
    async with scene(MALL) as (_, system):
        await system.hold(hold(MEMBER))
        fetch = inside(system)._fetch

        async def altered(url: str) -> bytes:
            return (await fetch(url)).replace(b"SR100001", b"SR100002")

        monkeypatch.setattr(inside(system), "_fetch", altered)
        with pytest.raises(Incomplete, match="signed for"):
            [line async for line in system.statement(DAY)]


async def test_a_statement_is_fetched_from_the_gateway_alone():
    """A signed answer that names another host is not followed."""
    async with scene(MALL) as (_, system):
        for url in ("http://169.254.169.254/x", "//evil.example/x", "", "http://["):
            with pytest.raises(Incomplete, match=r"at the gateway|no address"):
                await inside(system)._fetch(url)


# --- settings ---

WRONG_SETTINGS = [
    ({"codes": {"X": "no_such_reason"}}, r"settings\.codes\.X"),
    ({"fields": {"amount": "member_no"}}, r"settings\.fields\.amount"),
    ({"fields": {"amount": "sign"}}, r"settings\.fields\.amount"),
    ({"methods": {"hold": "points.deduct"}}, r"settings\.methods"),
    ({"statement": {"steps": {"hold": "扣减"}}}, r"settings\.statement\.steps"),
    ({"charset": "Big5"}, r"settings\.charset"),
    ({"sign_type": "MD5"}, r"settings\.sign_type"),
    ({"base_url": "http://mall.example"}, "base_url"),
    ({"gate": "x"}, r"settings\.gate"),
]


@pytest.mark.parametrize(("changed", "path"), WRONG_SETTINGS, ids=lambda value: str(value)[:40])
def test_a_bad_setting_is_refused_by_its_path(changed, path):
    """Whoever fills in the folder is told which key is wrong."""
    folder = registry.find(MALL).with_settings(changed)
    with pytest.raises(SchemaError) as caught:
        read_settings(folder)
    assert re.search(path, str(caught.value))


def test_a_missing_key_is_refused_when_the_adapter_is_built(monkeypatch):
    """Not at night, at the first call."""
    monkeypatch.delenv("SILK_ROAD_MALL_PRIVATE_KEY", raising=False)
    folder = registry.find(MALL)
    with pytest.raises(SchemaError, match="SILK_ROAD_MALL_PRIVATE_KEY"):
        registry.build(folder, Context())
