"""Keys behind PKCS #11: the address of an object in a token (RFC 7512), its sessions, an Ed25519 key that signs there.

    pkcs11:token=NAME;object=LABEL?module-path=/path/to/module.so[&pin-source=file:/path]

The PIN is in the file that `pin-source` names, else in TONGDUI_PIN. SM2 keys cannot lie there: PKCS #11 has no
mechanism for them that modules agree on.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from settlement.signing.signature import ED25519_BYTES, is_signed, key_id
from settlement.signing.signer import KeyUnusable, read_private_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEME: Final = "pkcs11:"
PIN_VARIABLE: Final = "TONGDUI_PIN"
_ONE_AT_A_TIME: Final = threading.Lock()
"""A token knows one login for each process, so sessions of several threads would end each other's."""


class ModuleUnusable(KeyUnusable):
    """The module, its token or the key in it cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleAddress:
    """Where an object behind PKCS #11 lies.

    Attributes:
        module: Path of the module's library.
        token: Label of the token.
        label: Label of the object.
        pin_source: File that holds the PIN; None where the environment does.
    """

    module: str
    token: str
    label: str
    pin_source: Path | None

    @classmethod
    def parse(cls, uri: str) -> ModuleAddress:
        """Read an address.

        Raises:
            ModuleUnusable: It lacks a part.
        """
        path, _, query = uri.removeprefix(SCHEME).partition("?")
        said = {
            name: unquote(value)
            for name, _, value in (part.partition("=") for part in path.split(";"))
        }
        asked = dict(parse_qsl(query))
        source = asked.get("pin-source", "").removeprefix("file:")
        address = cls(
            module=asked.get("module-path", ""),
            token=said.get("token", ""),
            label=said.get("object", ""),
            pin_source=Path(source) if source else None,
        )
        if not (address.module and address.token and address.label):
            raise ModuleUnusable(
                "the address of a key behind PKCS #11 reads "
                "pkcs11:token=NAME;object=LABEL?module-path=/path/to/module.so"
            )
        return address

    def __str__(self) -> str:
        """Token and label, for people."""
        return f"{SCHEME}{self.token}/{self.label}"

    def pin(self, environment: Mapping[str, str] | None = None) -> str:
        """The token's PIN, from where the address says.

        Raises:
            KeyUnusable: The file that holds it cannot be used.
        """
        if self.pin_source is not None:
            return read_private_file(self.pin_source).decode().strip()
        return (os.environ if environment is None else environment).get(PIN_VARIABLE, "")


@contextmanager
def open_session(
    address: ModuleAddress, *, pin: str, write: bool = False
) -> Iterator[tuple[Any, Any]]:
    """Log in to a token; the library's names, and the session.

    Raises:
        ModuleUnusable: python-pkcs11 is not installed, or the module says no.
    """
    try:
        import pkcs11
    except ImportError as error:
        raise ModuleUnusable(
            "a key behind PKCS #11 needs the package python-pkcs11: install tongdui[pkcs11]"
        ) from error
    try:
        with (
            _ONE_AT_A_TIME,
            pkcs11.lib(address.module)
            .get_token(token_label=address.token)
            .open(user_pin=pin, rw=write) as session,
        ):
            yield pkcs11, session
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as error:
        raise ModuleUnusable(f"{address}: {str(error) or type(error).__name__}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleKey:
    """An Ed25519 key in a token. Each signature is a session of its own: packages are few.

    Attributes:
        address: Where it lies.
        public: The key that verifies what this one signs.
    """

    address: ModuleAddress
    public: Ed25519PublicKey

    @classmethod
    def open(cls, uri: str) -> ModuleKey:
        """Ask a token for the public part of a key pair.

        Raises:
            ModuleUnusable: There is none, or it is not of Ed25519.
        """
        address = ModuleAddress.parse(uri)
        with open_session(address, pin=address.pin()) as (known, session):
            key = session.get_key(
                object_class=known.constants.ObjectClass.PUBLIC_KEY, label=address.label
            )
            # RFC 8032's 32 bytes, which PKCS #11 §2.3.5 wraps into a DER string of octets.
            point = bytes(key[known.constants.Attribute.EC_POINT])[-ED25519_BYTES:]
            if key.key_type != known.mechanisms.KeyType.EC_EDWARDS or len(point) != ED25519_BYTES:
                raise ModuleUnusable(f"{address} is not an Ed25519 key")
        return cls(address=address, public=Ed25519PublicKey.from_public_bytes(point))

    @property
    def key_id(self) -> str:
        """Its name."""
        return key_id(self.public)

    def sign(self, data: bytes) -> bytes:
        """Sign exactly these bytes inside the token, and hold the result against the public key.

        Raises:
            ModuleUnusable: The module says no, or gave something else than this key's signature.
        """
        address = self.address
        with open_session(address, pin=address.pin()) as (known, session):
            key = session.get_key(
                object_class=known.constants.ObjectClass.PRIVATE_KEY, label=address.label
            )
            signature = bytes(key.sign(data, mechanism=known.Mechanism.EDDSA))
        if not is_signed(self.public, data, signature):
            raise ModuleUnusable(f"{address} does not sign with the key that it shows")
        return signature
