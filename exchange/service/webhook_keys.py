"""Keys that sign webhooks: a keyring of its own, so that whoever delivers cannot sign packages."""

from __future__ import annotations

import contextlib
from time import monotonic
from typing import TYPE_CHECKING, Final

from exchange.core.webhook import public_key_text
from schemas.wire.events import WebhookKey
from schemas.wire.fields import instant_text, microseconds
from settlement.signing.keyring import INDEX, Keyring, KeyringUnusable

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FOLDER: Final = "webhooks"
"""Below the installation's folder of keys."""
REREAD_SECONDS: Final = 2.0
"""How soon a rotation or a revocation counts in processes that run."""


def open_webhook_keys(keys: Path, *, now: datetime) -> Keyring:
    """Open the keyring; a first key is made where there is none.

    Args:
        keys: The installation's folder of keys.
        now: When a key that is made begins to sign.

    Raises:
        KeyringUnusable: It cannot be used.
    """
    folder = keys / FOLDER
    if not (folder / INDEX).exists():
        with contextlib.suppress(KeyringUnusable):
            # Whoever was faster made it; what cannot be used is told by opening it.
            return Keyring.create(folder, at=now)
    return Keyring.open(folder)


def public_keys(keyring: Keyring, *, now: datetime) -> list[WebhookKey]:
    """Keys that sign now, newest first."""
    trusted = keyring.trusted()
    return [
        WebhookKey(
            key_id=entry.key_id,
            public_key=public_key_text(trusted[entry.key_id]),
            signs_until=instant_text(microseconds(entry.retires_at)) if entry.retires_at else None,
        )
        for entry in reversed(keyring.keys)
        if entry.online and entry.signs_at(now)
    ]


class WebhookSigners:
    """The private keys of one process, read again every now and then."""

    def __init__(self, keys: Path) -> None:
        """Take the installation's folder of keys."""
        self._keys = keys
        self._read_at = -REREAD_SECONDS
        self._private: list[Ed25519PrivateKey] = []

    def signing(self, *, now: datetime) -> list[Ed25519PrivateKey]:
        """Keys that sign now, newest first.

        Raises:
            KeyringUnusable: None can.
        """
        if not self._private or monotonic() - self._read_at > REREAD_SECONDS:
            keyring = open_webhook_keys(self._keys, now=now)
            self._private = [each.private for each in keyring.signers(now)]
            self._read_at = monotonic()
        return self._private
