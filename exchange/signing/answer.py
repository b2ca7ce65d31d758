"""How answers are signed: over their status and content, and bound to the one request that they answer.

An answer covers `@status`, `content-type`, `content-digest` and the request's own signature
(`"signature";req`, RFC 9421 §2.4): a genuine answer to another request does not pass for this one's.
An answer that is a stream has no digest beforehand, and covers the rest.

What anybody may ask is answered without a caller. Such an answer covers the request's `@method`, `@path` and `@query`
in the place of its signature, under a tag of its own: it may be kept and shown on, as the answer to this question at
this time. All other answers to requests without a readable signature are not signed, since nothing could bind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exchange.signing.digest import is_digest_of
from exchange.signing.request import ALGORITHM, LABEL
from exchange.signing.structured import (
    parse_input,
    parse_signature,
    signature_base,
    write_parameters,
    write_signature,
)
from settlement.signing.signature import is_signed, sign

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from settlement.signing.signer import SigningKey

ANSWER_TAG: Final = "tongdui-answer"
PUBLIC_TAG: Final = "tongdui-public-answer"
CLOCK_SECONDS: Final = 120
"""How far apart the clocks of both sides may be, and how long an answer may be on its way."""
_BOUND: Final = '"signature";req'
_WHOLE: Final = ('"@status"', '"content-type"', '"content-digest"', _BOUND)
_STREAM: Final = ('"@status"', '"content-type"', _BOUND)
_ASKED: Final = ('"@method";req', '"@path";req', '"@query";req')
_PARAMETERS: Final = frozenset({"created", "keyid", "alg", "tag"})


class AnswerNotTrusted(Exception):  # noqa: N818 - it names what the answer is
    """The answer is not shown to be the clearing house's answer to this request."""


def sign_answer(
    *,
    status: int,
    content_type: str,
    content_digest: str | None,
    request_signature: str,
    key: SigningKey,
    now: int,
) -> tuple[str, str]:
    """Sign an answer.

    Args:
        status: Its status.
        content_type: Its field of that name.
        content_digest: Its field of that name; None for a stream.
        request_signature: The field `Signature` of the request that it answers.
        key: The operator's key.
        now: Seconds since 1970.

    Returns:
        The fields `Signature-Input` and `Signature`.
    """
    # Written out, since every order of the day passes here.
    names = _WHOLE if content_digest is not None else _STREAM
    parameters = f'({" ".join(names)});created={now};keyid="{key.key_id}";alg="{ALGORITHM}";tag="{ANSWER_TAG}"'
    digest = "" if content_digest is None else f'"content-digest": {content_digest}\n'
    base = (
        f'"@status": {status}\n"content-type": {content_type}\n{digest}'
        f'{_BOUND}: {request_signature}\n"@signature-params": {parameters}'
    )
    return f"{LABEL}={parameters}", write_signature(LABEL, sign(key.private, base.encode("ascii")))


def sign_public_answer(
    *,
    status: int,
    content_type: str,
    content_digest: str,
    method: str,
    target: str,
    key: SigningKey,
    now: int,
) -> tuple[str, str]:
    """Sign an answer to somebody who is not known.

    Args:
        status: Its status.
        content_type: Its field of that name.
        content_digest: Its field of that name.
        method: The request's method.
        target: The request's path and query.
        key: The operator's key.
        now: Seconds since 1970.

    Returns:
        The fields `Signature-Input` and `Signature`; empty where the target has no place in a signature.
    """
    path, _, query = target.partition("?")
    values = (
        *zip(_WHOLE[:-1], (str(status), content_type, content_digest), strict=True),
        *zip(_ASKED, (method, path, f"?{query}"), strict=True),
    )
    parameters = write_parameters(
        [name for name, _ in values],
        (("created", now), ("keyid", key.key_id), ("alg", ALGORITHM), ("tag", PUBLIC_TAG)),
    )
    base = signature_base(values, parameters)
    if base is None:
        return "", ""
    return f"{LABEL}={parameters}", write_signature(LABEL, sign(key.private, base))


def check_answer(
    *,
    status: int,
    content_type: str,
    content_digest: str | None,
    signature_input: str | None,
    signature: str | None,
    request_signature: str,
    body: bytes | None,
    public_of: Callable[[str], Ed25519PublicKey | None],
    now: int,
) -> None:
    """Check that an answer is the clearing house's, to exactly this request.

    Args:
        status: Its status.
        content_type: Its field of that name.
        content_digest: Its field of that name.
        signature_input: Its field of that name.
        signature: Its field of that name.
        request_signature: The field `Signature` that was sent.
        body: Its body; None for a stream, whose head alone can be checked.
        public_of: The operator's key of this id; None if there is none that is trusted.
        now: Seconds since 1970.

    Raises:
        AnswerNotTrusted: It is not; the message says why.
    """
    if signature_input is None or signature is None:
        raise AnswerNotTrusted("the answer is not signed")
    told = parse_input(signature_input)
    proof = None if told is None else parse_signature(signature, told.label)
    if told is None or proof is None:
        raise AnswerNotTrusted("the answer's signature is malformed")
    wanted = _STREAM if body is None and content_digest is None else _WHOLE
    if set(told.components) != set(wanted) or told.named.keys() != _PARAMETERS:
        raise AnswerNotTrusted("the answer's signature does not cover what it must")
    if told.named["alg"] != ALGORITHM or told.named["tag"] != ANSWER_TAG:
        raise AnswerNotTrusted("the answer is signed for another purpose")
    created = told.named["created"]
    if not isinstance(created, int) or abs(created - now) > CLOCK_SECONDS:
        raise AnswerNotTrusted("the answer was signed at another time")
    public = public_of(str(told.named["keyid"]))
    if public is None:
        raise AnswerNotTrusted(f"no trusted key is called {told.named['keyid']}")
    values = {
        '"@status"': str(status),
        '"content-type"': content_type,
        '"content-digest"': content_digest or "",
        _BOUND: request_signature,
    }
    base = signature_base(((name, values[name]) for name in told.components), told.parameters)
    if base is None or not is_signed(public, base, proof):
        raise AnswerNotTrusted("the answer's signature is not genuine, or answers another request")
    if body is not None and not is_digest_of(content_digest or "", body):
        raise AnswerNotTrusted("the answer's body is not the one that was signed")
