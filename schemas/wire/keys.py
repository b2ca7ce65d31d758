"""Keys with which callers sign: registering and showing them, as JSON Web Keys (RFC 7517, RFC 8037)."""

from typing import Annotated, Literal

import msgspec

from schemas.wire.merchants import PersonText

CsrText = Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
OverlapHours = Annotated[int, msgspec.Meta(ge=0, le=24 * 365)]
KeyState = Literal["active", "retiring", "retired", "revoked"]


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to register, with the proof that its sender holds it.

    Attributes:
        csr: Certification request (PKCS #10, RFC 2986) as PEM: Ed25519, its common name the merchant's
            code, signed with the key itself.
        label: What the key is for.
        overlap_hours: Rotation: the merchant's other keys count for so many hours more, then retire.
            Left out, they stay as they are.
    """

    csr: CsrText
    label: PersonText = "key"
    overlap_hours: OverlapHours | None = None


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A registered key.

    Attributes:
        kty: Key type of RFC 8037.
        crv: Curve.
        x: The public key, base64url.
        kid: Its id: its thumbprint (RFC 7638).
        alg: Algorithm of RFC 9864.
        use: What it is for.
        merchant: Whose it is; `HOUSE` for the operator.
        label: What it is for, in the owner's words.
        state: Whether it counts: `active` and `retiring` do.
        registered_at: Since when.
        retires_at: Until when, if that is set.
        revoked_at: When it was revoked.
    """

    x: str
    kid: str
    merchant: str
    label: str
    state: KeyState
    registered_at: str
    retires_at: str | None = None
    revoked_at: str | None = None
    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    alg: Literal["Ed25519"] = "Ed25519"
    use: Literal["sig"] = "sig"


class KeysAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Registered keys, as a JSON Web Key set.

    Attributes:
        keys: Oldest first.
        next: Cursor of the next page; null on the last.
    """

    keys: list[KeyView]
    next: str | None


class PublicKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key of the operator's, with which answers and packages are signed.

    Attributes:
        kty: Key type of RFC 8037.
        crv: Curve.
        x: The public key, base64url.
        kid: Its id.
        alg: Algorithm of RFC 9864.
        use: What it is for.
        nbf: It signs from then on, seconds since 1970.
        exp: From then on it signs nothing new.
    """

    x: str
    kid: str
    nbf: int
    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    alg: Literal["Ed25519"]
    use: Literal["sig"]
    exp: int | None = None


class PublicKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's keys, as a JSON Web Key set.

    Attributes:
        keys: All but the revoked ones, oldest first.
    """

    keys: list[PublicKey]
