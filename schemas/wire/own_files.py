"""A merchant's own lines of a batch, sent to be matched with its signed statement, and what differs."""

from typing import Annotated, Literal

import msgspec

from schemas.wire.fields import REFERENCE_FORBIDDEN, CuDigits, Instant, SignedCu, UnitDigits

OWN_LINES_MAX = 100_000
OwnText = Annotated[str, msgspec.Meta(max_length=200, pattern=rf"\A[^{REFERENCE_FORBIDDEN}]*\Z")]
OwnCu = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A(0|-?[1-9][0-9]{0,14})\Z",
        description="Common units (CU), below 10^15: positive is to receive (应收), negative to pay (应付).",
    ),
]


class OwnLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the merchant's books.

    Attributes:
        at: When it happened.
        amount_cu: What it comes to; positive is to receive.
        order: Our id of the order; empty where the merchant does not keep it.
        reference: The merchant's own reference, likewise.
        units: Points; left out where it does not tell.
        counterparty: Code of the other merchant, likewise.
    """

    at: Instant
    amount_cu: OwnCu
    order: OwnText = ""
    reference: OwnText = ""
    units: UnitDigits | None = None
    counterparty: OwnText = ""


class OwnTotals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the lines come to; where it is not so, nothing is taken.

    Attributes:
        lines: How many there are.
        amount_cu: Their sum.
    """

    lines: Annotated[int, msgspec.Meta(ge=1, le=OWN_LINES_MAX)]
    amount_cu: OwnCu


class OwnFileRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lines of a merchant's books for one batch.

    Attributes:
        name: What people call the file.
        lines: The lines.
        totals: What they come to.
        figure: Whether amounts are net of the fee, or before it.
        clock: Whether times are those of the till, or of the clearing.
        rounding: How the merchant's books make whole fen of our figures.
        dry_run: Say what would come of it, and change nothing.
    """

    name: Annotated[
        str, msgspec.Meta(min_length=1, max_length=80, pattern=rf"\A[^{REFERENCE_FORBIDDEN}]*\Z")
    ]
    lines: Annotated[list[OwnLine], msgspec.Meta(min_length=1, max_length=OWN_LINES_MAX)]
    totals: OwnTotals
    figure: Literal["net", "gross"] = "net"
    clock: Literal["till", "cleared"] = "till"
    rounding: Literal["none", "toward_zero", "half_away"] = "none"
    dry_run: bool = False


class OwnFileAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        file: Number of the file; null for a dry run.
        repeated: Whether the same content was sent before; then nothing has changed.
        matches: How many lines or groups of lines were matched now, by how.
        breaks: How much differs after it, by kind.
    """

    file: int | None
    repeated: bool
    matches: dict[str, int]
    breaks: dict[str, int]


class OurSide(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the signed statement.

    Attributes:
        leaf: Its number among the leaves of the cycle's tree.
        order: The order's id.
        reference: The merchant's reference.
        day: Its day in Beijing.
        counterparty: Code of the other merchant.
        units: Points.
        amount_cu: Amount in the figure and rounding of the merchant's files.
    """

    leaf: int
    order: str
    reference: str
    day: str
    counterparty: str
    units: CuDigits
    amount_cu: SignedCu


class TheirSide(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the merchant's own.

    Attributes:
        entry: Number of the file and of the line in it.
        place: Where it stood in its file.
        order: The order that it tells.
        reference: The reference that it tells.
        day: Its day in Beijing.
        counterparty: The other merchant that it tells.
        units: Points; null where it does not tell.
        amount_cu: Its amount.
    """

    entry: str
    place: str
    order: str
    reference: str
    day: str
    counterparty: str
    units: CuDigits | None
    amount_cu: SignedCu


class LineBreakView(msgspec.Struct, frozen=True, kw_only=True):
    """A difference between the signed statement and the merchant's own files.

    Attributes:
        kind: What it is.
        owner: Who must act: the merchant's code, or `HOUSE`.
        age_days: Days since the older of its lines.
        match: Number of the match in which it lies; null outside of one.
        candidates: How many others it could belong to.
        ours: Lines of the statement.
        theirs: Lines of the merchant's.
    """

    kind: str
    owner: str
    age_days: int
    match: int | None
    candidates: int
    ours: list[OurSide]
    theirs: list[TheirSide]


class LineBreaksAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of breaks.

    Attributes:
        breaks: Those in matches first, then the others by kind.
        next: Cursor of the next page; null on the last.
    """

    breaks: list[LineBreakView]
    next: str | None


class DecisionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's decision about a match.

    Attributes:
        why: The reason; the trail keeps it.
    """

    why: Annotated[
        str, msgspec.Meta(min_length=1, max_length=500, pattern=rf"\A[^{REFERENCE_FORBIDDEN}]*\Z")
    ]


class DecisionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """It was decided.

    Attributes:
        match: Number of the match.
        state: Whether its difference stands now, or the match was taken apart.
    """

    match: int
    state: Literal["accepted", "undone"]
