"""Who calls: whoever signed the request, or whoever a token is known of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.service.signatures import SignatureRefused
from schemas.values.reason import Reason, Refusal

if TYPE_CHECKING:
    from exchange.service.access import Authenticator, Principal
    from exchange.service.signatures import Signatures, Verified
    from exchange.signing.request import RequestHead


class SignedOnly:
    """Stands where API keys are not taken: whoever is no person has to sign; an `Authenticator`."""

    async def authenticate(self, authorization: str | None) -> Principal:  # noqa: ARG002 - the protocol's shape
        """Ask for a signature."""
        raise SignatureRefused(
            Refusal(Reason.SIGNATURE_MISSING, "Sign the request (RFC 9421)."), None
        )


class Callers:
    """The one seam where a request becomes a principal."""

    def __init__(self, signatures: Signatures, tokens: Authenticator) -> None:
        """Take the ways in.

        Args:
            signatures: Verifies signed requests.
            tokens: Knows who sends a token instead of a signature.
        """
        self.signatures = signatures
        self._tokens = tokens

    async def identify(
        self, head: RequestHead, authorization: str | None, *, has_body: bool
    ) -> tuple[Principal, Verified | None]:
        """Say who calls.

        Args:
            head: What is signed of the request.
            authorization: Its field of that name.
            has_body: Whether a body follows.

        Returns:
            The principal; and for a signed request what must still be asked of `Signatures`: whether the
            body is the signed one, and whether the signature was used before.

        Raises:
            Unauthenticated: Nobody knows; for a signature that does not count, `SignatureRefused`.
        """
        if head.signature is None and head.signature_input is None:
            return await self._tokens.authenticate(authorization), None
        verified = await self.signatures.verify(head, has_body=has_body)
        return verified.principal, verified
