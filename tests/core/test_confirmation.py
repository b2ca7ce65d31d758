"""Confirmations: a document that anybody can check, and where a batch stands; silence is never consent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.client import Identity
from schemas.files.confirmation import Confirmation, read_confirmation, write_confirmation
from schemas.values.faults import SchemaError
from settlement.core.confirmation import Said, State, due_at, standing
from settlement.signing.confirmation import open_signed, read_signed, sign_confirmation

CLOSED = datetime(2026, 11, 21, 16, tzinfo=UTC)
DUE = datetime(2026, 11, 28, 16, tzinfo=UTC)
KEY = Identity(Ed25519PrivateKey.from_private_bytes(bytes(32)))


def document(**changes: Any) -> Confirmation:
    """A confirmation, or something like it."""
    told: dict[str, Any] = {
        "format": "tongdui-confirmation/1", "cycle_id": "2026-11-21", "sequence": 4, "manifest_sha256": "ab" * 32,
        "merchant": "EYE", "verdict": "confirmed", "at": "2026-11-22T03:00:00.000000Z",
    }  # fmt: skip
    return Confirmation(**(told | changes))


def test_a_batch_is_due_seven_days_after_its_cycles_last_day_in_beijing():
    """A cycle that closes at midnight belongs to the day before; the last day counts to its end (Z2)."""
    assert due_at(CLOSED) == DUE
    assert due_at(CLOSED + timedelta(seconds=1)) == DUE + timedelta(days=1)
    assert due_at(CLOSED, 3) == DUE - timedelta(days=4)


@pytest.mark.parametrize(
    ("said", "now", "state", "late"),
    [
        ([], -1, State.WAITING, False),
        ([], 0, State.SILENT, True),
        ([], 900_000_000, State.SILENT, True),
        ([("confirmed", -1)], 5, State.CONFIRMED, False),
        ([("confirmed", 0)], 5, State.CONFIRMED, True),
        ([("confirmed", -9), ("objected", 3)], 5, State.OBJECTED, False),
        ([("objected", -9), ("confirmed", -3)], -1, State.CONFIRMED, False),
        ([("objected", 1), ("confirmed", 2)], 5, State.CONFIRMED, True),
    ],
)
def test_silence_is_never_consent(said, now, state, late):
    """Who says nothing in time is silent, however long it lasts; the last word tells; a late first one is marked."""
    entries = [Said(verdict, DUE + timedelta(seconds=at)) for verdict, at in said]
    found = standing(entries, due=DUE, now=DUE + timedelta(seconds=now))
    assert (found.state, found.late) == (state, late)
    assert found.since == (entries[-1].received_at if entries else None)


def test_a_document_is_signed_and_opened_again():
    """The key that it names opens it, no other; a changed character anywhere does not (Z1)."""
    data = write_confirmation(document())
    token = sign_confirmation(KEY.private, KEY.key_id, data)
    signed = read_signed(token)
    assert signed is not None
    assert signed.key_id == KEY.key_id
    assert open_signed(signed, KEY.private.public_key()) == data
    assert read_confirmation(data) == document()
    assert (
        open_signed(signed, Ed25519PrivateKey.from_private_bytes(bytes(31) + b"1").public_key())
        is None
    )
    for place in range(0, len(token), 7):
        forged = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        again = read_signed(forged)
        assert again is None or open_signed(again, KEY.private.public_key()) is None


def test_a_signature_over_something_else_is_no_confirmation():
    """A JWS of another type, or what is none at all, is not read."""
    from joserfc import jws
    from joserfc.jwk import OKPKey

    header = {"alg": "Ed25519", "kid": KEY.key_id, "typ": "JWT"}
    other = jws.serialize_compact(
        header, b"{}", OKPKey.import_key(KEY.private), algorithms=["Ed25519"]
    )
    for token in (other, "", "a.b.c", "..", "é.b.c", "a" * 50_000):
        assert read_signed(token) is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (write_confirmation(document(verdict="objected")), r"\$\.reason: an objection says why"),
        (
            write_confirmation(document(orders=["01595c79-ac18-7001-8000-000000000002"])),
            r"\$\.orders: a confirmation is of the whole batch",
        ),
        (b" " + write_confirmation(document()), r"\$: not in canonical form"),
        (write_confirmation(document(sequence=0)), r"\$\.sequence"),
        (write_confirmation(document(manifest_sha256="AB" * 32)), r"\$\.manifest_sha256"),
        (b"{", r"\$: not JSON"),
        (b"\xff", r"\$: not JSON"),
    ],
)
def test_a_document_that_cannot_be_says_why(data, says):
    """An objection without a reason, a confirmation of single orders, another spelling: the field is named."""
    with pytest.raises(SchemaError, match=says):
        read_confirmation(data)
