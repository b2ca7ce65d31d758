"""Maker and checker: a change is proposed by one person, approved by another, and carried out exactly once.

A proposal never changes: whoever approves names its digest, so nobody approves something else than what they read. An
approval and what it changes by SQL are one transaction, and who decides holds the proposal meanwhile, so of two
checkers one is told that it was decided. What the books have to do follows; after a fault anybody who looks at the
proposals, and every gateway at its start, finishes it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import rfc8785

from exchange.core.person import CHECKERS
from exchange.service.access import Forbidden
from exchange.service.change import Approval
from exchange.service.controlled import ACTIONS, INVITING, MONEY, body_of, terms_of
from exchange.service.people import digest_of, new_invitation
from exchange.store import proposals as store
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason, Refusal
from settlement.core.trail import By, Change
from settlement.service import trail

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from exchange.service.access import Principal
    from settlement.service.clearing import Clearing

LIFE: Final = timedelta(days=7)


class _No(Exception):  # noqa: N818 - undoes a transaction, and carries the answer out of it
    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What became of a proposal.

    Attributes:
        row: The proposal as it stands now.
        second: The second part of an invitation, for the checker alone; empty for none.
    """

    row: Record
    second: str = ""


class ProposalDesk:
    """Takes proposals and decisions about them."""

    def __init__(
        self, pool: Pool, clearing: Clearing, keys: Path, now: Callable[[], datetime]
    ) -> None:
        """Take what changes are made with.

        Args:
            pool: Connections of the program.
            clearing: The writer.
            keys: Folder of the operator's keys.
            now: Clock.
        """
        self._pool = pool
        self._clearing = clearing
        self._keys = keys
        self._now = now

    async def propose(self, maker: Principal, action: str, terms: object, why: str) -> Record:
        """Write a wish down.

        Raises:
            Forbidden: The caller is no person who may propose.
            SchemaError: There is no such change, or its terms cannot be.
        """
        _check_role(maker, CHECKERS)
        read = terms_of(action, terms)
        now = self._now()
        change = ACTIONS[action]
        before = await change.current(self._pool, read, now)
        subject, plain = change.subject(read), msgspec.to_builtins(read)
        digest = _digest(action, plain, before, why, maker.name)
        async with self._pool.acquire() as conn, conn.transaction():
            proposal_no = await store.insert_proposal(
                conn,
                action=action,
                subject=subject,
                terms=plain,
                before=before,
                why=why,
                maker=maker.name,
                now=now,
                expires_at=now + LIFE,
                digest=digest,
            )
            told = {"action": action, "subject": subject, "digest": digest.hex()}
            made = Change(action="proposal.make", subject=str(proposal_no), after=told)
            await trail.record(conn, By(who=maker.name, why=why), made, at=now)
        return await self._row(proposal_no)

    async def approve(
        self, checker: Principal, proposal_no: int, digest: str, why: str = ""
    ) -> Decided | Refusal:
        """Approve exactly what was read, and carry it out.

        Returns:
            The proposal; or PROPOSAL_NOT_FOUND, PROPOSAL_DECIDED, PROPOSAL_EXPIRED, OWN_PROPOSAL, PROPOSAL_OUTDATED,
            or why the change cannot be made. After a refusal the proposal is as it was.

        Raises:
            Forbidden: The caller is no person who may approve this.
        """
        _check_role(checker, CHECKERS)
        second = new_invitation()
        try:
            async with self._pool.acquire() as conn, conn.transaction():
                row = await self._open_proposal(conn, proposal_no)
                await self._approve(conn, row, checker, digest, why, second)
        except _No as no:
            return no.refusal
        await self._carry_out(await self._row(proposal_no))
        row = await self._row(proposal_no)
        return Decided(row=row, second=second if row["action"] in INVITING else "")

    async def _approve(
        self,
        conn: PoolConnectionProxy,
        row: Record,
        checker: Principal,
        digest: str,
        why: str,
        second: str,
    ) -> None:
        """Decide and write, inside the transaction that holds the proposal."""
        now, action = self._now(), row["action"]
        if checker.name == row["maker"]:
            raise _No(Refusal(Reason.OWN_PROPOSAL, f"{checker.name} proposed this"))
        if action in MONEY:
            _check_role(checker, frozenset({"treasurer"}))
        plain = msgspec.json.decode(row["terms"])
        before = None if row["before"] is None else msgspec.json.decode(row["before"])
        stored = _digest(action, plain, before, row["why"], row["maker"])
        if stored.hex() != digest or stored != row["digest"]:
            raise _No(
                Refusal(Reason.PROPOSAL_OUTDATED, "this is not the digest of what was proposed")
            )
        terms = terms_of(action, plain)
        try:
            current = await ACTIONS[action].current(self._pool, terms, now)
        except SchemaError as error:
            raise _No(Refusal(Reason.PROPOSAL_OUTDATED, error.detail)) from error
        if current != before:
            raise _No(Refusal(Reason.PROPOSAL_OUTDATED, f"meanwhile it is {current}"))
        approval = Approval(
            pool=self._pool,
            conn=conn,
            keys=self._keys,
            by=By(who=row["maker"], second=checker.name, why=row["why"]),
            now=now,
            second=digest_of(second),
        )
        enacted = await ACTIONS[action].enact(approval, terms)
        if isinstance(enacted, Refusal):
            raise _No(enacted)
        await store.insert_decision(
            conn,
            proposal_no=row["proposal_no"],
            maker=row["maker"],
            decision="approved",
            decider=checker.name,
            why=why,
            body=body_of(enacted),
            now=now,
        )

    async def reject(self, decider: Principal, proposal_no: int, why: str) -> Decided | Refusal:
        """Reject a proposal, or withdraw one's own.

        Returns:
            The proposal; or PROPOSAL_NOT_FOUND, PROPOSAL_DECIDED, PROPOSAL_EXPIRED.

        Raises:
            Forbidden: The caller is no person who may decide.
        """
        _check_role(decider, CHECKERS)
        now = self._now()
        try:
            async with self._pool.acquire() as conn, conn.transaction():
                row = await self._open_proposal(conn, proposal_no)
                await store.insert_decision(
                    conn,
                    proposal_no=proposal_no,
                    maker=row["maker"],
                    decision="rejected",
                    decider=decider.name,
                    why=why,
                    body=None,
                    now=now,
                )
                change = Change(
                    action="proposal.reject",
                    subject=str(proposal_no),
                    before={"digest": row["digest"].hex()},
                )
                await trail.record(conn, By(who=decider.name, why=why), change, at=now)
        except _No as no:
            return no.refusal
        return Decided(row=await self._row(proposal_no))

    async def proposals(
        self, *, below: int | None = None, state: str | None = None, limit: int = 500
    ) -> list[Record]:
        """The newest proposals, below a number, in one state alone; what was approved is finished first."""
        await self.finish()
        return await store.fetch_proposals(
            self._pool, now=self._now(), below=below, state=state, limit=limit
        )

    async def proposal(self, proposal_no: int) -> Record | None:
        """One proposal; None if there is none."""
        rows = await store.fetch_proposals(self._pool, now=self._now(), proposal_no=proposal_no)
        return rows[0] if rows else None

    async def finish(self) -> None:
        """Carry out what was approved and, after a fault, did not come to its end."""
        for proposal_no in await store.fetch_unfinished(self._pool):
            await self._carry_out(await self._row(proposal_no))

    async def _carry_out(self, row: Record) -> None:
        """Have the books do their part; harmless when it was done before."""
        action = row["action"]
        refused = await ACTIONS[action].carry_out(
            self._pool,
            self._clearing,
            terms_of(action, msgspec.json.decode(row["terms"])),
            proposal_no=row["proposal_no"],
            body=row["body"],
            keys=self._keys,
        )
        await store.insert_done(
            self._pool,
            proposal_no=row["proposal_no"],
            refused=refused.detail if refused else "",
            now=self._now(),
        )

    async def _open_proposal(self, conn: PoolConnectionProxy, proposal_no: int) -> Record:
        """A proposal that can be decided, held until the transaction ends."""
        await store.lock_proposal(conn, proposal_no=proposal_no)
        rows = await store.fetch_proposals(conn, now=self._now(), proposal_no=proposal_no)
        if not rows:
            raise _No(Refusal(Reason.PROPOSAL_NOT_FOUND, f"there is no proposal {proposal_no}"))
        state = rows[0]["state"]
        if state == "expired":
            raise _No(Refusal(Reason.PROPOSAL_EXPIRED, f"proposal {proposal_no} has expired"))
        if state != "open":
            raise _No(Refusal(Reason.PROPOSAL_DECIDED, f"proposal {proposal_no} is {state}"))
        return rows[0]

    async def _row(self, proposal_no: int) -> Record:
        [row] = await store.fetch_proposals(self._pool, now=self._now(), proposal_no=proposal_no)
        return row


def _check_role(person: Principal, roles: frozenset[str]) -> None:
    """Let only people with one of these roles go on; a key is nobody.

    Raises:
        Forbidden: The caller is somebody else.
    """
    if person.role != "person" or roles.isdisjoint(person.roles):
        raise Forbidden(f"this is for a person who is {' or '.join(sorted(roles))}")


def _digest(action: str, terms: Any, before: Any, why: str, maker: str) -> bytes:
    """What a checker names: SHA-256 over the canonical JSON (RFC 8785) of everything that was proposed."""
    everything: dict[str, Any] = {
        "action": action,
        "terms": terms,
        "before": before,
        "why": why,
        "maker": maker,
    }
    return hashlib.sha256(rfc8785.dumps(everything)).digest()
