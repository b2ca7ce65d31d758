"""A mapping file alone is an adapter: it moves points, survives every fault, and its mistakes are named."""

import json
import shutil
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.contract import Call, Incomplete, NotSent, Outcome, Step
from adapters.kit.folder import open_folder
from adapters.kit.guard import breached
from adapters.kit.http import HttpAnswer
from adapters.kit.protocols.http_mapping.figures import (
    amount_read,
    amount_written,
    read_json,
    time_read,
    time_written,
    write_json,
)
from adapters.kit.protocols.http_mapping.load import load_mapping
from adapters.kit.protocols.http_mapping.pages import Pages
from adapters.kit.protocols.http_mapping.request import known_of, request_of
from adapters.kit.protocols.http_mapping.rules import judge
from adapters.kit.protocols.http_mapping.template import filled, read_back
from adapters.kit.registry import MERCHANTS
from adapters.kit.secret import Secrets
from adapters.kit.simulator.certificates import Authority
from adapters.kit.simulator.faults import CONNECT, Fault, Rule, Scripted, Trouble
from adapters.kit.simulator.stage import set_stage
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason
from tests.adapters.scene import (
    DAY,
    DAY_US,
    QUICK_SECONDS,
    credit,
    ending,
    hold,
    scene,
    with_manifest,
)

MEMBERS = {"noodle-house": "N-1001", "orbit-coffee": "6201 0001"}
MERCHANT = pytest.mark.parametrize("code", sorted(MEMBERS))


def copied(code, to, *changes, manifest=()):
    """A copy of a merchant's folder, with its mapping (and manifest) changed."""
    folder = to / code
    shutil.copytree(MERCHANTS / code, folder)
    for name, pairs in (("mapping.toml", changes), ("manifest.toml", manifest)):
        text = (folder / name).read_text()
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new, 1)
        (folder / name).write_text(text)
    return open_folder(folder)


# --- the life of an order -------------------------------------------------------------------------


@MERCHANT
async def test_points_move_as_the_contract_says(code):
    """Hold, capture or release, credit and its reversal: each takes effect once and is told as it was."""
    member = MEMBERS[code]
    async with scene(code) as (made, system):
        before = made.folder.manifest.sandbox.members[member]
        kept, given = hold(member, 1_234), credit(member, 99)
        number = (await system.hold(kept)).number
        assert (await system.hold(kept)).number == number
        if made.folder.manifest.spend.way == "hold":
            captured = await system.capture(ending(Step.CAPTURE, kept, number))
            assert captured.outcome is Outcome.DONE
        back = hold(member, 7)
        await system.hold(back)
        for _ in range(2):
            assert (await system.release(ending(Step.RELEASE, back))).outcome is Outcome.DONE
        assert (await system.credit(given)).outcome is Outcome.DONE
        assert (await system.balance(member)).units == before - 1_234 + 99
        undone = ending(Step.REVERSE_CREDIT, given)
        assert (await system.reverse_credit(undone)).outcome is Outcome.DONE
        assert made.ledger.available(member) == before - 1_234
        assert not made.ledger.doubled()
        for call in (kept, back, given, undone, ending(Step.RELEASE, back)):
            status = await system.status(call)
            assert (status.outcome, status.units) == (Outcome.DONE, call.units)


@MERCHANT
async def test_refusals_have_their_reasons(code):
    """Each error code of the system is one reason of the catalogue, now and when it is asked for later."""
    member = MEMBERS[code]
    async with scene(code) as (made, system):
        rich, nobody, kept = hold(member, 10**6), hold("nobody"), hold(member, 5)
        await system.hold(kept)
        assert (await system.hold(rich)).reason is Reason.INSUFFICIENT_POINTS
        assert (await system.status(rich)).reason is Reason.INSUFFICIENT_POINTS
        assert (await system.hold(nobody)).reason is Reason.UNKNOWN_MEMBER
        assert (await system.credit(credit("nobody"))).reason is Reason.UNKNOWN_MEMBER
        assert (await system.status(hold(member))).reason is Reason.CALL_NOT_FOUND
        never = ending(Step.REVERSE_CREDIT, credit(member))
        assert (await system.reverse_credit(never)).reason is Reason.CALL_NOT_FOUND
        assert (await system.look_up("nobody")).reason is Reason.UNKNOWN_MEMBER
        assert (await system.balance("nobody")).reason is Reason.UNKNOWN_MEMBER
        assert (await system.authenticate(member, "0")).reason is Reason.MEMBER_NOT_AUTHORISED
        proof = made.folder.manifest.sandbox.proof
        assert (await system.authenticate(member, proof)).member == member
        made.ledger.block(member)
        assert (await system.look_up(member)).reason is Reason.MEMBER_NOT_AUTHORISED


@MERCHANT
async def test_release_that_overtakes_its_hold_keeps_it_from_standing(code):
    """A hold that never was is released too, and may not stand when it comes after all."""
    late = hold(MEMBERS[code])
    async with scene(code) as (made, system):
        assert (await system.release(ending(Step.RELEASE, late))).outcome is Outcome.DONE
        assert (await system.hold(late)).outcome is Outcome.REFUSED
        assert made.ledger.entries == []


# --- faults ---------------------------------------------------------------------------------------

SPOILT = (Fault.CUT, Fault.GARBAGE, Fault.TRUNCATED, Fault.WRONG_AMOUNT)
SILENT = (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.SLOW_BODY)
WITHOUT_EFFECT = (Fault.TIMEOUT_BEFORE, Fault.MAINTENANCE)


async def _steps(system, made, member):
    """Every call that moves points, with what must have been done before it."""
    kept, back, given = hold(member, 20), hold(member, 30), credit(member, 40)
    yield system.hold, kept
    if made.folder.manifest.spend.way == "hold":
        yield system.capture, ending(Step.CAPTURE, kept)
    await system.hold(back)
    yield system.release, ending(Step.RELEASE, back)
    yield system.credit, given
    yield system.reverse_credit, ending(Step.REVERSE_CREDIT, given)


@MERCHANT
@pytest.mark.parametrize("fault", [*SPOILT, Fault.MAINTENANCE])
async def test_spoilt_answer_is_unknown_and_inquiry_tells_the_truth(code, fault):
    """Whatever becomes of the answer to any step: unknown, then the truth by inquiry, and one effect at most."""
    async with scene(code) as (made, system):
        async for ask, call in _steps(system, made, MEMBERS[code]):
            made.fails(fault, reference=call.reference)
            receipt = await ask(call)
            assert receipt.outcome is Outcome.UNKNOWN
            assert breached(call, receipt) == (fault is Fault.WRONG_AMOUNT)
            status = await system.status(call)
            if fault in WITHOUT_EFFECT:
                assert status.reason is Reason.CALL_NOT_FOUND
                assert (await ask(call)).outcome is Outcome.DONE
            else:
                assert status.outcome is Outcome.DONE
            assert (await ask(call)).outcome is Outcome.DONE
        assert not made.ledger.doubled()


@MERCHANT
@pytest.mark.parametrize("fault", SILENT)
async def test_silence_is_unknown_at_the_deadline(code, fault):
    """No answer, or one that does not end, is unknown when the deadline has passed."""
    call = hold(MEMBERS[code])
    async with scene(code, seconds=QUICK_SECONDS) as (made, system):
        made.fails(fault, 5.0, reference=call.reference)
        assert (await system.hold(call)).outcome is Outcome.UNKNOWN
        happened = (await system.status(call)).outcome is Outcome.DONE
        assert happened == (fault not in WITHOUT_EFFECT) == bool(made.ledger.entries)


@MERCHANT
@pytest.mark.parametrize(
    ("fault", "seconds"), [(Fault.LATENCY, 0.02), (Fault.SLOW_BODY, 0.02), (Fault.CLOCK_SKEW, 900)]
)
async def test_slow_answer_in_time_is_an_answer(code, fault, seconds):
    """Latency, a trickling body, or a clock that is ahead change nothing about what was done."""
    call = hold(MEMBERS[code])
    async with scene(code) as (made, system):
        made.fails(fault, seconds, reference=call.reference)
        assert (await system.hold(call)).outcome is Outcome.DONE


@MERCHANT
async def test_forgotten_reference_is_not_found_but_not_doubled(code):
    """A system that forgets a reference says so; the repeat under it still has no second effect."""
    call = hold(MEMBERS[code])
    async with scene(code) as (made, system):
        made.fails(Fault.FORGET, reference=call.reference)
        await system.hold(call)
        assert (await system.status(call)).reason is Reason.CALL_NOT_FOUND
        assert (await system.hold(call)).outcome is Outcome.DONE
        assert len(made.ledger.entries) == 1


@MERCHANT
async def test_connection_that_ends_at_once_has_no_effect(code):
    """A connection that ends before a call could be read: never done, whatever is said about it."""
    call = hold(MEMBERS[code])
    async with scene(code) as (made, system):
        made.fails(Fault.TLS_FAILURE, operation=CONNECT, times=9)
        try:
            outcome = (await system.hold(call)).outcome
        except NotSent:
            outcome = Outcome.UNKNOWN
        assert outcome is Outcome.UNKNOWN
        assert made.ledger.entries == []


@MERCHANT
@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.TRUNCATED, Fault.CUT, Fault.MAINTENANCE])
async def test_spoilt_answer_to_a_question_is_unknown(code, fault):
    """Members, balances and inquiries that are answered with nonsense are unknown, and statements incomplete."""
    async with scene(code) as (made, system):
        made.fails(fault, times=99)
        assert (await system.look_up(MEMBERS[code])).outcome is Outcome.UNKNOWN
        assert (await system.balance(MEMBERS[code])).outcome is Outcome.UNKNOWN
        assert (await system.status(hold(MEMBERS[code]))).outcome is Outcome.UNKNOWN
        with pytest.raises((Incomplete, NotSent)):
            [line async for line in system.statement(DAY)]


# --- auth -----------------------------------------------------------------------------------------


@MERCHANT
async def test_stranger_moves_nothing(code):
    """A caller with another secret is not answered as one of ours, and nothing moves."""
    async with scene(code) as (made, _):
        secret = made.folder.manifest.settings["auth"]["secret"]
        stranger = made.bare(secrets=Secrets({secret: b"another"}))
        await stranger.start()
        try:
            assert (await stranger.hold(hold(MEMBERS[code]))).outcome is Outcome.UNKNOWN
        except NotSent:
            pass
        finally:
            await stranger.close()
        assert made.ledger.entries == []


HMAC = {
    "kind": "hmac",
    "secret": "env:ANY",
    "sign": "{method} {path}?{query} {timestamp} {nonce} {body_sha256}",
    "headers": {"X-Time": "{timestamp}", "X-Nonce": "{nonce}", "X-Sign": "{signature}"},
}


async def test_signed_calls_pass_and_late_ones_do_not():
    """The same mapping with signed requests: they pass while the clocks agree, and not when they do not."""

    def signed(folder):
        settings = folder.manifest.settings | {"auth": HMAC}
        return with_manifest(folder, settings=settings)

    async with scene("noodle-house", signed) as (made, system):
        assert (await system.balance("N-1001")).units == 5_000
        slow = made.bare(now_us=lambda: DAY_US - 400 * 1_000_000)
        await slow.start()
        balance = await slow.balance("N-1001")
        await slow.close()
        assert balance.outcome is Outcome.UNKNOWN


def certified(folder):
    """The merchant asks for our certificate, and for nothing else."""
    settings = folder.manifest.settings | {
        "auth": {"kind": "mtls"},
        "tls": {"certificate": "env:OUR_CERTIFICATE", "key": "env:OUR_KEY"},
    }
    return with_manifest(folder, settings=settings)


@pytest.mark.parametrize("change", [None, certified], ids=["server only", "mutual"])
async def test_handshake_that_fails_proves_that_nothing_was_sent(change):
    """Over TLS a connection that fails in its handshake lets the call be made again, and the next one passes."""
    authority = Authority("sandbox")
    folder = registry.find("noodle-house")
    folder = change(folder) if change else folder
    plan = Scripted([Rule(trouble=Trouble(fault=Fault.TLS_FAILURE), operation=CONNECT)])
    stage = set_stage(folder, plan=plan, authority=authority)
    async with registry.simulator(folder)(folder, stage) as running:
        context = Context(secrets=Secrets(running.secrets))
        adapter = registry.build(folder.with_settings(running.settings), context)
        await adapter.start()
        call = hold("N-1001")
        with pytest.raises(NotSent):
            await adapter.hold(call)
        receipt = await adapter.hold(call)
        await adapter.close()
    assert receipt.outcome is Outcome.DONE
    assert len(stage.ledger.entries) == 1


# --- the statement --------------------------------------------------------------------------------

PAGED = {
    "page": [],
    "link in the body": [
        ('way = "page"', 'way = "link"\nlink = "next"'),
        ('more = "has_more"', ""),
        ('page = "{page}", has_more = "{more}"', 'next = "{link}"'),
    ],
    "link in the header": [('way = "page"', 'way = "link"'), ('more = "has_more"', "")],
    "cursor": [
        ('way = "page"', 'way = "cursor"\ncursor = "next"'),
        ('more = "has_more"', ""),
        ('page = "{page}", has_more = "{more}"', 'next = "{cursor}"'),
        ('page = "{page}"', 'after = "{cursor}"'),
    ],
}


@pytest.mark.parametrize("way", sorted(PAGED))
@pytest.mark.parametrize("count", [0, 1, 3, 4])
async def test_statement_has_every_line_however_it_is_paged(way, count, tmp_path):
    """By page, cursor or link, with full and half pages: the lines are what was booked."""
    changes = [("size = 100", "size = 3"), *PAGED[way]]
    folder = copied("noodle-house", tmp_path, *changes)
    async with scene("noodle-house", lambda _: folder) as (_, system):
        calls = [credit("N-1002", 10 + place) for place in range(count)]
        for call in calls:
            await system.credit(call)
        lines = [line async for line in system.statement(DAY)]
        assert [(line.reference, line.units, line.step) for line in lines] == [
            (call.reference, call.units, Step.CREDIT) for call in calls
        ]
        assert all((line.member, line.at_us) == ("N-1002", DAY_US) for line in lines)
        assert [line async for line in system.statement(date(2026, 3, 1))] == []


async def test_signed_amounts_and_local_times_are_read():
    """A statement whose spent points are negative, in texts with decimals and wall time, says the same."""
    async with scene("orbit-coffee") as (_, system):
        spent, earned = hold("6201 0001", 1_205), credit("6201 0001", 5)
        await system.hold(spent)
        await system.credit(earned)
        lines = [line async for line in system.statement(DAY)]
        assert [(line.reference, line.step, line.units, line.at_us) for line in lines] == [
            (spent.reference, Step.HOLD, 1_205, DAY_US),
            (earned.reference, Step.CREDIT, 5, DAY_US),
        ]


def page(lines, **more):
    """A page of Noodle House's statement, as it comes."""
    body = {"items": lines, "has_more": False, "count": len(lines), "points": 5 * len(lines)} | more
    return HttpAnswer(status=200, headers={}, body=json.dumps(body).encode())


LINE = {
    "request_id": "R",
    "kind": "hold",
    "member_id": "m",
    "points": 5,
    "booked_at": "2026-03-02T01:00:00Z",
    "receipt": "1",
}


@pytest.mark.parametrize(
    ("pages", "about"),
    [
        ([page([LINE], count=2)], "says 2"),
        ([page([LINE], count=None)], "control totals"),
        ([page([LINE], points=6)], "add up to 5"),
        ([page([LINE], points="5")], "add up to 5"),
        ([page([LINE], has_more="yes")], "another"),
        ([page([], has_more=True)], "empty"),
        ([page([LINE], has_more=True), None], "Page 2"),
        ([page([LINE], has_more=True, count=2), page([LINE], count=3)], "control totals"),
        ([page([LINE | {"points": 5.0}])], "Line 1 .*amount"),
        ([page([LINE | {"points": -5}])], "Line 1"),
        ([page([LINE | {"points": 0}], points=0)], "moves nothing"),
        ([page([LINE | {"points": True}])], "Line 1"),
        ([page([LINE, LINE | {"kind": "gift"}])], "Line 2 .*word"),
        ([page([LINE | {"member_id": None}])], "member"),
        ([page([LINE | {"booked_at": "2026-03-02T01:00:00"}])], "offset"),
        ([page([LINE | {"booked_at": "yesterday"}])], "Line 1"),
        ([page([None])], "Line 1"),
        ([HttpAnswer(status=200, headers={}, body=b'{"items": {}}')], "no list"),
        ([HttpAnswer(status=500, headers={}, body=b"")], "no statement"),
    ],
)
def test_statement_that_is_not_whole_is_incomplete(pages, about):
    """Missing pages, wrong totals, and any line that is not understood: incomplete, and it says where."""
    reading = Pages(load_mapping(registry.find("noodle-house")), DAY, "https://merchant.example")

    def read():
        for one in pages:
            assert reading.next_request() is not None
            list(reading.read(one))
        reading.finish()

    with pytest.raises(Incomplete, match=about):
        read()


@pytest.mark.parametrize(
    "link", ["https://other.example/api/x", "//other.example/api/x", "/other/x", "http://[", 7]
)
def test_link_to_another_system_is_not_followed(link, tmp_path):
    """Our key goes only where the manifest says: a link that leads elsewhere ends the statement."""
    folder = copied("noodle-house", tmp_path, *PAGED["link in the body"])
    reading = Pages(load_mapping(folder), DAY, "https://merchant.example/api")
    with pytest.raises(Incomplete, match="link"):
        list(reading.read(page([LINE], next=link)))


def test_pages_that_go_in_a_circle_end(tmp_path):
    """A cursor that came before is not asked for again."""
    folder = copied("noodle-house", tmp_path, *PAGED["cursor"])
    reading = Pages(load_mapping(folder), DAY, "https://merchant.example")
    list(reading.read(page([LINE], next="a")))
    list(reading.read(page([LINE], next="b")))
    with pytest.raises(Incomplete, match="back"):
        list(reading.read(page([LINE], next="a")))


# --- answers --------------------------------------------------------------------------------------

HELD = {"hold_id": "R", "receipt": "N", "points": 5, "state": "open"}


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (201, HELD, Outcome.DONE),
        (201, HELD | {"points": 5.0}, Outcome.UNKNOWN),
        (201, HELD | {"points": "5"}, Outcome.UNKNOWN),
        (201, HELD | {"points": None}, Outcome.UNKNOWN),
        (201, HELD | {"receipt": ""}, Outcome.UNKNOWN),
        (201, HELD | {"hold_id": "S"}, Outcome.UNKNOWN),
        (202, HELD, Outcome.UNKNOWN),
        (302, HELD, Outcome.UNKNOWN),
        (500, {"error": {"code": "BALANCE_TOO_LOW"}}, Outcome.UNKNOWN),
        (422, {"error": {"code": "BALANCE_TOO_LOW"}}, Outcome.REFUSED),
        (422, {"error": {"code": "NEW_CODE"}}, Outcome.UNKNOWN),
        (422, {"error": "BALANCE_TOO_LOW"}, Outcome.UNKNOWN),
        (422, [], Outcome.UNKNOWN),
    ],
)
def test_only_what_a_rule_recognises_is_believed(status, body, outcome):
    """Done and refused are what the mapping proves; every other answer leaves the outcome open."""
    mapping = load_mapping(registry.find("noodle-house"))
    assert judge(mapping, "hold", status, write_json(body), "R").outcome is outcome


def test_error_code_in_an_inquiry_is_not_about_the_call():
    """An answer "unknown member" to an inquiry refuses the inquiry, and proves nothing about the call."""
    mapping = load_mapping(registry.find("noodle-house"))
    for code, outcome in (("MEMBER_UNKNOWN", Outcome.UNKNOWN), ("NOT_FOUND", Outcome.REFUSED)):
        body = write_json({"error": {"code": code}})
        assert judge(mapping, "status_of_hold", 404, body, "R").outcome is outcome
    body = write_json({"error": {"code": "MEMBER_UNKNOWN"}})
    assert judge(mapping, "hold", 404, body, "R").outcome is Outcome.REFUSED


async def test_call_that_the_system_did_not_take_was_not_sent(tmp_path):
    """An answer that says "later" lets the call be made again, when the system says."""
    folder = copied("noodle-house", tmp_path, ("http = [429]", "http = [503]"))
    call = hold("N-1001")
    async with scene("noodle-house", lambda _: folder) as (made, system):
        made.fails(Fault.MAINTENANCE)
        with pytest.raises(NotSent) as later:
            await system.hold(call)
        assert later.value.retry_after_seconds == 1.0
        assert (await system.hold(call)).outcome is Outcome.DONE


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\xff", b"[" * 100_000, b"1" * 5_000],
    ids=["nothing", "half", "twice", "NaN", "no UTF-8", "deep", "long number"],
)
def test_ambiguous_json_is_no_json(text):
    """What two readers could read differently, or nobody can, is not read."""
    with pytest.raises(ValueError):  # noqa: PT011 - the decoder's own words
        read_json(text)


# --- figures and templates ------------------------------------------------------------------------


@given(
    st.integers(0, 10**15 - 1),
    st.sampled_from(["integer", "digits", "decimal", "decimal-number"]),
    st.integers(0, 9),
)
def test_amount_comes_back_exactly(units, form, scale):
    """Every amount in every form comes back as it was, through JSON, with no float between."""
    written = write_json({"units": amount_written(units, form, scale)})
    assert amount_read(read_json(written)["units"], form, scale) == units


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("12.345", "decimal-number"),
        ("1e3", "decimal-number"),
        ("-1", "integer"),
        ("1.0", "integer"),
        ('"12.345"', "decimal"),
        ('"1,000.00"', "decimal"),
        ('" 1"', "digits"),
        ('"+1"', "digits"),
        ('"１"', "digits"),
        ('"1000000000000000"', "digits"),
        ("true", "integer"),
        ("null", "digits"),
        ('"1"', "integer"),
        ("1", "digits"),
        ("1", "decimal"),
    ],
)
def test_amount_that_is_not_written_so_is_refused(text, form):
    """Another form, a sign, more places than there are, or a group separator: nothing is guessed."""
    with pytest.raises(ValueError, match=r"."):
        amount_read(read_json(text.encode()), form, 2)


@given(
    st.integers(0, 253_402_214_400),
    st.sampled_from(["seconds", "milliseconds", "rfc3339", "local"]),
)
def test_instant_comes_back_to_the_second(second, form):
    """Every instant in every form comes back, to the second."""
    at_us = second * 1_000_000
    assert time_read(time_written(at_us, form, "Asia/Shanghai"), form, "Asia/Shanghai") == at_us


@given(st.dictionaries(st.sampled_from(["member", "of", "units"]), st.integers(0, 9), min_size=3))
def test_filled_template_is_read_back(known):
    """What a template was filled with is found in the result, and nothing is found in another one."""
    template = {"a": ["{member}", {"b": "x-{of}"}], "c": "{units}", "d": True, "e": "{units}"}
    value = filled(template, known)
    found: dict = {}
    assert read_back(template, value | {"more": 1}, found)
    assert {name: str(part) for name, part in found.items()} == {
        name: str(part) for name, part in known.items()
    }
    assert not read_back(template, value | {"d": False}, {})
    assert not read_back(template, value | {"e": known["units"] + 1}, {})


# --- mistakes in the file -------------------------------------------------------------------------

HOLD_RULE = 'reference = "hold_id"\nnumber = "receipt"'


@pytest.mark.parametrize(
    ("change", "path", "about"),
    [
        (('form = "integer"', 'form = "float"'), ".amount.form", "float"),
        (("[calls.hold]", "[calls.reserve]"), ".calls.reserve", "unknown field"),
        (("[calls.balance]", "[calls.credit_]"), ".calls.credit_", "unknown field"),
        (('path = "/holds/{reference}"', 'path = "/holds/{ref}"'), ".calls.hold.path", "{ref}"),
        (('path = "/holds/{reference}"', 'path = "/holds"'), ".calls.hold", "{reference}"),
        (
            ('path = "/holds/{reference}"', 'path = "holds/{reference}"'),
            ".calls.hold.path",
            "regex",
        ),
        (
            (
                '{ member_id = "{member}", points = "{units}", accepted_at',
                '{ points = "{units}", accepted_at',
            ),
            ".calls.hold",
            "{member}",
        ),
        (('path = "/holds/{of}/capture"', 'path = "/holds/capture"'), ".calls.capture", "{of}"),
        (
            ('points = "{units}", state = "open"', 'points = "{unit}", state = "open"'),
            ".calls.hold.answers[0].example.points",
            "{unit}",
        ),
        (
            (
                'receipt = "{number}", points = "{units}", state = "open"',
                'points = "{units}", state = "open"',
            ),
            ".calls.hold.answers[0].number",
            "example",
        ),
        (
            (HOLD_RULE, "when = \"state == 'shut'\"\n" + HOLD_RULE),
            ".calls.hold.answers[0].example",
            "own rule",
        ),
        ((HOLD_RULE, 'when = "state =="\n' + HOLD_RULE), ".calls.hold.answers[0].when", "JMESPath"),
        (
            ("when = \"state == 'refused'\"", 'when = "state"'),
            ".calls.status.answers[2].example",
            "another rule",
        ),
        (
            (
                'code = "refusal"\nreason = "merchant_refused"',
                'code = "refusal"\nreason = "because"',
            ),
            ".calls.status.answers[1]",
            "because",
        ),
        (('NOT_FOUND = "call_not_found"', ""), ".calls.status.answers", "call_not_found"),
        (
            ('BALANCE_TOO_LOW = "insufficient_points"', 'BALANCE_TOO_LOW = "poor"'),
            ".refusals",
            "poor",
        ),
        (('code = "error.code"', 'code = "error.kode"'), ".refusals.example", "not read it"),
        (
            ("[calls.authenticate]", "[calls.authenticate]\nretries = 3"),
            ".calls.authenticate.retries",
            "unknown field",
        ),
        (('units = "available"\n', ""), ".calls.balance.answers[0].units", "balance"),
        (('more = "has_more"\n', ""), ".calls.statement.paging", "more"),
        (('page = "{page}", size', "size"), ".calls.statement", "{page}"),
        (
            ('outcome = "later"', 'outcome = "later"\nreason = "merchant_refused"'),
            ".answers[0]",
            "reason",
        ),
        (("[amount]", "[amount"), "", "line 3"),
    ],
)
def test_mistake_in_a_mapping_names_file_table_and_key(change, path, about, tmp_path):
    """A mapping that could not work is refused before the first call, with the place of the mistake."""
    folder = copied("noodle-house", tmp_path, change)
    with pytest.raises(SchemaError, match=about) as refused:
        load_mapping(folder)
    assert refused.value.path == f"noodle-house/mapping.toml: ${path}"


def test_operation_that_the_manifest_promises_must_be_there(tmp_path):
    """A manifest that says "hold" needs a capture; one that says "burn" does not."""
    folder = copied("orbit-coffee", tmp_path, manifest=[('way = "burn"', 'way = "hold"')])
    with pytest.raises(SchemaError, match=r"spend\.way") as refused:
        load_mapping(folder)
    assert refused.value.path == "orbit-coffee/mapping.toml: $.calls.capture"


# --- samples --------------------------------------------------------------------------------------

SAMPLES = sorted(MERCHANTS.glob("*/samples/*.http.json"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_recorded_example_is_sent_and_read_as_recorded(sample):
    """The request that a mapping makes is the recorded one, and the recorded answer means what is written there."""
    told = json.loads(sample.read_text())
    mapping = load_mapping(registry.find(sample.parts[-3]))
    call = Call(**(told["call"] | {"step": Step[told["call"]["step"]]}))
    operation = mapping.operation(told["operation"])
    assert operation is not None
    known = known_of(mapping, call) | {"callback": told.get("callback", "")}
    request = request_of(operation, known)
    assert {
        "method": request.method,
        "path": request.path,
        "headers": request.headers,
        "body": read_json(request.body) if request.body else None,
    } == told["request"]
    verdict = judge(
        mapping,
        told["operation"],
        told["answer"]["status"],
        write_json(told["answer"]["body"]),
        call.reference,
    )
    assert {
        "outcome": verdict.outcome.value,
        "reason": verdict.reason.code if verdict.reason else None,
        "number": verdict.number,
        "units": verdict.units,
        "expected": verdict.expected,
    } == told["meaning"]


def test_there_are_samples():
    """Every merchant with a mapping file shows recorded examples."""
    mapped = {path.parent.name for path in MERCHANTS.glob("*/mapping.toml")}
    assert {sample.parts[-3] for sample in SAMPLES} == mapped >= set(MEMBERS)
