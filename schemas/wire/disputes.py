"""Disputes about lines, and the terms of changes that correct."""

from typing import Annotated, Literal

import msgspec

from schemas.wire.fields import MerchantCode
from schemas.wire.proposals import Sha256

DisputeName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\AD[1-9][0-9]{0,8}\Z", description="What a dispute is called.", examples=["D12"]
    ),
]
SignedCuDigits = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A(0|-?[1-9][0-9]{0,14})\Z",
        description="Common units (CU), as digits: above 0 is owed, below 0 taken back.",
        examples=["-2500"],
    ),
]


class _Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all terms are."""


class DecisionTerms(_Terms, frozen=True, kw_only=True):
    """`dispute.decide`: the claim, or a part of it, is granted, or it is rejected.

    Attributes:
        dispute: The case.
        outcome: How it ends.
        debit_cu: What the issuer owes more or less; all three figures or none, which grants the claim.
        value_cu: What the acceptor is credited more or less before the fee.
        fee_cu: What of it is the house's fee.
    """

    dispute: DisputeName
    outcome: Literal["accept", "reject"]
    debit_cu: SignedCuDigits | None = None
    value_cu: SignedCuDigits | None = None
    fee_cu: SignedCuDigits | None = None


class CorrectionTerms(_Terms, frozen=True, kw_only=True):
    """`corrections.take`: a file of corrections.

    Attributes:
        merchant: Who hands it over; `HOUSE` for the house.
        file: The file, as text.
    """

    merchant: MerchantCode
    file: Annotated[str, msgspec.Meta(min_length=1, max_length=200_000)]


class QuarterTerms(_Terms, frozen=True, kw_only=True):
    """`remainders.return`: what the rounding account collected goes back to the issuers.

    Attributes:
        quarter: A quarter that is over, for example `2026Q3`.
    """

    quarter: Annotated[str, msgspec.Meta(pattern=r"\A20[0-9]{2}Q[1-4]\Z", examples=["2026Q3"])]


_Text = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[^\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]{1,2000}\Z",
        description="What is said, 1 to 2,000 characters; no member's name, number or token.",
        examples=["The bill was cancelled at the till, see the receipt."],
    ),
]
OrderId = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\Z",
        description="An order's id.",
        examples=["01936d2c-5a00-7001-8000-000000000007"],
    ),
]


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an adjustment comes to: owed, none below 0, or taken back, none above 0.

    Attributes:
        debit_cu: What the issuer owes more or less.
        value_cu: What the acceptor is credited more or less, before the fee.
        fee_cu: What of it is the house's fee.
    """

    debit_cu: SignedCuDigits
    value_cu: SignedCuDigits
    fee_cu: SignedCuDigits


class DisputeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A case about the line of an order.

    Attributes:
        order_id: The order.
        text: What is wrong.
        claim: What is to be booked; all that is left of the order goes back where it is left out.
    """

    order_id: OrderId
    text: _Text
    claim: Claim | None = None

    def canonical(self) -> tuple[object, ...]:
        """What tells it from another request under the same key."""
        claim = self.claim and (self.claim.debit_cu, self.claim.value_cu, self.claim.fee_cu)
        return ("dispute", self.order_id, self.text, claim)


class EvidenceFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of evidence, which stays with whoever has it; the house asks for it where it must look.

    Attributes:
        sha256: Digest of the file.
        bytes: Its length.
    """

    sha256: Sha256
    bytes: Annotated[int, msgspec.Meta(ge=0, le=100_000_000)]


class DisputeStepRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step in a case.

    Attributes:
        step: `answer` by the side that did not open it, `evidence` by either, `withdraw` by who opened it.
        text: What is said with it.
        file: A file of evidence.
    """

    step: Literal["answer", "evidence", "withdraw"]
    text: _Text
    file: EvidenceFile | None = None

    def canonical(self, dispute: str) -> tuple[object, ...]:
        """What tells it from another request under the same key."""
        file = self.file and (self.file.sha256, self.file.bytes)
        return ("dispute_step", dispute, self.step, self.text, file)


class DisputeStepView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step that was taken.

    Attributes:
        step: `answer`, `evidence`, `withdraw`, `accept` or `reject`.
        party: Code of the merchant that took it, or `HOUSE`.
        at: When.
        text: What was said with it.
        file: A file of evidence.
        granted: What an acceptance has booked.
    """

    step: str
    party: str
    at: str
    text: str
    file: EvidenceFile | None = None
    granted: Claim | None = None


class Booked(msgspec.Struct, frozen=True, kw_only=True):
    """The adjustment in which a case ended.

    Attributes:
        adjustment_id: Its id; a proof can be asked for under it.
        cycle: The cycle in which it stands.
    """

    adjustment_id: str
    cycle: str


class DisputeView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A case and how it stands.

    Attributes:
        dispute: What it is called.
        state: `opened`, `answered`, `accepted`, `rejected`, `withdrawn` or `lapsed`.
        order_id: The order whose line is disputed; left out where none is.
        cycle: The cycle in which that line stands; left out likewise.
        issuer: Code of the line's issuer.
        acceptor: Code of its acceptor.
        opener: Code of who opened the case, or `HOUSE`.
        match_no: The match of reconciliation that it came from; left out for none.
        claim: What is wanted.
        text: What is wrong.
        opened_at: When it was opened.
        answer_due_at: Until when the other side is waited for.
        deadline: When it lapses, if nobody has decided.
        steps: What happened since, in order.
        booked: The adjustment in which it ended; left out until there is one.
        refused: Reason for which the books refused what was granted; left out where they did not.
    """

    dispute: str
    state: Literal["opened", "answered", "accepted", "rejected", "withdrawn", "lapsed"]
    order_id: str | None = None
    cycle: str | None = None
    issuer: str
    acceptor: str
    opener: str
    match_no: int | None = None
    claim: Claim
    text: str
    opened_at: str
    answer_due_at: str
    deadline: str
    steps: list[DisputeStepView]
    booked: Booked | None = None
    refused: str | None = None


class DisputesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Cases.

    Attributes:
        disputes: Newest first.
        next: Cursor of the next page; null on the last.
    """

    disputes: list[DisputeView]
    next: str | None
