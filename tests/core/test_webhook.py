import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.feed import Cursor, parse_cursor, parse_event_id
from exchange.core.webhook import (
    ATTEMPTS_MAX,
    JITTER,
    RETRY_SECONDS,
    TOLERANCE_SECONDS,
    is_public_address,
    is_webhook_signed,
    parse_public_key,
    pause_seconds,
    public_key_text,
    sign_webhook,
    why_not_url,
)
from exchange.service.notices import BREACHED, EASED, NEAR, cap_level
from settlement.signing.signature import public_pem

OLD, NEW, STRANGE = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
BODY = '{"type":"order.cleared","名":"通兑"}'.encode()
NOW = 1_700_000_000
DAY = 86_400


def signed(**changed) -> bool:
    """Whether a webhook that OLD and NEW signed is taken after some changes."""
    keys = changed.pop("keys", [OLD.public_key()])
    header = sign_webhook([NEW, OLD], message_id="evt-1-7", timestamp=NOW, body=BODY)
    facts: dict[str, Any] = {
        "message_id": "evt-1-7", "timestamp": str(NOW), "body": BODY, "signatures": header,
        "now_seconds": NOW,
    }  # fmt: skip
    return is_webhook_signed(keys, **(facts | changed))


def test_either_key_of_a_rotation_suffices():
    """While keys rotate, a receiver that trusts the old key or the new one takes the webhook."""
    assert signed(keys=[OLD.public_key()])
    assert signed(keys=[NEW.public_key()])
    assert signed(keys=[STRANGE.public_key(), NEW.public_key()])
    assert not signed(keys=[STRANGE.public_key()])
    assert not signed(keys=[])


@pytest.mark.parametrize(
    "changed",
    [
        {"message_id": "evt-1-8"},
        {"timestamp": str(NOW + 1)},
        {"timestamp": "-1"},
        {"timestamp": "soon"},
        {"body": BODY + b" "},
        {"signatures": ""},
        {"signatures": "v1a,"},
        {"signatures": "v1a,AAAA v1a,!!"},
        {"now_seconds": NOW + TOLERANCE_SECONDS + 1},
        {"now_seconds": NOW - TOLERANCE_SECONDS - 1},
    ],
    ids=str,
)
def test_anything_changed_is_not_ours(changed):
    """A webhook with another id, time or body, without a sound signature, or out of its time is not taken."""
    assert not signed(**changed)


def test_symmetric_signatures_are_not_taken_for_ours():
    """A signature of another version says nothing, even over the right bytes."""
    header = sign_webhook([OLD], message_id="evt-1-7", timestamp=NOW, body=BODY)
    assert not signed(signatures=header.replace("v1a,", "v1,"))


def test_openssl_verifies_a_webhook(tmp_path: Path):
    """What is signed is `id.timestamp.body`, and openssl checks it with the public key alone."""
    header = sign_webhook([OLD], message_id="evt-1-7", timestamp=NOW, body=BODY)
    (tmp_path / "key.pem").write_bytes(public_pem(OLD.public_key()))
    (tmp_path / "signature").write_bytes(base64.b64decode(header.removeprefix("v1a,")))
    (tmp_path / "signed").write_bytes(b"evt-1-7.%d." % NOW + BODY)
    subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin",
         "-in", "signed", "-sigfile", "signature"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip


def test_public_keys_are_written_as_standard_webhooks_has_them():
    """A public key is `whpk_` and 32 bytes in Base64, and reads back as itself; anything else is refused."""
    text = public_key_text(OLD.public_key())
    assert text.startswith("whpk_")
    assert parse_public_key(text) == OLD.public_key()
    for bad in ("", "whsk_" + text[5:], "whpk_!", "whpk_AAAA"):
        with pytest.raises(ValueError, match=r".+"):
            parse_public_key(bad)


def test_pauses_grow_over_three_days_and_end():
    """An event is tried for a little over three days, each time after a longer pause, and then given up."""
    pauses = [pause_seconds(attempts, draw=0.5) for attempts in range(1, ATTEMPTS_MAX)]
    assert pauses == sorted(RETRY_SECONDS)
    assert 3 * DAY < sum(RETRY_SECONDS) < 4 * DAY
    assert pause_seconds(ATTEMPTS_MAX, draw=0.5) is None


@given(st.integers(1, ATTEMPTS_MAX - 1), st.floats(0, 1), st.floats(0, 10 * DAY))
def test_pauses_stay_within_their_jitter(attempts: int, draw: float, asked: float):
    """A pause is within a fifth of its own, or what the receiver asked for, up to a day."""
    pause = pause_seconds(attempts, draw=draw, asked_seconds=asked)
    own = RETRY_SECONDS[attempts - 1]
    assert pause is not None
    assert pause >= own * (1 - JITTER) - 1e-6
    assert pause <= max(own * (1 + JITTER), min(asked, DAY)) + 1e-6
    assert pause >= min(asked, DAY)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::5db8:d70e", True),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("fc00::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_only_addresses_of_the_open_internet_are_public(address: str, public: bool):
    """Closed networks, this machine, metadata services and what stands for them in IPv6 are not public."""
    assert is_public_address(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "http://merchant.example/hook",
        "ftp://merchant.example/hook",
        "merchant.example/hook",
        "https://",
        "https:///hook",
        "https://user@merchant.example/",
        "https://user:secret@merchant.example/",
        "https://merchant.example/#part",
        "https://merchant.example/#",
        "https://merchant.example:0/",
        "https://merchant.example:99999/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://localhost/",
        "https://db.internal/",
        "https://printer.local./",
        "https://[::1/",
        "https://商户.example/",
        "https://merchant.example/a b",
        "https://merchant.example\\@10.0.0.1/",
        "https://merchant.example/\n",
    ],
)
def test_addresses_that_nothing_is_sent_to(url: str):
    """An endpoint is https, at a host that may be public, without a user and without a fragment."""
    assert why_not_url(url, private=False)


def test_a_sandbox_takes_plain_http_and_this_machine():
    """In a sandbox an endpoint may be on this machine; nonsense is refused there too."""
    assert why_not_url("https://merchant.example:8443/hook?shop=1", private=False) is None
    assert why_not_url("http://127.0.0.1:9000/hook", private=True) is None
    assert why_not_url("http://user@127.0.0.1/", private=True)
    assert why_not_url("file:///etc/passwd", private=True)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_cursors_read_back_as_themselves(seq: int, notice_no: int):
    """A place in the stream survives its text form."""
    assert parse_cursor(str(Cursor(seq, notice_no))) == (seq, notice_no)


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "1.2.3", "01.2", "-1.2", "1.2\n", "١.2", f"{2**63}.0"]
)
def test_what_is_no_cursor_is_refused(text: str):
    """Anything but two whole numbers in range is no place in the stream."""
    assert parse_cursor(text) is None


def test_event_names_say_where_the_event_is():
    """An event's name leads back to its row."""
    assert parse_event_id("evt-1-1042") == (1042, 0)
    assert parse_event_id("ntc-7") == (0, 7)
    for bad in ("evt-1", "ntc-1-2", "x-1", ""):
        with pytest.raises(ValueError, match=r"not an event|invalid literal"):
            parse_event_id(bad)


@pytest.mark.parametrize(
    ("before", "headroom_cu", "level"),
    [
        (EASED, 1000, EASED),
        (EASED, 201, EASED),
        (EASED, 200, NEAR),
        (EASED, 0, NEAR),
        (EASED, -1, BREACHED),
        (NEAR, 201, NEAR),
        (NEAR, 300, NEAR),
        (NEAR, 301, EASED),
        (NEAR, 2000, EASED),
        (BREACHED, 100, NEAR),
        (BREACHED, 250, NEAR),
        (BREACHED, 400, EASED),
    ],
)
def test_levels_of_a_cap(before: str, headroom_cu: int, level: str):
    """A cap is near from four fifths on, breached beyond it, and eased only below seven tenths."""
    assert cap_level(before, limit_cu=1000, headroom_cu=headroom_cu) == level


def test_a_cap_of_nothing_is_never_near():
    """A merchant that may owe nothing is told only when it owes something."""
    assert cap_level(EASED, limit_cu=0, headroom_cu=0) == EASED
    assert cap_level(EASED, limit_cu=0, headroom_cu=-1) == BREACHED
