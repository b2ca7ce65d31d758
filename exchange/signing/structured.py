"""The fields `Signature-Input` and `Signature` (RFC 9421 §4), in the one spelling that is taken here.

Structured fields (RFC 9651) allow several spellings of the same value, and a message may carry several
signatures. Two readers of one message could then disagree about what was signed, so only the canonical
spelling is read, with one signature. What is not that is not judged: it is malformed.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

FIELD_CHARS_MAX: Final = 1024
SIGNATURE_BYTES: Final = 64

_LABEL: Final = r"[a-z*][a-z0-9_.*-]{0,31}"
_COMPONENT: Final = r'"[@a-z][a-z0-9-]{0,63}"(?:;req)?'
_VALUE: Final = r'[0-9]{1,15}|"[ !#-\[\]-~]{0,256}"'
_INPUT: Final = re.compile(
    rf"(?P<label>{_LABEL})=(?P<parameters>\((?P<components>(?:{_COMPONENT}(?: {_COMPONENT})*)?)\)"
    rf"(?P<named>(?:;[a-z]{{1,16}}=(?:{_VALUE}))*))"
)
_NAMED: Final = re.compile(rf";([a-z]{{1,16}})=({_VALUE})")
_SIGNATURE: Final = re.compile(rf"({_LABEL})=:([A-Za-z0-9+/]{{85}}[AQgw]==):")


class SignatureInput(NamedTuple):
    """What a message says about its signature.

    Attributes:
        label: Name of the signature within the message.
        components: Identifiers of what it covers, as they are written: `"@method"`, `"signature";req`.
        named: Its parameters: whole numbers, or texts.
        parameters: The value of `@signature-params` (RFC 9421 §2.3), character by character.
    """

    label: str
    components: tuple[str, ...]
    named: dict[str, int | str]
    parameters: str


def parse_input(text: str) -> SignatureInput | None:
    """Read `Signature-Input`; None if it is not one signature in canonical spelling."""
    if len(text) > FIELD_CHARS_MAX:
        return None
    found = _INPUT.fullmatch(text)
    if found is None:
        return None
    label, parameters, listed, written = found.groups()
    components = tuple(listed.split(" ")) if listed else ()
    pairs = _NAMED.findall(written)
    named: dict[str, int | str] = {
        name: value[1:-1] if value[0] == '"' else int(value) for name, value in pairs
    }
    if len(named) != len(pairs) or len(set(components)) != len(components):
        return None
    return SignatureInput(label, components, named, parameters)


def parse_signature(text: str, label: str) -> bytes | None:
    """Read `Signature`: the 64 bytes under this label; None if it is anything else."""
    found = _SIGNATURE.fullmatch(text)
    if found is None or found[1] != label:
        return None
    return binascii.a2b_base64(found[2])


def write_signature(label: str, signature: bytes) -> str:
    """Write the field `Signature`."""
    return f"{label}=:{b64encode(signature).decode('ascii')}:"


def write_parameters(components: Iterable[str], named: Iterable[tuple[str, int | str]]) -> str:
    """Write the value of `@signature-params`.

    Raises:
        ValueError: A text holds what this spelling has no place for.
    """
    written = "".join(
        f";{name}={value}" if isinstance(value, int) else f';{name}="{value}"'
        for name, value in named
    )
    parameters = f"({' '.join(components)}){written}"
    if parse_input(f"sig={parameters}") is None:
        raise ValueError(f"these parameters cannot be written: {parameters}")
    return parameters


def signature_base(components: Iterable[tuple[str, str]], parameters: str) -> bytes | None:
    """Write the signature base (RFC 9421 §2.5): exactly the bytes that are signed.

    Args:
        components: Identifier and value of each component, in the order in which they are covered.
        parameters: The value of `@signature-params`.

    Returns:
        The bytes; None if a value has no place in it (a line end, or anything beyond ASCII).
    """
    lines = [f"{name}: {value}" for name, value in components]
    lines.append(f'"@signature-params": {parameters}')
    base = "\n".join(lines)
    if base.count("\n") != len(lines) - 1 or "\r" in base or not base.isascii():
        return None
    return base.encode("ascii")
