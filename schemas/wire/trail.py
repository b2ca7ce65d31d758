"""The audit trail over HTTP."""

from typing import Any

import msgspec

from schemas.wire.fields import PositiveDigits


class TrailLine(msgspec.Struct, frozen=True, kw_only=True):
    """One change that a person or a key made.

    Attributes:
        entry_no: Its place in the trail, without a gap.
        at: When.
        who: `person:NAME`, `key:ID`, `local:USER` or `program`.
        second: Who approved it; empty where nobody had to.
        action: What was done, as `noun.verb`.
        subject: To what.
        before: What it was; null where there was nothing.
        after: What it is from then on; null where there is nothing left.
        why: The reason that was given.
        digest: SHA-256 over the digest before and this entry's canonical JSON, in hexadecimal.
    """

    entry_no: PositiveDigits
    at: str
    who: str
    second: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    why: str
    digest: str


class TrailAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the audit trail.

    Attributes:
        entries: Oldest first.
        next: Cursor of the next page; null on the last.
    """

    entries: list[TrailLine]
    next: str | None
