"""Orders that people are asked about: what is not clear, and writing down what people found out."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from adapters.kit.contract import Outcome, Step
from exchange.core.journey import Line, Source
from exchange.core.order import AT_ISSUER, ENDS, MEANING, REVERSAL, WAITING, Means, Send, next_step
from exchange.store import journeys as store
from schemas.values.ids import order_id, order_place
from schemas.values.reason import Reason, Refusal
from settlement.core.trail import By, Change
from settlement.service import trail
from settlement.service.clearing import PART
from settlement.service.cycles import utc

if TYPE_CHECKING:
    from asyncpg import Pool

    from exchange.core.journey import Journey

OPEN_SECONDS: Final = 600
"""An order that has not ended so long after it was wanted is shown, whatever its state."""
QUESTIONS: Final = {
    Step.HOLD: "does the issuer hold the points? done: it does; refused: it does not and will not",
    Step.CREDIT: "did the acceptor give the points? done: it did; refused: it did not and will not",
    Step.CAPTURE: "did the issuer spend the held points? done: it did; refused: settled outside",
    Step.RELEASE: "did the issuer give the points back? done: it did; refused: settled outside",
    Step.REVERSE_CREDIT: "did the acceptor take the points back? done: it did; refused: the credit stands",
}
"""What people are asked about each call, and what their two answers mean."""
_GIVEN_BACK: Final = "did the issuer give the points back? done: it did; refused: settled outside"
"""The same about the one call of a reversal."""
_ANY: Final = Means(captures=True, credits=True, reversible=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """One order that people are asked about.

    Attributes:
        name: What the order is called: its id, or the journey's number before it has one.
        journey: As it is stored.
        meaning: Where it stands, one sentence.
        why: Why people are asked.
        since_us: Since when, microseconds since 1970.
        merchant_no: Whom to ask; 0 where nobody can answer.
        question: What to ask; empty where there is nothing to answer.
    """

    name: str
    journey: Journey
    meaning: str
    why: str
    since_us: int
    merchant_no: int
    question: str


async def list_stuck(pool: Pool, *, now_us: int) -> list[Stuck]:
    """Everything that people are asked about, oldest first."""
    open_since_us = now_us - OPEN_SECONDS * 1_000_000
    return [
        _stuck(journey) for journey in await store.fetch_stuck(pool, open_since_us=open_since_us)
    ]


async def find_journey(pool: Pool, name: str) -> Journey | None:
    """The journey of an order, by the order's id or as `journey-7`; None if there is none."""
    if name.startswith("journey-") and name.removeprefix("journey-").isdigit():
        return await store.fetch_journey(pool, journey_no=int(name.removeprefix("journey-")))
    order = _uuid(name)
    if order is None:
        return None
    try:
        part, order_seq = order_place(order)
    except ValueError:
        return None
    journey = await store.fetch_journey_of_order(pool, part=part, order_seq=order_seq)
    if journey is None or part != PART:
        return None
    if journey.order_seq and order_id(journey.accepted_at_us, PART, order_seq) != order:
        return None
    return journey


async def resolve(
    pool: Pool, journey: Journey, *, outcome: Outcome, note: str, by: By, now_us: int
) -> Step | Refusal:
    """Write down what people found out about the call that is not clear; its driver goes on from there.

    Args:
        pool: The database.
        journey: The order.
        outcome: DONE or REFUSED; `QUESTIONS` says what they mean.
        note: Who found it out and how, for whoever looks later.
        by: Who writes it down.
        now_us: Instant, microseconds since 1970.

    Returns:
        The call that it was about; or ORDER_ALREADY_CLEARED or ORDER_REFUSED where nobody is asked.
    """
    step = _asked_about(journey)
    if journey.state in ENDS and not journey.stuck_since_us:
        return Refusal(Reason.ORDER_ALREADY_CLEARED, "the order has ended, and nobody is asked")
    if step is None:
        return Refusal(
            Reason.ORDER_REFUSED,
            "no merchant's answer is awaited here; the order goes on by itself",
        )
    line = Line(step=step, source=Source.PEOPLE, at_us=now_us, outcome=outcome, detail=note[:200])
    async with pool.acquire() as conn, conn.transaction():
        await store.insert_lines(conn, lines=[(journey.journey_no, line)])  # type: ignore[arg-type] # a pool's proxy of a connection is one
        await store.acknowledge(conn, journey_no=journey.journey_no)  # type: ignore[arg-type] # the same
        change = Change(
            action="order.resolve",
            subject=str(journey.order_id(PART) or f"journey-{journey.journey_no}"),
            after={"call": step.name.lower(), "outcome": outcome.value, "note": note[:200]},
        )
        await trail.record(conn, by, change, at=utc(now_us))
    return step


def _stuck(journey: Journey) -> Stuck:
    step = _asked_about(journey)
    order = journey.wanted.order
    whom = 0 if step is None else order.issuer if step in AT_ISSUER else order.acceptor
    named = journey.order_id(PART)
    return Stuck(
        name=str(named) if named else f"journey-{journey.journey_no}",
        journey=journey,
        meaning=MEANING[journey.state],
        why=journey.stuck_why or "it has not ended for a long time",
        since_us=journey.stuck_since_us or journey.wanted.at_us,
        merchant_no=whom,
        question=_GIVEN_BACK if journey.state in REVERSAL else QUESTIONS[step] if step else "",
    )


def _asked_about(journey: Journey) -> Step | None:
    """The call whose outcome people may say; for an order that ended with a credit that stands, that one."""
    if journey.state in ENDS:
        return Step.REVERSE_CREDIT
    if journey.state in WAITING:
        return WAITING[journey.state]
    do = next_step(journey.state, _ANY)
    return do.step if isinstance(do, Send) else None


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
