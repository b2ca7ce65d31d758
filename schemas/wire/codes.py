"""Spending codes: a member's word that points may go to one acceptor, up to a maximum."""

import msgspec

from schemas.values.faults import SchemaError
from schemas.wire.fields import MerchantName, PositiveFenDigits, UnitDigits


class CodeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member agrees to, as the issuer (or the house on its behalf) has it from them.

    Attributes:
        acceptor: Where the value may go.
        issuer: Whose points; left out, the caller's own. The house has to say it.
        units_max: Most smallest point units; this, `value_fen_max` or both.
        value_fen_max: Most value at the acceptor, in fen.
    """

    acceptor: MerchantName
    issuer: MerchantName | None = None
    units_max: UnitDigits | None = None
    value_fen_max: PositiveFenDigits | None = None

    def check(self) -> None:
        """Check what no field can say alone.

        Raises:
            SchemaError: There is no maximum.
        """
        if self.units_max is None and self.value_fen_max is None:
            raise SchemaError("$.units_max", "Expected `units_max` or `value_fen_max`, or both")


class CodeAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A code: a bearer secret that pays once. It is not kept here, so it is shown this once.

    Attributes:
        code: What the till sends with the order.
        issuer: Whose points.
        acceptor: The one merchant where it counts.
        deadline: Last instant at which it counts.
        units_max: Most smallest point units.
        value_fen_max: Most value at the acceptor, in fen.
    """

    code: str
    issuer: str
    acceptor: str
    deadline: str
    units_max: UnitDigits | None = None
    value_fen_max: PositiveFenDigits | None = None
