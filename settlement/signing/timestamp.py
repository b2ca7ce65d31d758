"""Timestamps of others (RFC 3161): asking for one, and verifying it offline with the authority's root certificate.

A token says that its bytes were there at an instant, on the word of a time-stamping authority. Its certificate must
have been valid at that instant; whether it is valid today does not matter (RFC 3161 §4).
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import load_pem_x509_certificates
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampRequest, TimeStampResponse

RESPONSE_BYTES_MAX: Final = 64 * 1024
_GRANTED: Final = 0
_REASON: Final = re.compile(r'"Verify error: ([^"]+)"')
_PLAIN: Final = {
    "unable to get local issuer certificate": "its certificate leads to no authority that is trusted",
    "certificate has expired": "the authority's certificate had expired when it was given",
    "certificate is not yet valid": "the authority's certificate was not yet valid when it was given",
    "Mismatch between messages": "it is over other bytes",
}
"""What OpenSSL's reasons mean to who verifies."""


class TimestampInvalid(Exception):  # noqa: N818 - what the token turned out to be, told to a person
    """The token is not what it should be; the message says why."""


def read_roots(pem: bytes) -> list[Certificate]:
    """Read the certificates of authorities that are trusted.

    Raises:
        ValueError: There is none.
    """
    try:
        return load_pem_x509_certificates(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error


def ask_timestamp(data: bytes) -> TimeStampRequest:
    """Ask for a token over these bytes by SHA-256, with a nonce and with the authority's certificates in it."""
    return (
        TimestampRequestBuilder()
        .data(data)
        .hash_algorithm(HashAlgorithm.SHA256)
        .nonce(nonce=True)
        .cert_request(cert_request=True)
        .build()
    )


def check_answer(response: bytes, request: TimeStampRequest, data: bytes) -> datetime:
    """See that an authority answered what it was asked; who it is, `verify_timestamp` tells.

    Returns:
        The instant that it gives.

    Raises:
        TimestampInvalid: It is malformed, refused, or over other bytes or another question.
    """
    answer = _read(response)
    if answer.status != _GRANTED:
        raise TimestampInvalid(
            f"the authority refused: {'; '.join(answer.status_string) or answer.status}"
        )
    told = answer.tst_info
    if told.nonce != request.nonce:
        raise TimestampInvalid("the token answers another request")
    if told.message_imprint.message != hashlib.sha256(data).digest():
        raise TimestampInvalid("the token is over other bytes")
    return told.gen_time.astimezone(UTC)


def verify_timestamp(response: bytes, data: bytes, *, roots: Sequence[Certificate]) -> datetime:
    """Verify a token offline.

    Args:
        response: The authority's answer (TimeStampResp, DER), certificates included.
        data: What was stamped.
        roots: Certificates of trusted authorities.

    Returns:
        The instant at which the bytes were there.

    Raises:
        TimestampInvalid: It is malformed, not signed by a certificate for time stamping that leads to a root and was
            valid at that instant, or over other bytes.
    """
    answer = _read(response)
    builder = VerifierBuilder()
    for root in dict.fromkeys(roots):
        builder = builder.add_root_certificate(root)
    try:
        builder.build().verify_message(answer, data)
        return answer.tst_info.gen_time.astimezone(UTC)
    except VerificationError as error:
        # OpenSSL's reason stands deep in the sentence.
        reason = _REASON.search(str(error))
        told = reason[1] if reason else str(error)
        plain = next((each for said, each in _PLAIN.items() if said in told), None)
        raise TimestampInvalid(f"{plain} ({told})" if plain else told) from error
    except Exception as error:
        # Certificates in a hostile token make the parsers below raise whatever they like.
        raise TimestampInvalid(f"the token cannot be read: {error}") from error


def _read(response: bytes) -> TimeStampResponse:
    """Decode an answer; nothing may stand around it."""
    if len(response) > RESPONSE_BYTES_MAX:
        raise TimestampInvalid(f"the answer has more than {RESPONSE_BYTES_MAX} bytes")
    try:
        return decode_timestamp_response(response)
    except Exception as error:
        raise TimestampInvalid("it is not a time-stamp response") from error
