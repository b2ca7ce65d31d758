"""TLS towards merchants' systems: whom we trust, and the certificate by which they know us."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from adapters.kit.folder import Folder
    from adapters.kit.secret import Secrets


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[settings.tls]`.

    Attributes:
        ca: Whose certificates are trusted, PEM: a file of the folder, or `env:` or `file:`; the
            machine's own list if empty.
        certificate: Our certificate for mutual TLS, PEM with its chain, as `env:` or `file:`.
        key: Its private key, PEM without a passphrase, as `env:` or `file:`.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        """Check that certificate and key come together."""
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key are set both or not at all")


def client_tls(settings: TlsSettings, folder: Folder, secrets: Secrets) -> ssl.SSLContext:
    """Make the context for connections to a merchant: TLS 1.2 or later, names checked.

    Raises:
        SchemaError: Something that is named cannot be read or is not what it should be.
    """
    where = folder.where("manifest.toml") + ".settings.tls"
    context = ssl.create_default_context(
        cadata=_ca_text(settings.ca, folder, secrets, where) if settings.ca else None
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.certificate:
        load_certificate(
            context,
            secrets.read(settings.certificate, where=f"{where}.certificate"),
            secrets.read(settings.key, where=f"{where}.key"),
            where=f"{where}.certificate",
        )
    return context


def load_certificate(context: ssl.SSLContext, chain: bytes, key: bytes, *, where: str) -> None:
    """Give a context its own certificate; OpenSSL reads it from a file, which is gone at once.

    Raises:
        SchemaError: Certificate and key are malformed or do not belong together.
    """
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "own.pem"
        pem.touch(mode=0o600)
        pem.write_bytes(chain + b"\n" + key)
        try:
            # An empty passphrase, or OpenSSL would ask the terminal for one.
            context.load_cert_chain(pem, password="")
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise SchemaError(where, f"Not a certificate and its key: {reason}") from None


def _ca_text(ca: str, folder: Folder, secrets: Secrets, where: str) -> str:
    if ca.startswith(("env:", "file:")):
        text = secrets.read(ca, where=f"{where}.ca").decode("ascii", "replace")
    else:
        text = folder.text(ca)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise SchemaError(f"{where}.ca", "Not a certificate in PEM") from None
    return text
