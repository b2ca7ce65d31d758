"""SOAP 1.1 envelopes and WS-Security user names: written, and read from bytes that nobody vouches for.

A document type is refused before anything of it is looked at (SOAP 1.1 §3 forbids one), so there are
no entities to expand and nothing to fetch; only UTF-8 is read, whatever the declaration says, so that
the refusal cannot be hidden in another encoding; size and depth are bounded.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from lxml import etree

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SOAP: Final = "http://schemas.xmlsoap.org/soap/envelope/"
_ENVELOPE: Final = f"{{{SOAP}}}Envelope"
_HEADER: Final = f"{{{SOAP}}}Header"
_BODY: Final = f"{{{SOAP}}}Body"
_FAULT: Final = f"{{{SOAP}}}Fault"
_MUST_UNDERSTAND: Final = f"{{{SOAP}}}mustUnderstand"
_OASIS: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
WSSE: Final = f"{_OASIS}wssecurity-secext-1.0.xsd"
_SECURITY: Final = f"{{{WSSE}}}Security"
WSU: Final = f"{_OASIS}wssecurity-utility-1.0.xsd"
PASSWORD_DIGEST: Final = f"{_OASIS}username-token-profile-1.0#PasswordDigest"
BASE64_BINARY: Final = f"{_OASIS}soap-message-security-1.0#Base64Binary"
SOAP_FAULTS: Final = frozenset(("VersionMismatch", "MustUnderstand", "Client", "Server"))
"""Codes of SOAP 1.1 §4.4.1; the others that are written here are those of WS-Security 1.0 §12."""
CONTENT_TYPE: Final = "text/xml; charset=utf-8"
BYTES_MAX: Final = 1024 * 1024
DEPTH_MAX: Final = 16
NONCE_BYTES: Final = 16
_LONG: Final = re.compile(r"[+-]?[0-9]{1,19}\Z", re.ASCII)
_LONG_END: Final = 2**63
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What an envelope holds.

    Attributes:
        header: Header entries of the host's namespace that hold text, by local name.
        security: The Security header; None if there is none.
        body: The one child of the body.
    """

    header: Mapping[str, str]
    security: etree._Element | None
    body: etree._Element


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A SOAP fault (SOAP 1.1 §4.4).

    Attributes:
        kind: Local name of `faultcode`: `Client`, `Server`, `MustUnderstand`, `VersionMismatch`, or other.
        text: What it says for people; foreign, so never passed on.
        detail: Text of the children of the one detail entry of the host's namespace, by local name.
    """

    kind: str
    text: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsernameToken:
    """A user name with the digest of its password (WSS UsernameToken Profile 1.0 §3.1)."""

    user: str
    digest: str
    nonce: bytes
    created: str

    def is_of(self, password: bytes) -> bool:
        """Whether whoever wrote it knew the password."""
        return hmac.compare_digest(self.digest, password_digest(self.nonce, self.created, password))


def is_writable(text: str) -> bool:
    """Whether a text can be written in XML 1.0 at all (§2.2), and on one line."""
    return not _NOT_IN_XML.search(text) and not set(text) & {"\t", "\n", "\r"}


def password_digest(nonce: bytes, created: str, password: bytes) -> str:
    """Base64 of SHA-1 over nonce, time and password (WSS UsernameToken Profile 1.0 §3.1)."""
    whole = hashlib.sha1(nonce + created.encode() + password, usedforsecurity=True)  # noqa: S324 - the profile prescribes it; TLS protects the channel
    return base64.b64encode(whole.digest()).decode()


def element(namespace: str, name: str, children: Iterable[tuple[str, str]] = ()) -> etree._Element:
    """An element whose children hold text only; those without a text are left out."""
    made = etree.Element(etree.QName(namespace, name))
    for child, text in children:
        if text:
            etree.SubElement(made, etree.QName(namespace, child)).text = text
    return made


def text_element(namespace: str, name: str, text: str) -> etree._Element:
    """An element that holds a text."""
    made = etree.Element(etree.QName(namespace, name))
    made.text = text
    return made


def security(user: str, password: bytes, nonce: bytes, created: str) -> etree._Element:
    """A Security header with a user name token."""
    made = etree.Element(etree.QName(WSSE, "Security"), nsmap={"wsse": WSSE, "wsu": WSU})
    made.set(etree.QName(SOAP, "mustUnderstand"), "1")
    token = etree.SubElement(made, etree.QName(WSSE, "UsernameToken"))
    etree.SubElement(token, etree.QName(WSSE, "Username")).text = user
    digest = etree.SubElement(token, etree.QName(WSSE, "Password"), {"Type": PASSWORD_DIGEST})
    digest.text = password_digest(nonce, created, password)
    encoded = etree.SubElement(token, etree.QName(WSSE, "Nonce"), {"EncodingType": BASE64_BINARY})
    encoded.text = base64.b64encode(nonce).decode()
    etree.SubElement(token, etree.QName(WSU, "Created")).text = created
    return made


def write_envelope(namespace: str, header: Iterable[etree._Element], body: etree._Element) -> bytes:
    """Write an envelope in UTF-8."""
    envelope = etree.Element(etree.QName(SOAP, "Envelope"), nsmap={"soap": SOAP, "m": namespace})
    entries = list(header)
    if entries:
        etree.SubElement(envelope, etree.QName(SOAP, "Header")).extend(entries)
    etree.SubElement(envelope, etree.QName(SOAP, "Body")).append(body)
    etree.cleanup_namespaces(envelope, keep_ns_prefixes=["soap", "m", "wsse"])
    return etree.tostring(envelope, encoding="utf-8", xml_declaration=True)


def fault_element(
    namespace: str, kind: str, text: str, detail: Iterable[tuple[str, str]] = ()
) -> etree._Element:
    """A fault, with one detail entry of the host's namespace."""
    made = etree.Element(etree.QName(SOAP, "Fault"), nsmap={"soap": SOAP, "wsse": WSSE})
    # The children of a fault are of no namespace (SOAP 1.1 §4.4); the code is a qualified name.
    prefix = "soap" if kind in SOAP_FAULTS else "wsse"
    etree.SubElement(made, "faultcode").text = f"{prefix}:{kind}"
    etree.SubElement(made, "faultstring").text = text
    entries = list(detail)
    if entries:
        entry = element(namespace, "Fault", entries)
        etree.SubElement(made, "detail").append(entry)
    return made


def read_envelope(body: bytes, namespace: str) -> Message:
    """Read an envelope.

    Args:
        body: What came.
        namespace: The host's own namespace.

    Raises:
        SchemaError: It is no SOAP 1.1 envelope, holds a document type, is too large or too deep, or
            has a header that must be understood and is not.
    """
    root = _parse(body)
    if root.tag != _ENVELOPE:
        raise SchemaError("$", "Not a SOAP 1.1 envelope")
    parts = {child.tag: child for child in root}
    if len(parts) != len(root) or not parts.keys() <= {_HEADER, _BODY}:
        raise SchemaError("$", "Expected one header at most, and one body")
    inner = parts.get(_BODY)
    if inner is None or len(inner) != 1:
        raise SchemaError("$.Body", "Expected one element")
    header: dict[str, str] = {}
    security_header = None
    for entry in parts.get(_HEADER, ()):
        name = etree.QName(entry)
        if entry.tag == _SECURITY:
            security_header = entry
        elif name.namespace == namespace and not len(entry) and name.localname not in header:
            header[name.localname] = (entry.text or "").strip()
        elif entry.get(_MUST_UNDERSTAND) == "1":
            raise SchemaError("$.Header", "An entry that must be understood, and is not")
    return Message(header=header, security=security_header, body=inner[0])


def read_fault(element: etree._Element, namespace: str) -> Fault | None:
    """Read a fault; None if the element is none."""
    if element.tag != _FAULT:
        return None
    kind = (element.findtext("faultcode") or "").strip().rpartition(":")[2]
    text = (element.findtext("faultstring") or "").strip()
    entry = element.find(f"detail/{{{namespace}}}Fault")
    try:
        detail = texts(entry, namespace) if entry is not None else {}
    except SchemaError:
        detail = {}
    return Fault(kind=kind, text=text, detail=detail)


def read_username_token(element: etree._Element) -> UsernameToken:
    """Read the user name token of a Security header.

    Raises:
        SchemaError: There is none, or it is not one with a digest, a nonce and a time.
    """
    token = element.find(f"{{{WSSE}}}UsernameToken")
    password = None if token is None else token.find(f"{{{WSSE}}}Password")
    if token is None or password is None or password.get("Type") != PASSWORD_DIGEST:
        raise SchemaError("$.Header.Security", "Expected a UsernameToken with a PasswordDigest")
    try:
        nonce = binascii.a2b_base64(token.findtext(f"{{{WSSE}}}Nonce") or "", strict_mode=True)
    except ValueError:
        raise SchemaError("$.Header.Security.Nonce", "Not Base64") from None
    user = token.findtext(f"{{{WSSE}}}Username")
    created = token.findtext(f"{{{WSU}}}Created")
    if not (user and created and nonce):
        raise SchemaError("$.Header.Security", "Expected a user name, a nonce and a time")
    return UsernameToken(user=user, digest=password.text or "", nonce=nonce, created=created)


def texts(element: etree._Element, namespace: str) -> dict[str, str]:
    """Texts of those children that hold nothing but text, by local name.

    Raises:
        SchemaError: A child of the namespace stands there twice.
    """
    found: dict[str, str] = {}
    for child in element:
        name = etree.QName(child)
        if name.namespace != namespace or len(child):
            continue
        if name.localname in found:
            raise SchemaError(f"$.{name.localname}", "Stands there twice")
        found[name.localname] = (child.text or "").strip()
    return found


def read_long(text: str) -> int:
    """Read an xs:long (XML Schema 1.0 part 2, §3.3.16).

    Raises:
        ValueError: It is none.
    """
    number = int(text) if _LONG.match(text) else _LONG_END
    if not -_LONG_END <= number < _LONG_END:
        raise ValueError("not an xs:long")
    return number


def instant_text(at_us: int) -> str:
    """Write an instant as an xs:dateTime in UTC, to the millisecond."""
    whole, rest = divmod(at_us, 1_000_000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000:03d}Z"


def read_instant(text: str) -> int:
    """Read an xs:dateTime that names its offset, as microseconds since 1970 UTC.

    Raises:
        ValueError: It is none, or it does not name its offset.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("an instant without an offset")
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _parse(body: bytes) -> etree._Element:
    if len(body) > BYTES_MAX:
        raise SchemaError("$", f"More than {BYTES_MAX} bytes")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise SchemaError("$", "Text is not valid UTF-8") from None
    if "<!DOCTYPE" in text:
        raise SchemaError("$", "Holds a document type")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        # The parser's own sentence is not quoted: it holds what stood there.
        raise SchemaError("$", "Not XML") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise SchemaError("$", "Holds a document type")
    depth = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > DEPTH_MAX:
            raise SchemaError("$", f"Nested deeper than {DEPTH_MAX}")
    return root
