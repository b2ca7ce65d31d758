import base64
import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from adapters.kit import registry
from adapters.kit.contract import Outcome, Step
from adapters.kit.protocols.soap import wire
from adapters.kit.protocols.soap.answers import is_expired, read_said, receipt_of, refusal_of
from adapters.kit.protocols.soap.settings import read_settings
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason

SAMPLES = registry.find("skyward-air").path / "samples"
SETTINGS = read_settings(registry.find("skyward-air"))
NAMESPACE = SETTINGS.namespace
MESSAGE = "5b0a4a1b6a5b5f0e9d3c2b1a00ff8e7d"
REFERENCE = "AAAAAAAAAAAAAAAAAAAAAAAAAEH"
HEAD = f'<e:Envelope xmlns:e="{wire.SOAP}" xmlns:m="{NAMESPACE}">'


def envelope(body: str, *, header: str = "", before: str = "") -> bytes:
    """An envelope written by hand."""
    head = f"<e:Header>{header}</e:Header>" if header else ""
    return f"{before}{HEAD}{head}<e:Body>{body}</e:Body></e:Envelope>".encode()


def sample(name: str) -> bytes:
    """A recorded message."""
    return (SAMPLES / name).read_bytes()


def test_the_password_digest_is_the_one_of_the_profile():
    """Base64 of SHA-1 over nonce, time and password, computed here step by step."""
    nonce, created, password = bytes(range(16)), "2026-03-02T01:00:00.000Z", b"secret"
    whole = hashlib.sha1(usedforsecurity=False)
    for part in (nonce, created.encode(), password):
        whole.update(part)
    expected = base64.b64encode(whole.digest()).decode()
    assert wire.password_digest(nonce, created, password) == expected
    token = wire.read_username_token(wire.security("us", password, nonce, created))
    assert (token.user, token.nonce, token.created) == ("us", nonce, created)
    assert token.is_of(password)
    assert not token.is_of(b"other")


def test_the_recorded_call_carries_token_session_message_and_reference():
    """What we send, as the host reads it: golden bytes of the folder's sample."""
    message = wire.read_envelope(sample("burn-request.xml"), NAMESPACE)
    assert message.header == {
        "MessageId": MESSAGE,
        "Session": "8e7d00ff1a2b3c9d",
        "PartnerReference": REFERENCE,
    }
    assert message.security is not None
    assert wire.read_username_token(message.security).is_of(b"sandbox")
    assert message.body.tag == f"{{{NAMESPACE}}}BurnMiles"
    assert wire.texts(message.body, NAMESPACE) == {"MemberNumber": "SK880000001", "Miles": "1234"}


def test_the_recorded_answer_is_a_receipt():
    """The sample of a burn that was booked."""
    said = read_said(sample("burn-answer.xml"), 200, SETTINGS, "BurnMiles", MESSAGE)
    receipt = receipt_of(said, SETTINGS, reference=REFERENCE, step=Step.HOLD)
    assert (receipt.outcome, receipt.number, receipt.units) == (Outcome.DONE, "0000000001", 1_234)


def test_the_recorded_faults_are_a_refusal_and_an_ended_session():
    """Both say that the call was not executed; only one says no."""
    refused = read_said(sample("refused.xml"), 500, SETTINGS, "BurnMiles", MESSAGE)
    assert refusal_of(refused, SETTINGS) is Reason.INSUFFICIENT_POINTS
    ended = read_said(sample("session-ended.xml"), 500, SETTINGS, "BurnMiles", MESSAGE)
    assert refusal_of(ended, SETTINGS) is None
    assert is_expired(ended, SETTINGS)
    assert not is_expired(refused, SETTINGS)


ENTITY = '<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
LAUGHS = "<!DOCTYPE e [" + "".join(
    f'<!ENTITY a{level} "{f"&a{level - 1};" * 10 if level else "ha"}">' for level in range(12)
)
HOSTILE = [
    (envelope("<m:R>&x;</m:R>", before=ENTITY), "document type"),
    (envelope("<m:R>&a11;</m:R>", before=LAUGHS + "]>"), "document type"),
    (envelope("<m:R/>", before='<!DOCTYPE e SYSTEM "http://127.0.0.1:1/x.dtd">'), "document type"),
    (envelope("<m:R/>", before=ENTITY).decode().encode("utf-16"), "UTF-8"),
    (b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE e+AD4-', "Not XML"),
    (envelope("<m:R/>", before='<?xml version="1.0" encoding="UTF-16"?>')[:-3], "Not XML"),
    (envelope("<m:R>&undefined;</m:R>"), "Not XML"),
    (envelope("<m:a>" * 20 + "</m:a>" * 20), "deeper"),
    (envelope("<m:a>" * 100_000 + "</m:a>" * 100_000), "."),
    (envelope("<m:R>" + "x" * wire.BYTES_MAX + "</m:R>"), "bytes"),
    (envelope("<m:R a='" + "x" * 100 + "'>\x00</m:R>"), "Not XML"),
    (b"", "Not XML"),
    (b"\xff\xfe", "UTF-8"),
    (b"<html><body>closed</body></html>", "envelope"),
    (envelope("<m:R/>").replace(wire.SOAP.encode(), b"urn:other"), "envelope"),
    (envelope(""), "one element"),
    (envelope("<m:R/><m:R/>"), "one element"),
    (HEAD.encode() + b"</e:Envelope>", "one element"),
    (HEAD.encode() + b"<e:Body/><e:Body/></e:Envelope>", "one body"),
    (envelope("<m:R/>", header='<x:T xmlns:x="urn:x" e:mustUnderstand="1"/>'), "understood"),
    (envelope("<m:R/>", header='<m:A>1</m:A><m:A e:mustUnderstand="1">2</m:A>'), "understood"),
]


@pytest.mark.parametrize(("body", "what"), HOSTILE, ids=[str(n) for n in range(len(HOSTILE))])
def test_hostile_or_broken_xml_is_refused_quickly(body, what):
    """No entity is expanded, nothing is fetched, nothing is read that is too large or too deep."""
    started = time.process_time()
    with pytest.raises(SchemaError, match=what):
        wire.read_envelope(body, NAMESPACE)
    assert time.process_time() - started < 1


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body):
    """Nothing else is raised, whatever comes."""
    with pytest.raises(SchemaError):
        wire.read_envelope(body, NAMESPACE)


def test_a_value_in_another_namespace_or_twice_is_not_taken():
    """Names count with their namespace; one that stands there twice could mean two things."""
    other = etree.fromstring(
        f'<m:R xmlns:m="{NAMESPACE}"><Miles>1</Miles><m:Miles> 2 </m:Miles></m:R>'
    )
    assert wire.texts(other, NAMESPACE) == {"Miles": "2"}
    twice = etree.fromstring(f'<m:R xmlns:m="{NAMESPACE}"><m:Miles>1</m:Miles><m:Miles/></m:R>')
    with pytest.raises(SchemaError, match="twice"):
        wire.texts(twice, NAMESPACE)


SAID = "<m:PartnerReference>{}</m:PartnerReference><m:Status>{}</m:Status><m:Miles>{}</m:Miles>"
BOOKED = SAID.format(REFERENCE, "BOOKED", "1234")
ANSWERS = [
    (f"<m:BurnMilesResponse>{BOOKED}</m:BurnMilesResponse>", 200, Outcome.DONE),
    (f"<m:BurnMilesResponse>{BOOKED}</m:BurnMilesResponse>", 500, None),
    (f"<m:BurnMilesResponse>{BOOKED}</m:BurnMilesResponse>", 202, None),
    (f"<m:AccrueMilesResponse>{BOOKED}</m:AccrueMilesResponse>", 200, None),
    (f"<BurnMilesResponse>{BOOKED}</BurnMilesResponse>", 200, None),
    ("<m:BurnMilesResponse/>", 200, Outcome.UNKNOWN),
]
for words, outcome in (
    (("ANOTHERREFERENCE", "BOOKED", "1234"), Outcome.UNKNOWN),
    ((REFERENCE, "PENDING", ""), Outcome.UNKNOWN),
    ((REFERENCE, "WHATEVER", "1234"), Outcome.UNKNOWN),
    ((REFERENCE, "BOOKED", "12.34"), Outcome.UNKNOWN),
    ((REFERENCE, "BOOKED", "-1234"), Outcome.UNKNOWN),
    ((REFERENCE, "BOOKED", "9223372036854775808"), Outcome.UNKNOWN),
    ((REFERENCE, "BOOKED", "1000000000000000"), Outcome.UNKNOWN),
    ((REFERENCE, "REJECTED", "1234"), Outcome.REFUSED),
):
    body = f"<m:BurnMilesResponse>{SAID.format(*words)}</m:BurnMilesResponse>"
    ANSWERS.append((body, 200, outcome))


@pytest.mark.parametrize(("body", "status", "outcome"), ANSWERS)
def test_an_answer_says_only_what_it_says(body, status, outcome):
    """Done needs the status, the operation, our reference, a known state and a readable amount."""
    whole = envelope(body, header=f"<m:MessageId>{MESSAGE}</m:MessageId>")
    if outcome is None:
        with pytest.raises(SchemaError):
            read_said(whole, status, SETTINGS, "BurnMiles", MESSAGE)
        return
    said = read_said(whole, status, SETTINGS, "BurnMiles", MESSAGE)
    assert receipt_of(said, SETTINGS, reference=REFERENCE, step=Step.HOLD).outcome is outcome


def test_an_answer_to_another_message_is_none():
    """Without our message's name, or with another one, nothing in it is believed."""
    body = f"<m:BurnMilesResponse>{BOOKED}</m:BurnMilesResponse>"
    for header in ("", "<m:MessageId>other</m:MessageId>", f"<MessageId>{MESSAGE}</MessageId>"):
        with pytest.raises(SchemaError, match="this message"):
            read_said(envelope(body, header=header), 200, SETTINGS, "BurnMiles", MESSAGE)


FAULTS = [
    ("MILES_INSUFFICIENT", "<m:Executed>false</m:Executed>", Outcome.REFUSED),
    ("MILES_INSUFFICIENT", "<m:Executed>0</m:Executed>", Outcome.REFUSED),
    ("MILES_INSUFFICIENT", "<m:Executed>true</m:Executed>", Outcome.UNKNOWN),
    ("MILES_INSUFFICIENT", "<m:Executed>FALSE</m:Executed>", Outcome.UNKNOWN),
    ("MILES_INSUFFICIENT", "", Outcome.UNKNOWN),
    ("HOST_BUSY", "<m:Executed>false</m:Executed>", Outcome.UNKNOWN),
    ("SESSION_EXPIRED", "<m:Executed>false</m:Executed>", Outcome.UNKNOWN),
]


@pytest.mark.parametrize(("code", "executed", "outcome"), FAULTS)
def test_a_fault_refuses_only_if_it_says_that_nothing_was_executed(code, executed, outcome):
    """A mapped code alone is not proof."""
    detail = f"<detail><m:Fault><m:Code>{code}</m:Code>{executed}</m:Fault></detail>"
    fault = f"<e:Fault><faultcode>e:Client</faultcode><faultstring/>{detail}</e:Fault>"
    whole = envelope(fault, header=f"<m:MessageId>{MESSAGE}</m:MessageId>")
    said = read_said(whole, 500, SETTINGS, "BurnMiles", MESSAGE)
    assert receipt_of(said, SETTINGS, reference=REFERENCE, step=Step.HOLD).outcome is outcome


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_long_is_read(number):
    """The whole range of xs:long, and nothing beyond it."""
    assert wire.read_long(str(number)) == number


@pytest.mark.parametrize(
    "text", ["", "9223372036854775808", "1.0", "1e3", "٣", "0x1", "1 2", "--1"]
)
def test_what_is_no_long_is_refused(text):
    """No fraction, no exponent, no other digits, nothing outside of 64 bits."""
    with pytest.raises(ValueError, match="xs:long"):
        wire.read_long(text)


@given(st.integers(0, 4_102_444_800_000))
def test_an_instant_is_read_back(at_ms):
    """To the millisecond, in UTC; one without its offset is refused."""
    assert wire.read_instant(wire.instant_text(at_ms * 1_000)) == at_ms * 1_000


def test_an_instant_names_its_offset():
    """The same instant in two zones; without a zone it is none."""
    assert wire.read_instant("2026-03-02T09:00:00+08:00") == 1_772_413_200_000_000
    for text in ("2026-03-02T09:00:00", "2026-03-02", "noon"):
        with pytest.raises(ValueError, match=r"."):
            wire.read_instant(text)


DIGEST = f'<s:Password Type="{wire.PASSWORD_DIGEST}">x</s:Password>'
BAD_TOKENS = [
    "",
    "<s:UsernameToken/>",
    "<s:UsernameToken><s:Username>u</s:Username><s:Password>p</s:Password></s:UsernameToken>",
    f"<s:UsernameToken><s:Username>u</s:Username>{DIGEST}<s:Nonce>*</s:Nonce></s:UsernameToken>",
    f"<s:UsernameToken><s:Username>u</s:Username>{DIGEST}<s:Nonce>AAAA</s:Nonce></s:UsernameToken>",
]


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_a_token_without_digest_nonce_or_time_is_refused(token):
    """A password in the clear is none that is taken."""
    with pytest.raises(SchemaError, match="Security"):
        wire.read_username_token(
            etree.fromstring(f'<s:Security xmlns:s="{wire.WSSE}">{token}</s:Security>')
        )
