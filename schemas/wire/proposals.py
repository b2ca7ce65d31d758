"""Proposals: changes that one person wants and another one approves."""

from typing import Annotated, Any, Literal

import msgspec

from schemas.wire.fields import CuDigits, Instant, MerchantCode, PositiveDigits
from schemas.wire.merchants import MerchantRequest, RateTerms
from schemas.wire.people import Name

Sha256 = Annotated[
    str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z", description="A SHA-256, in hexadecimal.")
]
Why = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,500}\Z",
        description="The reason, one line; the audit trail keeps it.",
        examples=["contract 12"],
    ),
]


class _Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all terms are."""


class RateChange(_Terms, frozen=True, kw_only=True):
    """`rate.set`: a merchant's rate for points spent or issued, from now on or from a later instant."""

    merchant: MerchantCode
    side: Literal["spend", "issue"]
    rate: RateTerms
    effective_at: Instant | None = None


class CapChange(_Terms, frozen=True, kw_only=True):
    """`cap.set`: a merchant's net debit cap."""

    merchant: MerchantCode
    cap_cu: CuDigits


class CollateralChange(_Terms, frozen=True, kw_only=True):
    """`collateral.set`: what a bank holds for a merchant."""

    merchant: MerchantCode
    collateral_cu: CuDigits


class TariffChange(_Terms, frozen=True, kw_only=True):
    """`tariff.set`: the house's fee in basis points."""

    fee_bps: Annotated[int, msgspec.Meta(ge=0, le=10_000)]


class RulesChange(_Terms, frozen=True, kw_only=True):
    """`member_rules.set`: what protects a programme's members; replaces what was, whole."""

    merchant: MerchantCode
    authority: Literal["none", "code", "issuer"] = "none"
    daily_cu: CuDigits = "0"
    daily_orders: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = 0


class JoinTerms(_Terms, frozen=True, kw_only=True):
    """`merchant.join`: a merchant's terms, and the digest of its first API key where it gets one."""

    merchant: MerchantRequest
    api_key_sha256: Sha256 | None = None


class ConnectTerms(_Terms, frozen=True, kw_only=True):
    """`merchant.connect`: the adapter to a merchant's own system, with its signed certificate."""

    merchant: MerchantCode
    adapter: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    certificate: Annotated[str, msgspec.Meta(max_length=32_000)]
    signature: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]
    settings: dict[str, Any] = {}


class ArrangementChange(_Terms, frozen=True, kw_only=True):
    """`arrangement.set`: pairs of merchants settle by it from the turn of their cycle on.

    Attributes:
        arrangement: Its code; `main` gives pairs back to the main arrangement.
        model: How its cycles are paid; only where no arrangement has the code yet.
        pairs: Pairs of merchants, by their codes.
    """

    arrangement: Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z0-9-]{0,19}\Z")]
    model: Literal["multilateral", "bilateral", "gross"] | None = None
    pairs: Annotated[list[tuple[MerchantCode, MerchantCode]], msgspec.Meta(max_length=1000)] = []


class SettleTerms(_Terms, frozen=True, kw_only=True):
    """`cycle.settle`: a closed cycle counts as funded and paid; its batch is released.

    Attributes:
        cycle: The cycle.
        despite_objections: Whether that is so although merchants object to the batch.
    """

    cycle: Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z][0-9A-Za-z_.-]{0,63}\Z")]
    despite_objections: bool = False


class DefaultTerms(_Terms, frozen=True, kw_only=True):
    """`cycle.default`: a merchant does not pay in for a closed cycle; what follows is the published waterfall.

    Attributes:
        cycle: The cycle.
        debtor: The merchant.
        despite_objections: Whether its steps are taken although merchants object to the batch.
    """

    cycle: Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z][0-9A-Za-z_.-]{0,63}\Z")]
    debtor: MerchantCode
    despite_objections: bool = False


PotName = Literal["funds", "collateral", "default_fund"]
PartyName = Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z][0-9A-Za-z._:-]{0,63}\Z")]


class FundsMove(_Terms, frozen=True, kw_only=True):
    """`funds.move`: money at the bank is counted for somebody else, or in another pot.

    `BANK` is what is in transit: a withdrawal goes there, a movement that nobody claimed comes from there. `HOUSE` is
    the house in the default fund, `HOUSE:fees` and `HOUSE:rounding` are its own accounts.
    """

    giver: PartyName
    taker: PartyName
    cu: CuDigits
    giver_pot: PotName = "funds"
    taker_pot: PotName = "funds"


class KeyTerms(_Terms, frozen=True, kw_only=True):
    """`api_key.issue`: the digest of a key that its maker has generated; nobody else ever sees the key."""

    merchant: MerchantCode
    sha256: Sha256
    label: Annotated[str, msgspec.Meta(max_length=80)] = ""


class CallerKeyTerms(_Terms, frozen=True, kw_only=True):
    """`caller_key.register`: a key with which a merchant, or the house, signs its requests."""

    csr: Annotated[str, msgspec.Meta(max_length=4_000)]
    label: Annotated[str, msgspec.Meta(max_length=80)] = ""


class PersonTerms(_Terms, frozen=True, kw_only=True):
    """`person.add`: a new person; who approves gets the invitation's second part."""

    name: Name
    roles: list[str]
    invitation_sha256: Sha256
    merchant: MerchantCode = "HOUSE"


class InviteTerms(_Terms, frozen=True, kw_only=True):
    """`person.invite`: a person who lost password or authenticator."""

    name: Name
    invitation_sha256: Sha256


class LinkTerms(_Terms, frozen=True, kw_only=True):
    """`person.link`: who a person is at the identity provider."""

    name: Name
    subject: Annotated[str, msgspec.Meta(pattern=r"\A[ -~]{1,255}\Z")]


class RolesTerms(_Terms, frozen=True, kw_only=True):
    """`person.set_roles`: what a person may do."""

    name: Name
    roles: list[str]


class ProposalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change that is wanted.

    Attributes:
        action: Which, for example `cap.set`.
        terms: What it is to be; the fields depend on the action.
        why: The reason.
    """

    action: Annotated[str, msgspec.Meta(pattern=r"\A[a-z_]{1,40}\.[a-z_]{1,40}\Z")]
    terms: dict[str, Any]
    why: Why


class ApprovalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Approves exactly what was read.

    Attributes:
        digest: The proposal's digest, as it was shown.
        why: A remark, if there is one.
    """

    digest: Sha256
    why: Why | None = None


class RejectionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rejects a proposal, or withdraws one's own.

    Attributes:
        why: The reason.
    """

    why: Why


class ProposalView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A proposal and what became of it.

    Attributes:
        proposal_no: Its number.
        state: `open`, `expired`, `rejected`, `approved` (still being carried out), `done`, or `refused` by the books.
        action: Which change.
        subject: Of what.
        terms: What it is to be.
        before: What it was when it was proposed.
        why: The reason.
        maker: Who proposed it.
        made_at: When.
        expires_at: Until when it can be approved.
        digest: Of all of this; whoever approves names it.
        decider: Who approved or rejected it.
        decided_at: When.
        refused: Why the books refused it.
        second: An invitation's second part, shown once to who approved it.
    """

    proposal_no: PositiveDigits
    state: str
    action: str
    subject: str
    terms: dict[str, Any]
    before: dict[str, Any] | None
    why: str
    maker: str
    made_at: str
    expires_at: str
    digest: str
    decider: str | None = None
    decided_at: str | None = None
    refused: str | None = None
    second: str | None = None


class ProposalsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Proposals.

    Attributes:
        proposals: Newest first.
        next: Cursor of the next page; null on the last.
    """

    proposals: list[ProposalView]
    next: str | None
