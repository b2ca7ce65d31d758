"""The operator's keys as a gateway uses them: the one that signs answers, and all as they are published."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from exchange.signing.keys import coordinate
from schemas.wire.keys import PublicKey, PublicKeys
from settlement.signing.keyring import INDEX, Keyring, KeyringUnusable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from settlement.signing.signer import SigningKey

log = structlog.get_logger()

LOOK_SECONDS: Final = 1.0
"""A rotation or a revocation is noticed after so long."""


class AnswerKeys:
    """Follows the keyring of an installation."""

    def __init__(self, folder: Path, now: Callable[[], datetime]) -> None:
        """Prepare; the keyring is read when it is first needed.

        Args:
            folder: The keyring's.
            now: Clock.
        """
        self._folder = folder
        self._now = now
        self._looked_at = -LOOK_SECONDS
        self._signer: SigningKey | None = None
        self._why_none = ""

    def signer(self) -> SigningKey | None:
        """The key that signs answers now; None, and a line in the log, if there is none that can be used."""
        if monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = monotonic()
            try:
                self._signer, why = Keyring.open(self._folder).signers(self._now())[0], ""
            except KeyringUnusable as unusable:
                self._signer, why = None, str(unusable)
            if why and why != self._why_none:
                log.error("answer.unsigned", detail=why)
            self._why_none = why
        return self._signer

    def published(self) -> PublicKeys:
        """Every key of the operator's that is trusted; none where there is no keyring."""
        if not (self._folder / INDEX).exists():
            return PublicKeys(keys=[])
        keyring = Keyring.open(self._folder)
        trusted = keyring.trusted()
        return PublicKeys(
            keys=[
                PublicKey(
                    x=coordinate(trusted[entry.key_id]),
                    kid=entry.key_id,
                    nbf=int(entry.made_at.timestamp()),
                    kty="OKP",
                    crv="Ed25519",
                    alg="Ed25519",
                    use="sig",
                    exp=None if entry.retires_at is None else int(entry.retires_at.timestamp()),
                )
                for entry in keyring.keys
                if entry.key_id in trusted
            ]
        )
