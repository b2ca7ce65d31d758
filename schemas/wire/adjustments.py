"""Adjustments: what of an order's line was corrected, in figures with a sign."""

import msgspec

from schemas.wire.disputes import SignedCuDigits


class AdjustmentView(msgspec.Struct, frozen=True, kw_only=True):
    """One adjustment of an order: above 0 owed, below 0 taken back.

    Attributes:
        adjustment_id: Its id; a proof can be asked for under it.
        at: When it was written.
        cycle: Id of the cycle that was open then, and that it belongs to.
        debit_cu: What the issuer owes more or less.
        value_cu: What the acceptor is credited more or less, before the fee.
        fee_cu: What of it is the house's fee.
        remainder_cu: What went to the rounding account, or came back from it.
        reference: The line that it corrects, and what it is known by: a dispute, a file.
    """

    adjustment_id: str
    at: str
    cycle: str
    debit_cu: SignedCuDigits
    value_cu: SignedCuDigits
    fee_cu: SignedCuDigits
    remainder_cu: SignedCuDigits
    reference: str
