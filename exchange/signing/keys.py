"""Keys of callers: their ids, their form as JSON Web Keys, and the proof that somebody holds one."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CSR_CHARS_MAX: Final = 4_096


class KeyRequest(NamedTuple):
    """A public key whose private part its sender holds.

    Attributes:
        code: The merchant that it is for; `HOUSE` for the operator.
        public: The key.
    """

    code: str
    public: Ed25519PublicKey


def thumbprint(public: Ed25519PublicKey) -> str:
    """Id of a key: the SHA-256 of its canonical JSON Web Key (RFC 7638 §3, RFC 8037 §2)."""
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{_url(public.public_bytes_raw())}"}}'
    return _url(hashlib.sha256(canonical.encode("ascii")).digest())


def coordinate(public: Ed25519PublicKey) -> str:
    """The key as `x` of its JSON Web Key (RFC 8037 §2)."""
    return _url(public.public_bytes_raw())


def read_csr(text: str) -> KeyRequest | None:
    """Read a certification request (PKCS #10, RFC 2986), which its own key signed.

    Returns:
        The key and for whom it is; None if it is not such a request, its key is not Ed25519, it names
        not exactly one common name, or it was not signed by the key that it holds.
    """
    if len(text) > CSR_CHARS_MAX:
        return None
    try:
        request = x509.load_pem_x509_csr(text.encode("ascii"))
        public = request.public_key()
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        genuine = request.is_signature_valid
    except Exception:  # noqa: BLE001 - the parser's errors are many; each means: no such request
        return None
    if not genuine or len(names) != 1 or not isinstance(public, Ed25519PublicKey):
        return None
    return KeyRequest(str(names[0].value), public)


def make_csr(private: Ed25519PrivateKey, code: str) -> str:
    """Write the certification request with which a key is registered."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, code)])
    )
    return builder.sign(private, None).public_bytes(Encoding.PEM).decode("ascii")


def _url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 §2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
