"""Spending codes: made here for a member who agreed, used up by the writer."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exchange.core.code import Binding, make_code, seal_code
from exchange.service.access import Forbidden
from exchange.service.orders import known_members
from schemas.values.amounts import CU_PER_FEN
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE
from schemas.values.reason import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.service.members import Members
    from exchange.service.quote_keys import QuoteKeys
    from exchange.service.shelf import Shelf
    from schemas.wire.codes import CodeRequest

CODE_SECONDS: Final = 60
"""How long a code counts: long enough to be read off a screen at a till."""
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeCode:
    """A code and what it says.

    Attributes:
        code: The token.
        issuer: Code of the merchant whose points it spends.
        deadline_us: Last instant at which it counts, microseconds since 1970.
    """

    code: str
    issuer: str
    deadline_us: int


class CodeDesk:
    """Makes spending codes; nothing of them is stored before they are used."""

    def __init__(
        self,
        *,
        shelf: Shelf,
        members: Members,
        quote_keys: QuoteKeys,
        now_us: Callable[[], int],
        code_seconds: int = CODE_SECONDS,
    ) -> None:
        """Take what the desk works with.

        Args:
            shelf: What is offered.
            members: Who is enrolled.
            quote_keys: Keys that seal tokens; all gateways share them.
            now_us: Clock, microseconds since 1970.
            code_seconds: How long a code counts.
        """
        self._shelf = shelf
        self._members = members
        self._quote_keys = quote_keys
        self._now_us = now_us
        self._code_us = code_seconds * 1_000_000

    async def make(self, wanted: CodeRequest, *, member: str, caller: int) -> MadeCode | Refusal:
        """Make a code for a member who agreed to a spend, as the issuer says.

        Args:
            wanted: The request, whose `check` has passed.
            member: The member, as the caller names them.
            caller: Merchant number of the sender; 0 for the house.

        Returns:
            The code, or UNKNOWN_MERCHANT, SAME_MERCHANT, UNKNOWN_MEMBER, in this order.

        Raises:
            SchemaError: The house does not say whose points.
            Forbidden: Another merchant than the issuer asks.

        Source: settlement/RULES.md, rule A2.
        """
        named = [code for code in (wanted.issuer, wanted.acceptor) if code is not None]
        offer = await self._shelf.offer_with(*named)
        by_code = offer.catalogue.by_code
        if wanted.issuer is None and caller == HOUSE:
            raise SchemaError("$.issuer", "Expected `issuer`: the house has no points of its own")
        issuer = wanted.issuer or offer.codes.get(caller, "")
        if caller != HOUSE and by_code.get(issuer) != caller:
            raise Forbidden("only the issuer, or the house, has a code made")
        for code in (issuer, wanted.acceptor):
            if code not in by_code:
                return Refusal(Reason.UNKNOWN_MERCHANT, f"no merchant has the code {code}")
        if issuer == wanted.acceptor:
            return Refusal(Reason.SAME_MERCHANT, f"{issuer} is both issuer and acceptor")
        known = await known_members(self._members, [member], caller=caller)
        if member not in known:
            return Refusal(Reason.UNKNOWN_MEMBER, Reason.UNKNOWN_MEMBER.english)
        deadline_us = self._now_us() + self._code_us
        made = make_code(
            units_max=int(wanted.units_max or 0),
            value_cu_max=int(wanted.value_fen_max or 0) * CU_PER_FEN,
            deadline_us=deadline_us,
            nonce=secrets.token_bytes(_NONCE_BYTES),
        )
        binding = Binding(by_code[issuer], by_code[wanted.acceptor], known[member])
        return MadeCode(
            code=seal_code(made, binding, self._quote_keys.newest),
            issuer=issuer,
            deadline_us=deadline_us,
        )
