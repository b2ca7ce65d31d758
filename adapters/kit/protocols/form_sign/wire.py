"""Pairs of names and values: how they are written, read, signed and verified. Nothing else is sent.

What is signed is the text `a=1&b=2`: the pairs sorted by name, without those whose value is empty and
without `sign` and `sign_type`, as bytes in the charset agreed. The text has no escapes, so a value
that holds `&` could pass for two pairs under the same signature; such a value is therefore neither
written nor read, and neither is a name twice.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from typing import TYPE_CHECKING, Final, Literal

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapters.kit.signers import Signer, SignType, Verifier

Charset = Literal["GBK", "UTF-8"]
SIGN: Final = "sign"
SIGN_TYPE: Final = "sign_type"
PAIRS_MAX: Final = 100
_UNSIGNED: Final = frozenset((SIGN, SIGN_TYPE))
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}\Z")
_NOT_IN_VALUE: Final = re.compile(r"[&\x00-\x1f\x7f\ud800-\udfff]")


def is_writable(value: str, charset: Charset) -> bool:
    """Whether a value can be sent at all: it is of the charset, on one line, and without `&`."""
    if _NOT_IN_VALUE.search(value):
        return False
    try:
        value.encode(charset)
    except UnicodeEncodeError:
        return False
    return True


def text_to_sign(pairs: Mapping[str, str], charset: Charset) -> bytes:
    """The bytes that the signature covers."""
    kept = sorted((name, value) for name, value in pairs.items() if value)
    text = "&".join(f"{name}={value}" for name, value in kept if name not in _UNSIGNED)
    return text.encode(charset)


def signed(
    pairs: Mapping[str, str], signer: Signer, sign_type: SignType, charset: Charset
) -> dict[str, str]:
    """The pairs that have a value, with the kind of signature and the signature.

    Raises:
        ValueError: A name or a value cannot be written; what it is checked for before.
    """
    for name, value in pairs.items():
        if not _NAME.match(name) or not is_writable(value, charset):
            raise ValueError(f"the pair {name!r} cannot be written in {charset}")
    kept = {name: value for name, value in pairs.items() if value}
    return {**kept, SIGN_TYPE: sign_type, SIGN: signer.sign(text_to_sign(kept, charset))}


def is_signed(
    pairs: Mapping[str, str], verifier: Verifier, sign_type: SignType, charset: Charset
) -> bool:
    """Tell whether the pairs carry a signature of this kind and key, over exactly these pairs.

    The kind is the one agreed, never the one that the pairs name: that is not signed.
    """
    if pairs.get(SIGN_TYPE, sign_type) != sign_type or not pairs.get(SIGN):
        return False
    return verifier.is_signed(text_to_sign(pairs, charset), pairs[SIGN])


def write_form(pairs: Mapping[str, str], charset: Charset) -> bytes:
    """Write pairs as a form (application/x-www-form-urlencoded), escaped in the charset."""
    return urllib.parse.urlencode(pairs, encoding=charset, errors="strict").encode("ascii")


def read_form(body: bytes, charset: Charset) -> dict[str, str]:
    """Read a form.

    Raises:
        SchemaError: It is no form, not of the charset, or holds a pair that none of ours may be.
    """
    try:
        found = urllib.parse.parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            encoding=charset,
            errors="strict",
            max_num_fields=PAIRS_MAX,
        )
    except ValueError as error:
        raise SchemaError("$", f"Not a form in {charset}") from error
    return _checked(found)


def write_json(pairs: Mapping[str, str], charset: Charset) -> bytes:
    """Write pairs as a flat JSON object of strings, in the charset."""
    return json.dumps(dict(pairs), ensure_ascii=False, separators=(",", ":")).encode(charset)


def read_json(body: bytes, charset: Charset) -> dict[str, str]:
    """Read a flat JSON object of strings.

    A number would lose the spelling that was signed (1.10 against 1.1), so only strings are taken.

    Raises:
        SchemaError: It is no such object, not of the charset, or holds a pair that none of ours may be.
    """
    try:
        found = json.loads(body.decode(charset), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise SchemaError("$", f"Not JSON in {charset}") from error
    if not isinstance(found, _Pairs):
        raise SchemaError("$", "Expected an object")
    return _checked(found)


class _Pairs(list[tuple[str, object]]):
    """An object's members as written, so that one that stands there twice is seen."""


def _checked(found: list[tuple[str, str]] | _Pairs) -> dict[str, str]:
    pairs: dict[str, str] = {}
    if len(found) > PAIRS_MAX:
        raise SchemaError("$", f"More than {PAIRS_MAX} pairs")
    for name, value in found:
        if not _NAME.match(name):
            raise SchemaError("$", "A name that is not plain")
        if name in pairs:
            raise SchemaError(f"$.{name}", "Stands there twice")
        if not isinstance(value, str):
            raise SchemaError(f"$.{name}", "Expected a string")
        if _NOT_IN_VALUE.search(value):
            raise SchemaError(f"$.{name}", "Holds `&` or a control character")
        pairs[name] = value
    return pairs
