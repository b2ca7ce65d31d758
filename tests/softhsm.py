"""A hardware module in software: SoftHSM, where it is installed."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from settlement.signing.module import ModuleAddress, open_session

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
INIT = ("softhsm2-util", "--init-token", "--free", "--so-pin", "12345678")
ED25519_OID = bytes.fromhex("06032b6570")
"""What SoftHSM wants as the curve's parameters: the DER of 1.3.101.112."""


@dataclass(frozen=True)
class SoftHsm:
    """A token that holds nothing at first.

    Attributes:
        path: The module.
        label: The token's label.
        pin: Its PIN.
    """

    path: str
    label: str = "house"
    pin: str = "1234"

    @staticmethod
    def module() -> str | None:
        """Where the module is; None where it is not installed."""
        return next((path for path in MODULES if Path(path).exists()), None)

    @classmethod
    def start(cls, folder: Path, patch: pytest.MonkeyPatch) -> SoftHsm:
        """Make the token in a folder, before the module is loaded."""
        (folder / "tokens").mkdir()
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        token = cls(str(cls.module()))
        subprocess.run(
            [*INIT, "--label", token.label, "--pin", token.pin],
            check=True,
            capture_output=True,
        )
        return token

    def uri(self, name: str) -> str:
        """Address of an object (RFC 7512)."""
        return f"pkcs11:token={self.label};object={name}?module-path={self.path}"

    def session(self) -> AbstractContextManager[tuple[Any, Any]]:
        """The library and a session in which objects can be made."""
        return open_session(ModuleAddress.parse(self.uri("any")), pin=self.pin, write=True)

    def make_ed25519(self, name: str) -> str:
        """Make a key pair inside the token; its address."""
        with self.session() as (pkcs11, session):
            curve = session.create_domain_parameters(
                pkcs11.KeyType.EC_EDWARDS,
                {pkcs11.Attribute.EC_PARAMS: ED25519_OID},
                local=True,
            )
            curve.generate_keypair(
                mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=True, label=name
            )
        return self.uri(name)
