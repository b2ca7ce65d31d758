"""Linking a member to their account at a merchant's own system, and finding who they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.kit.contract import Outcome
from exchange.store import links as store
from exchange.store.members import fetch_keys
from exchange.vault.sealing import link_place
from schemas.values.faults import Unavailable
from schemas.values.reason import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from asyncpg import Pool

    from exchange.service.members import Members
    from exchange.service.order_link import OrderLink
    from exchange.service.shelf import Shelf
    from exchange.service.vaults import VaultDoor
    from exchange.vault.sealing import Vault


class LinkDesk:
    """Use cases around links; a link is made once, and only with the merchant's own word."""

    def __init__(
        self,
        *,
        pool: Pool,
        shelf: Shelf,
        members: Members,
        door: VaultDoor,
        order_link: OrderLink,
        now: Callable[[], datetime],
    ) -> None:
        """Take what the desk works with."""
        self._pool = pool
        self._shelf = shelf
        self._members = members
        self._door = door
        self._order_link = order_link
        self._now = now

    async def link_member(
        self, name: str, *, caller: int, merchant: str, merchant_member: str, proof: str
    ) -> str | Refusal:
        """Link a member, after the merchant's own system has authenticated them.

        Args:
            name: The member here, as the caller names them.
            caller: Merchant number of the sender; 0 for the house.
            merchant: Code of the merchant.
            merchant_member: The member's id there, as the member knows it.
            proof: What the merchant's system checks: a one-time code, a signed token.

        Returns:
            The member's id as the merchant's system spells it; or UNKNOWN_MERCHANT, UNKNOWN_MEMBER,
            MEMBER_NOT_AUTHORISED.

        Raises:
            Unavailable: The merchant's system, or the way to it, does not answer now.
        """
        offer = await self._shelf.offer_with(merchant)
        merchant_no = offer.catalogue.by_code.get(merchant)
        if merchant_no is None:
            return Refusal(Reason.UNKNOWN_MERCHANT, "no merchant has this code")
        if merchant_no not in offer.catalogue.connected:
            return Refusal(
                Reason.MERCHANT_UNAVAILABLE, f"no system of {merchant}'s own is connected"
            )
        member_no = (await self._members.find([name], caller=caller)).get(name)
        if member_no is None:
            return Refusal(Reason.UNKNOWN_MEMBER, Reason.UNKNOWN_MEMBER.english)
        found = await self._order_link.authenticate(
            merchant_no=merchant_no, member=merchant_member, proof=proof
        )
        if found.outcome is Outcome.UNKNOWN:
            raise Unavailable(f"the system of {merchant} did not answer")
        if found.outcome is Outcome.REFUSED:
            return Refusal(
                found.reason or Reason.MEMBER_NOT_AUTHORISED,
                f"{merchant} does not recognise this member by this proof",
            )
        theirs = found.member or merchant_member
        linked = await link(
            self._pool,
            await self._door.vault(),
            member_no=member_no,
            merchant_no=merchant_no,
            merchant_member=theirs,
            now=self._now(),
        )
        return theirs if linked else Refusal(Reason.UNKNOWN_MEMBER, Reason.UNKNOWN_MEMBER.english)

    async def find(self, pairs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], str]:
        """Ids at merchants' own systems, by (member, merchant); who is not linked is missing."""
        return await find_links(self._pool, self._door, pairs)


async def find_links(
    pool: Pool, door: VaultDoor, pairs: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], str]:
    """Ids at merchants' own systems, by (member, merchant); who is not linked is missing."""
    wanted = list(dict.fromkeys(pairs))
    if not wanted:
        return {}
    vault = await door.vault()
    return {
        (member_no, merchant_no): vault.open_member_key(member_no, link.wrapped).open(
            link.sealed, place=link_place(merchant_no)
        )
        for (member_no, merchant_no), link in (await store.fetch_links(pool, pairs=wanted)).items()
    }


async def link(
    pool: Pool,
    vault: Vault,
    *,
    member_no: int,
    merchant_no: int,
    merchant_member: str,
    now: datetime,
) -> bool:
    """Write down who a member is at a merchant's own system, sealed; False if the member was erased."""
    wrapped = (await fetch_keys(pool, member_nos=[member_no])).get(member_no)
    if wrapped is None:
        return False
    key = vault.open_member_key(member_no, wrapped)
    await store.write_link(
        pool,
        member_no=member_no,
        merchant_no=merchant_no,
        sealed=key.seal(merchant_member, place=link_place(merchant_no)),
        now=now,
    )
    return True
