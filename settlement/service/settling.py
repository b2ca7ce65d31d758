"""Settling a cycle with the money that is there: who has paid in, what is missing, and what follows a default.

Source: settlement/RULES.md, rules U5 to U12.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from schemas.values.ids import HOUSE, key_bytes
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from settlement.core.command import Discharge, Pot, SettleCycle, Transfer, Unwind
from settlement.core.event import Kind
from settlement.core.funds import Discharged
from settlement.core.report import CheckFailed
from settlement.core.trail import Change
from settlement.core.waterfall import Figures, Planned, StepKind, plan
from settlement.service import cycles, trail
from settlement.service.clearing import PART
from settlement.service.default_records import keep_records
from settlement.service.funding import DUE_DAYS, custody, why_not_released
from settlement.service.objections import open_objections
from settlement.service.signatures import reached
from settlement.store import balances as ledger
from settlement.store import batches
from settlement.store import funding as store
from settlement.store import funds as funds_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool

    from settlement.core.command import Command
    from settlement.core.trail import By
    from settlement.service.clearing import Clearing
    from settlement.service.objections import Objections
    from settlement.signing.keyring import Keyring


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A closed cycle and the money for it; CU.

    Attributes:
        cycle_no: Its number.
        cycle_id: Its id.
        state: `open`, `closed` or `settled`.
        due_at: When whoever pays must have paid in; None while it is open.
        figures: What is to be settled, and with what.
    """

    cycle_no: int
    cycle_id: str
    state: str
    due_at: datetime | None
    figures: Figures

    @property
    def missing(self) -> dict[int, int]:
        """Who lacks money, and how much."""
        return self.figures.missing()


async def standing(pool: Pool, *, cycle_id: str, due_days: int = DUE_DAYS) -> Standing | None:
    """How a cycle stands; None if there is no such cycle.

    Args:
        pool: Database.
        cycle_id: The cycle.
        due_days: How long after its end whoever pays has time.
    """
    rows = {row["cycle_id"]: row for row in await cycles.list_cycles(pool)}
    if cycle_id not in rows:
        return None
    row = rows[cycle_id]
    cycle_no, closed_at = row["cycle_no"], row["closed_at"]
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        funds = await funds_store.load_funds(conn, part=PART)
        collateral = await store.fetch_collateral(conn, part=PART)
        nets = {
            party: net_cu
            for number, party, net_cu, _ in await store.fetch_closed_nets(conn, part=PART)
            if number == cycle_no
        }
        owed = await ledger.fetch_owed(conn, part=PART, cycle_nos=[cycle_no])
        steps = await store.fetch_steps(conn, part=PART, cycle_no=cycle_no)
    done = funds.discharged.get(cycle_no, {})
    sums: dict[tuple[int, int], list[int]] = {}
    for _, one in owed if row["model"] != "gross" else ():  # else its lines moved the money
        first, second = sorted((one.issuer, one.acceptor))
        legs = sums.setdefault((first, second), [0, 0, 0, 0])
        legs[one.issuer > one.acceptor] -= one.sign * one.debit_cu
        legs[one.issuer < one.acceptor] += one.sign * one.credit_cu
        legs[2] += one.sign * one.fee_cu
        legs[3] += one.sign * one.remainder_cu
    return Standing(
        cycle_no=cycle_no,
        cycle_id=cycle_id,
        state=row["state"],
        due_at=closed_at + timedelta(days=due_days) if closed_at else None,
        figures=Figures(
            residual=funds.residual(cycle_no, nets),
            balances=funds.balances,
            collateral={each["merchant_no"]: each["collateral_cu"] for each in collateral},
            shares=funds.contributions,
            pairs=tuple(
                Discharged(one, other, legs[0], legs[1], legs[2], legs[3])
                for (one, other), legs in sorted(sums.items())
                if (one, other) not in done
            ),
            run=any(
                each["kind"] == Kind.DISCHARGED or each["units"] == Pot.DEFAULT_FUND
                for each in steps
            ),
        ),
    )


async def why_not(pool: Pool, state: Standing, codes: Mapping[int, str]) -> Refusal | None:
    """Why a cycle cannot be settled with the money there is now, if it cannot."""
    if refused := await _why_not_released(pool, state):
        return refused
    if missing := state.missing:
        told = ", ".join(f"{codes.get(number, number)} {cu} CU" for number, cu in missing.items())
        return Refusal(Reason.FUNDS_INSUFFICIENT, f"{state.cycle_id} lacks {told}")
    return None


async def why_unsigned(
    pool: Pool, state: Standing, *, keyring: Keyring, packages: Path
) -> Refusal | None:
    """Why no money may move on the word of a cycle's package: too few have signed it, or it is not the batch's.

    Raises:
        SchemaError: The manifest is malformed.
        OSError: A signature of the operator's is missing.

    Source: settlement/RULES.md, rules K37 and U12.
    """
    folder = packages / state.cycle_id
    async with pool.acquire() as conn:
        batch = await batches.fetch_batch(conn, cycle_no=state.cycle_no)
    if batch is None or not folder.is_dir():
        return Refusal(Reason.PACKAGE_NOT_SIGNED, f"{state.cycle_id} has no package yet")
    try:
        signed = reached(folder, keyring)
    except CheckFailed as error:
        return Refusal(Reason.PACKAGE_NOT_SIGNED, error.english)
    if signed.manifest_sha256 != batch["manifest_sha256"]:
        return Refusal(
            Reason.PACKAGE_NOT_SIGNED,
            f"the package in {folder} is not the batch of {state.cycle_id}",
        )
    return None if signed.ok else Refusal(Reason.PACKAGE_NOT_SIGNED, str(signed))


async def _why_not_released(pool: Pool, state: Standing) -> Refusal | None:
    if state.state != "closed":
        return Refusal(Reason.CYCLE_NOT_CLOSED, f"{state.cycle_id} is {state.state}")
    return why_not_released(await custody(pool))


async def settle_funded(
    pool: Pool,
    clearing: Clearing,
    state: Standing,
    *,
    codes: Mapping[int, str],
    by: By,
    now: datetime,
    despite: bool = False,
) -> Refusal | None:
    """Settle a closed cycle if the money is there, books and bank agree, and nobody objects.

    Args:
        pool: Database.
        clearing: The writer.
        state: How the cycle stands.
        codes: Codes of merchants, by number.
        by: Who asks.
        now: Instant.
        despite: Settle it although merchants object to its batch.

    Returns:
        None, or CYCLE_NOT_CLOSED, MOVEMENT_UNMATCHED, FUNDS_INSUFFICIENT or OBJECTION_OPEN.
    """
    objections = await objections_to(pool, state)
    if refused := await why_not(pool, state, codes) or objections.why_not(despite=despite):
        return refused
    body = await trail.ask(pool, by, settle_change(objections), at=now)
    command = SettleCycle(
        caller=HOUSE,
        key=await _key(pool, f"settle:{state.cycle_no}"),
        body=body,
        cycle_no=state.cycle_no,
        funded=True,
    )
    return await _submit(clearing, [command])


async def objections_to(pool: Pool, state: Standing) -> Objections:
    """Who objects to the batch of a cycle."""
    return await open_objections(pool, cycle_no=state.cycle_no, cycle_id=state.cycle_id)


def settle_change(objections: Objections) -> Change:
    """What the trail keeps of a settlement."""
    after = {"settled": True} | objections.noted
    return Change(action="cycle.settle", subject=objections.cycle_id, after=after)


def default_change(objections: Objections, debtor: str) -> Change:
    """What the trail keeps of a default."""
    after = {"debtor": debtor} | objections.noted
    return Change(action="cycle.default", subject=objections.cycle_id, after=after)


async def plan_default(
    pool: Pool, state: Standing, *, debtor: int, codes: Mapping[int, str]
) -> list[Planned] | Refusal:
    """The steps that a default would take, from the figures as they are now; nothing changes."""
    if refused := await _why_not_released(pool, state):
        return refused
    others = state.missing.keys() - {debtor}
    if others:
        told = ", ".join(codes.get(number, str(number)) for number in sorted(others))
        return Refusal(Reason.FUNDS_INSUFFICIENT, f"{told} lack money for {state.cycle_id} too")
    return plan(state.figures, debtor)


async def default(
    pool: Pool,
    clearing: Clearing,
    *,
    cycle_id: str,
    debtor: int,
    codes: Mapping[int, str],
    body: bytes,
    keyring: Keyring,
    out: Path,
    told: Callable[[Planned], None] = lambda _: None,
) -> Refusal | None:
    """Take the steps of a default, one after the other, until the cycle is settled.

    Every step is planned from the books as the one before left them, and is written down before the next begins; so
    whoever calls this again after a fault goes on.

    Args:
        pool: Database.
        clearing: The writer.
        cycle_id: The closed cycle.
        debtor: Who does not pay in.
        codes: Codes of merchants, by number.
        body: Names the trail's entry that asks for it.
        keyring: Signs the records.
        out: Folder of the records; one below it for each cycle.
        told: Called with each step that was taken.

    Returns:
        None once the cycle is settled, or why it is not.
    """
    while True:
        state = await standing(pool, cycle_id=cycle_id)
        if state is None:
            return Refusal(Reason.CYCLE_NOT_CLOSED, f"there is no cycle {cycle_id}")
        await keep_records(
            pool, state.cycle_no, cycle_id, debtor=debtor, codes=codes, keyring=keyring, out=out
        )
        if state.state == "settled":
            return None
        steps = await plan_default(pool, state, debtor=debtor, codes=codes)
        if isinstance(steps, Refusal):
            return steps
        step = next(one for one in steps if one.kind is not StepKind.PREFUNDED)
        commands = await _commands(pool, state, debtor, step, body)
        if refused := await _submit(clearing, commands):
            return refused
        told(step)


async def _commands(
    pool: Pool, state: Standing, debtor: int, step: Planned, body: bytes
) -> list[Command]:
    """The commands of one step; they are decided and written as one."""
    key = await _key(pool, f"default:{state.cycle_no}:{debtor}:{step.kind.value}")
    cycle_no = state.cycle_no
    if step.kind is StepKind.LIQUIDITY:
        return [Discharge(caller=HOUSE, key=key, body=body, cycle_no=cycle_no, pairs=step.pairs)]
    if step.kind is StepKind.SETTLE:
        return [SettleCycle(caller=HOUSE, key=key, body=body, cycle_no=cycle_no, funded=True)]
    if step.kind is StepKind.UNWIND:
        return [
            Unwind(
                caller=HOUSE, key=key, body=body, cycle_no=cycle_no, debtor=debtor, shares=step.moves
            )
        ]  # fmt: skip
    return [
        Transfer(
            caller=HOUSE,
            key=key_bytes(f"{key.hex()}:{giver}"),
            body=body,
            giver=giver,
            giver_pot=step.pot,
            taker=debtor,
            taker_pot=Pot.FUNDS,
            cu=cu,
            cycle_no=cycle_no,
        )
        for giver, cu in step.moves
    ]


async def _key(pool: Pool, wish: str) -> bytes:
    """A key for a wish in the books as they are: a refusal does not stand in the way of a later one."""
    head = await cycles.ledger_head(pool)
    return key_bytes(f"{wish}:{head['last_seq'] if head else 0}")


async def _submit(clearing: Clearing, commands: list[Command]) -> Refusal | None:
    """Have them decided; the first refusal, if there is one."""
    for answer in await clearing.submit(commands):
        for entry in answer:
            if entry.kind == Kind.REFUSED:
                reason = REASON_BY_NUMBER[entry.reason]
                return Refusal(reason, reason.english)
    return None


def at_once(state: Standing) -> Standing:
    """The same as if nothing were in the funds: for showing what a cycle needs in all."""
    return replace(state, figures=replace(state.figures, balances={}))
