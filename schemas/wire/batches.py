"""Batches as merchants see them: what is in them, their files, and confirmations."""

from typing import Annotated, Literal

import msgspec

Standing = Literal["waiting", "confirmed", "objected", "silent"]


class StandingView(msgspec.Struct, frozen=True, kw_only=True):
    """Where a batch stands with a merchant.

    Attributes:
        merchant: Code of the merchant.
        state: By the last thing that it said. `silent`: it said nothing in time, which is no consent.
        late: Whether it said nothing in time, be it that it said something since.
        since: When it said the last thing; null where it said nothing.
    """

    merchant: str
    state: Standing
    late: bool
    since: str | None


class BatchView(msgspec.Struct, frozen=True, kw_only=True):
    """One batch.

    Attributes:
        cycle: Id of the cycle.
        batch: What payments call the batch.
        sequence: Number of its package.
        manifest_sha256: Digest of the package's manifest, which a confirmation names.
        closed_at: When the cycle closed.
        due_at: When the batch is to be confirmed.
        merchants: Where it stands: with the caller, if it has lines in it; the house sees all.
    """

    cycle: str
    batch: str
    sequence: int
    manifest_sha256: str
    closed_at: str
    due_at: str
    merchants: list[StandingView]


class BatchesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of batches.

    Attributes:
        batches: Newest first.
        next: Cursor of the next page; null on the last.
    """

    batches: list[BatchView]
    next: str | None


class FileView(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a batch.

    Attributes:
        name: Its name in `/v1/batches/{cycle}/files/{file}`.
        bytes: Its length.
        signed: Whether it is part of the signed package; the others are made of it for people.
    """

    name: str
    bytes: int
    signed: bool


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One batch and its files.

    Attributes:
        batch: The batch.
        files: What the caller may fetch of it.
    """

    batch: BatchView
    files: list[FileView]


class ConfirmationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A confirmation of a batch, or an objection to it.

    Attributes:
        confirmation: The signed document (JWS in compact form); `tongdui package confirm` makes it.
    """

    confirmation: Annotated[
        str,
        msgspec.Meta(
            max_length=48_000, pattern=r"\A[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z"
        ),
    ]


class ConfirmationView(msgspec.Struct, frozen=True, kw_only=True):
    """An entry: what a merchant said about a batch.

    Attributes:
        number: Number of the entry.
        merchant: Code of the merchant.
        verdict: What it said.
        reason: Why it objects.
        orders: How many orders it names.
        received_at: When it was received.
        late: Whether that was after the batch was due.
        confirmation: The signed document.
        public_key: The key that signed it, as `x` of its JSON Web Key.
    """

    number: int
    merchant: str
    verdict: Literal["confirmed", "objected"]
    reason: str
    orders: int
    received_at: str
    late: bool
    confirmation: str
    public_key: str


class ConfirmationsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of entries.

    Attributes:
        confirmations: Oldest first; what came later does not replace what came before.
        next: Cursor of the next page; null on the last.
    """

    confirmations: list[ConfirmationView]
    next: str | None
