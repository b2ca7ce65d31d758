"""What a member may ask of the house: everything that stands about them, and to be erased.

Erasing destroys the member's key, and with it every name and account that it sealed. The journal, its
chain of digests, packages and proofs hold a random surrogate only, and stay as they are.

Source: settlement/RULES.md, rules M5 and M6; Personal Information Protection Law, articles 45 and 47.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.store import consents as consent_store
from exchange.store import households as household_store
from exchange.store import members as store
from exchange.vault.sealing import link_place, name_place
from schemas.files.instant import instant_text, microseconds
from schemas.values.ids import HOUSE
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from settlement.core.event import Kind
from settlement.service import trail
from settlement.service.clearing import PART
from settlement.service.trail import Change

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from asyncpg import Connection, Pool, Record

    from exchange.vault.sealing import Vault
    from settlement.service.trail import By


async def names_of(
    conn: Connection | Pool,
    vault: Vault,
    *,
    member_nos: Collection[int],
    scope: int,
    merchant_no: int,
) -> dict[int, str]:
    """What a merchant calls members: the first name in its scope, else its token; the erased are missing."""
    best: dict[int, Record] = {}
    for row in await store.fetch_names(conn, member_nos=list(member_nos), scopes=[scope]):
        best.setdefault(row["member_no"], row)
    nameless = [each for each in member_nos if each not in best]
    return {
        member_no: vault.tokens.token_of(member_no, merchant_no=merchant_no)
        for member_no in await store.fetch_keys(conn, member_nos=nameless)
    } | {
        member_no: vault.open_member_key(member_no, row["wrapped"]).open(
            row["sealed"], place=name_place(row["scope"])
        )
        for member_no, row in best.items()
    }


async def export_member(
    conn: Connection, vault: Vault, *, member_no: int, codes: Mapping[int, str]
) -> dict[str, object]:
    """Everything that stands about a member, as plain values that JSON has words for.

    Args:
        conn: A connection that sees one instant.
        vault: The house's keys.
        member_no: The member.
        codes: Codes of all parties by number.
    """
    found = await store.fetch_dossier(conn, part=PART, member_no=member_no)
    names = await store.fetch_names(conn, member_nos=[member_no])
    wrapped = (await store.fetch_keys(conn, member_nos=[member_no])).get(member_no)
    key = vault.open_member_key(member_no, wrapped) if wrapped is not None else None
    consents = await consent_store.fetch_consents(conn, member_no=member_no, caller=HOUSE)
    memberships = await household_store.fetch_memberships(conn, member_no=member_no)
    return {
        "names": [
            {
                "by": codes.get(row["scope"], "") if row["scope"] else "tongdui",
                "name": key.open(row["sealed"], place=name_place(row["scope"])),
                "since": _text(row["named_at"]),
            }
            for row in names
            if key is not None
        ],
        "accounts": [
            {
                "merchant": codes.get(row["merchant_no"], ""),
                "member": key.open(row["sealed"], place=link_place(row["merchant_no"])),
                "linked_at": _text(row["linked_at"]),
            }
            for row in found["links"]
            if key is not None
        ],
        "consents": [
            {
                "giver": codes.get(row["giver"], ""),
                "receiver": codes.get(row["receiver"], ""),
                "purpose": row["purpose"],
                "given_at": _text(row["given_at"]),
                "withdrawn_at": row["withdrawn_at"] and _text(row["withdrawn_at"]),
            }
            for row in consents
        ],
        "households": [
            {
                "household_id": str(row["household_id"]),
                "merchant": codes.get(row["merchant_no"], ""),
                "head": row["head"],
                "invited_at": _text(row["invited_at"]),
                "joined_at": row["joined_at"] and _text(row["joined_at"]),
                "purpose": row["purpose"],
                "text_version": row["text_version"],
                "left_at": row["left_at"] and _text(row["left_at"]),
                "left_why": row["left_why"],
            }
            for row in memberships
        ],
        "lots": [
            {
                "merchant": codes.get(row["merchant_no"], ""),
                "earned": str(row["earned_units"]),
                "left": str(row["units"]),
                "expires_at": _text(row["expires_at"]),
            }
            for row in found["lots"]
        ],
        "events": [_event(row, codes) for row in found["events"]],
    }


async def erase_member(
    pool: Pool, *, member_no: int, forfeit: bool, by: By, now: datetime
) -> Refusal | None:
    """Erase a member; nothing brings them back.

    Args:
        pool: The database.
        member_no: The member.
        forfeit: The member was told that live points are lost, and agreed.
        by: Who erases; the trail names the surrogate.
        now: Instant.

    Returns:
        None when it is done; else UNKNOWN_MEMBER, ORDER_UNDER_WAY or MEMBER_HAS_POINTS, and nothing changed.
    """
    async with pool.acquire() as conn, conn.transaction():
        if not await store.lock_member(conn, member_no=member_no):
            return Refusal(Reason.UNKNOWN_MEMBER, Reason.UNKNOWN_MEMBER.english)
        orders, units = await store.fetch_open_business(conn, part=PART, member_no=member_no)  # type: ignore[arg-type]
        if orders:
            return Refusal(Reason.ORDER_UNDER_WAY, f"{orders} orders of the member are under way")
        if units and not forfeit:
            return Refusal(
                Reason.MEMBER_HAS_POINTS, f"the member has {units} live units, which would be lost"
            )
        await household_store.erase_member(conn, member_no=member_no, now=now)
        await store.erase_member(conn, member_no=member_no, now=now)  # type: ignore[arg-type]
        change = Change(
            action="member.erase", subject=str(member_no), after={"forfeited_units": str(units)}
        )
        await trail.record(conn, by, change, at=now)
    return None


def _event(row: Record, codes: Mapping[int, str]) -> dict[str, object]:
    return {
        "seq": str(row["seq"]),
        "kind": Kind(row["kind"]).name.lower(),
        "at": _text(row["at"]),
        "occurred_at": _text(row["occurred_at"]),
        "issuer": codes.get(row["issuer"], ""),
        "acceptor": codes.get(row["acceptor"], ""),
        **{name: str(row[name]) for name in ("units", "credited_units", "debit_cu", "value_cu")},
        "reason": REASON_BY_NUMBER[row["reason"]].code if row["reason"] else None,
        "reference": row["reference"],
    }


def _text(at: datetime) -> str:
    return instant_text(microseconds(at))
