"""A time-stamping authority of the tests' own: `openssl ts` behind an HTTP server on the loopback."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CONFIG = """[tsa]
default_tsa = own
[own]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""
QUERY = ("openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query.tsq")
REPLY = (*QUERY, "-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "answer.tsr")
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2126, 1, 1, tzinfo=UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """A root and a certificate for time stamping in a folder.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    @classmethod
    def make(
        cls,
        folder: Path,
        *,
        valid: tuple[datetime, datetime] = (LONG_AGO, FAR_AHEAD),
    ) -> Authority:
        """Make an authority whose signing certificate is valid between two instants."""
        folder.mkdir(parents=True, exist_ok=True)
        root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root = (
            x509.CertificateBuilder(_name("root"), _name("root"))
            .public_key(root_key.public_key())
            .serial_number(1)
            .not_valid_before(LONG_AGO)
            .not_valid_after(FAR_AHEAD)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), False)
            .sign(root_key, hashes.SHA256())
        )
        certificate = (
            x509.CertificateBuilder(_name("root"), _name("tsa"))
            .public_key(key.public_key())
            .serial_number(2)
            .not_valid_before(valid[0])
            .not_valid_after(valid[1])
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False
            )
            .sign(root_key, hashes.SHA256())
        )
        (folder / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
        (folder / "tsa.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / "tsa.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder))
        (folder / "serial").write_text("01\n")
        return cls(folder)

    @property
    def root(self) -> Path:
        """The root certificate."""
        return self.folder / "root.pem"

    def answer(self, request: bytes) -> bytes:
        """Stamp; what cannot be stamped is refused in the form of the protocol."""
        (self.folder / "query.tsq").write_bytes(request)
        subprocess.run(
            REPLY,
            cwd=self.folder,
            check=True,
            capture_output=True,
        )
        return (self.folder / "answer.tsr").read_bytes()

    @contextmanager
    def serving(self, answers: Any = None) -> Iterator[str]:
        """Serve over HTTP; its address. `answers` may say what is answered instead."""
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/timestamp-query"
                content = (answers or authority.answer)(body)
                self.send_response(200 if content is not None else 500)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def in_the_past() -> tuple[datetime, datetime]:
    """A time that was over an hour ago."""
    now = datetime.now(UTC)
    return now - timedelta(days=2), now - timedelta(hours=1)
