"""Certificates of a simulator's own authority, made when it starts and trusted by nobody else."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters.kit.tls import load_certificate

_LIFE: Final = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Signs certificates for this machine's own address and for clients."""

    def __init__(self, name: str) -> None:
        """Make a key and a certificate of its own."""
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        whole = self._builder(self._name, self._key.public_key())
        whole = whole.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = _pem(whole.sign(self._key, hashes.SHA256()))

    def issue(self, name: str, *, days_ago: int = 0) -> Identity:
        """Make a certificate for `127.0.0.1` and `localhost` that also serves a client.

        Args:
            name: Common name.
            days_ago: When it began to hold; one of more than two days is over.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        whole = self._builder(subject, key.public_key(), days_ago).add_extension(
            names, critical=False
        )
        return Identity(
            certificate=_pem(whole.sign(self._key, hashes.SHA256())),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def server(self, identity: Identity, *, clients: bool = False) -> ssl.SSLContext:
        """A server's context.

        Args:
            identity: Whom it shows.
            clients: Whether a client must show a certificate of this authority too.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        load_certificate(
            context, identity.certificate, identity.key, where=identity.__class__.__name__
        )
        if clients:
            context.load_verify_locations(cadata=self.certificate.decode())
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days_ago: int = 0
    ) -> x509.CertificateBuilder:
        start = datetime.now(UTC) - timedelta(days=days_ago, hours=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + _LIFE)
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
