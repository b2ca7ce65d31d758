"""Outcomes that come later: signed, repeated, out of order; and acknowledged only when they are durable."""

import asyncio
import json
import random
import socket

import aiohttp
import pytest

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.contract import NotSent, Outcome, Step
from adapters.kit.guard import checked
from adapters.kit.http_auth import Sent, signature_headers
from adapters.kit.manifest import AnswersWay
from adapters.kit.protocols.http_callback.client import build, load_callback_mapping
from adapters.kit.protocols.http_mapping.figures import write_json
from adapters.kit.protocols.http_mapping.load import load_mapping
from adapters.kit.protocols.http_mapping.rules import judge_callback
from adapters.kit.registry import MERCHANTS
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import Fault
from adapters.kit.simulator.gate import new_key_pair
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason
from tests.adapters.scene import DAY, QUICK_SECONDS, credit, ending, hold, scene, with_manifest

CODE = "bright-optics"
MEMBER = "BO-77-0001"
SHARED = {
    "kind": "hmac",
    "secret": "env:SHARED",
    "sign": "{path} {timestamp} {body}",
    "headers": {"X-Sign": "{timestamp}:{signature}"},
}


def by_hmac(folder):
    """The merchant signs its callbacks with a key that both share."""
    settings = folder.manifest.settings
    callback = {**settings["callback"], "auth": SHARED}
    return with_manifest(folder, settings=settings | {"callback": callback})


@pytest.mark.parametrize("change", [None, by_hmac], ids=["ed25519", "hmac"])
async def test_outcome_comes_by_callback(change):
    """Every call is taken with the promise of an answer, and the answer comes, with number and units."""
    async with scene(CODE, change) as (made, system):
        kept, given = hold(MEMBER, 20), credit(MEMBER, 30)
        for ask, call in (
            (system.hold, kept),
            (system.capture, ending(Step.CAPTURE, kept)),
            (system.credit, given),
            (system.reverse_credit, ending(Step.REVERSE_CREDIT, given)),
        ):
            count = len(made.late)
            taken = await ask(call)
            assert (taken.outcome, taken.expected) == (Outcome.UNKNOWN, True)
            reference, receipt = (await made.late_answers(count + 1))[-1]
            assert reference == call.reference
            assert (receipt.outcome, receipt.units) == (Outcome.DONE, call.units)
            booked = made.ledger.find(reference)
            assert booked is not None
            assert receipt.number == booked.number
            assert (await system.status(call)).outcome is Outcome.DONE


async def test_refusal_comes_by_callback():
    """What the system refuses later is refused with its reason."""
    async with scene(CODE) as (made, system):
        for call, reason in (
            (hold("BO-77-0002", 56), Reason.INSUFFICIENT_POINTS),
            (hold("nobody"), Reason.UNKNOWN_MEMBER),
            (ending(Step.CAPTURE, hold(MEMBER)), Reason.CALL_NOT_FOUND),
        ):
            count = len(made.late)
            ask = system.capture if call.step is Step.CAPTURE else system.hold
            assert (await ask(call)).expected
            (await made.late_answers(count + 1))
            assert made.late[-1][1].reason is reason
            assert (await system.status(call)).reason is reason


async def test_callback_is_acknowledged_only_when_it_is_durable():
    """While nobody could make the answer durable it is not acknowledged, and so it comes again."""
    async with scene(CODE) as (made, system):
        made.sink_fails = 2
        call = hold(MEMBER)
        await system.hold(call)
        assert [reference for reference, _ in await made.late_answers(1)] == [call.reference]
        assert made.sink_fails == 0


@pytest.mark.parametrize("fault", [Fault.TIMEOUT_AFTER, Fault.CUT, Fault.GARBAGE, Fault.TRUNCATED])
async def test_callback_comes_although_the_call_was_not_answered(fault):
    """A call whose own answer is lost is unknown, and its outcome still comes by callback."""
    async with scene(CODE, seconds=QUICK_SECONDS) as (made, system):
        call = hold(MEMBER)
        made.fails(fault, reference=call.reference)
        receipt = await system.hold(call)
        assert (receipt.outcome, receipt.expected) == (Outcome.UNKNOWN, False)
        assert (await made.late_answers(1))[0][1].outcome is Outcome.DONE


@pytest.mark.parametrize("fault", [Fault.TIMEOUT_BEFORE, Fault.MAINTENANCE])
async def test_no_callback_comes_for_what_was_not_taken(fault):
    """A call that never reached the system has no callback, and is not found."""
    async with scene(CODE, seconds=QUICK_SECONDS) as (made, system):
        lost, next_one = hold(MEMBER), hold(MEMBER)
        made.fails(fault, reference=lost.reference)
        assert (await system.hold(lost)).outcome is Outcome.UNKNOWN
        assert (await system.status(lost)).reason is Reason.CALL_NOT_FOUND
        await system.hold(next_one)
        assert [reference for reference, _ in await made.late_answers(1)] == [next_one.reference]


async def test_repeated_callback_is_handed_on_each_time():
    """A callback that comes three times says the same three times, and is acknowledged each time."""
    async with scene(CODE) as (made, system):
        call = hold(MEMBER)
        made.fails(Fault.REPEAT_CALLBACK, reference=call.reference)
        await system.hold(call)
        answers = await made.late_answers(3)
        assert len({repr(answer) for answer in answers}) == 1
        assert len(made.ledger.entries) == 1


async def test_callbacks_may_come_out_of_order():
    """A callback that is overtaken by a later one still names its own call."""
    async with scene(CODE) as (made, system):
        first, second = hold(MEMBER, 1), hold(MEMBER, 2)
        made.fails(Fault.REORDER_CALLBACK, reference=first.reference)
        await system.hold(first)
        await system.hold(second)
        answers = await made.late_answers(2)
        assert [reference for reference, _ in answers] == [second.reference, first.reference]
        assert [receipt.units for _, receipt in answers] == [2, 1]


async def test_late_callback_comes_after_inquiry_told_the_outcome():
    """The inquiry tells the outcome before a late callback does, and both say the same."""
    async with scene(CODE) as (made, system):
        call = hold(MEMBER)
        made.fails(Fault.LATE_CALLBACK, 0.1, reference=call.reference)
        await system.hold(call)
        status = await system.status(call)
        assert made.late == []
        assert (await made.late_answers(1))[0][1] == status


@pytest.mark.parametrize(
    ("fault", "seconds"), [(Fault.WRONG_SIGNATURE, 0), (Fault.CLOCK_SKEW, 400)]
)
async def test_callback_that_is_not_signed_now_and_by_the_merchant_is_not_taken(fault, seconds):
    """A callback that another key signed, or that is signed for another time, is never handed on."""
    async with scene(CODE) as (made, system):
        call, good = hold(MEMBER, 1), hold(MEMBER, 2)
        made.fails(fault, seconds, reference=call.reference)
        await system.hold(call)
        await system.hold(good)
        await made.late_answers(1)
        await asyncio.sleep(0.1)
        assert {reference for reference, _ in made.late} == {good.reference}
        assert (await system.status(call)).outcome is Outcome.DONE


async def test_wrong_amount_in_a_callback_is_a_breach():
    """A callback that names other units is not done, whoever checks it."""
    async with scene(CODE) as (made, system):
        call = hold(MEMBER, 10)
        made.fails(Fault.WRONG_AMOUNT, reference=call.reference)
        await system.hold(call)
        _, receipt = (await made.late_answers(1))[0]
        assert receipt.units == 11
        assert checked(call, receipt).outcome is Outcome.UNKNOWN


async def test_statement_and_questions_are_answered_at_once():
    """Members, balances and statements need no callback."""
    async with scene(CODE) as (made, system):
        await system.hold(hold(MEMBER, 15))
        await made.late_answers(1)
        assert (await system.look_up(MEMBER)).member == MEMBER
        assert (await system.balance(MEMBER)).units == 90_000 - 15
        assert [line.units async for line in system.statement(DAY)] == [15]


# --- the listener ---------------------------------------------------------------------------------

REFERENCE = hold(MEMBER).reference
DONE = {
    "data": {
        "operation": {"client_ref": REFERENCE, "state": "succeeded", "id": "op_1", "amount": "5"}
    }
}


def changed(**fields):
    """A callback with other fields."""
    return {"data": {"operation": DONE["data"]["operation"] | fields}}


class Merchant:
    """Posts to a listener by hand, with the merchant's own key."""

    def __init__(self, made, adapter, private):
        self.url = adapter._listener.url
        self.auth = adapter._listener._settings.auth
        self.private = private
        self.made = made

    async def post(self, body, *, signed=None, key=None, **headers):
        """Post a body, signed as itself or as another."""
        raw = body if isinstance(body, bytes) else write_json(body)
        path = "/" + self.url.split("/", 3)[3]
        sent = Sent(method="POST", host="", path=path, query="", body=signed or raw)
        made = signature_headers(
            self.auth, key or self.private, sent, now_us=self.made.clock(), nonce="0123456789"
        )
        async with aiohttp.ClientSession() as session:
            answer = await session.post(self.url, data=raw, headers=made | headers)
            return answer.status, await answer.read()


@pytest.fixture
async def merchant():
    """A listener whose merchant is the test."""
    async with scene(CODE) as (made, _):
        public, private = new_key_pair(made.stage.random)
        keys = made.running.secrets | {"env:BRIGHT_OPTICS_CALLBACK_KEY": public}
        adapter = made.bare(secrets=Secrets(keys))
        await adapter.start()
        yield Merchant(made, adapter, private)
        await adapter.close()


@pytest.mark.parametrize(
    ("body", "how", "status", "handed_on"),
    [
        (DONE, {}, 200, 1),
        (changed(state="failed", failure="account_blocked"), {}, 200, 1),
        (changed(state="processing"), {}, 200, 0),
        (changed(state="dreaming"), {}, 422, 0),
        (changed(amount="5.0"), {}, 422, 0),
        (changed(amount=5), {}, 422, 0),
        (changed(id=""), {}, 422, 0),
        (changed(client_ref="X" * 27), {}, 422, 0),
        (changed(client_ref=None), {}, 422, 0),
        ([], {}, 422, 0),
        (b"{", {}, 422, 0),
        (DONE, {"signed": b"{}"}, 401, 0),
        (DONE, {"key": new_key_pair(random.Random(3))[1]}, 401, 0),
        (DONE, {"X-Bo-Signature": "t=1,v1=AAAAAAAAAAAAAAAAAAAA"}, 401, 0),
        (DONE, {"X-Bo-Event": "another-event"}, 401, 0),
        (b"x" * 70_000, {}, 413, 0),
    ],
)
async def test_only_what_is_signed_and_understood_is_handed_on(
    merchant, body, how, status, handed_on
):
    """A callback is taken if the merchant signed exactly it and it says what became of a call of ours."""
    answered, acknowledgement = await merchant.post(body, **how)
    assert answered == status
    assert len(merchant.made.late) == handed_on
    if status == 200:
        assert json.loads(acknowledgement) == {"received": True}


async def test_callback_that_nobody_takes_is_told_to_come_again(merchant):
    """When the taker of answers fails, the merchant hears 503, not that it was received."""
    merchant.made.sink_fails = 1
    assert (await merchant.post(DONE))[0] == 503
    assert (await merchant.post(DONE))[0] == 200
    assert len(merchant.made.late) == 1


async def test_workers_share_the_port():
    """Several workers listen on the port that the manifest names, and any of them takes a callback."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with scene(CODE) as (made, _):
        made.folder = made.folder.with_settings({"callback": {"port": port}})
        workers = [made.bare(), made.bare()]
        for worker in workers:
            await worker.start()
        call = hold(MEMBER)
        await workers[0].hold(call)
        assert (await made.late_answers(1))[0][0] == call.reference
        for worker in workers:
            await worker.close()


async def test_closed_adapter_sends_nothing():
    """After it is closed nothing is sent, and it says so."""
    async with scene(CODE) as (made, _):
        adapter = made.bare()
        await adapter.start()
        await adapter.close()
        with pytest.raises(NotSent):
            await adapter.hold(hold(MEMBER))


# --- settings and samples -------------------------------------------------------------------------


def test_manifest_must_say_that_answers_come_by_callback():
    """The protocol and the manifest's way of answers must fit each other."""
    folder = with_manifest(registry.find(CODE), answers=AnswersWay(way="call"))
    with pytest.raises(SchemaError, match="callback") as refused:
        build(folder, Context())
    assert refused.value.path == "bright-optics/manifest.toml: $.answers.way"


def test_mapping_must_say_how_callbacks_are_read():
    """A mapping file without a table for callbacks is refused."""
    with pytest.raises(SchemaError, match="how are callbacks read") as refused:
        load_callback_mapping(registry.find("noodle-house"))
    assert refused.value.path == "noodle-house/mapping.toml: $.callback"


async def test_key_that_is_none_is_found_before_the_first_callback():
    """A public key that cannot be read is told with its field when the adapter is built."""
    async with scene(CODE) as (made, _):
        for key in (b"short", b"-----BEGIN PUBLIC KEY-----"):
            keys = made.running.secrets | {"env:BRIGHT_OPTICS_CALLBACK_KEY": key}
            with pytest.raises(SchemaError, match="public key") as refused:
                made.bare(secrets=Secrets(keys))
            assert refused.value.path.endswith("$.settings.callback.auth.secret")


SAMPLES = sorted((MERCHANTS / CODE / "samples").glob("*.callback.json"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_recorded_callback_means_what_is_written_there(sample):
    """Each recorded callback is read as what stands beside it."""
    told = json.loads(sample.read_text())
    mapping = load_mapping(registry.find(CODE))
    reference, verdict = judge_callback(mapping, write_json(told["body"]))
    assert {
        "reference": reference,
        "outcome": verdict.outcome.value,
        "reason": verdict.reason.code if verdict.reason else None,
        "number": verdict.number,
        "units": verdict.units,
        "expected": verdict.expected,
    } == told["meaning"]
