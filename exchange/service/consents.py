"""What a member agreed to: that one merchant makes them known to another, for a purpose.

A consent is what gives a merchant a token of somebody whom it did not enrol itself; withdrawn, that
token names nobody any more.

Source: settlement/RULES.md, rule M4; Personal Information Protection Law, articles 14, 15 and 23.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.service.access import Forbidden
from exchange.store import consents as store
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE
from schemas.values.reason import Reason, Refusal
from schemas.wire.fields import instant_text, microseconds
from schemas.wire.members import ConsentView

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from asyncpg import Pool

    from exchange.service.members import Members
    from exchange.service.shelf import Shelf
from schemas.wire.members import ConsentRequest


class ConsentDesk:
    """Use cases around consents."""

    def __init__(
        self, *, pool: Pool, shelf: Shelf, members: Members, now: Callable[[], datetime]
    ) -> None:
        """Take what the desk works with."""
        self._pool = pool
        self._shelf = shelf
        self._members = members
        self._now = now

    async def give(
        self, token: str, wanted: ConsentRequest, *, caller: int
    ) -> ConsentView | Refusal:
        """Record that a member agreed, and say what the receiver may call them.

        Args:
            token: The member, as the caller names them.
            wanted: To whom, and what for.
            caller: Merchant number of the sender; 0 for the house.

        Returns:
            The consent; or UNKNOWN_MERCHANT, SAME_MERCHANT, UNKNOWN_MEMBER, in this order.

        Raises:
            SchemaError: The house does not say whose member it is.
            Forbidden: A merchant speaks for another one.
        """
        named = [code for code in (wanted.giver, wanted.receiver) if code is not None]
        offer = await self._shelf.offer_with(*named)
        if wanted.giver is None and caller == HOUSE:
            raise SchemaError("$.giver", "Expected `giver`: the house has no members of its own")
        giver = wanted.giver or offer.codes.get(caller, "")
        numbers = [offer.catalogue.by_code.get(code) for code in (giver, wanted.receiver)]
        if caller not in (HOUSE, numbers[0]):
            raise Forbidden("a merchant records what its own members agreed to")
        for code, number in zip((giver, wanted.receiver), numbers, strict=True):
            if number is None:
                return Refusal(Reason.UNKNOWN_MERCHANT, f"no merchant has the code {code}")
        if giver == wanted.receiver:
            return Refusal(Reason.SAME_MERCHANT, f"{giver} is both giver and receiver")
        member_no = (await self._members.find([token], caller=caller)).get(token)
        if member_no is None:
            return Refusal(Reason.UNKNOWN_MEMBER, Reason.UNKNOWN_MEMBER.english)
        now = self._now()
        giver_no, receiver_no = (number or 0 for number in numbers)
        consent_no = await store.insert_consent(
            self._pool,
            member_no=member_no,
            giver=giver_no,
            receiver=receiver_no,
            purpose=wanted.purpose,
            now=now,
        )
        return ConsentView(
            consent_no=str(consent_no),
            giver=giver,
            receiver=wanted.receiver,
            purpose=wanted.purpose,
            given_at=instant_text(microseconds(now)),
            token=await self._members.token_for(member_no, merchant_no=receiver_no),
        )

    async def withdraw(
        self, token: str, consent_no: int, *, caller: int, limit: int
    ) -> list[ConsentView] | Refusal:
        """End a consent, and tell the newest; or UNKNOWN_MEMBER, UNKNOWN_CONSENT. Again is harmless.

        The receiver itself may do so too: a member may have told either side.
        """
        member_no = (await self._members.find([token], caller=caller)).get(token)
        if member_no is None:
            return Refusal(Reason.UNKNOWN_MEMBER, Reason.UNKNOWN_MEMBER.english)
        if not await store.withdraw_consent(
            self._pool, member_no=member_no, consent_no=consent_no, caller=caller, now=self._now()
        ):
            return Refusal(Reason.UNKNOWN_CONSENT, Reason.UNKNOWN_CONSENT.english)
        return await self._list(member_no, caller=caller, limit=limit)

    async def consents(
        self, token: str, *, caller: int, below: int | None, limit: int
    ) -> list[ConsentView] | Refusal:
        """Consents of a member below a number, newest first; a merchant sees those it is a side of.

        Returns:
            At most `limit` of them, or UNKNOWN_MEMBER.
        """
        member_no = (await self._members.find([token], caller=caller)).get(token)
        if member_no is None:
            return Refusal(Reason.UNKNOWN_MEMBER, Reason.UNKNOWN_MEMBER.english)
        return await self._list(member_no, caller=caller, below=below, limit=limit)

    async def _list(
        self, member_no: int, *, caller: int, limit: int, below: int | None = None
    ) -> list[ConsentView]:
        offer = await self._shelf.offer()
        return [
            ConsentView(
                consent_no=str(row["consent_no"]),
                giver=offer.codes.get(row["giver"], ""),
                receiver=offer.codes.get(row["receiver"], ""),
                purpose=row["purpose"],
                given_at=instant_text(microseconds(row["given_at"])),
                withdrawn_at=row["withdrawn_at"]
                and instant_text(microseconds(row["withdrawn_at"])),
            )
            for row in await store.fetch_consents(
                self._pool, member_no=member_no, caller=caller, below=below, limit=limit
            )
        ]
